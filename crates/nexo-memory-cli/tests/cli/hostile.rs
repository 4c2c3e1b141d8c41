//! Snapshots whose content was made to deceive whoever handles them.

use rusqlite::Connection;
use serde_json::json;

use super::{Home, text};

/// An agent with a memdir and a store.
const AGENT: [&str; 6] = ["--agent", "ana", "--memdir", "mem", "--store", "long_term=facts.db"];

/// Would catch: a trigger or view that arrives with a snapshot and of which nobody is told, a report of
/// those that were there all along, a name that steers the terminal.
#[test]
fn triggers_and_views_that_the_live_store_has_not_are_named() {
    let home = Home::new();
    home.write("mem/a", "");
    let store = Connection::open(home.path("facts.db")).unwrap();
    store
        .execute_batch(
            "CREATE TABLE facts(x); CREATE VIEW mine AS SELECT x FROM facts; \
             CREATE TRIGGER \"evil\u{1b}[2J\" AFTER INSERT ON facts BEGIN DELETE FROM facts; END; \
             CREATE VIEW other AS SELECT 1",
        )
        .unwrap();
    let (meta, code) = home.json(&[&["snapshot"], &AGENT[..]].concat());
    assert_eq!(code, 0, "{meta}");
    let restore =
        |more: &[&str]| home.run(&[&["restore", text(&meta["id"])], &AGENT[..], more].concat());
    let same = restore(&["--yes"]);
    assert!(same.code == 0 && !same.out.contains("note:"), "{same:?}");

    let drop = "DROP TRIGGER \"evil\u{1b}[2J\"; DROP VIEW other; CREATE VIEW other AS SELECT 2";
    store.execute_batch(drop).unwrap();
    let over = restore(&["--yes"]);
    let note = "store long_term: trigger evil\\u{1b}[2J, view other are not in the live store";
    assert!(over.code == 0 && over.out.contains(note), "{over:?}");
    store.execute_batch(drop).unwrap();
    let over = restore(&["--yes", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&over.out).unwrap();
    let note = "store long_term: trigger evil\u{1b}[2J, view other are not in the live store";
    assert_eq!(report["notes"], json!([note]));

    // Before a restore, a diff tells the same; a look into a folder of its own tells all there are.
    store.execute_batch(drop).unwrap();
    let diff = home.run(&[&["diff", "live", text(&meta["id"])], &AGENT[..]].concat());
    assert!(diff.out.contains("trigger evil\\u{1b}[2J is new"), "{diff:?}");
    let look = restore(&["--to", "look"]);
    let note = "store long_term comes with trigger evil\\u{1b}[2J, view mine, view other";
    assert!(look.code == 0 && look.out.contains(note), "{look:?}");
}
