//! Vectors, in sqlite-vec indexes and in ordinary tables.

use rusqlite::Connection;
use snapshot_core::Control;
use snapshot_stores::redact::{RedactedRows, redact_rows};

use crate::support::{Rules, Scene, one};

/// Facts and their vectors, more than a chunk of them; every hundredth fact holds a secret.
fn facts(key: &str) -> String {
    format!(
        "CREATE TABLE facts (id {key} PRIMARY KEY, text);
         CREATE VIRTUAL TABLE v USING vec0(id {key} PRIMARY KEY, embedding FLOAT[8], year INTEGER, is_new BOOLEAN,
             score FLOAT, tag TEXT, +note TEXT);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
         INSERT INTO facts SELECT CAST(i AS {key}), iif(i % 100, 'fact ', 'SECRET-f') || i FROM n;
         INSERT INTO v SELECT id, '[' || id || ',1,1,1,1,1,1,1]', CAST(id AS INT), CAST(id AS INT) % 2, CAST(id AS INT) / 2.0,
             iif(id % 2, 'short', 'a longer text than fits'), 'note ' || id FROM facts"
    )
}

/// Would catch: vectors of redacted rows that stay, other vectors that go, an index that is not whole after.
#[test]
fn vectors_of_redacted_rows_go_and_the_rest_answers() {
    for key in ["TEXT", "INTEGER"] {
        let mut scene = Scene::new(&facts(key));
        let (redaction, finished) = scene.done();
        assert_eq!((redaction.cells, redaction.vectors_deleted), (15, 0));
        assert_eq!(
            (finished.vectors_deleted, finished.notes.len(), finished.integrity.as_str()),
            (15, 0, "ok")
        );
        let conn = scene.open();
        assert_eq!(one::<i64>(&conn, "SELECT count(*) FROM v"), 1485);
        assert_eq!(
            one::<i64>(&conn, "SELECT count(*) FROM v WHERE id IN (CAST(100 AS INT), '1500')"),
            0
        );
        assert_eq!(one::<i64>(&conn, "SELECT count(*) FROM v_auxiliary"), 1485);
        let near = "SELECT group_concat(id) FROM (SELECT id FROM v WHERE embedding MATCH '[100,1,1,1,1,1,1,1]' AND k = 2 ORDER BY distance)";
        let near: String = one(&conn, near);
        assert!(["99,101", "101,99"].contains(&near.as_str()), "{near}");
        assert_eq!(
            one::<String>(
                &conn,
                "SELECT tag || year || is_new || note FROM v WHERE id = CAST(102 AS TEXT) OR id = 102"
            ),
            "a longer text than fits1020note 102"
        );
        let hundred = 100_f32.to_le_bytes();
        let hundred: Vec<u8> = [hundred.as_slice(), &1_f32.to_le_bytes().repeat(7)].concat();
        let raw = std::fs::read(&scene.into).unwrap();
        assert!(!raw.windows(32).any(|w| w == hundred), "its bytes are gone");
        conn.execute_batch(&format!(
            "INSERT INTO v VALUES (CAST(100 AS {key}), '[100,1,1,1,1,1,1,1]', 1, 1, 1.0, 'again, and longer', 'n');
             DELETE FROM v WHERE id = CAST(7 AS {key})"
        ))
        .unwrap();
        assert_eq!(one::<i64>(&conn, "SELECT count(*) FROM v"), 1485);
    }
}

/// Would catch: a secret in a key, a metadata, auxiliary or partition text of an index itself.
#[test]
fn an_entry_that_holds_a_secret_goes() {
    let mut scene = Scene::new(
        "CREATE VIRTUAL TABLE v USING vec0(id TEXT PRIMARY KEY, part TEXT PARTITION KEY, embedding FLOAT[2], tag TEXT, +note TEXT);
         INSERT INTO v VALUES ('a', 'p', '[1,1]', 'SECRET-s', 'n'), ('b', 'p', '[2,1]', 'a long SECRET-long tag', 'n'),
             ('c', 'p', '[3,1]', 't', 'a SECRET-note'), ('SECRET-id', 'p', '[4,1]', 't', 'n'),
             ('e', 'SECRET-part', '[5,1]', 't', 'n'), ('f', 'p', '[6,1]', 't', 'n')",
    );
    assert_eq!(scene.scan().unwrap().len(), 5);
    let (redaction, finished) = scene.done();
    assert_eq!((redaction.cells, redaction.vectors_deleted, finished.vectors_deleted), (5, 5, 0));
    let conn = scene.open();
    assert_eq!(one::<String>(&conn, "SELECT group_concat(id) FROM v"), "f");
    assert_eq!(
        one::<String>(&conn, "SELECT id FROM v WHERE embedding MATCH '[4,1]' AND k = 1"),
        "f"
    );
}

/// Would catch: vectors of a store of their own that stay, for the text was redacted in another store.
#[test]
fn vectors_in_another_store_go_too() {
    let vectors = "CREATE VIRTUAL TABLE v USING vec0(id TEXT PRIMARY KEY, embedding FLOAT[2]);
        INSERT INTO v VALUES ('facts:1', '[1,1]'), ('facts:2', '[2,1]')";
    let facts =
        "CREATE TABLE facts (text, vector_id); INSERT INTO facts VALUES ('SECRET-a', 9), ('b', 8)";
    for (facts, left) in [
        (facts, Some("facts:2")),
        (
            "CREATE TABLE s (k PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO s VALUES ('x', 'SECRET-a')",
            None,
        ),
    ] {
        let (facts, mut scene) = (Scene::new(facts), Scene::new(vectors));
        let control = Control::default();
        redact_rows(&facts.path, &Rules, &mut scene.rows, &control).unwrap();
        let finished = scene.done().1;
        let found: Option<String> = one(&scene.open(), "SELECT group_concat(id) FROM v");
        assert_eq!(found.as_deref(), left);
        assert_eq!(finished.notes.len(), usize::from(left.is_none()), "{:?}", finished.notes);
        let mut none = RedactedRows::new();
        redact_rows(&facts.path, &Rules, &mut none, &control).unwrap();
        assert_eq!(none.rows(), 0, "there is nothing left to redact");
    }
}

/// Would catch: vectors of a memory file that was redacted.
#[test]
fn vectors_of_what_lies_outside_go() {
    let mut scene = Scene::new(
        "CREATE VIRTUAL TABLE v USING vec0(id TEXT PRIMARY KEY, embedding FLOAT[2]);
         INSERT INTO v VALUES ('notes/a.md#0', '[1,1]'), ('notes/a.md#1', '[2,1]'), ('notes/b.md#0', '[3,1]')",
    );
    scene.rows.note_outside("notes/a.md");
    let (_, finished) = scene.done();
    assert_eq!(finished.vectors_deleted, 2);
    assert_eq!(one::<String>(&scene.open(), "SELECT group_concat(id) FROM v"), "notes/b.md#0");
}

/// Would catch: an index emptied although the rows of its vectors are known and none of them was redacted.
#[test]
fn an_index_whose_rows_are_known_is_left_alone() {
    let mut scene = Scene::new(&format!("{}; UPDATE facts SET text = 'none';
        CREATE TABLE settings (k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO settings VALUES ('key', 'SECRET-k')", facts("TEXT")));
    let (_, finished) = scene.done();
    assert_eq!((finished.vectors_deleted, finished.notes.len()), (0, 0), "{:?}", finished.notes);
}

/// Would catch: vectors of deleted entries, which versions of the module before 0.1.7 left in their chunks.
#[test]
fn what_deleted_entries_left_is_scrubbed() {
    let mut scene = Scene::new(
        "CREATE VIRTUAL TABLE v USING vec0(id INTEGER PRIMARY KEY, embedding FLOAT[2], tag TEXT);
         INSERT INTO v VALUES (1, '[1,1]', 'x'), (2, '[2,1]', 'SECRET-tag');
         UPDATE v_chunks SET validity = CAST(x'01' || substr(validity, 2) AS BLOB); DELETE FROM v_rowids WHERE rowid = 2",
    );
    let (_, finished) = scene.done();
    assert_eq!(finished.vectors_deleted, 0);
    assert!(
        !one::<Vec<u8>>(&scene.open(), "SELECT vectors FROM v_vector_chunks00")
            .windows(4)
            .any(|w| w == 2_f32.to_le_bytes())
    );
    assert_eq!(one::<String>(&scene.open(), "SELECT tag FROM v WHERE id = 1"), "x");
}

/// Would catch: vectors in ordinary tables that stay beside a redacted text, or ones of other rows that go.
#[test]
fn vectors_in_ordinary_tables_go() {
    let mut scene = Scene::by(|conn| {
        conn.execute_batch(
            "CREATE TABLE memories (id INTEGER PRIMARY KEY, text TEXT, embedding BLOB, strict_vec BLOB NOT NULL,
                 list_vec TEXT NOT NULL, other, embedding_model TEXT);
             CREATE TABLE memory_embeddings (memory_id INTEGER PRIMARY KEY, embedding BLOB, model TEXT) STRICT;
             CREATE TABLE embedding_cache (hash TEXT PRIMARY KEY, embedding BLOB);
             CREATE TABLE pictures (id INTEGER PRIMARY KEY, caption TEXT, png BLOB)",
        )
        .unwrap();
        let vector: Vec<u8> =
            (1..=64_u8).flat_map(|n| (f32::from(n) / 64.0).to_le_bytes()).collect();
        for id in 1..=3 {
            let text = if id == 2 { "SECRET-m" } else { "text" };
            let sql = "INSERT INTO memories VALUES (?1, ?2, ?3, ?3, '[0.5, 1]', ?3, 'model-1')";
            conn.execute(sql, (id, text, &vector)).unwrap();
            conn.execute("INSERT INTO memory_embeddings VALUES (?1, ?2, 'm')", (id, &vector))
                .unwrap();
            conn.execute(
                "INSERT INTO embedding_cache VALUES (?1, ?2)",
                (format!("h{id}"), &vector),
            )
            .unwrap();
            let png: Vec<u8> =
                (0..400_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            conn.execute("INSERT INTO pictures VALUES (?1, ?2, ?3)", (id, text, png)).unwrap();
        }
    });
    let (redaction, finished) = scene.done();
    assert_eq!(
        (redaction.cells, redaction.vectors_deleted, finished.vectors_deleted),
        (2, 4, 1 + 3)
    );
    assert_eq!(finished.notes.len(), 1, "{:?}", finished.notes);
    let conn = scene.open();
    let row = "SELECT typeof(embedding) || hex(strict_vec) = 'null' || hex(zeroblob(256)) AND list_vec = '[]' AND other IS NULL
        AND embedding_model = 'model-1' FROM memories WHERE id = 2";
    assert!(one::<bool>(&conn, row));
    assert_eq!(
        one::<String>(
            &conn,
            "SELECT group_concat(id) FROM memories WHERE length(embedding) = 256 AND list_vec <> '[]'"
        ),
        "1,3"
    );
    assert_eq!(
        one::<String>(
            &conn,
            "SELECT group_concat(memory_id) FROM memory_embeddings WHERE embedding IS NOT NULL"
        ),
        "1,3"
    );
    assert_eq!(one::<i64>(&conn, "SELECT count(*) FROM embedding_cache"), 0);
    assert_eq!(
        one::<i64>(
            &conn,
            "SELECT count(*) FROM pictures WHERE length(png) = 400 AND png <> zeroblob(400)"
        ),
        3
    );
}

/// Would catch: an index of another module, which may hold anything, shipped as it is.
#[test]
fn a_module_that_is_not_known_is_refused() {
    let with = |module: &str, rows: &str| {
        Scene::new(&format!(
            "CREATE TABLE t (a); {rows} CREATE TABLE v_data (id INTEGER PRIMARY KEY, word TEXT, data BLOB);
             PRAGMA writable_schema=ON;
             INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING {module}(a)')"
        ))
    };
    assert!(with("vss0", "INSERT INTO t VALUES ('SECRET-a');").refusal().contains("vectors"));
    with("vss0", "").done();
    let mut scene = with("spellfix1", "");
    let sql = "INSERT INTO v_data VALUES (1, 'SECRET-w', NULL)";
    Connection::open(&scene.path).unwrap().execute_batch(sql).unwrap();
    scene.done();
    let mut scene = with("spellfix1", "");
    let sql = "INSERT INTO v_data VALUES (1, 'w', CAST('SECRET-w' AS BLOB))";
    Connection::open(&scene.path).unwrap().execute_batch(sql).unwrap();
    assert!(scene.refusal().contains("spellfix1"));
}
