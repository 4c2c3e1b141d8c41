//! The tables of a database, with what redaction must know of each: how its rows are found again, which
//! columns are keys, and what it is a part of.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::params_from_iter;

use super::cells::Cell;
use super::db::Store;
use super::virtuals::{Module, Virtual};
use crate::error::StoresError;
use crate::sqlite::{FULL_TEXT_SHAPES, METADATA, METADATA_TEXT, VECTOR_COLUMNS, VECTORS, quote};

/// Names under which SQLite gives a rowid, unless a column has the name.
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];
/// Parts of full-text indexes that hold nothing but the index, which is built anew, and their numbers of columns: of
/// FTS5, and of FTS3 and 4. A table named as a part of the other module is somebody's own.
const FTS5_PARTS: [(&str, usize); 2] = [("data", 2), ("idx", 3)];
const FTS3_PARTS: [(&str, usize); 2] = [("segments", 2), ("segdir", 6)];
/// Columns that are read at once: SQLite gives at most 2,000, the key among them.
const COLUMNS_AT_ONCE: usize = 500;
/// Bytes of the largest cell that is searched.
const MAX_CELL: usize = 16 << 20;
/// Cells whose size is looked at in one expression.
const CELLS_AT_ONCE: usize = 50;

/// A table that has rows of its own.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// How one row is named in SQL.
    pub(super) address: Address,
    pub(super) part: Part,
}

/// A column that is kept in the file.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// Its declared type, in lower case.
    pub(super) declared: String,
    /// Whether it may hold no NULL.
    pub(super) not_null: bool,
    /// Its place in the primary key, from 1.
    pub(super) key: i64,
    /// Whether values in it must differ, or are equal to ones elsewhere.
    pub(super) is_key: bool,
    /// Whether it is the first of a unique index, by which its values are found.
    pub(super) is_found: bool,
    /// Whether it follows from others.
    pub(super) is_generated: bool,
}

/// How one row is named in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// By this name of its rowid.
    Rowid(String),
    /// By its primary key, the columns in its order.
    Key(Vec<String>),
    /// Not at all: its columns have all names of the rowid.
    Nothing,
}

/// What a table is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing that matters.
    Own,
    /// What is derived from elsewhere and made anew: a full-text index, samples of the planner, boxes.
    Derived,
    /// A sqlite-vec index, which is read by itself.
    Vectors,
    /// A virtual table of a module that we do not know.
    Foreign(String),
}

/// What a database holds.
pub(super) struct Schema {
    pub(super) tables: Vec<Table>,
    pub(super) virtuals: Vec<Virtual>,
}

impl Schema {
    /// Reads it.
    pub(super) fn of(store: &Store<'_>) -> Result<Self, StoresError> {
        let listed = listed(store)?;
        let virtuals = virtuals(store, &listed)?;
        if let Some(packed) = virtuals.iter().find(|v| v.is_packed()) {
            let why = "its texts are packed by functions of the agent's program";
            return Err(store.unredactable(&format!("table {}", packed.name), why));
        }
        let unique = parents(store, &listed)?;
        let mut tables = Vec::new();
        for (name, kind, without_rowid) in listed {
            if kind == "table" || kind == "shadow" {
                let (columns, address) = columns(store, &name, without_rowid, &unique)?;
                let part = part(&name, &columns, &virtuals);
                tables.push(Table { name, columns, address, part });
            }
        }
        let vectors = virtuals.iter().filter(|owner| owner.module == Module::Vec0);
        vectors.for_each(|owner| mark_vectors(&mut tables, &owner.name));
        Ok(Self { tables, virtuals })
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }
}

impl Table {
    pub(super) fn quoted(&self) -> String {
        quote(&self.name)
    }

    /// Groups of columns that are read at once, each with the SQL for it: first what names the row (one
    /// column for a rowid, none where there is nothing), then the cells.
    pub(super) fn groups(&self) -> impl Iterator<Item = (String, &[Column])> {
        self.columns.chunks(COLUMNS_AT_ONCE).map(|group| {
            let names = self.address.names().into_iter().chain(group.iter().map(|c| &*c.name));
            let list: Vec<_> = names.map(quote).collect();
            (format!("SELECT {} FROM main.{} NOT INDEXED", list.join(", "), self.quoted()), group)
        })
    }

    /// Gives one row other cells. Whatever the table says of conflicts, no other row gives way.
    pub(super) fn update(
        &self,
        store: &Store<'_>,
        row: &[Cell],
        cells: &[(&str, &Cell)],
    ) -> Result<(), rusqlite::Error> {
        let set =
            cells.iter().enumerate().map(|(n, (name, _))| format!("{} = ?{}", quote(name), n + 1));
        let sql = format!(
            "UPDATE OR ABORT main.{} SET {} WHERE {}",
            self.quoted(),
            set.collect::<Vec<_>>().join(", "),
            self.address.condition(cells.len())
        );
        let values = cells.iter().map(|(_, cell)| *cell).chain(row);
        match store.conn.prepare_cached(&sql)?.execute(params_from_iter(values))? {
            1 => Ok(()),
            other => Err(rusqlite::Error::StatementChangedRows(other)),
        }
    }

    /// Refuses cells that are too large to be held.
    pub(super) fn refuse_huge(&self, store: &Store<'_>) -> Result<(), StoresError> {
        let file = std::fs::metadata(store.path).map_err(StoresError::io("look at", store.path))?;
        if file.len() < MAX_CELL as u64 {
            return Ok(());
        }
        for group in self.columns.chunks(CELLS_AT_ONCE) {
            let is_huge: Vec<_> = group
                .iter()
                .map(|column| format!("octet_length({}) > {MAX_CELL}", quote(&column.name)))
                .collect();
            let sql = format!(
                "SELECT {} FROM main.{} NOT INDEXED WHERE {} LIMIT 1",
                is_huge.join(", "),
                self.quoted(),
                is_huge.join(" OR ")
            );
            let mut statement = store.prepare(&sql)?;
            let mut rows = statement.query([]).map_err(store.fail("read"))?;
            let Some(row) = rows.next().map_err(store.fail("read"))? else { continue };
            let is_huge = |at| row.get::<_, Option<bool>>(at).ok().flatten() == Some(true);
            let column = group.iter().enumerate().find(|(at, _)| is_huge(*at));
            let column = column.map_or("?", |(_, column)| &column.name);
            let part = format!("table {}, column {column}", self.name);
            let why = format!("a cell has more than the {MAX_CELL} bytes that are searched");
            return Err(store.unredactable(&part, &why));
        }
        Ok(())
    }
}

impl Address {
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Rowid(name) => vec![name],
            Self::Key(names) => names.iter().map(String::as_str).collect(),
            Self::Nothing => Vec::new(),
        }
    }

    /// The condition for one row, whose parameters begin after `first`.
    pub(super) fn condition(&self, first: usize) -> String {
        let names = self.names().into_iter().enumerate();
        let parts: Vec<_> =
            names.map(|(n, name)| format!("{} = ?{}", quote(name), first + n + 1)).collect();
        parts.join(" AND ")
    }
}

type Listed = Vec<(String, String, bool)>;

/// Names, types and whether without rowids: as SQLite understood the schema, whatever that says of itself.
fn listed(store: &Store<'_>) -> Result<Listed, StoresError> {
    let sql = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' \
        AND type <> 'view' AND name NOT IN ('sqlite_schema', 'sqlite_master') ORDER BY name";
    let mut statement = store.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.and_then(Iterator::collect).map_err(store.fail("list the tables of"))
}

fn virtuals(store: &Store<'_>, listed: &Listed) -> Result<Vec<Virtual>, StoresError> {
    let sql =
        "SELECT sql FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE AND type LIKE 'table'";
    let mut find = store.prepare(sql)?;
    let mut found = Vec::new();
    for (name, ..) in listed.iter().filter(|(_, kind, _)| kind == "virtual") {
        let mut rows = find.query([name]).map_err(store.fail("list the tables of"))?;
        // Some are there without being defined.
        let Some(row) = rows.next().map_err(store.fail("list the tables of"))? else { continue };
        let sql: String = row.get(0).map_err(store.fail("list the tables of"))?;
        let unread =
            || store.unredactable(&format!("table {name}"), "its definition is not understood");
        found.push(Virtual::parse(name, &sql).ok_or_else(unread)?);
    }
    Ok(found)
}

/// The columns that foreign keys name, in lower case: of each table, the children's and the parents'.
fn parents(
    store: &Store<'_>,
    listed: &Listed,
) -> Result<BTreeMap<String, BTreeSet<String>>, StoresError> {
    let sql = "SELECT \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1, 'main')";
    let mut keys = store.prepare(sql)?;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (child, ..) in listed {
        let mut rows = keys.query([child]).map_err(store.fail("read the keys of"))?;
        while let Some(row) = rows.next().map_err(store.fail("read the keys of"))? {
            let get = |at| row.get::<_, Option<String>>(at).map_err(store.fail("read the keys of"));
            let mut note = |table: &str, column: Option<String>| {
                let columns = found.entry(table.to_lowercase()).or_default();
                columns.extend(column.map(|column| column.to_lowercase()));
            };
            note(child, get(1)?);
            note(&get(0)?.unwrap_or_default(), get(2)?);
        }
    }
    Ok(found)
}

fn columns(
    store: &Store<'_>,
    table: &str,
    without_rowid: bool,
    linked: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(Vec<Column>, Address), StoresError> {
    let unique = Unique::of(store, table)?;
    let linked = linked.get(&table.to_lowercase());
    let sql = "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1, 'main')";
    let mut statement = store.prepare(sql)?;
    let mut rows = statement.query([table]).map_err(store.fail("read the columns of"))?;
    let (mut columns, mut taken) = (Vec::new(), BTreeSet::new());
    while let Some(row) = rows.next().map_err(store.fail("read the columns of"))? {
        let fail = || store.fail("read the columns of");
        let name: String = row.get(0).map_err(fail())?;
        let lower = name.to_lowercase();
        let (key, hidden): (i64, i64) = (row.get(3).map_err(fail())?, row.get(4).map_err(fail())?);
        let is_key = key > 0
            || unique.all
            || unique.columns.contains(&lower)
            || linked.is_some_and(|linked| linked.contains(&lower));
        taken.insert(lower);
        // Those of the second kind are computed whenever they are read.
        if hidden != 2 {
            let declared: Option<String> = row.get(1).map_err(fail())?;
            let declared = declared.unwrap_or_default().to_lowercase();
            let not_null = row.get(2).map_err(fail())?;
            let (is_found, is_generated) =
                (unique.first.contains(&name.to_lowercase()), hidden == 3);
            columns.push(Column { name, declared, not_null, key, is_key, is_found, is_generated });
        }
    }
    let address = address(&columns, &taken, without_rowid, unique.has_key_index);
    Ok((columns, address))
}

fn address(
    columns: &[Column],
    taken: &BTreeSet<String>,
    without_rowid: bool,
    has_key_index: bool,
) -> Address {
    let mut key: Vec<_> = columns.iter().filter(|column| column.key > 0).collect();
    key.sort_by_key(|column| column.key);
    if without_rowid {
        return Address::Key(key.into_iter().map(|column| column.name.clone()).collect());
    }
    if let Some(name) = ROWID_NAMES.iter().find(|name| !taken.contains(**name)) {
        return Address::Rowid((*name).to_owned());
    }
    // A key without an index is another name of the rowid.
    match key.as_slice() {
        [one] if !has_key_index && one.declared == "integer" => Address::Rowid(one.name.clone()),
        _ => Address::Nothing,
    }
}

/// Which columns must differ from row to row, as far as indexes say.
#[derive(Default)]
struct Unique {
    columns: BTreeSet<String>,
    /// Those that come first.
    first: BTreeSet<String>,
    /// An expression, or a condition: it can concern any.
    all: bool,
    has_key_index: bool,
}

impl Unique {
    fn of(store: &Store<'_>, table: &str) -> Result<Self, StoresError> {
        let sql = "SELECT l.origin, l.partial, x.name, x.seqno FROM pragma_index_list(?1, 'main') l, \
            pragma_index_xinfo(l.name, 'main') x WHERE l.\"unique\" = 1 AND x.key = 1";
        let mut statement = store.prepare(sql)?;
        let mut rows = statement.query([table]).map_err(store.fail("read the indexes of"))?;
        let mut found = Self::default();
        while let Some(row) = rows.next().map_err(store.fail("read the indexes of"))? {
            let fail = || store.fail("read the indexes of");
            let (origin, partial): (String, bool) =
                (row.get(0).map_err(fail())?, row.get(1).map_err(fail())?);
            let column: Option<String> = row.get(2).map_err(fail())?;
            found.has_key_index |= origin == "pk";
            found.all |= partial || column.is_none();
            let seqno: i64 = row.get(3).map_err(fail())?;
            let column = column.map(|column| column.to_lowercase());
            found.first.extend(column.clone().filter(|_| seqno == 0 && !partial));
            found.columns.extend(column);
        }
        Ok(found)
    }
}

/// What a table belongs to, by its name and its shape.
fn part(name: &str, columns: &[Column], virtuals: &[Virtual]) -> Part {
    if ["sqlite_stat3", "sqlite_stat4"].iter().any(|stat| name.eq_ignore_ascii_case(stat)) {
        return Part::Derived;
    }
    let is = |shape: &[&str]| {
        columns.len() >= shape.len()
            && shape.iter().zip(columns).all(|(name, column)| *name == column.name)
    };
    let lower = name.to_lowercase();
    for owner in virtuals {
        let prefix = format!("{}_", owner.name.to_lowercase());
        let Some(part) = lower.strip_prefix(&prefix) else { continue };
        match &owner.module {
            Module::Fts5 | Module::Fts3 => {
                let parts =
                    if matches!(owner.module, Module::Fts5) { FTS5_PARTS } else { FTS3_PARTS };
                let mut shapes = FULL_TEXT_SHAPES.iter().filter(|(of, _)| *of == part);
                if parts.contains(&(part, columns.len())) && shapes.any(|(_, shape)| is(shape)) {
                    return Part::Derived;
                }
            }
            Module::Rtree if part == "node" && is(&["nodeno", "data"]) => return Part::Derived,
            Module::Unknown(module) => return Part::Foreign(module.clone()),
            Module::Rtree | Module::Vec0 | Module::Viewer => {}
        }
    }
    Part::Own
}

/// Marks the tables beneath a sqlite-vec index, if they are what that makes: others of their names are somebody's
/// own.
fn mark_vectors(tables: &mut [Table], owner: &str) {
    let mut found = Vec::new();
    let mut is = |part: &str, columns: &[&str]| {
        let name = format!("{owner}_{part}");
        let at = tables.iter().position(|table| table.name.eq_ignore_ascii_case(&name));
        let is_known = |column: &Column| {
            let bare = column.name.trim_end_matches(|c: char| c.is_ascii_digit());
            columns.contains(&column.name.as_str())
                || columns.contains(&format!("{bare}*").as_str())
        };
        let at = at.filter(|&at| tables[at].columns.iter().all(is_known));
        found.extend(at);
        at.is_some()
    };
    let chunks = ["chunk_id", "size", "sequence_id", "partition*", "validity", "rowids"];
    let has_all =
        is("chunks", &chunks) && is("rowids", &["rowid", "id", "chunk_id", "chunk_offset"]);
    is("auxiliary", &["rowid", "value*"]);
    let mut numbered = |kind: &str, column: &str| {
        (0..VECTOR_COLUMNS)
            .map_while(|n| is(&format!("{kind}{n:02}"), &["rowid", column]).then_some(n))
            .count()
    };
    let vectors = numbered(VECTORS, "vectors");
    for n in 0..numbered(METADATA, "data") {
        is(&format!("{METADATA_TEXT}{n:02}"), &["rowid", "data"]);
    }
    if has_all && vectors > 0 {
        found.into_iter().for_each(|at| tables[at].part = Part::Vectors);
    }
}
