//! Every change of every deed refused by the operating system, once and for good: an error that says what and
//! where, no false success, and nothing that a recovery does not clear away.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::{fmt, io};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::ports::DurableFs;
use snapshot_fs::OpKind;
use snapshot_testkit::{FaultHook, Recorded};

use crate::Outcome;
use crate::deed::{Deed, Failure};
use crate::ground::{Ground, Known};
use crate::part::Slice;
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
        let (scene, hook) = (ground.copy()?, Arc::new(self.fault.hook(self.n)));
        let engine = scene.engine(DurableFs::with_hook(hook.clone()))?;
        let done = catch_unwind(AssertUnwindSafe(|| self.known.deed.perform(&scene, &engine)));
        drop(engine);
        scene.bury()?;
        if !hook.fired() {
            return Err(format!("{self} was not reached").into());
        }
        let mut wrong = Vec::new();
        let failed = hook.failed();
        match &done {
            Err(_) => wrong.push("it panicked".to_owned()),
            Ok(Err(failure)) => wrong.extend(self.unclear(failure, &failed)),
            Ok(Ok(())) => {
                let grave = failed.iter().find(|failed| !may_be_ignored(failed));
                wrong
                    .extend(grave.map(|it| format!("said to be done, though it could not {it:?}")));
            }
        }
        let told = matches!(done, Ok(Ok(())));
        match self.known.sides.recovered(&scene, told) {
            Ok((side, _)) if told => tally.count(format!("done all the same, {side:?}")),
            Ok((side, _)) => tally.count(format!("refused, {side:?}")),
            Err(more) => wrong.extend(more),
        }
        if !wrong.is_empty() {
            tally.wrong(number, format!("{self}: {wrong:?}"));
        }
        Ok(())
    }

    /// What an error does not say: what failed, where, and why; or that it is the operating system's.
    fn unclear(&self, failure: &Failure, failed: &[Recorded]) -> Option<String> {
        let said = failure.to_string();
        let why = self.fault.words();
        let is_typed = match failure {
            Failure::Error(e) => match e.kind() {
                ErrorKind::Io => true,
                // Once it is decided.
                ErrorKind::RecoveryPending => self.known.deed == Deed::Restore,
                _ => false,
            },
            Failure::Report(_) => true,
        };
        let is_placed = failed.iter().any(|at| said.contains(&at.path.display().to_string()));
        let clear = is_typed && said.contains("cannot ") && is_placed && said.contains(&why);
        (!clear).then(|| format!("at {:?} the error says only: {said}", failed.first()))
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

/// Whether a deed may be called done though this failed, a sync too: it is not what was asked for, and what is
/// lost with it is found again or cleared away.
fn may_be_ignored(failed: &Recorded) -> bool {
    let within = |folder: &str| failed.path.iter().any(|part| part == folder);
    match failed.kind {
        // That a bundle was read whole, and when: without the note it is read once more. Deeds that are about
        // notes (to pin, to hold) are none of these.
        _ if within("tenants") && within("notes") => true,
        // The folder of the notes was made in it.
        OpKind::SyncDir => failed.path.ends_with("tenants/default"),
        // The next command clears it.
        OpKind::Unlink | OpKind::RemoveDir => within("staging"),
        _ => false,
    }
}
