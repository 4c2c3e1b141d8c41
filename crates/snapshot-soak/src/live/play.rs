//! One case: an agent, its peers, a restore, and what is to be seen then.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError, error_chain};
use nexo_memory_snapshot::id::{AgentId, SnapshotId, StoreName, Tenant};
use nexo_memory_snapshot::layout::MemoryLayout;
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::ports::{Control, PathResolver};
use nexo_memory_snapshot::report::RestoreReport;
use nexo_memory_snapshot::request::{RestoreRequest, SnapshotRef, SnapshotRequest};
use rusqlite::Connection;
use snapshot_testkit::{Journal, SeqIds};
use tempfile::TempDir;

use crate::Outcome;
use crate::live::case::{Activity, Case, Place};
use crate::live::line::Line;
use crate::live::peer::{Health, Order, Rows, Said, Setup, State, create, rows};
use crate::part::Slice;
use crate::scene::{ana, refuse_strays};
use crate::tally::Tally;

/// The names of the stores; a case has the first of them, or both.
const STORES: [&str; 2] = ["long_term", "vector"];
/// How long a restore waits where it is to wait in vain.
const IN_VAIN: Duration = Duration::from_millis(200);
/// Rounds of the peers before a restore, and after it.
const ROUNDS: usize = 3;

/// An agent between two states, and who uses it.
struct Play<'a> {
    case: Case,
    program: &'a Path,
    dir: TempDir,
    stores: Vec<PathBuf>,
    engine: Engine,
    old: State,
    new: State,
    from: SnapshotId,
    peers: Vec<Line>,
    wrong: Vec<String>,
}

/// The same layout for whoever is asked about.
struct Only(MemoryLayout);

/// What is wrong with case `n`.
pub(super) fn play(
    slice: &Slice,
    program: &Path,
    n: u64,
    case: Case,
    tally: &mut Tally,
) -> Outcome<Vec<String>> {
    let mut play = Play::set_up(slice, program, n, case)?;
    for peer in &mut play.peers {
        peer.ask(Order::Begin)?;
    }
    play.rounds()?;
    if play.is_refused() {
        play.refused(tally)?;
    }
    let report = play.restore(None).map_err(|e| error_chain(&e))?;
    tally.add("writers held, us", report.writers_held_us.unwrap_or_default());
    play.restored()?;
    play.end(&report, tally)?;
    Ok(play.wrong)
}

impl<'a> Play<'a> {
    /// The agent's older state is in a snapshot, the newer one is live, and the peers have it open.
    fn set_up(slice: &Slice, program: &'a Path, n: u64, case: Case) -> Outcome<Self> {
        let mut random = slice.random(n);
        let dir = TempDir::new_in(&slice.dir)?;
        let count = 1 + random.below(2);
        let stores: Vec<PathBuf> =
            STORES[..count].iter().map(|name| dir.path().join(format!("{name}.sqlite"))).collect();
        let mut state = |newer| {
            let (rows, padding) = (1 + random.below(60), random.below(3_000));
            State { newer, rows: rows as i64, padding }
        };
        let (old, new) = (state(false), state(true));
        let engine = engine(dir.path(), &stores)?;
        // The snapshot may be of other pages.
        let page_size = [case.page_size, case.page_size, 1024, 16_384][random.below(4)];
        stores.iter().try_for_each(|path| create(path, page_size, case.journal, old))?;
        let request = SnapshotRequest::cli(ana(), Tenant::default());
        let from = engine.snapshot(&request, &Control::default()).map_err(|e| error_chain(&e))?.id;
        if page_size != case.page_size {
            // Nobody has them open.
            stores.iter().try_for_each(fs::remove_file)?;
            stores.iter().try_for_each(|path| create(path, case.page_size, case.journal, old))?;
        }
        let (peers, wrong) = (Vec::new(), Vec::new());
        let mut play = Self { case, program, dir, stores, engine, old, new, from, peers, wrong };
        // Where others do the same, who begins a transaction that stays open is alone.
        let alone = matches!(case.activity, Activity::Pinned | Activity::Stubborn);
        play.open_peers(1 + usize::from(!alone && random.below(3) == 0))?;
        Ok(play)
    }

    fn open_peers(&mut self, count: usize) -> Outcome<()> {
        let places = [self.case.place, self.case.place.other()];
        for (number, place) in (1..).zip(places).take(count) {
            self.peers.push(self.open_peer(number, place)?);
        }
        let wal = self.case.journal == Journal::Wal;
        let checkpoint = wal && !self.case.warm;
        self.peers[0].ask(Order::Change { state: self.new, checkpoint })?;
        if wal || self.case.warm {
            for peer in &mut self.peers {
                peer.ask(Order::Warm)?;
            }
        }
        Ok(())
    }

    fn open_peer(&self, number: i64, place: Place) -> Outcome<Line> {
        let Case { activity, journal, .. } = self.case;
        let setup = Setup { number, activity, journal, stores: self.stores.clone() };
        Line::open(setup, place, self.program)
    }

    /// Waits until every peer that does something over and over has done it some more.
    fn rounds(&mut self) -> Outcome<()> {
        if matches!(self.case.activity, Activity::Reading | Activity::Writing) {
            self.peers.iter_mut().try_for_each(|peer| peer.turns(ROUNDS))?;
        }
        Ok(())
    }

    /// Whether a transaction keeps the restore out.
    fn is_refused(&self) -> bool {
        match self.case.activity {
            Activity::Stubborn => true,
            Activity::Pinned => self.case.journal != Journal::Wal,
            _ => false,
        }
    }

    fn restore(&self, timeout: Option<Duration>) -> Result<RestoreReport, SnapshotError> {
        let from = SnapshotRef::Id(self.from);
        let mut request = RestoreRequest::new(ana(), Tenant::default(), from);
        request.timeout = timeout.unwrap_or(request.timeout);
        let control = Control::default();
        self.engine.plan_restore(&request, &control)?.apply(&control)
    }

    /// The restore is to wait its time, to give up, and to have changed nothing; then the way is free.
    fn refused(&mut self, tally: &mut Tally) -> Outcome<()> {
        let began = Instant::now();
        match self.restore(Some(IN_VAIN)) {
            Err(e) if e.kind() == ErrorKind::Busy && began.elapsed() < IN_VAIN => {
                self.wrong.push(format!("it gives up early: {}", error_chain(&e)));
            }
            Err(e) if e.kind() == ErrorKind::Busy => tally.count("busy"),
            Err(e) => self.wrong.push(format!("not busy, but {}: {}", e.kind(), error_chain(&e))),
            Ok(_) => self.wrong.push("it goes over a transaction that is open".to_owned()),
        }
        let snapshots = self.engine.list(&Tenant::default(), Some(&ana()))?.snapshots;
        let ids: Vec<SnapshotId> = snapshots.iter().map(|meta| meta.id).collect();
        if ids != [self.from] {
            self.wrong.push(format!("a restore that was refused leaves snapshots: {ids:?}"));
        }
        self.refuse_leftovers(&ids);
        if self.case.activity == Activity::Pinned {
            self.all_see("in a transaction, after a refusal", &self.new.rows())?;
        }
        self.peers[0].ask(Order::End)?;
        self.all_see("after a refusal", &self.new.rows())
    }

    /// The restore is done: what the peers see, while they go on and after that.
    fn restored(&mut self) -> Outcome<()> {
        self.rounds()?;
        let (old, new) = (self.old.rows(), self.new.rows());
        match self.case.activity {
            Activity::Writing => {}
            Activity::Pinned if !self.is_refused() => {
                self.all_see("in a transaction that was open", &new)?;
            }
            _ => self.all_see("after the restore", &old)?,
        }
        for peer in &mut self.peers {
            peer.ask(Order::End)?;
        }
        if self.case.activity == Activity::Reading {
            self.saw_one_change(&new, &old);
        }
        if self.case.activity != Activity::Writing {
            self.all_see("after all", &old)?;
        }
        Ok(())
    }

    fn all_see(&mut self, when: &str, expected: &Rows) -> Outcome<()> {
        for (number, peer) in self.peers.iter_mut().enumerate() {
            for (store, rows) in peer.look()? {
                if rows != *expected {
                    let differ = differences(expected, &rows);
                    self.wrong
                        .push(format!("{when}, peer {number} sees in store {store}: {differ}"));
                }
            }
        }
        Ok(())
    }

    /// Every reader saw the newer state, then the older one, and nothing else.
    fn saw_one_change(&mut self, new: &Rows, old: &Rows) {
        for peer in &self.peers {
            for store in 0..self.stores.len() {
                let seen = peer.saw.iter().filter(|(of, _)| *of == store).map(|(_, rows)| rows);
                let seen: Vec<&Rows> = seen.collect();
                if seen != [new, old] {
                    let sizes: Vec<usize> = seen.iter().map(|rows| rows.len()).collect();
                    let why = format!(
                        "a reader of store {store} saw {} states: {sizes:?} rows",
                        sizes.len()
                    );
                    self.wrong.push(why);
                }
            }
        }
    }

    /// One more row of every peer, then everybody goes, and another process looks.
    fn end(&mut self, report: &RestoreReport, tally: &mut Tally) -> Outcome<()> {
        let mut wrote = Vec::new();
        for mut peer in std::mem::take(&mut self.peers) {
            peer.ask(Order::Add)?;
            wrote.push(std::mem::take(&mut peer.wrote));
            peer.close()?;
        }
        tally.add("rows acknowledged", wrote.iter().map(|ids| ids.len() as u64).sum());
        let mut live = Vec::new();
        for (store, health) in self.health()?.into_iter().enumerate() {
            let Health { integrity, page_size, wal, rows: [rows, in_file] } = health;
            if integrity != "ok" || rows != in_file {
                self.wrong.push(format!(
                    "store {store}: {integrity}, {} rows of {}",
                    in_file.len(),
                    rows.len()
                ));
            }
            if page_size != self.case.page_size || wal != (self.case.journal == Journal::Wal) {
                self.wrong.push(format!("store {store} has pages of {page_size}, wal: {wal}"));
            }
            live.push(in_file);
        }
        let kept = report.pre_snapshot.ok_or("nothing was kept before the restore")?;
        let kept_rows = self.kept(kept)?;
        self.judge_rows(&wrote, &kept_rows, &live);
        self.refuse_leftovers(&[self.from, kept]);
        Ok(())
    }

    /// How another process finds the stores.
    fn health(&self) -> Outcome<Vec<Health>> {
        let mut examiner = self.open_peer(0, Place::Elsewhere)?;
        let said = examiner.ask(Order::Check)?;
        examiner.close()?;
        match said {
            Said::Health(health) => Ok(health),
            other => Err(format!("asked for its health, a peer says {other:?}").into()),
        }
    }

    /// The rows of each store in a snapshot.
    fn kept(&self, id: SnapshotId) -> Outcome<Vec<Rows>> {
        let meta = self.engine.resolve(&Tenant::default(), Some(&ana()), &SnapshotRef::Id(id))?;
        let read = |name: &&str| -> Outcome<Rows> {
            let copy = self.dir.path().join(format!("kept-{name}"));
            let path = BundlePath::parse(&format!("sqlite/{name}.sqlite"))?;
            let control = Control::default();
            self.engine.read_artifact(&meta, &path, &mut File::create(&copy)?, &control)?;
            rows(&Connection::open(&copy)?)
        };
        STORES[..self.stores.len()].iter().map(read).collect()
    }

    /// Every row that was acknowledged is in what was kept or live, in one of them, and of each peer the first ones are
    /// in what was kept; beside them there is what the two states hold.
    fn judge_rows(&mut self, wrote: &[Vec<(usize, i64)>], kept: &[Rows], live: &[Rows]) {
        for (state, found, which) in [(self.new, kept, "kept"), (self.old, live, "live")] {
            for (store, found) in found.iter().enumerate() {
                let own = |id: &i64| wrote.iter().flatten().any(|w| *w == (store, *id));
                let rest = found.iter().filter(|(id, _)| !own(id));
                let rest: Rows = rest.map(|(id, row)| (*id, row.clone())).collect();
                if rest != state.rows() {
                    let differ = differences(&state.rows(), &rest);
                    self.wrong.push(format!("what is {which} of store {store}: {differ}"));
                }
            }
        }
        for ids in wrote {
            let mut restored = false;
            for (store, id) in ids {
                match (kept[*store].contains_key(id), live[*store].contains_key(id)) {
                    (false, false) => {
                        self.wrong.push(format!("row {id} was acknowledged, and is lost"))
                    }
                    (true, true) => self.wrong.push(format!("row {id} outlived the restore")),
                    (true, false) if restored => {
                        self.wrong.push(format!(
                            "row {id} is of before the restore, one before it of after"
                        ));
                    }
                    (_, now) => restored = now,
                }
            }
        }
    }

    fn refuse_leftovers(&mut self, snapshots: &[SnapshotId]) {
        if let Err(e) = refuse_strays(&self.dir.path().join("vault"), self.dir.path(), snapshots) {
            self.wrong.push(e.to_string());
        }
    }
}

impl PathResolver for Only {
    fn layout(&self, _: &Tenant, _: &AgentId) -> Option<MemoryLayout> {
        Some(self.0.clone())
    }
}

fn engine(dir: &Path, stores: &[PathBuf]) -> Outcome<Engine> {
    let named = STORES.iter().map(|name| StoreName::from_static(name)).zip(stores.iter().cloned());
    let stores: BTreeMap<StoreName, PathBuf> = named.collect();
    let layout = MemoryLayout { stores, ..MemoryLayout::default() };
    let engine = Engine::builder()
        .root(dir.join("vault"))
        .layouts(Arc::new(Only(layout)))
        .ids(Arc::new(SeqIds::starting_at(0)))
        .threads(1);
    Ok(engine.build()?)
}

/// The first rows that differ, and how many do.
fn differences(expected: &Rows, found: &Rows) -> String {
    let ids: Vec<&i64> = expected.keys().chain(found.keys()).collect();
    let mut differ: Vec<&i64> =
        ids.into_iter().filter(|id| expected.get(id) != found.get(id)).collect();
    differ.sort();
    differ.dedup();
    let first = differ.first().map(|id| (id, expected.get(id), found.get(id)));
    format!("{} rows are not as expected, first {first:?}", differ.len())
}
