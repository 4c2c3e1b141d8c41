//! Recovery of a restore that was interrupted after its journal was written.
//!
//! Forward without asking only where every store, file, ref and piece of state is as the journal
//! says it was before or will be after. Otherwise somebody has worked since: the present state is
//! kept as a snapshot, nothing is changed, and a person decides.

use snapshot_core::mutants::{holds, off};
use snapshot_core::{MemoryLayout, SnapshotId};
use snapshot_fs::{Dir, DurableFs};

use crate::cut::{CaptureOptions, cut};
use crate::error::StoresError;
use crate::files;
use crate::git::{self, GitProgress};
use crate::restore::commit::{
    Applied, apply_rest, create_missing, finish, overtaken, pin_held, unfinished,
};
use crate::restore::hold::{Attempt, Held, ReadBack, digest_now, hold_once, set_journal_mode};
use crate::restore::journal::{Journal, Work};
use crate::restore::plan::discover;
use crate::restore::stage::staged_git;
use crate::restore::target::{Action, StoreTarget};
use crate::restore::{Done, Keep, RestoreOptions};
use crate::sources::{list_options, stat_file};
use crate::sqlite::{Backoff, Live, page_digest};
use crate::state;

/// What a person decided about a pending recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Finish the restore over what was done since.
    Forward,
    /// Leave everything as it is now and forget the restore.
    Abandon,
}

/// What a recovery found and did.
#[derive(Debug, Clone)]
pub enum Recovered {
    /// There was nothing to recover.
    Nothing,
    /// The restore of `from` was finished.
    RolledForward {
        /// The snapshot.
        from: SnapshotId,
        /// What the restore did in the end.
        applied: Box<Applied>,
    },
    /// Somebody has worked since; a person must decide.
    Pending {
        /// The snapshot that was being restored.
        from: SnapshotId,
        /// The snapshot of the present state.
        pre_recovery: Option<SnapshotId>,
        /// What is neither old nor new.
        why: String,
    },
    /// The restore was forgotten; the present state stays.
    Abandoned {
        /// The snapshot that was being restored.
        from: SnapshotId,
        /// The snapshot of the present state.
        pre_recovery: Option<SnapshotId>,
    },
}

/// What became of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Before,
    After,
    Other,
}

/// One that has all it needs.
struct Recovery<'r> {
    opts: &'r RestoreOptions<'r>,
    work: &'r Work<'r>,
    staging: Dir,
    targets: Vec<StoreTarget>,
    decision: Option<Decision>,
}

impl Recovery<'_> {
    /// Under the hold: how it ends without a change; else it commits the stores that are behind, and says which.
    fn decide_and_commit(
        &self,
        held: &mut Held<'_>,
        journal: &mut Journal,
        keep: Keep<'_>,
    ) -> Result<(Option<Recovered>, Vec<usize>), StoresError> {
        let Self { opts, work, staging, targets, decision } = self;
        let progress = stores_progress(held, targets, opts, staging)?;
        let others = others(journal, targets, &progress, opts)?;
        let abandoned = *decision == Some(Decision::Abandon);
        if !others.is_empty() || abandoned {
            keep_present(journal, targets, held, opts, work, *decision, keep)?;
        }
        let (from, pre_recovery) = (journal.from, journal.pre_recovery);
        if abandoned {
            return Ok((Some(Recovered::Abandoned { from, pre_recovery }), Vec::new()));
        }
        if !others.is_empty() && *decision != Some(Decision::Forward) {
            let why = format!("changed since: {}", others.join(", "));
            return Ok((Some(Recovered::Pending { from, pre_recovery, why }), Vec::new()));
        }
        let is_behind =
            |i: &usize| progress[*i] != Progress::After && targets[*i].action != Action::Create;
        let behind: Vec<usize> = (0..targets.len()).filter(is_behind).collect();
        let fs = opts.capture.fs;
        let mut ready = || create_missing(fs, targets, staging);
        Ok((None, held.commit(fs, targets, &behind, &mut ready)?))
    }

    /// After the stores: all the rest.
    fn finish(
        &self,
        journal: &Journal,
        seen: &[(usize, ReadBack)],
        done: Done<'_>,
    ) -> Result<Recovered, StoresError> {
        // Those that a first try created and did not get to set.
        for target in journal.stores.iter().filter(|t| t.action == Action::Create) {
            let live = Live::new(&target.path).open()?;
            set_journal_mode(self.opts.capture.fs, target, &live)?;
        }
        let mut applied = apply_rest(journal, &self.staging, self.opts)?;
        applied.notes.extend(overtaken(journal, seen));
        finish(journal, &applied, self.opts, done)?;
        Ok(Recovered::RolledForward { from: journal.from, applied: Box::new(applied) })
    }
}

/// Finishes an interrupted restore, or says why it must be decided. The agent's lock is held.
///
/// # Errors
/// If a part cannot be looked at or finished; the journal stays then.
pub fn recover(
    opts: &RestoreOptions<'_>,
    decision: Option<Decision>,
    keep: Keep<'_>,
    done: Done<'_>,
) -> Result<Recovered, StoresError> {
    let work = Work::new(opts.work);
    let Some(mut journal) = work.read()? else { return Ok(Recovered::Nothing) };
    // Whoever wrote it may have died before it was durable, and nothing live may come before it.
    opts.work.sync_fs()?;
    let staging = match lost(&journal, &work, opts, decision)? {
        None => work.staging()?,
        Some(why) => return recover_lost(&mut journal, &work, opts, decision, keep, why),
    };
    let targets = targets_now(&journal, opts.capture.fs)?;
    let recovery = Recovery { opts, work: &work, staging, targets, decision };
    let mut backoff = Backoff::new(opts.capture.timeout, opts.capture.control);
    let (ended, seen) = loop {
        let mut body =
            |held: &mut Held<'_>| recovery.decide_and_commit(held, &mut journal, &mut *keep);
        match hold_once(&recovery.targets, &recovery.staging, &mut body) {
            Ok(ended) => break ended,
            Err(Attempt::Busy(e)) => backoff.pause_after(e)?,
            Err(Attempt::Failed(e)) => return Err(unfinished(e)),
        }
    };
    match ended {
        Some(Recovered::Abandoned { .. }) => abandon(&journal, &work, opts),
        Some(pending) => Ok(pending),
        None => recovery.finish(&journal, &seen, done).map_err(unfinished),
    }
}

/// The snapshot whose restore was interrupted, by the journal in an agent's folder for restores.
///
/// # Errors
/// If there is a journal and it is not one of ours.
pub fn pending(work: &Dir) -> Result<Option<SnapshotId>, StoresError> {
    Ok(Work::new(work).read()?.map(|journal| journal.from))
}

/// The snapshots that an interrupted restore may still need: its own, and those that hold what was
/// there before it and before a recovery.
///
/// # Errors
/// As [`pending`].
pub fn needed(work: &Dir) -> Result<Vec<SnapshotId>, StoresError> {
    let Some(journal) = Work::new(work).read()? else { return Ok(Vec::new()) };
    let kept = [journal.pre_snapshot, journal.pre_recovery];
    Ok(std::iter::once(journal.from).chain(kept.into_iter().flatten()).collect())
}

/// Clears what a restore left that died before it changed anything: what it staged in its work folder and,
/// under its id, in the agent's memory, and git's lock. Only for the holder of the agent's lock, and only
/// while no restore is pending.
///
/// # Errors
/// If something cannot be removed.
pub fn sweep(fs: &DurableFs, layout: &MemoryLayout, work: Option<&Dir>) -> Result<(), StoresError> {
    let Some(work) = work.map(Work::new).filter(|_| !off()) else { return Ok(()) };
    if let (Some(id), Some(memdir)) = (work.staged_by()?, &layout.memdir) {
        match fs.open_dir(memdir) {
            Err(e) if e.is_not_found() => {}
            opened => release(&opened?, id)?,
        }
    }
    // Last, for it says whose the rest is.
    work.clear_staging()
}

/// The journal's targets as they are now: a store that was being created may be there, and one that was there may be
/// gone.
fn targets_now(journal: &Journal, fs: &DurableFs) -> Result<Vec<StoreTarget>, StoresError> {
    let mut targets = journal.stores.clone();
    for target in &mut targets {
        let exists = stat_file(fs, &target.path)?.is_some();
        target.action = match target.action {
            _ if !exists => Action::Create,
            Action::Create => Action::Replace,
            known => known,
        };
    }
    Ok(targets)
}

/// What a restore that has ended, one way or the other, still holds in the memdir.
fn release(memdir: &Dir, id: SnapshotId) -> Result<(), StoresError> {
    files::unstage(memdir, id)?;
    git::unlock(memdir, id)
}

/// The layout that the interrupted restore wrote to, as far as its journal says.
fn layout_of(journal: &Journal) -> MemoryLayout {
    MemoryLayout {
        memdir: journal.memdir.clone(),
        stores: journal
            .stores
            .iter()
            .filter(|t| t.store.auto_path().is_none())
            .map(|t| (t.store.clone(), t.path.clone()))
            .collect(),
        state: journal.state_layout.clone(),
        parts_optional: true,
    }
}

fn stores_progress(
    held: &Held<'_>,
    targets: &[StoreTarget],
    opts: &RestoreOptions<'_>,
    staging: &Dir,
) -> Result<Vec<Progress>, StoresError> {
    let mut progress = Vec::new();
    for target in targets {
        let exclusive = held.exclusive().find(|(path, _)| *path == target.path);
        let now = match exclusive {
            Some((path, conn)) => {
                let pages: u32 = conn
                    .pragma_query_value(None, "page_count", |r| r.get(0))
                    .map_err(StoresError::sqlite("look at", path))?;
                if pages == 0 { None } else { Some(page_digest(conn, path, staging)?) }
            }
            None => digest_now(opts.capture.fs, &target.path, staging)?,
        };
        progress.push(match now {
            now if now == Some(target.after) => Progress::After,
            now if holds(now == target.before) => Progress::Before,
            _ => Progress::Other,
        });
    }
    Ok(progress)
}

/// Everything that is neither as before nor as after.
fn others(
    journal: &Journal,
    targets: &[StoreTarget],
    progress: &[Progress],
    opts: &RestoreOptions<'_>,
) -> Result<Vec<String>, StoresError> {
    let CaptureOptions { fs, control, state: provider, .. } = opts.capture;
    let stores = targets.iter().zip(progress).filter(|(_, p)| **p == Progress::Other);
    let mut others: Vec<String> = stores.map(|(t, _)| format!("store {}", t.store)).collect();
    if let Some(memdir) = &journal.memdir {
        let dir = fs.open_dir(memdir)?;
        let mut ids = Vec::new();
        for target in targets {
            ids.extend(stat_file(fs, &target.path)?.map(|(_, stat)| (stat.dev, stat.ino)));
        }
        let options = list_options(memdir, &layout_of(journal), ids.into_iter())?;
        let live = files::live_state(&dir, &options, control)?;
        others.extend(
            files::progress(&live, &journal.files)
                .other
                .into_iter()
                .map(|path| format!("memory file {path}")),
        );
        if let Some(targets) = &journal.git
            && !holds(git::progress(memdir, targets)? != GitProgress::Other)
        {
            others.push("the git repository".to_owned());
        }
    }
    for target in &journal.state {
        let now = state::read_now(fs, &journal.state_layout, provider, target.kind())?;
        if !holds(target.knows(now.as_deref())) {
            others.push(format!("state {}", target.kind().as_str()));
        }
    }
    Ok(others)
}

/// What a recovery needs and does not find, if anything: it can only be given up then.
fn lost(
    journal: &Journal,
    work: &Work<'_>,
    opts: &RestoreOptions<'_>,
    decision: Option<Decision>,
) -> Result<Option<String>, StoresError> {
    if off() {
        return Ok(None);
    }
    let memdir = match &journal.memdir {
        None => None,
        Some(memdir) => match opts.capture.fs.open_dir(memdir) {
            Err(e) if e.is_not_found() => {
                return Ok(Some(format!("the memdir {} is gone", memdir.display())));
            }
            opened => Some(opened?),
        },
    };
    // Where nobody has decided, what changed since is told, all of it.
    if let Some(memdir) = memdir.filter(|_| decision == Some(Decision::Forward))
        && let Some(path) = files::irretrievable(&memdir, &journal.files, journal.restore_id)?
    {
        return Ok(Some(format!("memory file {path} changed, and nothing is staged for it")));
    }
    let staging = match work.staging() {
        Err(StoresError::Fs(e)) if e.is_not_found() => {
            return Ok(Some("what was staged is gone".to_owned()));
        }
        opened => opened?,
    };
    for target in &journal.stores {
        if staging.stat(&target.staged)?.is_none_or(|stat| stat.size == 0) {
            return Ok(Some(format!("the staged copy of store {} is gone", target.store)));
        }
    }
    if journal.git.is_some() && staged_git(&staging).is_err() {
        return Ok(Some("the staged git history is gone".to_owned()));
    }
    Ok(None)
}

/// A recovery that cannot go forward: the present state is kept, nothing is changed.
fn recover_lost(
    journal: &mut Journal,
    work: &Work<'_>,
    opts: &RestoreOptions<'_>,
    decision: Option<Decision>,
    keep: Keep<'_>,
    lost: String,
) -> Result<Recovered, StoresError> {
    let from = journal.from;
    if decision == Some(Decision::Forward) {
        let why = format!("{lost}, so it cannot go forward; abandon it and restore anew");
        return Err(StoresError::RecoveryPending { from: from.to_string(), why });
    }
    if journal.pre_recovery.is_none() && !off() {
        match cut(&layout_of(journal), &opts.capture) {
            Ok(mut pinned) => {
                journal.pre_recovery = keep(&mut pinned)?;
                drop(pinned);
                work.write(journal)?;
            }
            Err(StoresError::UnknownAgent { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    match decision {
        Some(_) => abandon(journal, work, opts),
        None => Ok(Recovered::Pending { from, pre_recovery: journal.pre_recovery, why: lost }),
    }
}

/// Forgets the restore: its journal first, for what is left without one is swept, but a journal
/// without its staged files could never be finished.
fn abandon(
    journal: &Journal,
    work: &Work<'_>,
    opts: &RestoreOptions<'_>,
) -> Result<Recovered, StoresError> {
    work.drop_journal()?;
    let memdir = journal.memdir.as_ref().map(|path| opts.capture.fs.open_dir(path));
    match memdir.transpose() {
        Err(e) if !e.is_not_found() => return Err(e.into()),
        Ok(Some(memdir)) => release(&memdir, journal.restore_id)?,
        _ => {}
    }
    work.clear_staging()?;
    Ok(Recovered::Abandoned { from: journal.from, pre_recovery: journal.pre_recovery })
}

/// Keeps the present state as a snapshot and notes it in the journal: once while nothing is decided,
/// and again before it is written over.
fn keep_present(
    journal: &mut Journal,
    targets: &[StoreTarget],
    held: &Held<'_>,
    opts: &RestoreOptions<'_>,
    work: &Work<'_>,
    decision: Option<Decision>,
    keep: Keep<'_>,
) -> Result<(), StoresError> {
    // What goes forward goes over what was done since it was kept, too.
    if off() || (journal.pre_recovery.is_some() && decision != Some(Decision::Forward)) {
        return Ok(());
    }
    if let Some(live) = discover(&layout_of(journal), opts)? {
        let mut pinned = pin_held(held, targets, live, opts.capture)?;
        journal.pre_recovery = keep(&mut pinned)?;
        work.write(journal)?;
    }
    Ok(())
}
