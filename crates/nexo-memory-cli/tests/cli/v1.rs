//! Bundles and vaults of 0.1.x, as their operators bring them: looked into where they lie, restored, taken in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use snapshot_testkit::OldBundle;

use super::{Home, chmod, text};

/// Bundles that 0.1.5 wrote, and what is in them.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/v1");
/// The one that is damaged: it has two files of one name.
const DAMAGED: &str = "19-one-path-twice";
/// The one that is a vault.
const VAULT: &str = "15-vault";
/// Those whose history is not whole, or of no kind that we read.
const WITHOUT_HISTORY: [&str; 3] = ["16-torn-git", "18-torn-tree", "21-sha256-repo"];
/// Memory files that are left out: a nested repository's, and raw files of a store that the bundle holds.
const LEFT_OUT: [&str; 4] =
    ["sub/.git", "long_term.sqlite", "long_term.sqlite-wal", "long_term.sqlite-shm"];

/// A home with a copy of every bundle of 0.1.5, and the identities `alice` and `bob`.
fn home() -> Home {
    let home = Home::new();
    let copied = Command::new("cp").args(["-r", FIXTURES]).arg(home.path("old")).status().unwrap();
    assert!(copied.success());
    for name in ["alice", "bob"] {
        let key = home.path(&format!("old/{name}.age-identity.txt"));
        fs::rename(key, home.path(name)).unwrap();
        chmod(&home.path(name), 0o600);
    }
    home
}

/// What is known of the bundle of a case, and where it lies.
fn case(home: &Home, name: &str) -> (Value, String) {
    let dir = home.path("old").join(name);
    let expected = fs::read(dir.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let bundle = dir.join(text(&expected["bundle_file"]));
    (expected, bundle.to_str().unwrap().to_owned())
}

fn cases(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.path("old")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != VAULT && name != DAMAGED);
    names.sort();
    assert_eq!(names.len(), 22);
    names
}

fn sha256(path: &Path) -> String {
    Sha256::digest(fs::read(path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git(dir: &Path, args: &[&str]) -> Vec<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "safe.directory=*"])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The history below `memdir` is that of the case, by stock git.
fn assert_history(name: &str, expected: &Value, memdir: &Path) {
    git(memdir, &["fsck", "--strict"]);
    let known = &expected["expect"];
    let head = known["head_in_git"].as_str().unwrap_or(text(&expected["git"]["head_oid"]));
    if head.bytes().any(|byte| byte != b'0') {
        assert_eq!(git(memdir, &["rev-parse", "HEAD"]), [head], "{name}");
    }
    if let Some(refs) = known["refs"].as_object() {
        let all = git(memdir, &["for-each-ref", "--format=%(refname) %(objectname)"]);
        let found: BTreeMap<&str, &str> = all.iter().filter_map(|l| l.split_once(' ')).collect();
        let wanted: BTreeMap<&str, &str> =
            refs.iter().map(|(n, o)| (n.as_str(), text(o))).collect();
        assert_eq!(found, wanted, "{name}");
    }
    if let Some(stash) = known["stash"].as_array() {
        let found = git(memdir, &["stash", "list", "--format=%H"]);
        assert_eq!(found, stash.iter().map(text).collect::<Vec<_>>(), "{name}");
    }
    if let Some(branch) = known.get("head_ref").and_then(Value::as_str) {
        assert_eq!(git(memdir, &["symbolic-ref", "HEAD"]), [branch], "{name}");
    }
}

/// Would catch: a bundle of an operator's disk that does not come home: one that is not taken, a file, a row, a
/// commit, a ref or a stash entry of it that is lost or changed, or an origin that is not told.
#[test]
fn every_bundle_comes_home_whole() {
    let home = home();
    for name in cases(&home) {
        let (expected, bundle) = case(&home, &name);
        let (id, tenant) = (text(&expected["snapshot_id"]), text(&expected["tenant"]));
        let with = ["--tenant", tenant, "--decrypt-identity", "alice"];
        let run = |args: &[&str]| home.json(&[args, &with].concat());
        let (imported, code) = run(&["import", &bundle]);
        assert_eq!(code, 0, "{name}: {imported}");
        let (report, code) = run(&["verify", id]);
        assert_eq!(code, 0, "{name}: {report}");
        let (shown, _) = run(&["show", id]);
        let manifest = &shown["manifest"];
        assert_eq!(manifest["created_at_ms"], expected["created_at_ms"], "{name}");
        let origin = &manifest["rewritten_from"];
        assert_eq!(origin["bundle_sha256"], expected["bundle_file_sha256"], "{name}");
        assert_eq!(origin["seal"], expected["manifest_seal_bundle_sha256"], "{name}");
        assert_eq!(origin["created_by"], expected["created_by"], "{name}");
        assert_eq!(imported[0]["snapshot"]["encrypted"], expected["encrypted"], "{name}");
        let rows = manifest["artifacts"].as_array().unwrap();
        let digest = |path: &str| {
            let row = rows.iter().find(|row| row["path_in_bundle"] == path);
            row.map(|row| text(&row["sha256"]).to_owned())
        };
        for artifact in expected["artifacts"].as_array().unwrap() {
            let path = text(&artifact["path_in_bundle"]);
            let left_out =
                path.strip_prefix("memory_files/").is_some_and(|p| LEFT_OUT.contains(&p));
            match path.starts_with("git/") || left_out {
                true => assert_eq!(digest(path), None, "{name}: {path}"),
                false => assert_eq!(
                    digest(path).as_deref(),
                    artifact["sha256"].as_str(),
                    "{name}: {path}"
                ),
            }
        }
        let back = home.path(&format!("back-{name}"));
        let restore = ["restore", id, "--agent", text(&expected["agent_id"]), "--to"];
        let (restored, code) = run(&[&restore[..], &[back.to_str().unwrap()]].concat());
        assert_eq!(code, 0, "{name}: {restored}");
        for (path, content) in expected["text_files"].as_object().unwrap() {
            if path.strip_prefix("memory_files/").is_none_or(|p| !LEFT_OUT.contains(&p)) {
                assert_eq!(
                    fs::read_to_string(back.join(path)).unwrap(),
                    text(content),
                    "{name}: {path}"
                );
            }
        }
        let memdir = back.join("memory_files");
        let had_git = expected["artifacts"].as_array().unwrap().iter();
        let had_git = had_git.filter(|a| a["kind"] == "git_bundle").count() > 0;
        match had_git && !WITHOUT_HISTORY.contains(&name.as_str()) {
            true => assert_history(&name, &expected, &memdir),
            false => assert!(!memdir.join(".git").exists(), "{name}"),
        }
        let whole = &imported[0]["snapshot"]["whole"];
        let lacks = had_git && WITHOUT_HISTORY.contains(&name.as_str());
        let odd = ["13-empty-files", "20-default-roots"].contains(&name.as_str());
        assert_eq!(whole, &json!(!lacks && !odd), "{name}");
    }
    let (_, damaged) = case(&home, DAMAGED);
    assert_eq!(home.run(&["import", &damaged]).code, 4);
    assert_eq!(home.run(&["verify", &damaged]).code, 4);
}

/// Would catch: a verb that does not know a bundle of 0.1.x where it lies, one that changes it, or one that takes
/// the redacted for the whole.
#[test]
fn they_are_read_where_they_lie() {
    let home = home();
    let (expected, bundle) = case(&home, "12-no-git");
    let before = sha256(Path::new(&bundle));
    assert_eq!(home.json(&["verify", &bundle]).1, 0);
    let (shown, code) = home.json(&["show", &bundle]);
    assert_eq!((code, text(&shown["snapshot"]["id"])), (0, text(&expected["snapshot_id"])));
    let first = expected["text_files"].as_object().unwrap();
    let (path, content) = first.iter().next().unwrap();
    let read = home.run(&["cat", &bundle, path]);
    assert_eq!((read.code, read.out.as_str()), (0, text(content)), "{read:?}");
    assert_eq!(home.run(&["ls", &bundle]).code, 0);
    assert_eq!(home.run(&["extract", &bundle, "sqlite", "--to", "look"]).code, 0);
    for artifact in expected["artifacts"].as_array().unwrap() {
        let path = text(&artifact["path_in_bundle"]);
        if path.starts_with("sqlite/") {
            assert_eq!(sha256(&home.path("look").join(path)), text(&artifact["sha256"]), "{path}");
        }
    }
    // Over a live agent, who has other files of other modes.
    home.write("mem/MEMORY.md", "poisoned\n");
    home.write("mem/new.md", "to go\n");
    chmod(&home.path("mem/MEMORY.md"), 0o640);
    let stores = ["--store", "long_term=facts.db", "--store", "concepts=concepts.db"];
    let layout = [&["--agent", "ana", "--memdir", "mem"][..], &stores].concat();
    let (diff, code) = home.json(&[&["diff", &bundle, "live"], &layout[..]].concat());
    assert_eq!(code, 0, "{diff}");
    let (done, code) = home.json(&[&["restore", &bundle, "--yes"], &layout[..]].concat());
    assert_eq!(code, 0, "{done}");
    for (path, content) in first.iter().filter(|(path, _)| path.starts_with("memory_files/")) {
        let restored = home.path("mem").join(&path["memory_files/".len()..]);
        assert_eq!(fs::read_to_string(restored).unwrap(), text(content), "{path}");
    }
    assert!(!home.path("mem/new.md").exists() && home.path("facts.db").exists());
    let mode =
        std::os::unix::fs::MetadataExt::mode(&fs::metadata(home.path("mem/MEMORY.md")).unwrap());
    assert_eq!(mode & 0o777, 0o640, "0.1.x kept no modes, and none is made up");
    assert_eq!(sha256(Path::new(&bundle)), before);

    let (_, redacted) = case(&home, "10-redacted");
    let restore = ["restore", &redacted, "--agent", "ana", "--memdir", "mem", "--yes"];
    assert_eq!(home.run(&restore).code, 6, "what was taken out of it stays lost");
    let (_, torn) = case(&home, "16-torn-git");
    git(&home.path("mem"), &["init", "-q"]);
    let restore = ["restore", &torn, "--agent", "ana", "--memdir", "mem", "--yes"];
    let said = home.run(&restore);
    assert!(said.code == 6 && said.err.contains("git history"), "{said:?}");
    assert!(home.path("mem/.git/HEAD").exists(), "a history was emptied for one that is torn");
}

/// Would catch: a vault of 0.1.x that looks empty or broken, bundles that are not adopted, adopted twice or lost,
/// and an encrypted one that lies in the clear afterwards.
#[test]
fn a_vault_is_recognised_and_adopted() {
    let home = home();
    let root = home.path("old/15-vault/root");
    let root = root.to_str().unwrap();
    let with = ["--root", root, "--tenant", "acme"];
    let run = |args: &[&str]| home.json(&[args, &with[..]].concat());
    let (listing, code) = run(&["list"]);
    let old = listing["predecessors"].as_array().unwrap();
    assert_eq!((code, old.len(), listing["snapshots"].as_array().unwrap().len()), (0, 2, 0));
    let id_of = |agent: &str| {
        let found = old.iter().find(|meta| meta["agent_id"] == agent).unwrap();
        text(&found["id"]).to_owned()
    };
    let (ana, bob) = (id_of("ana"), id_of("bob"));
    let table = home.run(&[&["list"], &with[..]].concat());
    assert!(table.out.contains("(0.1.x)") && table.err.contains("import --all"), "{table:?}");
    assert_eq!(run(&["verify", &ana]).1, 0);
    // Sealed for others: its file is compared with its checksum, and nothing more is claimed.
    assert_eq!(run(&["verify", &bob]).1, 12);
    for refused in [
        ["delete", &ana, "--yes"].as_slice(),
        &["export", &ana, "--to", "copy", "--whole"],
        &["pin", &ana, "--reason", "x"],
        &["rekey", &ana, "--agent", "ana", "--to", "age1x"],
    ] {
        let said = home.run(&[refused, &with[..]].concat());
        assert!(said.code == 6 || said.code == 2, "{refused:?}: {said:?}");
    }
    let snapshots = PathBuf::from(root).join("tenants/acme/snapshots");
    let sealed = snapshots.join(format!("bob/{bob}.tar.zst.age"));
    let (plain_before, sealed_before) =
        (sha256(&snapshots.join(format!("ana/{ana}.tar.zst"))), sha256(&sealed));
    // Without the identity one of two is taken in, and the other stays.
    assert_eq!(run(&["import", "--all"]).1, 8);
    assert_eq!(sha256(&sealed), sealed_before);
    let (imported, code) = run(&["import", "--all", "--decrypt-identity", "alice"]);
    assert_eq!((code, imported.as_array().unwrap().len()), (0, 1), "{imported}");
    assert_eq!(imported[0]["snapshot"]["encrypted"], json!(true));
    let (listing, _) = run(&["list"]);
    assert_eq!(listing["snapshots"].as_array().unwrap().len(), 2);
    assert!(listing["predecessors"].as_array().unwrap().is_empty());
    for id in [&ana, &bob] {
        assert_eq!(run(&["verify", id, "--decrypt-identity", "alice"]).1, 0);
    }
    assert_eq!(run(&["import", "--all"]).0, json!([]));
    // The originals are kept, for their owner alone.
    let aside = |agent: &str, id: &str, end: &str| {
        let path = snapshots.join(format!("{agent}/.quarantine/{id}/{id}{end}"));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        sha256(&path)
    };
    assert_eq!(aside("ana", &ana, ".tar.zst"), plain_before);
    assert_eq!(aside("bob", &bob, ".tar.zst.age"), sealed_before);
    // One that was kept comes home again once its snapshot is gone.
    assert!(
        listing["problems"].as_array().unwrap().iter().any(|p| text(&p["why"]).contains("0.1.x"))
    );
}

/// Would catch: a bundle in the clear that stays beside what it became where that is encrypted, and one that is
/// taken unsigned where signatures are required.
#[test]
fn what_the_configuration_asks_for_holds_for_them_too() {
    let home = home();
    let (made, _) = home.json(&["keygen", "--age", "--to", "key"]);
    let recipient = text(&made["recipient"]);
    let root = home.path("old/15-vault/root");
    let section = format!(
        "root: {}, encryption: {{ enabled: true, recipients: [{recipient}] }}",
        root.display()
    );
    home.write("empty.yaml", &format!("memory: {{ snapshot: {{ {section} }} }}"));
    let (imported, code) = home.json(&["import", "--all", "--tenant", "acme", "--agent", "ana"]);
    assert_eq!((code, &imported[0]["snapshot"]["encrypted"]), (0, &json!(true)), "{imported}");
    let folder = root.join("tenants/acme/snapshots/ana");
    let in_the_clear = |dir: &Path| {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".tar.zst")).count()
    };
    assert_eq!(in_the_clear(&folder), 0);
    assert!(!folder.join(".quarantine").exists(), "the original lies there in the clear");

    let (made, _) = home.json(&["keygen", "--sign", "--to", "sign"]);
    let section = format!("require_signature: true, trusted_keys: [{}]", text(&made["public_key"]));
    home.write("empty.yaml", &format!("memory: {{ snapshot: {{ {section} }} }}"));
    let (_, bundle) = case(&home, "01-plain-minimal");
    assert_eq!(home.run(&["import", &bundle]).code, 6);
    assert_eq!(home.run(&["verify", &bundle]).code, 6);
    assert_eq!(home.run(&["restore", &bundle, "--agent", "ana", "--to", "back"]).code, 6);
}

/// Would catch: another's bundle that is believed, a checksum file that is not, and a bundle that lies under
/// another's name.
#[test]
fn whose_it_is_comes_first() {
    let home = home();
    let (expected, bundle) = case(&home, "01-plain-minimal");
    assert_eq!(home.run(&["import", &bundle, "--tenant", "acme"]).code, 6);
    assert_eq!(home.run(&["import", &bundle, "--agent", "bob"]).code, 6);
    let restore = ["restore", &bundle, "--agent", "bob", "--memdir", "mem", "--yes"];
    assert_eq!(home.run(&restore).code, 6);
    let id = text(&expected["snapshot_id"]);
    let place = home.path(&format!(".nexo/state/tenants/default/snapshots/bob/{id}.tar.zst"));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(&bundle, &place).unwrap();
    fs::copy(format!("{bundle}.sha256"), format!("{}.sha256", place.display())).unwrap();
    let (listing, _) = home.json(&["list", "--agent", "bob"]);
    assert!(listing["predecessors"].as_array().unwrap().is_empty(), "{listing}");
    fs::write(format!("{bundle}.sha256"), "0".repeat(64)).unwrap();
    for args in [
        ["import", &bundle].as_slice(),
        &["verify", &bundle],
        &["cat", &bundle, "memory_files/MEMORY.md"],
        &["restore", &bundle, "--agent", "ana", "--to", "back"],
    ] {
        let said = home.run(args);
        assert_eq!((said.code, said.out.contains("# index")), (4, false), "{args:?}: {said:?}");
    }
}

/// Would catch: code of a bundle that git runs, a file of it outside of the folder that it belongs in, and a
/// repository that leads to another.
#[test]
fn nothing_that_git_obeys_arrives() {
    let home = Home::new();
    let repo = home.path("evil");
    git_init(&repo);
    let ran = home.path("ran");
    let script = format!("#!/bin/sh\ntouch {}\n", ran.display());
    let evil = [
        (
            "config",
            format!(
                "[core]\n\tfsmonitor = touch {0}\n\thooksPath = hooks\n[filter \"x\"]\n\tsmudge = touch {0}\n\tclean = touch {0}\n",
                ran.display()
            ),
        ),
        ("hooks/post-checkout", script.clone()),
        ("hooks/pre-commit", script),
        ("info/attributes", "* filter=x\n".to_owned()),
        ("objects/info/alternates", "/\n".to_owned()),
    ];
    let id = SnapshotId::from_random_bytes([9; 16]);
    let mut old = OldBundle::new(id, &AgentId::from_static("ana"), &Tenant::default())
        .with_file("MEMORY.md", b"tea\n");
    for (path, content) in files_of(&repo.join(".git")) {
        if !evil.iter().any(|(name, _)| *name == path) {
            old = old.with(&format!("git/{path}"), "git_bundle", &content);
        }
    }
    for (path, content) in &evil {
        old = old.with(&format!("git/{path}"), "git_bundle", content.as_bytes());
    }
    for path in [".git/config", ".GIT/hooks/post-checkout", ".git"] {
        let with = old.clone().with_file(path, b"[core]\n\tfsmonitor = touch ran\n");
        fs::write(home.path("odd.tar.zst"), with.to_bytes()).unwrap();
        let to = format!("back{}", path.replace('/', "-"));
        let said = home.run(&["restore", "odd.tar.zst", "--agent", "ana", "--to", &to]);
        assert_eq!(said.code, 0, "{said:?}");
        let memdir = home.path(&to).join("memory_files");
        for args in [["status"].as_slice(), &["checkout", "-f", "main"], &["fsck", "--strict"]] {
            git(&memdir, args);
        }
        assert!(!ran.exists(), "{path}: git ran something of the bundle's");
        let config = fs::read_to_string(memdir.join(".git/config")).unwrap();
        assert!(!config.contains("fsmonitor") && !config.contains("filter"), "{config}");
        for gone in [
            "hooks/post-checkout",
            "hooks/pre-commit",
            "info/attributes",
            "objects/info/alternates",
        ] {
            assert!(!memdir.join(".git").join(gone).exists(), "{gone}");
        }
    }
}

/// Would catch: a journal of a bundle beside a database of it, which SQLite replays, and removes a file that it
/// names.
#[test]
fn no_journal_of_theirs_is_obeyed() {
    let home = Home::new();
    let db = home.path("x.db");
    let sql = "CREATE TABLE t(x); INSERT INTO t VALUES (1)";
    rusqlite::Connection::open(&db).unwrap().execute_batch(sql).unwrap();
    let victim = home.write("victim", "somebody's\n");
    let database = fs::read(&db).unwrap();
    let id = SnapshotId::from_random_bytes([9; 16]);
    let old = OldBundle::new(id, &AgentId::from_static("ana"), &Tenant::default())
        .with_file("sub/x.db", &database)
        .with_file("sub/x.db-journal", &journal(&database, &victim))
        .with_file("lone-journal", b"a diary\n");
    fs::write(home.path("odd.tar.zst"), old.to_bytes()).unwrap();
    let (imported, code) = home.json(&["import", "odd.tar.zst"]);
    assert_eq!((code, &imported[0]["snapshot"]["whole"]), (0, &json!(false)), "{imported}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "somebody's\n");
    let shown = home.run(&["show", &id.to_string()]);
    assert!(
        shown.out.contains("sub/x.db-journal") && !shown.out.contains("lone-journal"),
        "{shown:?}"
    );
}

/// Would catch: a bundle of 0.1.x that is taken for the one that a summary was written for: whoever can write to the
/// storage would exchange a memory, and nothing would tell.
#[test]
fn no_summary_is_for_one_of_them() {
    let home = Home::new();
    let meta = home.with_ana();
    let (id, bundle) = (text(&meta["id"]), home.real(&meta["bundle_path"]));
    let old = OldBundle::new(id.parse().unwrap(), &AgentId::from_static("ana"), &Tenant::default())
        .with_file("MEMORY.md", b"poisoned\n");
    fs::write(&bundle, old.to_bytes()).unwrap();
    let bundle = bundle.to_str().unwrap();
    fs::remove_file(format!("{bundle}.sha256")).unwrap();
    for args in [
        ["show", bundle].as_slice(),
        &["verify", bundle],
        &["cat", bundle, "memory_files/MEMORY.md"],
        &["diff", bundle, "live", "--agent", "ana", "--memdir", "mem"],
        &["restore", bundle, "--agent", "ana", "--memdir", "mem", "--yes"],
        &["import", bundle, "--root", "elsewhere"],
    ] {
        let said = home.run(args);
        assert_eq!((said.code, said.out.contains("poisoned")), (4, false), "{args:?}: {said:?}");
    }
    assert_eq!(fs::read_to_string(home.path("mem/MEMORY.md")).unwrap(), "the user likes tea\n");
}

/// Would catch: an encrypted bundle of ours that lost its summary, called one of 0.1.x.
#[test]
fn an_orphan_that_nobody_opens_is_none_of_them() {
    let (home, _) = super::sealed::sealed();
    let (taken, code) = home.json(&["snapshot", "--agent", "ana"]);
    assert_eq!(code, 0, "{taken}");
    let bundle = home.real(&taken["bundle_path"]);
    let folder = bundle.parent().unwrap();
    fs::remove_file(folder.join(format!("{}.manifest.json", text(&taken["id"])))).unwrap();
    let (listing, _) = home.json(&["list"]);
    assert_eq!(listing["predecessors"], json!([]), "{listing}");
}

/// Would catch: a history that is taken over and that no restore takes, a bundle that cannot come home for one, and a
/// log that makes a database of any size.
#[test]
fn what_cannot_be_restored_is_left_out_and_said_to_be() {
    let home = Home::new();
    let (repo, ana) = (home.path("repo"), AgentId::from_static("ana"));
    git_init(&repo);
    let head = git(&repo, &["rev-parse", "HEAD"]).remove(0);
    let with = |more: &[(&str, Vec<u8>)]| {
        let id = SnapshotId::from_random_bytes([9; 16]);
        let mut old = OldBundle::new(id, &ana, &Tenant::default()).with_file("MEMORY.md", b"tea\n");
        let kept = |path: &str| path.starts_with("objects/") || path.starts_with("refs/");
        for (path, content) in files_of(&repo.join(".git")) {
            if (kept(&path) || path == "HEAD") && more.iter().all(|(other, _)| *other != path) {
                old = old.with(&format!("git/{path}"), "git_bundle", &content);
            }
        }
        for (path, content) in more {
            old = old.with(&format!("git/{path}"), "git_bundle", content);
        }
        old
    };
    let many: String = (0..16_390).map(|n| format!("{head} refs/tags/t{n:05}\n")).collect();
    let cases = [
        (
            "nested",
            with(&[(
                "packed-refs",
                format!("{head} refs/heads/q\n{head} refs/heads/q/r\n").into(),
            )]),
        ),
        ("head", with(&[("HEAD", b"ref: ../../../../etc/passwd\n".to_vec())])),
        ("many", with(&[("packed-refs", many.into())])),
        ("long", with(&[("packed-refs", vec![b'#'; (4 << 20) + 1])])),
        (
            "state",
            with(&[]).with("state/dream_run.json", "state_dream_run", &vec![b' '; (2 << 20) + 1]),
        ),
    ];
    for (name, old) in cases {
        fs::write(home.path("odd.tar.zst"), old.to_bytes()).unwrap();
        let root = format!("root-{name}");
        let (imported, code) = home.json(&["import", "odd.tar.zst", "--root", &root]);
        assert_eq!(
            (code, &imported[0]["snapshot"]["whole"]),
            (0, &json!(false)),
            "{name}: {imported}"
        );
        let id = text(&imported[0]["snapshot"]["id"]).to_owned();
        let back = format!("back-{name}");
        let said = home.run(&["restore", &id, "--agent", "ana", "--to", &back, "--root", &root]);
        assert_eq!(said.code, 0, "{name}: {said:?}");
        let memdir = home.path(&back).join("memory_files");
        assert_eq!(fs::read_to_string(memdir.join("MEMORY.md")).unwrap(), "tea\n");
        assert_eq!(memdir.join(".git").exists(), name == "state", "{name}");
    }
    let id = SnapshotId::from_random_bytes([9; 16]);
    let (database, log) = endless(&home);
    let old = OldBundle::new(id, &ana, &Tenant::default())
        .with_file("x.db", &database)
        .with_file("x.db-wal", &log);
    fs::write(home.path("endless.tar.zst"), old.to_bytes()).unwrap();
    let said = home.run(&["import", "endless.tar.zst"]);
    assert!(said.code == 4 && said.err.contains("bytes"), "{said:?}");
}

/// A database, and a log of one page that says it has a hundred thousand
/// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
fn endless(home: &Home) -> (Vec<u8>, Vec<u8>) {
    let path = home.path("wal.db");
    let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(x)";
    rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let database = fs::read(&path).unwrap();
    let page_size = usize::from(u16::from_be_bytes([database[16], database[17]]));
    let mut log = Vec::new();
    for word in [0x377f_0682_u32, 3_007_000, u32::try_from(page_size).unwrap(), 0, 1, 2] {
        log.extend_from_slice(&word.to_be_bytes());
    }
    let mut sum = checksum((0, 0), &log);
    log.extend([sum.0.to_be_bytes(), sum.1.to_be_bytes()].concat());
    let head = [1u32.to_be_bytes(), 100_000u32.to_be_bytes()].concat();
    // Without a number of its own in the header, the log's is believed.
    let mut page = database[..page_size].to_vec();
    page[28..32].fill(0);
    sum = checksum(checksum(sum, &head), &page);
    for part in [1u32, 2, sum.0, sum.1].map(u32::to_be_bytes) {
        log.extend_from_slice(if log.len() == 32 { &head } else { &[] });
        log.extend_from_slice(&part);
    }
    log.extend_from_slice(&page);
    (database, log)
}

fn checksum(mut sum: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let word = |at: usize| u32::from_le_bytes(pair[at..at + 4].try_into().unwrap());
        sum.0 = sum.0.wrapping_add(word(0)).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(word(4)).wrapping_add(sum.0);
    }
    sum
}

/// A hot journal of no pages of this database that names a super-journal, which SQLite 3.40 removes
/// (<https://www.sqlite.org/fileformat2.html#the_rollback_journal>, and `readSuperJournal` in SQLite's pager.c).
fn journal(database: &[u8], names: &str) -> Vec<u8> {
    let magic = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let page_size = u32::from(u16::from_be_bytes([database[16], database[17]]));
    let pages = u32::try_from(database.len()).unwrap() / page_size;
    let mut journal = magic.to_vec();
    for word in [0, 7, pages, 512, page_size] {
        journal.extend_from_slice(&word.to_be_bytes());
    }
    journal.resize(512, 0);
    let sum: u32 = names.bytes().map(u32::from).sum();
    let lock_page = (1u32 << 30) / page_size + 1;
    journal.extend_from_slice(&lock_page.to_be_bytes());
    journal.extend_from_slice(names.as_bytes());
    journal.extend_from_slice(&u32::try_from(names.len()).unwrap().to_be_bytes());
    journal.extend_from_slice(&sum.to_be_bytes());
    journal.extend_from_slice(&magic);
    journal
}

fn git_init(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    git(dir, &["init", "-q", "-b", "main"]);
    fs::write(dir.join("MEMORY.md"), "tea\n").unwrap();
    git(dir, &["add", "MEMORY.md"]);
    let who = ["-c", "user.name=op", "-c", "user.email=op@example.org"];
    git(dir, &[&who[..], &["commit", "-q", "-m", "seed"]].concat());
}

/// The files below a folder, with their paths there.
fn files_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => {
                found.extend(files_of(&path).into_iter().map(|(p, c)| (format!("{name}/{p}"), c)))
            }
            false => found.push((name, fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}
