//! Databases that are not what SQLite writes.

use std::fs;

use proptest::prelude::*;
use rusqlite::Connection;
use snapshot_core::{ErrorKind, error_chain};
use snapshot_stores::{Applied, StoresError};

use crate::support::{Target, with_store};

/// Bytes of a page.
const PAGE: usize = 4096;

/// A database of several levels, with an index and free pages.
fn sound(setup: &str) -> Vec<u8> {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("sound.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(setup).unwrap();
    conn.execute_batch(
        "PRAGMA page_size=4096; CREATE TABLE t(k INTEGER PRIMARY KEY, x TEXT); CREATE INDEX i ON t(x); \
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000) \
         INSERT INTO t SELECT n, printf('%060d', n) FROM n; DELETE FROM t WHERE k > 1200",
    )
    .unwrap();
    drop(conn);
    fs::read(path).unwrap()
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Where the tree whose schema row has this name has its root.
fn root(bytes: &[u8], name: &str) -> usize {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("x.db");
    fs::write(&path, bytes).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: u32 = Connection::open(path).unwrap().query_row(sql, [name], |r| r.get(0)).unwrap();
    (page as usize - 1) * PAGE
}

/// Restores it over a live store, which is either replaced as it is, or not touched at all.
fn restored(bytes: &[u8]) -> Result<Applied, StoresError> {
    let target = Target::new();
    let live = Connection::open(target.store()).unwrap();
    live.execute_batch("CREATE TABLE mine(x); INSERT INTO mine VALUES ('kept')").unwrap();
    let before = fs::read(target.store()).unwrap();
    let done = target.restore(&with_store(bytes));
    let after = fs::read(target.store()).unwrap();
    match &done {
        Ok(_) => assert_ne!(after, before, "taken, but the live store is as it was"),
        Err(e) => {
            assert_eq!(after, before, "refused, but it changed the live store: {e}");
            let kinds = [ErrorKind::Integrity, ErrorKind::Io, ErrorKind::Refused];
            assert!(kinds.contains(&e.kind()), "{e:?}");
        }
    }
    done
}

/// Would catch: a crafted database that a restore follows in circles, believes in its size, runs, or takes
/// half of.
#[test]
fn crafted_databases_are_refused_or_data() {
    let good = sound("");
    let (table, index) = (root(&good, "t"), root(&good, "i"));
    assert_eq!((good[table], good[index]), (5, 2), "of several levels");
    let first_free = get_u32(&good, 32) as usize;
    assert!(first_free > 0, "no free pages");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let page_of = |at: usize| u32::try_from(at / PAGE + 1).unwrap();
    // Of what is refused, why.
    let cases: [(&str, Option<&str>, Vec<u8>); 20] = [
        ("sound", None, good.clone()),
        (
            "more pages than the file",
            Some("disk image is malformed"),
            with(&|b| put_u32(b, 28, u32::MAX - 1)),
        ),
        ("fewer pages than the file", None, with(&|b| put_u32(b, 28, 3))),
        ("a number of pages that is not known", None, with(&|b| put_u32(b, 92, 77))),
        (
            "another one that does not count",
            None,
            with(&|b| {
                put_u32(b, 92, 77);
                put_u32(b, 28, 3);
            }),
        ),
        ("no pages", None, with(&|b| put_u32(b, 28, 0))),
        ("cut in a page", None, with(&|b| b.truncate(b.len() - 100))),
        (
            "a free list in a circle",
            None,
            with(&|b| put_u32(b, (first_free - 1) * PAGE, page_of((first_free - 1) * PAGE))),
        ),
        ("a free list out of the file", None, with(&|b| put_u32(b, 32, 1 << 30))),
        ("more free pages than pages", None, with(&|b| put_u32(b, 36, u32::MAX))),
        ("a tree in a circle", None, with(&|b| put_u32(b, table + 8, page_of(table)))),
        ("an index in a circle", None, with(&|b| put_u32(b, index + 8, page_of(index)))),
        ("a tree that leads to the schema", None, with(&|b| put_u32(b, table + 8, 1))),
        ("cells out of their page", None, with(&|b| b[table + 12..table + 40].fill(0xff))),
        (
            "a schema in a circle",
            Some("disk image is malformed"),
            with(&|b| {
                b[100] = 5;
                put_u32(b, 108, 1)
            }),
        ),
        ("a page of no size", Some("file is not a database"), with(&|b| b[16..18].fill(0))),
        ("a page that is all reserved", Some("disk image is malformed"), with(&|b| b[20] = 255)),
        (
            "an encoding that is none",
            Some("malformed database schema"),
            with(&|b| put_u32(b, 56, 7)),
        ),
        ("a schema format to come", Some("unsupported file format"), with(&|b| put_u32(b, 44, 99))),
        ("a format to come", Some("its header has unknown versions"), with(&|b| b[18..20].fill(3))),
    ];
    for (what, refused, bytes) in &cases {
        match (restored(bytes), refused) {
            (Ok(_), None) => {}
            (Err(e), Some(why)) => {
                assert_eq!(e.kind(), ErrorKind::Integrity, "{what}: {e:?}");
                assert!(error_chain(&e).contains(why), "{what}: {e:?}");
            }
            (done, _) => panic!("{what}: {done:?}"),
        }
    }
}

/// Would catch: a manifest that is believed about the size of pages, which a live log keeps: the restore
/// stopped half way.
#[test]
fn a_manifest_that_lies_about_pages_is_not_believed() {
    let target = Target::new();
    let live = Connection::open(target.store()).unwrap();
    live.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE mine(x)").unwrap();
    let bytes = sound("PRAGMA page_size=8192; CREATE TABLE first(x)");
    assert_eq!(bytes[16..18], [32, 0]);
    target.restore(&with_store(&bytes)).unwrap();
    let count: i64 = live.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(count, 1200);
}

/// Would catch: a database in another encoding or with a strange schema that is called damaged.
#[test]
fn odd_databases_are_taken() {
    for setup in [
        "PRAGMA encoding='UTF-16le'",
        "PRAGMA encoding='UTF-16be'; CREATE VIEW \u{fc} AS SELECT '\u{1f431}'",
        "PRAGMA auto_vacuum=INCREMENTAL",
        "CREATE TABLE g(a, b AS (upper(a)) STORED, c DEFAULT (random()), CHECK (length(a) < 1000000))",
        "CREATE TABLE s(a ANY, b INT) STRICT; CREATE TABLE w(a PRIMARY KEY) WITHOUT ROWID",
        "PRAGMA writable_schema=ON; INSERT INTO sqlite_schema VALUES \
         ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING csv(filename=''/etc/passwd'')'); \
         PRAGMA writable_schema=RESET",
    ] {
        let done = restored(&sound(setup));
        assert!(done.is_ok(), "{setup}: {done:?}");
    }
}

/// Would catch: a schema as large as a bundle likes that a restore looks at for ever, or tells of at length.
#[test]
fn a_schema_of_many_parts_is_looked_at_once() {
    let many = "CREATE TABLE base(x); PRAGMA writable_schema=ON; \
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000) \
         INSERT INTO sqlite_schema SELECT 'view', 'v' || n, 'v' || n, 0, \
         'CREATE VIEW v' || n || ' AS SELECT x FROM base' FROM n; PRAGMA writable_schema=RESET";
    let done = restored(&sound(many)).unwrap();
    assert_eq!(done.notes.len(), 1);
    assert!(done.notes[0].contains("4992 more are not in the live store"), "{:?}", done.notes);
}

/// Would catch: a schema that SQLite cannot read, under which a restore stops half way.
#[test]
fn a_schema_that_is_none_changes_nothing() {
    let broken = sound(
        "CREATE TABLE u(x); PRAGMA writable_schema=ON; \
         UPDATE sqlite_schema SET sql = 'CREATE nonsense' WHERE name = 'u'; PRAGMA writable_schema=OFF; \
         PRAGMA user_version=1",
    );
    assert_eq!(restored(&broken).unwrap_err().kind(), ErrorKind::Integrity);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Would catch: damage anywhere that makes a restore panic, hang, or change half of a store.
    #[test]
    fn any_damage_is_refused_or_data(
        at in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..40)) {
        static GOOD: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| sound(""));
        let mut bytes = GOOD.clone();
        for (at, byte) in at {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = restored(&bytes);
    }
}
