//! Which rows were redacted, as far as vectors elsewhere can refer to them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

use super::db::Health;

/// Keys that are told apart of one store; of one with more, every row counts as redacted.
const MAX_KEYS: usize = 2_000_000;
/// Bytes of the longest text that is taken for a key.
const MAX_KEY_BYTES: usize = 256;
/// What parts a key from what a program puts around it (`facts:12`, `note/12#0`).
const SEPARATORS: [char; 6] = [':', '/', '#', '|', '@', '='];

/// Which rows of a memory's stores were redacted: filled by `redact_rows` of every store, then read by
/// `finish_store` of each. Holds their keys as numbers and digests, in bounded memory, and no value.
#[derive(Debug, Default)]
pub struct RedactedRows {
    stores: BTreeMap<PathBuf, Keys>,
}

/// The keys of one store's redacted rows.
#[derive(Debug, Default)]
pub(super) struct Keys {
    rows: u64,
    numbers: HashSet<i64>,
    texts: HashSet<[u8; 16]>,
    overflowed: bool,
    /// Vector indexes of which entries went for their own texts: they need no key to be linked by.
    linked: HashSet<String>,
    before: Option<Health>,
}

impl RedactedRows {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows were redacted, in all stores.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.stores.values().map(|keys| keys.rows).sum()
    }

    /// Notes that something outside of the stores was redacted, of which they may keep vectors by this name: a
    /// memory file, by its path.
    pub fn note_outside(&mut self, name: &str) {
        let outside = self.of(Path::new(""));
        outside.row();
        outside.note(ValueRef::Text(name.as_bytes()));
    }

    pub(super) fn of(&mut self, store: &Path) -> &mut Keys {
        self.stores.entry(store.to_owned()).or_default()
    }

    pub(super) fn is_linked(&self, store: &Path, index: &str) -> bool {
        self.stores.get(store).is_some_and(|keys| keys.linked.contains(index))
    }

    pub(super) fn before(&self, store: &Path) -> Option<&Health> {
        self.stores.get(store)?.before.as_ref()
    }

    /// Whether a key is one of a redacted row of any store: a vector that goes too many is made again, one that
    /// stays tells what was taken out. What encloses a key, as `facts:12` does, is looked into.
    pub(super) fn holds(&self, key: ValueRef<'_>) -> bool {
        match key {
            ValueRef::Integer(number) => self.has_number(number),
            ValueRef::Text(text) => self.has_text(text),
            _ => false,
        }
    }

    fn has_number(&self, number: i64) -> bool {
        self.stores.values().any(|keys| keys.overflowed || keys.numbers.contains(&number))
    }

    fn has_text(&self, text: &[u8]) -> bool {
        let is_key = |part: &[u8]| {
            let digest = digest(part);
            self.stores.values().any(|keys| keys.overflowed || keys.texts.contains(&digest))
        };
        if is_key(text) {
            return true;
        }
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let number = |part: &str| part.parse().is_ok_and(|number| self.has_number(number));
        number(text)
            || text.split(SEPARATORS).any(|part| is_key(part.as_bytes()) || number(part))
            || text.match_indices(SEPARATORS).any(|(at, sign)| {
                is_key(&text.as_bytes()[..at]) || is_key(&text.as_bytes()[at + sign.len()..])
            })
    }
}

impl Keys {
    pub(super) fn started(&mut self, health: Health) {
        self.before.get_or_insert(health);
    }

    pub(super) fn linked(&mut self, index: &str) {
        self.linked.insert(index.to_owned());
    }

    pub(super) fn row(&mut self) {
        self.rows += 1;
    }

    /// A value by which something may refer to a redacted row.
    pub(super) fn note(&mut self, key: ValueRef<'_>) {
        if self.numbers.len() + self.texts.len() >= MAX_KEYS {
            self.overflowed = true;
            self.numbers = HashSet::new();
            self.texts = HashSet::new();
        }
        match key {
            _ if self.overflowed => {}
            ValueRef::Integer(number) => _ = self.numbers.insert(number),
            ValueRef::Text(text) if !text.is_empty() && text.len() <= MAX_KEY_BYTES => {
                self.texts.insert(digest(text));
                // A number may be kept as a text on one side.
                let text = std::str::from_utf8(text).ok();
                let number = text.and_then(|text| text.parse::<i64>().ok());
                self.numbers.extend(number);
            }
            _ => {}
        }
    }
}

fn digest(text: &[u8]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a vector of a redacted row that stays, for its id wraps the row's key or writes it otherwise.
    #[test]
    fn keys_are_found_in_what_wraps_them() {
        let mut rows = RedactedRows::new();
        let keys = rows.of(Path::new("facts"));
        keys.row();
        keys.note(ValueRef::Integer(12));
        keys.note(ValueRef::Text(b"6f2a-4b"));
        for text in ["12", "facts:12", "facts/12#0", "6f2a-4b", "m:6f2a-4b:0", "a/b=6f2a-4b"] {
            assert!(rows.holds(ValueRef::Text(text.as_bytes())), "{text}");
        }
        assert!(rows.holds(ValueRef::Integer(12)));
        for text in ["112", "facts:120", "6f2a", "4b"] {
            assert!(!rows.holds(ValueRef::Text(text.as_bytes())), "{text}");
        }
        // Another store that has redacted rows of its own hides none of the first's.
        rows.of(Path::new("vectors")).row();
        assert!(rows.holds(ValueRef::Integer(12)));
        assert_eq!(rows.rows(), 2);
    }

    /// Would catch: memory that grows with the rows, or keys forgotten once there are many.
    #[test]
    fn of_a_store_with_too_many_every_key_counts() {
        let mut rows = RedactedRows::new();
        let keys = rows.of(Path::new("facts"));
        keys.row();
        (0..=MAX_KEYS as i64).for_each(|n| keys.note(ValueRef::Integer(n)));
        assert!(keys.numbers.is_empty());
        assert!(rows.holds(ValueRef::Integer(-7)));
    }
}
