//! Databases that are damaged, or made to harm.

use rusqlite::Connection;
use snapshot_core::ErrorKind;

use crate::support::{Scene, one};

/// Would catch: a trigger, a view or a computed column of an untrusted database that is run.
#[test]
fn nothing_that_a_database_defines_is_run() {
    let mut scene = Scene::new(
        "CREATE TABLE t (a, g AS (upper(a)));
         CREATE TABLE log (x);
         CREATE TRIGGER r1 AFTER UPDATE ON t BEGIN INSERT INTO log VALUES ('ran'); END;
         CREATE TRIGGER r2 BEFORE UPDATE ON t BEGIN SELECT RAISE(FAIL, 'SECRET-raise'); END;
         CREATE VIEW v AS SELECT load_extension('x') AS e;
         CREATE TRIGGER r3 INSTEAD OF UPDATE ON v BEGIN INSERT INTO log VALUES ('ran'); END;
         CREATE VIRTUAL TABLE f USING fts5(e, content=v);
         INSERT INTO t VALUES ('SECRET-a')",
    );
    let (_, finished) = scene.done();
    assert_eq!(one::<i64>(&scene.open(), "SELECT count(*) FROM log"), 0);
    assert_eq!(finished.notes.len(), 1, "{:?}", finished.notes);
}

/// Would catch: a constraint of a small file that takes the memory of the machine, row by row; and a limit that
/// no honest large value passes.
#[test]
fn no_expression_makes_more_than_the_file_could_hold() {
    let table = |bytes: u64| {
        format!(
            "CREATE TABLE t (a, CHECK (length(hex(zeroblob({bytes}))) > 1)); INSERT INTO t VALUES ('SECRET-a')"
        )
    };
    // SQLite counts a byte more for the end of a text: 16 MiB, and past it.
    let integrity = |bytes| Scene::new(&table(bytes)).done().1.integrity;
    assert_eq!(integrity((8 << 20) - 1), "ok");
    let said = integrity(8 << 20);
    assert!(said.contains("too big"), "{said}");
    let large = "CREATE TABLE t (a); INSERT INTO t VALUES ('SECRET-a ' || hex(zeroblob(8000000)))";
    Scene::new(large).done();
}

/// Would catch: a full-text index whose texts are its own, which is read without end.
#[test]
fn an_index_of_itself_ends() {
    for sql in [
        "CREATE VIRTUAL TABLE f USING fts5(a, content=f)",
        "CREATE VIRTUAL TABLE f USING fts5(a, content=g); CREATE VIRTUAL TABLE g USING fts5(a, content=f)",
        "CREATE VIRTUAL TABLE f USING fts4(a, content=f)",
    ] {
        let mut scene = Scene::new(sql);
        let done = scene.redact().and_then(|_| scene.finish());
        drop(done);
    }
}

/// Would catch: a table that hides from the schema's own account of itself.
#[test]
fn a_table_under_another_name_is_found() {
    let mut scene = Scene::new(
        "CREATE TABLE t (a); INSERT INTO t VALUES ('SECRET-a'); PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET type = 'Table'",
    );
    assert_eq!(scene.places(), ["table t, column a, rowid 1"]);
    let done = scene.redact().and_then(|_| scene.finish());
    if done.is_ok() {
        scene.is_clean();
    }
}

/// Would catch: tables that only have the names of parts of an index, and are passed over as such.
#[test]
fn tables_named_like_parts_of_an_index_are_searched() {
    let mut scene = Scene::new(
        "CREATE TABLE v_auxiliary (rowid INTEGER PRIMARY KEY, value00); INSERT INTO v_auxiliary VALUES (1, 'SECRET-a');
         CREATE TABLE f_stat (id INTEGER PRIMARY KEY, note); INSERT INTO f_stat VALUES (1, 'SECRET-b');
         CREATE TABLE w_data (id, block, more); INSERT INTO w_data VALUES (1, 2, 'SECRET-c');
         CREATE VIRTUAL TABLE f USING fts3(a); CREATE VIRTUAL TABLE v USING vec0(e FLOAT[2], tag TEXT);
         CREATE TABLE v_metadatatext07 (rowid PRIMARY KEY, data); INSERT INTO v_metadatatext07 VALUES (1, 'SECRET-d');
         PRAGMA writable_schema=ON; DELETE FROM sqlite_schema WHERE tbl_name GLOB 'v_vector*';
         INSERT INTO sqlite_schema VALUES ('table', 'w', 'w', 0, 'CREATE/**/VIRTUAL/**/TABLE w/**/USING/**/fts5(a)')",
    );
    assert_eq!(scene.places().len(), 4);
    scene.redact().unwrap();
    assert_eq!(scene.places(), Vec::<String>::new());
}

/// Would catch: a database of another release's format that is called a defect of ours.
#[test]
fn a_format_that_is_not_known_is_the_files_fault() {
    // Where the header says by which format schemas are written; 4 is the latest.
    const SCHEMA_FORMAT_AT: usize = 44;
    let mut scene = Scene::new("CREATE TABLE t (a)");
    let mut bytes = std::fs::read(&scene.path).unwrap();
    bytes[SCHEMA_FORMAT_AT..SCHEMA_FORMAT_AT + 4].copy_from_slice(&9u32.to_be_bytes());
    std::fs::write(&scene.path, bytes).unwrap();
    for error in
        [scene.scan().unwrap_err(), scene.redact().unwrap_err(), scene.finish().unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    }
}

/// Would catch: a panic or an error of no kind where a file is damaged, or is none.
#[test]
fn damage_is_an_error_of_its_kind() {
    let mut scene = Scene::new("CREATE TABLE t (a)");
    std::fs::write(&scene.path, b"SQLite format 3\0 and no more than that, for SECRET-a").unwrap();
    for error in
        [scene.scan().unwrap_err(), scene.redact().unwrap_err(), scene.finish().unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    }
    std::fs::write(&scene.path, [b'x'; 5000]).unwrap();
    for error in [scene.scan().unwrap_err(), scene.redact().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
    }
    let mut scene = Scene::new(
        "CREATE TABLE t (a); PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a) ''SECRET-a'''",
    );
    for error in
        [scene.scan().unwrap_err(), scene.redact().unwrap_err(), scene.finish().unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
        assert!(!format!("{error:?}").contains("SECRET-"), "{error:?}");
    }
}

/// Would catch: a fresh copy that is less sound than what was captured.
#[test]
fn less_sound_than_before_is_refused() {
    for (harm, said) in [
        ("PRAGMA ignore_check_constraints=ON; INSERT INTO t VALUES (-1, NULL)", "integrity"),
        ("PRAGMA foreign_keys=OFF; INSERT INTO t VALUES (1, 99)", "foreign keys"),
    ] {
        let mut scene = Scene::new(
            "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (a CHECK (a > 0), b REFERENCES p)",
        );
        scene.redact().unwrap();
        Connection::open(&scene.path).unwrap().execute_batch(harm).unwrap();
        let error = scene.finish().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Would catch: a panic on whatever a damaged page holds.
#[test]
fn damaged_pages_end_in_errors() {
    for seed in 0..60_usize {
        let mut scene = Scene::new(
            "CREATE TABLE t (a UNIQUE, b); CREATE VIRTUAL TABLE f USING fts5(a); CREATE VIRTUAL TABLE v USING vec0(e FLOAT[2], tag TEXT);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 200)
             INSERT INTO t SELECT 'SECRET-a' || i, i FROM n; INSERT INTO f SELECT a FROM t;
             INSERT INTO v (rowid, e, tag) SELECT b, '[1,2]', a FROM t",
        );
        let mut raw = std::fs::read(&scene.path).unwrap();
        for n in 0..8 {
            let at = (seed * 7919 + n * 104_729) % raw.len();
            raw[at] ^= 1 << (seed % 8);
        }
        std::fs::write(&scene.path, raw).unwrap();
        drop(scene.scan());
        if scene.redact().and_then(|_| scene.finish()).is_ok() {
            let conn = Connection::open(&scene.into).unwrap();
            drop(conn);
        }
    }
}
