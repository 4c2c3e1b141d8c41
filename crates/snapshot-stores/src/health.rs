//! What can be seen to be wrong with an agent's memory from outside: parts that are not there, rights, owners,
//! what dead restores left, space.
//!
//! Invariant: nothing is opened but folders and, by SQLite, databases; nothing is changed but by [`remove_strays`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use snapshot_core::{MemoryLayout, SpaceNeed, StateSource};
use snapshot_fs::{Dir, DurableFs, FileType, may_write, user};

use crate::error::StoresError;
use crate::files::{git_name, is_staging, staging_name};
use crate::restore::Work;
use crate::sqlite::{Holders, Live, holders};

/// Something that a restore would fail on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    /// Where.
    pub path: PathBuf,
    /// Whether its owner is wrong, not its rights.
    pub is_owner: bool,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Parts that were named one by one and are not there or are not what they should be, each with what is wrong:
/// the next snapshot leaves them out, or fails.
#[must_use]
pub fn ailing_parts(layout: &MemoryLayout) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for (name, path) in &layout.stores {
        let why = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && layout.parts_optional => continue,
            Err(e) => e.to_string(),
            Ok(meta) if !meta.is_file() => "it is no file".to_owned(),
            Ok(_) if Live::new(path).is_no_database() => "it is no SQLite database".to_owned(),
            Ok(_) => continue,
        };
        found.push((path.clone(), format!("store {name}: {why}")));
    }
    let memdir = layout.memdir.iter().filter_map(|path| {
        let why = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && layout.parts_optional => None,
            Err(e) => Some(e.to_string()),
            Ok(meta) => (!meta.is_dir()).then(|| "it is no folder".to_owned()),
        };
        why.map(|why| (path.clone(), format!("memdir: {why}")))
    });
    found.extend(memdir);
    found
}

/// What of the memory we may not write to, or has another owner than the rest of it: a restore would
/// fail, or leave the agent with files that are not its own. Links are looked through, as by a restore.
#[must_use]
pub fn ailing_rights(layout: &MemoryLayout) -> Vec<Ailment> {
    let mut found = Vec::new();
    let mut owner = (user() != 0).then(user);
    let mut seen = BTreeSet::new();
    for path in layout.paths() {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => {
                let why = format!("cannot be looked at: {e}; run as the agent's user");
                found.push(Ailment { path: path.to_owned(), is_owner: false, why });
                continue;
            }
        };
        let folder = real.parent().filter(|_| real.is_file()).map(Path::to_owned);
        let both = [Some(real.clone()), folder].into_iter().flatten();
        for path in both.filter(|path| seen.insert(path.clone())) {
            found.extend(unwritable(&path));
        }
        found.extend(foreign(&real, &mut owner));
    }
    found
}

fn unwritable(path: &Path) -> Option<Ailment> {
    let error = may_write(path).err()?;
    let why = format!(
        "we may not write to it, and a restore must: {error}; run as its owner, or: chmod u+w {}",
        shell_quoted(path)
    );
    Some(Ailment { path: path.to_owned(), is_owner: false, why })
}

/// As root, who may own anything, the first part's owner is the agent's user.
fn foreign(path: &Path, owner: &mut Option<u32>) -> Option<Ailment> {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata(path).ok()?.uid();
    let owner = *owner.get_or_insert(uid);
    (uid != owner).then(|| Ailment {
        path: path.to_owned(),
        is_owner: true,
        why: format!(
            "is owned by user {uid}, and should be by user {owner}: chown {owner} {}",
            shell_quoted(path)
        ),
    })
}

/// A path as a shell takes it.
#[must_use]
pub fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// What the dead left among an agent's memory: what a restore staged there that died, by `work`, the folder of
/// the agent's restores; and the temporary files of processes that are gone. Nothing else that begins alike. And
/// what it staged in `work`.
/// Only for the holder of the agent's lock, and only while there is no journal.
///
/// # Errors
/// If a folder cannot be read.
pub fn strays(
    fs: &DurableFs,
    layout: &MemoryLayout,
    work: Option<&Dir>,
) -> Result<Vec<PathBuf>, StoresError> {
    let mut strays = BTreeSet::new();
    if let Some(memdir) = memdir_of(fs, layout)? {
        for name in claimed(work)? {
            strays.extend(memdir.stat(&name)?.map(|_| memdir.path().join(name)));
        }
        strays.extend(dead_temps(&memdir)?);
    }
    let folders: BTreeSet<PathBuf> = layout
        .paths()
        .into_iter()
        .filter(|path| Some(*path) != layout.memdir.as_deref())
        .filter_map(|path| {
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            real.parent().map(Path::to_owned)
        })
        .collect();
    for folder in folders {
        if let Some(dir) = existing(fs, &folder).transpose()? {
            strays.extend(dead_temps(&dir)?);
        }
    }
    let staged = work.map(|work| Work::new(work).staged()).transpose()?.flatten();
    Ok(strays.into_iter().chain(staged).collect())
}

/// Folders in the memdir that have the name of a restore's staging, though no restore of `work` made them:
/// one with another vault may be at work. They are not captured, and not ours to remove.
///
/// # Errors
/// If the memdir cannot be read.
pub fn unclaimed_staging(
    fs: &DurableFs,
    layout: &MemoryLayout,
    work: Option<&Dir>,
) -> Result<Vec<PathBuf>, StoresError> {
    let Some(memdir) = memdir_of(fs, layout)? else { return Ok(Vec::new()) };
    let ours = claimed(work)?;
    let names = memdir.entries()?.into_iter().map(|entry| entry.name);
    let others =
        names.filter(|name| is_staging(name) && !ours.iter().any(|own| name == own.as_str()));
    Ok(others.map(|name| memdir.path().join(name)).collect())
}

/// Removes what [`strays`] found among the memory, under the same lock; a failure keeps none of the others. What lies
/// in `work`, and what it says is ours, goes by [`crate::sweep`].
///
/// # Errors
/// The first thing that cannot be removed.
pub fn remove_strays(fs: &DurableFs, strays: &[PathBuf]) -> Result<(), StoresError> {
    let remove = |path: &PathBuf| {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let dir = fs.open_dir(folder)?;
        match is_staging(name) {
            true => Ok(dir.remove_tree(name)?),
            false => Ok(dir.unlink(name)?),
        }
    };
    strays.iter().map(remove).fold(Ok(()), Result::and)
}

/// Names in the memdir of what a restore of `work` has staged and not cleared.
fn claimed(work: Option<&Dir>) -> Result<Vec<String>, StoresError> {
    let id = work.map(|dir| Work::new(dir).staged_by()).transpose()?.flatten();
    Ok(id.map_or_else(Vec::new, |id| vec![staging_name(id), git_name(id)]))
}

fn memdir_of(fs: &DurableFs, layout: &MemoryLayout) -> Result<Option<Dir>, StoresError> {
    layout.memdir.as_deref().and_then(|path| existing(fs, path)).transpose()
}

fn existing(fs: &DurableFs, path: &Path) -> Option<Result<Dir, StoresError>> {
    match fs.open_dir(path) {
        Err(e) if e.is_not_found() => None,
        opened => Some(opened.map_err(Into::into)),
    }
}

fn dead_temps(dir: &Dir) -> Result<Vec<PathBuf>, StoresError> {
    Ok(dir.dead_temps()?.into_iter().map(|name| dir.path().join(name)).collect())
}

/// Free space in the vault that the next snapshot needs at most: its bundle, which is no larger than what
/// it holds, and what is spooled meanwhile, which is no larger either. By sizes alone: every memory file
/// is looked at, none opened. None where the vault is not there yet.
///
/// # Errors
/// If a folder cannot be read.
pub fn snapshot_space(
    fs: &DurableFs,
    layout: &MemoryLayout,
    vault: &Path,
) -> Result<Option<SpaceNeed>, StoresError> {
    let Some(dir) = existing(fs, vault).transpose()? else { return Ok(None) };
    let stores = layout.stores.values().map(|path| file_bytes(path));
    let memory = stores.fold(0, u64::saturating_add);
    let memdir = memdir_of(fs, layout)?;
    let memory = memory.saturating_add(memdir.as_ref().map_or(Ok(0), tree_bytes)?);
    Ok(Some(SpaceNeed {
        at: vault.to_owned(),
        needed_bytes: memory.saturating_mul(2),
        free_bytes: dir.free_bytes()?,
    }))
}

/// A database with its log.
fn file_bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
    size(path).saturating_add(size(Path::new(&log)))
}

fn tree_bytes(dir: &Dir) -> Result<u64, StoresError> {
    let mut bytes: u64 = 0;
    for entry in dir.entries()? {
        // What goes meanwhile needs no space.
        let Some(stat) = dir.stat(&entry.name)? else { continue };
        bytes = bytes.saturating_add(match stat.file_type {
            FileType::File => stat.size,
            FileType::Dir => match dir.sub(&entry.name) {
                Err(e) if e.is_not_found() => 0,
                sub => tree_bytes(&sub?)?,
            },
            FileType::Symlink | FileType::Other(_) => 0,
        });
    }
    Ok(bytes)
}

/// The processes that have a database of one of the layouts open, and the SQLite in them.
#[must_use]
pub fn database_holders(layouts: &[MemoryLayout]) -> Holders {
    let mut databases: Vec<&Path> = Vec::new();
    for layout in layouts {
        databases.extend(layout.stores.values().map(PathBuf::as_path));
        let state = [&layout.state.extract_cursor, &layout.state.dream_run];
        databases.extend(state.into_iter().flatten().filter_map(|source| match source {
            StateSource::Sqlite { sqlite, .. } => Some(sqlite.as_path()),
            StateSource::Json { .. } => None,
        }));
    }
    holders(&databases)
}
