//! Death at every change of every deed, then the agent works on, then the next command: nothing of the work is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError, error_chain};
use nexo_memory_snapshot::id::{SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::{Decision, Engine, RecoveryOutcome};
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::{RestoreRequest, SnapshotRef, SnapshotRequest};
use snapshot_testkit::Agent;
use snapshot_testkit::compare::{Database, Memory, Node};

use crate::Outcome;
use crate::ground::{Ground, Known};
use crate::part::Slice;
use crate::scene::{Scene, ana};
use crate::tally::Tally;

/// How many next commands there are: so many cases has each death.
pub const NEXT: u64 = Next::ALL.len() as u64;
/// The store that the agent works on: it makes a table, and changes a row that a restore puts back.
const STORE: &str = "vector";
const SQL: &str = "CREATE TABLE new_work(x); INSERT INTO new_work VALUES (1);
                   UPDATE embeddings SET model = 'after the crash' WHERE id = 1;";
/// The file that it makes, and one that a restore puts back.
const FILE: &str = "new-work.md";
const EDITED: &str = "MEMORY.md";
/// The branch that it makes; the one that HEAD is on moves too.
const BRANCH: &str = "refs/heads/new-work";
/// Ids of snapshots that are taken after the crash begin here: those of the dead engine are given.
const LATER_ID: u64 = 200;

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Recover,
    Snapshot,
    Restore,
    Doctor,
}

/// What the agent did after a crash, as it is in its memory then.
#[derive(Debug)]
struct Work {
    store: Database,
    files: BTreeMap<Vec<u8>, Node>,
    refs: BTreeMap<String, String>,
}

/// The part "crash work": each death with each next command.
///
/// # Errors
/// If a case could not be run.
pub fn work(slice: &Slice) -> Outcome<Tally> {
    let ground = Ground::lay(&slice.dir)?;
    slice.run(cases(&ground), |case, tally| work_case(&ground, case, tally))
}

/// How many cases there are.
#[must_use]
pub fn cases(ground: &Ground) -> u64 {
    ground.points() * NEXT
}

/// Dies at a change, works, goes on; where somebody has to decide, decides, one way in half of the cases.
///
/// # Errors
/// If it could not be run.
pub fn work_case(ground: &Ground, case: u64, tally: &mut Tally) -> Outcome<()> {
    let next = Next::ALL[usize::try_from(case % NEXT)?];
    let ((known, n), scene) = (ground.point(case / NEXT), ground.copy()?);
    known.die_at(&scene, n)?;
    // A file that was put back before the death and is edited after it is staged no more: no going forward then.
    let files = if n % 4 < 2 { &[FILE, EDITED][..] } else { &[FILE] };
    let work = Work::by(&scene.agent(), files)?;
    let decision = match n % 2 {
        0 => Decision::Forward,
        _ => Decision::Abandon,
    };
    match go_on(known, &scene, &work, next, decision) {
        Ok(what) => tally.count(what),
        Err(e) => tally.wrong(
            case,
            format!("{} dies at {n}, then {next:?}, then {decision:?}: {e}", known.deed),
        ),
    }
    Ok(())
}

fn go_on(
    known: &Known,
    scene: &Scene,
    work: &Work,
    next: Next,
    decision: Decision,
) -> Outcome<&'static str> {
    let (engine, control) = (scene.later_engine(LATER_ID)?, Control::default());
    let pending = next.perform(&engine)?;
    work.must_be_somewhere(scene, &engine)?;
    if pending {
        let decide = |decision| {
            let decided = engine.recover(&Tenant::default(), &ana(), Some(decision), &control);
            decided.map(|recovery| recovery.outcome)
        };
        let (decision, outcome) = match decide(decision) {
            // It edited what had been put back already, and is staged no more: nothing is done, and it can be given up.
            Err(e) if e.kind() == ErrorKind::RecoveryPending => {
                (Decision::Abandon, decide(Decision::Abandon))
            }
            outcome => (decision, outcome),
        };
        let outcome = outcome.map_err(|e| error_chain(&e))?;
        work.must_be_somewhere(scene, &engine)?;
        work.must_be_decided(known, scene, decision, &outcome)?;
    }
    if let RecoveryOutcome::Pending { why, .. } = scene.recover()? {
        return Err(format!("it is to be decided again: {why}").into());
    }
    work.must_be_somewhere(scene, &engine)?;
    let now = scene.look()?;
    let stay = known.sides.after.snapshots.keys();
    let mut stay = stay.filter(|id| known.sides.before.snapshots.contains_key(id));
    if let Some(lost) = stay.find(|id| !now.snapshots.contains_key(id)) {
        return Err(format!("snapshot {lost} is lost").into());
    }
    Ok(match (pending, work.is_live(&scene.agent())?) {
        (true, true) => "decided, the work is live",
        (true, false) => "decided, the work is kept",
        (false, true) => "went on, the work is live",
        (false, false) => "went on, the work is kept",
    })
}

impl Next {
    const ALL: [Self; 4] = [Self::Recover, Self::Snapshot, Self::Restore, Self::Doctor];

    /// Does it; whether somebody has to decide.
    fn perform(self, engine: &Engine) -> Outcome<bool> {
        let (tenant, control) = (Tenant::default(), Control::default());
        Ok(match self {
            Self::Recover => !engine.recover_all(&control)?.is_empty(),
            Self::Snapshot => {
                let req = SnapshotRequest::cli(ana(), tenant);
                pends(engine.snapshot(&req, &control))?
            }
            Self::Restore => {
                let newest = SnapshotRef::Id(Scene::newest());
                let req = RestoreRequest::new(ana(), tenant, newest);
                pends(engine.plan_restore(&req, &control).and_then(|plan| plan.apply(&control)))?
            }
            Self::Doctor => {
                engine.doctor(&tenant, Some(&ana()), true, &control)?;
                !engine.recover_all(&control)?.is_empty()
            }
        })
    }
}

impl Work {
    /// Rows, files and a commit, some new and some in place of what was there. What the dead process locked in git
    /// stays locked, so that the commit may have to do without the index.
    fn by(agent: &Agent, edited: &[&str]) -> Outcome<Self> {
        agent.connect(STORE)?.execute_batch(SQL)?;
        for file in edited {
            fs::write(agent.memdir().join(file), "written after the crash\n")?;
        }
        let git = agent.git();
        let (tree, message) = ("HEAD^{tree}", "after the crash");
        let commit = git.run(&["commit-tree", "-p", "HEAD", "-m", message, tree])?;
        for name in [BRANCH, "HEAD"] {
            git.run(&["update-ref", name, &commit])?;
        }
        let Memory { mut stores, mut files, mut refs, .. } = Memory::read(&agent.layout())?;
        let store = stores.remove(STORE).ok_or("the store is gone")?;
        files.retain(|path, _| edited.iter().any(|file| file.as_bytes() == path));
        refs.retain(|name, target| name == "HEAD" || *target == commit);
        Ok(Self { store, files, refs })
    }

    /// All of it is in the live memory, or all of it is in one snapshot.
    fn must_be_somewhere(&self, scene: &Scene, engine: &Engine) -> Outcome<()> {
        if self.is_live(&scene.agent())? {
            return Ok(());
        }
        let listing = engine.list(&Tenant::default(), Some(&ana()))?;
        let mut without = BTreeSet::<SnapshotId>::new();
        for meta in &listing.snapshots {
            if self.is_in(&*scene.content(engine, meta)?) {
                return Ok(());
            }
            without.insert(meta.id);
        }
        Err(format!("the work is neither live nor in one of {without:?}").into())
    }

    /// What was decided is so: the restore is finished, or the work is where it was. A finished restore leaves a
    /// file that nobody planned to remove, for it may be newer than what was kept.
    fn must_be_decided(
        &self,
        known: &Known,
        scene: &Scene,
        decision: Decision,
        outcome: &RecoveryOutcome,
    ) -> Outcome<()> {
        let now = Memory::read(&scene.agent().layout())?;
        let mut differences = known.sides.after.memory.differences_after_restore(&now);
        differences.retain(|line| *line != format!("file {FILE} is missing on the left"));
        match (decision, outcome) {
            (Decision::Forward, RecoveryOutcome::RolledForward { .. })
                if differences.is_empty() =>
            {
                Ok(())
            }
            (Decision::Abandon, RecoveryOutcome::Abandoned { .. })
                if self.is_live(&scene.agent())? =>
            {
                Ok(())
            }
            _ => Err(format!("{outcome:?}, and the memory: {differences:?}").into()),
        }
    }

    fn is_live(&self, agent: &Agent) -> Outcome<bool> {
        Ok(self.is_in(&Memory::read(&agent.layout())?))
    }

    fn is_in(&self, memory: &Memory) -> bool {
        let has_file = |(path, node)| memory.files.get(path) == Some(node);
        let has_ref = |(name, target)| memory.refs.get(name) == Some(target);
        memory.stores.get(STORE) == Some(&self.store)
            && self.files.iter().all(has_file)
            && self.refs.iter().all(has_ref)
    }
}

/// Whether it was refused since somebody has to decide.
fn pends<T>(done: Result<T, SnapshotError>) -> Outcome<bool> {
    match done {
        Ok(_) => Ok(false),
        Err(e) if e.kind() == ErrorKind::RecoveryPending => Ok(true),
        Err(e) => Err(error_chain(&e).into()),
    }
}
