//! What a restore of memory files changes, before it does.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use snapshot_core::{Artifact, ArtifactKind, BundlePath, FilePlan, Manifest};
use snapshot_fs::is_temp_name;

use super::ours::is_staging;
use super::state::{FileFingerprint, FileKind, FileTarget, FilesState};
use super::walk::side_base;
use crate::StoresError;
use crate::git::is_dot_git;

/// What a small file takes on disk at most, in bytes.
const BLOCK_BYTES: u64 = 4096;
/// Set-user-id and set-group-id: what a bundle says never makes a program run as somebody else.
const SET_ID_BITS: u32 = 0o6000;

/// The plan for the memory files.
#[derive(Debug, Clone, Default)]
pub struct FilesPlan {
    /// For people.
    pub plan: FilePlan,
    /// For the journal: every entry, changed or not, sorted by path.
    pub targets: Vec<FileTarget>,
    /// Bytes that staging needs at most.
    pub needed_bytes: u64,
    /// What is worth knowing before.
    pub notes: Vec<String>,
}

/// Compares what is live with what `manifest` holds. An empty [`FilesState`] plans a restore into an
/// empty folder.
///
/// # Errors
/// [`StoresError::BadPath`] for names that no restore writes, [`StoresError::InTheWay`] where
/// something that is never removed stands at a path that the bundle needs.
pub fn plan(live: &FilesState, manifest: &Manifest) -> Result<FilesPlan, StoresError> {
    let mut made = FilesPlan::default();
    let mut after = BTreeMap::new();
    for (path, artifact) in manifest.memory_entries() {
        check_names(&path)?;
        let fingerprint = fingerprint(&path, artifact, &mut made.notes);
        after.insert(path, fingerprint);
    }
    add_missing_parents(&mut after)?;
    check_stores(manifest, &after)?;
    check_sides(manifest, live, &after)?;
    if let Some(path) = after.keys().find(|path| live.kept.contains(path.as_bytes())) {
        return Err(in_the_way(path, "it is a database, a socket or a thing we may not read"));
    }
    let removed = live.entries.iter().filter(|(path, _)| !after.contains_key(path));
    for (path, before) in removed {
        let stays = before.kind == FileKind::Dir && holds_kept(live, path);
        if stays {
            made.notes.push(format!("{path} stays: it holds what a snapshot does not carry"));
        } else {
            made.plan.remove.push(path.to_string());
        }
        let after = stays.then(|| before.clone());
        made.targets.push(FileTarget { path: path.clone(), before: Some(before.clone()), after });
    }
    for (path, after) in after {
        let before = live.entries.get(&path).cloned();
        let makes_room =
            before.as_ref().is_some_and(|b| b.kind == FileKind::Dir) && after.kind != FileKind::Dir;
        if makes_room && holds_kept(live, &path) {
            return Err(in_the_way(&path, "it is a folder that holds what no restore removes"));
        }
        made.add(FileTarget { path, before, after: Some(after) });
    }
    made.targets.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(made)
}

impl FilesPlan {
    fn add(&mut self, target: FileTarget) {
        let Some(after) = &target.after else { return };
        let name = target.path.to_string();
        let same_kind = target.before.as_ref().filter(|before| before.kind == after.kind);
        match same_kind {
            None => self.plan.write.push(name),
            Some(before) if differs(before.mode, after.mode) => self.plan.touch.push(name),
            Some(before) if differs(before.mtime_ns, after.mtime_ns) => self.plan.touch.push(name),
            Some(_) => self.plan.unchanged += 1,
        }
        if let FileKind::File { size, .. } = after.kind
            && target.is_written()
        {
            self.needed_bytes = self.needed_bytes.saturating_add(size.saturating_add(BLOCK_BYTES));
        }
        self.targets.push(target);
    }
}

fn differs<T: PartialEq>(before: Option<T>, after: Option<T>) -> bool {
    after.is_some() && before != after
}

/// A store that lies in the memdir has its place to itself, in a folder.
fn check_stores(
    manifest: &Manifest,
    after: &BTreeMap<BundlePath, FileFingerprint>,
) -> Result<(), StoresError> {
    for path in manifest.stores().filter_map(|(info, _)| info.store.auto_path()) {
        let path = BundlePath::parse(path)?;
        let is_dir = |at: &[u8]| {
            let at = BundlePath::from_bytes(at).ok().and_then(|at| after.get(&at));
            at.is_none_or(|entry| entry.kind == FileKind::Dir)
        };
        if after.contains_key(&path) || !parents(path.as_bytes()).all(is_dir) {
            let why = "a database and a memory file of the bundle belong here";
            return Err(StoresError::BadPath { path: path.to_string(), why });
        }
    }
    Ok(())
}

/// A journal or log beside a database is replayed into it by whoever opens it next, and may name a file
/// that is then removed: nothing of a bundle may be taken for one, beside what is live or what it brings.
fn check_sides(
    manifest: &Manifest,
    live: &FilesState,
    after: &BTreeMap<BundlePath, FileFingerprint>,
) -> Result<(), StoresError> {
    let brought: BTreeSet<&[u8]> = manifest
        .stores()
        .filter_map(|(info, _)| info.store.auto_path().map(str::as_bytes))
        .collect();
    let is_side = |(path, entry): &(&BundlePath, &FileFingerprint)| {
        entry.kind != FileKind::Dir
            && side_base(path.as_bytes())
                .is_some_and(|base| live.kept.contains(base) || brought.contains(base))
    };
    match after.iter().find(is_side) {
        None => Ok(()),
        Some((path, _)) => {
            let why = "SQLite would take it for the journal or log of the database beside it";
            Err(StoresError::BadPath { path: path.to_string(), why })
        }
    }
}

/// Refuses names that no restore writes.
pub(crate) fn check_names(path: &BundlePath) -> Result<(), StoresError> {
    let bad = |why| Err(StoresError::BadPath { path: path.to_string(), why });
    for (depth, name) in path.as_bytes().split(|&b| b == b'/').enumerate() {
        if is_dot_git(name) {
            return bad("some file system takes it for a git repository");
        }
        let name = OsStr::from_bytes(name);
        if is_temp_name(name) || (depth == 0 && is_staging(name)) {
            return bad("names like this are those of our temporary files");
        }
    }
    Ok(())
}

fn fingerprint(path: &BundlePath, artifact: &Artifact, notes: &mut Vec<String>) -> FileFingerprint {
    let (sha256, size) = (artifact.sha256, artifact.size_bytes);
    let (kind, mut mode) = match (&artifact.link, artifact.kind) {
        (Some(target), _) => (FileKind::Symlink { target: target.clone() }, None),
        (None, ArtifactKind::MemoryDir) => (FileKind::Dir, artifact.mode),
        (None, _) => (FileKind::File { sha256, size }, artifact.mode),
    };
    if let (FileKind::File { .. }, Some(bits)) = (&kind, &mut mode)
        && *bits & SET_ID_BITS != 0
    {
        *bits &= !SET_ID_BITS;
        notes.push(format!("{path} loses its set-user-id and set-group-id bits"));
    }
    FileFingerprint { kind, mode, mtime_ns: artifact.mtime_ns }
}

/// Bundles of the predecessor list no folders.
fn add_missing_parents(
    after: &mut BTreeMap<BundlePath, FileFingerprint>,
) -> Result<(), StoresError> {
    let implied: Vec<BundlePath> = after
        .keys()
        .flat_map(|path| parents(path.as_bytes()))
        .map(BundlePath::from_bytes)
        .collect::<Result<_, _>>()?;
    for path in implied {
        let folder = FileFingerprint { kind: FileKind::Dir, mode: None, mtime_ns: None };
        after.entry(path).or_insert(folder);
    }
    Ok(())
}

fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| &path[..at])
}

/// Whether something that is never removed lies below `path`.
fn holds_kept(live: &FilesState, path: &BundlePath) -> bool {
    let below = [path.as_bytes(), b"/"].concat();
    live.kept.range(below.clone()..).next().is_some_and(|kept| kept.starts_with(&below))
}

fn in_the_way(path: &BundlePath, why: &str) -> StoresError {
    StoresError::InTheWay { path: path.to_string(), why: why.to_owned() }
}
