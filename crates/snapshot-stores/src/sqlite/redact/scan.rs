//! Looking for secrets in every row and definition of a database.

use std::path::Path;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use snapshot_core::{Control, FoundSecret, SecretPlace, SecretSearch};

use super::cells::{bytes, json_of};
use super::db::Store;
use super::tables::{Address, Column, Part, Schema, Table};
use super::vectors;
use crate::error::StoresError;

/// Hears of secrets.
type Hear<'f> = &'f mut dyn FnMut(SecretPlace, FoundSecret);

/// Looks for secrets in every text and blob cell of every table and in every definition, one row at a time.
/// Full-text indexes and vectors are passed over, for [`finish_store`](super::finish_store) makes them anew.
///
/// # Errors
/// [`StoresError::Unredactable`] if a cell is too large or packed; if the database cannot be read; if stopped.
pub fn scan_store(
    path: &Path,
    search: &dyn SecretSearch,
    control: &Control,
    found: &mut dyn FnMut(SecretPlace, FoundSecret),
) -> Result<(), StoresError> {
    let store = Store::to_read(path, control)?;
    definitions(&store, search, found)?;
    let schema = Schema::of(&store)?;
    for table in &schema.tables {
        store.go_on()?;
        if matches!(table.part, Part::Own | Part::Foreign(_)) {
            rows(&store, table, search, found)?;
        }
    }
    vectors::search(&store, &schema, &mut |column, rowid, text| {
        for secret in search.search(text) {
            let place = format!("{column}, rowid {rowid}");
            found(SecretPlace { place, is_key: true }, secret);
        }
    })
}

fn definitions(
    store: &Store<'_>,
    search: &dyn SecretSearch,
    found: Hear<'_>,
) -> Result<(), StoresError> {
    let sql = "SELECT rowid, name, tbl_name, sql FROM main.sqlite_schema";
    let mut statement = store.prepare(sql)?;
    let mut rows = statement.query([]).map_err(store.fail("read"))?;
    let mut seen = 0;
    while let Some(row) = rows.next().map_err(store.fail("read"))? {
        store.check(&mut seen)?;
        let number: i64 = row.get(0).map_err(store.fail("read"))?;
        for (at, column) in ["name", "tbl_name", "sql"].into_iter().enumerate() {
            let value = row.get_ref(at + 1).map_err(store.fail("read"))?;
            for secret in search.search(bytes(value).unwrap_or_default()) {
                let place = format!("table sqlite_schema, column {column}, rowid {number}");
                found(SecretPlace { place, is_key: column != "sql" }, secret);
            }
        }
    }
    Ok(())
}

fn rows(
    store: &Store<'_>,
    table: &Table,
    search: &dyn SecretSearch,
    found: Hear<'_>,
) -> Result<(), StoresError> {
    table.refuse_huge(store)?;
    for (sql, columns) in table.groups() {
        let skip = table.address.names().len();
        let mut statement = store.prepare(&sql)?;
        let mut rows = statement.query([]).map_err(store.fail("read"))?;
        let mut number = 0;
        while let Some(row) = rows.next().map_err(store.fail("read"))? {
            store.check(&mut number)?;
            for (at, column) in columns.iter().enumerate() {
                let value = row.get_ref(skip + at).map_err(store.fail("read"))?;
                for secret in secrets(store, search, value)? {
                    let place = place(table, column, row, number);
                    found(SecretPlace { place, is_key: column.is_key }, secret);
                }
            }
        }
    }
    Ok(())
}

/// The secrets of a cell; where it is JSONB, of the text that it stands for and what only its bytes show.
fn secrets(
    store: &Store<'_>,
    search: &dyn SecretSearch,
    value: ValueRef<'_>,
) -> Result<Vec<FoundSecret>, StoresError> {
    let Some(bytes) = bytes(value) else { return Ok(Vec::new()) };
    let mut secrets = Vec::new();
    if let ValueRef::Blob(blob) = value
        && let Some(text) = json_of(&store.conn, blob).map_err(store.fail("read"))?
    {
        secrets = search.search(text.as_bytes());
    }
    for secret in search.search(bytes) {
        if secrets.iter().all(|known| known.value != secret.value) {
            secrets.push(secret);
        }
    }
    Ok(secrets)
}

/// A key may be the secret itself, so a row without a rowid is told by its number.
fn place(table: &Table, column: &Column, row: &Row<'_>, number: u64) -> String {
    let (table_name, column) = (&table.name, &column.name);
    match (&table.address, row.get_ref(0)) {
        (Address::Rowid(_), Ok(ValueRef::Integer(rowid))) => {
            format!("table {table_name}, column {column}, rowid {rowid}")
        }
        _ => format!("table {table_name}, column {column}, row {number}"),
    }
}
