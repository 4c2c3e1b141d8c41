//! Connections to private copies, and errors that show no value.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Statement, ffi};
use snapshot_core::Control;

use crate::error::StoresError;
use crate::sqlite::{integrity, open_immutable, open_staged};

/// Rows between two looks at whether the caller still wants this.
const ROWS_BETWEEN_CHECKS: u64 = 1024;
/// Between two such looks while SQLite works by itself.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// What an operator can do about what cannot be redacted.
const CHOICES: &str = "leave the store out (--drop-store), or let the policy allow the value";
/// How those messages of SQLite begin that name parts of the schema and never a value.
const QUIET: [&str; 17] = [
    "UNIQUE constraint failed",
    "CHECK constraint failed",
    "NOT NULL constraint failed",
    "FOREIGN KEY constraint failed",
    "no such function",
    "unknown function",
    "no such collation sequence",
    "no such module",
    "no such table",
    "no such column",
    "no such tokenizer",
    "unknown tokenizer",
    "unsafe use of",
    "cannot store",
    "foreign key mismatch",
    "error in ",
    "string or blob too big",
];

/// A private copy.
pub(super) struct Store<'a> {
    pub(super) conn: Connection,
    pub(super) path: &'a Path,
    pub(super) control: &'a Control,
}

/// How sound a database is, to compare with later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Health {
    /// What `integrity_check` says.
    pub(super) integrity: String,
    /// Rows without their parent; none where SQLite cannot tell.
    pub(super) orphans: Option<u64>,
}

/// How changes are kept until they are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// Not at all: after an error the copy is of no use.
    Off,
    /// Beside the file, so that a statement may fail and something else be tried.
    Beside,
}

impl<'a> Store<'a> {
    /// To read it.
    pub(super) fn to_read(path: &'a Path, control: &'a Control) -> Result<Self, StoresError> {
        let conn = open_immutable(path).map_err(mute(path))?;
        let store = Self { conn, path, control };
        store.keep_inside()?;
        Ok(store)
    }

    /// To change it in place, tables beneath virtual ones too; nothing of it is made durable.
    pub(super) fn to_change(
        path: &'a Path,
        journal: Journal,
        control: &'a Control,
    ) -> Result<Self, StoresError> {
        let store = Self { conn: open_staged(path).map_err(mute(path))?, path, control };
        let fail = || store.fail("configure the connection to");
        // Before the first look at a file in WAL mode: no shared memory beside it.
        store.conn.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(fail())?;
        for (setting, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
            // A full-text index may be built from one; what has no end is stopped with its caller.
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, true),
        ] {
            store.conn.set_db_config(setting, on).map_err(fail())?;
        }
        store.conn.pragma_update(None, "synchronous", "OFF").map_err(fail())?;
        store.conn.pragma_update(None, "journal_mode", "PERSIST").map_err(fail())?;
        // A journal is removed only where others could come, so that of leaving WAL mode now.
        store.conn.pragma_update(None, "locking_mode", "NORMAL").map_err(fail())?;
        store
            .conn
            .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            .map_err(fail())?;
        store.conn.pragma_update(None, "journal_mode", "DELETE").map_err(fail())?;
        if journal == Journal::Off {
            store.conn.pragma_update(None, "journal_mode", "OFF").map_err(fail())?;
        }
        store.keep_inside()?;
        Ok(store)
    }

    /// Temporary files would lie outside of the spool folder.
    fn keep_inside(&self) -> Result<(), StoresError> {
        let fail = || self.fail("configure the connection to");
        self.conn.pragma_update(None, "temp_store", "MEMORY").map_err(fail())?;
        self.conn.pragma_update(None, "automatic_index", false).map_err(fail())
    }

    /// An error of the file or of the machine; what SQLite says may quote a value, and is left out.
    pub(super) fn fail(&self, op: &'static str) -> impl FnOnce(rusqlite::Error) -> StoresError {
        let path = self.path.to_owned();
        move |source| StoresError::Sqlite { op, path, source: quiet(source) }
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<Statement<'_>, StoresError> {
        self.conn.prepare(sql).map_err(self.fail("read"))
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), StoresError> {
        self.conn.execute_batch(sql).map_err(self.fail("redact"))
    }

    /// What stands in the way of redacting a part of it, unless the file or the machine is at fault.
    pub(super) fn refuse(&self, part: &str) -> impl FnOnce(rusqlite::Error) -> StoresError {
        let (path, what) = (self.path.to_owned(), part.to_owned());
        move |e| match e.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory,
            ) => StoresError::Sqlite { op: "redact", path, source: quiet(e) },
            _ => StoresError::Unredactable { what, why: format!("{}; {CHOICES}", said(&e)) },
        }
    }

    pub(super) fn unredactable(&self, part: &str, why: &str) -> StoresError {
        StoresError::Unredactable { what: part.to_owned(), why: format!("{why}; {CHOICES}") }
    }

    /// Now and then, whether to go on.
    pub(super) fn check(&self, rows: &mut u64) -> Result<(), StoresError> {
        *rows += 1;
        if rows.is_multiple_of(ROWS_BETWEEN_CHECKS) { self.go_on() } else { Ok(()) }
    }

    pub(super) fn go_on(&self) -> Result<(), StoresError> {
        self.control.check().map_err(StoresError::stopped("redacting the stores"))
    }

    /// Does something that takes long in SQLite alone, and stops it where the caller gives up.
    pub(super) fn watched<T>(
        &self,
        work: impl FnOnce() -> Result<T, StoresError>,
    ) -> Result<T, StoresError> {
        self.go_on()?;
        let handle = self.conn.get_interrupt_handle();
        let (done, is_done) = mpsc::channel::<()>();
        let control = self.control;
        let worked = thread::scope(|scope| {
            scope.spawn(move || {
                while is_done.recv_timeout(BETWEEN_LOOKS) == Err(RecvTimeoutError::Timeout) {
                    if control.check().is_err() {
                        handle.interrupt();
                    }
                }
            });
            let worked = work();
            drop(done);
            worked
        });
        // What was stopped failed in whatever way.
        self.go_on().and(worked)
    }

    pub(super) fn health(&self) -> Health {
        Health { integrity: integrity(&self.conn), orphans: self.orphans() }
    }

    pub(super) fn orphans(&self) -> Option<u64> {
        let sql = "SELECT count(*) FROM pragma_foreign_key_check";
        self.conn.query_row(sql, [], |row| row.get(0)).ok().map(i64::unsigned_abs)
    }
}

/// What SQLite says, where that cannot hold a value; else what kind of error it is.
pub(super) fn said(error: &rusqlite::Error) -> String {
    let (code, text) = match error {
        rusqlite::Error::SqliteFailure(code, text) => (code, text.as_deref()),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error, Some(msg.as_str())),
        _ => return "SQLite gave something unexpected".to_owned(),
    };
    match text {
        Some(text) if QUIET.iter().any(|start| text.starts_with(start)) => text.to_owned(),
        _ => ffi::code_to_str(code.extended_code).to_owned(),
    }
}

/// An error of opening a file, which may quote a definition.
fn mute(path: &Path) -> impl FnOnce(StoresError) -> StoresError {
    let path = path.to_owned();
    move |error| match error {
        StoresError::Sqlite { op, source, .. } => {
            StoresError::Sqlite { op, path, source: quiet(source) }
        }
        other => other,
    }
}

fn quiet(error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => rusqlite::Error::SqliteFailure(code, None),
        rusqlite::Error::SqlInputError { error, .. } => rusqlite::Error::SqliteFailure(error, None),
        other => other,
    }
}
