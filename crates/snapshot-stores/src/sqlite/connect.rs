//! Connections: to live databases, which we disturb as little as we can, and to private copies.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::error::StoresError;

/// First release with the WAL-reset bug, and the first without it again; the fix was carried back to
/// 3.50.7 and 3.44.6 (<https://www.sqlite.org/wal.html#walresetbug>,
/// <https://www.sqlite.org/releaselog/3_51_3.html>).
const WAL_RESET_BUG: std::ops::Range<i32> = 3_007_000..3_051_003;
const WAL_RESET_FIXED: [std::ops::Range<i32>; 2] = [3_044_006..3_045_000, 3_050_007..3_051_000];

/// How long a statement waits for a lock while we hold others or are about to: longer waits are
/// ours, with everything released.
const IMPATIENT: Duration = Duration::from_millis(5);
/// How long a statement waits for a lock while we hold nothing that others wait for.
const PATIENT: Duration = Duration::from_secs(5);

/// What a connection to a file of strangers keeps of it in memory, in KiB: the file itself may ask for any number.
const CACHE_KIB: i32 = 2000;
/// Longest value, and row, that a comparison takes, in bytes; SQLite's own limit is 1 GB.
const MAX_VALUE_BYTES: i32 = 16 << 20;
/// Largest value that a small file may have, and how many times as long as its file it may be in any: what is
/// put in the place of a secret is longer than some.
const MIN_VALUE_BYTES: u64 = 16 << 20;
const VALUE_PER_FILE: u64 = 4;

/// A live database that we may open any number of connections to.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    path: PathBuf,
    had_wal: bool,
}

impl Live {
    /// Notes whether the database has a `-wal` before we open it.
    pub(crate) fn new(path: &Path) -> Self {
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        Self { path: path.to_owned(), had_wal: Path::new(&wal).exists() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it, to hold it or to read it while others are held; it must exist. A caller that finds
    /// it busy waits by itself, for as long as its own caller allows.
    pub(crate) fn open_impatient(&self) -> Result<Connection, StoresError> {
        self.open_within(IMPATIENT)
    }

    /// Opens it, to look at it; it must exist.
    pub(crate) fn open(&self) -> Result<Connection, StoresError> {
        self.open_within(PATIENT)
    }

    fn open_within(&self, wait: Duration) -> Result<Connection, StoresError> {
        refuse_old_library()?;
        // Some of what configures a connection already reads the file, and waits for its lock.
        let conn = open(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        let fail = || StoresError::sqlite("configure the connection to", &self.path);
        // A checkpoint rewrites the agent's file; but a `-wal` that only we made, SQLite removes.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, self.had_wal)
            .map_err(fail())?;
        conn.pragma_update(None, "wal_autocheckpoint", 0).map_err(fail())?;
        if conn.is_readonly("main").map_err(fail())? {
            return Err(StoresError::refused(
                &self.path,
                "we may not write to this database, and without its write lock there is no consistent cut; \
                 run as its owner",
            ));
        }
        Ok(conn)
    }

    /// Whether SQLite says that this file is none of its own.
    pub(crate) fn is_no_database(&self) -> bool {
        let looked = self.open_impatient().and_then(|conn| self.shape(&conn));
        matches!(looked, Err(StoresError::Sqlite { source, .. })
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase))
    }

    /// Its journal mode, page size and number of pages, as this connection sees them.
    pub(crate) fn shape(&self, conn: &Connection) -> Result<Shape, StoresError> {
        let fail = || StoresError::sqlite("read the header of", &self.path);
        Ok(Shape {
            journal_mode: conn
                .pragma_query_value(None, "journal_mode", |r| r.get(0))
                .map_err(fail())?,
            page_size: conn.pragma_query_value(None, "page_size", |r| r.get(0)).map_err(fail())?,
            page_count: conn.pragma_query_value(None, "page_count", |r| r.get(0)).map_err(fail())?,
        })
    }
}

/// Journal mode, page size in bytes, and number of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) journal_mode: String,
    pub(crate) page_size: u32,
    pub(crate) page_count: u32,
}

impl Shape {
    pub(crate) fn is_wal(&self) -> bool {
        self.journal_mode == "wal"
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.page_count)
    }
}

/// Opens a private copy that no other process uses, creating it where it is missing.
pub(crate) fn open_private(path: &Path) -> Result<Connection, StoresError> {
    open_copy(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
}

/// Opens a staged copy, which must be there: an empty one would empty what it is written over.
pub(crate) fn open_staged(path: &Path) -> Result<Connection, StoresError> {
    let conn = open_copy(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    bound_values(&conn, path)?;
    Ok(conn)
}

/// Sees to it that no expression of a schema, of which a constraint, a column or an index may have any, makes
/// a value that is out of all proportion to the file at `path`.
fn bound_values(conn: &Connection, path: &Path) -> Result<(), StoresError> {
    let file = std::fs::metadata(path).map_err(StoresError::io("look at", path))?;
    let most = file.len().saturating_mul(VALUE_PER_FILE).max(MIN_VALUE_BYTES);
    let most = i32::try_from(most).unwrap_or(i32::MAX);
    // SQLite keeps its own limit where that is lower.
    let done = conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, most);
    done.map(drop).map_err(StoresError::sqlite("configure the connection to", path))
}

/// Opens a file that nobody changes, to read it: without locks, and without a journal beside it.
pub(crate) fn open_immutable(path: &Path) -> Result<Connection, StoresError> {
    let mode = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let conn = open_copy(Path::new(&immutable_uri(path)), mode)?;
    bound_values(&conn, path)?;
    Ok(conn)
}

/// Opens a file to work with, that goes with its connection: nothing of it is ever made durable, and
/// databases can be attached to it by URI.
pub(crate) fn open_scratch(path: &Path) -> Result<Connection, StoresError> {
    let mode = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI;
    let conn = open_copy(path, mode)?;
    let fail = || StoresError::sqlite("configure the connection to", path);
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES).map_err(fail())?;
    conn.pragma_update(None, "journal_mode", "OFF").map_err(fail())?;
    conn.pragma_update(None, "synchronous", "OFF").map_err(fail())?;
    // Such an index would lie in memory, or in a temporary file outside of the vault.
    conn.pragma_update(None, "automatic_index", false).map_err(fail())?;
    Ok(conn)
}

/// A file that nobody changes, as an URI (<https://www.sqlite.org/uri.html>): read without locks, and
/// without a journal beside it.
pub(crate) fn immutable_uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' => uri.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            byte => uri.extend(["%", &hex::encode_upper([byte])]),
        }
    }
    uri + "?mode=ro&immutable=1"
}

/// Whether the release of this number (3.51.2 is 3051002) can lose what a writer committed while
/// another connection checkpointed.
pub(crate) fn has_wal_reset_bug(version: i32) -> bool {
    WAL_RESET_BUG.contains(&version) && !WAL_RESET_FIXED.iter().any(|r| r.contains(&version))
}

/// Refuses a library with the WAL-reset bug, which can lose an agent's acknowledged writes.
fn refuse_old_library() -> Result<(), StoresError> {
    if has_wal_reset_bug(rusqlite::version_number()) {
        return Err(StoresError::SqliteTooOld { version: rusqlite::version().to_owned() });
    }
    Ok(())
}

/// Opens what may be anybody's work: its triggers and views are text to us, and never run.
fn open_copy(path: &Path, mode: OpenFlags) -> Result<Connection, StoresError> {
    let conn = open(path, mode, PATIENT)?;
    let fail = || StoresError::sqlite("configure the connection to", path);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(fail())?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false).map_err(fail())?;
    bound_cache(&conn, "main").map_err(fail())?;
    Ok(conn)
}

/// Keeps a database of a connection from filling the memory with its pages.
pub(crate) fn bound_cache(conn: &Connection, schema: &str) -> Result<(), rusqlite::Error> {
    conn.pragma_update(Some(schema), "cache_size", -CACHE_KIB)
}

/// Bounds what SQLite takes altogether in this process, in bytes; past it a statement fails. It is for programs that
/// are this one alone: a host's own databases would have to live within the bound too.
///
/// # Errors
/// If SQLite does not take it.
pub fn limit_heap(bytes: i64) -> Result<(), StoresError> {
    let path = Path::new(":memory:");
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, PATIENT)?;
    let set = conn.pragma_update_and_check(None, "hard_heap_limit", bytes, |_| Ok(()));
    set.map_err(StoresError::sqlite("bound the memory of", path))
}

/// Opens with everything off by which a crafted database could act, but what its own programs may
/// count on.
fn open(path: &Path, mode: OpenFlags, wait: Duration) -> Result<Connection, StoresError> {
    let conn = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(StoresError::sqlite("open", path))?;
    let fail = || StoresError::sqlite("configure the connection to", path);
    conn.busy_timeout(wait).map_err(fail())?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(fail())?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(fail())?;
    conn.pragma_update(None, "mmap_size", 0).map_err(fail())?;
    conn.pragma_update(None, "cell_size_check", true).map_err(fail())?;
    conn.pragma_update(None, "synchronous", "FULL").map_err(fail())?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: one way to open a bundle's database that forgets what the others switch off.
    #[test]
    fn every_way_to_open_a_copy_is_defensive() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("crafted.sqlite");
        let crafted = Connection::open(&path).unwrap();
        crafted
            .execute_batch(
                "CREATE TABLE t(x); CREATE TABLE hit(x); CREATE VIEW v AS SELECT x FROM t; \
                 CREATE TRIGGER evil AFTER INSERT ON t BEGIN INSERT INTO hit VALUES (1); END",
            )
            .unwrap();
        drop(crafted);
        let copies = [open_private, open_staged, open_immutable, open_scratch];
        for conn in copies.map(|open| open(&path).unwrap()) {
            assert_common(&conn);
            let viewed = conn.prepare("SELECT * FROM v").map(|_| ()).unwrap_err();
            assert!(viewed.to_string().contains("prohibited"), "{viewed}");
            if !conn.is_readonly("main").unwrap() {
                conn.execute_batch("INSERT INTO t VALUES (1)").unwrap();
            }
            let hits: i64 = conn.query_row("SELECT count(*) FROM hit", [], |r| r.get(0)).unwrap();
            assert_eq!(hits, 0, "its trigger ran");
        }
        // A live one's own triggers are its programs' business; all else is off there too.
        let live = Live::new(&path);
        for conn in [live.open().unwrap(), live.open_impatient().unwrap()] {
            assert_common(&conn);
            let synchronous = conn.pragma_query_value(None, "synchronous", |r| r.get::<_, i64>(0));
            assert_eq!(synchronous.unwrap(), 2, "not FULL");
        }
    }

    fn assert_common(conn: &Connection) {
        assert!(conn.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).unwrap());
        assert!(!conn.db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA).unwrap());
        for (pragma, expected) in [("cell_size_check", 1), ("mmap_size", 0)] {
            // Without a file there is no map, and no number.
            let set = conn.pragma_query_value(None, pragma, |r| r.get::<_, i64>(0));
            assert_eq!(set.unwrap_or(0), expected, "{pragma}");
        }
        let loaded = conn.query_row("SELECT load_extension('x')", [], |_| Ok(()));
        assert!(loaded.unwrap_err().to_string().contains("not authorized"));
        let edited = conn.execute_batch(
            "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t(y)'",
        );
        assert!(edited.is_err(), "the schema can be edited");
    }
}
