//! What was undone is never told; what was committed is, once and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::ErrorCode;

use crate::support::Host;

const FACTS: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v CHECK (v <> 'bad'));";

/// Would catch: an event before its commit, one of a transaction that was rolled back, or one that is
/// told again by the next commit.
#[test]
fn a_transaction_is_told_when_it_commits_and_not_if_it_does_not() {
    let host = Host::new(FACTS);
    host.run("INSERT INTO t VALUES (1, 'a')");
    assert_eq!(host.told(), ["+t:1"]);
    host.run("BEGIN; INSERT INTO t VALUES (2, 'b'); UPDATE t SET v = 'c' WHERE id = 1; ROLLBACK;");
    assert_eq!(host.told(), [""; 0]);
    host.run("BEGIN; INSERT INTO t VALUES (3, 'b'); DELETE FROM t WHERE id = 1;");
    assert_eq!(host.told(), [""; 0]);
    host.run("COMMIT");
    assert_eq!(host.told(), ["+t:3", "-t:1"]);
    host.run("UPDATE t SET v = 'd'");
    assert_eq!(host.told(), ["~t:3"]);
    assert_eq!(host.source.stats().published, 4);
}

/// Would catch: a savepoint whose mark is lost, that of another level taken for it, or events of a
/// released one lost or kept past the rollback of the one around it.
#[test]
fn savepoints_undo_exactly_what_came_after_them() {
    let host = Host::new(FACTS);
    // The outermost savepoint is the transaction; those inside count from there.
    for (begin, end) in [("BEGIN", "COMMIT"), ("SAVEPOINT outer", "RELEASE outer")] {
        let run = |sql: &str| {
            host.run(&format!("DELETE FROM t; {begin}; {sql} {end};"));
            host.told().into_iter().filter(|told| told.starts_with('+')).collect::<Vec<_>>()
        };
        let two = "INSERT INTO t VALUES (1, 1); SAVEPOINT a; INSERT INTO t VALUES (2, 1);";
        assert_eq!(run(&format!("{two} RELEASE a;")), ["+t:1", "+t:2"]);
        assert_eq!(run(&format!("{two} ROLLBACK TO a;")), ["+t:1"]);
        let again = "ROLLBACK TO a; INSERT INTO t VALUES (3, 1); ROLLBACK TO a;";
        assert_eq!(run(&format!("{two} {again} INSERT INTO t VALUES (4, 1);")), ["+t:1", "+t:4"]);
        let inner = "SAVEPOINT b; INSERT INTO t VALUES (3, 1); RELEASE b;";
        assert_eq!(run(&format!("{two} {inner} RELEASE a;")), ["+t:1", "+t:2", "+t:3"]);
        assert_eq!(run(&format!("{two} {inner} ROLLBACK TO a;")), ["+t:1"]);
        // The first change of the transaction is in a savepoint, or in one of one.
        let first = "SAVEPOINT a; SAVEPOINT b; INSERT INTO t VALUES (1, 1); SAVEPOINT c; \
                     INSERT INTO t VALUES (2, 1);";
        assert_eq!(run(&format!("{first} ROLLBACK TO c;")), ["+t:1"]);
        assert_eq!(run(&format!("{first} ROLLBACK TO b;")), [""; 0]);
        assert_eq!(run(&format!("{first} ROLLBACK TO a;")), [""; 0]);
        assert_eq!(run(&format!("{first} RELEASE c; ROLLBACK TO b;")), [""; 0]);
        assert_eq!(run(&format!("{first} RELEASE b; INSERT INTO t VALUES (3, 1);")).len(), 3);
        assert_eq!(run(&format!("{first} RELEASE b; ROLLBACK TO a;")), [""; 0]);
    }
    host.run("SAVEPOINT outer; INSERT INTO t VALUES (9, 1); ROLLBACK TO outer; RELEASE outer");
    assert_eq!(host.told(), [""; 0]);
}

/// Would catch: rows of a statement that failed half-way told as if they were there, or what `OR
/// FAIL` keeps left out.
#[test]
fn a_statement_that_fails_is_told_as_far_as_it_stays() {
    let host = Host::new(FACTS);
    let rows = "INTO t VALUES (1, 'a'), (2, 'b'), (3, 'bad'), (4, 'd')";
    for begin in ["", "BEGIN; INSERT INTO t VALUES (9, 'x');", "SAVEPOINT s; SAVEPOINT u;"] {
        let run = |insert: &str, end: &str| {
            host.run("DELETE FROM t");
            host.told();
            host.run(begin);
            host.fails(insert);
            if !host.conn.is_autocommit() {
                host.run(end);
            }
            let told = host.told();
            let kept = if begin.contains("(9") && !insert.contains("ROLLBACK") { 1 } else { 0 };
            told[kept..].to_vec()
        };
        let end = if begin.starts_with("SAVEPOINT") { "RELEASE s" } else { "COMMIT" };
        assert_eq!(run(&format!("INSERT {rows}"), end), [""; 0]);
        assert_eq!(run(&format!("INSERT OR ABORT {rows}"), end), [""; 0]);
        assert_eq!(run(&format!("INSERT OR ROLLBACK {rows}"), end), [""; 0]);
        assert_eq!(run(&format!("INSERT OR FAIL {rows}"), end), ["+t:1", "+t:2"]);
        host.run("DELETE FROM t");
        host.told();
        host.run(&format!("INSERT OR IGNORE {rows}"));
        assert_eq!(host.told(), ["+t:1", "+t:2", "+t:4"]);
    }
    host.fails("UPDATE t SET v = iif(id = 4, 'bad', 'x')");
    assert_eq!(host.told(), [""; 0]);
}

/// Would catch: a failed statement among others that are being read, whose own savepoint is missed.
#[test]
fn a_statement_fails_while_another_is_read() {
    let host = Host::new(FACTS);
    host.run("INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    host.told();
    let mut select = host.conn.prepare("SELECT id FROM t").unwrap();
    let mut rows = select.query([]).unwrap();
    rows.next().unwrap();
    host.fails("UPDATE t SET v = iif(id = 2, 'bad', 'x')");
    host.run("UPDATE t SET v = 'y' WHERE id = 1");
    rows.next().unwrap();
    assert_eq!(host.told(), ["~t:1"]);
    // A write that hands out rows commits when it is done.
    let sql = "INSERT INTO t VALUES (3, 'c'), (4, 'd') RETURNING id";
    let mut insert = host.conn.prepare(sql).unwrap();
    let mut returned = insert.query([]).unwrap();
    returned.next().unwrap();
    assert_eq!(host.told(), [""; 0]);
    drop(returned);
    assert_eq!(host.told(), ["+t:3", "+t:4"]);
}

/// Would catch: a commit told though a deferred foreign key refused it, or changes forgotten because
/// it was refused, or told twice.
#[test]
fn a_commit_that_a_deferred_key_refuses_is_told_when_it_succeeds() {
    let host = Host::new(
        "CREATE TABLE p (id INTEGER PRIMARY KEY);
         CREATE TABLE c (id INTEGER PRIMARY KEY,
                         p REFERENCES p DEFERRABLE INITIALLY DEFERRED);",
    );
    host.run("PRAGMA foreign_keys = ON; BEGIN; INSERT INTO c VALUES (1, 7);");
    host.fails("COMMIT");
    assert_eq!(host.told(), [""; 0]);
    host.run("INSERT INTO p VALUES (7); COMMIT;");
    assert_eq!(host.told(), ["+c:1", "+p:7"]);
    host.fails("INSERT INTO c VALUES (2, 8)");
    assert_eq!(host.told(), [""; 0]);
    host.run("SAVEPOINT s; INSERT INTO c VALUES (2, 8);");
    host.fails("RELEASE s");
    host.run("ROLLBACK TO s; RELEASE s; INSERT INTO p VALUES (9)");
    assert_eq!(host.told(), ["+p:9"]);
}

/// Would catch: a commit that finds readers in its way and is told before it is done, or never.
#[test]
fn a_commit_that_finds_the_database_busy_is_told_when_it_succeeds() {
    let host = Host::new(FACTS);
    host.run("PRAGMA journal_mode = DELETE; PRAGMA busy_timeout = 0;");
    let reader = host.other();
    reader.execute_batch("BEGIN; SELECT * FROM t;").unwrap();
    host.run("BEGIN; INSERT INTO t VALUES (1, 'a');");
    for _ in 0..2 {
        let busy = host.conn.execute_batch("COMMIT").unwrap_err();
        assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
        assert_eq!(host.told(), [""; 0]);
    }
    let busy = host.conn.execute_batch("SAVEPOINT s; INSERT INTO t VALUES (2, 'b'); COMMIT");
    assert_eq!(busy.unwrap_err().sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    host.run("ROLLBACK TO s");
    reader.execute_batch("COMMIT").unwrap();
    host.run("COMMIT");
    assert_eq!(host.told(), ["+t:1"]);
    reader.execute_batch("BEGIN; SELECT * FROM t;").unwrap();
    // An autocommit statement that cannot commit is undone.
    let busy = host.conn.execute("INSERT INTO t VALUES (3, 'c')", []).unwrap_err();
    assert_eq!(busy.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    reader.execute_batch("COMMIT").unwrap();
    host.run("INSERT INTO t VALUES (4, 'd')");
    assert_eq!(host.told(), ["+t:4"]);
}

/// Would catch: a statement that was interrupted, which undoes its transaction.
#[test]
fn an_interrupted_statement_undoes_its_transaction() {
    let host = Host::new(FACTS);
    host.run("BEGIN; INSERT INTO t VALUES (1, 'a');");
    let handle = host.conn.get_interrupt_handle();
    let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8;
    host.conn
        .create_scalar_function("interrupt", 0, flags, move |_| {
            handle.interrupt();
            Ok(1)
        })
        .unwrap();
    host.fails("INSERT INTO t SELECT NULL, interrupt() FROM (VALUES (1), (2), (3))");
    assert!(host.conn.is_autocommit());
    host.run("INSERT INTO t VALUES (5, 'e')");
    assert_eq!(host.told(), ["+t:5"]);
}

/// Would catch: a schema that is read anew in a transaction, with a second virtual table that begins
/// where the first one was already: events lost, told twice, or kept past a rollback.
#[test]
fn a_schema_read_anew_in_a_transaction_changes_nothing() {
    let host = Host::new(FACTS);
    let anew = "SAVEPOINT s; CREATE TABLE other (x); INSERT INTO t VALUES (2, 'b'); ROLLBACK TO s;";
    host.run(&format!("BEGIN; INSERT INTO t VALUES (1, 'a'); {anew}"));
    host.run("INSERT INTO t VALUES (3, 'c'); COMMIT");
    assert_eq!(host.told(), ["+t:1", "+t:3"]);
    host.run(&format!("DELETE FROM t; BEGIN; INSERT INTO t VALUES (1, 'a'); {anew}"));
    host.told();
    host.run("INSERT INTO t VALUES (4, 'd'); ROLLBACK TO s; INSERT INTO t VALUES (5, 'e'); COMMIT");
    assert_eq!(host.told(), ["+t:1", "+t:5"]);
    host.run(&format!("DELETE FROM t; SAVEPOINT r; {anew} INSERT INTO t VALUES (6, 'f');"));
    host.told();
    host.run("ROLLBACK TO r; RELEASE r; INSERT INTO t VALUES (7, 'g')");
    assert_eq!(host.told(), ["+t:7"]);
}

/// Would catch: the hooks of the connection taken from its host, or a commit that the host's hook
/// refuses and that is told nevertheless.
#[test]
fn the_hooks_of_the_connection_stay_the_hosts() {
    let mut host = Host::new(FACTS);
    let refuse = Arc::new(AtomicBool::new(false));
    let (hook, undone) = (Arc::clone(&refuse), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&undone);
    host.conn.commit_hook(Some(move || hook.load(Ordering::SeqCst))).unwrap();
    let count = move || _ = counted.fetch_add(1, Ordering::SeqCst);
    host.conn.rollback_hook(Some(count)).unwrap();
    host.run("INSERT INTO t VALUES (1, 'a')");
    assert_eq!(host.told(), ["+t:1"]);
    refuse.store(true, Ordering::SeqCst);
    host.fails("INSERT INTO t VALUES (2, 'b')");
    host.fails("BEGIN; INSERT INTO t VALUES (3, 'c'); COMMIT;");
    refuse.store(false, Ordering::SeqCst);
    host.source.refresh(&host.conn).unwrap();
    host.run("INSERT INTO t VALUES (4, 'd')");
    assert_eq!(host.told(), ["+t:4"]);
    assert_eq!(undone.load(Ordering::SeqCst), 2);
}
