//! What changed between two snapshots: counted, and told one by one to whoever listens.
//!
//! Invariant: artifacts with equal digests are not read, and memory stays flat: what is told is not kept,
//! and stores are compared as files in a scratch folder.

mod cells;
mod files;
mod history;
mod pair;
mod report;
mod rows;
mod state;
mod tables;
mod vectors;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use snapshot_core::{
    Artifact, ArtifactSource, Control, DiffScope, Difference, NotCompared, RowCounts, SnapshotDiff,
    StoreName,
};
use snapshot_fs::Dir;

use crate::error::StoresError;
use crate::restore::{StageProgress, stage_git};
use crate::sources::is_missing;
use crate::space::room;
use report::{Sink, StoreReport};

/// Bytes copied at a time.
const BUFFER: usize = 256 << 10;
/// Most tables that an error names.
const TABLES_NAMED: usize = 20;
/// The file to work with.
const WORK: &str = "rows";

/// How a comparison runs.
#[derive(Clone, Copy)]
pub struct DiffOptions<'a> {
    /// What is wanted.
    pub scope: &'a DiffScope,
    /// A private folder for what must be unpacked; the caller removes it.
    pub scratch: &'a Dir,
    /// Largest git object that is taken, in bytes.
    pub max_git_object_bytes: u64,
    /// How many threads may read a store at once.
    pub threads: usize,
    /// Cancellation and progress.
    pub control: &'a Control,
}

/// Compares the older side `a` with the newer `b`; `tell`, where there is one, hears each difference as
/// it is found: rows, files, commits, state.
///
/// # Errors
/// If a side cannot be read or unpacked, and [`StoresError::Refused`] for a store that neither has.
pub fn diff(
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    options: &DiffOptions<'_>,
    mut tell: Option<&mut dyn FnMut(Difference)>,
) -> Result<SnapshotDiff, StoresError> {
    let mut diff = SnapshotDiff::between(a.manifest().snapshot_id, b.manifest().snapshot_id);
    compare_stores(a, b, options, &mut tell, &mut diff)?;
    if *options.scope == DiffScope::default() {
        match missing(a, "memdir").or_else(|| missing(b, "memdir")) {
            Some(why) => diff.notes.push(format!("memory files and git are not compared: {why}")),
            None => {
                diff.memory_files = files::compare(a, b, &mut tell, options.control)?;
                compare_history(a, b, options, &mut tell, &mut diff)?;
            }
        }
        diff.state_summary = state::compare(a, b, &mut tell, &mut diff.notes)?;
    }
    Ok(diff)
}

fn compare_stores(
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    options: &DiffOptions<'_>,
    sink: &mut Sink<'_>,
    diff: &mut SnapshotDiff,
) -> Result<(), StoresError> {
    let stores = stores(a, b, options.scope)?;
    let differ = |(_, old, new): &&Store<'_>| old.map(|x| x.sha256) != new.map(|x| x.sha256);
    let bytes = |artifact: Option<&Artifact>| artifact.map_or(0, |artifact| artifact.size_bytes);
    let total = stores.iter().filter(differ).map(|(_, old, new)| bytes(*old) + bytes(*new)).sum();
    let progress = StageProgress::new(total, options.control);
    let mut looked_into = BTreeSet::new();
    for store in &stores {
        let (name, old, new) = store;
        let mut counts = RowCounts::default();
        let sides = [(a, old), (b, new)].into_iter().filter(|(_, has)| has.is_none());
        let without = sides.map(|(side, _)| side);
        if let Some(why) = without.filter_map(|side| missing(side, &format!("store {name}"))).next()
        {
            // That it was not there to be taken is no forgetting.
            diff.not_compared.push(NotCompared { store: name.clone(), table: None, why });
        } else if differ(&store) {
            let unpacked = Unpacked::of((a, *old), (b, *new), options.scratch, &progress)?;
            let mut report = StoreReport { store: name, sink, diff };
            let compared = unpacked.compare(options, &mut report)?;
            looked_into.extend(compared.tables);
            compared.counts.values().for_each(|table| counts += *table);
            if !compared.counts.is_empty() {
                diff.tables.insert(name.clone(), compared.counts);
            }
        }
        diff.sqlite_summary.record(name, counts);
        diff.stores.insert(name.clone(), counts);
    }
    let alike: Vec<&str> = stores.iter().filter(|s| !differ(s)).map(|s| s.0.as_str()).collect();
    match &options.scope.table {
        Some(wanted) => find_table(wanted, &looked_into, &alike, diff),
        None => Ok(()),
    }
}

/// Why a part was not there when a side was taken.
fn missing(side: &dyn ArtifactSource, part: &str) -> Option<String> {
    let left_out = &side.manifest().capture.not_carried;
    let found = left_out.iter().find(|left_out| is_missing(left_out, part));
    found.map(|left_out| format!("one side was taken without it: {}", left_out.why))
}

/// That the table wanted is one. Stores that are equal are not read, so that it may be in one of those.
fn find_table(
    wanted: &str,
    looked_into: &BTreeSet<String>,
    alike: &[&str],
    diff: &mut SnapshotDiff,
) -> Result<(), StoresError> {
    let is_known = looked_into.iter().any(|table| table.eq_ignore_ascii_case(wanted));
    // In a store that could not be compared as a whole it may be, which is told.
    if is_known || diff.not_compared.iter().any(|what| what.table.is_none()) {
        return Ok(());
    }
    if !alike.is_empty() {
        let alike = alike.join(", ");
        diff.notes.push(format!(
            "no store that differs has a table {wanted}; {alike}: both sides are equal"
        ));
        return Ok(());
    }
    let some: Vec<&str> = looked_into.iter().take(TABLES_NAMED).map(String::as_str).collect();
    let more = if looked_into.len() > some.len() { ", ..." } else { "" };
    let why = format!("neither side has this table; there are: {}{more}", some.join(", "));
    Err(StoresError::refused(Path::new(wanted), why))
}

/// A store, and what each side has of it.
type Store<'m> = (StoreName, Option<&'m Artifact>, Option<&'m Artifact>);

/// Every store that either side has and that is wanted.
fn stores<'m>(
    a: &'m dyn ArtifactSource,
    b: &'m dyn ArtifactSource,
    scope: &DiffScope,
) -> Result<Vec<Store<'m>>, StoresError> {
    let of = |side: &'m dyn ArtifactSource| -> BTreeMap<StoreName, &'m Artifact> {
        side.manifest().stores().map(|(info, artifact)| (info.store.clone(), artifact)).collect()
    };
    let (old, new) = (of(a), of(b));
    let mut names: Vec<StoreName> = old.keys().chain(new.keys()).cloned().collect();
    names.sort();
    names.dedup();
    if let Some(wanted) = &scope.store {
        names.retain(|name| name == wanted);
        if names.is_empty() {
            let why = "neither side has this store";
            return Err(StoresError::refused(Path::new(wanted.as_str()), why));
        }
    }
    let store = |name: StoreName| {
        let (old, new) = (old.get(&name).copied(), new.get(&name).copied());
        (name, old, new)
    };
    Ok(names.into_iter().map(store).collect())
}

/// Both sides of a store as files of the scratch folder, gone when it is dropped.
struct Unpacked<'a> {
    scratch: &'a Dir,
    old: Option<PathBuf>,
    new: Option<PathBuf>,
}

impl<'a> Unpacked<'a> {
    /// Unpacks both at once: each is one thread's decompressing and hashing.
    fn of(
        (a, old): (&dyn ArtifactSource, Option<&Artifact>),
        (b, new): (&dyn ArtifactSource, Option<&Artifact>),
        scratch: &'a Dir,
        progress: &StageProgress<'_>,
    ) -> Result<Self, StoresError> {
        let both = [old, new].into_iter().flatten();
        room(scratch, both.fold(0, |sum, side| side.size_bytes.saturating_add(sum)))?;
        let unpack = |side, artifact: Option<&Artifact>| {
            artifact.map(|artifact| unpack(side, artifact, scratch, progress)).transpose()
        };
        let (old, new) = thread::scope(|scope| {
            let other = scope.spawn(|| unpack(b, new));
            let old = unpack(a, old);
            let new = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (old, new)
        });
        Ok(Self { scratch, old: old?, new: new? })
    }

    fn compare(
        &self,
        options: &DiffOptions<'_>,
        report: &mut StoreReport<'_, '_>,
    ) -> Result<rows::Compared, StoresError> {
        let work = self.scratch.path().join(WORK);
        let sides = (self.old.as_deref(), self.new.as_deref());
        let only = options.scope.table.as_deref();
        rows::compare(sides, &work, only, report, (options.control, options.threads))
    }
}

impl Drop for Unpacked<'_> {
    fn drop(&mut self) {
        let names =
            [&self.old, &self.new].into_iter().flatten().filter_map(|file| file.file_name());
        for name in names.chain([WORK.as_ref()]) {
            // The folder goes with the operation; this only gives the space back sooner.
            let _ = self.scratch.unlink(name);
        }
    }
}

fn unpack(
    side: &dyn ArtifactSource,
    artifact: &Artifact,
    scratch: &Dir,
    progress: &StageProgress<'_>,
) -> Result<PathBuf, StoresError> {
    let (_, mut file) = scratch.create_temp(0o600)?;
    let mut reader = side.open(&artifact.path)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        progress.check()?;
        let n =
            reader.read(&mut buffer).map_err(StoresError::io("unpack", artifact.path.as_path()))?;
        if n == 0 {
            return Ok(file.path().to_owned());
        }
        file.write_all(&buffer[..n]).map_err(StoresError::io("write", file.path()))?;
        progress.advance(n as u64);
    }
}

fn compare_history(
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    options: &DiffOptions<'_>,
    sink: &mut Sink<'_>,
    diff: &mut SnapshotDiff,
) -> Result<(), StoresError> {
    let (Some(old), Some(new)) = (&a.manifest().git, &b.manifest().git) else {
        if a.manifest().git.is_some() != b.manifest().git.is_some() {
            diff.notes.push("only one side has a git repository".to_owned());
        }
        return Ok(());
    };
    // A redaction writes commits anew: every one of them would be told as another.
    let rewritten = [a, b].iter().any(|side| side.manifest().redactions.is_some());
    if !rewritten {
        diff.notes.extend(history::other_refs(old, new));
    }
    if old.head_oid == new.head_oid {
        return Ok(());
    }
    let stage = |side, info, name: &str| {
        let dir = options.scratch.make_path(name, 0o700)?;
        stage_git(side, info, &dir, options.max_git_object_bytes, options.control)
    };
    let (old_dir, new_dir) = (stage(a, old, "a")?, stage(b, new, "b")?);
    let (summary, note) =
        history::compare((old_dir.path(), old), (new_dir.path(), new), rewritten, sink)?;
    diff.git_summary = summary;
    diff.notes.extend(note);
    Ok(())
}
