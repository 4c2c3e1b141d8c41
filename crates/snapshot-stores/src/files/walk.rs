//! Listing the memdir.
use crate::StoresError;
use snapshot_core::{BundlePath, Control, NotCarried, StoreName};
use snapshot_fs::{Dir, Stat};
use std::collections::{BTreeSet, HashSet};
/// What the walk must know before it opens anything; (device, inode) each.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// The stores of the layout: never opened, nor what SQLite keeps beside them.
    pub stores: HashSet<(u64, u64)>,
    /// Files that SQLite said are no databases although they have a sibling like one's.
    pub plain: HashSet<(u64, u64)>,
    /// Raw paths of files that are captured by other means and replaced by rename: runtime state.
    pub paths: BTreeSet<Vec<u8>>,
}
/// The memdir at one time.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Files, folders and links, sorted by the raw bytes of their paths.
    pub entries: Vec<ListedEntry>,
    /// Left out, with the reason.
    pub not_carried: Vec<NotCarried>,
    /// SQLite databases that no store of the layout names.
    pub auto_stores: Vec<AutoStore>,
    /// Raw paths that a restore must leave alone: stores, what SQLite keeps beside them, what is not carried.
    pub kept: BTreeSet<Vec<u8>>,
}
/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// Path in the memdir.
    pub path: BundlePath,
    /// What it was.
    pub stat: Stat,
    /// File, folder or link.
    pub kind: EntryKind,
    /// Changed so shortly before that a later change might not show.
    pub young: bool,
}
/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Its target, raw.
        target: Vec<u8>,
    },
}
/// A SQLite database found in the memdir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoStore {
    /// `auto:<path>`.
    pub name: StoreName,
    /// Path in the memdir.
    pub path: BundlePath,
    /// (device, inode).
    pub id: (u64, u64),
}
/// Lists the memdir.
pub fn list(
    memdir: &Dir,
    options: &ListOptions,
    control: &Control,
) -> Result<Listing, StoresError> {
    todo!("{memdir:?}{options:?}{control:?}")
}
