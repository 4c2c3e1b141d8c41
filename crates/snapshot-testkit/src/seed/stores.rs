//! The four databases. Each also has the tables `counter` and `noise` of the torture writers.

use std::path::Path;

use rusqlite::{Connection, Statement, Transaction, params};
use serde_json::json;

use super::{SEEDED_AT_S, Seed};
use crate::error::KitError;
use crate::random::{Random, Vocabulary};

/// Rows between two looks at the file's size.
const BATCH: usize = 16;

/// Dimensions of an embedding.
const DIMENSIONS: usize = 768;

/// Bytes of the standard agent's stores.
const STANDARD: [(&str, u64); 4] = [
    ("long_term", 600_000_000),
    ("vector", 300_000_000),
    ("concepts", 50_000_000),
    ("compactions", 30_000_000),
];

const LONG_TERM: &str = "
    CREATE TABLE memories (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, content TEXT NOT NULL,
        tags TEXT NOT NULL DEFAULT '[]', metadata TEXT NOT NULL CHECK (json_valid(metadata)),
        created_at INTEGER NOT NULL);
    CREATE INDEX memories_created ON memories (created_at);
    CREATE VIRTUAL TABLE memories_fts USING fts5 (title, content='memories', content_rowid='rowid');
    CREATE TRIGGER memories_ai AFTER INSERT ON memories BEGIN
        INSERT INTO memories_fts (rowid, title) VALUES (new.rowid, new.title);
    END;
    CREATE TRIGGER memories_ad AFTER DELETE ON memories BEGIN
        INSERT INTO memories_fts (memories_fts, rowid, title)
        VALUES ('delete', old.rowid, old.title);
    END;";

const VECTOR: &str = "
    CREATE TABLE embeddings (
        id INTEGER PRIMARY KEY, memory_id TEXT NOT NULL, model TEXT NOT NULL, vec BLOB NOT NULL);";

const CONCEPTS: &str = "
    CREATE TABLE concepts (id INTEGER PRIMARY KEY, name TEXT NOT NULL, summary TEXT);
    CREATE TABLE edges (
        source INTEGER NOT NULL, target INTEGER NOT NULL, weight REAL NOT NULL,
        PRIMARY KEY (source, target)) WITHOUT ROWID;";

const COMPACTIONS: &str = "
    CREATE TABLE compactions_v1 (
        session_id TEXT NOT NULL, compacted_at INTEGER NOT NULL, head_turn_count INTEGER NOT NULL,
        summary TEXT NOT NULL, PRIMARY KEY (session_id, compacted_at));";

const TORTURE: &str = "
    CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL);
    INSERT INTO counter VALUES (1, 0);
    CREATE TABLE noise (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, pad BLOB NOT NULL);";

/// Makes the store `name` at `path`, filled to its share of the standard agent.
pub(super) fn create(
    path: &Path,
    name: &str,
    seed: &Seed,
    random: &mut Random,
    words: &Vocabulary,
) -> Result<(), KitError> {
    let bytes = STANDARD.iter().find(|(n, _)| *n == name).map_or(0, |(_, b)| seed.scale.of(*b));
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut make = || -> rusqlite::Result<()> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "page_size", seed.page_size)?;
        // Nothing here must survive a power cut.
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "journal_mode", "OFF")?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(TORTURE)?;
        fill(&transaction, name, bytes, random, words)?;
        transaction.commit()?;
        connection.pragma_update(None, "journal_mode", seed.journal.as_str())?;
        connection.close().map_err(|(_, e)| e)
    };
    make().map_err(KitError::sql("fill", path))
}

fn fill(
    transaction: &Transaction<'_>,
    name: &str,
    bytes: i64,
    random: &mut Random,
    words: &Vocabulary,
) -> rusqlite::Result<()> {
    let (schema, insert): (&str, &str) = match name {
        "long_term" => (LONG_TERM, "INSERT INTO memories VALUES (?1, ?2, ?3, ?4, ?5, ?6)"),
        "vector" => (VECTOR, "INSERT INTO embeddings VALUES (?1, ?2, 'mini', ?3)"),
        "concepts" => (CONCEPTS, "INSERT INTO concepts VALUES (?1, ?2, ?3)"),
        _ => (COMPACTIONS, "INSERT INTO compactions_v1 VALUES (?1, ?2, ?3, ?4)"),
    };
    transaction.execute_batch(schema)?;
    let mut insert = transaction.prepare(insert)?;
    let mut edge = match name {
        "concepts" => Some(transaction.prepare("INSERT OR IGNORE INTO edges VALUES (?1, ?2, ?3)")?),
        _ => None,
    };
    let mut size = transaction
        .prepare("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")?;
    let mut row = 0u32;
    loop {
        for _ in 0..BATCH {
            row += 1;
            match name {
                "long_term" => memory(&mut insert, row, random, words)?,
                "vector" => embedding(&mut insert, row, random)?,
                "concepts" => concept(&mut insert, edge.as_mut(), row, random, words)?,
                _ => compaction(&mut insert, row, random, words)?,
            }
        }
        if size.query_row([], |row| row.get::<_, i64>(0))? >= bytes {
            return Ok(());
        }
    }
}

fn memory(
    insert: &mut Statement<'_>,
    row: u32,
    random: &mut Random,
    words: &Vocabulary,
) -> rusqlite::Result<()> {
    let (title_bytes, content_bytes) = (20 + random.below(30), 500 + random.below(1200));
    let title = words.text(random, title_bytes);
    let content = words.text(random, content_bytes);
    let metadata = json!({
        "source": (["chat", "email", "dream", "tool"][random.below(4)]),
        "importance": random.below(100),
        "session": random.uuid(),
        "entities": (words.text(random, 30).split_whitespace().collect::<Vec<_>>()),
    });
    let tags = format!("[\"{}\"]", words.text(random, 3).trim_end());
    let created_at = seconds_before_end(row) * 1000;
    insert.execute(params![
        random.uuid(),
        title.trim_end(),
        content,
        tags,
        metadata.to_string(),
        created_at
    ])?;
    Ok(())
}

fn embedding(insert: &mut Statement<'_>, row: u32, random: &mut Random) -> rusqlite::Result<()> {
    let vector: Vec<u8> = (0..DIMENSIONS).flat_map(|_| random.unit().to_le_bytes()).collect();
    insert.execute(params![row, random.uuid(), vector])?;
    Ok(())
}

fn concept(
    insert: &mut Statement<'_>,
    edge: Option<&mut Statement<'_>>,
    row: u32,
    random: &mut Random,
    words: &Vocabulary,
) -> rusqlite::Result<()> {
    insert.execute(params![row, words.text(random, 12), words.text(random, 120)])?;
    if let Some(edge) = edge {
        for _ in 0..3 {
            edge.execute(params![row, below(random, row), random.unit()])?;
        }
    }
    Ok(())
}

fn compaction(
    insert: &mut Statement<'_>,
    row: u32,
    random: &mut Random,
    words: &Vocabulary,
) -> rusqlite::Result<()> {
    let summary_bytes = 400 + random.below(2000);
    let summary = words.text(random, summary_bytes);
    insert.execute(params![random.uuid(), seconds_before_end(row), below(random, 500), summary])?;
    Ok(())
}

/// Rows of a seeded history lie a minute apart.
fn seconds_before_end(row: u32) -> i64 {
    SEEDED_AT_S - i64::from(row) * 60
}

fn below(random: &mut Random, n: u32) -> u32 {
    u32::try_from(random.below(n as usize)).unwrap_or_default()
}
