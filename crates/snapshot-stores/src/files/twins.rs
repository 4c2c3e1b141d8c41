//! Names that one file system keeps apart and another takes for one: `a.md` and `A.md`, or two spellings
//! of `é`. They are refused only where they meet, and before anything changes; a file system alone knows
//! its rules, so they are tried on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use snapshot_core::SnapshotId;
use snapshot_fs::Dir;

use super::ours::staging_name;
use super::stage::live_stat;
use super::state::FileTarget;
use super::walk::locate;
use crate::StoresError;

/// Two spellings each of names that a file system may take for one: case, and Unicode form.
const FOLDED_PAIRS: [(&str, &str); 2] = [("case-a", "case-A"), ("form-\u{e9}", "form-e\u{301}")];
/// Name of the folder in the staging folder in which names are tried.
const PROBE: &str = "probe";
/// Mode of what is made there.
const MODE: u32 = 0o700;

/// Refuses refs that the file system of the memdir takes for one another, where restore `id` has staged
/// its files. Git keeps each in a file.
///
/// # Errors
/// [`StoresError::Twins`].
pub fn refuse_ref_twins<'n>(
    memdir: &Dir,
    id: SnapshotId,
    refs: impl IntoIterator<Item = &'n str>,
) -> Result<(), StoresError> {
    let staging = memdir.sub(staging_name(id))?;
    let names: Vec<&Path> = refs.into_iter().map(Path::new).collect();
    with_probe(&staging, |probe| refuse(probe, memdir.path(), &names))
}

/// Refuses targets that the file system takes for one another, or for what is there by another name.
pub(super) fn refuse_twins(
    memdir: &Dir,
    staging: &Dir,
    targets: &[FileTarget],
) -> Result<(), StoresError> {
    let after = targets.iter().filter(|target| target.after.is_some());
    let names: Vec<&Path> = after.clone().map(|target| target.path.as_path()).collect();
    with_probe(staging, |probe| {
        refuse(probe, memdir.path(), &names)?;
        after.clone().filter(|target| target.before.is_none()).try_for_each(|target| {
            let Some(found) = live_stat(memdir, &target.path)? else { return Ok(()) };
            // Something new of just this name is no twin: the next look finds it.
            let (dir, name) = locate(memdir, &target.path)?;
            let there = dir.entries()?.into_iter().map(|entry| entry.name);
            let there: Vec<_> = there.filter(|other| *other != name).collect();
            for other in there {
                if dir
                    .stat(&other)?
                    .is_some_and(|stat| (stat.dev, stat.ino) == (found.dev, found.ino))
                {
                    let other = target.path.as_path().with_file_name(other);
                    return Err(twins(memdir.path(), target.path.as_path(), &other));
                }
            }
            Ok(())
        })
    })
}

/// Calls `try_names` with an empty folder, where the file system folds names at all.
fn with_probe(
    staging: &Dir,
    try_names: impl FnOnce(&Dir) -> Result<(), StoresError>,
) -> Result<(), StoresError> {
    staging.create_dir(PROBE, MODE)?;
    let probe = staging.sub(PROBE)?;
    let mut folds = false;
    for (one, other) in FOLDED_PAIRS {
        probe.create_new(one, MODE)?;
        folds |= probe.stat(other)?.is_some();
    }
    let tried = if folds { try_names(&probe) } else { Ok(()) };
    staging.remove_tree(PROBE)?;
    tried
}

/// Tries the names of each folder, those of folders among them.
fn refuse(probe: &Dir, at: &Path, paths: &[&Path]) -> Result<(), StoresError> {
    let mut folders: BTreeMap<&Path, BTreeSet<&OsStr>> = BTreeMap::new();
    for path in paths.iter().flat_map(|path| path.ancestors()) {
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
            folders.entry(folder).or_default().insert(name);
        }
    }
    for (folder, names) in folders.into_iter().filter(|(_, names)| names.len() > 1) {
        let names: Vec<&OsStr> = names.into_iter().collect();
        if let Some((one, other)) = first_pair(probe, &names)? {
            return Err(twins(at, &folder.join(one), &folder.join(other)));
        }
    }
    Ok(())
}

fn first_pair<'n>(
    probe: &Dir,
    names: &[&'n OsStr],
) -> Result<Option<(&'n OsStr, &'n OsStr)>, StoresError> {
    let Some(second) = first_taken(probe, names)? else { return Ok(None) };
    for (at, one) in names.iter().enumerate().take(second) {
        if first_taken(probe, &[one, names[second]])?.is_some() {
            return Ok(Some((names[at], names[second])));
        }
    }
    Ok(None)
}

/// The number of the first name that is there before it is made.
fn first_taken(probe: &Dir, names: &[&OsStr]) -> Result<Option<usize>, StoresError> {
    let folder = "names";
    probe.create_dir(folder, MODE)?;
    let dir = probe.sub(folder)?;
    let mut taken = None;
    for (at, name) in names.iter().enumerate() {
        if dir.stat(name)?.is_some() {
            taken = Some(at);
            break;
        }
        dir.create_new(name, MODE)?;
    }
    probe.remove_tree(folder)?;
    Ok(taken)
}

fn twins(at: &Path, one: &Path, other: &Path) -> StoresError {
    let text = |path: &Path| String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
    StoresError::Twins { folder: PathBuf::from(at), one: text(one), other: text(other) }
}
