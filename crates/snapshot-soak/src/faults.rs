//! Every change of every deed refused by the operating system, once and for good: an error that says what and
//! where, no false success, and nothing that a recovery does not clear away.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::{fmt, io};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::ports::DurableFs;
use snapshot_fs::{Hook, Op, OpKind};
use snapshot_testkit::{FaultHook, Recorded};

use crate::Outcome;
use crate::deed::{Deed, Failure};
use crate::ground::{Ground, Known};
use crate::judge::Side;
use crate::part::Slice;
use crate::scene::{Scene, ana};
use crate::tally::Tally;

/// What the operating system says, with its numbers on Linux.
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EDQUOT: i32 = 122;
const EMFILE: i32 = 24;

/// What goes wrong at a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This error, once.
    Once(i32),
    /// This error, at all later ones too.
    ForGood(i32),
    /// Half of a write, then a full disk once.
    Short,
}

/// A deed, the number of its change, and what goes wrong there.
#[derive(Debug)]
pub struct Case<'a> {
    known: &'a Known,
    n: u64,
    fault: Fault,
}

/// The hook of a fault, and what failed first in each thread, up to the first that may not be ignored: one of these is
/// what an error has to tell. What fails later is cleaning up.
struct Watched {
    hook: FaultHook,
    /// The change right before the fault.
    before: Option<Recorded>,
    first: Mutex<HashMap<ThreadId, Vec<Recorded>>>,
}

/// The part "faults": each change with each fault.
///
/// # Errors
/// If a case could not be run.
pub fn faults(slice: &Slice) -> Outcome<Tally> {
    let ground = Ground::lay(&slice.dir)?;
    let cases = cases(&ground);
    slice.run(cases.len() as u64, |number, tally| {
        cases[usize::try_from(number)?].run(&ground, number, tally)
    })
}

/// All cases, change after change.
#[must_use]
pub fn cases(ground: &Ground) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for point in 0..ground.points() {
        let (known, n) = ground.point(point);
        let kind = known.changes[usize::try_from(n).unwrap_or_default()].kind;
        let mut faults = vec![];
        for errno in [ENOSPC, EIO, EDQUOT] {
            faults.extend([Fault::Once(errno), Fault::ForGood(errno)]);
        }
        match kind {
            OpKind::Create | OpKind::CreateDir => {
                faults.extend([Fault::Once(EMFILE), Fault::ForGood(EMFILE)]);
            }
            OpKind::Write => faults.push(Fault::Short),
            _ => {}
        }
        cases.extend(faults.into_iter().map(|fault| Case { known, n, fault }));
    }
    cases
}

impl Case<'_> {
    /// Runs it on a copy of the scene.
    ///
    /// # Errors
    /// If it could not be run.
    pub fn run(&self, ground: &Ground, number: u64, tally: &mut Tally) -> Outcome<()> {
        let (scene, hook) = (ground.copy()?, Arc::new(self.watched()));
        let engine = scene.engine(DurableFs::with_hook(hook.clone()))?;
        let done = catch_unwind(AssertUnwindSafe(|| self.known.deed.perform(&scene, &engine)));
        drop(engine);
        scene.bury()?;
        if !hook.hook.fired() {
            return Err(format!("{self} was not reached").into());
        }
        let (first, mut wrong) = (hook.first(), Vec::new());
        match &done {
            Err(_) => wrong.push("it panicked".to_owned()),
            Ok(Err(failure)) => wrong.extend(self.unclear(failure, &first)),
            Ok(Ok(())) => {
                let grave = first.iter().find(|failed| !hook.ignores(failed));
                wrong
                    .extend(grave.map(|it| format!("said to be done, though it could not {it:?}")));
            }
        }
        let told = matches!(done, Ok(Ok(())));
        let decided = is_decided(&scene);
        match self.known.sides.recovered(&scene, told) {
            Ok((side, _)) if told => tally.count(format!("done all the same, {side:?}")),
            Ok((side, _)) => {
                tally.count(format!("refused, {side:?}"));
                if let Ok(Err(failure)) = &done {
                    wrong.extend(self.misplaced(failure, decided, side));
                }
            }
            Err(more) => wrong.extend(more),
        }
        if !wrong.is_empty() {
            tally.wrong(number, format!("{self}: {wrong:?}"));
        }
        Ok(())
    }

    fn watched(&self) -> Watched {
        let before = self.n.checked_sub(1).and_then(|n| usize::try_from(n).ok());
        let before = before.map(|n| self.known.changes[n].clone());
        Watched { hook: self.fault.hook(self.n), before, first: Mutex::default() }
    }

    /// What an error does not say: what failed, where, and why; or that it is the operating system's.
    fn unclear(&self, failure: &Failure, first: &[Recorded]) -> Option<String> {
        let said = failure.to_string();
        let is_typed = match failure {
            Failure::Error(e) => matches!(e.kind(), ErrorKind::Io | ErrorKind::RecoveryPending),
            Failure::Report(_) => true,
        };
        let is_told = |at: &Recorded| {
            let path = at.path.display();
            verbs(at.kind).iter().any(|verb| said.contains(&format!("cannot {verb} {path}")))
        };
        let clear = is_typed && first.iter().any(is_told) && said.contains(&self.fault.words());
        (!clear).then(|| format!("where {first:?} failed first the error says only: {said}"))
    }

    /// An error of a restore that does not say whether it is decided: if it is, it goes on by itself, and only then
    /// anything has changed. Nothing else is ever pending.
    fn misplaced(&self, failure: &Failure, decided: bool, side: Side) -> Option<String> {
        let is_pending =
            matches!(failure, Failure::Error(e) if e.kind() == ErrorKind::RecoveryPending);
        let goes_on = self.known.deed == Deed::Restore && (decided || side == Side::After);
        let wrong = is_pending != goes_on;
        wrong.then(|| format!("decided: {decided}, afterwards {side:?}, and it says: {failure}"))
    }
}

impl Watched {
    fn first(&self) -> Vec<Recorded> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.values().flatten().cloned().collect()
    }

    fn ignores(&self, failed: &Recorded) -> bool {
        may_be_ignored(failed, self.before.as_ref())
    }
}

impl Hook for Watched {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let done = self.hook.before(op);
        if done.is_err() {
            let failed = Recorded { kind: op.kind, path: op.path.to_owned(), bytes: op.data.len() };
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            let of_thread = first.entry(std::thread::current().id()).or_default();
            if of_thread.last().is_none_or(|before| self.ignores(before)) {
                of_thread.push(failed);
            }
        }
        done
    }

    fn takes(&self, op: &Op<'_>) -> usize {
        self.hook.takes(op)
    }
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deed, n, fault) = (self.known.deed, self.n, self.fault);
        write!(f, "{deed} at {n}, {fault:?}")
    }
}

impl Fault {
    fn hook(self, n: u64) -> FaultHook {
        match self {
            Self::Once(errno) => FaultHook::failing_at(n, errno),
            Self::ForGood(errno) => FaultHook::failing_from(n, errno),
            Self::Short => FaultHook::short_at(n),
        }
    }

    /// The system's words for it.
    fn words(self) -> String {
        let errno = match self {
            Self::Once(errno) | Self::ForGood(errno) => errno,
            Self::Short => ENOSPC,
        };
        io::Error::from_raw_os_error(errno).to_string()
    }
}

/// Whether a restore got as far as its journal, from where it only goes forward.
fn is_decided(scene: &Scene) -> bool {
    let restores = scene.vault().join("tenants/default/restore").join(ana().as_str());
    restores.join("journal.json").exists()
}

/// As an error calls a change that it could not make.
fn verbs(kind: OpKind) -> Vec<&'static str> {
    match kind {
        OpKind::CreateDir => vec!["make the folder"],
        OpKind::Create => vec!["create", "append to"],
        OpKind::Write => vec!["write"],
        OpKind::SyncFile => vec!["sync"],
        OpKind::SyncDir => vec!["sync the folder"],
        OpKind::SyncFs => vec!["sync the file system of"],
        OpKind::Rename => vec!["rename to"],
        OpKind::Link => vec!["link to"],
        OpKind::Unlink => vec!["unlink"],
        OpKind::RemoveDir => vec!["remove the folder"],
        OpKind::Symlink => vec!["make the link"],
        OpKind::SetMeta => vec!["set the attributes of"],
        OpKind::External(what) => vec![what],
    }
}

/// Whether a deed may be called done though this failed, a sync too: it is not what was asked for, and what is
/// lost with it is found again or cleared away. `before` is the change right before the fault.
fn may_be_ignored(failed: &Recorded, before: Option<&Recorded>) -> bool {
    let within = |folder: &str| failed.path.iter().any(|part| part == folder);
    match failed.kind {
        // That a bundle was read whole, and when: without the note it is read once more. Deeds that are about
        // notes (to pin, to hold) are none of these.
        _ if within("tenants") && within("notes") => true,
        // The folder of the notes was made in it.
        OpKind::SyncDir if failed.path.ends_with("tenants/default") => before.is_some_and(|made| {
            made.kind == OpKind::CreateDir && made.path.ends_with("tenants/default/notes")
        }),
        // The next command clears it.
        OpKind::Unlink | OpKind::RemoveDir => within("staging"),
        _ => false,
    }
}
