//! Runtime state: the extractor's cursor and the last dream run, from JSON files, from rows of a
//! SQLite table, or from the host.

use std::path::{Path, PathBuf};

use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value};
use snapshot_core::{
    Manifest, MemoryLayout, PortError, StateKind, StateLayout, StateProvider, StateSource,
};
use snapshot_fs::{DurableFs, Meta};

use crate::error::StoresError;
use crate::folders::make_folder;
use crate::sqlite::{Live, open_staged};

/// Largest piece of runtime state, in bytes.
pub const MAX_STATE_BYTES: u64 = 2 << 20;

/// Key under which a blob column stands in JSON, as hexadecimal text.
const BLOB_KEY: &str = "$blob_hex";

/// One captured piece: its JSON text, or none where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatePiece {
    pub(crate) kind: StateKind,
    pub(crate) json: Option<Vec<u8>>,
}

/// The source of one piece in a layout.
pub(crate) fn source(layout: &StateLayout, kind: StateKind) -> Option<&StateSource> {
    match kind {
        StateKind::ExtractCursor => layout.extract_cursor.as_ref(),
        StateKind::DreamRun => layout.dream_run.as_ref(),
    }
}

/// Names of the pieces that a restore puts back or removes: those that the snapshot holds or that
/// are there now, where the layout or the host has a place for them.
pub(crate) fn kinds(manifest: &Manifest, layout: &MemoryLayout, by_host: bool) -> Vec<String> {
    let held = |kind: StateKind| manifest.artifacts.iter().any(|a| a.kind == kind.artifact_kind());
    let touched = |kind: &&StateKind| match source(&layout.state, **kind) {
        _ if by_host => true,
        Some(source) => held(**kind) || source.path().exists(),
        None => false,
    };
    StateKind::ALL.iter().filter(touched).map(|k| k.as_str().to_owned()).collect()
}

/// One piece as it is now, for a recovery that asks how far it got.
pub(crate) fn read_now(
    fs: &DurableFs,
    layout: &StateLayout,
    provider: Option<&dyn StateProvider>,
    kind: StateKind,
) -> Result<Option<Vec<u8>>, StoresError> {
    if let Some(provider) = provider {
        return Ok(provider.capture(kind)?);
    }
    match source(layout, kind) {
        None => Ok(None),
        Some(StateSource::Json { json }) => read_json(fs, json),
        Some(StateSource::Sqlite { sqlite, .. }) if !sqlite.exists() => Ok(None),
        Some(StateSource::Sqlite { sqlite, table, order_by }) => {
            read_row(&Live::new(sqlite).open()?, sqlite, table, order_by)
        }
    }
}

/// The content of a JSON state file; none where there is no file. A file that is not JSON was
/// caught half-written, or is broken: the caller decides.
pub(crate) fn read_json(fs: &DurableFs, path: &Path) -> Result<Option<Vec<u8>>, StoresError> {
    let path = &real(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StoresError::refused(path, "not the path of a file"));
    };
    let read = fs.open_dir(parent).and_then(|dir| dir.read(name, MAX_STATE_BYTES));
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether `bytes` are one JSON document.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// The row with the greatest `order_by`, as a JSON object; none where the table is empty or absent.
pub(crate) fn read_row(
    conn: &Connection,
    path: &Path,
    table: &str,
    order_by: &str,
) -> Result<Option<Vec<u8>>, StoresError> {
    let fail = || StoresError::sqlite("read the latest row of", path);
    if !has_table(conn, table).map_err(fail())? {
        return Ok(None);
    }
    let sql = format!("SELECT * FROM {} ORDER BY {} DESC LIMIT 1", quote(table), quote(order_by));
    let mut statement = conn.prepare(&sql).map_err(fail())?;
    let mut columns = Vec::with_capacity(statement.column_count());
    // A vector in rusqlite 0.39, an iterator in 0.41: a loop takes both.
    for name in statement.column_names() {
        columns.push(name.to_owned());
    }
    let mut rows = statement.query([]).map_err(fail())?;
    let Some(row) = rows.next().map_err(fail())? else { return Ok(None) };
    let mut object = Map::new();
    for (i, column) in columns.into_iter().enumerate() {
        let value = to_json(row.get_ref(i).map_err(fail())?).ok_or_else(|| {
            let why = format!("column {column:?} of its latest row holds text that is not UTF-8");
            StoresError::refused(path, why)
        })?;
        object.insert(column, value);
    }
    let text = serde_json::to_vec(&Value::Object(object));
    text.map(Some).map_err(|e| {
        StoresError::integrity(path.display(), format!("its latest row is no JSON: {e}"))
    })
}

/// Puts one piece back at its source, or removes it for `None`. Idempotent.
pub(crate) fn restore(
    fs: &DurableFs,
    layout: &StateLayout,
    provider: Option<&dyn StateProvider>,
    piece: &StatePiece,
) -> Result<(), StoresError> {
    if let Some(provider) = provider {
        return provider.restore(piece.kind, piece.json.as_deref()).map_err(StoresError::Port);
    }
    match source(layout, piece.kind) {
        // Only where a recovery lacks the host that the restore had.
        None => Err(StoresError::refused(
            Path::new(piece.kind.as_str()),
            "the restore had a place for this state, and this program has none",
        )),
        Some(StateSource::Json { json }) => restore_json(fs, json, piece.json.as_deref()),
        Some(StateSource::Sqlite { sqlite, table, order_by }) => {
            fs.external("restore the state row", sqlite)?;
            restore_live_row(sqlite, table, order_by, piece.json.as_deref(), true)
        }
    }
}

/// The database that a piece is a row of.
pub(crate) fn database(
    layout: &StateLayout,
    provider: Option<&dyn StateProvider>,
    kind: StateKind,
) -> Option<PathBuf> {
    match source(layout, kind).filter(|_| provider.is_none())? {
        StateSource::Sqlite { sqlite, .. } => Some(real(sqlite)),
        StateSource::Json { .. } => None,
    }
}

/// Puts a piece into the copy at `copy` of the database that it is a row of; whether that changed it.
pub(crate) fn put_in(
    layout: &StateLayout,
    piece: &StatePiece,
    copy: &Path,
) -> Result<bool, StoresError> {
    let Some(StateSource::Sqlite { table, order_by, .. }) = source(layout, piece.kind) else {
        return Ok(false);
    };
    let mut conn = open_staged(copy)?;
    if read_row(&conn, copy, table, order_by)? == piece.json {
        return Ok(false);
    }
    let json = piece.json.as_deref();
    placed(table, copy, restore_row(&mut conn, copy, (table, order_by), json, true))?;
    Ok(true)
}

/// Refuses a piece that [`restore`] could not put back, before anything changes: tries it, and rolls
/// it back.
pub(crate) fn check_place(
    layout: &StateLayout,
    provider: Option<&dyn StateProvider>,
    piece: &StatePiece,
) -> Result<(), StoresError> {
    let source = source(layout, piece.kind).filter(|_| provider.is_none());
    let Some(StateSource::Sqlite { sqlite, table, order_by }) = source else { return Ok(()) };
    placed(table, sqlite, restore_live_row(sqlite, table, order_by, piece.json.as_deref(), false))
}

/// What SQLite says against a row, as a refusal.
fn placed(table: &str, path: &Path, done: Result<(), StoresError>) -> Result<(), StoresError> {
    match done {
        Err(e @ StoresError::Sqlite { .. }) if !e.is_busy() => {
            let why =
                format!("the snapshot's row of {table} cannot be put back here: {}", cause(&e));
            Err(StoresError::refused(path, why))
        }
        done => done,
    }
}

fn cause(error: &StoresError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn restore_json(fs: &DurableFs, path: &Path, json: Option<&[u8]>) -> Result<(), StoresError> {
    let path = &real(path);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StoresError::refused(path, "not the path of a file"));
    };
    let Some(json) = json else {
        let dir = match fs.open_dir(parent) {
            Err(e) if e.is_not_found() => return Ok(()),
            opened => opened?,
        };
        return match dir.unlink(name) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            // Also where a first try removed it, and died before this.
            _ => Ok(dir.sync()?),
        };
    };
    make_folder(fs, parent)?;
    let dir = fs.open_dir(parent)?;
    // Owner and mode of what it replaces, else the folder's owner and a private mode.
    let folder = dir.stat_self()?;
    let meta = match dir.stat(name)? {
        Some(old) => Meta { owner: Some((old.uid, old.gid)), mode: Some(old.mode), mtime_ns: None },
        None => Meta { owner: Some((folder.uid, folder.gid)), mode: Some(0o600), mtime_ns: None },
    };
    Ok(dir.write_atomic_with(name, json, meta)?)
}

fn restore_live_row(
    path: &Path,
    table: &str,
    order_by: &str,
    json: Option<&[u8]>,
    keep: bool,
) -> Result<(), StoresError> {
    if json.is_none() && !path.exists() {
        return Ok(());
    }
    restore_row(&mut Live::new(path).open()?, path, (table, order_by), json, keep)
}

fn restore_row(
    conn: &mut Connection,
    path: &Path,
    (table, order_by): (&str, &str),
    json: Option<&[u8]>,
    keep: bool,
) -> Result<(), StoresError> {
    let fail = || StoresError::sqlite("restore the latest row of", path);
    if json.is_none() && !has_table(conn, table).map_err(fail())? {
        return Ok(());
    }
    let tx =
        conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fail())?;
    let Some(json) = json else {
        tx.execute(&format!("DELETE FROM {}", quote(table)), []).map_err(fail())?;
        return end(tx, keep).map_err(fail());
    };
    let row: Map<String, Value> = serde_json::from_slice(json).map_err(|e| {
        StoresError::integrity(table, format!("the snapshot's row is no JSON object: {e}"))
    })?;
    let latest = row.get(order_by).ok_or_else(|| {
        StoresError::integrity(table, format!("the snapshot's row has no column {order_by:?}"))
    })?;
    let newer = format!("DELETE FROM {} WHERE {} > ?1", quote(table), quote(order_by));
    tx.execute(&newer, [to_sql(latest)?]).map_err(fail())?;
    if read_row(&tx, path, table, order_by)?.as_deref() == Some(json) {
        // A table without a key would hold it twice.
        return end(tx, keep).map_err(fail());
    }
    let columns: Vec<String> = row.keys().map(|c| quote(c)).collect();
    let marks = vec!["?"; columns.len()].join(", ");
    let insert = format!(
        "INSERT OR REPLACE INTO {} ({}) VALUES ({marks})",
        quote(table),
        columns.join(", ")
    );
    let values = row.values().map(to_sql).collect::<Result<Vec<_>, _>>()?;
    tx.execute(&insert, params_from_iter(values)).map_err(fail())?;
    end(tx, keep).map_err(fail())
}

fn end(tx: rusqlite::Transaction<'_>, keep: bool) -> Result<(), rusqlite::Error> {
    if keep { tx.commit() } else { tx.rollback() }
}

/// Whether there is a table of this name, as SQLite compares names. A view in its place is none: what
/// one reads from it, whoever made it decides.
fn has_table(conn: &Connection, table: &str) -> Result<bool, rusqlite::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_list WHERE schema = 'main' \
               AND name = ?1 COLLATE NOCASE AND type <> 'view')";
    conn.query_row(sql, [table], |r| r.get(0))
}

/// Where a path leads that the layout names: a link in it is the operator's.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A quoted SQL identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The JSON form of a value; none for text that JSON cannot hold.
fn to_json(value: ValueRef<'_>) -> Option<Value> {
    Some(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => i.into(),
        ValueRef::Real(x) => x.into(),
        ValueRef::Text(text) => std::str::from_utf8(text).ok()?.into(),
        ValueRef::Blob(blob) => serde_json::json!({ BLOB_KEY: hex::encode(blob) }),
    })
}

fn to_sql(value: &Value) -> Result<Sql, StoresError> {
    let bad = || {
        StoresError::Port(PortError::plain(
            snapshot_core::ErrorKind::Integrity,
            "the snapshot's state row has a value that SQLite has no type for",
        ))
    };
    match value {
        Value::Null => Ok(Sql::Null),
        Value::Bool(b) => Ok(Sql::Integer((*b).into())),
        Value::Number(n) => {
            n.as_i64().map(Sql::Integer).or_else(|| n.as_f64().map(Sql::Real)).ok_or_else(bad)
        }
        Value::String(text) => Ok(Sql::Text(text.clone())),
        Value::Object(object) => {
            let text = object.get(BLOB_KEY).and_then(Value::as_str).ok_or_else(bad)?;
            hex::decode(text).map(Sql::Blob).map_err(|_| bad())
        }
        Value::Array(_) => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_row_goes_and_comes_back_and_newer_ones_leave() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("runs.db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(
            "CREATE TABLE dream_runs(id TEXT PRIMARY KEY, started_at INTEGER, score REAL, raw BLOB, note TEXT); \
             INSERT INTO dream_runs VALUES ('a', 1, 0.5, x'00', 'first'), ('b', 2, 0.1, x'ff00', NULL)",
        )
        .unwrap();
        let taken = read_row(&conn, &path, "dream_runs", "started_at").unwrap().unwrap();
        conn.execute_batch("UPDATE dream_runs SET note = 'x' WHERE id = 'b'; INSERT INTO dream_runs VALUES ('c', 3, 1, x'', '')").unwrap();
        restore_live_row(&path, "dream_runs", "started_at", Some(&taken), true).unwrap();
        restore_live_row(&path, "dream_runs", "started_at", Some(&taken), true).unwrap();
        assert_eq!(read_row(&conn, &path, "dream_runs", "started_at").unwrap().unwrap(), taken);
        let n: i64 = conn.query_row("SELECT count(*) FROM dream_runs", [], |r| r.get(0)).unwrap();
        assert_eq!(n, 2);
    }

    /// Would catch: a trigger or a view of a bundle's store that is run when the state is put into its copy.
    #[test]
    fn nothing_that_a_copy_defines_is_run() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("store-0.sqlite");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(
            "CREATE TABLE runs (n INTEGER); CREATE TABLE log (x); INSERT INTO runs VALUES (9);
             CREATE TRIGGER a AFTER INSERT ON runs BEGIN INSERT INTO log VALUES ('ran'); END;
             CREATE TRIGGER b AFTER DELETE ON runs BEGIN INSERT INTO log VALUES ('ran'); END;
             CREATE VIEW endless AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n FROM c) SELECT n FROM c",
        )
        .unwrap();
        let piece = StatePiece { kind: StateKind::DreamRun, json: Some(b"{\"n\":1}".to_vec()) };
        let put = |table: &str| {
            let (sqlite, table) = (path.clone(), table.to_owned());
            let source = StateSource::Sqlite { sqlite, table, order_by: "n".to_owned() };
            put_in(
                &StateLayout { dream_run: Some(source), ..StateLayout::default() },
                &piece,
                &path,
            )
        };
        assert!(put("runs").unwrap());
        let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT n FROM runs"), 1);
        assert_eq!(count("SELECT count(*) FROM log"), 0);
        assert_eq!(put("endless").unwrap_err().kind(), snapshot_core::ErrorKind::Refused);
    }

    #[test]
    fn text_that_json_cannot_hold_is_refused_not_bent() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE t(n, x TEXT); INSERT INTO t VALUES (1, CAST(x'ff' AS TEXT))",
        )
        .unwrap();
        let refused = read_row(&conn, Path::new("t.db"), "t", "n").unwrap_err();
        assert!(refused.to_string().contains("\"x\""), "{refused}");
    }

    #[test]
    fn a_json_file_keeps_its_mode_and_can_be_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let fs = DurableFs::default();
        let path = tmp.path().join("cursor.json");
        restore_json(&fs, &path, Some(b"{\"n\":1}")).unwrap();
        fs.open_dir(tmp.path())
            .unwrap()
            .set_meta("cursor.json", Meta { mode: Some(0o640), ..Meta::default() })
            .unwrap();
        restore_json(&fs, &path, Some(b"{\"n\":2}")).unwrap();
        assert_eq!(read_json(&fs, &path).unwrap().unwrap(), b"{\"n\":2}");
        assert_eq!(
            fs.open_dir(tmp.path()).unwrap().stat("cursor.json").unwrap().unwrap().mode,
            0o640
        );
        restore_json(&fs, &path, None).unwrap();
        restore_json(&fs, &path, None).unwrap();
        assert_eq!(read_json(&fs, &path).unwrap(), None);
    }

    /// A piece and a staged copy that holds another, with a crafted schema.
    fn crafted(schema: &str) -> (tempfile::TempDir, Result<bool, StoresError>) {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("staged.sqlite");
        Connection::open(&path).unwrap().execute_batch(schema).unwrap();
        let (table, order_by) = ("dream_runs".to_owned(), "at".to_owned());
        let source = StateSource::Sqlite { sqlite: path.clone(), table, order_by };
        let layout = StateLayout { dream_run: Some(source), ..StateLayout::default() };
        let json = Some(br#"{"at":7}"#.to_vec());
        let put = put_in(&layout, &StatePiece { kind: StateKind::DreamRun, json }, &path);
        (tmp, put)
    }

    /// Would catch: a trigger of a bundle's store that runs when the bundle's own state row is put into
    /// it: one without end holds the restore for ever.
    #[test]
    fn no_trigger_of_a_bundle_runs_while_its_state_is_put_in() {
        let (tmp, put) = crafted(
            "CREATE TABLE dream_runs(at); CREATE TABLE hit(x); \
             CREATE TRIGGER evil AFTER INSERT ON dream_runs BEGIN INSERT INTO hit VALUES (1); END",
        );
        assert!(put.unwrap());
        let conn = Connection::open(tmp.path().join("staged.sqlite")).unwrap();
        let count = |sql| conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM hit"), 0, "it ran");
        assert_eq!(count("SELECT at FROM dream_runs"), 7);
    }

    /// Would catch: a view in the place of the table that is read for its latest row, in a staged copy or,
    /// after the restore, in the live database: one without end holds every snapshot for ever.
    #[test]
    fn a_view_in_the_place_of_the_table_is_never_read() {
        let view = "CREATE VIEW dream_runs AS WITH RECURSIVE n(at) AS \
                    (SELECT 1 UNION ALL SELECT at + 1 FROM n) SELECT at FROM n";
        let (tmp, put) = crafted(view);
        assert_eq!(put.unwrap_err().kind(), snapshot_core::ErrorKind::Refused);
        let path = tmp.path().join("staged.sqlite");
        let conn = Live::new(&path).open().unwrap();
        assert_eq!(read_row(&conn, &path, "Dream_Runs", "at").unwrap(), None);
    }
}
