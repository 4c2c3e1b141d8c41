//! Keys and digests of all kinds of tables and values.

use rusqlite::types::Value;
use snapshot_core::ErrorKind;
use snapshot_events::{
    MAX_KEY_BYTES, MutationOp, MutationScope, MutationSource, MutationSourceError, MutationTables,
};

use crate::oracle::{Table, digest};
use crate::support::{Host, options};

/// Would catch: a change of the encoding, which subscribers compute too. The digests are from the
/// documented bytes by another program.
#[test]
fn digests_are_golden() {
    let host = Host::new("CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL, s TEXT, b BLOB, n)");
    host.run("INSERT INTO t VALUES (1, 2, 'é', x'00ff', NULL)");
    host.run("UPDATE t SET s = '', b = x'', n = -1");
    host.run("DELETE FROM t");
    let first = "7f9c5bc729352a62d26babc16b2695fe5c9977639beb172500cb8d09e9b4a261";
    let second = "db3b952641853fe1193835773d27e901e156afb221beaa03f41b669be2730eb9";
    let events: Vec<_> =
        host.events().into_iter().map(|e| (e.op, e.key, e.old_hash, e.new_hash)).collect();
    let (first, second) = (Some(first.to_owned()), Some(second.to_owned()));
    let key = "t:1".to_owned();
    assert_eq!(
        events,
        [
            (MutationOp::Insert, key.clone(), None, first.clone()),
            (MutationOp::Update, key.clone(), first, second.clone()),
            (MutationOp::Delete, key, second, None),
        ]
    );
}

/// Would catch: agent, tenant, scope or time that are not those of the options.
#[test]
fn events_say_whose_they_are() {
    let host = Host::with("CREATE TABLE t (x)", |options| {
        options.tenant = "acme".parse().unwrap();
        options.scope = MutationScope::SqliteConcepts;
    });
    host.run("INSERT INTO t VALUES (1)");
    let event = host.events().remove(0);
    assert_eq!((event.agent_id.as_str(), event.tenant.as_str()), ("ana", "acme"));
    assert_eq!((event.scope, event.ts_ms), (MutationScope::SqliteConcepts, 12));
}

/// Would catch: a kind of table whose rows have no key, one key for two of them, or another row's.
#[test]
fn every_kind_of_table_has_keys() {
    let host = Host::new(
        "CREATE TABLE plain (x);
         CREATE TABLE hidden (rowid, _rowid_);
         CREATE TABLE text_key (k TEXT PRIMARY KEY, v);
         CREATE TABLE pair (a, b, PRIMARY KEY (b, a));
         CREATE TABLE without (a INT, b TEXT, c BLOB, PRIMARY KEY (c, b)) WITHOUT ROWID;
         CREATE TABLE descending (id INTEGER PRIMARY KEY DESC, v);
         CREATE TABLE strict (id INTEGER PRIMARY KEY, a ANY) STRICT;
         CREATE TABLE \"it's \"\"a\"\" ta:ble\" (\"select\" INTEGER PRIMARY KEY, \"a\"\"b\");",
    );
    for (sql, told) in [
        ("INSERT INTO plain (rowid, x) VALUES (-3, 1), (4, 1)", vec!["+plain:-3", "+plain:4"]),
        ("UPDATE plain SET rowid = 5 WHERE rowid = 4", vec!["-plain:4", "+plain:5"]),
        ("INSERT INTO hidden (oid, rowid) VALUES (9, 1)", vec!["+hidden:9"]),
        ("INSERT INTO text_key VALUES ('a', 1), ('1', 1)", vec!["+text_key:a", "+text_key:%31"]),
        (
            "INSERT INTO text_key (rowid) VALUES (7), (8)",
            vec!["+text_key:NULL,@7", "+text_key:NULL,@8"],
        ),
        ("INSERT INTO pair VALUES (1, 'x'), (1.5, NULL)", vec!["+pair:x,1", "+pair:NULL,1.5,@2"]),
        ("INSERT INTO without VALUES (1, 'a,b', x'0a')", vec!["+without:x'0a',a%2cb"]),
        ("UPDATE without SET b = 'c', a = 2", vec!["-without:x'0a',a%2cb", "+without:x'0a',c"]),
        ("INSERT INTO descending (rowid) VALUES (3)", vec!["+descending:NULL,@3"]),
        ("INSERT INTO strict VALUES (1, '1')", vec!["+strict:1"]),
        ("INSERT INTO \"it's \"\"a\"\" ta:ble\" VALUES (1, 2)", vec!["+it%27s \"a\" ta%3able:1"]),
    ] {
        host.run(sql);
        assert_eq!(host.told(), told, "{sql}");
    }
}

/// Would catch: values told as they were given, not as they are stored; text of another encoding.
#[test]
fn digests_are_of_what_is_stored() {
    for encoding in ["UTF-8", "UTF-16le"] {
        let mut host = Host::new("");
        host.source.detach(&host.conn).unwrap();
        let dir = tempfile::tempdir().unwrap();
        host.conn = rusqlite::Connection::open(dir.path().join("memory.sqlite")).unwrap();
        host.dir = dir;
        host.run(&format!("PRAGMA encoding = '{encoding}'"));
        host.run(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, i INT, r REAL, s TEXT, b BLOB, n NUMERIC, x)",
        );
        host.source = MutationSource::attach(&host.conn, options(&host.recording)).unwrap();
        let columns = &["id", "i", "r", "s", "b", "n", "x"];
        let tables = [Table { name: "t", key: &["id"], nullable: true, columns }];
        let values =
            ["1", "-0.0", "'2'", "'2.50'", "'né'", "x'61'", "NULL", "1e400", "zeroblob(9)"];
        for value in values {
            host.run(&format!(
                "INSERT INTO t (i, r, s, b, n, x) \
                               VALUES ({value}, {value}, {value}, {value}, {value}, {value})"
            ));
            host.agrees(&tables);
        }
        host.run("UPDATE t SET r = i, i = r, s = n, x = s || 'é'");
        host.agrees(&tables);
    }
}

/// Would catch: a column left out of the digest or counted twice where a row does not fit into one
/// call, and one whose value cannot be computed.
#[test]
fn wide_rows_and_generated_columns() {
    for columns in [97, 98, 99, 100, 101, 199, 450] {
        let names: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
        let host = Host::new(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, {}, g AS (c0 + 1), s AS (c0 + 2) STORED)",
            names.join(",")
        ));
        let values: Vec<String> = (0..columns).map(|i| i.to_string()).collect();
        host.run(&format!("INSERT INTO t VALUES (1, {})", values.join(",")));
        host.run(&format!("UPDATE t SET c{} = 'x'", columns - 1));
        let mut row: Vec<Value> = [1].into_iter().chain(0..columns).map(Value::Integer).collect();
        let (insert, update) = (digest(&row), host.events());
        *row.last_mut().unwrap() = Value::Text("x".to_owned());
        assert_eq!(update[0].new_hash.as_ref(), Some(&insert));
        assert_eq!(update[1].old_hash.as_ref(), Some(&insert));
        assert_eq!(update[1].new_hash, Some(digest(&row)));
        assert_eq!(update.len(), 2);
    }
}

/// Would catch: a key as long as what a row holds, or two long keys that are one.
#[test]
fn keys_are_bounded() {
    let host = Host::new("CREATE TABLE t (k PRIMARY KEY) WITHOUT ROWID");
    let longest = MAX_KEY_BYTES - "t:".len();
    for length in [longest, longest + 1, 1 << 20] {
        host.conn.execute("INSERT INTO t VALUES (?1)", ["k".repeat(length)]).unwrap();
        host.conn.execute("INSERT INTO t VALUES (zeroblob(?1))", [length as i64]).unwrap();
    }
    let keys = host.told();
    assert!(keys[0].len() == 1 + MAX_KEY_BYTES && !keys[0].contains('#'));
    assert!(keys[1..].iter().all(|key| key.len() == 1 + MAX_KEY_BYTES + 65));
    assert!(keys.iter().enumerate().all(|(at, key)| !keys[..at].contains(key)));
}

/// Would catch: a table told of that was not asked for, one that is silently missing, or a shadow
/// table, system table, view or TEMP table told of.
#[test]
fn tables_are_those_asked_for() {
    let schema = "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE b (x);
         CREATE VIEW view AS SELECT * FROM a; CREATE TEMP TABLE c (x);
         CREATE VIRTUAL TABLE words USING fts5 (text);";
    let writes = "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); INSERT INTO c VALUES (1);
         INSERT INTO words VALUES ('hello');";
    let host = Host::new(schema);
    host.run(writes);
    assert_eq!(host.told(), ["+a:1", "+b:1"]);
    host.run("INSERT INTO words VALUES ('again'); DELETE FROM words; ANALYZE;");
    assert_eq!(host.told(), [""; 0]);
    host.source.detach(&host.conn).unwrap();
    let attach = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let options = options(&host.recording);
        let tables = MutationTables::Only(names);
        MutationSource::attach(
            &host.conn,
            snapshot_events::MutationSourceOptions { tables, ..options },
        )
    };
    let source = attach(&["A"]).unwrap();
    host.run("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)");
    assert_eq!(host.told(), ["+a:2"]);
    source.detach(&host.conn).unwrap();
    for missing in ["none", "view", "c", "words", "words_data", "sqlite_sequence", "", "a\"; --"] {
        let error = attach(&["a", missing]).unwrap_err();
        assert!(matches!(&error, MutationSourceError::NoSuchTable { table } if table == missing));
        assert_eq!(error.kind(), ErrorKind::Refused);
    }
    host.run("CREATE TABLE z (rowid, oid, _rowid_)");
    assert!(
        matches!(attach(&["z"]).unwrap_err(), MutationSourceError::NoRowid { table } if table == "z")
    );
    attach(&["a"]).unwrap();
}
