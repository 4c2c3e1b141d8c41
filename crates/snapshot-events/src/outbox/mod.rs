//! The outbox: events on disk until the other side has them.
//!
//! ```text
//! <outbox>/<tenant>.<agent>/<sequence>.prepared   its effect may not exist yet
//! <outbox>/<tenant>.<agent>/<sequence>.ready      to be sent
//! <outbox>/<tenant>.<agent>/<sequence>.bad        no record, or refused by the other side
//! <outbox>/_all/                                  what concerns no single agent
//! ```
//!
//! Invariants: a record is durable before the effect that it tells of, and is sent only once that
//! exists; within a stream nothing overtakes; what is sent twice has the same id and bytes. One writer
//! at a time writes to a stream (the holder of the agent's lock), one courier at a time empties it.

mod courier;
mod record;
mod stream;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use snapshot_core::{AgentId, ErrorKind, Tenant};
use snapshot_fs::{Dir, FileType, FsError};

pub use courier::{Courier, CourierOptions, Flushed, Settler};
pub use record::Effect;
pub use stream::{Prepared, Stream};

/// Mode of a stream's folder.
const DIR_MODE: u32 = 0o700;
/// The stream of what concerns no single agent; no id starts with `_`.
const ALL: &str = "_all";

/// Which stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKey {
    /// The events of one agent.
    Agent {
        /// Its tenant.
        tenant: Tenant,
        /// The agent.
        agent: AgentId,
    },
    /// What concerns no single agent.
    All,
}

/// An outbox. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    dir: Dir,
}

/// What went wrong in the outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The file-system layer.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The last number is taken: somebody put a file of that name there.
    #[error("no number is left in {}; remove what is not ours", path.display())]
    Full {
        /// The stream's folder.
        path: PathBuf,
    },
    /// A record that would be larger than one is read.
    #[error("the event {subject} has {bytes} bytes, at most {limit} can wait in the outbox")]
    TooLarge {
        /// Its subject.
        subject: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: u64,
    },
}

impl OutboxError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::TooLarge { .. } => ErrorKind::Internal,
            Self::Full { .. } => ErrorKind::Io,
        }
    }
}

impl Outbox {
    /// The outbox in this folder.
    #[must_use]
    pub const fn new(dir: Dir) -> Self {
        Self { dir }
    }

    /// The streams, sorted; what else lies in the folder is not ours.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn streams(&self) -> Result<Vec<StreamKey>, OutboxError> {
        let mut keys = Vec::new();
        for entry in self.dir.entries()? {
            let Some(key) = entry.name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if self.dir.stat(&entry.name)?.is_some_and(|s| s.file_type == FileType::Dir) {
                keys.push(key);
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// A stream, made where it is missing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn stream(&self, key: &StreamKey) -> Result<Stream, OutboxError> {
        Ok(Stream::new(self.dir.ensure_sub(key.to_string(), DIR_MODE)?))
    }

    /// Removes every record of a stream but those of deletions, also those put aside. Who calls it
    /// holds the lock of those who write to it; waits until `until` for who is sending.
    ///
    /// # Errors
    /// If somebody goes on sending, or a record cannot be removed.
    pub fn forget(&self, key: &StreamKey, until: Instant) -> Result<(), OutboxError> {
        match self.dir.stat(key.to_string())? {
            Some(_) => self.stream(key)?.forget(until),
            None => Ok(()),
        }
    }

    /// How many records wait, in all streams.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn depth(&self) -> Result<u64, OutboxError> {
        self.streams()?.iter().map(|key| self.stream(key)?.depth()).sum()
    }

    /// How many records were put aside, in all streams: no events, or refused by the other side.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn put_aside(&self) -> Result<u64, OutboxError> {
        self.streams()?.iter().map(|key| self.stream(key)?.put_aside_count()).sum()
    }
}

/// The name of its folder.
impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { tenant, agent } => write!(f, "{tenant}.{agent}"),
            Self::All => f.write_str(ALL),
        }
    }
}

impl FromStr for StreamKey {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        if name == ALL {
            return Ok(Self::All);
        }
        let (tenant, agent) = name.split_once('.').ok_or(())?;
        let (tenant, agent) = (tenant.parse().map_err(|_| ())?, agent.parse().map_err(|_| ())?);
        Ok(Self::Agent { tenant, agent })
    }
}
