//! The worker over snapshots that a test made up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use snapshot_core::{
    AgentId, Clock, Control, ErrorKind, PortError, RetentionTickReport, SnapshotId, Tenant,
};
use snapshot_retention::{Candidate, Health, Keeper, RetentionConfig, RetentionWorker, Survey};

use crate::support::{NOW_MS, daily, ids, keeping};

/// Snapshots of agents; some things fail as told.
#[derive(Default)]
struct Shelf {
    agents: Mutex<BTreeMap<String, Vec<Candidate>>>,
    fails: Option<(&'static str, ErrorKind)>,
    bad: Vec<SnapshotId>,
    log: Mutex<Vec<String>>,
}

struct Now;

impl Clock for Now {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }
}

impl Shelf {
    fn of(agents: &[(&str, Vec<Candidate>)]) -> Self {
        let agents = agents.iter().map(|(name, all)| ((*name).to_owned(), all.clone())).collect();
        Self { agents: Mutex::new(agents), ..Self::default() }
    }

    fn left(&self, agent: &str) -> Vec<SnapshotId> {
        self.agents.lock().unwrap()[agent].iter().map(|c| c.id).collect()
    }
}

impl Keeper for Shelf {
    fn agents(&self) -> Result<Vec<(Tenant, AgentId)>, PortError> {
        let names: Vec<_> = self.agents.lock().unwrap().keys().cloned().collect();
        Ok(names.iter().map(|name| (Tenant::default(), name.parse().unwrap())).collect())
    }

    fn survey(&self, _: &Tenant, agent: &AgentId) -> Result<Survey, PortError> {
        match self.fails {
            Some((name, kind)) if name == agent.as_str() => Err(PortError::plain(kind, "as told")),
            _ => {
                let candidates = self.agents.lock().unwrap()[agent.as_str()].clone();
                Ok(Survey { candidates, hold: None })
            }
        }
    }

    fn check(
        &self,
        _: &Tenant,
        _: &AgentId,
        id: SnapshotId,
        _: &Control,
    ) -> Result<Health, PortError> {
        self.log.lock().unwrap().push(format!("check {}", id.short()));
        Ok(match self.bad.contains(&id) {
            true => Health::Bad { why: "torn".to_owned() },
            false => Health::Good { checked_at_ms: NOW_MS },
        })
    }

    fn delete(
        &self,
        _: &Tenant,
        agent: &AgentId,
        id: SnapshotId,
        _: &Control,
    ) -> Result<(), PortError> {
        self.log.lock().unwrap().push(format!("delete {}", id.short()));
        let mut agents = self.agents.lock().unwrap();
        let all = agents.get_mut(agent.as_str()).unwrap();
        let Some(at) = all.iter().position(|c| c.id == id) else {
            return Err(PortError::plain(ErrorKind::UnknownSnapshot, "gone"));
        };
        all.remove(at);
        Ok(())
    }

    fn sweep(&self, _: &Tenant, _: &AgentId) -> Result<u64, PortError> {
        Ok(1)
    }

    fn finished(&self, report: &RetentionTickReport) {
        self.log.lock().unwrap().push(format!("finished {}", report.bundles_deleted));
    }
}

fn worker(shelf: &Arc<Shelf>, keep: u32) -> RetentionWorker {
    let config = RetentionConfig {
        policies: Arc::new(move |_, _| keeping(keep)),
        ..RetentionConfig::default()
    };
    RetentionWorker::new(shelf.clone(), config, Arc::new(Now))
}

/// Would catch: one agent's failure that stops the others, goes unsaid, or is said where somebody
/// merely works on the agent.
#[test]
fn one_failure_does_not_stop_the_rest() {
    for (kind, lines) in [(ErrorKind::Io, 1), (ErrorKind::Concurrent, 0)] {
        let all = [("ana", daily(3)), ("bob", daily(3)), ("cat", daily(3))];
        let shelf = Arc::new(Shelf { fails: Some(("bob", kind)), ..Shelf::of(&all) });
        let report = worker(&shelf, 1).tick(&Control::default());
        assert_eq!((report.agents_visited, report.bundles_deleted), (3, 4));
        assert_eq!(report.orphan_staging_dirs_removed, 3);
        assert_eq!(report.errors, lines, "{report:?}");
        assert!(report.failures.iter().all(|line| line.starts_with("default/bob: as told")));
        assert_eq!((shelf.left("ana"), shelf.left("bob").len()), (ids([0]), 3));
        assert_eq!(shelf.log.lock().unwrap().last().unwrap(), "finished 4");
    }
}

/// Would catch: a deletion before a bundle that stays was read, more reading than is needed, or the
/// newest deleted before the oldest.
#[test]
fn bundles_are_read_until_one_is_good_and_then_the_oldest_goes_first() {
    let unknown = |c: Candidate| Candidate { health: Health::Unknown, ..c };
    let all: Vec<Candidate> = daily(4).into_iter().map(unknown).collect();
    let shelf = Arc::new(Shelf { bad: ids([0]), ..Shelf::of(&[("ana", all)]) });
    let report = worker(&shelf, 1).tick(&Control::default());
    assert_eq!(report.bundles_deleted, 2);
    let log = shelf.log.lock().unwrap().join(", ");
    assert_eq!(log, "check 00000000, check 01010101, delete 03030303, delete 02020202, finished 2");
    assert_eq!(shelf.left("ana"), ids([0, 1]));
}

/// Would catch: a dry run that shows another plan than the run has.
#[test]
fn a_plan_is_what_is_executed() {
    let shelf = Arc::new(Shelf::of(&[("ana", daily(5))]));
    let (worker, control) = (worker(&shelf, 2), Control::default());
    let (tenant, ana) = (Tenant::default(), AgentId::from_static("ana"));
    let plan = worker.plan(&tenant, &ana, &control).unwrap();
    assert_eq!(shelf.left("ana").len(), 5);
    let mut deleted = 0;
    worker.execute(&tenant, &ana, &plan, &mut deleted, &control).unwrap();
    let stays: Vec<_> = plan.entries.iter().filter(|e| e.keep).map(|e| e.id).collect();
    assert_eq!((shelf.left("ana"), deleted), (stays, 3));
}

/// Would catch: a run that fails, and leaves the rest, because another one was quicker.
#[test]
fn what_another_deleted_meanwhile_is_passed_over() {
    let shelf = Arc::new(Shelf::of(&[("ana", daily(5))]));
    let (worker, control) = (worker(&shelf, 2), Control::default());
    let (tenant, ana) = (Tenant::default(), AgentId::from_static("ana"));
    let plan = worker.plan(&tenant, &ana, &control).unwrap();
    let oldest = ids([4])[0];
    shelf.agents.lock().unwrap().get_mut("ana").unwrap().retain(|c| c.id != oldest);
    let mut deleted = 0;
    worker.execute(&tenant, &ana, &plan, &mut deleted, &control).unwrap();
    assert_eq!((shelf.left("ana"), deleted), (ids([0, 1]), 2));
}

/// Would catch: a worker that cannot be stopped.
#[test]
fn a_cancelled_worker_stops() {
    let shelf = Arc::new(Shelf::of(&[("ana", daily(5))]));
    let cancel = Control::default();
    let running = worker(&shelf, 1).spawn(cancel.clone()).unwrap();
    cancel.cancel();
    running.join().unwrap();
    assert_eq!(worker(&shelf, 1).tick(&cancel).agents_visited, 0);
}
