//! Names of snapshots: every form, in every verb.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::doctor::tree;
use super::{Home, text};

const CONFIG: &str = "memory: { snapshot: { agents: { ana: { memdir: mem } } } }";

/// Each verb that takes a snapshot, what follows its name, and whether the verb has the flags instead.
const VERBS: [(&[&str], &[&str], bool); 12] = [
    (&["restore"], &["--dry-run"], true),
    (&["show"], &[], true),
    (&["ls"], &[], true),
    (&["ls"], &["memory_files/notes"], true),
    (&["cat"], &["memory_files/MEMORY.md"], true),
    (&["extract"], &["memory_files/notes", "--to", "OUT"], true),
    (&["verify"], &[], true),
    (&["diff"], &["live"], false),
    (&["diff", "live"], &[], false),
    (&["export"], &["--whole", "--to", "OUT"], true),
    (&["pin"], &["--reason", "a test"], true),
    (&["unpin"], &[], true),
];

/// Would catch: a verb that knows a form of a name which another knows, or one that asks for the agent where the
/// name or the configuration tells it.
#[test]
fn every_verb_takes_every_form() {
    let home = Home::new();
    let meta = home.with_ana();
    let (id, other) = (text(&meta["id"]).to_owned(), text(&home.with_ana()["id"]).to_owned());
    home.write("empty.yaml", CONFIG);
    let bundle = home.path(&format!(".nexo/state/tenants/default/snapshots/ana/{id}.tar.zst"));
    let bundle = bundle.to_str().unwrap();
    let capitals = id.to_uppercase();
    let forms = ["latest", "latest~1", "@first", &id, &id[..13], &capitals, &capitals[..9], bundle];
    let mut outs = 0;
    let mut ran = |args: Vec<&str>, rest: &[&str]| {
        outs += 1;
        let out = format!("out{outs}");
        let rest = rest.iter().map(|arg| if *arg == "OUT" { out.as_str() } else { arg });
        let args: Vec<&str> = args.into_iter().chain(rest).collect();
        // A pinned path must be in the vault, which all of these are.
        let said = home.run(&args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
    };
    for (verb, rest, has_flags) in VERBS {
        for form in forms {
            ran([verb, &[form]].concat(), rest);
        }
        for flag in ["--from", "--id", "--bundle"].into_iter().filter(|_| has_flags) {
            ran([verb, &[flag, &id]].concat(), rest);
        }
    }
    for (args, code) in [
        (["delete", "--id", &id, "--yes"].as_slice(), 0),
        (&["delete", &other, "--yes"], 6),
        (&["cat", "--id", &other, "memory_files/MEMORY.md", "more"], 2),
        (&["cat", &other], 2),
        (&["ls"], 2),
    ] {
        let said = home.run(args);
        assert_eq!(said.code, code, "{args:?}: {said:?}");
    }
}

/// Would catch: a prefix that silently means one of several, or candidates that cannot be told apart.
#[test]
fn what_a_prefix_may_mean_is_listed() {
    let home = Home::new();
    let id = text(&home.with_ana()["id"]).to_owned();
    let snapshots = home.path(".nexo/state/tenants/default/snapshots");
    // Another agent's, whose summary cannot be read, under an id that begins alike.
    fs::create_dir(snapshots.join("bob")).unwrap();
    let theirs = format!("{}{}", &id[..8], "-0000-4000-8000-000000000000");
    for end in [".tar.zst", ".manifest.json"] {
        fs::write(snapshots.join("bob").join(format!("{theirs}{end}")), "{").unwrap();
    }
    let said = home.run(&["show", &id[..8]]);
    assert_eq!(said.code, 3);
    let hidden = said.err.replace(&id, "<id>").replace(&id[..8], "<8>");
    let hidden = hidden.lines().map(|line| line.split("  20").next().unwrap()).collect::<Vec<_>>();
    insta::assert_snapshot!("ambiguous", hidden.join("\n"));
    let (error, _) = home.json(&["show", &id[..8]]);
    let message = text(&error["error"]["message"]);
    assert!(message.contains(&id) && message.contains(&theirs), "{message}");
    assert!(message.contains("\"first\""), "{message}");
}

/// Would catch: a mistyped agent of whom all is well, for whom something is made, or that is deleted with success.
#[test]
fn of_a_mistyped_agent_nothing_is_well_and_nothing_made() {
    let home = Home::new();
    home.with_ana();
    home.write("empty.yaml", CONFIG);
    let before = paths(&home);
    for (args, code) in [
        (["snapshot"].as_slice(), 3),
        (&["restore", "latest", "--yes"], 3),
        (&["list"], 0),
        (&["show", "latest"], 3),
        (&["status"], 3),
        (&["verify"], 3),
        (&["diff", "latest", "live"], 3),
        (&["ls", "latest"], 3),
        (&["cat", "latest", "memory_files/MEMORY.md"], 3),
        (&["extract", "latest", "--to", "out"], 3),
        (&["export", "latest", "--whole", "--to", "out"], 3),
        (&["delete", "latest", "--yes"], 3),
        (&["delete", "--everything", "--yes"], 3),
        (&["prune"], 3),
        (&["pin", "latest", "--reason", "x"], 3),
        (&["unpin", "latest"], 3),
        (&["hold", "x"], 3),
        (&["release"], 3),
        (&["doctor"], 3),
        (&["doctor", "--fix"], 3),
        (&["doctor", "--recover", "forward"], 3),
    ] {
        let said = home.run(&[args, &["--agent", "anna"]].concat());
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert_eq!(paths(&home), before, "{args:?}");
    }
    let (error, _) = home.json(&["status", "--agent", "anna"]);
    assert_eq!(error["error"]["kind"], json!("unknown_agent"));
    assert!(text(&error["error"]["message"]).contains("there are: ana"), "{error}");
}

/// Every path below the home.
fn paths(home: &Home) -> Vec<PathBuf> {
    tree(home.0.path()).into_keys().collect()
}
