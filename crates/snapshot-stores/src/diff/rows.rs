//! Rows of two databases, compared by SQL over both: by primary key where a table has one, else as
//! multisets, for a rowid that nobody chose may change by itself.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;
use snapshot_core::RowCounts;

use crate::error::StoresError;
use crate::sqlite::open_private;

/// A column: its name, and its place in the primary key (0: not in it).
type Column = (String, i64);

/// Counts rows of `new` that `old` lacks, rows that differ, and rows of `old` that `new` lacks.
/// Virtual tables and their shadow tables are derived and not counted. What cannot be compared is
/// said through `note`.
pub(crate) fn compare(
    old: Option<&Path>,
    new: Option<&Path>,
    mut note: impl FnMut(String),
) -> Result<RowCounts, StoresError> {
    let at = new.or(old).unwrap_or(Path::new(""));
    let fail = || StoresError::sqlite("compare", at);
    let conn = open_private(Path::new(":memory:"))?;
    for (side, path) in [("old", old), ("new", new)] {
        let path = path.and_then(Path::to_str).unwrap_or(":memory:");
        conn.execute(&format!("ATTACH ?1 AS {side}"), [path]).map_err(fail())?;
    }
    let (old_tables, new_tables) =
        (tables(&conn, "old").map_err(fail())?, tables(&conn, "new").map_err(fail())?);
    let mut counts = RowCounts::default();
    for table in old_tables.union(&new_tables) {
        match table_counts(&conn, table, old_tables.contains(table), new_tables.contains(table)) {
            Ok(found) => {
                counts.added += found.added;
                counts.changed += found.changed;
                counts.removed += found.removed;
            }
            Err(e) => note(format!("table {table} not compared: {e}")),
        }
    }
    Ok(counts)
}

fn table_counts(
    conn: &Connection,
    table: &str,
    in_old: bool,
    in_new: bool,
) -> Result<RowCounts, rusqlite::Error> {
    let count = |sql: &str| conn.query_row(sql, [], |r| r.get::<_, i64>(0)).map(i64::unsigned_abs);
    let t = quote(table);
    if !in_old || !in_new {
        let n = count(&format!("SELECT count(*) FROM {}.{t}", if in_new { "new" } else { "old" }))?;
        return Ok(if in_new {
            RowCounts { added: n, ..Default::default() }
        } else {
            RowCounts { removed: n, ..Default::default() }
        });
    }
    let (old_columns, new_columns) = (columns(conn, "old", table)?, columns(conn, "new", table)?);
    let key: Vec<&Column> = new_columns.iter().filter(|(_, pk)| *pk > 0).collect();
    if key.is_empty() || old_columns != new_columns {
        return multiset(conn, &t, &old_columns, &new_columns);
    }
    let equal = |columns: &[&Column]| {
        let terms: Vec<String> =
            columns.iter().map(|(c, _)| format!("o.{0} IS n.{0}", quote(c))).collect();
        terms.join(" AND ")
    };
    let same_key = equal(&key);
    let rest: Vec<&Column> = new_columns.iter().filter(|(_, pk)| *pk == 0).collect();
    let missing = |from: &str, of: &str, x: &str, y: &str| {
        format!(
            "SELECT count(*) FROM {from}.{t} {x} WHERE NOT EXISTS (SELECT 1 FROM {of}.{t} {y} WHERE {same_key})"
        )
    };
    let changed = match rest.is_empty() {
        true => 0,
        false => count(&format!(
            "SELECT count(*) FROM new.{t} n JOIN old.{t} o ON {same_key} WHERE NOT ({})",
            equal(&rest)
        ))?,
    };
    Ok(RowCounts {
        added: count(&missing("new", "old", "n", "o"))?,
        changed,
        removed: count(&missing("old", "new", "o", "n"))?,
    })
}

/// Rows as multisets over the columns that both sides have.
fn multiset(
    conn: &Connection,
    t: &str,
    old: &[Column],
    new: &[Column],
) -> Result<RowCounts, rusqlite::Error> {
    let common: Vec<String> = new
        .iter()
        .filter(|(c, _)| old.iter().any(|(o, _)| o == c))
        .map(|(c, _)| quote(c))
        .collect();
    let columns = common.join(", ");
    let surplus = |of: &str, over: &str| {
        let sql = format!(
            "SELECT ifnull(sum(max(d, 0)), 0) FROM (SELECT sum(n) AS d FROM \
             (SELECT {columns}, 1 AS n FROM {of}.{t} UNION ALL SELECT {columns}, -1 AS n FROM {over}.{t}) GROUP BY {columns})"
        );
        conn.query_row(&sql, [], |r| r.get::<_, i64>(0)).map(i64::unsigned_abs)
    };
    Ok(RowCounts { added: surplus("new", "old")?, changed: 0, removed: surplus("old", "new")? })
}

fn tables(conn: &Connection, schema: &str) -> Result<BTreeSet<String>, rusqlite::Error> {
    let sql = format!(
        "SELECT name FROM pragma_table_list WHERE schema = '{schema}' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    );
    conn.prepare(&sql)?.query_map([], |r| r.get(0))?.collect()
}

fn columns(conn: &Connection, schema: &str, table: &str) -> Result<Vec<Column>, rusqlite::Error> {
    let sql = format!("SELECT name, pk FROM pragma_table_info(?1, '{schema}')");
    conn.prepare(&sql)?.query_map([table], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(before: &str, after: &str) -> RowCounts {
        let tmp = tempfile::tempdir().unwrap();
        let make = |name: &str, sql: &str| {
            let path = tmp.path().join(name);
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            path
        };
        let (old, new) = (make("old.db", before), make("new.db", after));
        compare(Some(&old), Some(&new), |note| panic!("{note}")).unwrap()
    }

    #[test]
    fn rows_with_a_key_are_added_changed_and_removed() {
        let before = "CREATE TABLE t(id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('a', 1), ('b', NULL), ('c', 3)";
        let after = "CREATE TABLE t(id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('a', 1), ('b', 2), ('d', 3), ('e', 4)";
        assert_eq!(counts(before, after), RowCounts { added: 2, changed: 1, removed: 1 });
    }

    #[test]
    fn rows_without_a_key_are_a_multiset() {
        let before = "CREATE TABLE t(x); INSERT INTO t VALUES (1), (1), (2)";
        let after = "CREATE TABLE t(x); INSERT INTO t VALUES (2), (1), (3)";
        assert_eq!(counts(before, after), RowCounts { added: 1, changed: 0, removed: 1 });
    }

    #[test]
    fn an_index_table_of_a_full_text_search_is_not_counted_twice() {
        let before =
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE VIRTUAL TABLE f USING fts5(x)";
        let after = "CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE VIRTUAL TABLE f USING fts5(x); \
                     INSERT INTO t VALUES (1, 'a'); INSERT INTO f VALUES ('a')";
        assert_eq!(counts(before, after), RowCounts { added: 1, changed: 0, removed: 0 });
    }

    #[test]
    fn a_store_on_one_side_only_is_all_added_or_all_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("x.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)")
            .unwrap();
        assert_eq!(compare(None, Some(&path), |_| ()).unwrap().added, 2);
        assert_eq!(compare(Some(&path), None, |_| ()).unwrap().removed, 2);
    }
}
