//! A source of mutation events for who has none: the writes of one SQLite connection.
//!
//! TEMP triggers hand each changed row to a function of ours, and a virtual table of ours is told by
//! SQLite what becomes of it: of every savepoint and statement that is undone, and of the commit,
//! after it succeeded. None of the hooks of which a connection has but one is used.
//!
//! Invariants: no event tells of a change that was undone or may yet be; a write never fails and
//! never waits because of us; what waits for a commit is bounded in number and bytes. Nothing is
//! written to the database file.
//!
//! Seen are the rows that statements of this connection change in ordinary tables of `main`, those
//! that foreign keys, conflicts and triggers change on the way too. Not seen: other connections and
//! attached databases; virtual tables and their shadow tables; incremental blobs, the backup
//! interface and `VACUUM` (which may give new rowids to rows without an `INTEGER PRIMARY KEY`); what a
//! trigger `AFTER` the same change leaves out with `RAISE(IGNORE)` before ours runs.

mod pending;
mod row;
mod schema;
mod state;
#[expect(unsafe_code, reason = "SQLite's methods of a virtual table that knows savepoints are C")]
mod vtab;

use std::fmt;
use std::sync::Arc;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use snapshot_core::{AgentId, Clock, ErrorKind, SystemClock, Tenant};

use crate::mutation::MutationScope;
use crate::mutation_source::schema::FUNCTION;
use crate::mutation_source::state::State;
use crate::publisher::EventPublisher;

/// Changes of one transaction that wait for its commit, where nothing else is said.
const DEFAULT_MAX_PENDING: usize = 8192;
/// Bytes that they take, where nothing else is said.
const DEFAULT_MAX_PENDING_BYTES: usize = 8 << 20;

/// Tells a publisher of every row that statements of one connection change: after the commit, once
/// for each row that is not as it was before the transaction, with key and digests as `docs/wire.md`
/// describes them. A row that `REPLACE` or several statements changed is told of once; one that came
/// and went is not.
///
/// ```
/// use std::sync::Arc;
/// use rusqlite::Connection;
/// use snapshot_core::{AgentId, Tenant};
/// use snapshot_events::{
///     MutationOp, MutationScope, MutationSource, MutationSourceOptions, RecordingPublisher,
/// };
///
/// let conn = Connection::open_in_memory()?;
/// conn.execute_batch("CREATE TABLE facts (id INTEGER PRIMARY KEY, text)")?;
/// let recording = Arc::new(RecordingPublisher::default());
/// let source = MutationSource::attach(
///     &conn,
///     MutationSourceOptions::new(
///         AgentId::from_static("ana"),
///         Tenant::default(),
///         MutationScope::SqliteLongTerm,
///         recording.clone(),
///     ),
/// )?;
/// conn.execute_batch(
///     "BEGIN; INSERT INTO facts VALUES (17, 'water is wet'); ROLLBACK;
///      INSERT INTO facts VALUES (18, 'fire is hot');",
/// )?;
/// let events = recording.mutation.lock();
/// assert_eq!(events.len(), 1);
/// assert_eq!((events[0].event.op, events[0].event.key.as_str()), (MutationOp::Insert, "facts:18"));
/// assert_eq!(source.stats().published, 1);
/// source.detach(&conn)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What it costs (`docs/performance.md` has numbers): each statement that writes becomes one with triggers, and each row that it changes
/// is hashed, before and after. `changes()`, `total_changes()` and `last_insert_rowid()` stay as they
/// are without it.
///
/// **The schema.** The triggers name every column. After a table was made, or a column added or
/// renamed, [`refresh`](Self::refresh) takes that in; until then keys and digests are of what was known.
/// `ALTER TABLE .. DROP COLUMN` on this connection fails while the triggers are there, and if another
/// connection drops or renames a column, writes to that table fail here until `refresh`: so
/// [`detach`](Self::detach) before a migration, on every connection, and attach anew after it.
/// `PRAGMA temp_store = ..` drops the triggers unseen; `refresh` makes them again.
///
/// **`PRAGMA recursive_triggers`** is set `ON` for this connection, for else the rows that `REPLACE`
/// removes go unseen. Triggers of the host may then run again inside themselves; so where there are
/// any, and it is off, attaching is refused until the host has set it. Make no others meanwhile
/// that rely on its being off.
///
/// Dropped without [`detach`](Self::detach), a source publishes no more, and triggers that do
/// nothing are left until the connection is closed or another source is attached to it.
pub struct MutationSource {
    state: Arc<State>,
    tables: MutationTables,
    /// Whether the setting is ours to take back.
    set_recursive: bool,
}

/// How a source works.
#[derive(Clone)]
pub struct MutationSourceOptions {
    /// Whose memory the database is.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// Which part of the memory.
    pub scope: MutationScope,
    /// Which tables are told of.
    pub tables: MutationTables,
    /// Who is told. Called where the transaction was committed, before the statement returns; it
    /// must not use the connection.
    pub publisher: Arc<dyn EventPublisher>,
    /// When: the time of the commit.
    pub clock: Arc<dyn Clock>,
    /// Changes of one transaction that wait for its commit at most. More are dropped and counted.
    pub max_pending: usize,
    /// Bytes that they take in memory at most. More are dropped and counted.
    pub max_pending_bytes: usize,
}

/// Which tables a source tells of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MutationTables {
    /// Every ordinary one of `main`.
    #[default]
    All,
    /// These, of which each must be there.
    Only(Vec<String>),
}

/// What a source did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MutationSourceStats {
    /// Events that the publisher was told of.
    pub published: u64,
    /// Changes that were committed and found no room, or whose publisher panicked.
    pub dropped: u64,
}

/// Why a source was not attached, refreshed or detached. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MutationSourceError {
    /// SQLite failed.
    #[error("mutation source: cannot {doing}")]
    Sqlite {
        /// At what.
        doing: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A rollback would undo half of it.
    #[error("mutation source: the connection is in a transaction; end it first")]
    InTransaction,
    /// There is another source.
    #[error("mutation source: the connection has one already; detach it first")]
    AlreadyAttached,
    /// Another connection, or detached before.
    #[error("mutation source: it is not attached to this connection")]
    NotAttached,
    /// A table that was asked for is not there.
    #[error("mutation source: main has no ordinary table {table}")]
    NoSuchTable {
        /// The table.
        table: String,
    },
    /// Nothing tells the rows of a table apart.
    #[error(
        "mutation source: columns of the table {table} hide its rowid; choose the tables without it"
    )]
    NoRowid {
        /// The table.
        table: String,
    },
    /// The host has triggers, and counts on their not being recursive, for all we know.
    #[error(
        "mutation source: PRAGMA recursive_triggers is off, and the trigger {trigger} may rely on \
         it; set it ON before attaching if all triggers bear it"
    )]
    HostTrigger {
        /// One of them.
        trigger: String,
    },
}

impl MutationSourceOptions {
    /// All tables, the operating system's clock, and 8192 changes or 8 MiB of them a transaction.
    #[must_use]
    pub fn new(
        agent_id: AgentId,
        tenant: Tenant,
        scope: MutationScope,
        publisher: Arc<dyn EventPublisher>,
    ) -> Self {
        Self {
            agent_id,
            tenant,
            scope,
            tables: MutationTables::default(),
            publisher,
            clock: Arc::new(SystemClock),
            max_pending: DEFAULT_MAX_PENDING,
            max_pending_bytes: DEFAULT_MAX_PENDING_BYTES,
        }
    }
}

impl MutationSource {
    /// Begins to tell of what this connection writes.
    ///
    /// # Errors
    /// In a transaction, with a source there already, without a table that was asked for, with
    /// triggers that may rely on `recursive_triggers` being off, and if SQLite fails.
    pub fn attach(
        conn: &Connection,
        options: MutationSourceOptions,
    ) -> Result<Self, MutationSourceError> {
        refuse_transaction(conn)?;
        if attached(conn).is_some() {
            return Err(MutationSourceError::AlreadyAttached);
        }
        // Of a source that was dropped. First, for whatever fails below takes the function away, and
        // triggers that call it would then fail every write.
        in_transaction(conn, "remove old triggers", || schema::removal(conn))?;
        let recursive: bool = conn
            .pragma_query_value(None, "recursive_triggers", |row| row.get(0))
            .map_err(MutationSourceError::sqlite("read a setting"))?;
        if !recursive && let Some(trigger) = schema::foreign_trigger(conn)? {
            return Err(MutationSourceError::HostTrigger { trigger });
        }
        let tables = options.tables.clone();
        let state = Arc::new(State::new(options));
        let source = Self { state, tables, set_recursive: !recursive };
        if let Err(e) = source.install(conn) {
            source.withdraw(conn);
            return Err(e);
        }
        Ok(source)
    }

    /// Takes in how the schema is now: tables made or altered since.
    ///
    /// # Errors
    /// In a transaction, on another connection, without a table that was asked for, and if SQLite
    /// fails; all is as it was then.
    pub fn refresh(&self, conn: &Connection) -> Result<(), MutationSourceError> {
        self.refuse_elsewhere(conn)?;
        self.make_triggers(conn)
    }

    /// Removes everything that [`attach`](Self::attach) brought, and sets `recursive_triggers` as it
    /// was.
    ///
    /// # Errors
    /// In a transaction, on another connection, and if SQLite fails; it is attached still then.
    pub fn detach(&self, conn: &Connection) -> Result<(), MutationSourceError> {
        self.refuse_elsewhere(conn)?;
        in_transaction(conn, "remove the triggers", || schema::removal(conn))?;
        self.state.retire();
        self.withdraw(conn);
        Ok(())
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> MutationSourceStats {
        self.state.stats()
    }

    fn install(&self, conn: &Connection) -> Result<(), MutationSourceError> {
        let fail = MutationSourceError::sqlite;
        vtab::register(conn, &self.state).map_err(fail("register the virtual table"))?;
        let state = Arc::clone(&self.state);
        // Triggers of a TEMP schema may call what is barred from those of the database's own.
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
        conn.create_scalar_function(FUNCTION, -1, flags, move |context| Ok(state.call(context)))
            .map_err(fail("register the function"))?;
        if self.set_recursive {
            conn.pragma_update(None, "recursive_triggers", true)
                .map_err(fail("set recursive_triggers"))?;
        }
        self.make_triggers(conn)
    }

    fn make_triggers(&self, conn: &Connection) -> Result<(), MutationSourceError> {
        let mut shapes = Vec::new();
        in_transaction(conn, "make the triggers", || {
            let tables = schema::read(conn, &self.tables)?;
            shapes = tables.iter().map(schema::Table::shape).collect();
            Ok(schema::removal(conn)? + &schema::creation(&tables))
        })?;
        self.state.set_shapes(shapes);
        Ok(())
    }

    /// Takes back what no transaction does. A statement under way keeps the function, which does
    /// nothing once the source is gone.
    fn withdraw(&self, conn: &Connection) {
        let _ = conn.remove_function(FUNCTION, -1);
        let _ = vtab::unregister(conn);
        if self.set_recursive {
            let _ = conn.pragma_update(None, "recursive_triggers", false);
        }
    }

    fn refuse_elsewhere(&self, conn: &Connection) -> Result<(), MutationSourceError> {
        refuse_transaction(conn)?;
        if attached(conn) == Some(self.state.id()) {
            Ok(())
        } else {
            Err(MutationSourceError::NotAttached)
        }
    }
}

impl Drop for MutationSource {
    fn drop(&mut self) {
        self.state.retire();
    }
}

impl fmt::Debug for MutationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutationSource")
            .field("tables", &self.tables)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MutationSourceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutationSourceOptions")
            .field("agent_id", &self.agent_id)
            .field("tenant", &self.tenant)
            .field("scope", &self.scope)
            .field("tables", &self.tables)
            .field("max_pending", &self.max_pending)
            .field("max_pending_bytes", &self.max_pending_bytes)
            .finish_non_exhaustive()
    }
}

impl MutationSourceError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                    ErrorKind::Busy
                }
                _ => ErrorKind::Io,
            },
            Self::InTransaction
            | Self::AlreadyAttached
            | Self::NotAttached
            | Self::NoSuchTable { .. }
            | Self::NoRowid { .. }
            | Self::HostTrigger { .. } => ErrorKind::Refused,
        }
    }

    fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { doing, source }
    }
}

fn refuse_transaction(conn: &Connection) -> Result<(), MutationSourceError> {
    if conn.is_autocommit() { Ok(()) } else { Err(MutationSourceError::InTransaction) }
}

/// The source that a connection has. Without one there is no function to ask, or one that says 0.
fn attached(conn: &Connection) -> Option<i64> {
    let id = conn.query_row(&format!("SELECT {FUNCTION}()"), [], |row| row.get(0));
    id.ok().filter(|id| *id != 0)
}

/// Runs statements that are made of the schema, in one transaction with the look at it.
fn in_transaction(
    conn: &Connection,
    doing: &'static str,
    sql: impl FnOnce() -> Result<String, MutationSourceError>,
) -> Result<(), MutationSourceError> {
    let fail = || MutationSourceError::sqlite(doing);
    let transaction =
        Transaction::new_unchecked(conn, TransactionBehavior::Deferred).map_err(fail())?;
    transaction.execute_batch(&sql()?).map_err(fail())?;
    transaction.commit().map_err(fail())
}
