//! What people see at 40, 80 and 200 columns, and that what programs read is never cut.

use std::fs;

use super::{Home, text};

const CONFIG: &str = "memory: { snapshot: { retention: { keep_count: 1 }, agents: {
    ana: { memdir: mem }, a-rather-long-name-of-an-agent: { memdir: mem2 } } } }";
/// What differs from run to run, in words; a time may be cut.
const MASKS: [(&str, &str); 6] = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[uuid]"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(…| UTC)?( \([^)\n…]*(\)|…))?(…)?", "[time]"),
    (r"\b[0-9a-f]{8}\b", "[id]"),
    (r"\d+(\.\d+)? (B|KiB|MiB|GiB)\b", "[size]"),
    (r"\d{6,}", "[n]"),
    // How wide a column is, its cells decide; that they line up, `table.rs` tests.
    (r"(\S) {2,}", "$1  "),
];

/// A home with two agents, labels of all widths, and a problem.
fn home() -> (Home, String) {
    let home = Home::new();
    let id = text(&home.with_ana()["id"]).to_owned();
    home.write("empty.yaml", CONFIG);
    home.write("mem2/notes/夢の記録.md", "夢\n");
    home.write("mem/notes/a.md", "b\n");
    for (agent, label) in [
        ("ana", "夢の前のスナップショット 🐱 before the long dream"),
        (
            "a-rather-long-name-of-an-agent",
            "a label that a person with much to say has given to it one evening",
        ),
        ("ana", "third"),
    ] {
        let said = home.run(&["snapshot", "--agent", agent, "--label", label]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let vault = home.path(".nexo/state/tenants/default/snapshots/ana");
    fs::write(vault.join("stray"), "").unwrap();
    (home, id)
}

/// Would catch: a table that wraps, an id that cannot be typed back, a label that pushes a column aside.
#[test]
fn what_people_see_fits() {
    let (home, id) = home();
    let mut shown = String::new();
    let mut show = |args: &[&str], width: usize| {
        let output = home.command(args).env("COLUMNS", width.to_string()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        shown += &format!("$ {}, {width} columns\n{text}\n", args[0]);
        text
    };
    for (verb, width) in ["list", "status"].into_iter().flat_map(|v| [(v, 40), (v, 80), (v, 200)]) {
        let text = show(&[verb], width);
        let mut table = text.lines().take_while(|line| !line.contains(": "));
        // The longest agent and an id are whole at any width.
        assert!(table.all(|line| places(line) <= width.max(43)), "{width}: {text}");
    }
    for args in [
        ["ls", &id].as_slice(),
        &["show", &id],
        &["verify", "--all"],
        &["prune", "--dry-run"],
        &["diff", &id, "live", "--agent", "ana"],
        &["doctor"],
    ] {
        show(args, 80);
    }
    let home = home.0.path().to_str().unwrap().to_owned();
    insta::with_settings!({ filters => MASKS.to_vec() }, {
        insta::assert_snapshot!("widths", shown.replace(&home, "~").replace(&id, "<first>"));
    });
}

/// Would catch: a script whose input is cut.
#[test]
fn what_is_piped_is_whole() {
    let (home, _) = home();
    let mut command = home.command(&["list"]);
    let output = command.env_remove("COLUMNS").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    for label in ["before the long dream", "has given to it one evening"] {
        assert!(list.contains(label), "{list}");
    }
}

/// Places that a text takes: twice as many for what lies in the wide blocks that the labels above use.
fn places(text: &str) -> usize {
    let wide =
        |c: char| matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xffef | 0x1f300..=0x1faff);
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}
