//! The history of a bundle, searched and redacted, judged by the real `git`.

use std::fs;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use snapshot_core::{
    Control, FoundSecret, GitHistory, GitInfo, GitOid, NameOf, Redactor, SecretPlace, SecretSearch,
};
use snapshot_stores::StoresError;
use snapshot_stores::git::{self, RedactedHistory};

use crate::support::{MAX_OBJECT, Scene, git_in, git_with_input};

/// What a planted secret begins with; lower-case letters and digits follow.
const PLANTED: &str = "SECRET-";

/// Everything of the form `SECRET-[a-z0-9]+` is a secret.
struct Rule;

fn secrets(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].windows(PLANTED.len()).position(|w| w == PLANTED.as_bytes())
    {
        let start = at + start;
        let tail = bytes[start + PLANTED.len()..].iter();
        let end = start
            + PLANTED.len()
            + tail.take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).count();
        at = start + PLANTED.len();
        if end > at {
            found.push(start..end);
            at = end;
        }
    }
    found
}

fn replaced(bytes: &[u8], by: impl Fn(&[u8]) -> String) -> Option<Vec<u8>> {
    let (mut new, mut copied) = (Vec::new(), 0);
    for secret in secrets(bytes) {
        new.extend_from_slice(&bytes[copied..secret.start]);
        new.extend_from_slice(by(&bytes[secret.clone()]).as_bytes());
        copied = secret.end;
    }
    (copied > 0).then(|| [&new[..], &bytes[copied..]].concat())
}

impl SecretSearch for Rule {
    fn search(&self, bytes: &[u8]) -> Vec<FoundSecret> {
        let found = |range: Range<usize>| FoundSecret {
            value: bytes[range.clone()].to_vec(),
            rule: "test".into(),
            range,
            is_key: false,
        };
        secrets(bytes).into_iter().map(found).collect()
    }
}

impl Redactor for Rule {
    fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        replaced(bytes, |_| "[REDACTED:test]".to_owned())
    }

    fn redact_name(&self, name: &[u8], of: NameOf) -> Option<Vec<u8>> {
        // Different secrets stay different, but for two that are made to collide.
        let tail = |secret: &[u8]| {
            let tail = secret[PLANTED.len()..].iter().map(|b| char::from(*b)).rev();
            tail.collect::<String>().replace("eno", "x").replace("owt", "x")
        };
        replaced(name, |secret| match of {
            NameOf::File => format!("[REDACTED:test-{}]", tail(secret)),
            NameOf::Ref => format!("redacted-{}", tail(secret)),
        })
    }
}

fn redact(scene: &Scene, mode: GitHistory) -> Result<(RedactedHistory, Vec<u8>), StoresError> {
    let (bytes, info) = scene.git_bytes();
    redact_bytes(scene, &bytes, &info, mode)
}

fn redact_bytes(
    scene: &Scene,
    bytes: &[u8],
    info: &GitInfo,
    mode: GitHistory,
) -> Result<(RedactedHistory, Vec<u8>), StoresError> {
    let (spool, control) = (scene.dir("spool"), Control::default());
    let mut bundle = Cursor::new(bytes);
    let done =
        git::redact_history(Some(&mut bundle), info, mode, &Rule, &spool, MAX_OBJECT, &control);
    assert!(fs::read_dir(scene.at("spool")).unwrap().next().is_none(), "the spool is left empty");
    let mut done = done?;
    let mut new = Vec::new();
    done.bundle.file.as_mut().unwrap().0.read_to_end(&mut new).unwrap();
    Ok((done, new))
}

fn scan(scene: &Scene, bytes: &[u8], info: &GitInfo) -> Vec<SecretPlace> {
    let mut found = Vec::new();
    let mut bundle = Cursor::new(bytes);
    git::scan_history(
        Some(&mut bundle),
        info,
        &scene.dir("spool"),
        &Rule,
        MAX_OBJECT,
        &Control::default(),
        &mut |place, secret| {
            assert!(secret.value.starts_with(PLANTED.as_bytes()));
            assert!(!place.place.contains(PLANTED), "{} shows it", place.place);
            found.push(place);
        },
    )
    .unwrap();
    assert!(fs::read_dir(scene.at("spool")).unwrap().next().is_none(), "the spool is left empty");
    found
}

/// A bundle, read by stock git into a bare repository.
fn unbundled(scene: &Scene, bytes: &[u8], info: &GitInfo) -> PathBuf {
    fs::write(scene.at("redacted.bundle"), bytes).unwrap();
    let at = scene.at("unbundled");
    let _ = fs::remove_dir_all(&at);
    git_in(scene.tmp.path(), &["init", "-q", "--bare", "-b", "none", "unbundled"]);
    let shallow: String = info.shallow.iter().map(|oid| format!("{oid}\n")).collect();
    if !shallow.is_empty() {
        fs::write(at.join("shallow"), shallow).unwrap();
    }
    let mut fetch = vec!["fetch", "-q", "../redacted.bundle", "+refs/*:refs/*"];
    fetch.extend(info.head_oid.as_ref().map(|_| "+HEAD:refs/head"));
    git_in(&at, &fetch);
    let problems = git_in(&at, &["fsck", "--strict", "--full", "--no-dangling"]);
    assert_eq!(problems, "", "as stock git sees it");
    at
}

/// Every byte that stock git shows of a repository.
fn everything(repo: &Path) -> String {
    let batch = ["cat-file", "--batch-all-objects", "--batch", "--unordered"];
    [
        git_in(repo, &["log", "--all", "-p", "-m", "--format=raw", "--show-notes=*"]),
        git_in(repo, &batch),
        git_in(repo, &["for-each-ref"]),
    ]
    .concat()
}

/// Redacts it, and holds the result against what was planted.
fn clean(scene: &Scene, mode: GitHistory) -> (RedactedHistory, PathBuf) {
    let (bytes, info) = scene.git_bytes();
    clean_bytes(scene, &bytes, &info, mode)
}

fn clean_bytes(
    scene: &Scene,
    bytes: &[u8],
    info: &GitInfo,
    mode: GitHistory,
) -> (RedactedHistory, PathBuf) {
    assert!(!scan(scene, bytes, info).is_empty(), "nothing is planted");
    let (redacted, bytes) = redact_bytes(scene, bytes, info, mode).unwrap();
    let info = &redacted.bundle.info;
    assert_eq!(scan(scene, &bytes, info), [], "it is clean");
    let repo = unbundled(scene, &bytes, info);
    let text = everything(&repo) + &serde_json::to_string(info).unwrap();
    assert!(!text.contains(PLANTED));
    for (old, new) in &redacted.ids {
        assert_ne!(old, new);
        assert!(!text.contains(old.as_str()), "{old} is an old id");
    }
    (redacted, repo)
}

fn new_of(redacted: &RedactedHistory, old: &str) -> String {
    let old: GitOid = old.parse().unwrap();
    redacted.ids.get(&old).map_or_else(|| old.to_string(), ToString::to_string)
}

fn head(scene: &Scene) -> String {
    scene.git(&["rev-parse", "HEAD"])
}

/// Writes a crafted commit and moves the branch to it.
fn crafted_commit(scene: &Scene, content: &[u8]) -> String {
    let id = git_with_input(
        &scene.mem(),
        &["hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        content,
    );
    scene.git(&["update-ref", "refs/heads/main", &id]);
    id
}

/// A repository with a secret in its second commit of four, a merge, and what else git knows.
fn rich_scene() -> Scene {
    let scene = Scene::new();
    scene.git(&["init", "-q", "-b", "main"]);
    scene.write("MEMORY.md", "one\n");
    scene.write("run.sh", "#!/bin/sh\n");
    scene.write("a/keys.txt", "nothing\n");
    symlink("MEMORY.md", scene.mem().join("link")).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.mem().join("run.sh"), executable).unwrap();
    scene.commit("clean");
    scene.git(&["tag", "-a", "clean", "-m", "nothing in it"]);
    scene.write("MEMORY.md", "one\nmy password is SECRET-one1\n");
    scene.write("a/SECRET-name1.txt", "a");
    scene.write("b/SECRET-name1.txt", "b");
    scene.commit("learned");
    let learned = head(&scene);
    scene.git(&["checkout", "-q", "-b", "side", "HEAD~1"]);
    scene.write("side.md", "side\n");
    scene.commit(&format!("side, see {learned} and {}", &learned[..9]));
    scene.git(&["checkout", "-q", "main"]);
    scene.git(&["revert", "--no-edit", &learned]);
    scene.git(&["merge", "-q", "--no-ff", "-m", "Merge SECRET-merge1", "side"]);
    scene
}

/// Would catch: any of the rewriting that stock git or a reader of old ids would notice.
#[test]
fn a_rich_history_is_clean_and_sound() {
    let scene = rich_scene();
    let learned = scene.git(&["rev-parse", "HEAD^1~1"]);
    scene.git(&["tag", "-a", "v1-SECRET-tag1", "-m", "for SECRET-tag2", "HEAD"]);
    scene.git(&["tag", "-a", "nested", "-m", "a tag of a tag", "v1-SECRET-tag1"]);
    scene.git(&["tag", "of-blob", &format!("{learned}:MEMORY.md")]);
    scene.git(&["tag", "of-tree", &format!("{learned}:a")]);
    scene.git(&["branch", "topic/SECRET-branch1"]);
    scene.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/topic/SECRET-branch1"]);
    scene.git(&["notes", "add", "-m", "note SECRET-note1", &learned]);
    scene.git(&["notes", "add", "-m", "of the first", "clean^{commit}"]);
    scene.git(&["update-ref", &format!("refs/keep/{learned}"), &learned]);
    scene.write("MEMORY.md", "stashed SECRET-stash1\n");
    scene.write("untracked.md", "untracked SECRET-stash2\n");
    scene.git(&["stash", "push", "-q", "--include-untracked"]);
    scene.write("MEMORY.md", "again\n");
    scene.git(&["stash", "push", "-q", "-m", "named SECRET-stash3"]);
    scene.git(&["pack-refs", "--all"]);

    let (redacted, repo) = clean(&scene, GitHistory::Rewrite);
    let git = |args: &[&str]| git_in(&repo, args);
    let shape = ["log", "--all", "--format=%at %ct %ad %cd %an %ae", "--date=raw", "--topo-order"];
    // The stash's own ref stands for its entries here.
    let mut old: Vec<String> = scene.git(&shape).lines().map(str::to_owned).collect();
    let mut new: Vec<String> = git(&shape).lines().map(str::to_owned).collect();
    old.sort();
    new.sort();
    assert!(new.len() >= old.len());
    assert_eq!(old, new[..old.len()], "dates and people stay");

    // What leads to no secret keeps its id.
    let clean_tag = scene.git(&["rev-parse", "refs/tags/clean"]);
    assert_eq!(git(&["rev-parse", "refs/tags/clean"]), clean_tag);
    assert!(redacted.ids.len() >= 12);

    // A mention leads to the new commit.
    let new_learned = new_of(&redacted, &learned);
    assert_ne!(new_learned, learned);
    let revert = git(&["log", "-1", "--format=%B", "refs/head^1"]);
    assert!(revert.contains(&format!("This reverts commit {new_learned}")), "{revert}");
    let side = git(&["log", "-1", "--format=%B", "refs/head^2"]);
    assert_eq!(side, format!("side, see {new_learned} and {}", &new_learned[..9]));
    assert_eq!(git(&["rev-parse", &format!("refs/keep/{new_learned}")]), new_learned);

    // Notes are found for the new ids.
    assert_eq!(git(&["notes", "show", &new_learned]), "note [REDACTED:test]");
    assert_eq!(git(&["notes", "show", "clean^{commit}"]), "of the first");

    // Names, modes and contents.
    let listed = git(&["ls-tree", "-r", &new_learned]);
    assert!(listed.contains("100755 blob") && listed.contains("120000 blob"), "{listed}");
    for name in ["a/[REDACTED:test-1eman].txt", "b/[REDACTED:test-1eman].txt"] {
        assert!(listed.contains(name), "{listed}");
    }
    let file = git(&["show", &format!("{new_learned}:MEMORY.md")]);
    assert_eq!(file, "one\nmy password is [REDACTED:test]");
    assert_eq!(git(&["cat-file", "-t", "of-blob"]), "blob");
    assert_eq!(git(&["cat-file", "-t", "of-tree"]), "tree");

    // Tags, refs and the symbolic one.
    let tag = git(&["cat-file", "tag", "v1-redacted-1gat"]);
    assert!(
        tag.contains("\ntag v1-redacted-1gat\n") && tag.ends_with("for [REDACTED:test]"),
        "{tag}"
    );
    let nested = git(&["cat-file", "tag", "nested"]);
    assert!(nested.starts_with(&format!("object {}", git(&["rev-parse", "v1-redacted-1gat"]))));
    let info = &redacted.bundle.info;
    let symbolic = info.refs.iter().find(|r| r.name == "refs/remotes/origin/HEAD").unwrap();
    assert_eq!(symbolic.target.as_deref(), Some("refs/heads/topic/redacted-1hcnarb"));
    assert_eq!(info.head_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!(info.head_subject.as_deref(), Some("Merge [REDACTED:test]"));

    // The stash comes back and says where it was made.
    let head = info.head_oid.as_ref().unwrap().to_string();
    assert_eq!(info.stash[0].message, "On main: named [REDACTED:test]");
    let wip = format!("WIP on main: {} Merge [REDACTED:test]", &head[..7]);
    assert_eq!(info.stash[1].message, wip);
    assert_eq!(git(&["rev-parse", "refs/nexo/stash/1^1"]), head);
    let untracked = git(&["show", "refs/nexo/stash/1^3:untracked.md"]);
    assert_eq!(untracked, "untracked [REDACTED:test]");
    assert_eq!(git(&["log", "-1", "--format=%B", "refs/nexo/stash/1"]), wip);
    let other = Scene::new();
    let bytes = fs::read(scene.at("redacted.bundle")).unwrap();
    other.restore_git(Some(&bytes), info).unwrap();
    let stashes = other.git(&["stash", "list"]);
    assert!(stashes.ends_with(&format!("stash@{{1}}: {wip}")), "{stashes}");
}

/// Would catch: a path without end, which a crafted history can have.
#[test]
fn a_long_path_is_told_from_its_end() {
    let scene = Scene::with_history();
    let file = format!("{}key.md", "deep/".repeat(40));
    scene.write(&file, "SECRET-1");
    scene.commit("x");
    let (bytes, info) = scene.git_bytes();
    let found = scan(&scene, &bytes, &info);
    assert!(
        found[0].place.ends_with(", .../deep/deep/deep/deep/deep/deep/deep/deep/key.md"),
        "{found:?}"
    );
    clean(&scene, GitHistory::Rewrite);
}

/// Would catch: a result that depends on seeds of hashes, or on what lay in the spool.
#[test]
fn the_same_history_gives_the_same_bytes() {
    let scene = rich_scene();
    let (_, first) = redact(&scene, GitHistory::Rewrite).unwrap();
    let (_, again) = redact(&scene, GitHistory::Rewrite).unwrap();
    assert_eq!(first, again);
    // What is clean stays as it is.
    let clean = Scene::with_history();
    let (bytes, info) = clean.git_bytes();
    let (redacted, new) = redact(&clean, GitHistory::Rewrite).unwrap();
    assert!(redacted.ids.is_empty());
    assert_eq!((new, &redacted.bundle.info), (bytes, &info));
}

/// One secret, in one place of a repository.
fn planted_in(kind: &str) -> Scene {
    let scene = Scene::with_history();
    let tree = scene.git(&["rev-parse", "HEAD^{tree}"]);
    let parent = head(&scene);
    match kind {
        "blob" => {
            scene.write("deep/down/key.md", "SECRET-1");
            scene.commit("x");
        }
        "link" => {
            symlink("SECRET-1", scene.mem().join("link")).unwrap();
            scene.commit("x");
        }
        "tree" => {
            scene.write("deep/SECRET-1/x", "x");
            scene.commit("x");
        }
        "message" => scene.commit("x SECRET-1"),
        "author" => {
            scene.git(&["commit", "-q", "--allow-empty", "-m", "x", "--author=A SECRET-1 <a@b>"]);
        }
        "mail" => {
            scene.git(&["commit", "-q", "--allow-empty", "-m", "x", "--author=A <SECRET-1>"]);
        }
        "tagger" => {
            scene.git(&["-c", "user.name=x", "tag", "-a", "t", "-m", "x"]);
            let tag = scene.git(&["cat-file", "tag", "t"]).replace("Ana", "SECRET-1") + "\n";
            let id = git_with_input(&scene.mem(), &["mktag"], tag.as_bytes());
            scene.git(&["update-ref", "refs/tags/t", &id]);
        }
        "tag" => drop(scene.git(&["tag", "-a", "t", "-m", "x SECRET-1"])),
        "tag name" => {
            scene.git(&["tag", "-a", "SECRET-1", "-m", "x"]);
            scene.git(&["update-ref", "refs/tags/t", "refs/tags/SECRET-1"]);
            scene.git(&["update-ref", "-d", "refs/tags/SECRET-1"]);
        }
        "note" => drop(scene.git(&["notes", "add", "-m", "SECRET-1"])),
        "stash" => {
            scene.write("MEMORY.md", "x");
            scene.git(&["stash", "push", "-q", "-m", "SECRET-1"]);
        }
        "ref" => drop(scene.git(&["branch", "deep/SECRET-1/x"])),
        "symbolic ref" => {
            scene.git(&["symbolic-ref", "refs/remotes/o/HEAD", "refs/remotes/o/SECRET-1"]);
        }
        "HEAD" => drop(scene.git(&["symbolic-ref", "HEAD", "refs/heads/SECRET-1"])),
        header => {
            let header = match header {
                "header" => "note x SECRET-1",
                "header's label" => "SECRET-1 x",
                "continued header" => "note x\n y\n \n SECRET-1",
                "encoding" => "encoding SECRET-1",
                "gpgsig" => "gpgsig -----BEGIN PGP SIGNATURE-----\n SECRET-1",
                _ => panic!("{header} is not known"),
            };
            let who = "Ana <ana@example.org> 1700000000 +0000";
            let text = format!(
                "tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n{header}\n\nx\n"
            );
            crafted_commit(&scene, text.as_bytes());
        }
    }
    scene
}

/// Would catch: a place that the search, and with it the receipt, does not look at; and one that is
/// searched but not redacted.
#[test]
fn a_secret_is_found_and_taken_out_wherever_it_is() {
    let places = [
        ("blob", ", deep/down/key.md", false),
        ("link", ", link", false),
        ("tree", ", the name deep/[REDACTED:test]", true),
        ("message", ", message", false),
        ("author", ", author", false),
        ("mail", ", author", false),
        ("tagger", ", tagger", false),
        ("tag", ", message", false),
        ("tag name", ", name", true),
        ("note", "blob ", false),
        ("stash", "stash 0, message", false),
        ("ref", "ref refs/heads/deep/[REDACTED:test]/x", true),
        ("symbolic ref", "ref refs/remotes/o/[REDACTED:test]", true),
        ("HEAD", "ref refs/heads/[REDACTED:test]", true),
        ("header", ", header", false),
        ("header's label", ", header", false),
        ("continued header", ", header", false),
        ("encoding", ", header", false),
        ("gpgsig", ", signature", false),
    ];
    for (kind, place, is_key) in places {
        let scene = planted_in(kind);
        let (bytes, info) = scene.git_bytes();
        let found = scan(&scene, &bytes, &info);
        let is_there = |f: &SecretPlace| f.place.contains(place) && f.is_key == is_key;
        assert!(found.iter().any(is_there), "{kind}: {found:?}");
        let (redacted, _) = clean(&scene, GitHistory::Rewrite);
        let head = redacted.bundle.info.head_author.as_deref();
        if kind == "author" {
            assert_eq!(head, Some("A [REDACTED:test] <a@b>"));
        }
        assert_eq!(redacted.signatures_dropped, u64::from(kind == "gpgsig"), "{kind}");
    }
}

/// Would catch: a bare hexadecimal name of a note that stays, or is put where git does not look.
#[test]
fn notes_that_are_fanned_out_are_fanned_out_again() {
    let scene = Scene::with_history();
    let first = scene.git(&["rev-parse", "HEAD~1"]);
    scene.write("MEMORY.md", "SECRET-1\n");
    scene.commit("learned");
    let learned = head(&scene);
    scene.write("MEMORY.md", "three\n");
    scene.commit("third");
    let third = head(&scene);
    let tree = |text: String| git_with_input(&scene.mem(), &["mktree"], text.as_bytes());
    let blob = |text: &[u8]| git_with_input(&scene.mem(), &["hash-object", "-w", "--stdin"], text);
    let note = |name: &str, text: &str| format!("100644 blob {}\t{name}\n", blob(text.as_bytes()));
    let deep = tree(note(&learned[4..], "deep") + &note("README", "of notes"));
    let folder = |id: &str, name: &str| format!("040000 tree {id}\t{name}\n");
    let middle = tree(folder(&deep, &learned[2..4]));
    let shallow = tree(note(&third[2..], "fanned"));
    let (left, right) = (folder(&middle, &learned[..2]), folder(&shallow, &third[..2]));
    assert_ne!(learned[..2], third[..2]);
    let root = tree(left + &right + &note(&first, "flat"));
    let commit = scene.git(&["commit-tree", "-m", "notes", &root]);
    scene.git(&["update-ref", "refs/notes/commits", &commit]);
    for (id, text) in [(&first, "flat"), (&learned, "deep"), (&third, "fanned")] {
        assert_eq!(scene.git(&["notes", "show", id]), text, "git reads what was crafted");
    }

    let (redacted, repo) = clean(&scene, GitHistory::Rewrite);
    for (old, text) in [(&first, "flat"), (&learned, "deep"), (&third, "fanned")] {
        let new = new_of(&redacted, old);
        assert_eq!(git_in(&repo, &["notes", "show", &new]), text);
    }
    let listed = git_in(&repo, &["ls-tree", "-r", "--name-only", "refs/notes/commits"]);
    let (new, third) = (new_of(&redacted, &learned), new_of(&redacted, &third));
    let mut expected = vec![
        first,
        format!("{}/{}/{}", &new[..2], &new[2..4], &new[4..]),
        format!("{}/{}/README", &learned[..2], &learned[2..4]),
        format!("{}/{}", &third[..2], &third[2..]),
    ];
    expected.sort();
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, expected);
}

/// Would catch: a void signature that ships, and a good one that is lost.
#[test]
fn signatures_stay_on_what_stays() {
    let scene = Scene::with_history();
    let signed = |scene: &Scene, text: &str| {
        let (tree, parent) = (scene.git(&["rev-parse", "HEAD^{tree}"]), head(scene));
        let who = "Ana <ana@example.org> 1700000000 +0000";
        let signature = "-----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----";
        let merged = format!("object {parent}\n type commit\n tag t\n \n x");
        let content = format!(
            "tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\ngpgsig {signature}\n\
             gpgsig-sha256 {signature}\nmergetag {merged}\nnote kept\n\n{text}\n"
        );
        crafted_commit(scene, content.as_bytes())
    };
    let tagged = |scene: &Scene, name: &str, text: &str| {
        let text =
            format!("{text}\n-----BEGIN SSH SIGNATURE-----\nabc\n-----END SSH SIGNATURE-----");
        scene.git(&["tag", "-a", name, "-m", &text]);
        scene.git(&["rev-parse", &format!("refs/tags/{name}")])
    };
    let good = signed(&scene, "clean");
    let good_tag = tagged(&scene, "good", "clean");
    signed(&scene, "SECRET-1");
    tagged(&scene, "void", "clean");
    let (redacted, repo) = clean(&scene, GitHistory::Rewrite);
    let git = |args: &[&str]| git_in(&repo, args);
    assert_eq!(git(&["rev-parse", "refs/head~1"]), good);
    assert_eq!(git(&["rev-parse", "refs/tags/good"]), good_tag);
    assert_eq!(redacted.signatures_dropped, 4);
    let commit = git(&["cat-file", "commit", "refs/head"]);
    assert!(!commit.contains("gpgsig") && !commit.contains("mergetag"), "{commit}");
    assert!(commit.contains("\nnote kept\n\n[REDACTED:test]"), "{commit}");
    let tag = git(&["cat-file", "tag", "void"]);
    assert!(tag.ends_with("\n\nclean"), "{tag}");
}

/// Would catch: a message in another encoding that is turned into garbage.
#[test]
fn another_encoding_stays() {
    let scene = Scene::with_history();
    scene.write("message", b"caf\xe9 SECRET-1\n");
    scene.git(&[
        "-c",
        "i18n.commitEncoding=iso-8859-1",
        "commit",
        "-q",
        "--allow-empty",
        "-F",
        "message",
    ]);
    let (_, repo) = clean(&scene, GitHistory::Rewrite);
    let log = ["log", "-1", "--encoding=utf-8", "--format=%e %s", "refs/head"];
    assert_eq!(git_in(&repo, &log), "iso-8859-1 café [REDACTED:test]");
}

/// Would catch: a submodule's commit that is looked for, an empty tree that gets lost, a tree whose
/// entries are left in the order of their old names.
#[test]
fn submodules_empty_trees_and_the_order_of_names() {
    let scene = Scene::with_history();
    let id = git_with_input(&scene.mem(), &["hash-object", "-w", "--stdin"], b"x");
    let far = "1234567890123456789012345678901234567890";
    let tree = format!(
        "100644 blob {id}\tSECRET-a\n100644 blob {id}\tZ\n160000 commit {far}\tsub\n\
         040000 tree {}\tSECRET-b\n100644 blob {id}\tSECRET-b.txt\n100644 blob {id}\t[a.txt\n",
        git_with_input(&scene.mem(), &["mktree"], b""),
    );
    let tree = git_with_input(&scene.mem(), &["mktree"], tree.as_bytes());
    let commit = scene.git(&["commit-tree", "-m", "x", &tree]);
    scene.git(&["update-ref", "refs/heads/main", &commit]);
    let (_, repo) = clean(&scene, GitHistory::Rewrite);
    let listed = git_in(&repo, &["ls-tree", "refs/head"]);
    assert!(listed.contains(&format!("160000 commit {far}\tsub")), "{listed}");
    assert!(listed.contains("040000 tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904"), "{listed}");
}

/// Would catch: parents beyond the cut that are looked for, and a cut at commits that are gone.
#[test]
fn a_shallow_history_stays_shallow() {
    let far = Scene::with_history();
    far.write("MEMORY.md", "SECRET-1\n");
    far.commit("third");
    far.write("MEMORY.md", "four\n");
    far.commit("fourth");
    let scene = Scene::new();
    fs::remove_dir(scene.mem()).unwrap();
    let url = format!("file://{}", far.mem().display());
    git_in(scene.tmp.path(), &["clone", "-q", "--depth", "2", &url, "mem"]);
    let (_, info) = scene.git_bytes();
    let (redacted, repo) = clean(&scene, GitHistory::Rewrite);
    let new = &redacted.bundle.info.shallow;
    assert_eq!(new, &[new_of(&redacted, info.shallow[0].as_str()).parse().unwrap()]);
    assert_ne!(new, &info.shallow);
    assert_eq!(git_in(&repo, &["rev-list", "--count", "refs/head"]), "2");
}

/// Would catch: a HEAD that comes back on a branch, or on none, where it was not so.
#[test]
fn a_detached_head_and_a_secret_branch() {
    let scene = rich_scene();
    scene.git(&["checkout", "-q", "-b", "SECRET-branch"]);
    let (redacted, _) = clean(&scene, GitHistory::Rewrite);
    assert_eq!(redacted.bundle.info.head_ref.as_deref(), Some("refs/heads/redacted-hcnarb"));
    scene.git(&["checkout", "-q", "--detach"]);
    let old = head(&scene);
    let (redacted, _) = clean(&scene, GitHistory::Rewrite);
    let info = &redacted.bundle.info;
    assert_eq!(info.head_ref, None);
    assert_eq!(info.head_oid.as_ref().unwrap().as_str(), new_of(&redacted, &old));
}

/// Would catch: a branch without commits whose name ships as it is.
#[test]
fn a_repository_without_commits_keeps_its_branch() {
    let scene = Scene::new();
    scene.git(&["init", "-q", "-b", "SECRET-trunk"]);
    let info = scene.bundle_git().unwrap().info;
    for mode in [GitHistory::Rewrite, GitHistory::HeadOnly] {
        let (spool, control) = (scene.dir("spool"), Control::default());
        let redacted =
            git::redact_history(None, &info, mode, &Rule, &spool, MAX_OBJECT, &control).unwrap();
        assert!(redacted.bundle.file.is_none());
        let name = redacted.bundle.info.head_ref.as_deref();
        assert_eq!(name, Some("refs/heads/redacted-knurt"));
    }
}

/// Would catch: anything of the history that HEAD alone was to stand for.
#[test]
fn head_alone() {
    for is_detached in [false, true] {
        let scene = rich_scene();
        scene.write("MEMORY.md", "kept SECRET-kept\n");
        let learned = scene.git(&["rev-parse", "HEAD^1~1"]);
        scene.write("log.md", format!("as {learned} says\n"));
        scene.commit("last SECRET-last\n\nand more");
        scene.git(&["branch", "other"]);
        scene.git(&["notes", "add", "-m", "a note"]);
        scene.write("MEMORY.md", "stashed\n");
        scene.git(&["stash", "push", "-q"]);
        if is_detached {
            scene.git(&["checkout", "-q", "--detach"]);
        }
        let old = head(&scene);
        let (redacted, repo) = clean(&scene, GitHistory::HeadOnly);
        let git = |args: &[&str]| git_in(&repo, args);
        let info = &redacted.bundle.info;
        assert_eq!(info.head_oid.as_ref().unwrap().as_str(), new_of(&redacted, &old));
        assert_eq!(info.head_ref.is_none(), is_detached);
        assert_eq!(info.refs.len(), usize::from(!is_detached));
        assert!(info.stash.is_empty());
        assert_eq!(git(&["rev-list", "--all", "--count"]), "1");
        let body = git(&["log", "-1", "--format=%B%an %at %ct", "refs/head"]);
        let expected = "last [REDACTED:test]\n\nRedacted: the history before this is not part of this \
                        snapshot\nAna 1700000000 1700000000";
        assert_eq!(body, expected);
        assert_eq!(git(&["show", "refs/head:MEMORY.md"]), "kept [REDACTED:test]");
        let log = git(&["show", "refs/head:log.md"]);
        assert_eq!(log, format!("as {} says", new_of(&redacted, &learned)));
    }
}

/// Would catch: a file or a branch that silently takes another's place.
#[test]
fn names_that_become_one_are_refused() {
    let scene = Scene::with_history();
    scene.git(&["branch", "SECRET-one"]);
    scene.git(&["branch", "SECRET-two"]);
    let error = redact(&scene, GitHistory::Rewrite).unwrap_err();
    assert!(matches!(&error, StoresError::Unredactable { .. }), "{error}");
    assert!(error.to_string().contains("refs/heads/redacted-x"), "{error}");

    let scene = Scene::with_history();
    scene.write("SECRET-one", "1");
    scene.write("SECRET-two", "2");
    scene.commit("both");
    let error = redact(&scene, GitHistory::Rewrite).unwrap_err();
    assert!(matches!(&error, StoresError::Unredactable { .. }), "{error}");
}

/// Would catch: a history that is dropped and whose ids are told as if it were there.
#[test]
fn of_a_dropped_history_no_id_is_left() {
    let scene = rich_scene();
    let objects = scene.git(&["rev-list", "--all", "--objects"]).lines().count();
    let (spool, control) = (scene.dir("spool"), Control::default());
    let (bytes, info) = scene.git_bytes();
    let mut bundle = Cursor::new(bytes);
    let mode = GitHistory::Drop;
    let done =
        git::redact_history(Some(&mut bundle), &info, mode, &Rule, &spool, MAX_OBJECT, &control);
    let done = done.unwrap();
    assert!(done.bundle.file.is_none() && done.bundle.info == GitInfo::default());
    assert!(done.ids.len() >= objects && objects > 5, "{} of {objects}", done.ids.len());
    assert!(done.ids.values().all(|new| new.as_str() == "0".repeat(40)));
}

/// Would catch: an endless loop. The commit's abbreviation was made to be what its message says.
#[test]
fn a_commit_that_mentions_itself_is_refused() {
    let scene = Scene::with_history();
    let empty = git_with_input(&scene.mem(), &["mktree"], b"");
    let who = "A <a> 1700000000 +0000";
    let content = format!(
        "tree {empty}\nauthor {who}\ncommitter {who}\n\n\
         as 1234567 says, SECRET-self, seed 1, nonce 086525361\n"
    );
    let id = crafted_commit(&scene, content.as_bytes());
    assert!(id.starts_with("1234567"), "{id}");
    let error = redact(&scene, GitHistory::Rewrite).unwrap_err();
    assert!(matches!(&error, StoresError::Unredactable { .. }), "{error}");
}

/// Would catch: a limit that only captures and restores keep.
#[test]
fn objects_over_the_limit_are_refused() {
    let scene = rich_scene();
    let (bytes, info) = scene.git_bytes();
    let (spool, control, mut bundle) = (scene.dir("spool"), Control::default(), Cursor::new(bytes));
    let done = git::redact_history(
        Some(&mut bundle),
        &info,
        GitHistory::Rewrite,
        &Rule,
        &spool,
        40,
        &control,
    );
    assert!(matches!(done, Err(StoresError::GitObjectTooLarge { limit: 40, .. })));
    assert!(fs::read_dir(scene.at("spool")).unwrap().next().is_none());
}

/// A commit of a random history.
#[derive(Debug, Clone)]
struct Made {
    /// How far back its parents lie.
    parents: Vec<usize>,
    /// A file and what it holds.
    file: (u8, u8),
    says_secret: bool,
    /// How far back a commit lies that its message mentions, and by how many digits; and one for its file.
    mentions: Option<(usize, usize)>,
    file_mentions: Option<usize>,
}

fn history() -> impl Strategy<Value = Vec<Made>> {
    let back = 1..6usize;
    let made = (
        proptest::collection::vec(back.clone(), 0..4),
        (0..4u8, 0..4u8),
        proptest::bool::weighted(0.1),
        proptest::option::of((back.clone(), 7..=40usize)),
        proptest::option::weighted(0.3, back),
    );
    let made = made.prop_map(|(parents, file, says_secret, mentions, file_mentions)| Made {
        parents,
        file,
        says_secret,
        mentions,
        file_mentions,
    });
    proptest::collection::vec(made, 1..10)
}

/// Makes the commits, each with a ref of its own, for parents may leave some behind.
fn build(made: &[Made]) -> (Scene, Vec<String>) {
    let scene = Scene::new();
    scene.git(&["init", "-q", "-b", "main"]);
    let mut ids: Vec<String> = Vec::new();
    for (n, commit) in made.iter().enumerate() {
        let back = |by: usize| n.checked_sub(by).map(|at| ids[at].clone());
        let (name, content) = commit.file;
        let name = if name == 0 { "SECRET-file".to_owned() } else { format!("f{name}/x") };
        let mention = commit.file_mentions.and_then(back).unwrap_or_default();
        let secret = if content == 0 { "SECRET-content" } else { "" };
        scene.write(&name, format!("{content} {secret} {mention}\n"));
        scene.git(&["add", "-A"]);
        let tree = scene.git(&["write-tree"]);
        let mut parents: Vec<String> = commit.parents.iter().filter_map(|by| back(*by)).collect();
        parents.dedup();
        let parents: String = parents.iter().map(|id| format!("parent {id}\n")).collect();
        let mention = commit.mentions.and_then(|(by, digits)| Some(back(by)?[..digits].to_owned()));
        let secret = if commit.says_secret { " SECRET-said" } else { "" };
        let (author, committer) = (1_700_000_000 + 7 * n, 1_700_000_000 - 11 * n);
        let content = format!(
            "tree {tree}\n{parents}author A <a@b> {author} +0{n}30\n\
             committer C <c@d> {committer} -0{n}00\n\n{n}{secret} {}\n",
            mention.unwrap_or_default(),
        );
        let id = crafted_commit(&scene, content.as_bytes());
        scene.git(&["update-ref", &format!("refs/made/{n}"), &id]);
        ids.push(id);
    }
    (scene, ids)
}

/// What a redaction must have made of a commit, from the old one.
fn expected(content: &str, redacted: &RedactedHistory, commits: &[String]) -> String {
    let text = Rule.redact(content.as_bytes()).unwrap_or_else(|| content.as_bytes().to_vec());
    let text = String::from_utf8(text).unwrap();
    let mut text =
        redacted.ids.iter().fold(text, |text, (old, new)| text.replace(old.as_str(), new.as_str()));
    for old in commits {
        let new = new_of(redacted, old);
        // Longest first: what is in the place of one is none of the old ids.
        for digits in (7..40).rev() {
            text =
                text.replace(&format!(" {}\n", &old[..digits]), &format!(" {}\n", &new[..digits]));
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Would catch: a lost, swapped or added parent, a changed date, a mention of an old id, a file that
    /// is not what redacting it gives, in a history of any shape.
    #[test]
    fn any_history_keeps_its_shape(made in history()) {
        let (scene, commits) = build(&made);
        let (bytes, info) = scene.git_bytes();
        let (redacted, bytes) = redact_bytes(&scene, &bytes, &info, GitHistory::Rewrite).unwrap();
        let new_info = &redacted.bundle.info;
        prop_assert_eq!(scan(&scene, &bytes, new_info), []);
        let repo = unbundled(&scene, &bytes, new_info);
        let text = everything(&repo);
        prop_assert!(!redacted.ids.keys().any(|old| text.contains(old.as_str())));
        for (n, old) in commits.iter().enumerate() {
            let new = new_of(&redacted, old);
            prop_assert_eq!(&git_in(&repo, &["rev-parse", &format!("refs/made/{n}")]), &new);
            let content = scene.git(&["cat-file", "commit", old]) + "\n";
            let is = git_in(&repo, &["cat-file", "commit", &new]) + "\n";
            prop_assert_eq!(is, expected(&content, &redacted, &commits));
            let listed = scene.git(&["ls-tree", "-r", "--name-only", old]);
            for name in listed.lines() {
                let file = scene.git(&["cat-file", "blob", &format!("{old}:{name}")]);
                let name = name.replace("SECRET-file", "[REDACTED:test-elif]");
                let is = git_in(&repo, &["cat-file", "blob", &format!("{new}:{name}")]);
                prop_assert_eq!(is, expected(&file, &redacted, &[]));
            }
        }
    }
}
