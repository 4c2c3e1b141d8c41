//! What a newer program wrote: told as such, with both versions, and left alone; what it only added is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use snapshot_testkit::Crafted;

use super::doctor::tree;
use super::{Home, Said, text};

const ID: &str = "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d";

/// A home whose vault holds a snapshot of `ana`, all of it before anything newer came.
struct Vault {
    home: Home,
    id: String,
}

impl Vault {
    fn new() -> Self {
        let home = Home::new();
        let id = text(&home.with_ana()["id"]).to_owned();
        Self { home, id }
    }

    fn file(&self, ending: &str) -> PathBuf {
        let folder = ".nexo/state/tenants/default/snapshots/ana";
        self.home.path(&format!("{folder}/{}{ending}", self.id))
    }

    /// Contents of everything but locks: of the vault, the agent, what lies beside them.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = tree(self.home.0.path()).into_iter();
        let is_lock = |path: &Path| path.components().any(|part| part.as_os_str() == "locks");
        let files =
            files.filter(|(path, _)| !is_lock(path) && path.extension() != Some("lock".as_ref()));
        files.filter_map(|(path, (_, _, content))| Some((path, content?))).collect()
    }

    /// That each verb refuses with 7, says both versions, and changes nothing.
    fn refuses(&self, named: &str, verbs: &[&[&str]], versions: (&str, &str)) {
        for verb in verbs {
            let args: Vec<&str> =
                verb.iter().map(|arg| if *arg == "IT" { named } else { arg }).collect();
            let before = self.contents();
            let said = self.home.run(&args);
            assert_eq!(said.code, 7, "{args:?}: {said:?}");
            assert!(
                said.err.contains(versions.0) && said.err.contains(versions.1),
                "{args:?}: {said:?}"
            );
            assert!(self.contents() == before, "{args:?} changed something");
        }
    }
}

/// Everything that reads a bundle which is named.
const READING: [&[&str]; 12] = [
    &["verify", "IT"],
    &["show", "IT"],
    &["ls", "IT"],
    &["ls", "IT", "git:HEAD"],
    &["cat", "IT", "memory_files/MEMORY.md"],
    &["extract", "IT", "--to", "out"],
    &["diff", "IT", "live", "--agent", "ana", "--memdir", "mem"],
    &["scan-secrets", "IT"],
    &["restore", "IT", "--to", "out", "--agent", "ana"],
    &["restore", "IT", "--yes", "--agent", "ana", "--memdir", "mem"],
    &["restore", "IT", "--dry-run", "--agent", "ana", "--memdir", "mem"],
    &["export", "IT", "--agent", "ana", "--to", "out", "--whole"],
];

/// A bundle of version 3, that has no more in common with ours than its frame and its first two fields.
fn version_3(path: &Path) {
    let manifest = r#"{"manifest_version":3,"bundle_format":"nexo-memory-snapshot-v3","artifacts":"elsewhere"}"#;
    let mut bundle = Crafted::create(path).unwrap();
    bundle.file("MEMORY.md", b"of tomorrow\n").unwrap();
    bundle.finish(manifest).unwrap();
}

/// Would catch: a newer bundle read as far as it goes, called damaged, taken into the vault, or restored by half.
#[test]
fn a_newer_bundle_is_refused_by_every_verb_and_nothing_is_touched() {
    let vault = Vault::new();
    version_3(&vault.home.path("newer.tar.zst"));
    let versions = (
        "nexo-memory-snapshot-v3 with manifest version 3",
        "nexo-memory-snapshot-v2 with manifest version 2",
    );
    vault.refuses("newer.tar.zst", &READING, versions);
    vault.refuses("newer.tar.zst", &[&["import", "IT"]], versions);
    // An index of a newer version comes before any manifest.
    let mut bytes = fs::read(vault.file(".tar.zst")).unwrap();
    let tag = bytes.windows(7).rposition(|at| at == b"NEXOIDX").unwrap();
    bytes[tag + 7] = 3;
    fs::write(vault.home.path("newer.tar.zst"), bytes).unwrap();
    let versions = ("index version 3", "index version 2");
    vault.refuses("newer.tar.zst", &READING, versions);
    vault.refuses("newer.tar.zst", &[&["import", "IT"]], versions);
}

/// Would catch: the same in the vault, by its summary or without: deleted or pruned for a snapshot that is none, moved
/// away, or listed as if it could be used.
#[test]
fn what_is_newer_in_the_vault_stays_and_is_told() {
    let vault = Vault::new();
    let summary = fs::read(vault.file(".manifest.json")).unwrap();
    let mut newer: Value = serde_json::from_slice(&summary).unwrap();
    newer["manifest_version"] = json!(3);
    newer["bundle_format"] = json!("nexo-memory-snapshot-v3");
    newer["created_by"] = json!({ "another": "shape" });
    fs::write(vault.file(".manifest.json"), newer.to_string()).unwrap();
    let versions = ("manifest version 3", "manifest version 2");
    vault.refuses(&vault.id, &READING, versions);
    vault.refuses(&vault.id, &[&["delete", "IT", "--yes", "--agent", "ana"]], versions);
    vault.refuses(&vault.id, &[&["pin", "IT", "--agent", "ana", "--reason", "x"]], versions);
    let before = vault.contents();
    let (listed, code) = vault.home.json(&["list"]);
    assert_eq!((code, &listed["snapshots"]), (0, &json!([])), "{listed}");
    assert_eq!(listed["problems"][0]["kind"], "too_new", "{listed}");
    vault.home.write("keep.yaml", "memory: { snapshot: { retention: { keep_count: 1 } } }");
    for args in [
        &["prune", "--agent", "ana"][..],
        &["prune", "--config", "keep.yaml"],
        &["doctor", "--fix"],
    ] {
        let said = vault.home.run(args);
        assert!([0, 7, 11].contains(&said.code), "{args:?} {said:?}");
        assert!(
            vault.contents().get(&vault.file(".tar.zst")) == before.get(&vault.file(".tar.zst")),
            "{said:?}"
        );
        assert_eq!(fs::read(vault.file(".manifest.json")).unwrap(), newer.to_string().into_bytes());
    }
}

/// Would catch: notes and journals of a newer program taken for damage, or written over: what they forbid is forgotten.
#[test]
fn newer_notes_and_journals_are_told_as_such() {
    let vault = Vault::new();
    // That it is the last good one is no reason then.
    assert_eq!(vault.home.run(&["snapshot", "--agent", "ana", "--memdir", "mem"]).code, 0);
    assert_eq!(vault.home.run(&["pin", "latest", "--reason", "evidence"]).code, 0);
    let notes = vault.home.path(".nexo/state/tenants/default/notes/ana.json");
    let newer = r#"{"version":2,"pins":["another shape"]}"#;
    fs::write(&notes, newer).unwrap();
    let versions = ("notes version 2", "notes version 1");
    vault.refuses(&vault.id, &[&["delete", "IT", "--yes", "--agent", "ana"]], versions);
    vault.refuses(&vault.id, &[&["pin", "IT", "--agent", "ana", "--reason", "x"]], versions);
    fs::remove_file(&notes).unwrap();
    let hold = vault.home.path(".nexo/state/hold.json");
    let held: Said = vault.home.run(&["hold", "--all", "audit"]);
    assert_eq!(held.code, 0, "{held:?}");
    fs::write(&hold, newer).unwrap();
    vault.refuses(&vault.id, &[&["release", "--all"]], versions);
    fs::remove_file(&hold).unwrap();
    let work = vault.home.path(".nexo/state/tenants/default/restore/ana");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("journal.json"), r#"{"version":2,"stores":"elsewhere"}"#).unwrap();
    let verbs: [&[&str]; 1] = [&["restore", "IT", "--yes", "--agent", "ana", "--memdir", "mem"]];
    vault.refuses(&vault.id, &verbs, ("journal version 2", "journal version 1"));
}

/// Would catch: what a newer minor version adds, refused, or lost on its way through the vault: the root digest covers
/// the exact bytes of the manifest.
#[test]
fn fields_that_a_newer_minor_adds_are_kept_and_ignored() {
    let home = Home::new();
    let path = home.path("minor.tar.zst");
    let mut bundle = Crafted::create(&path).unwrap();
    bundle.file("MEMORY.md", b"of tomorrow\n").unwrap();
    let manifest = bundle.manifest(ID, r#","of_tomorrow":{"list":[1,2.50]},"git_too":null"#);
    bundle.finish(&manifest).unwrap();
    let sound = fs::read(&path).unwrap();
    let (meta, code) = home.json(&["import", "minor.tar.zst", "--agent", "ana"]);
    assert_eq!(code, 0, "{meta}");
    let folder = ".nexo/state/tenants/default/snapshots/ana";
    let (kept, summary) = (
        home.path(&format!("{folder}/{ID}.tar.zst")),
        home.path(&format!("{folder}/{ID}.manifest.json")),
    );
    assert!(fs::read(kept).unwrap() == sound, "the vault has another bundle");
    // In a summary too.
    let mut said: Value = serde_json::from_slice(&fs::read(&summary).unwrap()).unwrap();
    said["of_tomorrow"] = json!({ "a": 1 });
    fs::write(&summary, said.to_string()).unwrap();
    for args in [
        &["verify", ID][..],
        &["list"],
        &["show", ID],
        &["doctor", "--fix"],
        &["cat", ID, "memory_files/MEMORY.md"],
    ] {
        let done = home.run(args);
        assert_eq!(done.code, 0, "{args:?} {done:?}");
        assert_eq!(fs::read(&summary).unwrap(), said.to_string().into_bytes(), "{args:?}");
    }
    // Encrypted for others and back, what is inside is the same.
    assert_eq!(home.run(&["keygen", "--age", "--to", "key"]).code, 0);
    let key = fs::read_to_string(home.path("key")).unwrap();
    let recipient = key.lines().next().unwrap().trim_start_matches("# public key: ").to_owned();
    let rekeyed =
        home.run(&["rekey", ID, "--encrypt", &recipient, "--decrypt-identity", "key", "--yes"]);
    assert_eq!(rekeyed.code, 0, "{rekeyed:?}");
    let export =
        ["export", ID, "--agent", "ana", "--to", "out", "--decrypt", "--decrypt-identity", "key"];
    let exported = home.run(&export);
    assert_eq!(exported.code, 0, "{exported:?}");
    assert!(
        fs::read(home.path(&format!("out/{ID}.tar.zst"))).unwrap() == sound,
        "what was inside changed"
    );
}
