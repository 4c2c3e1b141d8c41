//! Gates: the write locks of several databases, held together or not at all.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use snapshot_core::mutants::off;
use snapshot_core::{Control, Step};

use crate::error::StoresError;
use crate::sqlite::connect::Live;

/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Connections that can hold the write locks of their databases.
#[derive(Debug)]
pub(crate) struct Gates {
    gates: Vec<(Live, Connection)>,
}

/// Pauses between tries, longer each time and never in step with another process.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    until: Instant,
    started: Instant,
    pause: Duration,
    control: &'a Control,
}

impl Gates {
    /// Opens a gate connection to each database; nothing is held yet.
    pub(crate) fn open(stores: &[Live]) -> Result<Self, StoresError> {
        let gates = stores
            .iter()
            .map(|live| Ok((live.clone(), live.open_impatient()?)))
            .collect::<Result<_, StoresError>>()?;
        Ok(Self { gates })
    }

    /// Takes every write lock, or none.
    pub(crate) fn shut(&self) -> Result<(), StoresError> {
        if off() {
            return Ok(());
        }
        for (live, conn) in &self.gates {
            let begun = conn
                .execute_batch("BEGIN IMMEDIATE")
                .map_err(StoresError::sqlite("hold the writers of", live.path()));
            if let Err(e) = begun {
                self.open_all()?;
                return Err(e);
            }
        }
        Ok(())
    }

    /// Releases every lock that is held.
    pub(crate) fn open_all(&self) -> Result<(), StoresError> {
        self.gates.iter().try_for_each(|(live, conn)| release(live, conn))
    }

    /// Releases the lock of one database.
    pub(crate) fn open_one(&self, index: usize) -> Result<(), StoresError> {
        self.gates.get(index).map_or(Ok(()), |(live, conn)| release(live, conn))
    }
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(timeout: Duration, control: &'a Control) -> Self {
        Self {
            until: control.wait_until(timeout),
            started: Instant::now(),
            pause: Duration::from_millis(1),
            control,
        }
    }

    /// After a try that failed with `error`: pauses if it was busy and time is left, else gives it
    /// back as the error to fail with.
    pub(crate) fn pause_after(&mut self, error: StoresError) -> Result<(), StoresError> {
        self.control.check().map_err(StoresError::stopped("waiting for a busy database"))?;
        if !error.is_busy() {
            return Err(error);
        }
        let now = Instant::now();
        if now >= self.until {
            let StoresError::Sqlite { path, .. } = error else { return Err(error) };
            return Err(StoresError::Busy { path, waited_ms: self.started.elapsed().as_millis() });
        }
        self.control.advance(Step::Wait, 0, 0);
        // Half the pause fixed, half by chance, so that two waiters part.
        let chance = RandomState::new().build_hasher().finish() % 1_000;
        let jitter = self.pause.mul_f64(chance as f64 / 2_000.0);
        thread::sleep((self.pause / 2 + jitter).min(self.until - now));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        Ok(())
    }
}

fn release(live: &Live, conn: &Connection) -> Result<(), StoresError> {
    if conn.is_autocommit() {
        return Ok(());
    }
    conn.execute_batch("ROLLBACK")
        .map_err(StoresError::sqlite("release the writers of", live.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: gates that are said to be shut and let a writer in, or that stay shut.
    #[test]
    fn writers_wait_at_shut_gates() {
        for journal in ["wal", "delete"] {
            let tmp = tempfile::tempdir().unwrap();
            let path = tmp.path().join("live.sqlite");
            let writer = Connection::open(&path).unwrap();
            let create = format!("PRAGMA journal_mode={journal}; CREATE TABLE t (x)");
            writer.execute_batch(&create).unwrap();
            writer.busy_timeout(Duration::ZERO).unwrap();
            let gates = Gates::open(&[Live::new(&path)]).unwrap();
            gates.shut().unwrap();
            let refused = writer.execute_batch("INSERT INTO t VALUES (1)").unwrap_err();
            assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
            gates.open_all().unwrap();
            writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        }
    }
}
