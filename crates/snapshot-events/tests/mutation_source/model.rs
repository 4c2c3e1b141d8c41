//! Any sequence of statements: whoever hears of all changes knows the database after each commit.

use proptest::prelude::*;

use crate::oracle::Table;
use crate::support::Host;

const SCHEMA: &str = "
    PRAGMA recursive_triggers = ON;
    PRAGMA foreign_keys = ON;
    CREATE TABLE a (id INTEGER PRIMARY KEY, u UNIQUE, v REAL CHECK (v <> 3),
                    g AS (u || v), d REFERENCES a (u) ON DELETE CASCADE ON UPDATE SET NULL
                    DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE b (k TEXT, n NUMERIC, v NOT NULL ON CONFLICT IGNORE, PRIMARY KEY (n, k)) WITHOUT ROWID;
    CREATE TABLE c (x, y UNIQUE ON CONFLICT REPLACE);
    CREATE TABLE e (k PRIMARY KEY, v TEXT);
    CREATE TRIGGER a_b AFTER INSERT ON a BEGIN
        INSERT OR REPLACE INTO b VALUES (NEW.u, NEW.id, NEW.v);
        UPDATE a SET v = v + 0.5 WHERE id = NEW.id AND v = 1;
    END;
    CREATE TRIGGER c_e BEFORE DELETE ON c BEGIN
        DELETE FROM e WHERE k = OLD.x;
        SELECT RAISE(IGNORE) WHERE OLD.x = 2;
        SELECT RAISE(FAIL, 'held') WHERE OLD.x = 'b';
    END;";

const TABLES: [Table; 4] = [
    Table { name: "a", key: &["id"], nullable: true, columns: &["id", "u", "v", "d"] },
    Table { name: "b", key: &["n", "k"], nullable: false, columns: &["k", "n", "v"] },
    Table { name: "c", key: &["rowid"], nullable: false, columns: &["x", "y"] },
    Table { name: "e", key: &["k"], nullable: true, columns: &["k", "v"] },
];

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "NULL", "1", "2", "3", "4", "-0.0", "1.5", "2.0", "'1'", "'a,%'", "'b'", "''", "x'01'",
    ])
}

fn conflict() -> impl Strategy<Value = &'static str> {
    let all = ["", "", "", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT", "OR ROLLBACK"];
    prop::sample::select(all.to_vec())
}

fn rows(width: usize) -> impl Strategy<Value = String> {
    let row = prop::collection::vec(value(), width).prop_map(|row| format!("({})", row.join(",")));
    prop::collection::vec(row, 1..5).prop_map(|rows| rows.join(","))
}

/// A table, its columns, and one of them.
fn table() -> impl Strategy<Value = (&'static str, &'static str, usize, &'static str)> {
    let tables = [("a", "id,u,v,d", 4), ("b", "k,n,v", 3), ("c", "x,y", 2), ("e", "k,v", 2)];
    prop::sample::select(tables.to_vec()).prop_flat_map(|(name, columns, width)| {
        let column = prop::sample::select(columns.split(',').collect::<Vec<_>>());
        column.prop_map(move |column| (name, columns, width, column))
    })
}

fn write() -> impl Strategy<Value = String> {
    let insert = (table(), conflict()).prop_flat_map(|((name, columns, width, _), or)| {
        rows(width)
            .prop_map(move |rows| format!("INSERT {or} INTO {name} ({columns}) VALUES {rows}"))
    });
    let update = (table(), table(), conflict(), value(), value(), any::<bool>()).prop_map(
        |((name, .., set), _, or, to, at, all)| {
            let only = if all { String::new() } else { format!("WHERE {set} IS {at}") };
            format!("UPDATE {or} {name} SET {set} = {to} {only}")
        },
    );
    let shift = (table(), conflict())
        .prop_map(|((name, .., set), or)| format!("UPDATE {or} {name} SET {set} = {set} + 1"));
    let upsert = (rows(4), value()).prop_map(|(rows, to)| {
        format!(
            "INSERT INTO a (id, u, v, d) VALUES {rows}
             ON CONFLICT (id) DO UPDATE SET v = {to} ON CONFLICT (u) DO UPDATE SET u = {to}"
        )
    });
    let delete = (table(), value(), any::<bool>()).prop_map(|((name, .., by), at, all)| {
        let only = if all { String::new() } else { format!("WHERE {by} IS {at}") };
        format!("DELETE FROM {name} {only}")
    });
    prop_oneof![5 => insert, 3 => update, 1 => shift, 2 => upsert, 2 => delete]
}

fn control() -> impl Strategy<Value = String> {
    let all = [
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "COMMIT",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT p",
        "SAVEPOINT q",
        "SAVEPOINT p",
        "RELEASE p",
        "RELEASE q",
        "ROLLBACK TO p",
        "ROLLBACK TO q",
        "CREATE TABLE IF NOT EXISTS made (x)",
        "DROP TABLE IF EXISTS made",
    ];
    prop::sample::select(all.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Would catch: any change told that was undone, told twice, left out, told with a wrong key or
    /// digest, or in an order that ends elsewhere.
    #[test]
    fn what_is_told_is_what_was_committed(
        statements in prop::collection::vec(prop_oneof![3 => write(), 2 => control()], 1..60),
    ) {
        let mut host = Host::new(SCHEMA);
        for sql in statements {
            // Many fail, as they should.
            let _ = host.conn.execute_batch(&sql);
            if host.conn.is_autocommit() {
                host.agrees(&TABLES);
            } else {
                prop_assert!(host.recording.mutation.lock().is_empty(), "told too early: {}", sql);
            }
        }
        if !host.conn.is_autocommit() && host.conn.execute_batch("COMMIT").is_err() {
            host.run("ROLLBACK");
        }
        host.agrees(&TABLES);
    }
}
