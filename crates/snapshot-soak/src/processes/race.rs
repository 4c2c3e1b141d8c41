//! The race itself: processes begin, are stopped and killed at the moments of the plan, and end.

use std::fmt;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::Outcome;
use crate::processes::plan::{Act, Fate};
use crate::processes::world::{AGENTS, World};

/// How much longer than it waits for locks a process may take on a busy machine; the tally tells how much it took.
const PATIENCE: Duration = Duration::from_secs(15);

/// A process of the race after its end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) act: Act,
    pub(super) end: End,
    /// How much longer it took than it may wait for locks.
    pub(super) overrun: Duration,
    /// What it printed; null where that is no document.
    pub(super) json: Value,
    /// Its messages.
    pub(super) stderr: String,
    /// The folder that an export wrote to.
    pub(super) exported: PathBuf,
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// By itself.
    Itself(ExitStatus),
    /// The plan killed it.
    Killed,
    /// It had to be ended, for it hung.
    Hung,
}

/// A process that runs.
struct Running {
    child: Child,
    /// This very process, whatever else gets its number.
    handle: OwnedFd,
    began: Instant,
}

/// The program with what is the same for all verbs.
pub(super) fn command(program: &Path, world: &World, tenant: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(world.dir()).env_clear().env("HOME", world.dir()).stdin(Stdio::null());
    command.args(["--config", "memory.yaml", "--tenant", tenant, "--json"]);
    command
}

/// Runs the acts and waits for the end of all.
pub(super) fn race(program: &Path, world: &World, acts: Vec<Act>) -> Outcome<Vec<Ended>> {
    let began = Instant::now();
    let one = |(number, act): (usize, Act)| {
        thread::sleep(act.begins.saturating_sub(began.elapsed()));
        run(program, world, act, number).map_err(|e| e.to_string())
    };
    let ended = thread::scope(|scope| {
        let threads = acts.into_iter().enumerate().map(|act| scope.spawn(move || one(act)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    ended.into_iter().map(|one| Ok(one.map_err(|_| "a thread panicked")??)).collect()
}

/// One process, from its beginning to its end.
fn run(program: &Path, world: &World, act: Act, number: usize) -> Outcome<Ended> {
    let outputs = ["out", "err"].map(|name| world.dir().join(format!("{name}-{number}")));
    let [out, err] = outputs.each_ref().map(File::create);
    let mut command = command(program, world, AGENTS[act.agent].tenant);
    let running = Running::start(command.args(act.args(number)).stdout(out?).stderr(err?))?;
    let (end, overrun) = running.see_to(&act)?;
    let [out, err] = outputs.map(fs::read_to_string);
    Ok(Ended {
        act,
        end,
        overrun,
        json: serde_json::from_str(&out?).unwrap_or_default(),
        stderr: err?,
        exported: world.dir().join(format!("export-{number}")),
    })
}

impl Running {
    fn start(command: &mut Command) -> Outcome<Self> {
        let (began, child) = (Instant::now(), command.spawn()?);
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { child, handle, began })
    }

    /// Has befall it what the plan says, and waits for its end, as long as it may take; how much longer that was than
    /// it may wait for locks.
    fn see_to(mut self, act: &Act) -> Outcome<(End, Duration)> {
        let signals = match act.fate {
            Fate::Lives => vec![],
            Fate::Killed(at) => vec![(at, Signal::KILL)],
            Fate::Stopped(at, long) => vec![(at, Signal::STOP), (at + long, Signal::CONT)],
        };
        let mut was_killed = false;
        for (at, signal) in &signals {
            if self.ends_within(*at)? {
                break;
            }
            pidfd_send_signal(&self.handle, *signal)?;
            was_killed = *signal == Signal::KILL;
        }
        let last = signals.last().map_or(Duration::ZERO, |(at, _)| *at);
        let ends = self.ends_within(last + act.waits() + PATIENCE)?;
        let overrun = self.began.elapsed().saturating_sub(last + act.waits());
        if !ends {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        let end = match status.code() {
            _ if !ends => End::Hung,
            None if was_killed => End::Killed,
            _ => End::Itself(status),
        };
        Ok((end, overrun))
    }

    /// Whether it has ended so long after it began.
    fn ends_within(&self, time: Duration) -> Outcome<bool> {
        loop {
            let left = Timespec::try_from(time.saturating_sub(self.began.elapsed()))?;
            match poll(
                &mut [PollFd::from_borrowed_fd(self.handle.as_fd(), PollFlags::IN)],
                Some(&left),
            ) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl End {
    pub(super) fn is_success(self) -> bool {
        matches!(self, Self::Itself(status) if status.success())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself(status) => status.fmt(f),
            Self::Killed => f.write_str("killed"),
            Self::Hung => f.write_str("hung"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Act { verb, agent, snapshot, begins, fate, .. } = &self.act;
        let (who, end) = (AGENTS[*agent].id, self.end);
        write!(f, "{} {who} {snapshot} at {begins:?} {fate:?}: {end}", verb.as_str())
    }
}
