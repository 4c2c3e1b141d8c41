//! Git bundles made to harm: each is refused with a type, and nothing reaches a repository.

use std::fs;

use proptest::prelude::*;
use snapshot_core::{GitInfo, GitOid, GitRef, GitStash};
use snapshot_stores::StoresError;

use crate::support::{Scene, git_in, git_with_input};

/// A repository whose branch names `commit`, bundled by stock git.
fn bundle_of(scene: &Scene, commit: &str) -> (Vec<u8>, GitInfo) {
    scene.git(&["update-ref", "refs/heads/main", commit]);
    scene.git(&["bundle", "create", "-q", "../hostile.bundle", "HEAD", "main"]);
    let oid: GitOid = commit.parse().unwrap();
    let main = GitRef { name: "refs/heads/main".to_owned(), oid: Some(oid.clone()), target: None };
    let info = GitInfo {
        head_oid: Some(oid),
        head_ref: Some(main.name.clone()),
        refs: vec![main],
        ..GitInfo::default()
    };
    (fs::read(scene.at("hostile.bundle")).unwrap(), info)
}

fn empty_repository() -> Scene {
    let scene = Scene::new();
    scene.git(&["init", "-q", "-b", "main"]);
    scene
}

/// Writes an object that git itself would refuse.
fn raw_object(scene: &Scene, kind: &str, content: &[u8]) -> String {
    git_with_input(
        &scene.mem(),
        &["hash-object", "-t", kind, "--literally", "-w", "--stdin"],
        content,
    )
}

fn commit_of(scene: &Scene, tree: &str) -> String {
    scene.git(&["commit-tree", "-m", "hostile", tree])
}

fn raw_id(oid: &str) -> Vec<u8> {
    (0..20).map(|n| u8::from_str_radix(&oid[2 * n..2 * n + 2], 16).unwrap()).collect()
}

/// Staging must refuse it with a type of its own, and write nothing outside its folder.
fn refused(bytes: &[u8], info: &GitInfo) -> StoresError {
    let scene = Scene::new();
    let error = match scene.restore_git(Some(bytes), info) {
        Err(e) => e,
        Ok(()) => panic!("it was restored"),
    };
    assert!(!scene.mem().join(".git").exists());
    assert_eq!(error.kind(), snapshot_core::ErrorKind::Integrity, "{error}");
    error
}

#[test]
fn a_good_bundle_of_stock_git_is_taken() {
    let scene = Scene::with_history();
    let head = scene.git(&["rev-parse", "HEAD"]);
    let (bytes, info) = bundle_of(&scene, &head);
    let other = Scene::new();
    other.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(other.git(&["rev-parse", "HEAD"]), head);
}

#[test]
fn tree_entries_that_escape_are_refused() {
    let names: [&[u8]; 8] =
        [b".git", b".GIT", b"..", b".", b"", b"a/b", b"git~1", ".g\u{200d}it".as_bytes()];
    for name in names {
        let scene = empty_repository();
        let blob = raw_object(&scene, "blob", b"[core]\n\tfsmonitor = touch planted\n");
        let entry = [b"100644 ", name, b"\0", &raw_id(&blob)].concat();
        let inner = raw_object(&scene, "tree", &entry);
        // One level down: every tree is looked at.
        let outer = raw_object(&scene, "tree", &[b"40000 sub\0".to_vec(), raw_id(&inner)].concat());
        let commit = commit_of(&scene, &outer);
        let (bytes, info) = pack_of(&scene, &[&blob, &inner, &outer, &commit], &commit);
        let error = refused(&bytes, &info);
        scene.git(&["update-ref", "refs/heads/main", &commit]);
        assert!(matches!(&error, StoresError::GitObject { oid, .. } if *oid == inner), "{error}");
        // The capture of such a repository says that it cannot come back.
        let captured = scene.bundle_git().unwrap();
        let said = captured.not_carried.iter().any(|n| n.why.contains("a restore refuses it"));
        assert!(said, "{name:?}");
    }
}

#[test]
fn malformed_objects_are_refused() {
    let trees: [&[u8]; 4] = [b"garbage", b"100644 a\0short", b"999 a\0", b"170000 a\0"];
    for tree in trees {
        let scene = empty_repository();
        let tree = raw_object(&scene, "tree", &[tree, &[7; 20]].concat());
        let commit = format!("tree {tree}\nauthor A <a> 0 +0000\ncommitter A <a> 0 +0000\n\nx");
        let commit = raw_object(&scene, "commit", commit.as_bytes());
        let (bytes, info) = pack_of(&scene, &[&tree, &commit], &commit);
        refused(&bytes, &info);
    }
    let scene = empty_repository();
    let tree = scene.git(&["mktree", "--missing"]);
    for commit in ["", "tree 123\n", &format!("tree {tree}\n"), &format!("tree {tree}\nauthor x\n")]
    {
        let commit = raw_object(&scene, "commit", commit.as_bytes());
        let (bytes, info) = pack_of(&scene, &[&tree, &commit], &commit);
        refused(&bytes, &info);
    }
}

/// A bundle of exactly these objects, whatever stock git thinks of them.
fn pack_of(scene: &Scene, objects: &[&str], tip: &str) -> (Vec<u8>, GitInfo) {
    let list = objects.join("\n") + "\n";
    git_with_input(&scene.mem(), &["pack-objects", "-q", "../pack"], list.as_bytes());
    let pack = fs::read_dir(scene.tmp.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|x| x == "pack"))
        .unwrap();
    let bytes = fs::read(&pack).unwrap();
    fs::remove_file(pack).unwrap();
    let header = format!("# v2 git bundle\n{tip} HEAD\n{tip} refs/heads/main\n\n");
    let oid: GitOid = tip.parse().unwrap();
    let main = GitRef { name: "refs/heads/main".to_owned(), oid: Some(oid.clone()), target: None };
    let head_ref = Some(main.name.clone());
    let info = GitInfo { head_oid: Some(oid), head_ref, refs: vec![main], ..GitInfo::default() };
    ([header.as_bytes(), &bytes].concat(), info)
}

/// Would catch: a history that passes the checks and cannot be put into place, which shows when the restore has
/// begun and can neither go on nor be finished by a recovery.
#[test]
fn what_could_not_be_put_into_place_is_refused_before() {
    let scene = empty_repository();
    let blob = raw_object(&scene, "blob", b"no commit");
    let entry = [b"100644 a\0".to_vec(), raw_id(&blob)].concat();
    let tree = raw_object(&scene, "tree", &entry);
    // Lines that our rules ask for, and that libgit2 cannot read.
    let text = format!("tree {tree}\nauthor \ncommitter \n\nx");
    let unread = raw_object(&scene, "commit", text.as_bytes());
    let commit = commit_of(&scene, &tree);
    for (head, objects) in
        [(&blob, vec![&blob]), (&tree, vec![&blob, &tree]), (&unread, vec![&blob, &tree, &unread])]
    {
        let objects: Vec<&str> = objects.into_iter().map(String::as_str).collect();
        let (bytes, info) = pack_of(&scene, &objects, head);
        let error = refused(&bytes, &info);
        assert!(error.to_string().contains("as HEAD"), "{error}");
        // The same where HEAD is not told, and stays on the branch that it is on.
        let told = format!("# v2 git bundle\n{head} HEAD\n");
        let bytes = [&b"# v2 git bundle\n"[..], &bytes[told.len()..]].concat();
        let info = GitInfo { head_oid: None, head_ref: None, ..info };
        let error = refused(&bytes, &info);
        assert!(error.to_string().contains("as refs/heads/main"), "{error}");
        // The same as a stash entry, beside a HEAD that is sound.
        let mut all = objects.clone();
        all.extend([&*blob, &*tree, &*commit].iter().filter(|id| !objects.contains(id)));
        let (bytes, mut info) = pack_of(&scene, &all, &commit);
        let oid: GitOid = head.parse().unwrap();
        let listed = format!("# v2 git bundle\n{oid} refs/nexo/stash/0\n");
        let bytes = [listed.as_bytes(), &bytes[b"# v2 git bundle\n".len()..]].concat();
        info.stash.push(GitStash { oid, message: "x".to_owned() });
        let error = refused(&bytes, &info);
        assert!(error.to_string().contains("as a stash"), "{error}");
    }
}

#[test]
fn missing_and_superfluous_objects_are_refused() {
    let scene = Scene::with_history();
    let (head, tree) =
        (scene.git(&["rev-parse", "HEAD"]), scene.git(&["rev-parse", "HEAD^{tree}"]));
    let (bytes, info) = pack_of(&scene, &[&head, &tree], &head);
    let error = refused(&bytes, &info);
    assert!(error.to_string().contains("lacks object"), "{error}");

    let all = scene.git(&["rev-list", "--objects", "--no-object-names", "HEAD"]);
    let mut all: Vec<&str> = all.lines().collect();
    let (bytes, info) = pack_of(&scene, &all, &head);
    Scene::new().restore_git(Some(&bytes), &info).unwrap();
    let extra = raw_object(&scene, "blob", b"smuggled");
    all.push(&extra);
    let (bytes, info) = pack_of(&scene, &all, &head);
    let error = refused(&bytes, &info);
    assert!(error.to_string().contains("no ref leads to"), "{error}");
}

#[test]
fn prerequisites_and_thin_packs_are_refused() {
    let scene = Scene::with_history();
    let head = scene.git(&["rev-parse", "HEAD"]);
    let (_, info) = bundle_of(&scene, &head);
    scene.git(&["bundle", "create", "-q", "../thin.bundle", "HEAD~1..HEAD", "main"]);
    let thin = fs::read(scene.at("thin.bundle")).unwrap();
    let text = String::from_utf8_lossy(&thin).into_owned();
    assert!(text.lines().nth(1).unwrap().starts_with('-'));
    let error = refused(&thin, &info);
    assert!(error.to_string().contains("does not hold"), "{error}");
    // The same without saying so.
    let start = thin.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
    let header = format!("# v2 git bundle\n{head} HEAD\n{head} refs/heads/main\n\n");
    refused(&[header.as_bytes(), &thin[start..]].concat(), &info);
}

#[test]
fn a_header_that_is_not_the_manifests_is_refused() {
    let scene = Scene::with_history();
    let (bytes, info) = scene.git_bytes();
    let start = bytes.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
    let (header, pack) = bytes.split_at(start);
    let header = String::from_utf8(header.to_vec()).unwrap();
    let with = |header: &str| [header.as_bytes(), pack].concat();
    let oid = info.head_oid.as_ref().unwrap();
    for bad in [
        header.replace("v2", "v3"),
        header.replace("# v2 git bundle\n", "# v2 git bundle\n@object-format=sha256\n"),
        header.replace("refs/heads/main", "refs/heads/other"),
        header.replace(oid.as_str(), &"1".repeat(40)),
        header.replacen("HEAD\n", &format!("HEAD\n{oid} refs/heads/extra\n"), 1),
        header.replacen(&format!("{oid} HEAD\n"), "", 1),
        header.replacen(&format!("{oid} HEAD\n"), &format!("{oid} HEAD\n{oid} HEAD\n"), 1),
        header.replacen("HEAD\n", &"H".repeat(10_000), 1),
        String::new(),
    ] {
        assert_ne!(bad, header);
        refused(&with(&bad), &info);
    }
    // Another order is fine.
    let mut lines: Vec<&str> = header.trim_end().lines().collect();
    lines[1..].reverse();
    let other = Scene::new();
    other.restore_git(Some(&with(&(lines.join("\n") + "\n\n"))), &info).unwrap();
}

#[test]
fn manifests_that_name_files_of_git_are_refused() {
    let scene = Scene::with_history();
    let (bytes, good) = scene.git_bytes();
    let oid = good.head_oid.clone().unwrap();
    let named = |name: &str| {
        let mut info = good.clone();
        info.refs.push(GitRef { name: name.to_owned(), oid: Some(oid.clone()), target: None });
        info
    };
    for name in [
        "HEAD",
        "config",
        "refs/../config",
        "refs/heads/../../config",
        "refs/heads/a.lock",
        "refs/heads/nul\0",
        "refs/heads/new\nline",
        "refs/heads/main/below",
        "refs/heads",
        "refs/heads/main",
        "refs/stash",
        "refs/nexo/pre-restore/x",
        "/etc/passwd",
        "",
    ] {
        refused(&bytes, &named(name));
    }
    let broken = [
        GitInfo { head_ref: Some("../x".to_owned()), ..good.clone() },
        GitInfo { head_ref: Some("refs/heads/nul\0".to_owned()), ..good.clone() },
        GitInfo { head_ref: Some("refs/heads/other".to_owned()), ..good.clone() },
        GitInfo { head_oid: None, ..good.clone() },
    ];
    for info in broken {
        refused(&bytes, &info);
    }
    let mut symbolic = good.clone();
    let target = Some("../../config".to_owned());
    symbolic.refs.push(GitRef { name: "refs/heads/s".to_owned(), oid: None, target });
    refused(&bytes, &symbolic);
    let mut stash = good.clone();
    stash.stash.push(GitStash { oid, message: "x".to_owned() });
    refused(&bytes, &stash);
    assert!(matches!(Scene::new().restore_git(None, &good), Err(StoresError::GitBundle { .. })));
}

/// Symbolic refs in a circle must end.
#[test]
fn circles_of_refs_end() {
    let scene = Scene::with_history();
    let (bytes, mut info) = scene.git_bytes();
    let symbolic = |name: &str, target: &str| GitRef {
        name: name.to_owned(),
        oid: None,
        target: Some(target.to_owned()),
    };
    info.refs.push(symbolic("refs/heads/x", "refs/heads/y"));
    info.refs.push(symbolic("refs/heads/y", "refs/heads/x"));
    let other = Scene::new();
    other.stage_git(Some(&bytes), &info).unwrap();
}

#[test]
fn every_truncation_of_a_bundle_is_refused() {
    let scene = Scene::with_history();
    let (bytes, info) = scene.git_bytes();
    for end in (0..bytes.len()).step_by(7) {
        refused(&bytes[..end], &info);
    }
    refused(&[&bytes[..], b"more"].concat(), &info);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No flipped bit gets through, and none makes anything panic.
    #[test]
    fn a_flipped_bit_is_refused(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        static GOOD: std::sync::LazyLock<(Vec<u8>, GitInfo)> =
            std::sync::LazyLock::new(|| Scene::with_history().git_bytes());
        let (mut bytes, info) = GOOD.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let scene = Scene::new();
        prop_assert!(scene.stage_git(Some(&bytes), &info).is_err(), "byte {}", at);
    }
}

/// Stock git's view of our check: what we accept, it accepts.
#[test]
fn what_is_accepted_passes_git_fsck() {
    let scene = Scene::with_history();
    let (bytes, info) = scene.git_bytes();
    let staged = scene.stage_git(Some(&bytes), &info).unwrap();
    git_in(staged.path(), &["init", "-q", "--bare", "."]);
    git_in(staged.path(), &["update-ref", "refs/heads/main", info.head_oid.unwrap().as_str()]);
    assert!(!git_in(staged.path(), &["fsck", "--full"]).contains("missing"));
}
