//! Secrets in what is too long for memory.
//!
//! Invariant: what is decided lies at least [`OVERLAP`] from where the bytes at hand end, so that whatever
//! makes a secret of it was seen.

use std::io::{self, Read, Write};
use std::ops::Range;

use snapshot_core::{FoundSecret, SecretSearch};

use super::replace::{Manner, PASSES, Replacer};
use super::rule::REACH;
use super::views::Form;

/// Bytes at hand on both sides of what is decided.
const OVERLAP: usize = 2 * REACH;
/// Bytes that are read at a time.
const CHUNK: usize = 512 * 1024;
/// Bytes whose zeros tell whether a stream is text.
const SAMPLE: usize = 64 * 1024;

/// A reader with what was read and is not done with.
struct Window<R> {
    reader: R,
    chunk: usize,
    bytes: Vec<u8>,
    /// Bytes at the start of `bytes` that are done with, and only there for what follows.
    done: usize,
    ended: bool,
}

/// Looks for secrets in all that `reader` gives, with flat memory. `on` gets where in it each one starts;
/// its range counts from the start of the stream too.
///
/// # Errors
/// If `reader` fails.
pub fn scan_reader<R: Read>(
    reader: R,
    search: &dyn SecretSearch,
    on: &mut dyn FnMut(u64, FoundSecret),
) -> io::Result<()> {
    scan_by(reader, CHUNK, OVERLAP, search, on)
}

/// Copies what `reader` gives to `writer` without its secrets, with flat memory; says whether there was any.
///
/// # Errors
/// If either fails. What was written then is not to be used.
pub fn redact_reader<R: Read, W: Write>(
    reader: R,
    writer: W,
    replacer: &Replacer<'_>,
) -> io::Result<bool> {
    redact_by(reader, writer, CHUNK, OVERLAP, replacer)
}

fn scan_by<R: Read>(
    reader: R,
    chunk: usize,
    overlap: usize,
    search: &dyn SecretSearch,
    on: &mut dyn FnMut(u64, FoundSecret),
) -> io::Result<()> {
    let mut window = Window::new(reader, chunk);
    window.fill(overlap)?;
    let form = Form::of(&window.bytes);
    let mut base = 0;
    loop {
        let limit = window.limit(overlap);
        let found = search_as(search, &window.bytes, form, base == 0);
        let cut = window.cut(limit, found.iter().map(|one| &one.range));
        for mut one in found {
            if one.range.start >= window.done && one.range.start < cut {
                one.range = base + one.range.start..base + one.range.end;
                on(one.range.start as u64, one);
            }
        }
        if window.ended {
            return Ok(());
        }
        base += window.advance(cut, overlap);
        window.fill(overlap)?;
    }
}

/// Searches a piece of a stream of `form`; one from the middle has no mark that says so.
fn search_as(search: &dyn SecretSearch, bytes: &[u8], form: Form, first: bool) -> Vec<FoundSecret> {
    let mark: &[u8] = match form {
        Form::Utf16 { little: true } if !first => &[0xff, 0xfe],
        Form::Utf16 { little: false } if !first => &[0xfe, 0xff],
        _ => return search.search(bytes),
    };
    let mut found = search.search(&[mark, bytes].concat());
    for one in &mut found {
        one.range = one.range.start.saturating_sub(2)..one.range.end.saturating_sub(2);
    }
    found
}

fn redact_by<R: Read, W: Write>(
    reader: R,
    mut writer: W,
    chunk: usize,
    overlap: usize,
    replacer: &Replacer<'_>,
) -> io::Result<bool> {
    let mut window = Window::new(reader, chunk);
    window.fill(overlap)?;
    let manner = Manner::of(&window.bytes[..window.bytes.len().min(SAMPLE)]);
    let mut changed = false;
    loop {
        let cut = window.redact(overlap, replacer, manner, &mut changed);
        writer.write_all(&window.bytes[window.done..cut])?;
        if window.ended {
            return Ok(changed);
        }
        window.advance(cut, overlap);
        window.fill(overlap)?;
    }
}

impl<R: Read> Window<R> {
    fn new(reader: R, chunk: usize) -> Self {
        // Less would be less than a unit of two bytes.
        let chunk = chunk.max(2);
        Self { reader, chunk, bytes: Vec::new(), done: 0, ended: false }
    }

    /// Reads on, until there is a chunk with what must follow it.
    fn fill(&mut self, overlap: usize) -> io::Result<()> {
        let wanted = self.done + self.chunk + overlap;
        let missing = wanted.saturating_sub(self.bytes.len()) as u64;
        let read = self.reader.by_ref().take(missing).read_to_end(&mut self.bytes)?;
        self.ended = (read as u64) < missing;
        Ok(())
    }

    /// Where that ends of which enough is at hand to decide; even, for units of two bytes.
    fn limit(&self, overlap: usize) -> usize {
        match self.ended {
            true => self.bytes.len(),
            false => (self.bytes.len() - overlap.min(self.bytes.len())) & !1,
        }
    }

    /// Where that ends that is done now: before a secret that reaches over `limit`, so that it is looked at
    /// again with more behind it; behind it where that was done; in it where it is longer than all at hand.
    fn cut<'r>(&self, limit: usize, mut secrets: impl Iterator<Item = &'r Range<usize>>) -> usize {
        match secrets.find(|secret| secret.end > limit && secret.start < limit) {
            Some(secret) if secret.start > self.done => secret.start,
            Some(secret) if secret.end < self.bytes.len() => secret.end,
            _ => limit,
        }
    }

    /// Takes the secrets out of what can be decided, and says where that ends.
    fn redact(
        &mut self,
        overlap: usize,
        replacer: &Replacer<'_>,
        manner: Manner,
        changed: &mut bool,
    ) -> usize {
        for pass in 0..=2 * PASSES {
            let limit = self.limit(overlap).max(self.done);
            let mut hits = replacer.hits(&self.bytes, manner.form);
            let cut = self.cut(limit, hits.iter().map(|hit| &hit.range));
            hits.retain(|hit| hit.range.end > self.done && hit.range.start < cut);
            for hit in &mut hits {
                hit.range = hit.range.start.max(self.done)..hit.range.end.min(cut);
            }
            hits.retain(|hit| !hit.range.is_empty());
            if hits.is_empty() {
                return cut;
            }
            // What follows the cut is as it was, so that the next cut is as far from the end.
            let rest = self.bytes.len() - cut;
            self.bytes = replacer.put(&self.bytes, &hits, manner, pass);
            *changed = true;
            debug_assert!(self.bytes.len() >= rest, "the rest was not touched");
        }
        self.bytes.len()
    }

    /// Is done with what lies before `cut`, and says how much of it was forgotten.
    fn advance(&mut self, cut: usize, overlap: usize) -> usize {
        let forgotten = cut.saturating_sub(overlap) & !1;
        self.bytes.drain(..forgotten);
        self.done = cut - forgotten;
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use snapshot_core::Redactor;

    use super::super::{KnownSecrets, Rules, Search};
    use super::*;

    const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

    /// A reader that gives a few bytes at a time.
    struct Drops<'b>(&'b [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = into.len().min(7);
            self.0.read(&mut into[..count])
        }
    }

    fn redacted(bytes: &[u8], chunk: usize, overlap: usize) -> (bool, Vec<u8>) {
        let known = KnownSecrets::default();
        let rules = Rules::builtin();
        let replacer = Replacer::new(&*rules, &known, [7; 32]);
        let mut out = Vec::new();
        let changed = redact_by(Drops(bytes), &mut out, chunk, overlap, &replacer).unwrap();
        (changed, out)
    }

    fn whole(bytes: &[u8]) -> Option<Vec<u8>> {
        let known = KnownSecrets::default();
        Replacer::new(&*Rules::builtin(), &known, [7; 32]).redact(bytes)
    }

    /// Secrets between words, so that none needs more than the overlap to be seen.
    fn text() -> impl Strategy<Value = String> {
        let pieces = [
            TOKEN,
            "npm_0dGVzdHRva2VuZm9yYXRlc3QxMjM0NTY3ODkw",
            "words that are none",
            "caf\u{e9} \u{1f600}",
            "Z2hwXzE2QzdlNDJGMjkyYzY5MTJFNzcxMGM4MzgzNDdBZTE3OEI0YQ==",
            "password: Tr0ub4dor&3x",
            "ghp\\u005f16C7e42F292c6912E7710c838347Ae178B4a",
            "%67hp_16C7e42F292c6912E7710c838347Ae178B4a",
        ];
        let piece = proptest::sample::select(pieces.to_vec());
        proptest::collection::vec(piece, 1..24).prop_map(|pieces| pieces.join(" ; "))
    }

    fn utf16(text: &str) -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Would catch: a secret that is lost, cut or taken twice where two pieces of a stream meet.
        #[test]
        fn a_stream_becomes_what_the_whole_becomes(
            text in text(), chunk in 1usize..300, wide in any::<bool>()
        ) {
            let bytes = if wide { utf16(&text) } else { text.into_bytes() };
            let (changed, out) = redacted(&bytes, chunk, 256);
            let whole = whole(&bytes);
            prop_assert_eq!(changed, whole.is_some());
            let whole = whole.unwrap_or_else(|| bytes.clone());
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole));

            let rules = Rules::builtin();
            let search = Search::new(&*rules);
            let mut found = Vec::new();
            scan_by(Drops(&bytes), chunk, 256, &search, &mut |at, one| {
                assert_eq!(at, one.range.start as u64);
                found.push(one);
            }).unwrap();
            prop_assert_eq!(found, search.search(&bytes));
        }
    }

    /// Would catch: a stream that stops, or is no longer what it was, where there is nothing to find.
    #[test]
    fn what_has_no_secret_is_copied() {
        for length in [0, 1, CHUNK - 1, CHUNK + OVERLAP, 2 * CHUNK + 2 * OVERLAP + 3] {
            let bytes = vec![b' '; length];
            let known = KnownSecrets::default();
            let rules = Rules::builtin();
            let replacer = Replacer::new(&*rules, &known, [7; 32]);
            let mut out = Vec::new();
            assert!(!redact_reader(bytes.as_slice(), &mut out, &replacer).unwrap());
            assert!(out == bytes, "{length}");
        }
    }

    /// Would catch: a secret that is longer than all that is at hand, and left.
    #[test]
    fn what_is_longer_than_the_window_goes_too() {
        let line = "MIIEpAIBAAKCAQEAvRT5b0RkQqYw8x4S7Jm2nCk1Hh0dPzXo3uFQe9LsWtVyGaBi\n".repeat(40);
        let key =
            format!("a\n-----BEGIN RSA PRIVATE KEY-----\n{line}-----END RSA PRIVATE KEY-----\nb\n");
        let (changed, out) = redacted(key.as_bytes(), 200, 256);
        assert!(changed);
        let first = String::from_utf8_lossy(&out);
        assert!(first.starts_with("a\n[REDACTED:pem-private-key]"), "{first}");
    }
}
