//! What is derived from redacted rows is made anew, and the whole written into a fresh file, which has no
//! free page and no index of before.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use snapshot_core::Control;

use super::cells::Cell;
use super::db::{Health, Journal, Store};
use super::keys::RedactedRows;
use super::tables::{Part, Schema};
use super::virtuals::{Module, Virtual};
use super::{embeddings, full_text, vectors};
use crate::error::StoresError;

/// A store without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FinishedStore {
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the fresh file.
    pub page_count: u32,
    /// What SQLite's `integrity_check` says of it, as at a capture.
    pub integrity: String,
    /// Vectors taken out, for they were made of a redacted text or may have been.
    pub vectors_deleted: u64,
    /// Full-text indexes built anew.
    pub indexes_rebuilt: u64,
    /// What somebody should know who restores it.
    pub notes: Vec<String>,
}

/// Makes full-text indexes anew, takes out the vectors of `rows` (those of all stores), deletes the planner's
/// samples, and writes the store into the fresh file `into`, which is checked. `path` is the one that
/// [`redact_rows`](super::redact_rows) was given. After an error neither file is of any use.
///
/// # Errors
/// [`StoresError::Unredactable`] if something derived cannot be made anew or the outcome is less sound than
/// what was captured; if the database cannot be read or written; if stopped.
pub fn finish_store(
    path: &Path,
    into: &Path,
    rows: &RedactedRows,
    control: &Control,
) -> Result<FinishedStore, StoresError> {
    let store = Store::to_change(path, Journal::Beside, control)?;
    let before = match rows.before(path) {
        Some(before) => before.clone(),
        None => store.watched(|| Ok(store.health()))?,
    };
    let schema = Schema::of(&store)?;
    delete_samples(&store, &schema)?;
    let indexed = vectors::remove_by_key(&store, &schema, rows)?;
    let plain = embeddings::blank(&store, &schema, rows)?;
    let (store, rebuilt) = full_text::rebuild(store, &schema)?;
    store.watched(|| write(&store, into))?;
    let counts = store.watched(|| counts(&store, &schema))?;
    drop(store);
    let mut finished = check(into, (&before, &counts), &rebuilt.known, control)?;
    finished.vectors_deleted = indexed.vectors + plain.vectors;
    finished.indexes_rebuilt = rebuilt.indexes;
    finished.notes = [indexed.notes, plain.notes, rebuilt.notes, strangers(&schema)].concat();
    Ok(finished)
}

/// Virtual tables of which only the tables beneath them are known.
fn strangers(schema: &Schema) -> Vec<String> {
    let stranger = |owner: &Virtual| match &owner.module {
        Module::Unknown(module) => Some(format!(
            "table {}: its module {module} is not known here, so that what it keeps was redacted as ordinary rows",
            owner.name
        )),
        _ => None,
    };
    schema.virtuals.iter().filter_map(stranger).collect()
}

/// Samples of indexed values; without them the planner guesses until the next `ANALYZE`.
fn delete_samples(store: &Store<'_>, schema: &Schema) -> Result<(), StoresError> {
    let is_sample = |name: &str| name.to_lowercase().starts_with("sqlite_stat");
    let samples = schema.tables.iter().filter(|table| table.part == Part::Derived);
    for table in samples.filter(|table| is_sample(&table.name)) {
        let sql = format!("DELETE FROM main.{}", table.quoted());
        store.conn.execute(&sql, []).map_err(store.refuse(&format!("table {}", table.name)))?;
    }
    Ok(())
}

/// Unlike `VACUUM`, this keeps the rowids of tables without an INTEGER PRIMARY KEY, by which full-text indexes
/// find their texts.
fn write(store: &Store<'_>, into: &Path) -> Result<(), StoresError> {
    let file = Cell::Text(into.as_os_str().as_bytes().to_vec());
    let done = store.conn.execute("VACUUM INTO ?1", [file]);
    done.map(drop).map_err(store.refuse("the whole of it"))
}

fn counts(store: &Store<'_>, schema: &Schema) -> Result<Vec<(String, i64)>, StoresError> {
    let count = |table: &super::tables::Table| {
        let sql = format!("SELECT count(*) FROM main.{} NOT INDEXED", table.quoted());
        let count = store.conn.query_row(&sql, [], |row| row.get(0)).map_err(store.fail("read"))?;
        Ok((table.name.clone(), count))
    };
    schema.tables.iter().map(count).collect()
}

/// The fresh file must be as sound as what was captured, with as many rows, and its indexes whole.
fn check(
    into: &Path,
    (before, rows): (&Health, &[(String, i64)]),
    indexes: &[Virtual],
    control: &Control,
) -> Result<FinishedStore, StoresError> {
    let store = Store::to_change(into, Journal::Off, control)?;
    if counts(&store, &Schema::of(&store)?)? != rows {
        return Err(StoresError::integrity(into.display(), "the fresh copy has not all rows"));
    }
    for index in indexes {
        let part = format!("table {}", index.name);
        store.watched(|| full_text::check(&store, index).map_err(store.refuse(&part)))?;
    }
    let after = store.watched(|| Ok(store.health()))?;
    if findings(&after.integrity) > findings(&before.integrity) {
        return Err(store.unredactable(
            "its integrity",
            &format!("it is less sound than before: {}", after.integrity),
        ));
    }
    if after.orphans > before.orphans {
        return Err(store.unredactable("its foreign keys", "more rows than before have no parent"));
    }
    let number = |name| store.conn.pragma_query_value(None, name, |row| row.get(0));
    Ok(FinishedStore {
        page_size: number("page_size").map_err(store.fail("read the header of"))?,
        page_count: number("page_count").map_err(store.fail("read the header of"))?,
        integrity: after.integrity,
        vectors_deleted: 0,
        indexes_rebuilt: 0,
        notes: Vec::new(),
    })
}

/// How much was found to be wrong; page numbers differ, so that the words cannot be compared.
fn findings(integrity: &str) -> usize {
    if integrity == "ok" { 0 } else { integrity.split("; ").count() }
}
