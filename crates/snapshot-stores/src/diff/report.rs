//! What a comparison tells: counts, notes and, where somebody listens, every difference.

use rusqlite::types::ValueRef;
use snapshot_core::{
    CellDifference, Change, Difference, NotCompared, RowCounts, RowDifference, SnapshotDiff,
    StoreName,
};

use super::cells::{Cells, cell, changed, same};

/// Hears each difference as it is found.
pub(super) type Sink<'s> = Option<&'s mut dyn FnMut(Difference)>;

/// What is told of one store.
pub(super) struct StoreReport<'r, 's> {
    pub(super) store: &'r StoreName,
    pub(super) sink: &'r mut Sink<'s>,
    pub(super) diff: &'r mut SnapshotDiff,
}

/// What is told of one table. A row's cells are its rowid and its columns.
pub(super) struct TableReport<'t, 'r, 's> {
    of: &'t mut StoreReport<'r, 's>,
    table: &'t str,
    columns: Vec<String>,
    /// Where in `columns` the primary key is.
    key: Vec<usize>,
    pub(super) counts: RowCounts,
}

impl<'r, 's> StoreReport<'r, 's> {
    pub(super) fn table<'t>(&'t mut self, table: &'t str) -> TableReport<'t, 'r, 's> {
        let counts = RowCounts::default();
        TableReport { of: self, table, columns: Vec::new(), key: Vec::new(), counts }
    }

    pub(super) fn note(&mut self, what: Vec<String>) {
        let store = self.store;
        self.diff.notes.extend(what.into_iter().map(|what| format!("{store}: {what}")));
    }

    /// Of this table, or the whole store, the counts do not know all.
    pub(super) fn not_compared(&mut self, table: Option<String>, why: impl Into<String>) {
        let (store, why) = (self.store.clone(), why.into());
        self.diff.not_compared.push(NotCompared { store, table, why });
    }
}

impl<'r, 's> TableReport<'_, 'r, 's> {
    pub(super) fn has_columns(&mut self, columns: Vec<String>, key: Vec<usize>) {
        (self.columns, self.key) = (columns, key);
    }

    pub(super) fn note(&mut self, why: &str) {
        self.of.diff.notes.push(format!("{}, table {}: {why}", self.of.store, self.table));
    }

    /// Of this table the counts do not know all.
    pub(super) fn not_compared(&mut self, why: impl Into<String>) {
        let table = Some(self.table.to_owned());
        self.of.not_compared(table, why);
    }

    /// A row that one side has.
    pub(super) fn row(&mut self, change: Change, row: Cells<'_>) -> Result<(), rusqlite::Error> {
        if !self.counted(change) {
            return Ok(());
        }
        let mut cells = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            if !self.key.contains(&at) {
                cells.push(one_side(column, change, row.get(at + 1)?));
            }
        }
        self.tell(change, self.key_of(row, change)?, cells);
        Ok(())
    }

    /// A row that both sides have and that differs.
    pub(super) fn changed(
        &mut self,
        old: Cells<'_>,
        new: Cells<'_>,
    ) -> Result<(), rusqlite::Error> {
        if !self.counted(Change::Changed) {
            return Ok(());
        }
        let mut cells = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            let (old, new) = (old.get(at + 1)?, new.get(at + 1)?);
            if !same(old, new) {
                cells.push(changed(column, old, new));
            }
        }
        self.tell(Change::Changed, self.key_of(new, Change::Changed)?, cells);
        Ok(())
    }

    /// Counts a row; whether somebody wants to know more.
    pub(super) fn counted(&mut self, change: Change) -> bool {
        self.counts.count(change);
        self.of.sink.is_some()
    }

    pub(super) fn tell(
        &mut self,
        change: Change,
        key: Vec<CellDifference>,
        cells: Vec<CellDifference>,
    ) {
        if let Some(sink) = self.of.sink {
            let (store, table) = (self.of.store.clone(), self.table.to_owned());
            sink(Difference::Row(RowDifference { store, table, change, key, cells }));
        }
    }

    /// The columns of the primary key, else the rowid.
    fn key_of(
        &self,
        row: Cells<'_>,
        change: Change,
    ) -> Result<Vec<CellDifference>, rusqlite::Error> {
        if self.key.is_empty() {
            return Ok(vec![one_side("rowid", change, row.get(0)?)]);
        }
        let cell = |at: &usize| Ok(one_side(&self.columns[*at], change, row.get(at + 1)?));
        self.key.iter().map(cell).collect()
    }
}

/// A value that one side has, or both.
pub(super) fn one_side(column: &str, change: Change, value: ValueRef<'_>) -> CellDifference {
    let value = Some(cell(value));
    let (old, new) = if change == Change::Removed { (value, None) } else { (None, value) };
    CellDifference { column: column.to_owned(), old, new, cosine: None }
}
