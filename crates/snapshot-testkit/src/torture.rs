//! Writers that never rest, as threads or processes, for the oracle.
//!
//! *Steppers* take turns (a file lock, so across processes too) and raise the counter everywhere in
//! the oracle's order. Beside them one *noise* writer per store commits on its own after every step
//! that it sees, so that writers of one store never wait for each other by design. Nothing sleeps.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use git2::{ErrorCode, Repository, Signature};
use rusqlite::{Connection, params};
use serde_json::json;
use snapshot_core::{AgentId, CLASSIC_STORES};

use crate::error::KitError;
use crate::oracle::{counter_of_state, counter_of_subject, noise_of_store, subject};
use crate::random::Random;
use crate::seed::{Agent, SEEDED_AT_S};

/// Noise rows come in pairs of `id` and `id + NOISE_ROWS`.
const NOISE_ROWS: u32 = 32;

/// Where a child process finds its agent: the root and the id.
const CHILD_ROOT: &str = "NEXO_TESTKIT_ROOT";
const CHILD_AGENT: &str = "NEXO_TESTKIT_AGENT";

/// What a child prints after each step.
const STEP_LINE: &str = "nexo-testkit step";

/// Running writers; dropping it stops them.
#[derive(Debug)]
pub struct Torture {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    children: Vec<Child>,
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
    acknowledged: [AtomicU32; CLASSIC_STORES.len()],
}

#[derive(Debug, Default)]
struct Progress {
    steps: u64,
    stop: bool,
    failed: Option<String>,
}

/// One writer that raises the counter.
struct Stepper {
    agent: Agent,
    stores: Vec<Connection>,
    repository: Repository,
    turn: File,
}

impl Torture {
    /// Starts `steppers` threads and a noise writer per store, and waits for the first step.
    ///
    /// # Errors
    /// If the agent cannot be opened.
    pub fn start(agent: &Agent, steppers: usize) -> Result<Self, KitError> {
        let shared = Arc::new(Shared::default());
        let mut torture =
            Self { shared: shared.clone(), threads: Vec::new(), children: Vec::new() };
        for (index, store) in CLASSIC_STORES.into_iter().enumerate() {
            let mut noise = Noise::open(agent, index, store)?;
            torture.thread(move |shared| {
                let mut seen = 0;
                while let Some(steps) = shared.next_step(seen) {
                    seen = steps;
                    noise.write()?;
                    shared.acknowledged[index].store(noise.sequence, Ordering::Release);
                }
                Ok(())
            });
        }
        for _ in 0..steppers {
            let mut stepper = Stepper::open(agent)?;
            torture.thread(move |shared| {
                while !shared.lock().stop {
                    stepper.step()?;
                    shared.stepped();
                }
                Ok(())
            });
        }
        torture.wait_for_steps(1)?;
        Ok(torture)
    }

    /// Starts `count` processes, each with a stepper and its noise writers, and waits until each
    /// made a step. `command` must end up in [`Torture::child`]; see [`Torture::this_test`].
    ///
    /// # Errors
    /// If a process cannot be started or ends early.
    pub fn processes(
        agent: &Agent,
        count: usize,
        command: impl Fn() -> Command,
    ) -> Result<Self, KitError> {
        let shared = Arc::new(Shared::default());
        let mut torture = Self { shared, threads: Vec::new(), children: Vec::new() };
        for _ in 0..count {
            let mut child = command()
                .env(CHILD_ROOT, agent.root())
                .env(CHILD_AGENT, agent.id().as_str())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(KitError::io("start a writer for", agent.root()))?;
            let output = child.stdout.take();
            torture.children.push(child);
            let mut lines = output.map(BufReader::new).into_iter().flat_map(BufReader::lines);
            if !lines.any(|line| line.is_ok_and(|line| line.ends_with(STEP_LINE))) {
                return Err(KitError::Writer("a process ended before its first step".to_owned()));
            }
            torture.shared.stepped();
            torture.thread(move |shared| {
                lines.for_each(|_| shared.stepped());
                Ok(())
            });
        }
        Ok(torture)
    }

    /// The command that runs the test `name` (its full path) of the running test binary alone.
    /// That test's body is one call of [`Torture::child`].
    ///
    /// # Errors
    /// If the binary cannot be found.
    pub fn this_test(name: &'static str) -> Result<impl Fn() -> Command, KitError> {
        let program = std::env::current_exe()
            .map_err(KitError::io("find the program of", &PathBuf::from("this process")))?;
        Ok(move || {
            let mut command = Command::new(&program);
            command.args(["--exact", name, "--nocapture"]);
            command
        })
    }

    /// In a child process of [`Torture::processes`]: writes until standard input ends. Anywhere
    /// else: does nothing.
    ///
    /// # Errors
    /// If a writer fails.
    pub fn child() -> Result<(), KitError> {
        let (Some(root), Ok(agent)) = (std::env::var_os(CHILD_ROOT), std::env::var(CHILD_AGENT))
        else {
            return Ok(());
        };
        let id: AgentId = agent.parse().map_err(|e| KitError::Writer(format!("{e}")))?;
        let torture = Self::start(&Agent::at(&PathBuf::from(root), id), 1)?;
        let shared = torture.shared.clone();
        let reporter = std::thread::spawn(move || {
            let (mut seen, mut out) = (0, std::io::stdout());
            while let Some(steps) = shared.next_step(seen) {
                seen = steps;
                // A parent that is gone also ends our standard input.
                let _ = writeln!(out, "{STEP_LINE}").and_then(|()| out.flush());
            }
        });
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let done = torture.stop();
        let _ = reporter.join();
        done
    }

    /// Steps made so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.shared.lock().steps
    }

    /// Waits for `count` more steps.
    ///
    /// # Errors
    /// [`KitError::Writer`] once a writer failed.
    pub fn wait_for_steps(&self, count: u64) -> Result<(), KitError> {
        let progress = self.shared.lock();
        let until = progress.steps + count;
        let progress = self
            .shared
            .changed
            .wait_while(progress, |p| p.steps < until && p.failed.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        progress.failed.clone().map_or(Ok(()), |why| Err(KitError::Writer(why)))
    }

    /// The number of the last noise transaction that the writer of this store saw committed
    /// (threads only): a live store, or the snapshot taken of it later, holds at least this one.
    #[must_use]
    pub fn acknowledged(&self, store: &str) -> u32 {
        let index = CLASSIC_STORES.iter().position(|name| *name == store);
        index.map_or(0, |index| self.shared.acknowledged[index].load(Ordering::Acquire))
    }

    /// Kills one of the processes (SIGKILL) and waits for its end; false when none is left.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill_one(&mut self) -> Result<bool, KitError> {
        let Some(mut child) = self.children.pop() else { return Ok(false) };
        child
            .kill()
            .and_then(|()| child.wait())
            .map_err(KitError::io("kill a writer of", &PathBuf::from("this test")))?;
        Ok(true)
    }

    /// Stops every writer after the step that it is at.
    ///
    /// # Errors
    /// [`KitError::Writer`] if one failed before.
    pub fn stop(mut self) -> Result<(), KitError> {
        self.halt();
        let failed = self.shared.lock().failed.take();
        failed.map_or(Ok(()), |why| Err(KitError::Writer(why)))
    }

    fn thread(&mut self, body: impl FnOnce(&Shared) -> Result<(), KitError> + Send + 'static) {
        let shared = self.shared.clone();
        self.threads.push(std::thread::spawn(move || {
            if let Err(e) = body(&shared) {
                shared.fail(&e);
            }
        }));
    }

    fn halt(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        for mut child in self.children.drain(..) {
            match child.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => self.shared.lock().failed = Some(format!("a process: {status}")),
                Err(e) => self.shared.lock().failed = Some(format!("a process: {e}")),
            }
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.lock().failed = Some("a thread panicked".to_owned());
            }
        }
    }
}

impl Drop for Torture {
    fn drop(&mut self) {
        self.halt();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stepped(&self) {
        self.lock().steps += 1;
        self.changed.notify_all();
    }

    fn fail(&self, e: &KitError) {
        let cause = std::error::Error::source(e).map_or(String::new(), |c| format!(": {c}"));
        self.lock().failed = Some(format!("{e}{cause}"));
        self.changed.notify_all();
    }

    /// Waits for a step after `seen`; none once stopped.
    fn next_step(&self, seen: u64) -> Option<u64> {
        let progress = self
            .changed
            .wait_while(self.lock(), |p| p.steps == seen && !p.stop)
            .unwrap_or_else(PoisonError::into_inner);
        (!progress.stop).then_some(progress.steps)
    }
}

impl Stepper {
    fn open(agent: &Agent) -> Result<Self, KitError> {
        let stores = CLASSIC_STORES.iter().map(|store| agent.connect(store));
        let dir = agent.memdir();
        Ok(Self {
            agent: agent.clone(),
            stores: stores.collect::<Result<_, _>>()?,
            repository: Repository::open(&dir).map_err(KitError::git("open", &dir))?,
            turn: agent.turn()?,
        })
    }

    /// One round, alone. A round that a killed writer left unfinished is finished instead.
    fn step(&mut self) -> Result<(), KitError> {
        self.turn.lock().map_err(KitError::io("lock a turn of", self.agent.root()))?;
        let done = self.round();
        self.turn.unlock().map_err(KitError::io("unlock a turn of", self.agent.root()))?;
        done
    }

    fn round(&self) -> Result<(), KitError> {
        let mut stores = [0; CLASSIC_STORES.len()];
        for (index, value) in stores.iter_mut().enumerate() {
            *value = self.counter(index)?;
        }
        let (git, json) = (self.git_counter()?, self.state_counter()?);
        let first = stores[0];
        let finished = stores.iter().chain([&git, &json]).all(|value| *value == first);
        let target = if finished { first + 1 } else { first };
        for (index, value) in stores.into_iter().enumerate() {
            if value < target {
                self.set_counter(index, target)?;
            }
        }
        if git < target {
            self.commit(target)?;
        }
        if json < target {
            self.agent.write_state("extract_cursor", &json!({"counter": target}))?;
        }
        Ok(())
    }

    fn counter(&self, index: usize) -> Result<u32, KitError> {
        self.stores[index]
            .prepare_cached("SELECT n FROM counter")
            .and_then(|mut select| select.query_row([], |row| row.get(0)))
            .map_err(KitError::sql("read", &self.agent.store(CLASSIC_STORES[index])))
    }

    fn set_counter(&self, index: usize, to: u32) -> Result<(), KitError> {
        self.stores[index]
            .prepare_cached("UPDATE counter SET n = ?1")
            .and_then(|mut update| update.execute([to]))
            .map_err(KitError::sql("write", &self.agent.store(CLASSIC_STORES[index])))?;
        Ok(())
    }

    /// Of HEAD's commit, or of the last counter below commits of another kind.
    fn git_counter(&self) -> Result<u32, KitError> {
        let walk = || -> Result<u32, git2::Error> {
            let mut commit = Some(self.repository.head()?.peel_to_commit()?);
            for _ in 0..16 {
                let Some(at) = commit else { break };
                match counter_of_subject(at.message().unwrap_or_default()) {
                    0 => commit = at.parent(0).ok(),
                    counter => return Ok(counter),
                }
            }
            Ok(0)
        };
        walk().map_err(KitError::git("read", self.repository.path()))
    }

    fn state_counter(&self) -> Result<u32, KitError> {
        let path = self.agent.state("extract_cursor");
        Ok(counter_of_state(&fs::read(&path).map_err(KitError::io("read", &path))?))
    }

    /// Puts one commit on top of the last one of another kind, so that the history stays short.
    /// Somebody else's commit in between wins, and is built on in the next try.
    fn commit(&self, counter: u32) -> Result<(), KitError> {
        loop {
            match self.try_commit(counter) {
                Err(e) if matches!(e.code(), ErrorCode::Locked | ErrorCode::Modified) => {
                    std::thread::yield_now();
                }
                done => return done.map_err(KitError::git("commit to", self.repository.path())),
            }
        }
    }

    fn try_commit(&self, counter: u32) -> Result<(), git2::Error> {
        let head = self.repository.head()?;
        let now = head.peel_to_commit()?;
        let base = match counter_of_subject(now.message().unwrap_or_default()) {
            0 => now.clone(),
            _ => now.parent(0)?,
        };
        let time = git2::Time::new(SEEDED_AT_S + i64::from(counter), 0);
        let ana = Signature::new("Ana", "ana@example.org", &time)?;
        let message = subject(counter);
        let commit = self.repository.commit(None, &ana, &ana, &message, &base.tree()?, &[&base])?;
        let branch = head.name().unwrap_or("HEAD");
        self.repository.reference_matching(branch, commit, true, now.id(), &message)?;
        Ok(())
    }
}

/// One writer of noise.
struct Noise {
    connection: Connection,
    path: PathBuf,
    random: Random,
    sequence: u32,
}

impl Noise {
    fn open(agent: &Agent, index: usize, store: &str) -> Result<Self, KitError> {
        let path = agent.store(store);
        Ok(Self {
            connection: agent.connect(store)?,
            sequence: noise_of_store(&path)?,
            path,
            random: Random::new(index as u64),
        })
    }

    fn write(&mut self) -> Result<(), KitError> {
        let row = u32::try_from(self.random.below(NOISE_ROWS as usize)).unwrap_or_default();
        let size = 100 + self.random.below(5000);
        let pad = self.random.bytes(size);
        self.connection
            .prepare_cached(
                "INSERT INTO noise VALUES (?1, ?3, ?4), (?2, ?3, ?4) \
                 ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, pad = excluded.pad",
            )
            .and_then(|mut insert| {
                insert.execute(params![row, row + NOISE_ROWS, self.sequence + 1, pad])
            })
            .map_err(KitError::sql("write", &self.path))?;
        self.sequence += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Values;
    use crate::seed::{Journal, Seed};

    fn agent(journal: Journal) -> (tempfile::TempDir, Agent) {
        let tmp = tempfile::tempdir().unwrap();
        let seed = Seed::tiny(1).with_journal(journal);
        let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &seed).unwrap();
        (tmp, agent)
    }

    /// Would catch: writers that do not write, or lose what they acknowledged.
    #[test]
    fn threads_raise_the_counter_everywhere_in_both_journal_modes() {
        for journal in [Journal::Wal, Journal::Delete] {
            let (_tmp, agent) = agent(journal);
            let torture = Torture::start(&agent, 3).unwrap();
            torture.wait_for_steps(20).unwrap();
            let acknowledged = torture.acknowledged("vector");
            torture.stop().unwrap();
            let values = Values::of_agent(&agent).unwrap();
            assert_eq!(values.torn(), None);
            assert!(values.stores.iter().all(|n| *n == values.json) && values.json >= 20);
            assert!(noise_of_store(&agent.store("vector")).unwrap() >= acknowledged);
            agent.git().run(&["fsck", "--strict"]).unwrap();
        }
    }

    /// Would catch: an oracle or writers under which a sequential copy looks whole.
    #[test]
    fn a_sequential_copy_is_torn() {
        let (_tmp, agent) = agent(Journal::Wal);
        let torture = Torture::start(&agent, 1).unwrap();
        let subject = agent.git().run(&["log", "-1", "--format=%s"]).unwrap();
        torture.wait_for_steps(2).unwrap();
        let state = fs::read(agent.state("extract_cursor")).unwrap();
        torture.wait_for_steps(2).unwrap();
        let values = Values::read(&agent.sqlite_dir(), &subject, &state).unwrap();
        torture.stop().unwrap();
        assert!(values.torn().is_some(), "{values:?}");
    }

    /// The body of the writers of the next test.
    #[test]
    fn writer() {
        Torture::child().unwrap();
    }

    /// Would catch: writers that cannot go on after one of them was killed, or count twice.
    #[test]
    fn processes_go_on_after_a_kill() {
        let (_tmp, agent) = agent(Journal::Wal);
        let command = Torture::this_test("torture::tests::writer").unwrap();
        let mut torture = Torture::processes(&agent, 3, command).unwrap();
        torture.wait_for_steps(5).unwrap();
        assert!(torture.kill_one().unwrap());
        torture.wait_for_steps(10).unwrap();
        torture.stop().unwrap();
        assert_eq!(Values::of_agent(&agent).unwrap().torn(), None);
    }

    /// Would catch: writers that throw away what the agent itself commits meanwhile.
    #[test]
    fn the_agents_own_commits_stay() {
        let (_tmp, agent) = agent(Journal::Wal);
        let torture = Torture::start(&agent, 2).unwrap();
        agent.remember("The zebra pays no tax", "Said by an email.").unwrap();
        torture.wait_for_steps(5).unwrap();
        torture.stop().unwrap();
        let log = agent.git().run(&["log", "-3", "--format=%s"]).unwrap();
        assert!(log.contains("zebra"), "{log}");
        assert_eq!(Values::of_agent(&agent).unwrap().torn(), None);
    }
}
