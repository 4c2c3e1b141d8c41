//! Rows: kinds of tables, columns and constraints.

use rusqlite::Connection;
use snapshot_core::Redactor as _;

use crate::support::{Rules, Scene, one};

/// Would catch: a kind of table that is passed over, a value of another kind than before, numbers touched.
#[test]
fn every_kind_of_table_is_searched_and_rewritten() {
    let mut scene = Scene::new(
        "CREATE TABLE plain (text, data BLOB, n INTEGER);
         INSERT INTO plain VALUES ('a SECRET-abc b', CAST(x'00' || 'SECRET-abc' AS BLOB), 7), ('none', NULL, 8);
         CREATE TABLE keyed (name TEXT PRIMARY KEY, note) WITHOUT ROWID;
         INSERT INTO keyed VALUES ('SECRET-b', 'x'), ('SECRET-a', 'SECRET-c'), ('z', 1.5);
         CREATE TABLE strict (id INTEGER PRIMARY KEY, t TEXT NOT NULL, b BLOB, a ANY) STRICT;
         INSERT INTO strict VALUES (3, 'SECRET-t', CAST('SECRET-t' AS BLOB), 'SECRET-u');
         CREATE TABLE \"we\"\"ird select\" (\"from\" TEXT, 'it''s');
         INSERT INTO \"we\"\"ird select\" VALUES ('SECRET-f', 'SECRET-g')",
    );
    let places = scene.places();
    assert_eq!(
        places,
        [
            "table keyed, column note, row 1",
            "table keyed, column name, row 1 (key)",
            "table keyed, column name, row 2 (key)",
            "table plain, column text, rowid 1",
            "table plain, column data, rowid 1",
            "table strict, column t, rowid 3",
            "table strict, column b, rowid 3",
            "table strict, column a, rowid 3",
            "table we\"ird select, column from, rowid 1",
            "table we\"ird select, column it's, rowid 1",
        ]
        .map(str::to_owned)
        .into_iter()
        .collect::<Vec<_>>()
        .tap_sorted(&places)
    );
    let (redaction, finished) = scene.done();
    assert_eq!((redaction.cells, finished.integrity.as_str()), (10, "ok"));
    let conn = scene.open();
    assert_eq!(
        one::<String>(
            &conn,
            "SELECT group_concat(typeof(text) || typeof(data) || n, ',') FROM plain"
        ),
        "textblob7,textnull8"
    );
    assert_eq!(
        one::<i64>(&conn, "SELECT count(*) FROM keyed WHERE name LIKE '[REDACTED:%' OR note = 1.5"),
        3
    );
    assert_eq!(
        one::<String>(&conn, "SELECT typeof(b) || typeof(t) FROM strict WHERE id = 3"),
        "blobtext"
    );
}

/// In whatever order columns are met, the same places.
trait Sorted {
    fn tap_sorted(self, like: &[String]) -> Vec<String>;
}

impl Sorted for Vec<String> {
    fn tap_sorted(self, like: &[String]) -> Vec<String> {
        assert_eq!(self.len(), like.len(), "{like:#?}");
        assert!(self.iter().all(|place| like.contains(place)), "{like:#?}");
        like.to_vec()
    }
}

/// Would catch: keys of any kind that get no tag, so that two secrets become one, or a child loses its parent.
#[test]
fn keys_are_told_and_constraints_hold() {
    let mut scene = Scene::new(
        "CREATE TABLE people (mail TEXT PRIMARY KEY, phone TEXT UNIQUE, nick TEXT COLLATE NOCASE, free TEXT,
             CHECK (length(free) > 3));
         CREATE UNIQUE INDEX people_nick ON people (nick);
         CREATE TABLE notes (id INTEGER PRIMARY KEY, who TEXT REFERENCES people, tel TEXT REFERENCES people (phone),
             text NOT NULL);
         CREATE TABLE partly (a TEXT, b TEXT);
         CREATE UNIQUE INDEX partly_a ON partly (lower(a)) WHERE b IS NOT NULL;
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO people SELECT 'SECRET-m' || i, 'SECRET-p' || i, 'SECRET-n' || i, 'SECRET-f' FROM n;
         INSERT INTO notes SELECT NULL, mail, phone, mail || phone FROM people;
         INSERT INTO partly VALUES ('SECRET-a', 'SECRET-b')",
    );
    let found = scene.scan().unwrap();
    for (place, _) in &found {
        let is_key = !place.place.contains("column free") && !place.place.contains("column text");
        assert_eq!(place.is_key, is_key, "{place:?}");
    }
    assert_eq!(found.len(), 300 * 4 + 300 * 4 + 2);
    let (redaction, finished) = scene.done();
    assert_eq!((redaction.cells, finished.integrity.as_str()), (300 * 4 + 300 * 3 + 2, "ok"));
    let conn = scene.open();
    assert_eq!(one::<i64>(&conn, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    assert_eq!(
        one::<i64>(&conn, "SELECT count(*) FROM notes JOIN people ON mail = who AND phone = tel"),
        300
    );
}

/// Would catch: a constraint that is passed over in silence, or an error that tells the value.
#[test]
fn what_fits_no_constraint_is_refused_by_name() {
    for (sql, named) in [
        (
            "CREATE TABLE t (a TEXT CHECK (length(a) < 12)); INSERT INTO t VALUES ('SECRET-a')",
            "CHECK",
        ),
        (
            "CREATE TABLE t (a TEXT CHECK (a NOT GLOB '[[]*')); INSERT INTO t VALUES ('SECRET-a')",
            "t",
        ),
        ("CREATE TABLE \"SECRET-a\" (x)", "name"),
        ("CREATE TABLE t (\"a SECRET-a\" TEXT)", "name"),
        ("CREATE TABLE t (a); CREATE INDEX \"SECRET-a\" ON t (a)", "name"),
        ("CREATE TABLE t (rowid, _rowid_, oid); INSERT INTO t VALUES ('SECRET-a', 1, 2)", "rowid"),
    ] {
        let said = Scene::new(sql).refusal();
        assert!(said.contains(named), "{said}");
    }
}

/// Would catch: a row that gives way, or a change that is dropped, where a constraint allows that.
#[test]
fn a_row_that_would_become_another_is_refused() {
    let taken = String::from_utf8(Rules.redact(b"SECRET-a").unwrap()).unwrap();
    for conflict in ["", "ON CONFLICT REPLACE", "ON CONFLICT IGNORE", "ON CONFLICT ROLLBACK"] {
        let mut scene = Scene::new(&format!(
            "CREATE TABLE t (a UNIQUE {conflict}); INSERT INTO t VALUES ('{taken}'), ('SECRET-a')"
        ));
        let said = scene.refusal();
        assert!(said.contains("UNIQUE constraint failed: t.a"), "{said}");
    }
}

/// Would catch: SQLite's own words, which quote a value, in an error.
#[test]
fn no_error_quotes_a_value() {
    let sql = "CREATE TABLE t (a CHECK (json_extract('{}', a) IS NULL));
        INSERT INTO t VALUES ('$.SECRET-a'), ('$.\"SECRET-b SECRET-c')";
    let sql = sql.replace("$.\"SECRET-b SECRET-c", "$.\"SECRET-b private\"");
    let said = Scene::new(&sql).refusal();
    assert!(
        said.contains("table t") && !said.contains("REDACTED") && !said.contains("private"),
        "{said}"
    );
}

/// Would catch: an index on a function that is not here taken for one that can be kept up.
#[test]
fn an_index_that_cannot_be_kept_up_is_refused() {
    let mut scene = Scene::by(|conn| {
        let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8
            | rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC;
        conn.create_scalar_function("stem", 1, flags, |of| of.get::<String>(0)).unwrap();
        let sql =
            "CREATE TABLE t (a); CREATE INDEX i ON t (stem(a)); INSERT INTO t VALUES ('SECRET-a')";
        conn.execute_batch(sql).unwrap();
    });
    assert_eq!(scene.places().len(), 1);
    let said = scene.refusal();
    assert!(said.contains("table t") && said.contains("stem"), "{said}");
}

/// Would catch: text that is no UTF-8 or holds a NUL lost or cut, and JSONB broken by another length.
#[test]
fn odd_text_and_jsonb_are_kept() {
    let mut scene = Scene::new(
        "CREATE TABLE t (a, j BLOB);
         INSERT INTO t VALUES (CAST(x'ff00fe' || CAST('SECRET-a' AS BLOB) || x'c3' AS TEXT),
             jsonb('{\"k\":[\"long SECRET-b text\",1.50,{\"x\":\"SECRET-c\"}]}'))",
    );
    assert_eq!(scene.scan().unwrap().len(), 3);
    let (redaction, _) = scene.done();
    assert_eq!(redaction.cells, 2);
    let conn = scene.open();
    assert_eq!(one::<String>(&conn, "SELECT typeof(a) || typeof(j) FROM t"), "textblob");
    let text: Vec<u8> = one(&conn, "SELECT CAST(a AS BLOB) FROM t");
    assert!(text.starts_with(b"\xff\0\xfe[REDACTED:fake:") && text.ends_with(b"]\xc3"), "{text:?}");
    assert!(one::<bool>(&conn, "SELECT json_valid(j, 8) FROM t"));
    let json: String = one(&conn, "SELECT json(j) FROM t");
    assert!(json.contains("\"long [REDACTED:fake:") && json.contains("1.50"), "{json}");
}

/// Would catch: definitions that keep a secret, or a column computed from one that keeps what it was.
#[test]
fn definitions_are_rewritten_and_what_follows_from_them() {
    let mut scene = Scene::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'SECRET-d', -- SECRET-c
             s TEXT AS (a || 'SECRET-s') STORED, v TEXT AS ('SECRET-v') VIRTUAL);
         INSERT INTO t (id) VALUES (1), (2);
         INSERT INTO t (id, a) VALUES (3, 'nothing');
         ALTER TABLE t ADD COLUMN late TEXT DEFAULT 'SECRET-l';
         CREATE INDEX i ON t (a || 'SECRET-i');
         CREATE INDEX vi ON t (v);
         CREATE INDEX li ON t (late);
         CREATE VIEW w AS SELECT 'SECRET-w' AS x, a FROM t;
         CREATE TRIGGER r AFTER UPDATE ON t BEGIN INSERT INTO t (a) VALUES ('SECRET-r'); END",
    );
    let (_, finished) = scene.done();
    assert_eq!(finished.integrity, "ok");
    let conn = scene.open();
    assert_eq!(
        one::<i64>(&conn, "SELECT count(*) FROM t WHERE s LIKE '%[REDACTED:%]'"),
        3,
        "and no trigger ran"
    );
    assert_eq!(
        one::<i64>(&conn, "SELECT count(*) FROM t INDEXED BY li WHERE late LIKE '%' AND late > ''"),
        3
    );
    assert!(one::<String>(&conn, "SELECT x FROM w").starts_with("[REDACTED:"));
}

/// Would catch: samples that the planner took of a value, which stay behind.
#[test]
fn samples_of_the_planner_are_gone() {
    let mut scene = Scene::new(
        "CREATE TABLE t (a); CREATE INDEX i ON t (a);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO t SELECT 'SECRET-x' || (i % 40) FROM n;
         ANALYZE",
    );
    let raw = std::fs::read(&scene.path).unwrap();
    assert!(
        one::<i64>(&Connection::open(&scene.path).unwrap(), "SELECT count(*) FROM sqlite_stat4")
            > 0
    );
    assert!(raw.windows(7).any(|w| w == b"SECRET-"));
    scene.done();
    assert_eq!(one::<i64>(&scene.open(), "SELECT count(*) FROM sqlite_stat4"), 0);
    assert_eq!(one::<i64>(&scene.open(), "SELECT count(*) FROM sqlite_stat1"), 1);
}

/// Would catch: rows that were deleted before and still lie on free pages or in the room of pages in use.
#[test]
fn what_lay_on_free_pages_is_gone() {
    let mut scene = Scene::new(
        "CREATE TABLE t (a); CREATE INDEX i ON t (a);
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO t SELECT 'SECRET-gone' || i || hex(randomblob(50)) FROM n;
         DELETE FROM t WHERE rowid % 10 <> 0; UPDATE t SET a = 'kept' || rowid;
         DROP INDEX i; CREATE TABLE u (b); INSERT INTO u VALUES ('SECRET-u')",
    );
    assert_eq!(scene.scan().unwrap().len(), 1);
    assert!(std::fs::read(&scene.path).unwrap().windows(7).any(|w| w == b"SECRET-"));
    scene.done();
    assert_eq!(one::<i64>(&scene.open(), "SELECT count(*) FROM t WHERE a = 'kept' || rowid"), 200);
}

/// Would catch: rows met twice or never, once more change than fit into a batch, and keys move.
#[test]
fn more_than_a_batch_is_changed() {
    let mut scene = Scene::new(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, t); CREATE TABLE k (t PRIMARY KEY, u) WITHOUT ROWID;
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         INSERT INTO a SELECT -3 * i, 'SECRET-a' || i || printf('%020000d', 0) FROM n;
         INSERT INTO k SELECT t, id FROM a",
    );
    let (redaction, _) = scene.done();
    assert_eq!(redaction.cells, 2400);
    assert_eq!(
        one::<i64>(&scene.open(), "SELECT count(*) FROM k JOIN a ON a.t = k.t AND u = id"),
        1200
    );
}
