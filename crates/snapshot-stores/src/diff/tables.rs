//! What a database holds, as far as rows can be compared: its tables, their columns and keys.

use std::collections::BTreeMap;

use rusqlite::Connection;

/// Names under which SQLite gives a rowid, unless a column has the name.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];
/// Tables of a sqlite-vec index (0.1) that hold nothing but its vectors and where they lie.
const VECTOR_PARTS: [&str; 5] = ["info", "chunks", "rowids", "vector_chunks", "metadatachunks"];
/// Tables of full-text indexes (FTS5, FTS3 and 4). One without content of its own is an index of another
/// table's rows.
const FULL_TEXT_PARTS: [&str; 2] = ["idx", "segdir"];

/// A table of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) kind: Kind,
    /// Its columns and, from 1, their places in the primary key (0: not in it).
    pub(super) columns: Vec<(String, i64)>,
    pub(super) without_rowid: bool,
}

/// How a table's rows are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows of its own.
    Plain,
    /// The content that a full-text index keeps: a copy of what other tables hold, as a rule.
    FullText,
    /// A sqlite-vec index, read through the tables beneath it.
    Vectors,
    /// Another virtual table, of whose rows nothing is known.
    Virtual,
}

/// How the rows of two tables find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pairing {
    /// By the rowid, which is the primary key.
    Rowid,
    /// By the columns of the primary key.
    Key(Vec<String>),
    /// Not at all: rows with equal content are the same.
    Content,
}

impl Table {
    fn key(&self) -> Vec<&str> {
        let mut key: Vec<_> = self.columns.iter().filter(|(_, place)| *place > 0).collect();
        key.sort_by_key(|(_, place)| *place);
        key.into_iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(column))
    }
}

/// The tables whose rows are compared, by name.
pub(super) fn list(
    conn: &Connection,
    schema: &str,
) -> Result<BTreeMap<String, Table>, rusqlite::Error> {
    let sql = format!(
        "SELECT name, type, wr FROM pragma_table_list WHERE schema = '{schema}' AND type <> 'view' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    );
    let mut listed: BTreeMap<String, (String, bool)> = BTreeMap::new();
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        listed.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
    }
    let is = |name: &str, kind: &str| listed.get(name).is_some_and(|(found, _)| found == kind);
    // Its module is not here, so that SQLite takes the tables beneath it for a user's own; unless a host
    // registered it for every connection.
    let vectors = |name: &str| {
        let part = |part| listed.contains_key(&format!("{name}_{part}"));
        is(name, "virtual") && part("rowids") && part("chunks") && part("vector_chunks00")
    };
    let mut tables = BTreeMap::new();
    for (name, (kind, without_rowid)) in &listed {
        let content = format!("{name}_content");
        let (from, kind) = match kind.as_str() {
            "table" if part_of(name).any(vectors) => continue,
            "table" => (name, Kind::Plain),
            "virtual" if vectors(name) => (name, Kind::Vectors),
            "virtual" if is(&content, "shadow") => (&content, Kind::FullText),
            "virtual" if FULL_TEXT_PARTS.iter().any(|p| is(&format!("{name}_{p}"), "shadow")) => {
                continue;
            }
            "virtual" => (name, Kind::Virtual),
            _ => continue,
        };
        let columns = match kind {
            Kind::Plain | Kind::FullText => columns(conn, schema, from)?,
            Kind::Vectors | Kind::Virtual => Vec::new(),
        };
        tables.insert(from.clone(), Table { kind, columns, without_rowid: *without_rowid });
    }
    Ok(tables)
}

/// A name for the rowid that is no column of either side.
pub(super) fn rowid_name(old: &Table, new: &Table) -> Option<&'static str> {
    ROWID_NAMES.into_iter().find(|name| !old.has(name) && !new.has(name))
}

/// How the rows of a table that both sides have find each other.
pub(super) fn pairing(
    conn: &Connection,
    name: &str,
    old: &Table,
    new: &Table,
) -> Result<Pairing, rusqlite::Error> {
    let key = new.key();
    if key.is_empty() || key != old.key() {
        return Ok(Pairing::Content);
    }
    // A key without an index is another name of the rowid.
    let indexed = |schema| {
        let sql = format!(
            "SELECT count(*) > 0 FROM pragma_index_list(?1, '{schema}') WHERE origin = 'pk'"
        );
        conn.query_row(&sql, [name], |r| r.get::<_, bool>(0))
    };
    match (indexed("old")?, indexed("new")?) {
        (false, false) => Ok(Pairing::Rowid),
        _ => Ok(Pairing::Key(key.into_iter().map(str::to_owned).collect())),
    }
}

/// A name in SQL.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The sqlite-vec indexes that a table of this name could be a part of.
fn part_of(name: &str) -> impl Iterator<Item = &str> {
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
    VECTOR_PARTS.iter().filter_map(move |part| bare.strip_suffix(part)?.strip_suffix('_'))
}

fn columns(
    conn: &Connection,
    schema: &str,
    table: &str,
) -> Result<Vec<(String, i64)>, rusqlite::Error> {
    let sql = format!("SELECT name, pk FROM pragma_table_info(?1, '{schema}')");
    conn.prepare(&sql)?.query_map([table], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
}
