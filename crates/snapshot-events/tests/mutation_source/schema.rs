//! Schemas that change under a source.

use snapshot_events::MutationSourceError;

use crate::oracle::Table;
use crate::support::Host;

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b);";

/// Would catch: a table or column made since that `refresh` leaves out, or events lost in it.
#[test]
fn what_was_made_since_is_told_of_after_a_refresh() {
    let mut host = Host::new(T);
    host.run("INSERT INTO t VALUES (1, 1, 1)");
    host.run("CREATE TABLE u (x); INSERT INTO u VALUES (1); DELETE FROM u;");
    host.run("ALTER TABLE t ADD COLUMN c; ALTER TABLE t RENAME COLUMN b TO bb;");
    host.run("INSERT INTO t VALUES (2, 1, 1, 1); DELETE FROM t WHERE id = 2;");
    assert_eq!(host.told(), ["+t:1", "+t:2", "-t:2"]);
    host.run("DELETE FROM t");
    host.told();
    host.source.refresh(&host.conn).unwrap();
    let tables = [
        Table { name: "t", key: &["id"], nullable: true, columns: &["id", "a", "bb", "c"] },
        Table { name: "u", key: &["rowid"], nullable: false, columns: &["x"] },
    ];
    host.run("INSERT INTO t VALUES (3, 1, 1, 1); INSERT INTO u VALUES (1);");
    host.agrees(&tables);
    host.run("DROP TABLE u; CREATE TABLE u (x, y);");
    host.source.refresh(&host.conn).unwrap();
    host.run("ALTER TABLE t RENAME TO renamed; INSERT INTO renamed VALUES (4, 1, 1, 1);");
    // Until it is refreshed, under the name that was known.
    assert_eq!(host.told(), ["+t:4"]);
    host.source.refresh(&host.conn).unwrap();
    host.run("INSERT INTO renamed VALUES (5, 1, 1, 1); VACUUM; INSERT INTO u VALUES (1, 2);");
    assert_eq!(host.told(), ["+renamed:5", "+u:1"]);
}

/// Would catch: another behaviour than documented where a column goes, or no way back from it.
#[test]
fn dropping_a_column_needs_detaching_first() {
    let host = Host::new(T);
    let said = host.fails("ALTER TABLE t DROP COLUMN b");
    assert!(said.contains("nexo_mutation_0_"), "{said}");
    host.run("INSERT INTO t VALUES (1, 1, 1)");
    assert_eq!(host.told(), ["+t:1"]);
    // Somebody else drops it.
    host.other().execute_batch("ALTER TABLE t DROP COLUMN b").unwrap();
    let said = host.fails("INSERT INTO t (id, a) VALUES (2, 1)");
    assert!(said.contains("no such column"), "{said}");
    host.source.refresh(&host.conn).unwrap();
    host.run("INSERT INTO t VALUES (3, 1)");
    assert_eq!(host.told(), ["+t:3"]);
    host.source.detach(&host.conn).unwrap();
    host.run("ALTER TABLE t DROP COLUMN a; INSERT INTO t VALUES (4)");
    assert_eq!(host.told(), [""; 0]);
}

/// Would catch: a refresh that fails and leaves half of its triggers, or none.
#[test]
fn a_refresh_that_fails_changes_nothing() {
    let host = Host::with(&format!("{T} CREATE TABLE u (x);"), |options| {
        options.tables = snapshot_events::MutationTables::Only(vec!["t".into(), "u".into()]);
    });
    host.run("DROP TABLE u");
    let missing = host.source.refresh(&host.conn).unwrap_err();
    assert!(matches!(missing, MutationSourceError::NoSuchTable { table } if table == "u"));
    host.run("INSERT INTO t VALUES (1, 1, 1)");
    assert_eq!(host.told(), ["+t:1"]);
}

/// Would catch: triggers that are gone for good with the TEMP schema.
#[test]
fn a_refresh_brings_back_what_a_new_temp_store_dropped() {
    let host = Host::new(T);
    host.run("PRAGMA temp_store = MEMORY; INSERT INTO t VALUES (1, 1, 1)");
    assert_eq!(host.told(), [""; 0]);
    host.source.refresh(&host.conn).unwrap();
    host.run("INSERT INTO t VALUES (2, 1, 1)");
    assert_eq!(host.told(), ["+t:2"]);
}

/// Would catch: a name in a crafted schema that runs as SQL, or hides our table from our triggers.
#[test]
fn crafted_names_do_nothing() {
    let host = Host::new(
        "CREATE TABLE \"a\"\"; DROP TABLE victim; --\" (\"x\"\"; --\" INTEGER PRIMARY KEY, \"NEW\");
         CREATE TABLE victim (x); CREATE TABLE nexo_mutation_sink (unused);
         CREATE TABLE \"\" (x); CREATE TABLE pragma_table_list (name, type);",
    );
    host.run("INSERT INTO \"a\"\"; DROP TABLE victim; --\" VALUES (1, 2)");
    host.run("INSERT INTO victim VALUES (1); INSERT INTO \"\" VALUES (1)");
    host.run("INSERT INTO main.nexo_mutation_sink VALUES (1)");
    assert_eq!(
        host.told(),
        ["+a\"; DROP TABLE victim; --:1", "+victim:1", "+:1", "+nexo_mutation_sink:1"]
    );
    let count: i64 = host
        .conn
        .query_row("SELECT count(*) FROM main.nexo_mutation_sink", [], |r| r.get(0))
        .unwrap();
    assert_eq!(count, 1);
}
