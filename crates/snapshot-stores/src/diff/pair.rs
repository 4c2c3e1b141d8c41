//! A table that both sides have, its rows compared in one pass over each.
//!
//! Both are read side by side in the order of their rowids, and rows that are the same there are done
//! with: nearly all. What is left finds its other half by the primary key, or, where a table has none,
//! by its content, for a rowid that nobody chose may change by itself. Only rowids (and digests) of
//! what is left are kept, in the database to work with: memory stays flat.

use rusqlite::Statement;
use rusqlite::types::ValueRef;
use snapshot_core::Change;

use super::cells::{Cells, digest};
use super::report::TableReport;
use super::rows::Databases;
use super::tables::{Pairing, Table, quote, rowid_name};
use super::walk::{Side, Walk};
use crate::error::StoresError;

/// What is left of each side: its rowid, and a digest where the content is how it finds its other half.
const LEFT: &str = "
    CREATE TABLE IF NOT EXISTS main.old_left (rid INTEGER PRIMARY KEY, digest BLOB);
    CREATE TABLE IF NOT EXISTS main.new_left (rid INTEGER PRIMARY KEY, digest BLOB);
    CREATE INDEX IF NOT EXISTS main.old_digests ON old_left (digest) WHERE digest IS NOT NULL;
    CREATE INDEX IF NOT EXISTS main.new_digests ON new_left (digest) WHERE digest IS NOT NULL;
    DELETE FROM main.old_left;
    DELETE FROM main.new_left;";

/// See the module.
pub(super) struct Pair<'a> {
    db: &'a Databases<'a>,
    /// The names in SQL of the tables that hold its rows.
    old_table: String,
    new_table: String,
    walk: Walk,
    /// The columns of both sides; one that a side lacks is NULL there.
    columns: Vec<String>,
    /// Where in `columns` the primary key is, in its order; empty where it has none.
    key: Vec<usize>,
    /// What tells the keys of those columns apart.
    collations: Vec<String>,
}

impl<'a> Pair<'a> {
    /// None where the rowid has no name.
    pub(super) fn new(
        db: &'a Databases<'a>,
        (old, new): (&Table, &Table),
        pairing: &Pairing,
    ) -> Option<Self> {
        let rowid = if new.without_rowid { None } else { Some(rowid_name(old, new)?) };
        let gone = old.columns.iter().filter(|(name, _)| !new.has(name));
        let columns = new.columns.iter().chain(gone).map(|(name, _)| name.clone());
        let columns: Vec<String> = columns.collect();
        let place = |name: &str| columns.iter().position(|column| column == name);
        let key = match pairing {
            Pairing::Content => Vec::new(),
            Pairing::Key(key) => key.iter().filter_map(|column| place(&column.name)).collect(),
            Pairing::Rowid => new
                .columns
                .iter()
                .filter(|(_, at)| *at > 0)
                .filter_map(|(name, _)| place(name))
                .collect(),
        };
        let select = |alias: &'static str, side: &Table| {
            let mut list =
                rowid.map_or_else(|| "NULL".to_owned(), |rowid| format!("{alias}.{rowid}"));
            for column in &columns {
                match side.has(column) {
                    true => list.extend([", ", alias, ".", &quote(column)]),
                    false => list.push_str(", NULL"),
                }
            }
            list
        };
        let collations = match pairing {
            Pairing::Key(key) => key.iter().map(|column| quote(&column.collation)).collect(),
            Pairing::Rowid | Pairing::Content => Vec::new(),
        };
        let (old_table, new_table) = (quote(&old.from), quote(&new.from));
        let side = |alias, schema, table: &String, side| Side {
            from: format!("{schema}.{table} {alias}"),
            alias,
            select: select(alias, side),
        };
        let walk = Walk {
            old: side("o", "old", &old_table, old),
            new: side("n", "new", &new_table, new),
            rowid: rowid.unwrap_or_default(),
            columns: columns.len(),
        };
        Some(Self { db, old_table, new_table, walk, columns, key, collations })
    }

    /// Tells the columns to the report, and those that only one side has to people.
    pub(super) fn tell_columns(
        &self,
        (old, new): (&Table, &Table),
        report: &mut TableReport<'_, '_, '_>,
    ) {
        for column in &self.columns {
            match (old.has(column), new.has(column)) {
                (false, _) => {
                    report.note(&format!("column {column} is new; it counts as NULL before"))
                }
                (_, false) => {
                    report.note(&format!("column {column} is gone; it counts as NULL now"))
                }
                _ => {}
            }
        }
        let label =
            |column: &String| new.label(column).or(old.label(column)).unwrap_or(column).to_owned();
        report.has_columns(self.columns.iter().map(label).collect(), self.key.clone());
    }

    /// The rowid is the key.
    pub(super) fn by_rowid(&self, report: &mut TableReport<'_, '_, '_>) -> Result<(), StoresError> {
        self.walk.run(self.db, |old, new| match (old, new) {
            (Some(old), Some(new)) => report.changed(old, new),
            (Some(old), None) => report.row(Change::Removed, old),
            (None, Some(new)) => report.row(Change::Added, new),
            (None, None) => Ok(()),
        })
    }

    /// The rows lie in the order of their key, so that those of both sides meet by looking them up.
    pub(super) fn by_key(&self, report: &mut TableReport<'_, '_, '_>) -> Result<(), StoresError> {
        self.join(&self.walk.old.from, &self.walk.new.from, report)
    }

    /// By key or content, where the rowid is neither.
    pub(super) fn by_what_is_left(
        &self,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        self.db.batch(LEFT)?;
        let keep = |side| self.db.prepare(&format!("INSERT INTO main.{side}_left VALUES (?1, ?2)"));
        let (mut old_left, mut new_left) = (keep("old")?, keep("new")?);
        self.walk.run(self.db, |old, new| {
            old.map_or(Ok(()), |cells| self.leave(cells, &mut old_left))?;
            new.map_or(Ok(()), |cells| self.leave(cells, &mut new_left))
        })?;
        let rowid = self.walk.rowid;
        if !self.key.is_empty() {
            let left = |side: &str, table: &str, alias: &str| {
                format!(
                    "main.{side}_left l CROSS JOIN {side}.{table} {alias} \
                     ON {alias}.{rowid} = l.rid AND l.digest IS NULL"
                )
            };
            let olds = left("old", &self.old_table, "o");
            self.join(&olds, &left("new", &self.new_table, "n"), report)?;
        }
        self.surplus(Change::Removed, report)?;
        self.surplus(Change::Added, report)
    }

    /// Keeps a row for later: by its content where it has no key, or one with a NULL, which is unlike
    /// every other.
    fn leave(&self, cells: Cells<'_>, left: &mut Statement<'_>) -> Result<(), rusqlite::Error> {
        let mut keyed = !self.key.is_empty();
        for column in &self.key {
            keyed &= cells.get(column + 1)? != ValueRef::Null;
        }
        let digest = match keyed {
            true => None,
            false => Some(digest(cells.from(1), self.columns.len())?),
        };
        let ValueRef::Integer(rid) = cells.get(0)? else { return Ok(()) };
        left.execute((rid, digest))?;
        Ok(())
    }

    /// Tells the rows of two sources `o` and `n` by their keys, none of which is NULL.
    fn join(
        &self,
        olds: &str,
        news: &str,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        let columns: Vec<String> = self.key.iter().map(|at| quote(&self.columns[*at])).collect();
        let on = columns.iter().zip(&self.collations);
        let on =
            on.map(|(column, collation)| format!("n.{column} COLLATE {collation} = o.{column}"));
        let on: Vec<String> = on.collect();
        let (on, Some(first)) = (on.join(" AND "), columns.first()) else { return Ok(()) };
        let (old_table, new_table) = (&self.old_table, &self.new_table);
        let (of_old, of_new) = (&self.walk.old.select, &self.walk.new.select);
        let second = self.columns.len() + 1;
        let known = second + self.key[0] + 1;
        let sql =
            format!("SELECT {of_old}, {of_new} FROM {olds} LEFT JOIN new.{new_table} n ON {on}");
        self.db.each(&sql, |old| {
            let new = old.from(second);
            match old.get(known)? {
                ValueRef::Null => report.row(Change::Removed, old),
                _ if self.walk.equal(old, new)? => Ok(()),
                _ => report.changed(old, new),
            }
        })?;
        let sql = format!(
            "SELECT {of_new} FROM {news} LEFT JOIN old.{old_table} o ON {on} WHERE o.{first} IS NULL"
        );
        self.db.each(&sql, |new| report.row(Change::Added, new))
    }

    /// Tells the rows of one side whose content it has more often than the other.
    fn surplus(
        &self,
        change: Change,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        let (side, other, alias, list, table) = match change {
            Change::Removed => ("old", "new", "o", &self.walk.old.select, &self.old_table),
            _ => ("new", "old", "n", &self.walk.new.select, &self.new_table),
        };
        let rowid = self.walk.rowid;
        let sql = format!(
            "SELECT {list} FROM (SELECT rid, digest, \
             row_number() OVER (PARTITION BY digest ORDER BY rid) AS nth \
             FROM main.{side}_left WHERE digest IS NOT NULL) l \
             CROSS JOIN {side}.{table} {alias} ON {alias}.{rowid} = l.rid \
             WHERE l.nth > (SELECT count(*) FROM main.{other}_left x WHERE x.digest = l.digest)"
        );
        self.db.each(&sql, |cells| report.row(change, cells))
    }
}
