//! A table that both sides have, its rows compared in one pass over each.
//!
//! Both are read side by side in the order of their rowids, and rows that are the same there are done
//! with: nearly all. What is left finds its other half by the primary key, or, where a table has none,
//! by its content, for a rowid that nobody chose may change by itself. Only rowids (and digests) of
//! what is left are kept, in the database to work with: memory stays flat.

use rusqlite::Statement;
use rusqlite::types::ValueRef;
use snapshot_core::Change;

use super::cells::{Cells, digest, same};
use super::report::TableReport;
use super::rows::Databases;
use super::tables::{Pairing, Table, quote, rowid_name};
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
    /// The rowid in SQL, for tables that have one.
    rowid: &'static str,
    /// The columns of both sides; one that a side lacks is NULL there.
    columns: Vec<String>,
    /// Where in `columns` the primary key is, in its order; empty where it has none.
    key: Vec<usize>,
    /// What tells the keys of those columns apart.
    collations: Vec<String>,
    /// What to select of each side: the rowid and every column, of `o` and of `n`.
    of_old: String,
    of_new: String,
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
        let select = |alias: &str, side: &Table| {
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
        let (of_old, of_new) = (select("o", old), select("n", new));
        let collations = match pairing {
            Pairing::Key(key) => key.iter().map(|column| quote(&column.collation)).collect(),
            Pairing::Rowid | Pairing::Content => Vec::new(),
        };
        let (old_table, new_table) = (quote(&old.from), quote(&new.from));
        let rowid = rowid.unwrap_or_default();
        Some(Self { db, old_table, new_table, rowid, columns, key, collations, of_old, of_new })
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
        self.side_by_side(|old, new| match (old, new) {
            (Some(old), Some(new)) => report.changed(old, new),
            (Some(old), None) => report.row(Change::Removed, old),
            (None, Some(new)) => report.row(Change::Added, new),
            (None, None) => Ok(()),
        })
    }

    /// The rows lie in the order of their key, so that those of both sides meet by looking them up.
    pub(super) fn by_key(&self, report: &mut TableReport<'_, '_, '_>) -> Result<(), StoresError> {
        let (old, new) = (&self.old_table, &self.new_table);
        self.join(&format!("old.{old} o"), &format!("new.{new} n"), report)
    }

    /// By key or content, where the rowid is neither.
    pub(super) fn by_what_is_left(
        &self,
        report: &mut TableReport<'_, '_, '_>,
    ) -> Result<(), StoresError> {
        self.db.batch(LEFT)?;
        let keep = |side| self.db.prepare(&format!("INSERT INTO main.{side}_left VALUES (?1, ?2)"));
        let (mut old_left, mut new_left) = (keep("old")?, keep("new")?);
        self.side_by_side(|old, new| {
            old.map_or(Ok(()), |cells| self.leave(cells, &mut old_left))?;
            new.map_or(Ok(()), |cells| self.leave(cells, &mut new_left))
        })?;
        let rowid = self.rowid;
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

    /// Calls `each` with every two rows of one rowid that differ, and every row alone with its rowid.
    fn side_by_side(
        &self,
        mut each: impl FnMut(Option<Cells<'_>>, Option<Cells<'_>>) -> Result<(), rusqlite::Error>,
    ) -> Result<(), StoresError> {
        let (db, rowid) = (self.db, self.rowid);
        let Self { old_table, new_table, of_old, of_new, .. } = self;
        let mut olds =
            db.prepare(&format!("SELECT {of_old} FROM old.{old_table} o ORDER BY o.{rowid}"))?;
        let mut news =
            db.prepare(&format!("SELECT {of_new} FROM new.{new_table} n ORDER BY n.{rowid}"))?;
        let mut olds = olds.query([]).map_err(db.fail())?;
        let mut news = news.query([]).map_err(db.fail())?;
        let mut old = olds.next().map_err(db.fail())?;
        let mut new = news.next().map_err(db.fail())?;
        let mut seen = 0;
        loop {
            db.check(&mut seen)?;
            let rid =
                |row: Option<&rusqlite::Row<'_>>| row.map(|row| row.get::<_, i64>(0)).transpose();
            let rids = (rid(old).map_err(db.fail())?, rid(new).map_err(db.fail())?);
            let (has_old, has_new) = match rids {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) => (a <= b, b <= a),
                (a, b) => (a.is_some(), b.is_some()),
            };
            let cells =
                |row: Option<_>, has: bool| row.filter(|_| has).map(|row| Cells::new(row, 0));
            let (old_cells, new_cells) = (cells(old, has_old), cells(new, has_new));
            let equal = match (old_cells, new_cells) {
                (Some(a), Some(b)) => self.equal(a, b).map_err(db.fail())?,
                _ => false,
            };
            if !equal {
                each(old_cells, new_cells).map_err(db.fail())?;
            }
            if has_old {
                old = olds.next().map_err(db.fail())?;
            }
            if has_new {
                new = news.next().map_err(db.fail())?;
            }
        }
    }

    fn equal(&self, old: Cells<'_>, new: Cells<'_>) -> Result<bool, rusqlite::Error> {
        for column in 1..=self.columns.len() {
            if !same(old.get(column)?, new.get(column)?) {
                return Ok(false);
            }
        }
        Ok(true)
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
        // By type too, which a comparison of columns of two kinds does not heed: no row has two other halves.
        let on = columns.iter().zip(&self.collations).map(|(column, collation)| {
            format!(
                "n.{column} COLLATE {collation} = o.{column} AND typeof(n.{column}) = typeof(o.{column})"
            )
        });
        let on: Vec<String> = on.collect();
        let (on, Some(first)) = (on.join(" AND "), columns.first()) else { return Ok(()) };
        let Self { old_table, new_table, of_old, of_new, .. } = self;
        let second = self.columns.len() + 1;
        let known = second + self.key[0] + 1;
        let sql =
            format!("SELECT {of_old}, {of_new} FROM {olds} LEFT JOIN new.{new_table} n ON {on}");
        self.db.each(&sql, |old| {
            let new = old.from(second);
            match old.get(known)? {
                ValueRef::Null => report.row(Change::Removed, old),
                _ if self.equal(old, new)? => Ok(()),
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
            Change::Removed => ("old", "new", "o", &self.of_old, &self.old_table),
            _ => ("new", "old", "n", &self.of_new, &self.new_table),
        };
        let rowid = self.rowid;
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
