//! Two shell commands that pause and resume an agent around the cut.
//!
//! Invariants: a command never outlives its deadline, nor do those of its children that stay in its
//! process group (one that it leaves behind by ending well is its own affair); only an [`AgentId`],
//! whose grammar knows no shell syntax, is put into a command.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use snapshot_core::{AgentId, Control, ErrorKind, Interrupted, PortError, Quiesce, error_chain};

/// What is replaced by the agent's id.
const AGENT: &str = "{agent}";
/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How much of what a command says on stderr is kept for the error, in bytes.
const STDERR_KEPT: usize = 2048;
/// How many times stderr is read before the clock is looked at again.
const READS: usize = 64;

/// The commands, as configured. `{agent}` in them stands for the agent's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellHooks {
    /// Pauses the agent; ends once it is paused.
    pub quiesce: String,
    /// Lets it go on.
    pub resume: String,
    /// How long each may take.
    pub deadline: Duration,
}

/// [`Quiesce`] by [`ShellHooks`], run by `sh -c`.
#[derive(Debug)]
pub struct ShellQuiesce {
    all: Option<ShellHooks>,
    own: BTreeMap<AgentId, ShellHooks>,
    control: Control,
    /// Agents that are paused, or about to be, or not yet resumed.
    paused: AtomicUsize,
    resume_failures: Mutex<Vec<PortError>>,
}

/// Why a hook failed; the source of the [`PortError`].
#[derive(Debug)]
struct Failed(String);

/// How a command ended.
enum End {
    Exit(ExitStatus),
    Late,
    Stopped(Interrupted),
}

impl ShellQuiesce {
    /// From the commands for all agents and those of single ones; none where there are neither.
    /// Cancelling `control` ends the command that pauses; the one that resumes always runs to its end
    /// or deadline.
    #[must_use]
    pub fn new(
        all: Option<ShellHooks>,
        own: BTreeMap<AgentId, ShellHooks>,
        control: Control,
    ) -> Option<Self> {
        let any = all.is_some() || !own.is_empty();
        any.then(|| Self {
            all,
            own,
            control,
            paused: AtomicUsize::new(0),
            resume_failures: Mutex::default(),
        })
    }

    /// How long the slowest command may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        let all = self.all.iter().chain(self.own.values());
        all.map(|hooks| hooks.deadline).max().unwrap_or_default()
    }

    /// Whether an agent is paused: who ends the process now leaves it so.
    #[must_use]
    pub fn is_pausing(&self) -> bool {
        self.paused.load(Ordering::SeqCst) > 0
    }

    fn of(&self, agent: &AgentId) -> Option<&ShellHooks> {
        self.own.get(agent).or(self.all.as_ref())
    }

    /// Takes the failures of [`Quiesce::resume`], which cannot return them: the agent may still be
    /// paused, and someone must be told.
    #[must_use]
    pub fn take_resume_failures(&self) -> Vec<PortError> {
        std::mem::take(&mut *self.resume_failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Quiesce for ShellQuiesce {
    fn knows(&self, agent: &AgentId) -> bool {
        self.of(agent).is_some()
    }

    fn pause(&self, agent: &AgentId, deadline: Duration) -> Result<(), PortError> {
        let Some(hooks) = self.of(agent) else { return Ok(()) };
        self.paused.fetch_add(1, Ordering::SeqCst);
        run("quiesce", &hooks.quiesce, agent, deadline.min(hooks.deadline), &self.control)
    }

    fn resume(&self, agent: &AgentId) {
        let Some(hooks) = self.of(agent) else { return };
        let ran = run("resume", &hooks.resume, agent, hooks.deadline, &Control::default());
        if let Err(e) = ran {
            tracing::error!(error = %error_chain(&e), "the agent may still be paused");
            self.resume_failures.lock().unwrap_or_else(PoisonError::into_inner).push(e);
        }
        self.paused.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

fn run(
    hook: &str,
    command: &str,
    agent: &AgentId,
    deadline: Duration,
    control: &Control,
) -> Result<(), PortError> {
    let command = command.replace(AGENT, agent.as_str());
    let what = format!("cannot {hook} agent {agent} by `{command}`");
    let late = Instant::now() + deadline;
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(&command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A group of its own, so that the deadline ends its children too.
        .process_group(0)
        .spawn()
        .map_err(|e| PortError::new(ErrorKind::Io, what.clone(), e))?;
    let mut said = Vec::new();
    let ended = wait(&mut child, late, control, &mut said).map_err(|e| {
        kill(&mut child);
        PortError::new(ErrorKind::Io, what.clone(), e)
    })?;
    let (kind, why) = match ended {
        End::Exit(status) if status.success() => return Ok(()),
        End::Exit(status) => (ErrorKind::Refused, status.to_string()),
        End::Late => {
            (ErrorKind::DeadlineExceeded, format!("killed after {} s", deadline.as_secs_f32()))
        }
        End::Stopped(why) => (why.kind(), why.to_string()),
    };
    let said = String::from_utf8_lossy(&said);
    let why = if said.trim().is_empty() { why } else { format!("{why}: {}", said.trim()) };
    Err(PortError::new(kind, what, Failed(why)))
}

/// Waits for the end; at the deadline, or once cancelled, the group is killed.
fn wait(
    child: &mut Child,
    late: Instant,
    control: &Control,
    said: &mut Vec<u8>,
) -> std::io::Result<End> {
    let mut stderr = child.stderr.take();
    if let Some(stderr) = &stderr {
        fcntl_setfl(stderr, OFlags::NONBLOCK)?;
    }
    loop {
        let status = child.try_wait()?;
        drain(&mut stderr, said);
        if let Some(status) = status {
            return Ok(End::Exit(status));
        }
        let stop = control.check().map_err(End::Stopped).err();
        if let Some(end) = stop.or_else(|| (Instant::now() >= late).then_some(End::Late)) {
            kill(child);
            return Ok(end);
        }
        thread::sleep(POLL);
    }
}

/// Ends a child that was not reaped yet (so its id is still its own) and its group. That this fails
/// is possible only for children that changed their user; they are not ours to end.
fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// Takes what is there now; a background child that keeps the pipe open is not waited for.
fn drain(stderr: &mut Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(pipe) = stderr else { return };
    let mut buffer = [0; 4096];
    // Bounded, or a command that talks faster than we read would never see its deadline.
    for _ in 0..READS {
        let Ok(n) = pipe.read(&mut buffer) else { return };
        if n == 0 {
            *stderr = None;
            return;
        }
        let room = STDERR_KEPT.saturating_sub(said.len());
        said.extend_from_slice(&buffer[..n.min(room)]);
    }
}
