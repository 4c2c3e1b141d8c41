//! Taking secrets out of every row, in place.
//!
//! Read first, then written: a batch of changed rows is gathered while its table is read, and written by
//! their rowids or keys once the reading has stopped, so that no row is met twice because its key changed.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{ErrorCode, Row, ToSql};
use snapshot_core::{Control, Redactor};

use super::cells::{Cell, json_of, jsonb_of};
use super::db::{Journal, Store};
use super::embeddings::Beside;
use super::keys::RedactedRows;
use super::tables::{Address, Column, Part, Schema, Table};
use super::{schema, vectors};
use crate::error::StoresError;
use crate::sqlite::quote;

/// Bytes of changed cells that are held before they are written.
const BATCH_BYTES: usize = 8 << 20;

/// What was taken out of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreRedaction {
    /// Cells changed, definitions among them.
    pub cells: u64,
    /// Vectors taken out, for they were made of a redacted text.
    pub vectors_deleted: u64,
}

/// A row to be changed.
struct Change {
    /// What names it.
    row: Vec<Cell>,
    /// Numbers of columns in their group, and what they become.
    cells: Vec<(usize, Cell)>,
}

/// What one reading of a table gathered.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

/// Takes secrets out of every row and definition of a private copy, in place; after an error the copy is of
/// no use. Notes in `rows` which rows those were.
///
/// # Errors
/// [`StoresError::Unredactable`] if what takes a secret's place fits no constraint, or a name holds one; if
/// the database cannot be read or written; if stopped.
pub fn redact_rows(
    path: &Path,
    redactor: &dyn Redactor,
    rows: &mut RedactedRows,
    control: &Control,
) -> Result<StoreRedaction, StoresError> {
    let mut done = StoreRedaction::default();
    let store = Store::to_change(path, Journal::Off, control)?;
    let health = store.watched(|| Ok(store.health()))?;
    let orphans = health.orphans;
    rows.of(path).started(health);
    let before = Schema::of(&store)?;
    schema::refuse_names(&store, &before, redactor)?;
    drop(before);
    let (store, definitions) = schema::rewrite(store, redactor)?;
    done.cells += definitions;
    let schema = Schema::of(&store)?;
    // Before the rows beneath them change.
    let doomed = vectors::doomed(&store, &schema, redactor, rows.of(path))?;
    done.cells += doomed.cells;
    done.vectors_deleted += vectors::remove(&store, &doomed.entries)?;
    for table in &schema.tables {
        store.go_on()?;
        if matches!(table.part, Part::Own | Part::Foreign(_)) {
            table.refuse_huge(&store)?;
            Rewrite::new(&store, table, redactor, rows, &mut done).table()?;
        }
    }
    if store.orphans() > orphans {
        let why = "what takes the place of its keys breaks a foreign key";
        return Err(store.unredactable("its foreign keys", why));
    }
    Ok(done)
}

/// One table on its way.
struct Rewrite<'a> {
    store: &'a Store<'a>,
    table: &'a Table,
    redactor: &'a dyn Redactor,
    rows: &'a mut RedactedRows,
    done: &'a mut StoreRedaction,
    beside: Beside<'a>,
}

impl<'a> Rewrite<'a> {
    fn new(
        store: &'a Store<'a>,
        table: &'a Table,
        redactor: &'a dyn Redactor,
        rows: &'a mut RedactedRows,
        done: &'a mut StoreRedaction,
    ) -> Self {
        Self { store, table, redactor, rows, done, beside: Beside::of(table) }
    }

    fn table(mut self) -> Result<(), StoresError> {
        for (sql, columns) in self.table.groups() {
            match &self.table.address {
                Address::Rowid(name) => self.by_rowid(&sql, name, columns)?,
                Address::Key(_) | Address::Nothing => self.again_and_again(&sql, columns)?,
            }
        }
        Ok(())
    }

    /// On from the last rowid of the batch before.
    fn by_rowid(&mut self, sql: &str, rowid: &str, columns: &[Column]) -> Result<(), StoresError> {
        let rowid = quote(rowid);
        let first = format!("{sql} ORDER BY {rowid}");
        let on = format!("{sql} WHERE {rowid} > ?1 ORDER BY {rowid}");
        let mut last = None;
        loop {
            let batch = match &last {
                None => self.gather(&first, columns, &[])?,
                Some(cell) => self.gather(&on, columns, &[cell])?,
            };
            let is_full = batch.is_full();
            last = batch.changes.last().and_then(|change| change.row.first()).cloned().or(last);
            self.write(batch, columns)?;
            if !is_full {
                return Ok(());
            }
        }
    }

    /// From the start until nothing is left to change: keys may have changed, and with them the order.
    fn again_and_again(&mut self, sql: &str, columns: &[Column]) -> Result<(), StoresError> {
        let mut changed = 0_u64;
        loop {
            let batch = self.gather(sql, columns, &[])?;
            let is_full = batch.is_full();
            changed += batch.changes.len() as u64;
            if is_full && self.count()? < changed {
                let why = "the policy finds secrets in what takes their place";
                return Err(self.store.unredactable(&self.part(), why));
            }
            self.write(batch, columns)?;
            if !is_full {
                return Ok(());
            }
        }
    }

    fn count(&self) -> Result<u64, StoresError> {
        let sql = format!("SELECT count(*) FROM main.{}", self.table.quoted());
        let count: i64 = self
            .store
            .conn
            .query_row(&sql, [], |row| row.get(0))
            .map_err(self.store.fail("read"))?;
        Ok(count.unsigned_abs())
    }

    /// The rows to change, up to a batch of them.
    fn gather(
        &self,
        sql: &str,
        columns: &[Column],
        from: &[&dyn ToSql],
    ) -> Result<Batch, StoresError> {
        let fail = || self.store.fail("read");
        let mut statement = self.store.prepare(sql)?;
        let mut rows = statement.query(from).map_err(fail())?;
        let (mut batch, mut seen) = (Batch::default(), 0);
        while let Some(row) = rows.next().map_err(fail())? {
            self.store.check(&mut seen)?;
            if let Some(change) = self.change(row, columns)? {
                batch.add(change);
                if batch.is_full() {
                    break;
                }
            }
        }
        Ok(batch)
    }

    fn change(&self, row: &Row<'_>, columns: &[Column]) -> Result<Option<Change>, StoresError> {
        let skip = self.table.address.names().len();
        let mut cells = Vec::new();
        for (at, column) in columns.iter().enumerate().filter(|(_, column)| !column.is_generated) {
            let value = row.get_ref(skip + at).map_err(self.store.fail("read"))?;
            if let Some(cell) = self.redacted(value, column)? {
                cells.push((at, cell));
            }
        }
        if cells.is_empty() {
            return Ok(None);
        }
        let key = (0..skip).map(|at| row.get_ref(at).map(Cell::from));
        let row: Vec<_> = key.collect::<Result<_, _>>().map_err(self.store.fail("read"))?;
        if row.is_empty() {
            let why = "its columns have all names of the rowid, so that no row can be named";
            return Err(self.store.unredactable(&self.part(), why));
        }
        Ok(Some(Change { row, cells }))
    }

    /// A cell without its secrets, of the same kind; none where it has none.
    fn redacted(&self, value: ValueRef<'_>, column: &Column) -> Result<Option<Cell>, StoresError> {
        match value {
            ValueRef::Text(text) => Ok(self.redactor.redact(text).map(Cell::Text)),
            ValueRef::Blob(blob) => {
                let conn = &self.store.conn;
                if let Some(text) = json_of(conn, blob).map_err(self.store.fail("read"))?
                    && let Some(text) = self.redactor.redact(text.as_bytes())
                {
                    let blob = jsonb_of(conn, &text).map_err(self.store.fail("redact"))?;
                    let why = "without its secrets a JSON value is none any more";
                    let part = self.part_of(column);
                    return blob
                        .map(|blob| Some(Cell::Blob(blob)))
                        .ok_or_else(|| self.store.unredactable(&part, why));
                }
                let blob = self.redactor.redact(blob).map(Cell::Blob);
                if let (Some(_), Part::Foreign(module)) = (&blob, &self.table.part) {
                    let why = format!("it belongs to the module {module}, which is not known here");
                    return Err(self.store.unredactable(&self.part_of(column), &why));
                }
                Ok(blob)
            }
            _ => Ok(None),
        }
    }

    fn write(&mut self, batch: Batch, columns: &[Column]) -> Result<(), StoresError> {
        if batch.changes.is_empty() {
            return Ok(());
        }
        self.store.batch("BEGIN")?;
        for change in batch.changes {
            self.store.go_on()?;
            let vectors =
                self.beside.read(self.store, &change.row, self.rows.of(self.store.path))?;
            self.done.cells += change.cells.len() as u64;
            self.done.vectors_deleted += vectors.len() as u64;
            let update = |blank: &[(String, Cell)]| self.update(&change, columns, blank);
            match update(&vectors.as_null()) {
                // A constraint may want a vector of its length where the column would take NULL.
                Err(e) if !vectors.is_empty() && is_constraint(&e) => update(&vectors.as_zeros()),
                done => done,
            }
            .map_err(self.store.refuse(&self.part()))?;
        }
        self.store.batch("COMMIT")
    }

    fn update(
        &self,
        change: &Change,
        columns: &[Column],
        blank: &[(String, Cell)],
    ) -> Result<(), rusqlite::Error> {
        let is_new = |name: &str| change.cells.iter().all(|(at, _)| columns[*at].name != name);
        let cells = change.cells.iter().map(|(at, cell)| (columns[*at].name.as_str(), cell));
        let blank = blank.iter().map(|(name, cell)| (name.as_str(), cell));
        let all: Vec<_> = cells.chain(blank.filter(|(name, _)| is_new(name))).collect();
        self.table.update(self.store, &change.row, &all)
    }

    fn part(&self) -> String {
        format!("table {}", self.table.name)
    }

    fn part_of(&self, column: &Column) -> String {
        format!("table {}, column {}", self.table.name, column.name)
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

impl Batch {
    fn add(&mut self, change: Change) {
        let cells = change.cells.iter().map(|(_, cell)| cell).chain(&change.row);
        self.bytes += size_of::<Change>() + cells.map(Cell::bytes).sum::<usize>();
        self.changes.push(change);
    }

    const fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES
    }
}
