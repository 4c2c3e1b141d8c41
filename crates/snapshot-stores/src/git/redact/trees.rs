//! Trees put together.

use std::collections::HashSet;

use git2::Oid;

use super::super::walk::escape;
use super::unredactable;
use crate::StoresError;

/// An entry of a tree that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewEntry {
    pub(super) mode: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) oid: Oid,
}

impl NewEntry {
    /// What git sorts by: a folder's name as if it ended with a slash.
    fn key(&self) -> Vec<u8> {
        let digits = self.mode.iter().position(|&b| b != b'0').unwrap_or(0);
        let is_folder = &self.mode[digits..] == b"40000";
        [&self.name[..], if is_folder { b"/" } else { b"" }].concat()
    }
}

/// A tree of `entries`, sorted as git sorts, in the place of `old`.
pub(super) fn tree_content(old: Oid, mut entries: Vec<NewEntry>) -> Result<Vec<u8>, StoresError> {
    entries.sort_by_cached_key(NewEntry::key);
    let mut names = HashSet::new();
    let mut content = Vec::new();
    for NewEntry { mode, name, oid } in &entries {
        if let Some(why) = escape(name, &mut names) {
            return Err(unredactable(&format!("git tree {old}"), &format!("redacted, {why}")));
        }
        for part in [mode, &b" "[..], name, b"\0", oid.as_bytes()] {
            content.extend_from_slice(part);
        }
    }
    Ok(content)
}
