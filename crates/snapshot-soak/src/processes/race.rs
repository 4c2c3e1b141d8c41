//! The race itself: processes begin, are stopped and killed at the moments of the plan, and end.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Outcome;
use crate::processes::plan::{Act, Fate};
use crate::processes::world::{AGENTS, World};

/// The longest time that a verb waits for a lock by itself.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// How much longer a process may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked who has ended.
const GLANCE: Duration = Duration::from_millis(1);

/// A process of the race after its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) act: Act,
    /// How it ended; none where it had to be ended, for it hung.
    pub(super) status: Option<ExitStatus>,
    /// What it printed, where that is a document.
    pub(super) json: Value,
    /// Its messages.
    pub(super) stderr: String,
    /// The folder that an export wrote to.
    pub(super) exported: PathBuf,
}

/// A process that runs.
struct Running {
    act: Act,
    child: Child,
    began: Instant,
    status: Option<ExitStatus>,
    /// Signals to come, the last one first.
    signals: Vec<(Duration, Signal)>,
}

/// The program with what is the same for all verbs.
pub(super) fn command(program: &Path, world: &World, tenant: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(world.dir()).env_clear().env("HOME", world.dir()).stdin(Stdio::null());
    command.args(["--config", "memory.yaml", "--tenant", tenant, "--json"]);
    command
}

/// Runs the acts and waits for the end of all.
pub(super) fn race(program: &Path, world: &World, mut acts: Vec<Act>) -> Outcome<Vec<Ended>> {
    acts.sort_by_key(|act| act.begins);
    let (mut running, began) = (Vec::new(), Instant::now());
    let mut next = acts.into_iter().peekable();
    let done = loop {
        while let Some(act) = next.next_if(|act| began.elapsed() >= act.begins) {
            let number = running.len();
            running.push(start(program, world, act, number)?);
        }
        for process in &mut running {
            process.attend()?;
        }
        let all = next.peek().is_none() && running.iter().all(|p| p.status.is_some());
        if all || began.elapsed() > LOCK_TIMEOUT + PATIENCE {
            break running;
        }
        std::thread::sleep(GLANCE);
    };
    done.into_iter().enumerate().map(|(number, process)| process.end(world, number)).collect()
}

fn start(program: &Path, world: &World, act: Act, number: usize) -> Outcome<Running> {
    let [out, err] = outputs(world, number).map(File::create);
    let mut command = command(program, world, AGENTS[act.agent].tenant);
    command.args(act.args(number)).stdout(out?).stderr(err?);
    let signals = match act.fate {
        Fate::Lives => vec![],
        Fate::Killed(at) => vec![(at, Signal::KILL)],
        Fate::Stopped(at, long) => vec![(at + long, Signal::CONT), (at, Signal::STOP)],
    };
    Ok(Running { act, child: command.spawn()?, began: Instant::now(), status: None, signals })
}

impl Running {
    /// Sends the signals that are due, unless it has ended.
    fn attend(&mut self) -> Outcome<()> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        while self.status.is_none() {
            let due = self.signals.pop_if(|(at, _)| self.began.elapsed() >= *at);
            let Some((_, signal)) = due else { break };
            kill_process(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    fn end(mut self, world: &World, number: usize) -> Outcome<Ended> {
        if self.status.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        let [out, err] = outputs(world, number).map(fs::read_to_string);
        Ok(Ended {
            act: self.act,
            status: self.status,
            json: serde_json::from_str(&out?).unwrap_or_default(),
            stderr: err?,
            exported: world.dir().join(format!("export-{number}")),
        })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Act { verb, agent, snapshot, begins, fate, .. } = &self.act;
        let who = AGENTS[*agent].id;
        let status = self.status.map_or_else(|| "hung".to_owned(), |status| status.to_string());
        write!(f, "{} {who} {snapshot} at {begins:?} {fate:?}: {status}", verb.as_str())
    }
}

fn outputs(world: &World, number: usize) -> [PathBuf; 2] {
    ["out", "err"].map(|name| world.dir().join(format!("{name}-{number}")))
}
