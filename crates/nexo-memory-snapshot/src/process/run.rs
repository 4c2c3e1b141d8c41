//! One program, from its start to its end, on a thread of its own.
//!
//! Invariants: a signal goes to our own child only, for it is not reaped while its id may be used;
//! what is kept of its output is bounded; it is reaped whatever becomes of the future.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use futures_channel::oneshot;
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use snapshot_core::Interrupted;

use super::{MAX_DOCUMENT_BYTES, ProcessError};

/// How much of what a program says on standard error is kept, in bytes: its end.
const SAID_KEPT: usize = 2048;

/// What a program printed and said, and how it ended.
pub(super) struct Said {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    pub(super) status: ExitStatus,
}

/// A program that is to run, runs, or has ended.
#[derive(Default)]
struct Running(Mutex<State>);

#[derive(Default)]
struct State {
    unwanted: bool,
    /// While the child may be signalled.
    pid: Option<Pid>,
}

/// Asks the program to stop when dropped; of no effect once it has ended.
struct StopOnDrop(Arc<Running>);

/// Runs `command` to its end and hands `read` what it said; both on another thread.
pub(super) async fn run<T: Send + 'static>(
    command: Command,
    read: impl FnOnce(Said) -> Result<T, ProcessError> + Send + 'static,
) -> Result<T, ProcessError> {
    let (tell, hear) = oneshot::channel();
    let stop = StopOnDrop(Arc::default());
    let running = stop.0.clone();
    let span = tracing::Span::current();
    let work = move || {
        let done = span.in_scope(|| running.run(command).and_then(read));
        // Nobody hears it where the future was dropped.
        let _ = tell.send(done);
    };
    let thread = thread::Builder::new().name("nexo-memory".to_owned()).spawn(work);
    thread.map_err(|source| ProcessError::Start { source })?;
    hear.await.unwrap_or(Err(ProcessError::Panicked))
}

impl Running {
    fn run(&self, mut command: Command) -> Result<Said, ProcessError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start(&mut command)?;
        let output = output_of(&mut child);
        let ended = self.end(&mut child);
        let (stdout, stderr) = output?;
        let status = ended.map_err(|source| ProcessError::Read { source })?;
        Ok(Said { stdout, stderr, status })
    }

    fn start(&self, command: &mut Command) -> Result<Child, ProcessError> {
        let mut state = self.0.lock();
        // Dropped before it began; nobody hears the error.
        if state.unwanted {
            let source = io::Error::other(Interrupted::Cancelled);
            return Err(ProcessError::Start { source });
        }
        let child = command.spawn().map_err(|source| ProcessError::Start { source })?;
        state.pid = pid_of(&child);
        Ok(child)
    }

    /// Waits for the end, and forgets the id before it can become another's.
    fn end(&self, child: &mut Child) -> io::Result<ExitStatus> {
        if let Some(pid) = pid_of(child) {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), ended), Err(Errno::INTR)) {}
        }
        self.0.lock().pid = None;
        child.wait()
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.unwanted = true;
        if let Some(pid) = state.pid {
            // One that cannot be signalled changed its user, and runs to its end.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Reads both pipes to their end. A program that prints too much is ended: it has done its work by
/// then, or is not ours.
fn output_of(child: &mut Child) -> Result<(Vec<u8>, String), ProcessError> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let said = scope.spawn(|| stderr.map(last_of).unwrap_or_default());
        let printed = stdout.map(bounded).unwrap_or_else(|| Ok(Vec::new()));
        if printed.is_err() {
            // Fails only where it has ended already.
            let _ = child.kill();
        }
        let said = said.join().map_err(|_| ProcessError::Panicked)?;
        Ok((printed?, said))
    })
}

fn bounded(pipe: impl Read) -> Result<Vec<u8>, ProcessError> {
    let mut printed = Vec::new();
    let read = pipe.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut printed);
    read.map_err(|source| ProcessError::Read { source })?;
    if printed.len() > MAX_DOCUMENT_BYTES { Err(ProcessError::TooMuch) } else { Ok(printed) }
}

/// The last of what comes; reading it all, so that nobody blocks writing it.
fn last_of(mut pipe: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; SAID_KEPT]);
    while let Ok(n @ 1..) = pipe.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n]);
        kept.drain(..kept.len().saturating_sub(SAID_KEPT));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}
