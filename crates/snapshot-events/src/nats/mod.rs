//! To and from a NATS server.
//!
//! Invariants: nothing here panics in or outside of somebody's tokio runtime, for it has its own; a
//! secret is in no error and no debug output.

mod options;
mod tail;
mod transport;

use std::error::Error as StdError;
use std::sync::mpsc;
use std::time::Duration;

use snapshot_core::ErrorKind;
use tokio::runtime::{Builder, Runtime};

pub use options::{NatsOptions, NatsTls};
pub use tail::{NatsTail, Received};
pub use transport::NatsTransport;

/// An error of another library, or a word of ours.
type Cause = Box<dyn StdError + Send + Sync>;

/// What went wrong with a NATS server.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {to}")]
pub struct NatsError {
    /// What was being done, as a verb.
    op: &'static str,
    /// The server, without secrets.
    to: String,
    /// Why not.
    #[source]
    source: Cause,
}

impl NatsError {
    /// What a caller can act on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

/// A thread that cannot be made.
impl From<std::io::Error> for NatsError {
    fn from(source: std::io::Error) -> Self {
        Self { op: "start a thread for", to: "the NATS server".to_owned(), source: source.into() }
    }
}

/// A runtime of our own: ours may be a thread of somebody else's, or one without any.
struct Own(Option<Runtime>);

impl Own {
    fn new() -> std::io::Result<Self> {
        let threads =
            Builder::new_multi_thread().worker_threads(1).thread_name("nats").enable_all().build();
        threads.map(|runtime| Self(Some(runtime)))
    }

    /// Runs a future to its end, but for at most `bound`.
    fn wait<T: Send + 'static>(
        &self,
        bound: Duration,
        work: impl Future<Output = Result<T, Cause>> + Send + 'static,
    ) -> Result<T, Cause> {
        let Some(runtime) = &self.0 else { return Err("it is shutting down".into()) };
        let (tell, told) = mpsc::channel();
        runtime.spawn(async move {
            let done = tokio::time::timeout(bound, work).await;
            let done = done.unwrap_or_else(|_| Err(format!("no answer in {bound:?}").into()));
            // Who waited may be gone.
            let _ = tell.send(done);
        });
        told.recv().unwrap_or_else(|_| Err("it was shut down".into()))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for its tasks would be an error where somebody else's runtime drops us.
            runtime.shutdown_background();
        }
    }
}
