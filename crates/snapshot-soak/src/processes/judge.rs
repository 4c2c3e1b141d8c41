//! What must be true after a race.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nexo_memory_snapshot::error::error_chain;
use nexo_memory_snapshot::id::SnapshotId;
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::SnapshotRef;
use rusqlite::Connection;
use serde_json::Value;
use snapshot_testkit::compare::Memory;

use crate::Outcome;
use crate::processes::plan::Verb;
use crate::processes::race::{End, Ended, command};
use crate::processes::world::{AGENTS, KEPT, STATES, World, old_snapshot};
use crate::scene::{put_aside, refuse_strays};
use crate::tally::Tally;

/// The live state, of which the world makes no snapshot.
const LIVE: usize = STATES - 1;

/// Snapshots, and when each was made: see [`moment`].
type Snapshots = BTreeMap<SnapshotId, i64>;

/// What the processes of a race said of one agent's snapshots.
#[derive(Debug, Default)]
struct Told {
    /// Reported as made.
    made: Snapshots,
    /// Reported as deleted.
    deleted: Snapshots,
    /// Which may have been deleted by a process that could not report.
    may_be_gone: Snapshots,
    /// Deletes that could not report, and of which it is not known what they meant.
    killed_deletes: usize,
    /// A prune could not report what it would do.
    pruned: bool,
    /// The restores of the agent, those with their report that had one.
    restores: Vec<Option<SnapshotId>>,
}

/// A race and the verdict on it.
struct Judge<'a> {
    program: &'a Path,
    world: &'a World,
    engine: Engine,
    told: Vec<Told>,
    wrong: Vec<String>,
}

/// What is wrong after a race.
pub(super) fn judge(
    program: &Path,
    world: &World,
    ended: &[Ended],
    tally: &mut Tally,
) -> Outcome<Vec<String>> {
    let told = AGENTS.iter().map(|_| Told::default()).collect();
    let mut judge = Judge { program, world, engine: world.engine()?, told, wrong: Vec::new() };
    for process in ended {
        tally.count("processes");
        judge.ending(process, tally);
        judge.listen(process);
    }
    judge.doctor()?;
    let mut listed = Vec::new();
    for agent in 0..AGENTS.len() {
        listed.extend(judge.snapshots(agent, tally)?);
        judge.memory(agent)?;
    }
    for process in ended {
        judge.export(process);
    }
    for memories in world.memories() {
        if let Err(e) = refuse_strays(&world.vault(), &memories, &listed) {
            judge.wrong.push(e.to_string());
        }
    }
    Ok(judge.wrong)
}

impl Told {
    /// Whether who could not report may have deleted what is lost, where this is there. A delete takes any one; a prune
    /// leaves the newest, of which only deletes take more, and takes the oldest first. What a restore needs it
    /// passes over.
    fn excuses(&self, lost: &Snapshots, there: &Snapshots) -> bool {
        let mut newest_first: Vec<_> = lost.iter().map(|(id, at)| (at, id)).collect();
        newest_first.sort_by_key(|made| Reverse(*made));
        let known = || there.iter().chain(&self.deleted).chain(&self.may_be_gone);
        let mut by_deletes = 0;
        for made in newest_first {
            let newer = known().filter(|(id, at)| (*at, *id) > made).map(|(id, _)| id);
            let newer = newer.collect::<BTreeSet<_>>().len() + by_deletes;
            let oldest = there.iter().all(|(id, at)| (at, id) > made) || !self.restores.is_empty();
            if !(self.pruned && oldest && newer >= KEPT) {
                by_deletes += 1;
            }
        }
        by_deletes <= self.killed_deletes
    }
}

impl Judge<'_> {
    /// How a process may end: as its verb is documented, and as somebody else at work may make it.
    fn ending(&mut self, process: &Ended, tally: &mut Tally) {
        let verb = process.act.verb;
        if process.stderr.contains("panicked") {
            self.wrong.push(format!("panicked: {process}: {}", process.stderr));
        }
        let status = match process.end {
            End::Itself(status) => status,
            End::Killed => return tally.count(format!("{} killed", verb.as_str())),
            End::Hung => return self.wrong.push(format!("hung: {process}")),
        };
        if !process.overrun.is_zero() {
            let us = u64::try_from(process.overrun.as_micros()).unwrap_or(u64::MAX);
            tally.time("longer than locks are waited for", us);
        }
        if status.success() && process.json.is_null() {
            self.wrong.push(format!("done, and it printed no document: {process}"));
        }
        let kind = process.json["error"]["kind"].as_str().unwrap_or("-");
        let busy = ["busy", "concurrent"].contains(&kind);
        let expected = match (status.code(), verb) {
            (Some(0), _) => true,
            (Some(3), Verb::Restore | Verb::Delete | Verb::Export) => kind == "unknown_snapshot",
            (Some(5), Verb::Snapshot | Verb::Restore | Verb::Delete | Verb::Export) => busy,
            (Some(5), Verb::Doctor) => busy,
            (Some(5), Verb::Prune) => true,
            (Some(6), Verb::Delete) => kind == "refused",
            // It tells of what somebody at work has not finished.
            (Some(11), Verb::Doctor) => kind == "-",
            _ => false,
        };
        tally.count(format!("{} {}", verb.as_str(), status.code().unwrap_or(-1)));
        if !expected {
            let (json, stderr) = (&process.json, &process.stderr);
            self.wrong.push(format!("unexpected: {process}: {json} {stderr}"));
        }
    }

    /// What a process says that it did, and what it may have done where it says nothing.
    fn listen(&mut self, process: &Ended) {
        let (act, json) = (&process.act, &process.json);
        let done = process.end.is_success();
        let told = &mut self.told[act.agent];
        match act.verb {
            Verb::Snapshot if done => told.made.extend(snapshot(act.agent, json)),
            Verb::Restore => {
                let kept = id_of(&json["pre_snapshot"]);
                told.made.extend(kept.map(|id| (id, moment(act.agent, id, None))));
                told.restores.push(id_of(&json["from"]).filter(|_| done));
            }
            Verb::Delete if done => {
                told.deleted.extend(snapshot(act.agent, &json["deleted"]));
            }
            Verb::Delete if matches!(process.end, End::Killed) => match act.snapshot.parse() {
                Ok(id) => _ = told.may_be_gone.insert(id, moment(act.agent, id, None)),
                Err(_) => told.killed_deletes += 1,
            },
            Verb::Prune => self.listen_to_prune(process),
            _ => {}
        }
    }

    fn listen_to_prune(&mut self, process: &Ended) {
        let tenant = AGENTS[process.act.agent].tenant;
        let agents = process.json["agents"].as_array();
        for (agent, who) in AGENTS.iter().enumerate().filter(|(_, who)| who.tenant == tenant) {
            let mut documents = agents.into_iter().flatten();
            let plan = documents.find(|document| document["agent_id"] == who.id);
            let told = &mut self.told[agent];
            match plan.and_then(|document| document["plan"]["entries"].as_array()) {
                Some(entries) => {
                    let dropped = entries.iter().filter(|entry| entry["keep"] == false);
                    told.may_be_gone.extend(dropped.filter_map(|entry| snapshot(agent, entry)));
                }
                // Killed, or an error on the way.
                None => told.pruned = true,
            }
        }
    }

    /// The doctor mends all that is left, and then finds nothing.
    fn doctor(&mut self) -> Outcome<()> {
        for tenant in [AGENTS[0].tenant(), AGENTS[2].tenant()] {
            let mut doctor = command(self.program, self.world, tenant.as_str());
            let output = doctor.args(["doctor", "--fix"]).output()?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout);
                self.wrong.push(format!("the doctor leaves something: {}: {said}", output.status));
            }
            let left = self.engine.doctor(&tenant, None, false, &Control::default())?.findings;
            if !left.is_empty() {
                self.wrong.push(format!("the doctor did not mend: {left:?}"));
            }
        }
        Ok(())
    }

    /// What is listed of an agent is whole and of a state that was; what was made is there, unless it was deleted.
    fn snapshots(&mut self, agent: usize, tally: &mut Tally) -> Outcome<Vec<SnapshotId>> {
        let who = AGENTS[agent];
        let listing = self.engine.list(&who.tenant(), Some(&who.agent()))?;
        for problem in &listing.problems {
            self.wrong.push(format!("{}: {problem:?}", who.id));
        }
        let ids: Vec<SnapshotId> = listing.snapshots.iter().map(|meta| meta.id).collect();
        tally.add("snapshots judged", ids.len() as u64);
        if ids.is_empty() {
            self.wrong.push(format!("{} has no snapshot any more", who.id));
        }
        let told = &self.told[agent];
        let made =
            |meta: &SnapshotMeta| (meta.id, moment(agent, meta.id, Some(meta.created_at_ms)));
        let there: Snapshots = listing.snapshots.iter().map(made).collect();
        let old = (0..LIVE).map(|state| old_snapshot(agent, state));
        let mut lost: Snapshots = old.map(|id| (id, moment(agent, id, None))).collect();
        lost.extend(&told.made);
        lost.retain(|id, _| {
            ![&there, &told.deleted, &told.may_be_gone].iter().any(|known| known.contains_key(id))
        });
        match told.excuses(&lost, &there) {
            true => tally.add("may have been deleted by who could not tell", lost.len() as u64),
            false => self.wrong.push(format!(
                "snapshots {lost:?} of {} are lost, where {there:?} are there: {told:?}",
                who.id
            )),
        }
        for id in told.deleted.keys().filter(|id| there.contains_key(id)) {
            self.wrong.push(format!("snapshot {id} of {} was deleted, and is back", who.id));
        }
        for meta in &listing.snapshots {
            if let Err(e) = self.content(agent, meta) {
                self.wrong.push(format!("snapshot {} of {}: {e}", meta.id, who.id));
            }
        }
        Ok(ids)
    }

    /// A snapshot is whole, and what it brings back is one of the states in which the agent may have been.
    fn content(&self, agent: usize, meta: &SnapshotMeta) -> Outcome<()> {
        let control = Control::default();
        let report = self.engine.verify(meta, &control).map_err(|e| error_chain(&e))?;
        if !report.is_good() {
            return Err(format!("{report:?}").into());
        }
        // What was there before the race has its digest.
        if let Some(state) = old_state(agent, meta.id) {
            return self.same_state(state, self.look_into(agent, meta)?);
        }
        let state = self.look_into(agent, meta)?;
        match self.told[agent].restores.is_empty() {
            true => self.same_state(LIVE, state),
            false => Ok(()),
        }
    }

    fn same_state(&self, expected: usize, found: usize) -> Outcome<()> {
        match expected == found {
            true => Ok(()),
            false => Err(format!("state {found} instead of {expected}").into()),
        }
    }

    /// The state that a snapshot brings back into an empty folder.
    fn look_into(&self, agent: usize, meta: &SnapshotMeta) -> Outcome<usize> {
        let dir = self.world.dir().join(format!("look-{}", meta.id));
        Ok(self.world.state_of(agent, &put_aside(&self.engine, meta, &dir)?)?)
    }

    /// The live memory is whole and in a state in which it may be.
    fn memory(&mut self, agent: usize) -> Outcome<()> {
        let who = AGENTS[agent];
        let store = Connection::open(self.world.store(who))?;
        let checked: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        drop(store);
        if checked != "ok" {
            self.wrong.push(format!("the store of {}: {checked}", who.id));
        }
        let found = self.world.state_of(agent, &Memory::read(&self.world.layout(who))?);
        let expected = match self.told[agent].restores.as_slice() {
            [] => Some(LIVE),
            [Some(from)] => old_state(agent, *from),
            _ => None,
        };
        match (found, expected) {
            (Err(why), _) => self.wrong.push(format!("the memory of {}: {why}", who.id)),
            (Ok(found), Some(expected)) if found != expected => {
                self.wrong.push(format!("{} is in state {found}, not {expected}", who.id));
            }
            _ => {}
        }
        Ok(())
    }

    /// What was reported as exported is a whole bundle.
    fn export(&mut self, process: &Ended) {
        let Some(bundle) = process.json["written"][0].as_str() else { return };
        let who = AGENTS[process.act.agent];
        let bundle = SnapshotRef::Path(process.exported.join(bundle));
        let meta = self.engine.resolve(&who.tenant(), Some(&who.agent()), &bundle);
        let report = meta.and_then(|meta| self.engine.verify(&meta, &Control::default()));
        match report {
            Ok(report) if report.is_good() => {}
            Ok(report) => self.wrong.push(format!("an export is not good: {report:?}")),
            Err(e) => self.wrong.push(format!("an export: {}", error_chain(&e))),
        }
    }
}

/// The snapshot of a report.
fn snapshot(agent: usize, json: &Value) -> Option<(SnapshotId, i64)> {
    let id = id_of(&json["id"])?;
    Some((id, moment(agent, id, json["created_at_ms"].as_i64())))
}

/// When a snapshot was made, so that they can be put in order: before the race, in the race where nobody told when,
/// at this time in milliseconds.
fn moment(agent: usize, id: SnapshotId, told: Option<i64>) -> i64 {
    old_state(agent, id).map_or(told.unwrap_or(LIVE as i64), |state| state as i64)
}

/// The state of which this is the snapshot from before the race.
fn old_state(agent: usize, id: SnapshotId) -> Option<usize> {
    (0..LIVE).find(|&state| old_snapshot(agent, state) == id)
}

fn id_of(json: &Value) -> Option<SnapshotId> {
    json.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(moments: &[i64]) -> Snapshots {
        moments.iter().map(|&at| (old_snapshot(0, usize::try_from(at).unwrap()), at)).collect()
    }

    /// Would catch: a killed prune that excuses the loss of what it must keep, or of a newer one than it left.
    #[test]
    fn who_could_not_report_excuses_only_what_it_may_do() {
        let excuses = |told: &Told, lost: &[i64], there: &[i64]| {
            assert!(told.excuses(&made(&[]), &made(there)));
            told.excuses(&made(lost), &made(there))
        };
        let pruned = || Told { pruned: true, ..Told::default() };
        assert!(excuses(&pruned(), &[1, 2, 3], &[4, 5]) && !excuses(&pruned(), &[1], &[2]));
        assert!(!excuses(&pruned(), &[5], &[1, 2]) && !excuses(&pruned(), &[4], &[3, 5]));
        assert!(!excuses(&pruned(), &[2], &[1, 3, 4]) && !excuses(&Told::default(), &[1], &[2, 3]));
        let told = Told { deleted: made(&[9]), ..pruned() };
        assert!(excuses(&told, &[2], &[3]) && !excuses(&told, &[2], &[1]));
        let told = Told { restores: vec![None], ..pruned() };
        assert!(excuses(&told, &[2], &[1, 3, 4]) && !excuses(&told, &[4], &[1, 2, 3]));
        let told = Told { killed_deletes: 1, ..Told::default() };
        assert!(excuses(&told, &[1], &[]) && !excuses(&told, &[1, 2], &[3, 4, 5]));
        let told = Told { killed_deletes: 1, ..pruned() };
        assert!(excuses(&told, &[1, 3], &[2]) && !excuses(&told, &[1, 2], &[]));
    }
}
