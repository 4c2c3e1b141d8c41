//! The doctor as operators meet it, on vaults and memories that were harmed by hand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Home, chmod, text};

/// Where agent `ana` keeps her memory.
const CONFIG: &str = "memory: { snapshot: { agents: { ana: { memdir: mem, stores: { long_term: db/ana.sqlite } } } } }";
/// A temporary file of ours of a process that cannot be: Linux has at most 4,194,304.
const DEAD_TEMP: &str = ".nexo-tmp-4194305-1f-0";
/// A user that is nobody here.
const STRANGER: u32 = 4242;
/// Of a source id of SQLite.
const HASH: &str = "df5c253c0b3dd24916e4ec7cf77d3db5294cc9fd45ae7b9c5e82ad8197f3alt1";

/// A home whose configuration knows `ana`, and a snapshot of hers.
struct Ward {
    home: Home,
    id: String,
}

impl Ward {
    fn new() -> Self {
        let home = Home::new();
        let id = text(&home.with_ana()["id"]).to_owned();
        home.write("empty.yaml", CONFIG);
        home.write("db/ana.sqlite", "");
        Self { home, id }
    }

    /// Another snapshot of `ana`.
    fn another(&self) -> String {
        let (meta, code) = self.home.json(&["snapshot", "--agent", "ana"]);
        assert_eq!(code, 0, "{meta}");
        text(&meta["id"]).to_owned()
    }

    fn vault(&self) -> PathBuf {
        self.home.path(".nexo/state")
    }

    fn tenant(&self) -> PathBuf {
        self.vault().join("tenants/default")
    }

    fn snapshots(&self) -> PathBuf {
        self.tenant().join("snapshots/ana")
    }

    /// A file of the snapshot, by its ending.
    fn file(&self, ending: &str) -> PathBuf {
        self.snapshots().join(format!("{}{ending}", self.id))
    }

    fn bundle(&self) -> PathBuf {
        self.file(".tar.zst")
    }

    fn sidecar(&self) -> PathBuf {
        self.file(".manifest.json")
    }

    fn sum(&self) -> PathBuf {
        self.file(".tar.zst.sha256")
    }

    /// What the doctor finds.
    fn look(&self) -> (Vec<Value>, i32) {
        let (report, code) = self.home.json(&["doctor"]);
        (report["findings"].as_array().unwrap().clone(), code)
    }

    /// What the doctor finds and mends.
    fn mend(&self) -> (Vec<Value>, i32) {
        let (report, code) = self.home.json(&["doctor", "--fix"]);
        (report["findings"].as_array().unwrap().clone(), code)
    }

    /// The doctor finds one thing, of this kind, and mends it, and then all is well.
    #[track_caller]
    fn mends(&self, kind: &str) -> Value {
        let (found, code) = self.look();
        assert_eq!((kinds(&found), code), (vec![kind], 11), "{found:?}");
        assert_eq!(found[0]["fixed"], false);
        let (mended, code) = self.mend();
        assert_eq!((kinds(&mended), code), (vec![kind], 0), "{mended:?}");
        assert_eq!(mended[0]["fixed"], true);
        assert_eq!(self.look(), (vec![], 0));
        mended[0].clone()
    }

    /// The doctor finds one thing, of this kind, and leaves all as it is.
    #[track_caller]
    fn leaves(&self, kind: &str) -> Value {
        let before = tree(self.home.0.path());
        let found = self.cannot_mend(kind);
        let mut changed = changed(self.home.0.path(), &before);
        changed.retain(|path| !path.to_str().unwrap().contains("/locks"));
        assert_eq!(changed, Vec::<PathBuf>::new(), "{found}");
        found
    }

    /// The doctor finds one thing, of this kind, and does not mend it.
    #[track_caller]
    fn cannot_mend(&self, kind: &str) -> Value {
        let (found, code) = self.mend();
        assert_eq!((kinds(&found), code), (vec![kind], 11), "{found:?}");
        assert_eq!(found[0]["fixed"], false);
        found[0].clone()
    }

    fn listed(&self) -> usize {
        self.home.json(&["list"]).0["snapshots"].as_array().unwrap().len()
    }
}

/// A process that keeps a database open.
struct Holder(Child);

impl Holder {
    /// Runs a shell that has `marks` in its program, with `database` open.
    fn start(home: &Home, name: &str, marks: &str, database: &Path) -> Self {
        let program = home.path(name);
        fs::copy("/bin/sh", &program).unwrap();
        let mut file = File::options().append(true).open(&program).unwrap();
        file.write_all(marks.as_bytes()).unwrap();
        drop(file);
        let open = File::options().append(true).open(database).unwrap();
        let mut shell = Command::new(program);
        shell.args(["-c", "read line; exit"]).stdin(Stdio::piped()).stderr(open);
        Self(shell.spawn().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn kinds(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| text(&finding["kind"])).collect()
}

fn why(finding: &Value) -> &str {
    text(&finding["why"])
}

/// Names, rights, times and contents of everything below a folder.
pub(super) type Tree = BTreeMap<PathBuf, (u32, i64, Option<Vec<u8>>)>;

pub(super) fn tree(folder: &Path) -> Tree {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            found.extend(tree(&path));
        }
        let content = meta.is_file().then(|| fs::read(&path).unwrap());
        found.insert(path, (meta.mode(), meta.mtime_nsec(), content));
    }
    found
}

/// What of a folder is not as it was.
fn changed(folder: &Path, before: &Tree) -> Vec<PathBuf> {
    let now = tree(folder);
    let paths = before.keys().chain(now.keys());
    paths.filter(|&path| before.get(path) != now.get(path)).cloned().collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Changes one byte in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The number of a process that is gone.
fn dead() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn is_root() -> bool {
    tempfile::tempdir().unwrap().path().metadata().unwrap().uid() == 0
}

/// Text without what differs from run to run: ids by their names, then numbers.
fn masked(text: &str, ids: &[(&str, &str)]) -> String {
    let text = ids.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name));
    let mut masked = String::new();
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if masked.ends_with('#') => {}
            true => masked.push('#'),
            false => masked.push(c),
        }
    }
    masked.replace("#.#", "#")
}

/// Would catch: a look that changes something, and a report that scripts cannot read any more.
#[test]
fn a_look_changes_nothing_and_tells_all_in_a_stable_form() {
    let ward = Ward::new();
    let (damaged, orphan) = (ward.another(), ward.another());
    let at = |id: &str, ending: &str| ward.snapshots().join(format!("{id}{ending}"));
    fs::write(at(&damaged, ".tar.zst"), "no bundle").unwrap();
    fs::remove_file(at(&orphan, ".manifest.json")).unwrap();
    fs::remove_file(ward.sum()).unwrap();
    fs::write(ward.snapshots().join("notes.txt"), "").unwrap();
    fs::write(ward.home.path("mem").join(DEAD_TEMP), "").unwrap();
    chmod(&ward.sidecar(), 0o644);
    let ids = [(ward.id.as_str(), "<first>"), (&damaged, "<damaged>"), (&orphan, "<orphan>")];

    let before = tree(ward.home.0.path());
    for (name, args) in [("look", ["doctor"].as_slice()), ("fix", &["doctor", "--fix"])] {
        let said = ward.home.run(&[args, &["--json"]].concat());
        let mut report: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(said.code, 11, "somebody's file is left");
        assert!(report["not_checked"].take().is_array(), "other users' processes, where there are");
        // What the machine's disk has is not ours to foresee.
        let numbers = report["checked"][2].take();
        assert!(text(&numbers).contains(": space in ~/.nexo/state: "), "{numbers}");
        // By id, which is chance.
        report["findings"].as_array_mut().unwrap().sort_by_key(|f| masked(text(&f["path"]), &ids));
        let shown = serde_json::to_string_pretty(&report).unwrap();
        insta::assert_snapshot!(name, masked(&shown, &ids));
        if name == "look" {
            assert_eq!(changed(ward.home.0.path(), &before), [] as [PathBuf; 0]);
        }
    }
    let (left, _) = ward.look();
    assert_eq!(kinds(&left), ["unknown"]);
    let said = ward.home.run(&["doctor"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 2, "{said:?}");
    assert!(lines[0].starts_with("FOUND  unknown: ~/.nexo/state/"), "{said:?}");
    assert!(lines[1].contains("1 finding (0 fixed) in ~/.nexo/state"), "{said:?}");
}

/// Would catch: a delete that is never finished, and a bundle that lost its summary and stays lost, or
/// gets one that says something else.
#[test]
fn half_done_deletes_are_finished_and_orphans_taken_in() {
    let ward = Ward::new();
    let gone = ward.another();
    let of_gone = |ending: &str| ward.snapshots().join(format!("{gone}{ending}"));
    fs::rename(of_gone(".manifest.json"), of_gone(".deleting")).unwrap();
    ward.mends("half_deleted");
    assert!(!of_gone(".tar.zst").exists());

    let sidecar: Value = serde_json::from_slice(&fs::read(ward.sidecar()).unwrap()).unwrap();
    fs::remove_file(ward.sidecar()).unwrap();
    ward.mends("orphan");
    let again: Value = serde_json::from_slice(&fs::read(ward.sidecar()).unwrap()).unwrap();
    assert_eq!(again, sidecar);
    // Without a summary and damaged, it is no snapshot.
    fs::remove_file(ward.sidecar()).unwrap();
    flip(&ward.bundle());
    assert!(ward.mends("orphan")["moved_to"].is_string());
}

/// Would catch: a bundle or a checksum that somebody removed, which is told for ever and cannot be put back.
#[test]
fn what_lost_its_bundle_is_set_aside() {
    let ward = Ward::new();
    let bytes = fs::read(ward.bundle()).unwrap();
    fs::remove_file(ward.bundle()).unwrap();
    fs::rename(ward.sidecar(), ward.home.path("sidecar")).unwrap();
    assert!(ward.mends("leftover")["moved_to"].is_string());
    fs::rename(ward.home.path("sidecar"), ward.sidecar()).unwrap();
    assert!(ward.mends("bundle")["moved_to"].is_string());
    fs::write(ward.bundle(), bytes).unwrap();
    chmod(&ward.bundle(), 0o600);
    ward.mends("orphan");
    assert_eq!(ward.home.json(&["verify", "latest"]).1, 0);
}

/// Would catch: a summary that says what the bundle does not, and stays; one that is thrown away; a good
/// bundle that is set aside for what lies beside it.
#[test]
fn summaries_and_checksums_are_made_anew_from_a_good_bundle() {
    type Harm = fn(&Ward);
    let harms: [(&str, Harm); 6] = [
        ("sidecar", |ward| edit(&ward.sidecar(), |said| said["label"] = json!("forged"))),
        ("sidecar", |ward| edit(&ward.sidecar(), |said| said["bundle_size_bytes"] = json!(7))),
        ("sidecar", |ward| edit(&ward.sidecar(), |said| said["agent_id"] = json!("bob"))),
        ("sidecar", |ward| fs::write(ward.sidecar(), "{").unwrap()),
        ("sum", |ward| fs::remove_file(ward.sum()).unwrap()),
        ("sum", |ward| fs::write(ward.sum(), "junk").unwrap()),
    ];
    for (n, (kind, harm)) in harms.into_iter().enumerate() {
        let ward = Ward::new();
        let (sidecar, sum) = (fs::read(ward.sidecar()).unwrap(), fs::read(ward.sum()).unwrap());
        harm(&ward);
        let harmed = fs::read(ward.sidecar()).unwrap();
        ward.mends(kind);
        assert_eq!(fs::read(ward.sidecar()).unwrap(), sidecar, "{n}");
        assert_eq!(fs::read(ward.sum()).unwrap(), sum, "{n}");
        assert_eq!(ward.home.json(&["verify", "latest"]).1, 0);
        let kept = ward.snapshots().join(".quarantine").join(&ward.id);
        let kept = fs::read(kept.join(ward.sidecar().file_name().unwrap()));
        assert_eq!(kept.ok(), (kind == "sidecar").then_some(harmed), "{n}");
    }
}

/// Would catch: a whole bundle of another snapshot that is given a summary in the place where it lies.
#[test]
fn a_bundle_in_the_wrong_place_is_told_and_left() {
    let ward = Ward::new();
    let other = ward.another();
    fs::copy(ward.snapshots().join(format!("{other}.tar.zst")), ward.bundle()).unwrap();
    assert!(why(&ward.leaves("sidecar")).contains("in the wrong place"));
}

/// Would catch: damage that counts as a snapshot, that is thrown away, or that cannot come back.
#[test]
fn damage_is_set_aside_counts_for_nothing_and_can_come_back() {
    let ward = Ward::new();
    let damaged = ward.another();
    let bundle = ward.snapshots().join(format!("{damaged}.tar.zst"));
    flip(&bundle);
    let bytes = fs::read(&bundle).unwrap();
    // A quick look reads no contents; who read them noted it.
    assert_eq!(ward.home.json(&["verify", &damaged]).1, 4);
    let moved = ward.mends("bundle");
    let aside = ward.home.path(text(&moved["moved_to"]).strip_prefix("~/").unwrap());
    assert!(aside.starts_with(ward.snapshots()), "{moved}");
    assert_eq!(mode(&aside), 0o700);
    let aside = aside.join(bundle.file_name().unwrap());
    assert_eq!(fs::read(&aside).unwrap(), bytes);

    assert_eq!(ward.listed(), 1);
    assert_eq!(ward.home.json(&["list"]).0["problems"], json!([]));
    let (status, code) = ward.home.json(&["status"]);
    let agent = &status["agents"][0]["status"];
    assert_eq!(
        (code, &agent["snapshots"], &agent["last_good"]["id"]),
        (0, &json!(1), &json!(ward.id))
    );
    assert_eq!(ward.home.run(&["delete", &ward.id, "--yes"]).code, 6, "the last good one went");
    let said = ward.home.run(&["prune"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(aside.exists());

    let path = aside.to_str().unwrap();
    assert_eq!(ward.home.json(&["import", path]).1, 4, "it is damaged still");
    flip(&aside);
    let (back, code) = ward.home.json(&["import", path]);
    assert_eq!((code, &back[0]["snapshot"]["id"]), (0, &json!(damaged)), "{back}");
    assert_eq!(ward.listed(), 2);
    assert_eq!(ward.home.json(&["verify", "latest"]).1, 0);
    assert_eq!(ward.look(), (vec![], 0));
    // Set aside twice, it lies there twice.
    flip(&bundle);
    assert_eq!(ward.home.json(&["verify", &damaged]).1, 4);
    assert_ne!(ward.mends("bundle")["moved_to"], moved["moved_to"]);
    assert!(aside.exists());
}

/// Would catch: a snapshot that somebody pinned, moved away.
#[test]
fn what_is_pinned_stays_where_it_is() {
    let ward = Ward::new();
    assert_eq!(ward.home.json(&["pin", "latest", "--reason", "evidence"]).1, 0);
    fs::write(ward.bundle(), "no bundle").unwrap();
    assert!(why(&ward.leaves("bundle")).contains("pinned: evidence"));
}

/// Would catch: a bundle that a newer program wrote, called damaged and moved away, by its summary, by
/// its index, with a summary and without.
#[test]
fn what_is_newer_is_never_set_aside() {
    let ward = Ward::new();
    let sound = fs::read(ward.sidecar()).unwrap();
    edit(&ward.sidecar(), |said| said["manifest_version"] = json!(99));
    ward.leaves("too_new");
    fs::write(ward.sidecar(), sound).unwrap();
    let mut bytes = fs::read(ward.bundle()).unwrap();
    let tag = bytes.windows(7).rposition(|at| at == b"NEXOIDX").unwrap();
    bytes[tag + 7] += 1;
    fs::write(ward.bundle(), bytes).unwrap();
    ward.leaves("too_new");
    fs::remove_file(ward.sidecar()).unwrap();
    assert!(why(&ward.leaves("orphan")).contains("left as it is"));
}

/// Would catch: a bundle that nobody here can open, called damaged and moved away.
#[test]
fn what_is_encrypted_is_never_set_aside() {
    let ward = Ward::new();
    let age = "age-encryption.org/v1\n-> X25519 junk\n";
    fs::remove_file(ward.sidecar()).unwrap();
    // By its name, by its content.
    for sealed in [ward.file(".tar.zst.age"), ward.bundle()] {
        fs::remove_file(ward.bundle()).unwrap();
        fs::remove_file(ward.sum()).unwrap_or_default();
        fs::write(&sealed, age).unwrap();
        chmod(&sealed, 0o600);
        assert!(why(&ward.leaves("orphan")).contains("encrypted"));
        fs::rename(&sealed, ward.bundle()).unwrap();
    }
}

/// Would catch: a disk or a right that fails for a moment, taken for damage.
#[test]
fn what_cannot_be_read_is_never_set_aside() {
    let ward = Ward::new();
    // No file: reading fails whoever asks.
    let bytes = fs::read(ward.bundle()).unwrap();
    fs::remove_file(ward.bundle()).unwrap();
    fs::create_dir(ward.bundle()).unwrap();
    chmod(&ward.bundle(), 0o700);
    ward.leaves("unreadable");
    fs::remove_dir(ward.bundle()).unwrap();
    fs::write(ward.bundle(), bytes).unwrap();
    chmod(&ward.bundle(), 0o600);
    assert_eq!(ward.look(), (vec![], 0));

    for locked in [ward.bundle(), ward.sidecar(), ward.sum()] {
        chmod(&locked, 0);
        let Some((report, code)) = as_stranger(&ward, &["doctor", "--fix"]) else {
            println!("SKIPPED: the program is out of another user's reach");
            return;
        };
        let found = report["findings"].as_array().unwrap();
        assert_eq!(code, 11, "{report}");
        assert!(found.iter().all(|finding| finding["fixed"] == false), "{report}");
        assert!(why(&found[0]).contains("denied"), "{report}");
        assert!(locked.exists() && !ward.snapshots().join(".quarantine").exists());
        chmod(&locked, 0o600);
    }
}

/// Runs it as a user whose rights count, who then owns the home; none where the program is out of such a
/// user's reach.
fn as_stranger(ward: &Ward, args: &[&str]) -> Option<(Value, i32)> {
    let mut command = ward.home.command(&[args, &["--json"]].concat());
    if is_root() {
        let owner = STRANGER.to_string();
        let given = Command::new("chown").args(["-R", &owner]).arg(ward.home.0.path()).status();
        assert!(given.unwrap().success());
        command.uid(STRANGER);
    }
    match command.output() {
        Err(e) if is_root() && e.kind() == std::io::ErrorKind::PermissionDenied => None,
        ran => {
            let ran = ran.unwrap();
            Some((serde_json::from_slice(&ran.stdout).unwrap(), ran.status.code().unwrap()))
        }
    }
}

/// Would catch: bundles that others can read, in a vault that is called well; and a mending that takes the
/// owner's own rights, or touches what is not the vault's.
#[test]
fn what_others_can_reach_is_closed() {
    let ward = Ward::new();
    chmod(&ward.vault(), 0o755);
    chmod(&ward.snapshots(), 0o770);
    chmod(&ward.bundle(), 0o644);
    let (found, code) = ward.look();
    assert_eq!((kinds(&found), code), (vec!["rights"; 2], 11), "{found:?}");
    assert!(found.iter().any(|f| why(f).contains("(0644)") && why(f).contains("chmod")));
    let (mended, code) = ward.mend();
    assert_eq!((kinds(&mended), code), (vec!["rights"; 2], 0), "{mended:?}");
    assert_eq!((mode(&ward.snapshots()), mode(&ward.bundle())), (0o700, 0o600));
    assert_eq!(mode(&ward.vault()), 0o755, "others may have something there");
    assert_eq!(ward.look(), (vec![], 0));

    // Who may rename what is in the root needs no rights below it.
    chmod(&ward.vault(), 0o777);
    assert!(why(&ward.leaves("rights")).contains("chmod go-w"));
    chmod(&ward.vault(), 0o1777);
    assert_eq!(ward.look(), (vec![], 0));
    chmod(&ward.vault(), 0o755);

    // Under a second name it may be somebody's outside.
    fs::hard_link(ward.bundle(), ward.home.path("theirs")).unwrap();
    chmod(&ward.bundle(), 0o644);
    ward.leaves("rights");
}

/// Would catch: files of another user, who can read, change or remove them, that nobody hears of.
#[test]
fn what_belongs_to_others_is_told_and_left() {
    if !is_root() {
        println!("SKIPPED: needs root, who alone can give a file away");
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        return;
    }
    let ward = Ward::new();
    let give = |path: &Path| std::os::unix::fs::chown(path, Some(STRANGER), None).unwrap();
    give(&ward.bundle());
    let found = ward.leaves("owner");
    assert!(why(&found).contains("user 4242") && why(&found).contains("chown"), "{found}");
    std::os::unix::fs::chown(ward.bundle(), Some(0), None).unwrap();
    // Of the memory, what is not of the rest's owner.
    ward.home.write("db/ana.sqlite", "");
    give(&ward.home.path("mem"));
    assert_eq!(ward.leaves("owner")["path"], "~/db/ana.sqlite");
}

/// Would catch: leftovers that stay for ever, and a living process's file that is taken for one.
#[test]
fn what_the_dead_left_goes_and_what_the_living_use_stays() {
    let ward = Ward::new();
    ward.home.write("db/ana.sqlite", "");
    for shared in [ward.vault().join("outbox"), ward.tenant().join("notes")] {
        fs::create_dir_all(&shared).unwrap();
        chmod(&shared, 0o700);
    }
    let folders = [
        ward.vault(),
        ward.vault().join("outbox"),
        ward.tenant().join("notes"),
        ward.snapshots(),
        ward.home.path("mem"),
        ward.home.path("db"),
    ];
    let dead = format!(".nexo-tmp-{}-1f-0", dead());
    let living = format!(".nexo-tmp-{}-1f-0", std::process::id());
    for folder in &folders {
        fs::write(folder.join(&dead), "").unwrap();
        chmod(&folder.join(&dead), 0o600);
    }
    // Where agents share a folder, no lock says who is at work.
    for folder in &folders[..3] {
        fs::write(folder.join(&living), "").unwrap();
        chmod(&folder.join(&living), 0o600);
    }
    let (found, code) = ward.look();
    assert_eq!((kinds(&found), code), (vec!["leftover"; folders.len()], 11), "{found:?}");
    let (mended, code) = ward.mend();
    assert_eq!((mended.len(), code), (folders.len(), 0), "{mended:?}");
    assert!(folders.iter().all(|folder| !folder.join(&dead).exists()));
    assert!(folders[..3].iter().all(|folder| folder.join(&living).exists()));
    assert_eq!(ward.look(), (vec![], 0));
}

/// Would catch: what the agent named alike, left out of its snapshots or removed by any verb; a restore's
/// staging of another vault, taken for what a dead one of this left.
#[test]
fn what_an_agent_named_alike_is_its_own() {
    const STAGING: &str = ".nexo-tmp-57a44b52-9d6e-4d2f-8a1b-4c5d0f3a1b4c";
    let ward = Ward::new();
    let own = [
        "mem/.nexo-tmp-todo.md",
        "mem/.nexo-tmp-notes/keep.md",
        "mem/sub/.nexo-tmp-1/keep.md",
        "mem/sub/.nexo-tmp-4194305-1f-0.bak",
        "db/.nexo-tmp-store-0.sqlite",
    ];
    for path in own {
        ward.home.write(path, "the agent's own");
    }
    let dead_folder = format!("db/{DEAD_TEMP}/keep.md");
    ward.home.write(&dead_folder, "of no atomic write");
    ward.home.write(&format!("mem/{STAGING}/0"), "another vault's");
    let snapshot = ward.another();
    for path in &own[..4] {
        let inside = path.replacen("mem/", "memory_files/", 1);
        let said = ward.home.run(&["cat", &snapshot, &inside]);
        assert_eq!(said.out, "the agent's own", "{said:?}");
    }
    for path in own {
        fs::write(ward.home.path(path), "changed").unwrap();
    }
    let restored = ward.home.run(&["restore", &snapshot, "--agent", "ana", "--yes"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    let told = ward.cannot_mend("unknown");
    assert!(text(&told["path"]).ends_with(STAGING), "{told}");
    for path in &own[..4] {
        assert_eq!(fs::read_to_string(ward.home.path(path)).unwrap(), "the agent's own");
    }
    assert_eq!(fs::read_to_string(ward.home.path(own[4])).unwrap(), "changed");
    assert!(ward.home.path(&dead_folder).exists());
    assert!(ward.home.path("mem").join(STAGING).join("0").exists());
}

/// Would catch: a doctor that clears what a snapshot or restore at work needs.
#[test]
fn while_somebody_is_at_work_nothing_of_it_is_touched() {
    let ward = Ward::new();
    let program = assert_cmd::cargo::cargo_bin!("nexo-memory").display().to_string();
    let hook = format!("touch mem/{DEAD_TEMP}; '{program}' doctor --fix --json > said.json");
    ward.home.write(
        "empty.yaml",
        &format!(
            "memory: {{ snapshot: {{ agents: {{ ana: {{ memdir: mem, hooks: {{ quiesce: \"{hook}\", \
             resume: \"true\", deadline_secs: 60 }} }} }} }} }}"
        ),
    );
    let temp = ward.home.path("mem").join(DEAD_TEMP);
    let (meta, code) = ward.home.json(&["snapshot", "--agent", "ana"]);
    assert_eq!(code, 0, "{meta}");
    let said: Value =
        serde_json::from_slice(&fs::read(ward.home.path("said.json")).unwrap()).unwrap();
    assert_eq!(said["findings"], json!([]), "{said}");
    assert!(said["not_checked"].to_string().contains("somebody is at work"), "{said}");
    assert!(temp.exists());
    ward.mends("leftover");
    assert!(!temp.exists());
}

/// Would catch: a disk that is full at the next snapshot, of which nobody heard; numbers left out.
#[test]
fn space_is_told_in_numbers() {
    const HUGE: u64 = 1 << 43;
    let ward = Ward::new();
    let (report, code) = ward.home.json(&["doctor"]);
    assert_eq!(code, 0, "{report}");
    let checked = report["checked"].to_string();
    assert!(checked.contains("the next snapshot needs up to 42 bytes (42 B), and "), "{checked}");
    File::create(ward.home.path("mem/huge")).unwrap().set_len(HUGE).unwrap();
    let found = ward.cannot_mend("low_space");
    let needed = format!("needs up to {} bytes (16.0 TiB), and ", 2 * HUGE + 42);
    assert!(why(&found).contains(&needed) && why(&found).contains(" are free"), "{found}");
}

/// Would catch: an agent whose SQLite loses writes, of which nobody heard; a fixed one that is accused; a
/// process without any SQLite of which something is claimed.
#[test]
fn an_old_sqlite_is_seen_in_the_process_that_has_it() {
    let ward = Ward::new();
    let database = PathBuf::from(ward.home.write("db/ana.sqlite", "x"));
    let marks = |version: &str, day: &str| format!("\0{version}\0{day} 14:03:47 {HASH}\0");
    let start = |name: &str, marks: &str| Holder::start(&ward.home, name, marks, &database);

    let old = start("old-agent", &marks("3.51.2", "2026-01-09"));
    let found = ward.cannot_mend("old_sqlite");
    let says =
        ["old-agent", &format!("process {}", old.0.id()), "SQLite 3.51.2", "WAL-reset", "3.51.3"];
    assert!(says.iter().all(|word| why(&found).contains(word)), "{found}");
    assert_eq!(found["path"], "~/db/ana.sqlite");
    drop(old);

    for fixed in [("3.51.3", "2026-03-13"), ("3.50.7", "2026-03-13"), ("3.44.6", "2026-03-13")] {
        let _new = start("new-agent", &marks(fixed.0, fixed.1));
        assert_eq!(ward.look(), (vec![], 0), "{fixed:?}");
    }
    let _none = start("no-sqlite", "");
    let (report, code) = ward.home.json(&["doctor"]);
    assert_eq!((&report["findings"], code), (&json!([]), 0), "{report}");
    assert!(report["not_checked"].to_string().contains("the SQLite of no-sqlite"), "{report}");
    let said = ward.home.run(&["doctor"]);
    assert!(said.err.contains("not looked at: the SQLite of no-sqlite"), "{said:?}");
}
