//! One stream: the records of one agent, in order.

use std::time::{Duration, Instant};

use snapshot_core::Control;
use snapshot_fs::{Dir, FileLock, FileType, FsError, LockMode};

use super::OutboxError;
use super::record::{Effect, Name, Record, State};
use crate::envelope::Message;

/// Largest record, in bytes: a capture that lists some ten thousand files that it does not carry.
const MAX_RECORD_BYTES: u64 = 4 << 20;
/// Mode of a record.
const FILE_MODE: u32 = 0o600;
/// Held by the one who empties the stream.
const LOCK: &str = "courier.lock";

/// Held while a record gets its number.
const WRITER_LOCK: &str = "writer.lock";
/// Longest wait for it: what is done under it takes milliseconds.
const WRITER_WAIT: Duration = Duration::from_secs(5);

/// A stream. Who writes to it holds the agent's lock.
#[derive(Debug)]
pub struct Stream {
    dir: Dir,
}

/// A record of which the effect is to come. Dropping it leaves it to be settled.
#[derive(Debug)]
#[must_use]
pub struct Prepared {
    dir: Dir,
    name: Name,
}

/// The first record of a stream.
pub(super) enum Head {
    /// Its effect may not exist yet.
    Prepared,
    /// To be sent.
    Ready(Ready),
}

/// A record to be sent.
pub(super) struct Ready {
    dir: Dir,
    name: Name,
    pub(super) message: Message,
}

impl Stream {
    pub(super) const fn new(dir: Dir) -> Self {
        Self { dir }
    }

    /// Keeps a message of which the effect is to come; durable when this returns. Where an event with
    /// its id is prepared already, that one stays as it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn prepare(&self, effect: Effect, message: &Message) -> Result<Prepared, OutboxError> {
        let dir = self.dir.clone();
        for name in self.names()?.into_iter().filter(|name| name.state == State::Prepared) {
            if self.read(name)?.is_some_and(|record| record.event_id() == message.event_id) {
                return Ok(Prepared { dir, name });
            }
        }
        let name = self.write(effect, message)?;
        Ok(Prepared { dir, name })
    }

    /// Decides what dead processes prepared: `happened` says whether the effect exists, or none
    /// where that cannot be told yet. Whoever calls holds the agent's lock, so that nobody alive
    /// waits for one of these effects.
    ///
    /// # Errors
    /// If a record cannot be read, renamed or removed.
    pub fn settle(
        &self,
        happened: &mut dyn FnMut(&Effect) -> Option<bool>,
    ) -> Result<(), OutboxError> {
        for name in self.names()?.into_iter().filter(|name| name.state == State::Prepared) {
            let effect = self.read(name)?.map(Record::into_effect);
            let prepared = Prepared { dir: self.dir.clone(), name };
            match effect.map(|effect| happened(&effect)) {
                Some(Some(true)) => prepared.commit()?,
                Some(Some(false)) => prepared.cancel()?,
                Some(None) => {}
                None => self.put_aside(name)?,
            }
        }
        Ok(())
    }

    /// How many records wait.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn depth(&self) -> Result<u64, OutboxError> {
        Ok(self.names()?.iter().filter(|name| name.state != State::Bad).count() as u64)
    }

    /// Removes every record but those of deletions. The courier's lock is held meanwhile: numbers are
    /// given anew, and what it has under way must not be taken for another.
    pub(super) fn forget(&self, until: Instant) -> Result<(), OutboxError> {
        let (mode, control) = (LockMode::Exclusive, Control::default());
        let _alone = FileLock::acquire(&self.dir, LOCK, mode, until, &control)?;
        for name in self.names()? {
            let effect = self.read(name)?.map(Record::into_effect);
            if !matches!(effect, Some(Effect::Deleted { .. })) {
                self.dir.unlink(name.text())?;
            }
        }
        Ok(self.dir.sync()?)
    }

    pub(super) fn put_aside_count(&self) -> Result<u64, OutboxError> {
        Ok(self.names()?.iter().filter(|name| name.state == State::Bad).count() as u64)
    }

    /// The right to empty the stream, if nobody has it.
    pub(super) fn lock(&self) -> Result<Option<FileLock>, OutboxError> {
        let now = Instant::now();
        match FileLock::acquire(&self.dir, LOCK, LockMode::Exclusive, now, &Control::default()) {
            Ok(lock) => Ok(Some(lock)),
            Err(FsError::Locked { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The first record. What is none is put aside.
    pub(super) fn head(&self) -> Result<Option<Head>, OutboxError> {
        for name in self.names()? {
            match name.state {
                State::Bad => {}
                State::Prepared => return Ok(Some(Head::Prepared)),
                State::Ready => match self.read(name)? {
                    Some(record) => {
                        let (dir, message) = (self.dir.clone(), record.into_message());
                        return Ok(Some(Head::Ready(Ready { dir, name, message })));
                    }
                    None => self.put_aside(name)?,
                },
            }
        }
        Ok(None)
    }

    /// The records, first to last.
    fn names(&self) -> Result<Vec<Name>, OutboxError> {
        let entries = self.dir.entries()?;
        let mut names: Vec<Name> = entries.iter().filter_map(|e| Name::parse(&e.name)).collect();
        names.sort_by_key(|name| name.sequence);
        Ok(names)
    }

    fn write(&self, effect: Effect, message: &Message) -> Result<Name, OutboxError> {
        let too_large = |bytes| {
            let subject = message.subject.clone();
            OutboxError::TooLarge { subject, bytes, limit: MAX_RECORD_BYTES }
        };
        // What is no text has no length that would do.
        let record = Record::new(message, effect);
        let bytes = record.and_then(|record| serde_json::to_vec(&record).ok()).unwrap_or_default();
        if bytes.is_empty() || bytes.len() as u64 > MAX_RECORD_BYTES {
            return Err(too_large(bytes.len()));
        }
        // Streams of agents have one writer at a time; that of all may have several.
        let until = Instant::now() + WRITER_WAIT;
        let control = Control::default();
        let _alone =
            FileLock::acquire(&self.dir, WRITER_LOCK, LockMode::Exclusive, until, &control)?;
        let last = self.names()?.last().map_or(0, |name| name.sequence);
        let sequence = last
            .checked_add(1)
            .ok_or_else(|| OutboxError::Full { path: self.dir.path().to_owned() })?;
        let name = Name { sequence, state: State::Prepared };
        self.dir.write_atomic(name.text(), &bytes, FILE_MODE)?;
        Ok(name)
    }

    /// A record, or none where what lies there is not one, or no longer there.
    fn read(&self, name: Name) -> Result<Option<Record>, OutboxError> {
        match self.dir.read(name.text(), MAX_RECORD_BYTES) {
            Ok(bytes) => Ok(Record::parse(&bytes)),
            Err(e) if e.is_not_found() || matches!(e, FsError::TooLarge { .. }) => Ok(None),
            Err(e) => match self.dir.stat(name.text())? {
                Some(stat) if stat.file_type == FileType::File => Err(e.into()),
                // A folder or a link that somebody put there.
                _ => Ok(None),
            },
        }
    }

    /// What can never be sent does not keep the rest from it.
    fn put_aside(&self, name: Name) -> Result<(), OutboxError> {
        put_aside(&self.dir, name)
    }
}

impl Prepared {
    /// The effect exists: to be sent. Not synced: a power cut leaves what was prepared, and settling it
    /// finds the effect.
    ///
    /// # Errors
    /// If it cannot be renamed; it is then settled later.
    pub fn commit(self) -> Result<(), OutboxError> {
        let ready = self.name.with(State::Ready).text();
        match self.dir.rename(self.name.text(), &self.dir, ready) {
            // A courier settled it before us, as it does with what concerns no single agent.
            Err(e) if e.is_not_found() => Ok(()),
            renamed => Ok(renamed?),
        }
    }

    /// The effect will never exist.
    ///
    /// # Errors
    /// If it cannot be removed; it is then settled later.
    pub fn cancel(self) -> Result<(), OutboxError> {
        Ok(self.dir.unlink(self.name.text())?)
    }
}

impl Ready {
    /// The other side has it. Not synced: what a power cut brings back is sent again as it was.
    pub(super) fn sent(self) -> Result<(), OutboxError> {
        Ok(self.dir.unlink(self.name.text())?)
    }

    /// The other side will never take it.
    pub(super) fn refused(self) -> Result<(), OutboxError> {
        put_aside(&self.dir, self.name)
    }
}

fn put_aside(dir: &Dir, name: Name) -> Result<(), OutboxError> {
    let path = dir.path().join(name.text());
    match dir.rename(name.text(), dir, name.with(State::Bad).text()) {
        Err(e) if e.is_not_found() => Ok(()),
        renamed => {
            tracing::error!(record = %path.display(), "an event that cannot be sent is put aside");
            Ok(renamed?)
        }
    }
}
