//! What is not there, or cannot be read, never looks well; what leaves the vault never goes into it.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::{Home, database, text};

const ANA: &str = "memory: { snapshot: { agents: { ana: { memdir: mem } } } }";

fn kinds(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|found| text(&found["kind"])).collect()
}

/// Would catch: a mistyped root, or a disk that is not mounted, on which every monitor is green.
#[test]
fn a_vault_that_is_not_there_is_not_well() {
    let home = Home::new();
    assert_eq!(home.json(&["status"]).1, 11);
    assert_eq!(home.json(&["verify", "--all"]).1, 3);
    assert_eq!(home.json(&["verify", "--due"]).1, 3);
    let (report, code) = home.json(&["doctor"]);
    assert_eq!((kinds(&report), code), (vec!["no_vault"], 11), "{report}");
    assert!(!home.path(".nexo").exists(), "looking made a vault");

    home.with_ana();
    for (args, expected) in [
        (["status"].as_slice(), 0),
        (&["doctor"], 0),
        (&["verify", "--all"], 0),
        (&["verify", "--due"], 0),
        (&["status", "--tenant", "other"], 11),
        (&["verify", "--all", "--tenant", "other"], 3),
    ] {
        let (document, code) = home.json(args);
        assert_eq!(code, expected, "{args:?}: {document}");
    }
}

/// Would catch: snapshots that a link hides, and nobody misses.
#[test]
fn a_link_where_an_agents_folder_should_be_is_told() {
    let home = Home::new();
    let id = text(&home.with_ana()["id"]).to_owned();
    let folder = home.path(".nexo/state/tenants/default/snapshots/ana");
    fs::rename(&folder, home.path("elsewhere")).unwrap();
    symlink(home.path("elsewhere"), &folder).unwrap();
    for verb in [["status"].as_slice(), &["doctor"], &["verify", "--all"]] {
        let (document, code) = home.json(verb);
        assert_eq!(code, 11, "{verb:?}: {document}");
        assert!(document.to_string().contains("snapshots/ana"), "{document}");
    }
    let (listing, _) = home.json(&["list"]);
    assert_eq!(listing["problems"][0]["kind"], "unreadable", "{listing}");

    fs::remove_file(&folder).unwrap();
    fs::rename(home.path("elsewhere"), &folder).unwrap();
    let summary = folder.join(format!("{id}.manifest.json"));
    fs::rename(&summary, home.path("summary")).unwrap();
    symlink(home.path("summary"), &summary).unwrap();
    let (report, code) = home.json(&["doctor"]);
    assert_eq!(code, 11, "{report}");
    assert!(report.to_string().contains("a symbolic link, and none is followed"), "{report}");
}

/// Would catch: a damaged hold that hides that there is a good snapshot, or that nobody hears of.
#[test]
fn a_hold_that_cannot_be_read_is_told_and_hides_nothing() {
    let home = Home::new();
    let meta = home.with_ana();
    home.write(".nexo/state/hold.json", "{");
    let (status, code) = home.json(&["status"]);
    assert_eq!(code, 11);
    let status = &status["agents"][0]["status"];
    assert_eq!(status["last_good"]["id"], meta["id"], "{status}");
    assert!(status["problems"].to_string().contains("hold.json"), "{status}");
    let (report, code) = home.json(&["doctor"]);
    assert_eq!(code, 11);
    assert!(report["findings"].to_string().contains("hold.json"), "{report}");
}

/// Would catch: a configuration that names what is not there, or is something else, in all quiet.
#[test]
fn parts_of_a_memory_that_are_not_there_are_told() {
    let home = Home::new();
    home.with_ana();
    home.write("text.db", &"no database, and long enough for a header".repeat(20));
    let stores = "stores: { long_term: text.db, vector: gone.db, concepts: mem }";
    let config =
        format!("memory: {{ snapshot: {{ agents: {{ ana: {{ memdir: nowhere, {stores} }} }} }} }}");
    home.write("empty.yaml", &config);
    let (report, code) = home.json(&["doctor"]);
    assert_eq!((kinds(&report), code), (vec!["memory"; 4], 11), "{report}");
    let whys: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|found| text(&found["why"])).collect();
    assert_eq!(whys[1], "store long_term: it is no SQLite database");
    assert_eq!(whys[0], "store concepts: it is no file");
}

/// Would catch: a bundle taken in though what lies beside it was written for another, or was changed.
#[test]
fn everything_beside_an_imported_bundle_must_agree() {
    let home = Home::new();
    let id = text(&home.with_ana()["id"]).to_owned();
    assert_eq!(home.run(&["export", "latest", "--to", "away", "--whole"]).code, 0);
    let at = |ending: &str| home.path(&format!("away/{id}{ending}"));
    let bundle = at(".tar.zst").display().to_string();
    let (sum, summary) = (at(".tar.zst.sha256"), at(".manifest.json"));
    let import = || home.json(&["import", &bundle, "--root", "other"]);
    let (good_sum, good_summary) =
        (fs::read_to_string(&sum).unwrap(), fs::read_to_string(&summary).unwrap());
    for bad in [&"ab".repeat(32), "garbage"] {
        fs::write(&sum, bad).unwrap();
        let (said, code) = import();
        assert_eq!(code, 4, "{bad}: {said}");
    }
    fs::write(&sum, good_sum).unwrap();
    let other = good_summary.replace("\"first\"", "\"last\"");
    assert_ne!(other, good_summary);
    fs::write(&summary, other).unwrap();
    let (said, code) = import();
    assert_eq!(code, 4, "{said}");
    fs::write(&summary, good_summary).unwrap();
    assert_eq!(import().1, 0);
}

/// Would catch: a copy that lands where only the doctor finds it, or a killed export's that stays for good.
#[test]
fn what_leaves_goes_outside_and_leaves_nothing_behind() {
    let home = Home::new();
    home.with_ana();
    home.write("empty.yaml", ANA);
    for inside in [
        ".nexo/state/tenants",
        ".nexo/state/tenants/default/snapshots/ana/x",
        ".nexo/state/outbox/y",
    ] {
        home.path(inside);
        fs::create_dir_all(home.path(".nexo/state/outbox")).unwrap();
        for verb in [["export", "latest", "--whole"].as_slice(), &["extract", "latest"]] {
            let said = home.run(&[verb, &["--to", inside]].concat());
            assert_eq!(said.code, 2, "{said:?}");
            assert!(said.err.contains("among the vault's own folders"), "{said:?}");
        }
    }
    let killed = home.write("away/.nexo-tmp-4194305-1f-0", "somebody's memory");
    let alike = home.write("away/.nexo-tmp-mine", "mine");
    assert_eq!(home.run(&["export", "latest", "--to", "away", "--whole"]).code, 0);
    assert!(!fs::exists(killed).unwrap());
    assert!(fs::exists(alike).unwrap());
}

/// Would catch: a file in the way that is an I/O error, or is written over.
#[test]
fn an_extraction_is_refused_where_a_file_is_in_the_way() {
    let home = Home::new();
    home.with_ana();
    home.write("file", "mine");
    home.write("out/memory_files", "mine");
    home.write("deep/memory_files/notes", "mine");
    for to in ["file", "out", "deep"] {
        let (said, code) = home.json(&["extract", "latest", "memory_files/notes", "--to", to]);
        assert_eq!((code, &said["error"]["kind"]), (6, &json!("refused")), "{to}: {said}");
    }
    for path in ["file", "out/memory_files", "deep/memory_files/notes"] {
        assert_eq!(fs::read_to_string(home.path(path)).unwrap(), "mine");
    }
}

/// Would catch: a memory emptied because the snapshot was taken while its disk was away; rows told as forgotten for it.
#[test]
fn what_a_snapshot_could_not_take_is_never_emptied() {
    let home = Home::new();
    home.with_ana();
    database(&home.path("real.db"), "CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    let ana = |store: &str, memdir: &str, args: &[&str]| {
        let layout = ["--agent", "ana", "--memdir", memdir, "--store", store];
        home.json(&[args, &layout].concat())
    };
    let (real, gone) = ("facts=real.db", "facts=gone.db");
    assert_eq!(ana(gone, "mem", &["snapshot", "--label", "no-store"]).1, 0);
    assert_eq!(ana(real, "gone", &["snapshot", "--label", "no-memdir"]).1, 0);
    for (label, what) in [("@no-store", "real.db"), ("@no-memdir", "mem")] {
        let (said, code) = ana(real, "mem", &["restore", label, "--yes"]);
        assert_eq!(code, 6, "{said}");
        let message = text(&said["error"]["message"]);
        assert!(message.contains(what) && message.contains("was taken without it"), "{message}");
    }
    let rows = rusqlite::Connection::open(home.path("real.db")).unwrap();
    let rows: i64 = rows.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!((rows, home.path("mem/MEMORY.md").exists()), (1, true));

    let (diff, _) = ana(real, "mem", &["diff", "@no-store", "live", "--stat"]);
    assert_eq!(diff["not_compared"][0]["store"], "facts", "{diff}");
    assert_eq!(diff["stores"]["facts"], json!({ "added": 0, "changed": 0, "removed": 0 }));
    let (diff, _) = ana(real, "mem", &["diff", "@no-memdir", "live", "--stat"]);
    assert!(diff["notes"].to_string().contains("memory files and git are not compared"), "{diff}");
    assert_eq!(diff["memory_files"], json!({ "added": 0, "changed": 0, "removed": 0 }));

    // Into a folder nothing is emptied; but never into one of the vault's own.
    assert_eq!(ana(real, "mem", &["restore", "@no-store", "--to", "look"]).1, 0);
    let inside = ".nexo/state/tenants/default/staging/ana/look";
    assert_eq!(ana(real, "mem", &["restore", "@no-store", "--to", inside]).1, 2);
    assert!(!home.path(inside).exists());
    // A mistyped agent has nothing due.
    assert_eq!(home.json(&["verify", "--due", "--agent", "anna"]).1, 3);
}
