//! Secrets that are known from a first pass, looked for wherever they turn up again.

use std::collections::BTreeMap;
use std::sync::Arc;

use snapshot_core::{FoundSecret, RedactionPolicy, SecretSearch, SecretSpan};

use super::entropy::entropy;
use super::runs::Runs;
use super::search::{Find, found, look};
use super::views::Form;

/// What finds the id of a commit that is no more.
pub(super) const OLD_GIT_ID: &str = "old-git-id";
/// Digits of a git id.
const GIT_ID_DIGITS: usize = 40;
/// How many secrets are kept.
const MAX_VALUES: usize = 200_000;
/// How many bytes they have.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Shortest value that is looked for where no rule finds it.
const MIN_ANYWHERE: usize = 8;
/// Shortest value that is looked for whatever it looks like.
const SURELY: usize = 24;
/// Least entropy of a shorter one.
const MIN_ENTROPY: f64 = 2.2;
/// Bits of the filter for each value, and at most.
const FILTER_BITS: usize = 64;
const MAX_FILTER_BITS: usize = 1 << 24;

/// The secrets that a first pass found.
#[derive(Default)]
pub struct KnownSecrets {
    values: BTreeMap<Vec<u8>, Known>,
    bytes: usize,
}

/// What is known of a value.
struct Known {
    rule: Arc<str>,
    is_key: bool,
}

/// There are more secrets than can be kept.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("more than {MAX_VALUES} secrets, or {MAX_BYTES} bytes of them: the rules find too much")]
pub struct TooManySecrets;

/// Git ids that are no more, and what they became, in lower-case hexadecimal.
pub type GitIds = BTreeMap<String, String>;

/// Looks for known secrets and for what rules say is one.
pub(super) struct KnownSearch<'a> {
    policy: &'a dyn RedactionPolicy,
    index: Index,
    ids: GitIds,
}

/// Finds any of many values at once.
///
/// Sorted, so that the longest value that starts at a byte is the one before the text there, or starts it.
#[derive(Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// By a hash of the first eight bytes.
    filter: Vec<u64>,
    shift: u32,
}

struct Entry {
    bytes: Vec<u8>,
    rule: Arc<str>,
    /// The longest other entry that this one starts with.
    within: Option<usize>,
}

impl KnownSecrets {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: BTreeMap::new(), bytes: 0 }
    }

    /// Remembers a secret; `is_key` says that other values must stay different from what it is part of.
    ///
    /// # Errors
    /// Past 200,000 secrets or 32 MiB of them.
    pub fn add(&mut self, found: &FoundSecret, is_key: bool) -> Result<(), TooManySecrets> {
        if let Some(known) = self.values.get_mut(&found.value) {
            known.is_key |= is_key;
            return Ok(());
        }
        let bytes = self.bytes + found.value.len();
        if self.values.len() >= MAX_VALUES || bytes > MAX_BYTES {
            return Err(TooManySecrets);
        }
        self.bytes = bytes;
        let known = Known { rule: Arc::clone(&found.rule), is_key };
        self.values.insert(found.value.clone(), known);
        Ok(())
    }

    /// How many different secrets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Looks for these and for what `policy` says is a secret.
    pub(super) fn search<'a>(&self, policy: &'a dyn RedactionPolicy) -> KnownSearch<'a> {
        KnownSearch { policy, index: self.index(), ids: GitIds::new() }
    }

    /// Whether a value must stay different from others.
    pub(super) fn is_key(&self, value: &[u8]) -> bool {
        self.values.get(value).is_some_and(|known| known.is_key)
    }

    /// The rule that found a value first.
    pub(super) fn rule(&self, value: &[u8]) -> Option<&Arc<str>> {
        self.values.get(value).map(|known| &known.rule)
    }

    fn index(&self) -> Index {
        Index::new(self.values.iter().filter(|(value, _)| anywhere(value)))
    }
}

impl<'a> KnownSearch<'a> {
    pub(super) fn set_ids(&mut self, ids: GitIds) {
        self.ids = ids.into_iter().filter(|(old, new)| old != new).collect();
    }

    /// What an old id became, in capitals where that was.
    pub(super) fn new_id(&self, old: &[u8]) -> Option<String> {
        let old = std::str::from_utf8(old).ok()?;
        let new = self.ids.get(&old.to_ascii_lowercase())?;
        let capitals = old.bytes().any(|digit| digit.is_ascii_uppercase());
        Some(if capitals { new.to_ascii_uppercase() } else { new.clone() })
    }

    fn old_ids(&self, bytes: &[u8], spans: &mut Vec<SecretSpan>) {
        if self.ids.is_empty() {
            return;
        }
        // As a history is read that is written anew: a file must stay what HEAD has of it.
        for range in Runs::new(bytes, GIT_ID_DIGITS, |digit| digit.is_ascii_hexdigit()) {
            let id = &bytes[range.clone()];
            if id.len() == GIT_ID_DIGITS && self.new_id(id).is_some() {
                spans.push(SecretSpan { range, rule: OLD_GIT_ID.into() });
            }
        }
    }
}

impl Find for KnownSearch<'_> {
    fn find(&self, bytes: &[u8]) -> Vec<SecretSpan> {
        let mut spans = self.policy.find(bytes);
        self.index.find(bytes, &mut spans);
        spans
    }

    /// A history that is written anew follows ids in plain text alone; so do files, which must stay what it has.
    fn find_plain(&self, bytes: &[u8]) -> Vec<SecretSpan> {
        let mut spans = Vec::new();
        self.old_ids(bytes, &mut spans);
        spans
    }
}

impl SecretSearch for KnownSearch<'_> {
    fn search(&self, bytes: &[u8]) -> Vec<FoundSecret> {
        found(bytes, look(self, bytes, Form::of(bytes)))
    }
}

impl Index {
    fn new<'v>(values: impl Iterator<Item = (&'v Vec<u8>, &'v Known)>) -> Self {
        let forms = [Form::Plain, Form::Utf16 { little: true }, Form::Utf16 { little: false }];
        let mut entries: Vec<Entry> = Vec::new();
        for (value, known) in values {
            for bytes in forms.into_iter().filter_map(|form| written(value, form)) {
                entries.push(Entry { bytes, rule: Arc::clone(&known.rule), within: None });
            }
        }
        entries.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        entries.dedup_by(|a, b| a.bytes == b.bytes);
        let mut open: Vec<usize> = Vec::new();
        for at in 0..entries.len() {
            while open
                .last()
                .is_some_and(|&last| !entries[at].bytes.starts_with(&entries[last].bytes))
            {
                open.pop();
            }
            entries[at].within = open.last().copied();
            open.push(at);
        }
        Self::with_filter(entries)
    }

    fn with_filter(entries: Vec<Entry>) -> Self {
        let bits =
            (entries.len() * FILTER_BITS).next_power_of_two().clamp(1 << 12, MAX_FILTER_BITS);
        let mut index = Self { entries, filter: vec![0; bits / 64], shift: 64 - bits.ilog2() };
        for at in 0..index.entries.len() {
            if let Some((word, bit)) = index.slot(&index.entries[at].bytes) {
                index.filter[word] |= bit;
            }
        }
        index
    }

    /// Where the filter says whether something starts as `bytes` do.
    fn slot(&self, bytes: &[u8]) -> Option<(usize, u64)> {
        let first = u64::from_le_bytes(*bytes.first_chunk()?);
        let hash = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        let word = usize::try_from(hash >> 6).unwrap_or(0);
        Some((word, 1 << (hash & 63)))
    }

    /// The values in `bytes`, front to back; the longest where several start.
    fn find(&self, bytes: &[u8], spans: &mut Vec<SecretSpan>) {
        if self.entries.is_empty() {
            return;
        }
        let mut from = 0;
        for (at, first) in bytes.windows(MIN_ANYWHERE).enumerate() {
            let maybe = self.slot(first).is_some_and(|(word, bit)| self.filter[word] & bit != 0);
            if !maybe || at < from {
                continue;
            }
            if let Some(entry) = self.longest(&bytes[at..]) {
                from = at + entry.bytes.len();
                spans.push(SecretSpan { range: at..from, rule: Arc::clone(&entry.rule) });
            }
        }
    }

    fn longest(&self, text: &[u8]) -> Option<&Entry> {
        let mut at =
            self.entries.partition_point(|entry| entry.bytes.as_slice() <= text).checked_sub(1);
        while let Some(entry) = at.map(|at| &self.entries[at]) {
            if text.starts_with(&entry.bytes) {
                return Some(entry);
            }
            at = entry.within;
        }
        None
    }
}

/// Whether a value is looked for where no rule finds it: it is long, or looks like nothing that somebody
/// writes by chance. A word, a name or a date stays where only a rule can tell it from a secret, or
/// `password: password1` would take a word out of every text.
fn anywhere(value: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    let letters = has(u8::is_ascii_lowercase) || has(u8::is_ascii_uppercase);
    let lower = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let digits = value.iter().filter(|c| c.is_ascii_digit()).count();
    let others =
        value.iter().any(|c| c.is_ascii_punctuation() && !matches!(c, b'-' | b'_' | b'.' | b'/'));
    // A word with a number behind it, or capitals inside, is still a word.
    let word = value.trim_ascii_end().iter().rev().skip_while(|c| c.is_ascii_digit());
    let is_word = word.clone().all(u8::is_ascii_alphabetic) && value.len() < 16;
    let odd = (letters && digits > 0) || (lower && others) || others && digits > 0;
    value.len() >= MIN_ANYWHERE
        && entropy(value) > MIN_ENTROPY
        && (value.len() >= SURELY || (odd && !(is_word && digits <= 4)))
}

/// A value as it is written in UTF-16, where it is text.
fn written(value: &[u8], form: Form) -> Option<Vec<u8>> {
    let Form::Utf16 { little } = form else { return Some(value.to_vec()) };
    let unit = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
    Some(std::str::from_utf8(value).ok()?.encode_utf16().flat_map(unit).collect())
}
