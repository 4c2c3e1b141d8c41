//! What memory files are, as far as a restore compares them: live, before and after.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use snapshot_core::mutants::holds;
use snapshot_core::{BundlePath, Control, Sha256Digest};
use snapshot_fs::{Dir, FileType, Stat};

use super::walk::{
    EntryKind, ListOptions, ListedEntry, id, is_database, is_denied, is_gone, list, locate,
};
use crate::StoresError;

/// Bytes read between two looks at the caller's control.
const CHUNK_BYTES: usize = 1 << 20;

/// The live memory files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesState {
    /// By path in the memdir.
    pub entries: BTreeMap<BundlePath, FileFingerprint>,
    /// Raw paths that a restore leaves alone: stores, sockets, nested repositories, ...
    pub kept: BTreeSet<Vec<u8>>,
}

/// What an entry is, as far as a restore compares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFingerprint {
    /// Type and content.
    pub kind: FileKind,
    /// Permission bits; none for links and where a bundle does not say.
    pub mode: Option<u32>,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: Option<i64>,
}

/// Type and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File {
        /// Digest of its content.
        sha256: Sha256Digest,
        /// Its bytes.
        size: u64,
    },
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Its target, raw.
        #[serde(with = "raw")]
        target: Vec<u8>,
    },
}

/// One entry that a restore sees to; the restore's journal holds the whole list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTarget {
    /// Path in the memdir.
    #[serde(with = "raw_path")]
    pub path: BundlePath,
    /// What it was when the restore was planned.
    pub before: Option<FileFingerprint>,
    /// What it is to be.
    pub after: Option<FileFingerprint>,
}

/// How far an interrupted restore of memory files got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesProgress {
    /// Entries still to be changed.
    pub before: u64,
    /// Entries already as they are to be.
    pub after: u64,
    /// Neither: somebody worked on them since.
    pub other: Vec<String>,
}

/// Lists the live memory files and reads them all for their digests.
///
/// # Errors
/// If the memdir cannot be read or the caller stops it.
pub fn live_state(
    memdir: &Dir,
    options: &ListOptions,
    control: &Control,
) -> Result<FilesState, StoresError> {
    let listing = list(memdir, options, control)?;
    let mut state = FilesState { kept: listing.kept, ..FilesState::default() };
    for entry in listing.entries {
        let kind = match &entry.kind {
            EntryKind::Dir => FileKind::Dir,
            EntryKind::Symlink { target } => FileKind::Symlink { target: target.clone() },
            EntryKind::File => match hash_listed(memdir, &entry, options, control) {
                Ok(Some(kind)) => kind,
                Ok(None) => {
                    state.kept.insert(entry.path.as_bytes().to_vec());
                    continue;
                }
                Err(StoresError::Fs(e)) if is_gone(&e) => continue,
                Err(e) => return Err(e),
            },
        };
        let fingerprint = FileFingerprint {
            mode: (!matches!(kind, FileKind::Symlink { .. })).then_some(entry.stat.mode),
            mtime_ns: Some(entry.stat.mtime_ns),
            kind,
        };
        state.entries.insert(entry.path, fingerprint);
    }
    Ok(state)
}

/// How far an interrupted restore got, seen from what is live now.
#[must_use]
pub fn progress(live: &FilesState, targets: &[FileTarget]) -> FilesProgress {
    let mut progress = FilesProgress::default();
    for target in targets {
        let now = live.entries.get(&target.path);
        if matches(target.after.as_ref(), now) {
            progress.after += 1;
        } else if holds(matches(target.before.as_ref(), now) || target.is_underway(now)) {
            progress.before += 1;
        } else {
            progress.other.push(target.path.to_string());
        }
    }
    let known: HashSet<&BundlePath> = targets.iter().map(|t| &t.path).collect();
    let unknown = live.entries.keys().filter(|path| !holds(known.contains(path)));
    progress.other.extend(unknown.map(ToString::to_string));
    progress
}

impl FileTarget {
    /// Whether a staged file or link is moved to this path.
    pub(super) fn is_written(&self) -> bool {
        match &self.after {
            Some(after) if after.kind != FileKind::Dir => {
                self.before.as_ref().is_none_or(|before| before.kind != after.kind)
            }
            _ => false,
        }
    }

    /// Whether `now` is a step of ours between before and after: nothing, while one type of entry
    /// makes room for another; new content and old mode, or the reverse.
    fn is_underway(&self, now: Option<&FileFingerprint>) -> bool {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return false };
        match now {
            None => !before.kind.same_type(&after.kind),
            Some(now) => {
                (now.kind == before.kind || now.kind == after.kind)
                    && (now.mode == before.mode || now.mode == after.mode)
            }
        }
    }
}

impl FileKind {
    /// Whether this is what a look at a live entry found, as far as its type goes.
    pub(super) fn is_type(&self, found: FileType) -> bool {
        match self {
            Self::File { .. } => found == FileType::File,
            Self::Dir => found == FileType::Dir,
            Self::Symlink { .. } => found == FileType::Symlink,
        }
    }

    fn same_type(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Digest and length of an open file.
pub(super) fn hash(
    file: &File,
    path: &std::path::Path,
    control: &Control,
) -> Result<FileKind, StoresError> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        control.check().map_err(StoresError::stopped("reading the memory files"))?;
        match file.read_at(&mut chunk, size) {
            Ok(0) => break,
            Ok(got) => {
                hasher.update(&chunk[..got]);
                size += got as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(StoresError::io("read", path)(e)),
        }
    }
    Ok(FileKind::File { sha256: Sha256Digest::from_bytes(hasher.finalize().into()), size })
}

/// Digest and length of a listed file; none where it must be left alone.
fn hash_listed(
    memdir: &Dir,
    entry: &ListedEntry,
    options: &ListOptions,
    control: &Control,
) -> Result<Option<FileKind>, StoresError> {
    let (dir, name) = locate(memdir, &entry.path)?;
    let file = match dir.open_file(&name) {
        Err(e) if is_denied(&e) => return Ok(None),
        opened => opened?,
    };
    let path = dir.path().join(&name);
    let stat: Stat = Dir::stat_file(&file, &path)?;
    let database = is_database(&file, &stat).map_err(StoresError::io("read", &path))?;
    if database && !options.plain.contains(&id(&stat)) {
        return Ok(None);
    }
    hash(&file, &path, control).map(Some)
}

/// Times are left out: a later step of a restore, or a look that touches, changes them alone.
fn matches(planned: Option<&FileFingerprint>, now: Option<&FileFingerprint>) -> bool {
    match (planned, now) {
        (None, None) => true,
        (Some(planned), Some(now)) => {
            let mode_counts = matches!(planned.kind, FileKind::File { .. });
            planned.kind == now.kind
                && (!mode_counts || planned.mode.is_none() || planned.mode == now.mode)
        }
        _ => false,
    }
}

/// Raw bytes in JSON: as text where they are text, else in base64 behind a marker.
mod raw {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    const MARKER: &str = "b64:";

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.starts_with(MARKER) => s.serialize_str(text),
            _ => s.collect_str(&format_args!("{MARKER}{}", BASE64.encode(bytes))),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        match text.strip_prefix(MARKER) {
            Some(encoded) => BASE64.decode(encoded).map_err(serde::de::Error::custom),
            None => Ok(text.into_bytes()),
        }
    }
}

/// [`raw`] for paths.
mod raw_path {
    use serde::{Deserializer, Serializer};
    use snapshot_core::BundlePath;

    use super::raw;

    pub(super) fn serialize<S: Serializer>(path: &BundlePath, s: S) -> Result<S::Ok, S::Error> {
        raw::serialize(path.as_bytes(), s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BundlePath, D::Error> {
        BundlePath::from_bytes(&raw::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8], mode: u32) -> FileFingerprint {
        let kind = FileKind::File { sha256: Sha256Digest::of(content), size: content.len() as u64 };
        FileFingerprint { kind, mode: Some(mode), mtime_ns: Some(1) }
    }

    fn dir() -> FileFingerprint {
        FileFingerprint { kind: FileKind::Dir, mode: Some(0o755), mtime_ns: None }
    }

    fn seen(entries: &[(&str, FileFingerprint)]) -> FilesState {
        let entries = entries
            .iter()
            .map(|(path, print)| (BundlePath::parse(path).unwrap(), print.clone()))
            .collect();
        FilesState { entries, kept: BTreeSet::new() }
    }

    fn target(
        path: &str,
        before: Option<FileFingerprint>,
        after: Option<FileFingerprint>,
    ) -> FileTarget {
        FileTarget { path: BundlePath::parse(path).unwrap(), before, after }
    }

    /// A recovery that took a step of its own restore for somebody's work could never roll forward;
    /// one that took somebody's work for its own step would destroy it.
    #[test]
    fn own_steps_are_told_from_the_work_of_others() {
        let targets = [
            target("changed", Some(file(b"old", 0o600)), Some(file(b"new", 0o644))),
            target("swapped", Some(file(b"old", 0o600)), Some(dir())),
        ];
        let at = |state: &[(&str, FileFingerprint)]| progress(&seen(state), &targets);
        let old = at(&[("changed", file(b"old", 0o600)), ("swapped", file(b"old", 0o600))]);
        assert_eq!((old.before, old.after, old.other.len()), (2, 0, 0));
        let half = at(&[("changed", file(b"new", 0o600))]);
        assert_eq!((half.before, half.after, half.other.len()), (2, 0, 0));
        let done = at(&[("changed", file(b"new", 0o644)), ("swapped", dir())]);
        assert_eq!((done.before, done.after, done.other.len()), (0, 2, 0));
        let edited = at(&[("changed", file(b"mine", 0o644)), ("swapped", dir())]);
        assert_eq!(edited.other, ["changed"]);
        let removed = at(&[("swapped", dir())]);
        assert_eq!(removed.other, ["changed"]);
        let added = at(&[
            ("changed", file(b"new", 0o644)),
            ("swapped", dir()),
            ("since", file(b"x", 0o600)),
        ]);
        assert_eq!(added.other, ["since"]);
    }

    proptest! {
        #[test]
        fn targets_survive_the_journal(name in proptest::collection::vec(any::<u8>(), 1..20),
                                       link in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(path) = BundlePath::from_bytes(&name) {
                let kind = FileKind::Symlink { target: link };
                let before = Some(FileFingerprint { kind, mode: None, mtime_ns: Some(-1) });
                let target = FileTarget { path, before, after: Some(file(b"x", 0o644)) };
                let json = serde_json::to_string(&target).unwrap();
                prop_assert_eq!(serde_json::from_str::<FileTarget>(&json).unwrap(), target);
            }
        }
    }
}
