//! What a database holds, as far as rows can be compared: its tables, their columns and keys.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};

pub(super) use crate::sqlite::quote;
use crate::sqlite::{FULL_TEXT_SHAPES, VECTOR_PARTS};

/// Names under which SQLite gives a rowid, unless a column has the name.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];
/// Tables of full-text indexes (FTS5, FTS3 and 4), and the column that differs wherever one indexes other texts.
pub(super) const FULL_TEXT_PARTS: [(&str, &str); 2] = [("data", "block"), ("segdir", "root")];

/// Most definitions that are told of one by one.
const MAX_DEFINITIONS: usize = 20;

/// A table of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// The name of the table that holds its rows; its own, but for a full-text table.
    pub(super) from: String,
    pub(super) kind: Kind,
    /// Its columns and, from 1, their places in the primary key (0: not in it).
    pub(super) columns: Vec<(String, i64)>,
    /// The columns' declared types.
    types: Vec<String>,
    /// Columns that are generated: they hold nothing, but their names are taken.
    generated: Vec<String>,
    /// What the columns are called where their names are none that a person gave; else empty.
    labels: Vec<String>,
    pub(super) without_rowid: bool,
}

/// How a table's rows are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows of its own.
    Plain,
    /// A sqlite-vec index, read through the tables beneath it.
    Vectors,
    /// A full-text index of another table's rows.
    Index,
    /// A full-text index of texts that are kept nowhere in the database.
    Contentless,
    /// Another virtual table, of whose rows nothing is known.
    Virtual,
}

/// How the rows of two tables find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pairing {
    /// By the rowid, which is the primary key.
    Rowid,
    /// By the columns of the primary key.
    Key(Vec<KeyColumn>),
    /// Not at all: rows with equal content are the same.
    Content,
}

/// Names and places in the primary key, from 1, and the declared types.
type Columns = (Vec<(String, i64)>, Vec<String>);

/// A column of a primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub(super) name: String,
    /// What tells its keys apart, which need not be the column's collation.
    pub(super) collation: String,
}

impl Table {
    /// What a column is called.
    pub(super) fn label(&self, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|(name, _)| name.eq_ignore_ascii_case(column))?;
        Some(self.labels.get(at).unwrap_or(&self.columns[at].0))
    }

    fn key(&self) -> Vec<&str> {
        let mut key: Vec<_> = self.columns.iter().filter(|(_, place)| *place > 0).collect();
        key.sort_by_key(|(_, place)| *place);
        key.into_iter().map(|(name, _)| name.as_str()).collect()
    }

    fn key_types(&self) -> Vec<String> {
        let columns = self.columns.iter().zip(&self.types);
        let mut key: Vec<_> = columns.filter(|((_, place), _)| *place > 0).collect();
        key.sort_by_key(|((_, place), _)| *place);
        key.into_iter().map(|(_, declared)| declared.to_ascii_lowercase()).collect()
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(column))
    }

    /// Whether a column hides the rowid's name.
    fn takes(&self, name: &str) -> bool {
        self.has(name) || self.generated.iter().any(|taken| taken.eq_ignore_ascii_case(name))
    }
}

/// The tables whose rows are compared, by name.
pub(super) fn list(
    conn: &Connection,
    schema: &str,
) -> Result<BTreeMap<String, Table>, rusqlite::Error> {
    let listed = listed(conn, schema)?;
    let is = |name: &str, kind: &str| listed.get(name).is_some_and(|(found, _)| found == kind);
    // Its module is not here, so that SQLite takes the tables beneath it for a user's own; unless a host
    // registered it for every connection.
    let vectors = |name: &str| {
        let part = |part| listed.contains_key(&format!("{name}_{part}"));
        is(name, "virtual") && part("rowids") && part("chunks") && part("vector_chunks00")
    };
    let is_full_text = |name: &str| {
        FULL_TEXT_PARTS.iter().any(|(part, _)| is(&format!("{name}_{part}"), "shadow"))
    };
    let mut tables = BTreeMap::new();
    for (name, (kind, without_rowid)) in &listed {
        let content = format!("{name}_content");
        let (from, kind) = match kind.as_str() {
            "table" if part_of(name).any(vectors) => continue,
            "table" => (name, Kind::Plain),
            "virtual" if vectors(name) => (name, Kind::Vectors),
            "virtual" if is_full_text(name) => match texts(conn, schema, name)? {
                Texts::Own if is(&content, "shadow") => (&content, Kind::Plain),
                Texts::Own => (name, Kind::Virtual),
                Texts::Elsewhere => (name, Kind::Index),
                Texts::Nowhere => (name, Kind::Contentless),
            },
            "virtual" => (name, Kind::Virtual),
            "shadow" if is_users_own(conn, schema, name, &is_full_text)? => (name, Kind::Plain),
            _ => continue,
        };
        let (columns, types) = match kind {
            Kind::Plain => columns(conn, schema, from)?,
            Kind::Vectors | Kind::Index | Kind::Contentless | Kind::Virtual => Default::default(),
        };
        let generated =
            if kind == Kind::Plain { generated(conn, schema, from)? } else { Vec::new() };
        let labels = if from == name { Vec::new() } else { labels(conn, schema, name, &columns) };
        let (from, without_rowid) = (from.clone(), *without_rowid);
        let table = Table { from, kind, columns, types, generated, labels, without_rowid };
        tables.insert(name.clone(), table);
    }
    Ok(tables)
}

/// Every table's type, and whether it has no rowids, by name.
fn listed(
    conn: &Connection,
    schema: &str,
) -> Result<BTreeMap<String, (String, bool)>, rusqlite::Error> {
    let sql = format!(
        "SELECT name, type, wr FROM pragma_table_list WHERE schema = '{schema}' AND type <> 'view' \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    );
    conn.prepare(&sql)?.query_map([], |r| Ok((r.get(0)?, (r.get(1)?, r.get(2)?))))?.collect()
}

/// Where the texts of a full-text table are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Texts {
    /// In a table beneath it.
    Own,
    /// In a table that it indexes.
    Elsewhere,
    /// Nowhere (`content=''`).
    Nowhere,
}

/// By its `content` option, however that is written (<https://www.sqlite.org/fts5.html#external_content_tables>).
fn texts(conn: &Connection, schema: &str, table: &str) -> Result<Texts, rusqlite::Error> {
    let sql = format!("SELECT sql FROM {schema}.sqlite_schema WHERE type = 'table' AND name = ?1");
    let sql: String = conn.query_row(&sql, [table], |r| r.get(0))?;
    let bare = |c: &char| !c.is_whitespace();
    let sql: String = sql.chars().filter(bare).collect::<String>().to_ascii_lowercase();
    let option = ["(content=", ",content="].iter().find_map(|start| sql.split_once(start));
    let none = ["''", "\"\"", "``", "[]"];
    Ok(match option {
        None => Texts::Own,
        Some((_, value)) if none.iter().any(|none| value.starts_with(none)) => Texts::Nowhere,
        Some(_) => Texts::Elsewhere,
    })
}

/// Whether a table that SQLite takes for a part of a full-text table, by its name, is none.
fn is_users_own(
    conn: &Connection,
    schema: &str,
    name: &str,
    is_full_text: &dyn Fn(&str) -> bool,
) -> Result<bool, rusqlite::Error> {
    let Some((table, part)) = name.rsplit_once('_').filter(|(table, _)| is_full_text(table)) else {
        return Ok(false);
    };
    if part == "content" {
        return Ok(texts(conn, schema, table)? != Texts::Own);
    }
    let (columns, _) = columns(conn, schema, name)?;
    let mut known = FULL_TEXT_SHAPES.iter().filter(|(of, _)| *of == part).peekable();
    let begins = |shape: &[&str]| {
        columns.len() >= shape.len()
            && shape.iter().zip(&columns).all(|(name, (own, _))| name == own)
    };
    Ok(known.peek().is_some() && !known.any(|(_, shape)| begins(shape)))
}

/// What the columns of a full-text table's content are called: its own columns stand at its end, in FTS5 as
/// in FTS3 and 4, after the rowid.
fn labels(conn: &Connection, schema: &str, table: &str, content: &[(String, i64)]) -> Vec<String> {
    // Where its tokenizer is not here, its columns are not known.
    let (own, _) = columns(conn, schema, table).unwrap_or_default();
    if own.len() + 1 != content.len() {
        return Vec::new();
    }
    let own = own.into_iter().map(|(name, _)| name);
    std::iter::once("rowid".to_owned()).chain(own).collect()
}

/// What differs of what is no row: views, triggers, indexes, how tables are defined, the numbers that programs
/// keep in the header.
pub(super) fn definitions(conn: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut notes = Vec::new();
    for number in ["user_version", "application_id"] {
        let of =
            |schema: &str| conn.pragma_query_value(Some(schema), number, |r| r.get::<_, i64>(0));
        let (old, new) = (of("old")?, of("new")?);
        if old != new {
            notes.push(format!("{number} {old} -> {new}"));
        }
    }
    let sql = "SELECT ifnull(n.type, o.type), ifnull(n.name, o.name), o.name IS NULL, n.name IS NULL \
        FROM old.sqlite_schema o FULL OUTER JOIN new.sqlite_schema n ON n.type = o.type AND n.name = o.name \
        WHERE o.sql IS NOT n.sql ORDER BY 1, 2";
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let how = match (row.get(2)?, row.get(3)?) {
            (true, _) => "is new",
            (_, true) => "is gone",
            _ => "is defined otherwise",
        };
        notes.push(format!("{kind} {name} {how}"));
    }
    if notes.len() > MAX_DEFINITIONS {
        let more = notes.len() - MAX_DEFINITIONS;
        notes.truncate(MAX_DEFINITIONS);
        notes.push(format!("{more} more definitions differ"));
    }
    Ok(notes)
}

/// A name for the rowid that is no column of either side.
pub(super) fn rowid_name(old: &Table, new: &Table) -> Option<&'static str> {
    ROWID_NAMES.into_iter().find(|name| !old.takes(name) && !new.takes(name))
}

/// How the rows of a table that both sides have find each other.
pub(super) fn pairing(
    conn: &Connection,
    old: &Table,
    new: &Table,
) -> Result<Pairing, rusqlite::Error> {
    let key = new.key();
    if key.is_empty() || key != old.key() {
        return Ok(Pairing::Content);
    }
    let (olds, news) =
        (key_collations(conn, "old", &old.from)?, key_collations(conn, "new", &new.from)?);
    // A key without an index is another name of the rowid.
    if olds.is_empty() && news.is_empty() {
        return Ok(Pairing::Rowid);
    }
    // Two kinds of keys could pair one row with two, and no index finds them.
    let collations: Option<Vec<String>> = news.clone().into_iter().collect();
    match collations.filter(|_| olds == news && old.key_types() == new.key_types()) {
        None => Ok(Pairing::Content),
        Some(collations) => {
            let columns = key.into_iter().zip(collations);
            let column =
                |(name, collation): (&str, _)| KeyColumn { name: name.to_owned(), collation };
            Ok(Pairing::Key(columns.map(column).collect()))
        }
    }
}

/// The collations of the index of a primary key, in its order, none for one that is not here; empty where there is no
/// index.
fn key_collations(
    conn: &Connection,
    schema: &str,
    table: &str,
) -> Result<Vec<Option<String>>, rusqlite::Error> {
    let sql = format!(
        "SELECT (SELECT c.name FROM pragma_collation_list c WHERE c.name = x.coll COLLATE NOCASE) \
         FROM pragma_index_list(?1, '{schema}') l, pragma_index_xinfo(l.name, '{schema}') x \
         WHERE l.origin = 'pk' AND x.key = 1 ORDER BY x.seqno"
    );
    conn.prepare(&sql)?.query_map([table], |r| r.get(0))?.collect()
}

/// The sqlite-vec indexes that a table of this name could be a part of.
fn part_of(name: &str) -> impl Iterator<Item = &str> {
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
    VECTOR_PARTS.iter().filter_map(move |part| bare.strip_suffix(part)?.strip_suffix('_'))
}

fn columns(conn: &Connection, schema: &str, table: &str) -> Result<Columns, rusqlite::Error> {
    let sql = format!("SELECT name, pk, type FROM pragma_table_info(?1, '{schema}')");
    let column = |r: &Row<'_>| Ok(((r.get(0)?, r.get(1)?), r.get(2)?));
    conn.prepare(&sql)?.query_map([table], column)?.collect()
}

fn generated(conn: &Connection, schema: &str, table: &str) -> Result<Vec<String>, rusqlite::Error> {
    let sql = format!("SELECT name FROM pragma_table_xinfo(?1, '{schema}') WHERE hidden > 0");
    conn.prepare(&sql)?.query_map([table], |r| r.get(0))?.collect()
}
