//! Rows as they come out of a trigger, value by value, and the keys and digests made of them.
//!
//! Invariants: no row is copied, and a key takes bounded memory; two rows of one table have one key
//! only if they are one row, and one digest only if they hold the same values.

use std::fmt::Write;
use std::mem;

use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};
use snapshot_core::Sha256Digest;

use crate::mutation::MutationOp;
use crate::mutation_key::KeyWriter;
use crate::mutation_source::pending::Change;

/// Domain tag of a row's digest: it is never another document's.
const ROW_TAG: &[u8] = b"nexo-memory-row-v1\0";
/// What each value begins with in a row's digest.
const TAG_NULL: u8 = 0;
const TAG_INTEGER: u8 = 1;
const TAG_REAL: u8 = 2;
const TAG_TEXT: u8 = 3;
const TAG_BLOB: u8 = 4;

/// What a trigger of a table hands over for one row: the key's values, the rowid where the key may
/// hold NULL, and the columns.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The table's name as it stands in keys, with the colon.
    pub(super) prefix: String,
    /// Values of the key.
    pub(super) key: usize,
    /// Whether the rowid comes after them.
    pub(super) rowid: bool,
    /// Columns.
    pub(super) columns: usize,
}

/// The change that a trigger is handing over, possibly in several calls.
#[derive(Debug)]
pub(super) struct Row {
    table: usize,
    op: MutationOp,
    /// Values so far, of the row before and the one after.
    at: usize,
    side: Side,
    before: Option<(String, Sha256Digest)>,
}

/// One row, before or after.
#[derive(Debug)]
struct Side {
    key: KeyWriter,
    null_in_key: bool,
    digest: Sha256,
}

impl Shape {
    pub(super) fn new(table: &str, key: usize, rowid: bool, columns: usize) -> Self {
        let mut prefix = KeyWriter::default();
        push_escaped(&mut prefix, table.as_bytes(), ':');
        let prefix = prefix.finish() + ":";
        Self { prefix, key, rowid, columns }
    }

    /// Values of one row.
    pub(super) const fn values(&self) -> usize {
        self.key + self.rowid as usize + self.columns
    }
}

impl Row {
    pub(super) fn new(table: usize, op: MutationOp) -> Self {
        Self { table, op, at: 0, side: Side::new(), before: None }
    }

    /// Whether value number `at` of this change comes next.
    pub(super) fn goes_on(&self, table: usize, op: MutationOp, at: usize) -> bool {
        (self.table, self.op, self.at) == (table, op, at)
    }

    /// Takes the next value; what became of the row, once it is whole.
    pub(super) fn take(
        &mut self,
        shape: &Shape,
        value: ValueRef<'_>,
    ) -> Option<[Option<Change>; 2]> {
        let at = self.at % shape.values();
        self.at += 1;
        self.side.take(shape, at, value);
        if at + 1 < shape.values() {
            return None;
        }
        let row = mem::replace(&mut self.side, Side::new()).finish();
        match (self.op, self.before.take()) {
            (MutationOp::Update, None) => {
                self.before = Some(row);
                None
            }
            (op, before) => Some(changes(op, before, row)),
        }
    }
}

/// The changes that make `before` of a row `row`. Another key is another row.
fn changes(
    op: MutationOp,
    before: Option<(String, Sha256Digest)>,
    (key, digest): (String, Sha256Digest),
) -> [Option<Change>; 2] {
    let insert = |key| Change { key, old: None, new: Some(digest) };
    let delete = |key, digest| Change { key, old: Some(digest), new: None };
    match before {
        Some((before, old)) if before != key => [Some(delete(before, old)), Some(insert(key))],
        Some((_, old)) if old == digest => [None, None],
        Some((_, old)) => [Some(Change { key, old: Some(old), new: Some(digest) }), None],
        None if op == MutationOp::Delete => [Some(delete(key, digest)), None],
        None => [Some(insert(key)), None],
    }
}

impl Side {
    fn new() -> Self {
        let digest = Sha256::new_with_prefix(ROW_TAG);
        Self { key: KeyWriter::default(), null_in_key: false, digest }
    }

    fn take(&mut self, shape: &Shape, at: usize, value: ValueRef<'_>) {
        if at < shape.key {
            self.key.push(if at == 0 { &shape.prefix } else { "," });
            self.null_in_key |= value == ValueRef::Null;
            push_value(&mut self.key, value);
        } else if shape.rowid && at == shape.key {
            // Only then can two rows have the same values for a key.
            if self.null_in_key {
                self.key.push(",@");
                push_value(&mut self.key, value);
            }
        } else {
            feed(&mut self.digest, value);
        }
    }

    fn finish(self) -> (String, Sha256Digest) {
        (self.key.finish(), Sha256Digest::from_bytes(self.digest.finalize().into()))
    }
}

/// A value in a row's digest: its tag, for text and blobs the length (8 bytes, big-endian), and its
/// bytes (numbers big-endian, reals as IEEE 754, zero without a sign).
fn feed(digest: &mut Sha256, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => digest.update([TAG_NULL]),
        ValueRef::Integer(n) => {
            digest.update([TAG_INTEGER]);
            digest.update(n.to_be_bytes());
        }
        ValueRef::Real(x) => {
            digest.update([TAG_REAL]);
            digest.update(unsigned_zero(x).to_bits().to_be_bytes());
        }
        ValueRef::Text(bytes) => feed_bytes(digest, TAG_TEXT, bytes),
        ValueRef::Blob(bytes) => feed_bytes(digest, TAG_BLOB, bytes),
    }
}

fn feed_bytes(digest: &mut Sha256, tag: u8, bytes: &[u8]) {
    digest.update([tag]);
    digest.update((bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

/// Zero without its sign, which some columns keep and others do not.
fn unsigned_zero(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x }
}

/// A value in a key. No two values look alike: text that would look like another is escaped.
fn push_value(key: &mut KeyWriter, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => key.push("NULL"),
        ValueRef::Integer(n) => key.push(&n.to_string()),
        ValueRef::Real(x) if x.is_infinite() => key.push(if x > 0.0 { "9e999" } else { "-9e999" }),
        ValueRef::Real(x) => key.push(&format!("{:?}", unsigned_zero(x))),
        ValueRef::Text(bytes) => {
            let digits = |b: &u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e');
            let looks_other = bytes == b"NULL" || bytes.first() == Some(&b'@');
            let looks_other = looks_other || !bytes.is_empty() && bytes.iter().all(digits);
            let (first, rest) = bytes.split_at(usize::from(looks_other));
            push_bytes(key, "%", first);
            push_escaped(key, rest, ',');
        }
        ValueRef::Blob(bytes) => {
            key.push("x'");
            push_bytes(key, "", bytes);
            key.push("'");
        }
    }
}

/// Text with `%`, `'`, `also`, control characters and what is not UTF-8 as `%` and two hexadecimal
/// digits a byte.
fn push_escaped(key: &mut KeyWriter, text: &[u8], also: char) {
    let plain = |c: char| !matches!(c, '%' | '\'') && c != also && !c.is_control();
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find(|c| !plain(c)) {
            key.push(&rest[..at]);
            let after = rest[at..].chars().next().map_or(rest.len(), |c| at + c.len_utf8());
            push_bytes(key, "%", &rest.as_bytes()[at..after]);
            rest = &rest[after..];
        }
        key.push(rest);
        push_bytes(key, "%", chunk.invalid());
    }
}

/// Two hexadecimal digits a byte, each byte after `mark`.
fn push_bytes(key: &mut KeyWriter, mark: &str, bytes: &[u8]) {
    let mut hex = String::new();
    // A piece at a time, for a blob may be large and a key is short.
    for piece in bytes.chunks(512) {
        hex.clear();
        for byte in piece {
            let _ = write!(hex, "{mark}{byte:02x}");
        }
        key.push(&hex);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[ValueRef<'_>]) -> String {
        let shape = Shape::new("a:b%", values.len(), true, 0);
        let mut row = Row::new(0, MutationOp::Insert);
        for value in values {
            assert_eq!(row.take(&shape, *value), None);
        }
        let [Some(change), None] = row.take(&shape, ValueRef::Integer(7)).unwrap() else {
            panic!()
        };
        change.key
    }

    /// Would catch: two values that look alike in a key, or a spelling that changed.
    #[test]
    fn keys_are_golden_and_no_two_values_look_alike() {
        let cases: [(ValueRef<'_>, &str); 22] = [
            (ValueRef::Null, "NULL,@7"),
            (ValueRef::Integer(17), "17"),
            (ValueRef::Integer(i64::MIN), "-9223372036854775808"),
            (ValueRef::Real(17.0), "17.0"),
            (ValueRef::Real(-0.0), "0.0"),
            (ValueRef::Real(1e300), "1e300"),
            (ValueRef::Real(f64::INFINITY), "9e999"),
            (ValueRef::Real(f64::NEG_INFINITY), "-9e999"),
            (ValueRef::Text(b""), ""),
            (ValueRef::Text(b"abc"), "abc"),
            (ValueRef::Text("é: ß".as_bytes()), "é: ß"),
            (ValueRef::Text(b"17"), "%317"),
            (ValueRef::Text(b"17.0"), "%317.0"),
            (ValueRef::Text(b"9e999"), "%39e999"),
            (ValueRef::Text(b"3f2a"), "3f2a"),
            (ValueRef::Text(b"NULL"), "%4eULL"),
            (ValueRef::Text(b"@7"), "%407"),
            (ValueRef::Text(b"a,b%'\n"), "a%2cb%25%27%0a"),
            (ValueRef::Text(b"x'00'"), "x%2700%27"),
            (ValueRef::Text(b"a\xff\xc2\x80"), "a%ff%c2%80"),
            (ValueRef::Blob(b""), "x''"),
            (ValueRef::Blob(b"\x00\xff"), "x'00ff'"),
        ];
        for (value, text) in cases {
            assert_eq!(key(&[value]), format!("a%3ab%25:{text}"));
        }
        let pair = [ValueRef::Integer(1), ValueRef::Text(b"a,b")];
        assert_eq!(key(&pair), "a%3ab%25:1,a%2cb");
    }
}
