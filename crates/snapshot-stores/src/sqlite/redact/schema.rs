//! Secrets in definitions: defaults, comments, conditions, views, triggers.

use rusqlite::types::ValueRef;
use snapshot_core::Redactor;

use super::cells::{Cell, bytes};
use super::db::{Journal, Store};
use super::tables::{Schema, Table};
use crate::error::StoresError;
use crate::sqlite::quote;

/// A definition without its secrets.
struct Definition {
    rowid: i64,
    sql: Cell,
}

/// Refuses secrets in names, which other definitions and the agent's program use.
pub(super) fn refuse_names(
    store: &Store<'_>,
    schema: &Schema,
    redactor: &dyn Redactor,
) -> Result<(), StoresError> {
    let columns = schema.tables.iter().flat_map(|table| &table.columns);
    let names = columns.map(|column| column.name.as_bytes());
    let why = "the name of a table, an index or a column holds a secret";
    let mut is_refused = names.map(|name| redactor.redact(name)).any(|name| name.is_some());
    let mut statement = store.prepare("SELECT name, tbl_name FROM main.sqlite_schema")?;
    let mut rows = statement.query([]).map_err(store.fail("read"))?;
    while let Some(row) = rows.next().map_err(store.fail("read"))? {
        for at in 0..2 {
            let value = row.get_ref(at).map_err(store.fail("read"))?;
            is_refused |= bytes(value).is_some_and(|name| redactor.redact(name).is_some());
        }
    }
    if is_refused { Err(store.unredactable("its definitions", why)) } else { Ok(()) }
}

/// Rewrites what has secrets, opens the copy again and sees that everything is there as before; indexes and
/// computed columns follow. Gives how many were rewritten.
pub(super) fn rewrite<'a>(
    store: Store<'a>,
    redactor: &dyn Redactor,
) -> Result<(Store<'a>, u64), StoresError> {
    let definitions = definitions(&store, redactor)?;
    if definitions.is_empty() {
        return Ok((store, 0));
    }
    let before = shape(&store)?;
    replace(&store, &definitions)?;
    let store = again(store)?;
    let part = "its definitions";
    if shape(&store)
        .map_err(|_| store.unredactable(part, "without their secrets they are not understood"))?
        != before
    {
        return Err(store.unredactable(part, "without their secrets they mean something else"));
    }
    store.watched(|| store.conn.execute_batch("REINDEX").map_err(store.refuse(part)))?;
    for table in &Schema::of(&store)?.tables {
        compute(&store, table)?;
    }
    Ok((store, definitions.len() as u64))
}

/// Puts definitions in the place of those of the same rowids.
pub(super) fn put(store: &Store<'_>, definitions: &[(i64, &str)]) -> Result<(), StoresError> {
    let owned = |&(rowid, sql): &(i64, &str)| {
        let sql = Cell::Text(sql.as_bytes().to_vec());
        Definition { rowid, sql }
    };
    replace(store, &definitions.iter().map(owned).collect::<Vec<_>>())
}

fn definitions(store: &Store<'_>, redactor: &dyn Redactor) -> Result<Vec<Definition>, StoresError> {
    let mut statement = store.prepare("SELECT rowid, sql FROM main.sqlite_schema")?;
    let mut rows = statement.query([]).map_err(store.fail("read"))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(store.fail("read"))? {
        let rowid = row.get(0).map_err(store.fail("read"))?;
        let value = row.get_ref(1).map_err(store.fail("read"))?;
        let Some(sql) = bytes(value).and_then(|sql| redactor.redact(sql)) else { continue };
        let is_blob = matches!(value, ValueRef::Blob(_));
        let sql = if is_blob { Cell::Blob(sql) } else { Cell::Text(sql) };
        found.push(Definition { rowid, sql });
    }
    Ok(found)
}

fn replace(store: &Store<'_>, definitions: &[Definition]) -> Result<(), StoresError> {
    store.batch("PRAGMA writable_schema = ON; BEGIN")?;
    for Definition { rowid, sql } in definitions {
        store
            .conn
            .execute("UPDATE main.sqlite_schema SET sql = ?1 WHERE rowid = ?2", (sql, rowid))
            .map_err(store.fail("redact"))?;
    }
    store.batch("COMMIT; PRAGMA writable_schema = OFF")
}

/// Opened again, so that every definition is read anew.
pub(super) fn again(store: Store<'_>) -> Result<Store<'_>, StoresError> {
    let Store { conn, path, control } = store;
    let mode: String = conn
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .map_err(StoresError::sqlite("read", path))?;
    drop(conn);
    let journal = if mode == "off" { Journal::Off } else { Journal::Beside };
    Store::to_change(path, journal, control)
}

/// Every table and its columns, and how many columns each view gives, as SQLite understands them.
fn shape(store: &Store<'_>) -> Result<Vec<String>, StoresError> {
    let schema = Schema::of(store)?;
    let mut shape = Vec::new();
    for table in &schema.tables {
        let names: Vec<_> =
            table.columns.iter().map(|c| (&c.name, &c.declared, c.is_key)).collect();
        shape.push(format!("{} {names:?}", table.name));
    }
    let sql = "SELECT type, name, tbl_name FROM main.sqlite_schema ORDER BY rowid";
    let mut statement = store.prepare(sql)?;
    let mut rows = statement.query([]).map_err(store.fail("read"))?;
    while let Some(row) = rows.next().map_err(store.fail("read"))? {
        let get = |at| row.get::<_, String>(at).map_err(store.fail("read"));
        let (kind, name, table) = (get(0)?, get(1)?, get(2)?);
        let columns = (kind == "view").then(|| {
            let sql = format!("SELECT * FROM main.{}", quote(&name));
            store.conn.prepare(&sql).ok().map(|view| view.column_count())
        });
        shape.push(format!("{kind} {name} {table} {columns:?}"));
    }
    Ok(shape)
}

/// Columns that follow from others are computed again by any change of their row.
fn compute(store: &Store<'_>, table: &Table) -> Result<(), StoresError> {
    let is_computed = table.columns.iter().any(|column| column.is_generated);
    let Some(column) = table.columns.iter().find(|column| !column.is_generated) else {
        return Ok(());
    };
    if is_computed {
        let column = quote(&column.name);
        let sql = format!("UPDATE main.{} SET {column} = {column}", table.quoted());
        store.conn.execute(&sql, []).map_err(store.refuse(&format!("table {}", table.name)))?;
    }
    Ok(())
}
