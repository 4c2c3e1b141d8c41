//! The restore itself: stage, hold, keep, journal, commit, finish.

use std::time::Duration;

use snapshot_core::mutants::{holds, off};
use snapshot_core::{
    ArtifactSource, Control, GitInfo, GitOid, Manifest, MemoryLayout, RowCounts, SnapshotId,
    StateKind, Step, VerifiedSource,
};
use snapshot_fs::{Dir, DurableFs, Meta};
use tracing::info_span;

use crate::cut::{CaptureOptions, open_reader, pin_one, read_instant};
use crate::error::StoresError;
use crate::files::{self, FilesPlan, ListedEntry};
use crate::folders::make_folder;
use crate::git::{self, GitRepo, PinnedGit};
use crate::pinned::{PinConn, Pinned, PinnedStore};
use crate::restore::hold::{Attempt, Held, ReadBack, create, hold_once};
use crate::restore::journal::{Journal, StateTarget, Work};
use crate::restore::parallel;
use crate::restore::plan::{choose_stores, discover, plan_files, wanted_git};
use crate::restore::recover::sweep;
use crate::restore::stage::{
    StageProgress, read_state, stage_git, stage_row, stage_store, staged_git,
};
use crate::restore::strangers::strangers;
use crate::restore::target::{Action, StoreChoice, StoreTarget, choose};
use crate::restore::{BeforeCommit, Done, Keep, RestoreOptions};
use crate::sources::{Memdir, Sources};
use crate::sqlite::{Backoff, Gates};
use crate::state::{self, StatePiece};

/// Longest wait for a database that holds runtime state alone: the stores' writers wait with us.
const MAX_STATE_WAIT: Duration = Duration::from_secs(2);
/// Looks at a memdir that keeps changing; each keeps the present state once more.
const MAX_LOOKS: u32 = 4;

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The snapshot of what was there before.
    pub pre_snapshot: Option<SnapshotId>,
    /// Stores written.
    pub stores: Vec<String>,
    /// Pieces of runtime state written or removed.
    pub state: Vec<String>,
    /// HEAD's commit now.
    pub head: Option<GitOid>,
    /// Memory files written, changed, removed.
    pub files: RowCounts,
    /// How long writers of the stores were held, in microseconds.
    pub writers_held_us: u64,
    /// How long readers of rollback-journal stores were held, in microseconds.
    pub readers_held_us: u64,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Everything laid ready beside the live memory.
struct Staged {
    stores: Vec<StoreTarget>,
    staging: Dir,
    files: FilesPlan,
    state: Vec<StatePiece>,
    notes: Vec<String>,
}

/// Puts the content of `source` over what `layout` names. `keep` is called while every writer is
/// held, to keep the present state; `before_commit` right before the first live byte changes; `done`
/// once everything is durable.
///
/// # Errors
/// Where it is not [`StoresError::Unfinished`], nothing live has changed.
pub fn restore(
    source: &dyn VerifiedSource,
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
    keep: Keep<'_>,
    before_commit: BeforeCommit<'_>,
    done: Done<'_>,
) -> Result<Applied, StoresError> {
    let work = Work::new(opts.work);
    if let Some(journal) = work.read()?.filter(|_| !off()) {
        let why = "recover it first".to_owned();
        return Err(StoresError::RecoveryPending { from: journal.from.to_string(), why });
    }
    let staged = info_span!("stage").in_scope(|| stage(source, layout, opts, &work));
    let ended = staged.and_then(|mut staged| {
        let _span = info_span!("commit").entered();
        run(source, layout, opts, &mut staged, keep, before_commit, done)
    });
    if ended.is_err() && matches!(work.read(), Ok(None)) {
        // What stopped it is the error to report; the next command clears what this leaves.
        let _ = sweep(opts.capture.fs, layout, Some(opts.work));
    }
    ended
}

fn stage(
    source: &dyn ArtifactSource,
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
    work: &Work<'_>,
) -> Result<Staged, StoresError> {
    let CaptureOptions { fs, control, max_git_object_bytes, .. } = opts.capture;
    let manifest = source.manifest();
    let live = discover(layout, opts)?;
    let (choices, mut notes) = choose_stores(manifest, layout, live.as_ref(), opts)?;
    let staging = work.fresh_staging(opts.restore_id)?;
    let total = manifest.stores().map(|(_, artifact)| artifact.size_bytes).sum();
    let progress = StageProgress::new(total, control);
    let mut stores = parallel::each(choices.len(), |number| {
        stage_store(number, &choices[number], source, &staging, &progress)
    })?;
    notes.extend(strangers(&stores, &staging)?);
    let memdir = live.as_ref().and_then(|s| s.memdir.as_ref());
    let now = memdir.and_then(|m| m.repo.as_ref()).map(git::GitRepo::pin).transpose()?;
    let wanted = wanted_git(manifest, now.as_ref());
    if let Some(info) = &wanted {
        stage_git(source, info, &staging, max_git_object_bytes, control)?;
    }
    let files = plan_files(manifest, layout, memdir, opts)?;
    if let Some(memdir) = memdir_for(fs, layout, &files, manifest.git.is_some())? {
        files::stage(&memdir, source, &files.targets, opts.restore_id, control)?;
        refuse_ref_twins(&memdir, wanted.as_ref(), now.as_ref(), opts.restore_id)?;
    }
    let mut state = Vec::new();
    for piece in read_state(source)? {
        let path = state::database(&layout.state, opts.capture.state, piece.kind);
        match stores.iter_mut().find(|t| path.as_ref() == Some(&t.path)) {
            // It comes back with its store; afterwards its rows are the agent's again.
            Some(target) => stage_row(target, &layout.state, &piece, &staging)?,
            None => {
                state::check_place(&layout.state, opts.capture.state, &piece)?;
                state.push(piece);
            }
        }
    }
    Ok(Staged { stores, staging, files, state, notes })
}

/// Refs of now, of then and of ours, which are files side by side while they are set.
fn refuse_ref_twins(
    memdir: &Dir,
    wanted: Option<&GitInfo>,
    now: Option<&PinnedGit>,
    id: SnapshotId,
) -> Result<(), StoresError> {
    let infos = wanted.into_iter().chain(now.map(|now| &now.info));
    let refs = infos.flat_map(|info| &info.refs).map(|r| r.name.as_str());
    files::refuse_ref_twins(memdir, id, refs.chain([git::STASH_REF, git::PRE_RESTORE_REFS]))
}

/// Tries to hold everything until the timeout, and restores under the hold.
fn run(
    source: &dyn ArtifactSource,
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
    staged: &mut Staged,
    keep: Keep<'_>,
    before_commit: BeforeCommit<'_>,
    done: Done<'_>,
) -> Result<Applied, StoresError> {
    let capture = opts.capture;
    let work = Work::new(opts.work);
    let mut backoff = Backoff::new(capture.timeout, capture.control);
    let mut readers_wait = false;
    let (journal, seen, held_for) = loop {
        let targets = staged.stores.clone();
        let started = std::time::Instant::now();
        let staging = staged.staging.clone();
        let mut body = |held: &mut Held<'_>| {
            capture.control.advance(Step::Keep, 0, 0);
            readers_wait = held.exclusive().next().is_some();
            lock_git(layout, opts)?;
            before_commit()?;
            let mut journal = look_until_still(source, layout, opts, staged, held, keep)?;
            journal.stores.clone_from(&staged.stores);
            let wanted: Vec<usize> = existing(&targets);
            let journal_after = journal.clone();
            let mut ready = || {
                capture.control.check().map_err(StoresError::stopped("about to commit"))?;
                capture.control.advance(Step::Commit, 0, 0);
                opts.work.sync_fs()?;
                if !off() {
                    work.write(&journal_after)?;
                }
                create_missing(capture.fs, &targets, &staged.staging).map_err(unfinished)
            };
            let committed = held.commit(capture.fs, &targets, &wanted, &mut ready);
            let committed = committed.map_err(|e| after_journal(&work, e))?;
            Ok((journal, committed))
        };
        match hold_once(&targets, &staging, &mut body) {
            Ok((journal, seen)) => break (journal, seen, started.elapsed()),
            // Under the hold git is asked for its locks before anything else is done.
            Err(Attempt::Busy(e) | Attempt::Failed(e @ StoresError::GitLocked { .. })) => {
                backoff.pause_after(e)?;
            }
            Err(Attempt::Failed(e)) => return Err(after_journal(&work, e)),
        }
    };
    if off() {
        // The journal is the last to go: a death from here on is to be noticed.
        work.drop_journal()?;
    }
    let mut applied = apply_rest(&journal, &staged.staging, opts).map_err(unfinished)?;
    applied.notes.splice(0..0, staged.notes.clone());
    applied.notes.extend(overtaken(&journal, &seen));
    applied.writers_held_us = u64::try_from(held_for.as_micros()).unwrap_or(u64::MAX);
    applied.readers_held_us = if readers_wait { applied.writers_held_us } else { 0 };
    finish(&journal, &applied, opts, done).map_err(unfinished)?;
    Ok(applied)
}

/// Looks until the memdir stood still meanwhile: the stores' writers wait, but a writer that was on
/// its way from them to its files goes on for a moment.
fn look_until_still(
    source: &dyn ArtifactSource,
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
    staged: &mut Staged,
    held: &Held<'_>,
    keep: Keep<'_>,
) -> Result<Journal, StoresError> {
    for _ in 1..MAX_LOOKS {
        match look(source, layout, opts, staged, held, &mut *keep) {
            Err(StoresError::Moved { .. }) => {}
            looked => return looked,
        }
    }
    look(source, layout, opts, staged, held, keep)
}

/// Looks at the present state while it is held: keeps it, and writes down what it is.
fn look(
    source: &dyn ArtifactSource,
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
    staged: &mut Staged,
    held: &Held<'_>,
    keep: Keep<'_>,
) -> Result<Journal, StoresError> {
    let manifest = source.manifest();
    let CaptureOptions { agent, fs, control, .. } = opts.capture;
    let mut journal =
        Journal::new(opts.restore_id, agent.clone(), opts.tenant.clone(), manifest.snapshot_id);
    journal.state_layout = layout.state.clone();
    let mut before = Vec::new();
    let mut now_git = None;
    let live = discover(layout, opts)?;
    refuse_changed(manifest, layout, live.as_ref(), &staged.stores, fs)?;
    if let Some(live) = live {
        let mut pinned = pin_held(held, &staged.stores, live, opts.capture)?;
        if !off() {
            journal.pre_snapshot = keep(&mut pinned)?;
        }
        for (path, digest) in pinned.page_digests()? {
            for target in staged.stores.iter_mut().filter(|t| t.path == path) {
                target.before = digest;
            }
        }
        before = pinned.collect_state()?;
        now_git = pinned.git().cloned();
        let files = plan_files(manifest, layout, pinned.sources().memdir.as_ref(), opts)?;
        if files.targets != staged.files.targets {
            restage(source, layout, opts, &files)?;
            staged.files = files;
        }
        refuse_moved(&pinned, control)?;
    }
    journal.git =
        wanted_git(manifest, now_git.as_ref()).map(|info| git::plan(now_git.as_ref(), &info).1);
    journal.memdir = memdir_for(fs, layout, &staged.files, journal.git.is_some())?
        .map(|dir| dir.path().to_owned());
    journal.files.clone_from(&staged.files.targets);
    control.check().map_err(StoresError::stopped("holding the stores"))?;
    for kind in StateKind::ALL {
        let Some(piece) = staged.state.iter().find(|p| p.kind == kind) else { continue };
        if opts.capture.state.is_some() || state::source(&layout.state, kind).is_some() {
            let before = before.iter().find(|p| p.kind == kind).and_then(|p| p.json.as_deref());
            journal.state.push(StateTarget::new(kind, before, piece.json.as_deref()));
        }
    }
    Ok(journal)
}

/// A store that came or went while the restore was staged is nobody's target, or held by nobody.
fn refuse_changed(
    manifest: &Manifest,
    layout: &MemoryLayout,
    live: Option<&Sources>,
    targets: &[StoreTarget],
    fs: &DurableFs,
) -> Result<(), StoresError> {
    let now = choose(fs, manifest, layout, live)?;
    let is_target = |choice: &StoreChoice| {
        targets.iter().any(|t| t.path == choice.path && t.action == choice.action)
    };
    let changed = now.iter().find(|choice| !is_target(choice));
    match holds(changed.is_none() && now.len() == targets.len()) {
        true => Ok(()),
        false => {
            let path = changed.map_or(&targets[0].path, |choice| &choice.path);
            let why = "the agent's databases changed while the restore was prepared; try again";
            Err(StoresError::refused(path, why))
        }
    }
}

/// Pins what is held: through the exclusive connections, or readers of our own.
pub(crate) fn pin_held<'p>(
    held: &'p Held<'_>,
    targets: &[StoreTarget],
    sources: Sources,
    opts: CaptureOptions<'p>,
) -> Result<Pinned<'p>, StoresError> {
    let started = std::time::Instant::now();
    // A database that holds runtime state alone is no target, and nobody holds its writers yet.
    let free = sources.databases.iter().filter(|d| !held.holds(d.live.path(), targets));
    let gates = Gates::open(&free.map(|d| d.live.clone()).collect::<Vec<_>>())?;
    let mut backoff = Backoff::new(opts.timeout.min(MAX_STATE_WAIT), opts.control);
    while let Err(e) = gates.shut() {
        backoff.pause_after(e)?;
    }
    let mut stores = Vec::new();
    for database in &sources.databases {
        let exclusive = held.exclusive().find(|(path, _)| *path == database.live.path());
        let conn = match exclusive {
            Some((_, conn)) => PinConn::Borrowed(conn),
            None => PinConn::new(open_reader(&database.live)?),
        };
        pin_one(&database.live, &conn.lock())?;
        stores.push(PinnedStore::for_restore(database, conn)?);
    }
    let instant = read_instant(&sources, &opts, None)?;
    Pinned::new(opts, sources, stores, Some(gates), instant, started, started.elapsed())
}

/// After the stores: files, repository, state. May be repeated.
pub(crate) fn apply_rest(
    journal: &Journal,
    staging: &Dir,
    opts: &RestoreOptions<'_>,
) -> Result<Applied, StoresError> {
    let CaptureOptions { fs, state: provider, .. } = opts.capture;
    // Nothing stops here any more: what was begun is finished, whatever the caller wants now.
    let steady = Control::default();
    let mut applied = Applied {
        pre_snapshot: journal.pre_snapshot,
        stores: journal.stores.iter().map(|t| t.store.to_string()).collect(),
        ..Applied::default()
    };
    if let Some(memdir) = &journal.memdir {
        let memdir = fs.open_dir(memdir)?;
        let files = files::apply(&memdir, &journal.files, journal.restore_id)?;
        applied.files = files.counts;
        applied.notes.extend(files.notes);
        if let Some(targets) = &journal.git {
            let staged = staged_git(staging)?;
            // The writers go on already, and lock a ref now and then while they set it.
            let mut backoff = Backoff::new(opts.capture.timeout, &steady);
            while let Err(e) = git::apply(&memdir, &staged, targets, journal.restore_id, &steady) {
                backoff.pause_after(e)?;
            }
            applied.head.clone_from(&targets.after.head_oid);
        }
    }
    for target in &journal.state {
        state::restore(fs, &journal.state_layout, provider, &target.piece())?;
        applied.state.push(target.kind().as_str().to_owned());
    }
    Ok(applied)
}

/// Everything is durable: whoever waits is told, then the journal goes.
pub(crate) fn finish(
    journal: &Journal,
    applied: &Applied,
    opts: &RestoreOptions<'_>,
    done: Done<'_>,
) -> Result<(), StoresError> {
    done(journal.restore_id, applied);
    Work::new(opts.work).finish(journal)?;
    opts.capture.control.advance(Step::Commit, 0, 0);
    Ok(())
}

/// Creates the stores that are not there.
pub(crate) fn create_missing(
    fs: &DurableFs,
    targets: &[StoreTarget],
    staging: &Dir,
) -> Result<(), StoresError> {
    let missing: Vec<_> = targets.iter().filter(|t| t.action == Action::Create).collect();
    // Before they are filled side by side: two of them may need the same folder.
    missing
        .iter()
        .filter_map(|t| t.path.parent())
        .try_for_each(|parent| make_folder(fs, parent))?;
    parallel::each(missing.len(), |number| create(fs, missing[number], staging)).map(|_| ())
}

/// Wraps an error that came after the first live change.
pub(crate) fn unfinished(error: StoresError) -> StoresError {
    match error {
        StoresError::Unfinished { .. } => error,
        source => StoresError::Unfinished { source: Box::new(source) },
    }
}

/// What a reader of the report should know of stores that a writer changed at once.
pub(crate) fn overtaken(journal: &Journal, seen: &[(usize, ReadBack)]) -> Vec<String> {
    let names = seen
        .iter()
        .filter(|(_, read)| *read == ReadBack::Overtaken)
        .map(|(i, _)| &journal.stores[*i].store);
    names
        .map(|name| {
            format!("store {name} was restored; a writer went on before it could be read back")
        })
        .collect()
}

/// Indexes of the targets that exist.
pub(crate) fn existing(targets: &[StoreTarget]) -> Vec<usize> {
    let exists = |(i, t): (usize, &StoreTarget)| (t.action != Action::Create).then_some(i);
    targets.iter().enumerate().filter_map(exists).collect()
}

/// An error is [`StoresError::Unfinished`] once the journal exists.
fn after_journal(work: &Work<'_>, error: StoresError) -> StoresError {
    match work.read() {
        Ok(None) => error,
        _ => unfinished(error),
    }
}

/// The memdir, made where it is missing and the snapshot needs one; none where none is needed.
fn memdir_for(
    fs: &DurableFs,
    layout: &MemoryLayout,
    files: &FilesPlan,
    git: bool,
) -> Result<Option<Dir>, StoresError> {
    let Some(path) = &layout.memdir else { return Ok(None) };
    match fs.open_dir(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if !e.is_not_found() => Err(e.into()),
        Err(_) if files.targets.is_empty() && !git => Ok(None),
        Err(_) => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(StoresError::refused(path, "not the path of a folder"));
            };
            make_folder(fs, parent)?;
            let parent = fs.open_dir(parent)?;
            let above = parent.stat_self()?;
            // Durable with what is staged in it.
            let dir = parent.make_path(name, 0o700)?;
            let meta = Meta { owner: Some((above.uid, above.gid)), ..Meta::default() };
            parent.set_meta(name, meta)?;
            Ok(Some(dir))
        }
    }
}

fn restage(
    source: &dyn ArtifactSource,
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
    files: &FilesPlan,
) -> Result<(), StoresError> {
    let CaptureOptions { fs, control, .. } = opts.capture;
    if let Some(memdir) = memdir_for(fs, layout, files, false)? {
        files::stage(&memdir, source, &files.targets, opts.restore_id, control)?;
    }
    Ok(())
}

/// git's own lock, so that no git command changes index or files from the look on.
fn lock_git(layout: &MemoryLayout, opts: &RestoreOptions<'_>) -> Result<(), StoresError> {
    let Some(memdir) = &layout.memdir else { return Ok(()) };
    match opts.capture.fs.open_dir(memdir) {
        Ok(dir) => git::lock(&dir, opts.restore_id),
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// That nothing in the memdir changed since it was listed for `pinned`: what came in between would
/// be in no snapshot.
fn refuse_moved(pinned: &Pinned<'_>, control: &Control) -> Result<(), StoresError> {
    let Some(memdir) = &pinned.sources().memdir else { return Ok(()) };
    let Memdir { dir, repo, listing, options } = memdir;
    let now = files::list(dir, options, control)?;
    let same = |(a, b): (&ListedEntry, &ListedEntry)| {
        (&a.path, a.stat, &a.kind) == (&b.path, b.stat, &b.kind)
    };
    let files_same = listing.entries.len() == now.entries.len()
        && listing.entries.iter().zip(&now.entries).all(same);
    let refs = repo.as_ref().map(GitRepo::pin).transpose()?;
    match holds(files_same && refs.as_ref() == pinned.git()) {
        true => Ok(()),
        false => Err(StoresError::Moved { path: dir.path().to_owned() }),
    }
}
