//! Putting placeholders in the place of secrets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use snapshot_core::{NameOf, RedactionPolicy, Redactor, SecretSearch};

use super::known::{GitIds, KnownSearch, KnownSecrets, OLD_GIT_ID};
use super::placeholder;
use super::search::{Hit, look};
use super::views::Form;

/// Longest name that file systems take.
const MAX_NAME_BYTES: usize = 255;
/// Passes after which bytes that keep their length are filled with [`FILL`] alone, which ends it surely.
pub(super) const PASSES: usize = 4;
/// What fills the place of a secret whose length must stay.
const FILL: u8 = b'*';
/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// Takes out what rules find and what is known.
///
/// Equal values become equal placeholders everywhere; those that are part of a key anywhere are told apart
/// by a tag, which is a keyed digest that says nothing without the key.
pub struct Replacer<'a> {
    search: KnownSearch<'a>,
    known: &'a KnownSecrets,
    key: [u8; 32],
    counts: Mutex<BTreeMap<Arc<str>, u64>>,
}

/// What the bytes around a secret need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) form: Form,
    /// Whether lengths must stay: something else may count them.
    pub(super) keep_length: bool,
}

impl<'a> Replacer<'a> {
    /// By the rules of `policy` and what is `known`. `key` is random and of this redaction alone.
    #[must_use]
    pub fn new(policy: &'a dyn RedactionPolicy, known: &'a KnownSecrets, key: [u8; 32]) -> Self {
        Self { search: known.search(policy), known, key, counts: Mutex::default() }
    }

    /// Git ids that are no more: each becomes what it is now.
    pub fn set_ids(&mut self, ids: GitIds) {
        self.search.set_ids(ids);
    }

    /// Finds what should be there no more.
    pub fn receipt(&self) -> &(impl SecretSearch + use<'a>) {
        &self.search
    }

    /// How much each rule took out since this was last asked.
    pub fn take_counts(&self) -> BTreeMap<Arc<str>, u64> {
        std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `bytes` without their secrets, until none is found; a policy that finds [`FILL`] itself has the receipt to
    /// answer to.
    pub(super) fn replace(&self, bytes: &[u8], manner: Manner) -> Option<Vec<u8>> {
        let mut redacted: Option<Vec<u8>> = None;
        for pass in 0..=2 * PASSES {
            let now = redacted.as_deref().unwrap_or(bytes);
            let hits = self.hits(now, manner.form);
            if hits.is_empty() {
                break;
            }
            redacted = Some(self.put(now, &hits, manner, pass));
        }
        redacted
    }

    /// The secrets in `bytes`, front to back.
    pub(super) fn hits(&self, bytes: &[u8], form: Form) -> Vec<Hit> {
        look(&self.search, bytes, form)
    }

    /// `bytes` with something else in the place of `hits`.
    pub(super) fn put(&self, bytes: &[u8], hits: &[Hit], manner: Manner, pass: usize) -> Vec<u8> {
        let mut result = Vec::with_capacity(bytes.len() + 16 * hits.len());
        let mut from = 0;
        for hit in hits {
            result.extend_from_slice(&bytes[from..hit.range.start]);
            self.put_one(bytes, hit, manner, pass, &mut result);
            from = hit.range.end;
        }
        result.extend_from_slice(&bytes[from..]);
        self.count(hits);
        result
    }

    fn put_one(&self, bytes: &[u8], hit: &Hit, manner: Manner, pass: usize, into: &mut Vec<u8>) {
        let length = hit.range.len();
        let text = self.text(bytes, hit);
        if !manner.keep_length {
            into.extend(manner.form.write(&text));
            return;
        }
        let start = into.len();
        if pass < PASSES {
            into.extend(text.into_iter().take(length));
        }
        into.resize(start + length, FILL);
    }

    fn text(&self, bytes: &[u8], hit: &Hit) -> Vec<u8> {
        if let Some(new) = self.new_id(hit) {
            return new.into_bytes();
        }
        let rule = self.known.rule(&hit.value).unwrap_or(&hit.rule);
        let tag = self.known.is_key(&hit.value).then(|| self.tag(bytes, hit));
        placeholder::text(rule, tag.as_deref())
    }

    fn new_id(&self, hit: &Hit) -> Option<String> {
        let plain = !hit.in_run && &*hit.rule == OLD_GIT_ID;
        plain.then(|| self.search.new_id(&hit.value)).flatten()
    }

    /// What tells a value from others: of a secret inside an encoded text that text, for more than the
    /// secret goes with it.
    fn tag(&self, bytes: &[u8], hit: &Hit) -> String {
        let value = if hit.in_run { &bytes[hit.range.clone()] } else { &hit.value };
        let mut tag = hex::encode(hmac(&self.key, value));
        tag.truncate(placeholder::TAG_DIGITS);
        tag
    }

    fn count(&self, hits: &[Hit]) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for hit in hits {
            *counts.entry(Arc::clone(&hit.rule)).or_default() += 1;
        }
    }

    fn name(&self, name: &[u8], hits: &[Hit], of: NameOf) -> Vec<u8> {
        let mut result = Vec::with_capacity(name.len());
        let mut from = 0;
        for hit in hits {
            result.extend_from_slice(&name[from..hit.range.start]);
            match self.new_id(hit) {
                Some(new) => result.extend_from_slice(new.as_bytes()),
                None => result.extend(self.name_text(&hit.rule, &self.tag(name, hit), of)),
            }
            from = hit.range.end;
        }
        result.extend_from_slice(&name[from..]);
        result.iter_mut().filter(|c| matches!(**c, b'/' | 0)).for_each(|c| *c = b'-');
        result
    }

    fn name_text(&self, rule: &str, tag: &str, of: NameOf) -> Vec<u8> {
        match of {
            NameOf::File => placeholder::text(rule, Some(tag)),
            NameOf::Ref => placeholder::in_ref(rule, tag),
        }
    }
}

impl Redactor for Replacer<'_> {
    fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.replace(bytes, Manner::of(bytes))
    }

    fn redact_name(&self, name: &[u8], of: NameOf) -> Option<Vec<u8>> {
        let mut redacted: Option<Vec<u8>> = None;
        loop {
            let now = redacted.as_deref().unwrap_or(name);
            let hits = self.hits(now, Form::Plain);
            let Some(first) = hits.first() else { break };
            let mut next = self.name(now, &hits, of);
            if next.len() > MAX_NAME_BYTES {
                let whole = Hit { range: 0..name.len(), value: name.to_vec(), ..first.clone() };
                next = self.name_text(&whole.rule, &self.tag(name, &whole), of);
            }
            self.count(&hits);
            redacted = Some(next);
        }
        redacted
    }
}

impl Manner {
    /// By the whole, or the start of what is long.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let form = Form::of(bytes);
        let keep_length = form == Form::Plain && memchr::memchr(0, bytes).is_some();
        Self { form, keep_length }
    }
}

/// HMAC of SHA-256 (RFC 2104), with a key that is shorter than a block.
fn hmac(key: &[u8; 32], value: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(value).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}
