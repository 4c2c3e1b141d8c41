//! Looking for secrets in what was written, and in what it encodes.

use std::ops::Range;
use std::sync::Arc;

use snapshot_core::{FoundSecret, RedactionPolicy, SecretSearch, SecretSpan};

use super::placeholder;
use super::views::{Form, View, encoded_runs, unescape_json, unescape_percent, utf16};

/// How often an encoding inside an encoding is looked into.
const DEPTH: usize = 3;
/// How far the end of a name is looked for.
const NAME_REST: usize = 256;

/// Looks for what a policy says is a secret, through UTF-16, JSON escapes, percent-encoding, base64 and
/// hexadecimal, each in the other up to three deep.
#[derive(Clone, Copy)]
pub struct Search<'p> {
    policy: &'p dyn RedactionPolicy,
}

/// A secret, and whether all that encodes it stands for more than it.
#[derive(Clone)]
pub(super) struct Hit {
    pub(super) range: Range<usize>,
    pub(super) rule: Arc<str>,
    pub(super) value: Vec<u8>,
    /// In base64 or hexadecimal, with what is around it.
    pub(super) in_run: bool,
}

/// What finds secrets in plain bytes.
pub(super) trait Find: Sync {
    fn find(&self, bytes: &[u8]) -> Vec<SecretSpan>;

    /// What is looked for in the bytes as they are alone.
    fn find_plain(&self, _bytes: &[u8]) -> Vec<SecretSpan> {
        Vec::new()
    }
}

impl<'p> Search<'p> {
    /// By the rules of `policy` alone.
    pub fn new(policy: &'p dyn RedactionPolicy) -> Self {
        Self { policy }
    }
}

impl Find for Search<'_> {
    fn find(&self, bytes: &[u8]) -> Vec<SecretSpan> {
        self.policy.find(bytes)
    }
}

impl SecretSearch for Search<'_> {
    fn search(&self, bytes: &[u8]) -> Vec<FoundSecret> {
        found(bytes, look(self, bytes, Form::of(bytes)))
    }
}

/// As the ports want them, of `bytes`.
pub(super) fn found(bytes: &[u8], hits: Vec<Hit>) -> Vec<FoundSecret> {
    let found = |Hit { range, rule, value, .. }: Hit| {
        let is_key = is_name(&bytes[range.end..]);
        FoundSecret { range, rule, value, is_key }
    };
    hits.into_iter().map(found).collect()
}

/// Whether what goes on so is a name, of which the end and a colon follow.
fn is_name(rest: &[u8]) -> bool {
    let rest = &rest[..rest.len().min(NAME_REST)];
    let end = rest.iter().position(|&c| !(c.is_ascii_alphanumeric() || b"_.-".contains(&c)));
    let rest = end.map_or(&[][..], |end| &rest[end..]);
    let quote = rest.iter().take_while(|&&c| matches!(c, b'\\' | b'"' | b'\'')).count();
    let rest = rest[quote..].trim_ascii_start();
    rest.starts_with(b":") && !rest.starts_with(b"://")
}

/// All secrets in `bytes`, front to back; those that overlap are one.
pub(super) fn look(find: &dyn Find, bytes: &[u8], form: Form) -> Vec<Hit> {
    let mut hits = layer(find, bytes, DEPTH);
    hits.extend(plain(bytes, find.find_plain(bytes)));
    if let Form::Utf16 { little } = form {
        let view = utf16(bytes, little);
        let text: Vec<Hit> = through(&view, layer(find, &view.bytes, DEPTH)).collect();
        // The zeros of one order beside the letters of the other look like a secret a byte further.
        let meets = |hit: &Hit| {
            text.iter()
                .any(|one| one.range.start < hit.range.end && hit.range.start < one.range.end)
        };
        hits.retain(|hit| !meets(hit));
        hits.extend(text);
    }
    hits.retain(|hit| !placeholder::overlaps(bytes, &hit.range));
    merge(bytes, hits)
}

fn layer(find: &dyn Find, bytes: &[u8], depth: usize) -> Vec<Hit> {
    let mut hits: Vec<Hit> = plain(bytes, find.find(bytes)).collect();
    let Some(depth) = depth.checked_sub(1) else { return hits };
    for view in unescape_json(bytes).iter().chain(&unescape_percent(bytes)) {
        hits.extend(through(view, layer(find, &view.bytes, depth)));
    }
    in_runs(find, bytes, depth, &mut hits);
    hits
}

fn plain(bytes: &[u8], spans: Vec<SecretSpan>) -> impl Iterator<Item = Hit> {
    let spans = spans.into_iter().filter(|span| !span.range.is_empty());
    spans.map(|SecretSpan { range, rule }| {
        let value = bytes[range.clone()].to_vec();
        Hit { range, rule, value, in_run: false }
    })
}

/// Secrets of a view, where they lie in what it was made of.
fn through(view: &View, hits: Vec<Hit>) -> impl Iterator<Item = Hit> {
    // What was taken out is no secret in another encoding.
    let new = hits.into_iter().filter(|hit| !placeholder::overlaps(&view.bytes, &hit.range));
    new.map(|hit| Hit { range: view.origin(&hit.range), ..hit })
}

fn in_runs(find: &dyn Find, bytes: &[u8], depth: usize, hits: &mut Vec<Hit>) {
    let mut decoded = Vec::new();
    encoded_runs(bytes, |run| {
        let letters = run.letters(bytes);
        for shift in 0..run.shifts() {
            run.decode(bytes, shift, &mut decoded);
            let inner = match Form::of(&decoded) {
                Form::Plain => layer(find, &decoded, depth),
                form @ Form::Utf16 { .. } => look(find, &decoded, form),
            };
            let inner =
                inner.into_iter().filter(|hit| !placeholder::overlaps(&decoded, &hit.range));
            let origin = |hit: Hit| {
                let range = run.origin(bytes, &letters, shift, &hit.range);
                Hit { range, in_run: true, ..hit }
            };
            hits.extend(inner.map(origin));
        }
    });
}

/// Front to back; secrets that share a byte become one, which is called as the first and longest of them.
fn merge(bytes: &[u8], mut hits: Vec<Hit>) -> Vec<Hit> {
    // What is found as it stands tells its value best.
    hits.sort_by_key(|hit| (hit.range.start, usize::MAX - hit.range.end, hit.in_run));
    let mut merged: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match merged.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                if hit.range.end > last.range.end {
                    last.range.end = hit.range.end;
                    last.value = bytes[last.range.clone()].to_vec();
                }
            }
            _ => merged.push(hit),
        }
    }
    merged
}
