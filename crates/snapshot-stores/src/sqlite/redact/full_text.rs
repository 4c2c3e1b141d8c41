//! Full-text indexes, built anew from their texts, so that no word of a text that is gone stays.

use rusqlite::OptionalExtension;

use super::db::Store;
use super::schema::{again, put};
use super::tables::Schema;
use super::virtuals::{Module, Texts, Virtual};
use crate::error::StoresError;
use crate::sqlite::quote;

/// What became of the indexes.
#[derive(Default)]
pub(super) struct Rebuilt {
    /// Those that were built anew or emptied.
    pub(super) indexes: u64,
    /// Those that can be checked here once more.
    pub(super) known: Vec<Virtual>,
    pub(super) notes: Vec<String>,
}

/// What an index holds now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// All that it can.
    Whole,
    /// Nothing, though there may be texts.
    Empty,
}

/// Builds every full-text index anew; empties those whose texts are nowhere.
pub(super) fn rebuild<'a>(
    mut store: Store<'a>,
    schema: &Schema,
) -> Result<(Store<'a>, Rebuilt), StoresError> {
    let mut done = Rebuilt::default();
    for index in schema.virtuals.iter().filter(|owner| owner.is_full_text()) {
        store.go_on()?;
        store = one(store, schema, index, &mut done)?;
        done.indexes += 1;
    }
    Ok((store, done))
}

/// Asks an index whether it is sound.
pub(super) fn check(store: &Store<'_>, index: &Virtual) -> Result<(), rusqlite::Error> {
    command(store, index, "integrity-check")
}

fn one<'a>(
    store: Store<'a>,
    schema: &Schema,
    index: &Virtual,
    done: &mut Rebuilt,
) -> Result<Store<'a>, StoresError> {
    let part = format!("table {}", index.name);
    let had_words = clear(&store, schema, index)?;
    // What clearing did to it is not known to a connection that has looked at it before.
    let store = again(store)?;
    let nowhere = index.texts() == Texts::Nowhere;
    if nowhere && had_words {
        done.notes
            .push(format!("{part}: emptied, for an index without its texts cannot be searched"));
    }
    let first = match store.watched(|| Ok(fill(&store, index)))? {
        Err(first) => first,
        Ok(Filled::Whole) => {
            check(&store, index).map_err(store.refuse(&part))?;
            done.known.push(index.clone());
            return Ok(store);
        }
        Ok(Filled::Empty) => {
            done.notes.push(format!("{part}: left empty, for what it indexes cannot be read"));
            return Ok(store);
        }
    };
    let Some(known) = index.with_known_tokenizer() else {
        return Err(store.refuse(&part)(first));
    };
    let store = redefined(store, index, &known)?;
    let filled = store.watched(|| fill(&store, index).map_err(store.refuse(&part)))?;
    if filled == Filled::Whole {
        check(&store, index).map_err(store.refuse(&part))?;
    }
    let store = redefined(store, index, &index.sql)?;
    if !nowhere {
        done.notes.push(format!(
            "{part}: built with the tokenizer unicode61, for its own is not here: rebuild it after a restore"
        ));
    }
    Ok(store)
}

/// From its texts; where those are elsewhere and cannot be read, it is left empty.
fn fill(store: &Store<'_>, index: &Virtual) -> Result<Filled, rusqlite::Error> {
    let texts = index.texts();
    if texts != Texts::Nowhere {
        match command(store, index, "rebuild") {
            Ok(()) => return Ok(Filled::Whole),
            Err(e) if texts == Texts::Own => return Err(e),
            Err(_) => {}
        }
    }
    // An index of FTS3 needs nothing to be empty.
    if index.module == Module::Fts5 {
        command(store, index, "delete-all")?;
    }
    Ok(if texts == Texts::Nowhere { Filled::Whole } else { Filled::Empty })
}

/// Deletes every row of its index; whether there was any.
fn clear(store: &Store<'_>, schema: &Schema, index: &Virtual) -> Result<bool, StoresError> {
    let parts: &[&str] = match index.module {
        Module::Fts5 => &["idx", "docsize", "data"],
        _ => &["segments", "segdir", "docsize", "stat"],
    };
    let mut had_words = false;
    for part in parts {
        let Some(table) = schema.table(&format!("{}_{part}", index.name)) else { continue };
        let part = format!("table {}", table.name);
        let sql = format!("DELETE FROM main.{}", table.quoted());
        let deleted = store.conn.execute(&sql, []).map_err(store.refuse(&part))?;
        // Of FTS5 there are always two records, of its structure and of averages.
        had_words |=
            deleted > if part.ends_with("_data") { 2 } else { 0 } && !part.ends_with("_stat");
    }
    Ok(had_words)
}

fn command(store: &Store<'_>, index: &Virtual, what: &str) -> Result<(), rusqlite::Error> {
    let name = quote(&index.name);
    store.conn.execute(&format!("INSERT INTO main.{name}({name}) VALUES (?1)"), [what]).map(drop)
}

/// Opened again with another definition of the index.
fn redefined<'a>(store: Store<'a>, index: &Virtual, sql: &str) -> Result<Store<'a>, StoresError> {
    let find =
        "SELECT rowid FROM main.sqlite_schema WHERE type LIKE 'table' AND name = ?1 COLLATE NOCASE";
    let rowid: Option<i64> = store
        .conn
        .query_row(find, [&index.name], |row| row.get(0))
        .optional()
        .map_err(store.fail("read"))?;
    put(&store, &[(rowid.unwrap_or_default(), sql)])?;
    again(store)
}
