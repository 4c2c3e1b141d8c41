//! Files of every shape: encodings, page sizes, many columns, none.

use rusqlite::Connection;

use crate::support::{Scene, one};

/// Would catch: texts in UTF-16 that are not searched, stored in another encoding, or left on a page.
#[test]
fn texts_in_utf_16_are_redacted() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let mut scene = Scene::new(&format!(
            "PRAGMA encoding='{encoding}'; CREATE TABLE t (k TEXT PRIMARY KEY, a DEFAULT 'SECRET-d'); CREATE INDEX i ON t (a);
             INSERT INTO t VALUES ('SECRET-k', 'grüße SECRET-a 🎉'); CREATE VIRTUAL TABLE f USING fts5(a, content=t);
             INSERT INTO f(f) VALUES ('rebuild')"
        ));
        scene.done();
        let conn = scene.open();
        assert_eq!(one::<String>(&conn, "PRAGMA encoding"), encoding);
        let text: String = one(&conn, "SELECT a FROM t");
        assert!(text.starts_with("grüße [REDACTED:") && text.ends_with("] 🎉"), "{text}");
    }
}

/// Would catch: a header that changes: page size, numbers that programs keep there, automatic vacuum; WAL mode kept.
#[test]
fn the_shape_of_the_file_is_kept() {
    for page_size in [512, 1024, 65536] {
        for auto_vacuum in [0, 1, 2] {
            let mut scene = Scene::new(&format!(
                "PRAGMA page_size={page_size}; PRAGMA auto_vacuum={auto_vacuum}; PRAGMA user_version=77; PRAGMA application_id=99;
                 CREATE TABLE t (a); INSERT INTO t VALUES ('SECRET-a'); PRAGMA journal_mode=WAL"
            ));
            let (_, finished) = scene.done();
            assert_eq!(finished.page_size, page_size);
            let raw = std::fs::read(&scene.into).unwrap();
            assert_eq!(
                raw.len() as u64,
                u64::from(finished.page_size) * u64::from(finished.page_count)
            );
            assert_eq!((raw[18], raw[19]), (1, 1), "rollback mode");
            let conn = scene.open();
            for (pragma, value) in
                [("user_version", 77), ("application_id", 99), ("auto_vacuum", auto_vacuum)]
            {
                assert_eq!(one::<i64>(&conn, &format!("PRAGMA {pragma}")), value, "{pragma}");
            }
        }
    }
}

/// Would catch: more columns than SQLite gives at once.
#[test]
fn a_table_may_have_two_thousand_columns() {
    let columns: Vec<_> = (0..2000).map(|n| format!("c{n}")).collect();
    let mut scene = Scene::new(&format!(
        "CREATE TABLE t ({}); INSERT INTO t (c0, c777, c1999) VALUES ('SECRET-a', 'SECRET-b', 'SECRET-c'), (1, 2, 3);
         CREATE TABLE k ({}, PRIMARY KEY (c3, c1)) WITHOUT ROWID; INSERT INTO k (c1, c3, c1500) VALUES (1, 'SECRET-a', 'SECRET-b')",
        columns.join(", "),
        columns.join(", ")
    ));
    assert_eq!(scene.scan().unwrap().len(), 5);
    assert_eq!(scene.done().0.cells, 5);
}

/// Would catch: rowids that change under those who keep them, as `VACUUM` changes them.
#[test]
fn rowids_without_a_key_stay() {
    let mut scene = Scene::new(
        "CREATE TABLE t (a); INSERT INTO t (rowid, a) VALUES (5, 'SECRET-a'), (90, 'b'), (-3, 'c')",
    );
    scene.done();
    assert_eq!(
        one::<String>(
            &scene.open(),
            "SELECT group_concat(rowid) FROM (SELECT rowid FROM t ORDER BY 1)"
        ),
        "-3,5,90"
    );
}

/// Would catch: nothing taken for damage; views of what is not there.
#[test]
fn empty_files_and_broken_views_are_no_harm() {
    let mut scene = Scene::new("");
    assert_eq!(scene.scan().unwrap().len(), 0);
    std::fs::write(&scene.path, b"").unwrap();
    let (_, finished) = scene.done();
    assert_eq!(finished.integrity, "ok");
    let mut scene = Scene::new(
        "CREATE TABLE t (a); INSERT INTO t VALUES ('SECRET-a'); CREATE VIEW v AS SELECT * FROM gone; CREATE VIEW w AS SELECT nope(a) FROM t",
    );
    scene.done();
}

/// Would catch: a cell that is held whole however large it is.
#[test]
fn a_cell_that_is_too_large_is_refused_by_name() {
    let mut scene = Scene::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, big); INSERT INTO t VALUES (1, 2, zeroblob(17000000))",
    );
    let said = scene.scan().unwrap_err().to_string();
    assert!(said.contains("table t, column big"), "{said}");
    assert!(scene.refusal().contains("table t, column big"));
    let scene = Scene::new(
        "CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(16000000)), (zeroblob(16000000))",
    );
    assert_eq!(scene.scan().unwrap().len(), 0);
}

/// Would catch: an operation that goes on after its caller gave up.
#[test]
fn a_caller_can_stop_it() {
    let mut scene = Scene::new("CREATE TABLE t (a); INSERT INTO t VALUES ('SECRET-a')");
    scene.control.cancel();
    for error in
        [scene.scan().unwrap_err(), scene.redact().unwrap_err(), scene.finish().unwrap_err()]
    {
        assert_eq!(error.kind(), snapshot_core::ErrorKind::Interrupted, "{error}");
    }
    drop(Connection::open(&scene.path).unwrap());
}

/// Would catch: a caller that waits until one long statement is over.
#[test]
fn a_long_statement_is_stopped() {
    let mut scene = Scene::new(
        "CREATE VIEW long AS WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i, 'x' AS a FROM n WHERE i < 0;
         CREATE VIRTUAL TABLE f USING fts5(a, content=long, content_rowid=i)",
    );
    let soon = std::time::Instant::now() + std::time::Duration::from_secs(1);
    scene.control = scene.control.clone().with_deadline(soon);
    scene.redact().unwrap();
    let error = scene.finish().unwrap_err();
    assert_eq!(error.kind(), snapshot_core::ErrorKind::DeadlineExceeded, "{error}");
}
