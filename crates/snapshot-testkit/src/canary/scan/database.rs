//! A database as plain SQL shows it: every cell of every table, the words of full-text tables.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::needles::Needles;
use super::{DEPTH, Found, Seen};
use crate::error::KitError;

/// A full-text table: its name, and whether it is of the newer kind.
type FullText = (String, bool);

pub(super) fn look(
    path: &Path,
    file: &str,
    needles: &Needles,
    found: &mut Found,
) -> Result<(), KitError> {
    let mut look = || -> rusqlite::Result<()> {
        let connection = Connection::open(path)?;
        for table in names(&connection, "SELECT name FROM pragma_table_list WHERE schema = 'main'")?
        {
            cells(&connection, file, &table, needles, found)?;
        }
        for (table, is_new) in full_text(&connection)? {
            let words = words(&connection, &table, is_new)?;
            let seen = Seen::Words { file: file.to_owned(), table };
            found.look_for_words(needles, &words, &seen);
        }
        Ok(())
    };
    look().map_err(KitError::sql("search", path))
}

/// What SQLite finds wrong with it.
pub(super) fn complaints(path: &Path, file: &str) -> Result<Vec<String>, KitError> {
    let check = || -> rusqlite::Result<Vec<String>> {
        let connection = Connection::open(path)?;
        let mut complaints = names(&connection, "PRAGMA integrity_check(5)")?;
        complaints.retain(|line| line != "ok");
        let orphans = "SELECT format('row %s of %s refers to nothing', rowid, \"table\") \
                       FROM pragma_foreign_key_check LIMIT 5";
        complaints.extend(names(&connection, orphans)?);
        for (table, is_new) in full_text(&connection)? {
            let name = quoted(&table);
            // The rank asks for a comparison with content that lies in another table.
            let sql = match is_new {
                true => format!("INSERT INTO {name} ({name}, rank) VALUES ('integrity-check', 1)"),
                false => format!("INSERT INTO {name} ({name}) VALUES ('integrity-check')"),
            };
            let said = connection.execute(&sql, []).err();
            complaints.extend(said.map(|e| format!("{table}: {e}")));
        }
        Ok(complaints)
    };
    let complaints = check().map_err(KitError::sql("check", path))?;
    Ok(complaints.into_iter().map(|line| format!("{file}: {line}")).collect())
}

fn cells(
    connection: &Connection,
    file: &str,
    table: &str,
    needles: &Needles,
    found: &mut Found,
) -> rusqlite::Result<()> {
    // Hidden columns of virtual tables are not of their content.
    let columns =
        format!("SELECT name FROM pragma_table_xinfo({}) WHERE hidden <> 1", literal(table));
    let columns = names(connection, &columns)?;
    let as_is_and_raw = |name: &String| format!("{0}, CAST({0} AS BLOB)", quoted(name));
    let list: Vec<String> = columns.iter().map(as_is_and_raw).collect();
    let sql = format!("SELECT {} FROM {}", list.join(", "), quoted(table));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for (n, column) in columns.iter().enumerate() {
            let (value, raw) = (row.get_ref(2 * n)?, row.get_ref(2 * n + 1)?);
            let (ValueRef::Text(value) | ValueRef::Blob(value)) = value else { continue };
            let seen = Seen::Cell {
                file: file.to_owned(),
                table: table.to_owned(),
                column: column.clone(),
            };
            if let ValueRef::Blob(raw) = raw
                && raw != value
            {
                found.look(needles, raw, seen.clone());
            }
            found.look_into_json(needles, value, &seen, DEPTH);
            found.look(needles, value, seen);
        }
    }
    Ok(())
}

/// The words of a full-text table's index, one a line.
fn words(connection: &Connection, table: &str, is_new: bool) -> rusqlite::Result<String> {
    let (module, more) = if is_new { ("fts5vocab", ", row") } else { ("fts4aux", "") };
    let of = literal(table);
    connection.execute_batch(&format!(
        "DROP TABLE IF EXISTS temp.words;
         CREATE VIRTUAL TABLE temp.words USING {module} (main, {of}{more})"
    ))?;
    let words = names(connection, "SELECT CAST(term AS TEXT) FROM temp.words")?;
    connection.execute_batch("DROP TABLE temp.words")?;
    Ok(words.join("\n"))
}

fn full_text(connection: &Connection) -> rusqlite::Result<Vec<FullText>> {
    let of = |module: &str| -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' \
                   AND sql LIKE 'CREATE VIRTUAL TABLE%USING ' || ?1 || '%'";
        connection.prepare(sql)?.query_map([module], |row| row.get(0))?.collect()
    };
    let mut tables: Vec<FullText> = of("fts5")?.into_iter().map(|name| (name, true)).collect();
    for older in ["fts3", "fts4"] {
        tables.extend(of(older)?.into_iter().map(|name| (name, false)));
    }
    Ok(tables)
}

fn names(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
