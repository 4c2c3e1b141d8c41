//! Connections and sources that come and go, in any order, and what a host sees of it.

use std::sync::{Arc, Weak};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use snapshot_events::{
    MutationSource, MutationSourceError, MutationSourceOptions, MutationTables, RecordingPublisher,
};

use crate::support::{Host, options};

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v);";

/// Would catch: a connection that tells of another's writes, or whose rollback undoes them.
#[test]
fn connections_tell_of_their_own_writes() {
    let host = Host::new(T);
    let (other, recording) = (host.other(), Arc::new(RecordingPublisher::default()));
    let source = MutationSource::attach(&other, options(&recording)).unwrap();
    let third = host.other();
    other.execute_batch("INSERT INTO t VALUES (1, 'other')").unwrap();
    third.execute_batch("INSERT INTO t VALUES (2, 'third')").unwrap();
    host.run("BEGIN; INSERT INTO t VALUES (3, 'mine');");
    other.execute_batch("BEGIN; SELECT * FROM t; ROLLBACK;").unwrap();
    host.run("COMMIT");
    assert_eq!(host.told(), ["+t:3"]);
    assert_eq!(recording.mutation.lock().len(), 1);
    let elsewhere = source.detach(&host.conn).unwrap_err();
    assert!(matches!(elsewhere, MutationSourceError::NotAttached));
    let elsewhere = host.source.refresh(&third).unwrap_err();
    assert!(matches!(elsewhere, MutationSourceError::NotAttached));
    source.detach(&other).unwrap();
    assert!(matches!(source.detach(&other).unwrap_err(), MutationSourceError::NotAttached));
}

/// Would catch: state that outlives its connection and source, or is freed under one of them, in
/// whichever order they go.
#[test]
fn nothing_is_left_whichever_goes_first() {
    for order in 0..5 {
        let host = Host::new(T);
        let Host { dir, conn, source, recording, .. } = host;
        let weak: Weak<RecordingPublisher> = Arc::downgrade(&recording);
        drop(recording);
        let left = || weak.strong_count();
        conn.execute_batch("BEGIN; INSERT INTO t VALUES (1, 'a')").unwrap();
        match order {
            0 => {
                drop(conn);
                assert_eq!((left(), source.stats().published), (1, 0));
                drop(source);
            }
            1 => {
                drop(source);
                // The publisher goes with the source, and its thread if it has one.
                assert_eq!(left(), 0);
                conn.execute_batch("COMMIT; INSERT INTO t VALUES (2, 'b')").unwrap();
                drop(conn);
            }
            2 => {
                conn.execute_batch("COMMIT").unwrap();
                source.detach(&conn).unwrap();
                assert_eq!((left(), source.stats().published), (0, 1));
                drop((source, conn));
            }
            3 => {
                conn.execute_batch("ROLLBACK").unwrap();
                // A statement under way keeps the function.
                let mut select = conn.prepare("SELECT 1 UNION SELECT 2").unwrap();
                let mut rows = select.query([]).unwrap();
                rows.next().unwrap();
                source.detach(&conn).unwrap();
                rows.next().unwrap();
                drop(rows);
                drop(select);
                conn.execute_batch("INSERT INTO t VALUES (2, 'b')").unwrap();
                assert_eq!(source.stats().published, 0);
                let recording = Arc::new(RecordingPublisher::default());
                let again = MutationSource::attach(&conn, options(&recording)).unwrap();
                conn.execute_batch("INSERT INTO t VALUES (3, 'c')").unwrap();
                assert_eq!(again.stats().published, 1);
                drop(conn);
            }
            _ => {
                let thread = std::thread::spawn(move || {
                    conn.execute_batch("COMMIT").unwrap();
                    drop(conn);
                });
                thread.join().unwrap();
                assert_eq!(source.stats().published, 1);
                drop(source);
            }
        }
        assert_eq!(left(), 0, "order {order}");
        drop(dir);
    }
}

/// Would catch: two sources on one connection, remains of one that was dropped that break the next,
/// or that pile up.
#[test]
fn a_connection_has_one_source_at_a_time() {
    let mut host = Host::new(T);
    let second = MutationSource::attach(&host.conn, options(&host.recording)).unwrap_err();
    assert!(matches!(second, MutationSourceError::AlreadyAttached));
    let temp = |conn: &Connection| -> i64 {
        conn.query_row("SELECT count(*) FROM temp.sqlite_schema", [], |row| row.get(0)).unwrap()
    };
    let made = temp(&host.conn);
    for _ in 0..3 {
        let options = options(&host.recording);
        host.source.detach(&host.conn).unwrap();
        host.source = MutationSource::attach(&host.conn, options).unwrap();
    }
    let Host { conn, source, recording, dir, .. } = host;
    drop(source);
    // An attempt that fails leaves no trigger without what it calls.
    let nothing = MutationTables::Only(vec!["missing".to_owned()]);
    let refused = MutationSourceOptions { tables: nothing, ..options(&recording) };
    MutationSource::attach(&conn, refused).unwrap_err();
    conn.execute_batch("INSERT INTO t DEFAULT VALUES").unwrap();
    assert_eq!(temp(&conn), 0);
    for _ in 0..3 {
        let source = MutationSource::attach(&conn, options(&recording)).unwrap();
        conn.execute_batch("INSERT INTO t DEFAULT VALUES").unwrap();
        assert_eq!((source.stats().published, temp(&conn)), (1, made));
    }
    conn.execute_batch("INSERT INTO t DEFAULT VALUES").unwrap();
    assert_eq!(recording.mutation.lock().len(), 3);
    let source = MutationSource::attach(&conn, options(&recording)).unwrap();
    source.detach(&conn).unwrap();
    assert_eq!(temp(&conn), 0);
    drop(dir);
}

/// Would catch: triggers that a rollback takes away, or brings back without what they call.
#[test]
fn in_a_transaction_nothing_is_attached_or_detached() {
    let host = Host::new(T);
    host.run("BEGIN");
    let refused = [
        host.source.refresh(&host.conn).unwrap_err(),
        host.source.detach(&host.conn).unwrap_err(),
        MutationSource::attach(&host.conn, options(&host.recording)).unwrap_err(),
    ];
    assert!(refused.iter().all(|e| matches!(e, MutationSourceError::InTransaction)));
    host.run("INSERT INTO t VALUES (1, 'a'); COMMIT");
    assert_eq!(host.told(), ["+t:1"]);
}

/// Would catch: what a host reads after a write, changed by ours.
#[test]
fn counts_and_rowids_are_as_without_a_source() {
    let seen = |source: bool| {
        let host = Host::new(
            "PRAGMA recursive_triggers = ON;
             CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, v); CREATE TABLE log (n, id);
             CREATE TRIGGER log AFTER INSERT ON t BEGIN
                 INSERT INTO log VALUES (changes(), last_insert_rowid());
                 UPDATE log SET n = n + 1;
                 INSERT INTO log VALUES (changes(), last_insert_rowid());
             END;",
        );
        if !source {
            host.source.detach(&host.conn).unwrap();
        }
        let mut seen = Vec::new();
        for sql in [
            "INSERT INTO t VALUES (10, 1, 1), (11, 2, 1)",
            "INSERT OR REPLACE INTO t VALUES (12, 2, 1)",
            "INSERT INTO t VALUES (12, 9, 1) ON CONFLICT (id) DO UPDATE SET v = 2",
            "UPDATE t SET v = 7",
            "UPDATE t SET v = 7",
            "INSERT OR IGNORE INTO t VALUES (12, 9, 1)",
            "DELETE FROM t",
        ] {
            let changed = host.conn.execute(sql, []).unwrap();
            let total: i64 =
                host.conn.query_row("SELECT total_changes()", [], |r| r.get(0)).unwrap();
            seen.push((changed as i64, total, host.conn.last_insert_rowid()));
        }
        let mut log = host.conn.prepare("SELECT n, rowid, id FROM log").unwrap();
        let rows = log.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
        seen.extend(rows.map(Result::unwrap));
        seen
    };
    assert_eq!(seen(true), seen(false));
}

/// Would catch: statements prepared before the source, or kept in a cache, that go unseen, or fail
/// once it is gone.
#[test]
fn statements_prepared_before_are_seen() {
    let host = Host::new(T);
    let insert = |v: &str| {
        let sql = "INSERT INTO t (v) VALUES (?1)";
        host.conn.prepare_cached(sql).unwrap().execute([v]).unwrap();
    };
    insert("a");
    host.source.detach(&host.conn).unwrap();
    insert("b");
    let source = MutationSource::attach(&host.conn, options(&host.recording)).unwrap();
    insert("c");
    source.refresh(&host.conn).unwrap();
    insert("d");
    assert_eq!(host.told(), ["+t:1", "+t:3", "+t:4"]);
}

/// Would catch: a connection that trusts no schema, or is defensive, on which our triggers are refused;
/// or our function within reach of a crafted schema.
#[test]
fn a_distrustful_connection_is_served_and_a_crafted_schema_is_not() {
    let host = Host::new(
        "PRAGMA recursive_triggers = ON; CREATE TABLE t (id INTEGER PRIMARY KEY, v);
         CREATE TABLE u (x);
         CREATE TRIGGER forged AFTER INSERT ON u BEGIN SELECT nexo_mutation_row(0, 0, 0, 7, 7, 7, 7); END;",
    );
    host.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).unwrap();
    host.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
    host.run("BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1, 'a'); RELEASE s; COMMIT");
    assert_eq!(host.told(), ["+t:1"]);
    host.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, true).unwrap();
    let said = host.fails("INSERT INTO u VALUES (1)");
    assert!(said.contains("unsafe use"), "{said}");
    assert_eq!(host.told(), [""; 0]);
}

/// Would catch: a crash, or events of nothing, where somebody uses by hand what is for triggers.
#[test]
fn the_function_and_the_table_by_hand_do_nothing() {
    let host = Host::new(T);
    for arguments in
        ["0", "0,0", "0,0,0", "9,0,0,1", "0,9,0,1", "-1,0,0,1", "'a','b','c'", "0,0,5,1"]
    {
        host.run(&format!("SELECT nexo_mutation_row({arguments})"));
    }
    host.run("SELECT nexo_mutation_row(0,0,0,1,1,1,1)");
    host.fails("SELECT * FROM temp.nexo_mutation_sink");
    host.fails("INSERT INTO temp.nexo_mutation_sink VALUES (1)");
    host.fails("DELETE FROM temp.nexo_mutation_sink");
    host.fails("SELECT * FROM nexo_mutation_sink");
    host.run("INSERT INTO t VALUES (1, 'a')");
    assert_eq!(host.told(), ["+t:1"]);
}

/// Would catch: a file that bears traces of the source, or a journal that it brings.
#[test]
fn the_database_file_bears_no_trace() {
    let host = Host::new(T);
    host.run("INSERT INTO t VALUES (1, 'a')");
    let names: Vec<String> = host
        .other()
        .prepare("SELECT name FROM sqlite_schema")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(names, ["t"]);
}
