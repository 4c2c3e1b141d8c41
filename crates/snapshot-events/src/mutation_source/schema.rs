//! The tables of a database, and the triggers that tell of them.
//!
//! Invariant: a name is only ever quoted; nothing that a crafted schema contains is run.

use std::fmt::Write;

use rusqlite::{Connection, Row};

use crate::mutation_source::row::Shape;
use crate::mutation_source::{MutationSourceError, MutationTables};

/// Our function, which triggers hand rows to.
pub(super) const FUNCTION: &str = "nexo_mutation_row";
/// Our virtual table, by which SQLite tells what becomes of a transaction, and its module.
pub(super) const SINK: &str = "nexo_mutation_sink";
/// Values in one call: with the three that say what they are fewer than the 127 arguments that
/// every build of SQLite allows (<https://www.sqlite.org/limits.html>, 6).
const VALUES_A_CALL: usize = 100;

/// An ordinary table of `main`.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    /// Columns that hold values of their own, in the table's order.
    columns: Vec<String>,
    /// What of a row its key is made of: columns, or the rowid under a name that no column has.
    key: Vec<String>,
    /// The rowid's name, where the key is columns that may hold NULL.
    rowid: Option<String>,
}

/// The tables that were asked for.
pub(super) fn read(
    conn: &Connection,
    wanted: &MutationTables,
) -> Result<Vec<Table>, MutationSourceError> {
    let fail = || MutationSourceError::sqlite("read the schema");
    let ordinary = |row: &Row<'_>| -> rusqlite::Result<Option<(String, bool)>> {
        let (name, kind): (String, String) = (row.get("name")?, row.get("type")?);
        let ours = kind == "table" && !starts_with_sqlite(&name) && wanted.contains(&name);
        Ok(ours.then_some((name, row.get("wr")?)))
    };
    let mut list = conn.prepare("PRAGMA main.table_list").map_err(fail())?;
    let names = list.query_map([], ordinary).map_err(fail())?;
    let names: Vec<_> = names.collect::<Result<Vec<_>, _>>().map_err(fail())?;
    let mut tables = Vec::new();
    for (name, without_rowid) in names.into_iter().flatten() {
        tables.push(Table::read(conn, name, without_rowid)?);
    }
    // A database's own order is that of a hash.
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    if let MutationTables::Only(names) = wanted {
        let there = |name: &String| tables.iter().any(|t| t.name.eq_ignore_ascii_case(name));
        if let Some(table) = names.iter().find(|name| !there(name)) {
            return Err(MutationSourceError::NoSuchTable { table: table.clone() });
        }
    }
    Ok(tables)
}

/// A trigger that is not ours, in any database of the connection.
pub(super) fn foreign_trigger(conn: &Connection) -> Result<Option<String>, MutationSourceError> {
    let ours = our_triggers(conn)?;
    for schema in names(conn, "PRAGMA database_list", "name")? {
        let schema = quoted(&schema);
        let triggers = format!("SELECT name FROM {schema}.sqlite_schema WHERE type = 'trigger'");
        let found = names(conn, &triggers, "name")?.into_iter().find(|name| !ours.contains(name));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The statements that make the virtual table and all triggers.
pub(super) fn creation(tables: &[Table]) -> String {
    let mut sql = format!("CREATE VIRTUAL TABLE temp.{SINK} USING {SINK};");
    tables.iter().enumerate().for_each(|(index, table)| table.triggers(index, &mut sql));
    sql
}

/// The statements that remove all that [`creation`] made.
pub(super) fn removal(conn: &Connection) -> Result<String, MutationSourceError> {
    let mut sql = String::new();
    for name in our_triggers(conn)? {
        let _ = write!(sql, "DROP TRIGGER temp.{};", quoted(&name));
    }
    // `IF EXISTS` would find the module, which is a table of its own name too, and not ours to drop.
    let sink = format!("SELECT name FROM temp.sqlite_schema WHERE name = '{SINK}'");
    for name in names(conn, &sink, "name")? {
        let _ = write!(sql, "DROP TABLE temp.{name};");
    }
    Ok(sql)
}

fn our_triggers(conn: &Connection) -> Result<Vec<String>, MutationSourceError> {
    let triggers = "SELECT name FROM temp.sqlite_schema \
         WHERE type = 'trigger' AND name GLOB 'nexo_mutation_[0-9]*_*'";
    names(conn, triggers, "name")
}

fn names(conn: &Connection, sql: &str, column: &str) -> Result<Vec<String>, MutationSourceError> {
    let fail = || MutationSourceError::sqlite("read the schema");
    let mut statement = conn.prepare(sql).map_err(fail())?;
    let names = statement.query_map([], |row| row.get(column)).map_err(fail())?;
    names.collect::<Result<_, _>>().map_err(fail())
}

fn starts_with_sqlite(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl MutationTables {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)),
        }
    }
}

impl Table {
    fn read(
        conn: &Connection,
        name: String,
        without_rowid: bool,
    ) -> Result<Self, MutationSourceError> {
        let fail = || MutationSourceError::sqlite("read the columns of a table");
        let sql = format!("PRAGMA main.table_xinfo({})", quoted(&name));
        let mut info = conn.prepare(&sql).map_err(fail())?;
        let column = |row: &Row<'_>| -> rusqlite::Result<(String, i64, i64)> {
            Ok((row.get("name")?, row.get("pk")?, row.get("hidden")?))
        };
        let all = info.query_map([], column).map_err(fail())?;
        let all = all.collect::<Result<Vec<_>, _>>().map_err(fail())?;
        let mut key: Vec<_> = all.iter().filter(|(_, pk, _)| *pk > 0).collect();
        key.sort_by_key(|(_, pk, _)| *pk);
        let mut key: Vec<String> = key.into_iter().map(|(name, ..)| name.clone()).collect();
        let mut rowid = None;
        if !without_rowid {
            let free =
                |alias: &&str| !all.iter().any(|(name, ..)| name.eq_ignore_ascii_case(alias));
            let Some(alias) = ["rowid", "_rowid_", "oid"].into_iter().find(free) else {
                return Err(MutationSourceError::NoRowid { table: name });
            };
            rowid = Some(alias.to_owned());
        }
        if key.is_empty() {
            key.extend(rowid.take());
        }
        // Generated columns follow from the others, and computing one may fail.
        let own = all.into_iter().filter(|(_, _, hidden)| *hidden == 0);
        Ok(Self { columns: own.map(|(name, ..)| name).collect(), name, key, rowid })
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::new(&self.name, self.key.len(), self.rowid.is_some(), self.columns.len())
    }

    fn triggers(&self, index: usize, sql: &mut String) {
        let events = [("INSERT", &["NEW"][..]), ("UPDATE", &["OLD", "NEW"]), ("DELETE", &["OLD"])];
        for (op, (event, sides)) in events.into_iter().enumerate() {
            let table = quoted(&self.name);
            let _ = write!(
                sql,
                "CREATE TEMP TRIGGER nexo_mutation_{index}_{op} AFTER {event} ON main.{table} BEGIN "
            );
            let values: Vec<String> = sides.iter().flat_map(|side| self.values(side)).collect();
            for (call, values) in values.chunks(VALUES_A_CALL).enumerate() {
                let (at, values) = (call * VALUES_A_CALL, values.join(","));
                // Never true, so that no row goes into the virtual table; that the statement could
                // write to it makes SQLite tell it of the transaction.
                let _ = write!(
                    sql,
                    "INSERT INTO {SINK} SELECT NULL WHERE {FUNCTION}({index},{op},{at},{values});"
                );
            }
            sql.push_str("END;");
        }
    }

    /// What of one row is handed over, in the order of [`Shape`].
    fn values(&self, side: &str) -> Vec<String> {
        let names = self.key.iter().chain(&self.rowid).chain(&self.columns);
        names.map(|name| format!("{side}.{}", quoted(name))).collect()
    }
}
