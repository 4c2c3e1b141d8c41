//! The handle through which a caller steers a running operation: cancel, deadline, progress.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::ErrorKind;

/// What a timeout past the clock's end comes down to: some thirty years.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Shared by the caller and the operation; clones are the same handle.
#[derive(Clone, Default)]
pub struct Control {
    cancelled: Arc<AtomicBool>,
    deadline: Option<Instant>,
    progress: Option<Arc<dyn Progress>>,
}

/// Hears how far an operation is. Called from worker threads, often; it must not block.
pub trait Progress: Send + Sync {
    /// `done` of `total` bytes of `step`; `total` is 0 where it is not known. Of one step there may be several
    /// totals, one after another.
    fn advance(&self, step: Step, done: u64, total: u64);
}

/// What an operation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Waiting for another process, or for a database to be free.
    Wait,
    /// Taking the cut: writers are held.
    Cut,
    /// Reading the memory and sealing it.
    Seal,
    /// Reading a bundle and checking it.
    Verify,
    /// Unpacking a bundle beside the live memory.
    Stage,
    /// Looking for secrets.
    Search,
    /// Writing without the secrets that were found.
    Redact,
    /// Comparing what two sides hold.
    Compare,
    /// Writers are held; the present state is being kept.
    Keep,
    /// Changing the live memory.
    Commit,
}

/// Why an operation stopped early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// The caller cancelled it.
    #[error("cancelled")]
    Cancelled,
    /// Its deadline passed.
    #[error("its deadline passed")]
    Deadline,
}

impl Control {
    /// A handle that stops the operation at `deadline`.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// A handle that reports to `progress`.
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Asks the operation to stop at its next step; it leaves nothing behind.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Between two steps: whether to go on.
    ///
    /// # Errors
    /// [`Interrupted`] once cancelled or past the deadline.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.cancelled.load(Ordering::Acquire) {
            return Err(Interrupted::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Interrupted::Deadline),
            _ => Ok(()),
        }
    }

    /// Tells the caller how far it is.
    pub fn advance(&self, step: Step, done: u64, total: u64) {
        if let Some(progress) = &self.progress {
            progress.advance(step, done, total);
        }
    }

    /// The earlier of `timeout` from now and the deadline.
    #[must_use]
    pub fn wait_until(&self, timeout: Duration) -> Instant {
        let now = Instant::now();
        let until = now.checked_add(timeout).unwrap_or(now + FOR_EVER);
        self.deadline.map_or(until, |deadline| deadline.min(until))
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("check", &self.check()).finish_non_exhaustive()
    }
}

impl Step {
    /// A verb for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "waiting",
            Self::Cut => "cutting",
            Self::Seal => "sealing",
            Self::Verify => "verifying",
            Self::Stage => "staging",
            Self::Search => "searching for secrets",
            Self::Redact => "redacting",
            Self::Compare => "comparing",
            Self::Keep => "keeping the present state",
            Self::Commit => "restoring",
        }
    }
}

impl Interrupted {
    /// The kind of this error.
    #[must_use]
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::Cancelled => ErrorKind::Interrupted,
            Self::Deadline => ErrorKind::DeadlineExceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_timeout_is_no_overflow() {
        assert!(Control::default().wait_until(Duration::MAX) > Instant::now());
    }

    #[test]
    fn a_clone_cancels_and_a_deadline_expires() {
        let control = Control::default();
        assert_eq!(control.check(), Ok(()));
        control.clone().cancel();
        assert_eq!(control.check(), Err(Interrupted::Cancelled));
        let late = Control::default().with_deadline(Instant::now());
        assert_eq!(late.check(), Err(Interrupted::Deadline));
    }
}
