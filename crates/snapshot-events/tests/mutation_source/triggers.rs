//! Changes that a statement makes on the way: conflicts, foreign keys, the host's own triggers.

use snapshot_events::{MutationSource, MutationSourceError};

use crate::oracle::Table;
use crate::support::{Host, options};

/// Would catch: rows that REPLACE removes unseen, or an upsert told as an insert.
#[test]
fn conflicts_are_told_as_they_are_resolved() {
    let mut host = Host::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, v);
         CREATE TABLE w (k TEXT PRIMARY KEY, u UNIQUE ON CONFLICT REPLACE) WITHOUT ROWID;",
    );
    let tables = [
        Table { name: "t", key: &["id"], nullable: true, columns: &["id", "u", "v"] },
        Table { name: "w", key: &["k"], nullable: false, columns: &["k", "u"] },
    ];
    host.run("INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2)");
    host.agrees(&tables);
    for (sql, told) in [
        ("INSERT OR REPLACE INTO t VALUES (1, 'y', 3)", vec!["~t:1", "-t:2"]),
        ("INSERT OR REPLACE INTO t VALUES (1, 'y', 3)", vec![]),
        ("INSERT INTO t VALUES (1, 'z', 4) ON CONFLICT (id) DO UPDATE SET v = 4", vec!["~t:1"]),
        ("INSERT INTO t VALUES (1, 'z', 4) ON CONFLICT DO NOTHING", vec![]),
        ("INSERT OR IGNORE INTO t VALUES (1, 'z', 4), (3, 'z', 4)", vec!["+t:3"]),
        ("UPDATE OR REPLACE t SET u = 'z' WHERE id = 1", vec!["-t:3", "~t:1"]),
        ("UPDATE OR IGNORE t SET id = 1", vec![]),
        ("UPDATE t SET v = v", vec![]),
        ("UPDATE t SET id = 8, v = 5", vec!["-t:1", "+t:8"]),
        ("INSERT INTO w VALUES ('a', 1), ('b', 1), ('b2', 2)", vec!["+w:b", "+w:b2"]),
        ("REPLACE INTO w VALUES ('b', 2)", vec!["~w:b", "-w:b2"]),
        ("DELETE FROM t", vec!["-t:8"]),
    ] {
        host.run(sql);
        let mut heard = host.told();
        heard.sort_unstable_by_key(|told| told[1..].to_owned());
        let mut told: Vec<String> = told.into_iter().map(str::to_owned).collect();
        told.sort_unstable_by_key(|told| told[1..].to_owned());
        assert_eq!(heard, told, "{sql}");
    }
}

/// Would catch: rows that a foreign key removed or changed unseen, and order that no reader could
/// follow.
#[test]
fn what_foreign_keys_do_is_told() {
    let mut host = Host::new(
        "CREATE TABLE p (id INTEGER PRIMARY KEY);
         CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE n (id INTEGER PRIMARY KEY, c REFERENCES c ON DELETE SET NULL);",
    );
    let tables = [
        Table { name: "p", key: &["id"], nullable: true, columns: &["id"] },
        Table { name: "c", key: &["id"], nullable: true, columns: &["id", "p"] },
        Table { name: "n", key: &["id"], nullable: true, columns: &["id", "c"] },
    ];
    host.run("PRAGMA foreign_keys = ON; INSERT INTO p VALUES (1), (2);");
    host.run("INSERT INTO c VALUES (1, 1), (2, 1), (3, 2); INSERT INTO n VALUES (1, 1), (2, 3);");
    host.agrees(&tables);
    host.run("UPDATE p SET id = 5 WHERE id = 1");
    host.agrees(&tables);
    host.run("DELETE FROM p WHERE id = 5");
    host.agrees(&tables);
    host.run("INSERT OR REPLACE INTO p VALUES (2)");
    host.agrees(&tables);
}

/// Would catch: changes by the host's triggers unseen, or told in an order that ends elsewhere.
#[test]
fn what_the_hosts_triggers_do_is_told() {
    let mut host = Host::new(
        "PRAGMA recursive_triggers = ON;
         CREATE TABLE t (id INTEGER PRIMARY KEY, v, seen DEFAULT 0);
         CREATE TABLE log (what);
         CREATE TRIGGER a AFTER INSERT ON t BEGIN
             UPDATE t SET seen = 1 WHERE id = NEW.id;
             INSERT INTO log VALUES ('insert ' || NEW.id);
         END;
         CREATE TRIGGER b BEFORE DELETE ON t BEGIN
             SELECT RAISE(IGNORE) WHERE OLD.v = 'kept';
             SELECT RAISE(ABORT, 'no') WHERE OLD.v = 'held';
             INSERT INTO log VALUES ('delete ' || OLD.id);
         END;",
    );
    let tables = [
        Table { name: "t", key: &["id"], nullable: true, columns: &["id", "v", "seen"] },
        Table { name: "log", key: &["rowid"], nullable: false, columns: &["what"] },
    ];
    host.run("INSERT INTO t VALUES (1, 'a', 0), (2, 'kept', 0), (3, 'held', 0)");
    host.agrees(&tables);
    host.run("INSERT OR REPLACE INTO t VALUES (1, 'b', 0)");
    host.agrees(&tables);
    host.fails("DELETE FROM t");
    host.agrees(&tables);
    host.run("DELETE FROM t WHERE id < 3");
    host.agrees(&tables);
}

/// Would catch: a setting changed under triggers that rely on it, so that writes of the host fail; or
/// one that is not taken back, or taken back from a host that wanted it.
#[test]
fn a_host_with_triggers_decides_on_recursion_itself() {
    let touches = "CREATE TABLE t (id INTEGER PRIMARY KEY, v, touched DEFAULT 0);
         CREATE TRIGGER touch AFTER UPDATE ON t BEGIN
             UPDATE t SET touched = touched + 1 WHERE id = NEW.id;
         END;";
    let host = Host::new("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let recursive = || {
        host.conn.pragma_query_value(None, "recursive_triggers", |r| r.get::<_, bool>(0)).unwrap()
    };
    assert!(recursive());
    host.source.detach(&host.conn).unwrap();
    assert!(!recursive());
    host.run("DROP TABLE t");
    host.run(touches);
    let attach = || MutationSource::attach(&host.conn, options(&host.recording));
    let refused = attach().unwrap_err();
    assert!(matches!(refused, MutationSourceError::HostTrigger { trigger } if trigger == "touch"));
    assert!(!recursive());
    host.run("INSERT INTO t VALUES (1, 'a', 0); UPDATE t SET v = 'b'");
    assert_eq!(host.told(), [""; 0]);
    host.run("PRAGMA recursive_triggers = ON");
    attach().unwrap().detach(&host.conn).unwrap();
    assert!(recursive());
    host.run(
        "DROP TRIGGER touch; PRAGMA recursive_triggers = OFF; CREATE TEMP TABLE x (y);
              CREATE TEMP TRIGGER mine AFTER INSERT ON x BEGIN SELECT 1; END",
    );
    assert!(matches!(attach().unwrap_err(), MutationSourceError::HostTrigger { .. }));
}
