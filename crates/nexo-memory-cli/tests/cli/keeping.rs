//! What stays and what goes: retention, pins, holds, erasure, and the status that tells of it.

use std::fs;

use serde_json::json;

use super::{Home, text};

/// Would catch: an erasure that leaves something readable, that takes the memory or another agent with
/// it, or that a hold does not stop.
#[test]
fn everything_of_an_agent_can_be_erased() {
    let home = Home::new();
    home.with_ana();
    let id = text(&home.with_ana()["id"]).to_owned();
    assert_eq!(home.run(&["snapshot", "--agent", "bob", "--memdir", "mem"]).code, 0);
    assert_eq!(home.run(&["pin", &id, "--agent", "ana", "--reason", "r"]).code, 0);
    let erase = ["delete", "--agent", "ana", "--everything"];
    assert_eq!(home.run(&erase).code, 6, "nobody can be asked");
    assert_eq!(home.run(&["delete", "--everything"]).code, 2);
    let yes = [erase.as_slice(), &["--yes"]].concat();
    assert_eq!(home.run(&["hold", "--agent", "ana", "incident 42"]).code, 0);
    let held = home.run(&yes);
    assert_eq!(held.code, 6, "{held:?}");
    assert!(held.err.contains("incident 42"), "{held:?}");
    assert_eq!(home.run(&["release", "--agent", "ana"]).code, 0);
    let vault = home.path(".nexo/state/tenants/default");
    fs::write(vault.join("snapshots/ana/stray.txt"), "the user likes tea").unwrap();

    let (erased, code) = home.json(&yes);
    assert_eq!((code, erased["erased"].as_array().unwrap().len()), (0, 2), "{erased}");
    let mut left = Vec::new();
    let mut folders = vec![home.path(".nexo")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { left.push(path) }
        }
    }
    left.retain(|path| path.extension().is_none_or(|e| e != "lock"));
    assert!(left.iter().all(|path| path.display().to_string().contains("/bob")), "{left:?}");
    assert_eq!(home.json(&["list"]).0["snapshots"].as_array().unwrap().len(), 1);
    assert!(home.path("mem/MEMORY.md").exists());
    assert_eq!(home.json(&yes).1, 3, "there is nobody any more");
}

/// Would catch: a dry run that shows another plan than the run, a run that deletes what is pinned or
/// held, or a status that a monitor cannot use.
#[test]
fn what_prune_shows_is_what_it_does() {
    let home = Home::new();
    let config = "memory: { snapshot: { retention: { keep_count: 1 } } }";
    let config = home.write("keep.yaml", config);
    let run = |args: &[&str]| home.run(&[args, &["--config", &config]].concat());
    let first = text(&home.with_ana()["id"]).to_owned();
    home.with_ana();
    home.with_ana();
    let reason = "until the audit is over";
    assert_eq!(run(&["pin", &first, "--reason", reason]).code, 0);
    assert_eq!(run(&["delete", &first, "--yes"]).code, 6);
    assert_eq!(run(&["hold", "--all", "incident 42"]).code, 0);
    let held = run(&["prune"]);
    assert!(held.out.contains("0 to delete") && held.out.contains("incident 42"), "{held:?}");
    assert_eq!(run(&["release", "--all"]).code, 0);

    let (dry, wet) = (run(&["prune", "--dry-run"]), run(&["prune"]));
    assert_eq!((&dry.out, dry.code), (&wet.out, wet.code));
    assert!(dry.out.contains("DROP") && dry.out.contains(reason), "{dry:?}");
    let (listing, _) = home.json(&["list"]);
    assert_eq!(listing["snapshots"].as_array().unwrap().len(), 2);
    assert!(run(&["prune"]).out.contains("0 to delete"));

    let (status, code) = home.json(&["status", "--max-age", "1h"]);
    assert_eq!((code, &status["agents"][0]["status"]["pinned"]), (0, &json!(1)), "{status}");
    let late = home.run(&["status", "--max-age", "0m"]);
    assert_eq!(late.code, 11, "{late:?}");
    assert!(late.out.contains("too old"), "{late:?}");
    assert_eq!(run(&["status", "--max-age", "soon"]).code, 2);
    let aside = home.path(".nexo/state/outbox/default.ana");
    fs::create_dir_all(&aside).unwrap();
    fs::write(aside.join("0000000000000001.bad"), "x").unwrap();
    let refused = run(&["status"]);
    assert_eq!(refused.code, 11, "{refused:?}");
    assert!(refused.out.contains("1 event refused for good"), "{refused:?}");
    fs::remove_dir_all(home.path(".nexo/state/outbox")).unwrap();
    let known =
        home.write("known.yaml", "memory: { snapshot: { agents: { bob: { memdir: m } } } }");
    let never = home.run(&["status", "--config", &known]);
    assert_eq!(never.code, 11, "a configured agent of whom there is nothing: {never:?}");
    assert!(never.out.contains("bob: no good snapshot"), "{never:?}");
    assert_eq!(run(&["hold", "why"]).code, 2, "whose?");
}

/// Would catch: one agent whose notes nobody can read that hides the others, or that nobody is told of.
#[test]
fn what_cannot_be_read_of_one_agent_is_told_and_hides_nobody() {
    let home = Home::new();
    home.with_ana();
    assert_eq!(home.run(&["snapshot", "--agent", "bob", "--memdir", "mem"]).code, 0);
    let notes = home.path(".nexo/state/tenants/default/notes");
    fs::create_dir_all(&notes).unwrap();
    fs::write(notes.join("ana.json"), "{").unwrap();
    let pruned = home.run(&["prune"]);
    assert_ne!(pruned.code, 0, "{pruned:?}");
    assert!(pruned.out.contains("bob: 1 snapshot"), "{pruned:?}");
    assert!(pruned.err.contains("ana.json"), "{pruned:?}");
    for verb in ["status", "doctor"] {
        let said = home.run(&[verb]);
        assert_eq!(said.code, 11, "{said:?}");
        assert!(said.out.contains("ana.json"), "{said:?}");
    }
    assert_eq!(home.run(&["verify", "--due"]).code, 0);
    assert_eq!(home.json(&["list"]).0["snapshots"].as_array().unwrap().len(), 2);
}

/// Would catch: a round that reads all each time, or never.
#[test]
fn a_daily_round_reads_what_nobody_has_read_for_long() {
    let home = Home::new();
    let meta = home.with_ana();
    let due = home.run(&["verify", "--due"]);
    assert_eq!(due.code, 0, "{due:?}");
    assert!(due.out.contains("no snapshot is due"), "{due:?}");
    assert_eq!(home.run(&["verify", "--due", text(&meta["id"])]).code, 2);
    assert_eq!(home.run(&["verify", "--due", "--agent", "ana"]).code, 0);
}
