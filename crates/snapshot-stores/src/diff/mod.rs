//! What changed between two snapshots, counted. Artifacts with equal digests are not read.

mod history;
mod rows;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use snapshot_core::{
    Artifact, ArtifactSource, BundlePath, Control, RowCounts, SnapshotDiff, SnapshotId,
    SqliteSummary, StateKind, StateSummary, StoreName,
};
use snapshot_fs::Dir;

use crate::error::StoresError;
use crate::restore::stage_git;

/// Counts what `b` has that `a` has not, and the other way round. `scratch` is a private folder for
/// what must be unpacked; the caller removes it.
///
/// # Errors
/// If a side cannot be read or unpacked.
pub fn diff(
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    scratch: &Dir,
    max_git_object_bytes: u64,
    control: &Control,
) -> Result<SnapshotDiff, StoresError> {
    let mut diff = SnapshotDiff {
        a: a.manifest().snapshot_id,
        b: b.manifest().snapshot_id,
        live: [a, b].iter().any(|side| side.manifest().snapshot_id == SnapshotId::nil()),
        git_summary: snapshot_core::GitSummary::default(),
        sqlite_summary: SqliteSummary::default(),
        state_summary: state(a, b)?,
        stores: BTreeMap::new(),
        memory_files: memory_files(a, b),
        notes: Vec::new(),
    };
    for store in stores(a, b) {
        control.check().map_err(StoresError::stopped("comparing the stores"))?;
        let counts = compare_store(&store, a, b, scratch, &mut diff.notes)?;
        diff.sqlite_summary.record(&store, counts);
        diff.stores.insert(store, counts);
    }
    compare_history(a, b, scratch, max_git_object_bytes, control, &mut diff)?;
    Ok(diff)
}

fn compare_store(
    store: &StoreName,
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    scratch: &Dir,
    notes: &mut Vec<String>,
) -> Result<RowCounts, StoresError> {
    let path = store.bundle_path();
    let digest = |side: &dyn ArtifactSource| side.manifest().artifact(&path).map(|x| x.sha256);
    if digest(a) == digest(b) {
        return Ok(RowCounts::default());
    }
    let old = unpack(a, &path, scratch)?;
    let new = unpack(b, &path, scratch)?;
    let counts = rows::compare(old.as_deref(), new.as_deref(), |note| {
        notes.push(format!("store {store}: {note}"))
    });
    for file in [old, new].into_iter().flatten() {
        if let Some(name) = file.file_name() {
            scratch.unlink(name)?;
        }
    }
    counts
}

fn compare_history(
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    scratch: &Dir,
    max_git_object_bytes: u64,
    control: &Control,
    diff: &mut SnapshotDiff,
) -> Result<(), StoresError> {
    let (Some(old), Some(new)) = (&a.manifest().git, &b.manifest().git) else {
        if a.manifest().git.is_some() != b.manifest().git.is_some() {
            diff.notes.push("only one side has a git repository".to_owned());
        }
        return Ok(());
    };
    if old.head_oid == new.head_oid {
        return Ok(());
    }
    let old_dir =
        stage_git(a, old, &scratch.ensure_sub("a", 0o700)?, max_git_object_bytes, control)?;
    let new_dir =
        stage_git(b, new, &scratch.ensure_sub("b", 0o700)?, max_git_object_bytes, control)?;
    let (summary, note) = history::compare((old_dir.path(), old), (new_dir.path(), new))?;
    diff.git_summary = summary;
    diff.notes.extend(note);
    Ok(())
}

/// Every store that either side has.
fn stores(a: &dyn ArtifactSource, b: &dyn ArtifactSource) -> Vec<StoreName> {
    let mut names: Vec<StoreName> = [a, b]
        .iter()
        .flat_map(|side| side.manifest().stores().map(|(info, _)| info.store.clone()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The store at `path` as a file in `scratch`; none where this side lacks it.
fn unpack(
    side: &dyn ArtifactSource,
    path: &BundlePath,
    scratch: &Dir,
) -> Result<Option<PathBuf>, StoresError> {
    if side.manifest().artifact(path).is_none() {
        return Ok(None);
    }
    let (_, mut file) = scratch.create_temp(0o600)?;
    io::copy(&mut side.open(path)?, &mut file)
        .map_err(StoresError::io("unpack", path.as_path()))?;
    Ok(Some(file.path().to_owned()))
}

fn state(a: &dyn ArtifactSource, b: &dyn ArtifactSource) -> Result<StateSummary, StoresError> {
    let changed = |kind: StateKind| -> Result<bool, StoresError> {
        let path = BundlePath::parse(kind.bundle_path())?;
        let digest = |side: &dyn ArtifactSource| side.manifest().artifact(&path).map(|x| x.sha256);
        Ok(digest(a) != digest(b))
    };
    Ok(StateSummary {
        extract_cursor_changed: changed(StateKind::ExtractCursor)?,
        last_dream_run_changed: changed(StateKind::DreamRun)?,
    })
}

/// Files and links by path; folders and times alone are no change of memory.
fn memory_files(a: &dyn ArtifactSource, b: &dyn ArtifactSource) -> RowCounts {
    let files = |side: &dyn ArtifactSource| -> BTreeMap<BundlePath, Artifact> {
        let entries = side.manifest().memory_entries();
        entries
            .filter(|(_, x)| x.kind != snapshot_core::ArtifactKind::MemoryDir)
            .map(|(path, x)| (path, x.clone()))
            .collect()
    };
    let (old, new) = (files(a), files(b));
    let mut counts = RowCounts::default();
    for (path, x) in &new {
        match old.get(path) {
            None => counts.added += 1,
            Some(before) if (before.kind, before.sha256) != (x.kind, x.sha256) => {
                counts.changed += 1
            }
            Some(_) => {}
        }
    }
    counts.removed = old.keys().filter(|path| !new.contains_key(path)).count() as u64;
    counts
}
