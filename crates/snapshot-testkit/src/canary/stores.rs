//! Secrets in the databases: cells, schemas, and what deleted and unfinished work leaves behind.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, ToSql};

use super::{Canary, Place, Planter, encode, files};
use crate::error::KitError;

/// Where a large text is cut by who reads it in pieces.
const LARGE_CELL: usize = 64 << 10;

/// Of a row that does not fit on a page.
const LARGE_ROW: usize = 3000;

/// A place, its store, its table, and statements that put `?1` there.
type Cell = (Place, &'static str, &'static str, &'static [&'static str]);

const CELLS: [Cell; 22] = [
    (
        Place::Text,
        "long_term",
        "CREATE TABLE chats (id INTEGER PRIMARY KEY, body TEXT)",
        &["INSERT INTO chats (body) VALUES (?2 || ?1 || ?2)"],
    ),
    (
        Place::Blob,
        "vector",
        "CREATE TABLE raw (id INTEGER PRIMARY KEY, data BLOB)",
        &["INSERT INTO raw (data) VALUES (CAST(x'00ff00' || ?1 || x'00fe' AS BLOB))"],
    ),
    (
        Place::Json,
        "long_term",
        "CREATE TABLE calls (id INTEGER PRIMARY KEY, meta TEXT)",
        &["INSERT INTO calls (meta) VALUES (json_object('n', 1, 'args', json(?6)))"],
    ),
    (
        Place::BlobUtf16,
        "vector",
        "CREATE TABLE wide (id INTEGER PRIMARY KEY, data BLOB)",
        &["INSERT INTO wide (data) VALUES (?4)"],
    ),
    (
        Place::Jsonb,
        "long_term",
        "CREATE TABLE packed (id INTEGER PRIMARY KEY, meta BLOB CHECK (json_valid(meta, 8)))",
        &["INSERT INTO packed (meta) VALUES (jsonb_object('n', 1, 'args', json(?6)))"],
    ),
    (
        Place::LargeCell,
        "vector",
        "CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT)",
        &["INSERT INTO pages (body) VALUES (?5)"],
    ),
    (
        Place::Base64,
        "vector",
        "CREATE TABLE mails (id INTEGER PRIMARY KEY, body TEXT)",
        &["INSERT INTO mails (body) VALUES ('body: ' || ?3)"],
    ),
    (
        Place::PrimaryKey,
        "long_term",
        "CREATE TABLE sessions (token TEXT PRIMARY KEY, n INTEGER)",
        &["INSERT INTO sessions VALUES (?1, 1)"],
    ),
    (
        Place::Unique,
        "long_term",
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY, token TEXT UNIQUE NOT NULL)",
        &["INSERT INTO accounts (token) VALUES (?1)"],
    ),
    (
        Place::ForeignKey,
        "long_term",
        "CREATE TABLE parents (token TEXT PRIMARY KEY) WITHOUT ROWID;
         CREATE TABLE children (
            id INTEGER PRIMARY KEY, parent TEXT NOT NULL REFERENCES parents (token))",
        &["INSERT INTO parents VALUES (?1)", "INSERT INTO children (parent) VALUES (?1), (?1)"],
    ),
    (
        Place::WithoutRowid,
        "concepts",
        "CREATE TABLE names (
            space INTEGER, name TEXT, n INTEGER, PRIMARY KEY (space, name)) WITHOUT ROWID",
        &["INSERT INTO names VALUES (1, ?1, 2)"],
    ),
    (
        Place::Strict,
        "concepts",
        "CREATE TABLE facts (id INTEGER PRIMARY KEY, fact TEXT NOT NULL, any ANY) STRICT",
        &["INSERT INTO facts (fact, any) VALUES (?1, x'00')"],
    ),
    (
        Place::Generated,
        "concepts",
        "CREATE TABLE derived (
            id INTEGER PRIMARY KEY, body TEXT, loud TEXT GENERATED ALWAYS AS (upper(body)) STORED,
            quiet TEXT GENERATED ALWAYS AS (lower(body)) VIRTUAL)",
        &["INSERT INTO derived (body) VALUES (?1)"],
    ),
    (
        Place::Indexed,
        "concepts",
        "CREATE TABLE tags (id INTEGER PRIMARY KEY, tag TEXT);
         CREATE INDEX tags_tag ON tags (tag, id);
         CREATE INDEX tags_loud ON tags (upper(tag)) WHERE tag IS NOT NULL",
        &["INSERT INTO tags (tag) VALUES (?1)"],
    ),
    (
        Place::CheckJson,
        "long_term",
        "CREATE TABLE checked (id INTEGER PRIMARY KEY, meta TEXT CHECK (json_valid(meta)))",
        &["INSERT INTO checked (meta) VALUES (json_object('text', ?1))"],
    ),
    (
        Place::CheckLength,
        "long_term",
        "CREATE TABLE long (id INTEGER PRIMARY KEY, word TEXT CHECK (length(word) > 5))",
        &["INSERT INTO long (word) VALUES (?1)"],
    ),
    (
        Place::Embedding,
        "vector",
        "CREATE TABLE chunks (id INTEGER PRIMARY KEY, chunk TEXT NOT NULL, vec BLOB NOT NULL)",
        &["INSERT INTO chunks (chunk, vec) VALUES (?2 || ?1, zeroblob(512))"],
    ),
    (
        Place::Fts5,
        "fts",
        "CREATE VIRTUAL TABLE own USING fts5 (title, body)",
        &["INSERT INTO own (title, body) VALUES ('a note', ?2 || ?1 || ?2)"],
    ),
    (
        Place::Fts5External,
        "fts",
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT);
         CREATE VIRTUAL TABLE docs_fts USING fts5 (body, content='docs', content_rowid='id');
         CREATE TRIGGER docs_ai AFTER INSERT ON docs BEGIN
            INSERT INTO docs_fts (rowid, body) VALUES (new.id, new.body);
         END;
         CREATE TRIGGER docs_au AFTER UPDATE ON docs BEGIN
            INSERT INTO docs_fts (docs_fts, rowid, body) VALUES ('delete', old.id, old.body);
            INSERT INTO docs_fts (rowid, body) VALUES (new.id, new.body);
         END",
        &["INSERT INTO docs (body) VALUES (?2 || ?1 || ?2)"],
    ),
    (
        Place::Fts5Contentless,
        "fts",
        "CREATE VIRTUAL TABLE words USING fts5 (body, content='')",
        &["INSERT INTO words (body) VALUES (?2 || ?1 || ?2)"],
    ),
    (
        Place::Fts4,
        "fts",
        "CREATE VIRTUAL TABLE old USING fts4 (body)",
        &["INSERT INTO old (body) VALUES (?2 || ?1 || ?2)"],
    ),
    (
        Place::Utf16Database,
        "utf16",
        "CREATE TABLE wide (id INTEGER PRIMARY KEY, body TEXT); CREATE INDEX wide_body ON wide (body)",
        &["INSERT INTO wide (body) VALUES (?1)"],
    ),
];

/// Plants them; the connections that keep the write-ahead log as it is.
pub(super) fn plant(planter: &mut Planter<'_>) -> Result<Vec<Connection>, KitError> {
    for (name, encoding) in [("fts", "UTF-8"), ("utf16", "UTF-16le")] {
        let path = planter.agent.store(name);
        let make = || -> rusqlite::Result<()> {
            let connection = Connection::open(&path)?;
            connection.pragma_update(None, "encoding", encoding)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.execute_batch("CREATE TABLE about (n INTEGER)")
        };
        make().map_err(KitError::sql("make", &path))?;
    }
    for cell in &CELLS {
        within(planter, cell.1, |planter, connection| cells(planter, connection, cell))?;
    }
    found(planter)?;
    within(planter, "concepts", schema)?;
    within(planter, "concepts", samples)?;
    within(planter, "compactions", free)?;
    for place in [Place::FreePage, Place::FreeBlock] {
        is_left(planter, place, &planter.agent.store("compactions"))?;
    }
    let guard = unfinished(planter)?;
    let log = planter.agent.sqlite_dir().join("vector.sqlite-wal");
    is_left(planter, Place::Wal, &log)?;
    Ok(vec![guard])
}

fn within(
    planter: &mut Planter<'_>,
    store: &str,
    work: impl FnOnce(&mut Planter<'_>, &mut Connection) -> rusqlite::Result<()>,
) -> Result<(), KitError> {
    let mut connection = planter.agent.connect(store)?;
    work(planter, &mut connection)
        .map_err(KitError::sql("plant secrets in", &planter.agent.store(store)))
}

fn cells(
    planter: &mut Planter<'_>,
    connection: &mut Connection,
    &(place, _, table, inserts): &Cell,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(table)?;
    for canary in planter.at(place) {
        let prose = format!(" {} ", planter.prose(120));
        let encoded = files::base64(canary);
        let wide = encode::utf16(&canary.text, canary.turn() % 2 == 1);
        let long = if place == Place::LargeCell { long(planter, canary) } else { String::new() };
        for insert in inserts {
            let mut insert = transaction.prepare(insert)?;
            let all: [&dyn ToSql; 6] =
                [&canary.text, &prose, &encoded, &wide, &long, &canary.json().to_string()];
            insert.execute(&all[..insert.parameter_count()])?;
        }
    }
    transaction.commit()
}

/// A text with half of the secret before its 64 KiB.
fn long(planter: &mut Planter<'_>, canary: &Canary) -> String {
    let mut long = planter.prose(LARGE_CELL + 5000);
    let border = LARGE_CELL - canary.text.len() / 2;
    long.replace_range(border..border, &format!(" {} ", canary.text));
    long
}

/// Databases that no layout names, and that are carried all the same.
fn found(planter: &mut Planter<'_>) -> Result<(), KitError> {
    let dir = planter.agent.memdir().join("planted/found");
    fs::create_dir_all(&dir).map_err(KitError::io("make the folder", &dir))?;
    for place in [Place::FoundStore, Place::FoundStoreName] {
        for canary in planter.at(place) {
            let (name, body) = match place {
                Place::FoundStore => (canary.id.to_string(), planter.sentence(canary)),
                _ => (canary.value.clone(), planter.prose(100)),
            };
            let path = dir.join(format!("{name}.db"));
            let make = || -> rusqlite::Result<usize> {
                let connection = Connection::open(&path)?;
                connection
                    .execute_batch("CREATE TABLE kept (id INTEGER PRIMARY KEY, body TEXT)")?;
                connection.execute("INSERT INTO kept (body) VALUES (?1)", [body])
            };
            make().map_err(KitError::sql("make", &path))?;
        }
    }
    Ok(())
}

fn schema(planter: &mut Planter<'_>, connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch("CREATE TABLE about (v TEXT)")?;
    let places = [
        Place::SchemaDefault,
        Place::SchemaComment,
        Place::SchemaView,
        Place::SchemaCode,
        Place::SchemaName,
    ];
    for place in places {
        planter.at(place).try_for_each(|canary| connection.execute_batch(&definition(canary)))?;
    }
    Ok(())
}

/// SQL that defines something with a secret in it.
fn definition(canary: &Canary) -> String {
    let Canary { id, text, .. } = canary;
    match (canary.place, canary.turn() % 3) {
        (Place::SchemaDefault, _) => {
            format!("CREATE TABLE defaults_{id} (v TEXT DEFAULT '{text}')")
        }
        (Place::SchemaComment, _) => format!("CREATE TABLE comments_{id} (v TEXT /* {text} */)"),
        (Place::SchemaView, _) => format!("CREATE VIEW views_{id} AS SELECT '{text}' AS v"),
        (Place::SchemaCode, 0) => format!(
            "CREATE TRIGGER triggers_{id} AFTER INSERT ON about WHEN new.v = '{text}' BEGIN
                SELECT 1;
             END"
        ),
        (Place::SchemaCode, 1) => {
            format!("CREATE INDEX partial_{id} ON about (v) WHERE v <> '{text}'")
        }
        (Place::SchemaCode, _) => {
            format!("CREATE TABLE checks_{id} (v TEXT CHECK (v <> '{text}'))")
        }
        (_, 0) => format!("CREATE TABLE \"of-{text}\" (v TEXT)"),
        (_, 1) => format!("CREATE TABLE columns_{id} (\"{text}\" TEXT, v TEXT)"),
        _ => format!("CREATE INDEX \"by-{text}\" ON about (v)"),
    }
}

/// Rows of an index of which `ANALYZE` keeps samples.
fn samples(planter: &mut Planter<'_>, connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE sampled (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX by_v ON sampled (v)",
    )?;
    for canary in planter.at(Place::Stat4) {
        connection.execute("INSERT INTO sampled (v) VALUES (?1)", [&canary.text])?;
    }
    connection.execute_batch("ANALYZE sampled")
}

/// What deleted rows leave: written and checkpointed first, for a page that is free before it was written
/// is written never.
fn free(planter: &mut Planter<'_>, connection: &mut Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA secure_delete = OFF;
         CREATE TABLE dropped (id INTEGER PRIMARY KEY, body TEXT);
         CREATE TABLE gaps (id INTEGER PRIMARY KEY, body TEXT)",
    )?;
    for canary in planter.at(Place::FreePage) {
        let (a, b) = (planter.prose(LARGE_ROW), planter.prose(LARGE_ROW));
        // Twice, for one of them may lie across two pages.
        let body = format!("{a} {} {b} {} {a}", canary.text, canary.text);
        connection.execute("INSERT INTO dropped (body) VALUES (?1)", [body])?;
    }
    for canary in planter.at(Place::FreeBlock) {
        for text in [&canary.text, &planter.prose(900)] {
            connection.execute("INSERT INTO gaps (body) VALUES (?1)", [text])?;
        }
    }
    checkpoint(connection)?;
    connection.execute_batch("DROP TABLE dropped; DELETE FROM gaps WHERE id % 2 = 1")?;
    checkpoint(connection)
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Rows that no checkpoint has moved to the database, as long as the connection lives.
fn unfinished(planter: &mut Planter<'_>) -> Result<Connection, KitError> {
    let connection = planter.agent.connect("vector")?;
    let write = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.execute_batch("CREATE TABLE fresh (id INTEGER PRIMARY KEY, body TEXT)")?;
        for canary in planter.at(Place::Wal) {
            connection.execute("INSERT INTO fresh (body) VALUES (?1)", [&canary.text])?;
        }
        Ok(())
    };
    write().map_err(KitError::sql("write to the log of", &planter.agent.store("vector")))?;
    Ok(connection)
}

/// That the file's raw bytes hold what was planted there.
fn is_left(planter: &Planter<'_>, place: Place, path: &Path) -> Result<(), KitError> {
    let bytes = fs::read(path).map_err(KitError::io("read", path))?;
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    for canary in planter.at(place) {
        if !holds(&canary.text) {
            return Err(KitError::broken("what is left", path, format!("{canary} is gone")));
        }
    }
    Ok(())
}
