//! Git: what travels, that stock git reads it, and that a restored repository is one to git.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use snapshot_core::{Control, ErrorKind, GitRef};
use snapshot_fs::{DurableFs, Hook, Op, OpKind};
use snapshot_stores::StoresError;
use snapshot_stores::git::{self, GitProgress};

use crate::support::{MAX_OBJECT, Scene, StopAtEnd, git_command, git_in, id};

/// Every ref but ours, with its object, as git sees it; and HEAD.
fn refs(dir: &Path) -> BTreeSet<String> {
    let format = "--format=%(refname) %(objectname) %(symref)";
    let listed = git_in(dir, &["for-each-ref", format]);
    let mut refs: BTreeSet<String> =
        listed.lines().filter(|l| !l.starts_with("refs/nexo/")).map(str::to_owned).collect();
    refs.insert(format!("HEAD {}", fs::read_to_string(git_dir(dir).join("HEAD")).unwrap().trim()));
    refs
}

fn git_dir(dir: &Path) -> std::path::PathBuf {
    git_in(dir, &["rev-parse", "--absolute-git-dir"]).into()
}

/// A clone of the bundle with the stock tools, checked.
fn clone_of(scene: &Scene, bytes: &[u8]) -> std::path::PathBuf {
    fs::write(scene.at("memory.bundle"), bytes).unwrap();
    let all = "+refs/*:refs/*";
    git_in(scene.tmp.path(), &["clone", "-q", "--mirror", "memory.bundle", "clone"]);
    git_in(&scene.at("clone"), &["fetch", "-q", "../memory.bundle", all]);
    let found = git_in(&scene.at("clone"), &["fsck", "--full", "--strict"]);
    assert!(!found.contains("missing") && !found.contains("error"), "{found}");
    scene.at("clone")
}

/// Restores into a fresh folder and compares what git sees.
fn round_trip(scene: &Scene) -> Scene {
    let (bytes, info) = scene.git_bytes();
    let other = Scene::new();
    let (files, _) = scene.capture_files();
    other.restore_files(&files).unwrap();
    other.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(refs(&other.mem()), refs(&scene.mem()));
    assert_sound(&other);
    assert_eq!(other.git(&["stash", "list"]), scene.git(&["stash", "list"]));
    other
}

fn assert_sound(scene: &Scene) {
    let found = scene.git(&["fsck", "--full"]);
    assert!(!found.contains("missing") && !found.contains("error"), "{found}");
}

/// A repository whose stash has one entry.
fn with_a_stash() -> Scene {
    let scene = Scene::with_history();
    scene.write("MEMORY.md", "an idea of before\n");
    scene.git(&["stash", "push", "-q", "-m", "before"]);
    scene
}

fn rich_scene() -> Scene {
    let scene = Scene::with_history();
    scene.git(&["branch", "side/branch", "HEAD~1"]);
    scene.git(&["tag", "light"]);
    scene.git(&["tag", "-a", "noted", "-m", "an annotated tag"]);
    scene.git(&["tag", "-a", "of-tag", "-m", "a tag of a tag", "noted"]);
    scene.git(&["tag", "blob", "HEAD:MEMORY.md"]);
    scene.git(&["tag", "tree", "HEAD^{tree}"]);
    scene.git(&["notes", "add", "-m", "a note"]);
    scene.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/main"]);
    for n in 1..=3 {
        scene.write("MEMORY.md", format!("stash {n}\n"));
        scene.git(&["stash", "push", "-q", "-m", &format!("idea {n}")]);
    }
    scene
}

#[test]
fn stock_git_reads_the_bundle() {
    let scene = rich_scene();
    let (bytes, info) = scene.git_bytes();
    assert_eq!(info.head_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!(info.head_subject.as_deref(), Some("second"));
    assert_eq!(info.head_author.as_deref(), Some("Ana <ana@example.org>"));
    assert_eq!(info.head_ts_ms, Some(1_700_000_000_000));
    let clone = clone_of(&scene, &bytes);
    let listed = |dir: &Path, what: &str| {
        git_in(dir, &["for-each-ref", "--format=%(refname) %(objectname)", what])
    };
    for kind in ["refs/heads", "refs/tags", "refs/notes"] {
        assert_eq!(listed(&clone, kind), listed(&scene.mem(), kind), "{kind}");
    }
    assert_eq!(git_in(&clone, &["rev-parse", "HEAD"]), scene.git(&["rev-parse", "HEAD"]));
    for n in 0..3 {
        let carried = git_in(&clone, &["rev-parse", &format!("refs/nexo/stash/{n}")]);
        assert_eq!(carried, scene.git(&["rev-parse", &format!("stash@{{{n}}}")]));
    }
}

/// The bytes must not depend on threads or hash seeds.
#[test]
fn the_same_repository_gives_the_same_bytes() {
    let scene = rich_scene();
    assert_eq!(scene.git_bytes(), scene.git_bytes());
}

#[test]
fn every_kind_of_ref_and_three_stashes_come_back() {
    let scene = rich_scene();
    let other = round_trip(&scene);
    assert_eq!(other.git(&["status", "--porcelain"]), "");
    let stashes = other.git(&["stash", "list"]);
    assert_eq!(stashes.lines().count(), 3);
    assert!(stashes.contains("stash@{0}: On main: idea 3"), "{stashes}");
    other.git(&["stash", "pop", "-q", "stash@{2}"]);
    assert_eq!(fs::read_to_string(other.mem().join("MEMORY.md")).unwrap(), "stash 1\n");
}

/// The predecessor's copy of `.git` was no repository after a gc.
#[test]
fn a_packed_repository_comes_back() {
    let scene = rich_scene();
    scene.git(&["gc", "-q", "--prune=now"]);
    assert!(!scene.mem().join(".git/refs/heads/main").exists());
    round_trip(&scene);
}

#[test]
fn a_detached_head_comes_back() {
    let scene = Scene::with_history();
    scene.git(&["checkout", "-q", "--detach", "HEAD~1"]);
    let (_, info) = scene.git_bytes();
    assert_eq!(info.head_ref, None);
    let other = round_trip(&scene);
    assert_eq!(other.git(&["status", "--porcelain"]), "");
}

#[test]
fn an_unborn_branch_and_an_empty_repository_come_back() {
    let empty = Scene::new();
    empty.git(&["init", "-q", "-b", "trunk"]);
    empty.write("file", "not committed");
    let bundle = empty.bundle_git().unwrap();
    assert!(bundle.file.is_none() && !git::has_bundle(&bundle.info));
    assert_eq!(bundle.info.head_ref.as_deref(), Some("refs/heads/trunk"));
    let other = Scene::new();
    other.restore_git(None, &bundle.info).unwrap();
    assert_eq!(refs(&other.mem()), refs(&empty.mem()));
    // Over a repository with a history: it is gone, but its HEAD is kept.
    let full = rich_scene();
    let head = full.git(&["rev-parse", "HEAD"]);
    full.restore_git(None, &bundle.info).unwrap();
    assert_eq!(refs(&full.mem()), refs(&empty.mem()));
    assert_eq!(full.git(&["stash", "list"]), "");
    let kept = format!("refs/nexo/pre-restore/{}", id(7));
    assert_eq!(full.git(&["rev-parse", &kept]), head);
    assert_sound(&full);

    let unborn = Scene::with_history();
    unborn.git(&["symbolic-ref", "HEAD", "refs/heads/not-yet"]);
    let other = round_trip(&unborn);
    assert!(other.git(&["branch"]).contains("main"));
}

#[test]
fn a_linked_worktree_comes_back_and_can_be_restored_over() {
    let main = Scene::with_history();
    let scene = Scene::new();
    fs::remove_dir(scene.mem()).unwrap();
    main.git(&["worktree", "add", "-q", "-b", "agent", scene.mem().to_str().unwrap()]);
    assert!(scene.mem().join(".git").is_file());
    scene.write("MEMORY.md", "from the worktree\n");
    scene.commit("in the worktree");
    let (bytes, info) = scene.git_bytes();
    assert_eq!(info.head_ref.as_deref(), Some("refs/heads/agent"));
    let other = round_trip(&scene);
    assert_eq!(other.git(&["log", "--format=%s", "-1"]), "in the worktree");

    let (files, _) = scene.capture_files();
    scene.write("MEMORY.md", "later\n");
    scene.commit("later");
    scene.restore_files(&files).unwrap();
    scene.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(scene.git(&["log", "--format=%s", "-1"]), "in the worktree");
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    assert!(scene.mem().join(".git").is_file());
}

#[test]
fn a_shallow_repository_comes_back_here_and_by_the_documented_recipe() {
    let far = Scene::with_history();
    far.write("MEMORY.md", "three\n");
    far.commit("third");
    let scene = Scene::new();
    fs::remove_dir(scene.mem()).unwrap();
    let url = format!("file://{}", far.mem().display());
    git_in(scene.tmp.path(), &["clone", "-q", "--depth", "2", &url, "mem"]);
    let (bytes, info) = scene.git_bytes();
    assert_eq!(info.shallow.len(), 1);
    let other = round_trip(&scene);
    assert_eq!(other.git(&["rev-list", "--count", "HEAD"]), "2");

    // The recipe of the module's documentation.
    fs::write(scene.at("memory.bundle"), &bytes).unwrap();
    git_in(scene.tmp.path(), &["init", "-q", "-b", "none", "recipe"]);
    let shallow: String = info.shallow.iter().map(|oid| format!("{oid}\n")).collect();
    fs::write(scene.at("recipe/.git/shallow"), shallow).unwrap();
    git_in(&scene.at("recipe"), &["fetch", "-q", "../memory.bundle", "refs/*:refs/*"]);
    assert!(!git_in(&scene.at("recipe"), &["fsck", "--full"]).contains("missing"));

    // A full history over a shallow one, and back: what is whole is not cut, what is cut stays.
    let (full, full_info) = far.git_bytes();
    other.restore_git(Some(&full), &full_info).unwrap();
    assert_eq!(other.git(&["rev-list", "--count", "HEAD"]), "3");
    assert!(!other.mem().join(".git/shallow").exists());
    far.restore_git(Some(&bytes), &info).unwrap();
    assert_sound(&far);
}

#[test]
fn a_restore_over_a_living_repository_keeps_what_is_not_memory() {
    let scene = rich_scene();
    let (files, _) = scene.capture_files();
    let (bytes, info) = scene.git_bytes();
    let then = refs(&scene.mem());
    let stashes = scene.git(&["stash", "list"]);

    // Life goes on: new commits, refs where folders of refs were, a merge, a hook, a setting.
    scene.write("MEMORY.md", "poisoned\n");
    scene.write("new.md", "new\n");
    scene.commit("poisoned");
    let poisoned = scene.git(&["rev-parse", "HEAD"]);
    scene.git(&["branch", "-D", "-q", "side/branch"]);
    scene.git(&["branch", "side"]);
    scene.git(&["branch", "light/er"]);
    scene.git(&["tag", "-d", "light"]);
    scene.git(&["tag", "light/er"]);
    scene.git(&["stash", "drop", "-q", "stash@{1}"]);
    scene.git(&["pack-refs", "--all"]);
    scene.git(&["config", "agent.setting", "stays"]);
    scene.git(&["config", "core.fsmonitor", "false"]);
    let hook = scene.mem().join(".git/hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", scene.at("hook-ran").display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(scene.mem().join(".git/MERGE_HEAD"), format!("{poisoned}\n")).unwrap();
    let config = fs::read(scene.mem().join(".git/config")).unwrap();

    scene.restore_files(&files).unwrap();
    scene.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(refs(&scene.mem()), then);
    assert_eq!(scene.git(&["stash", "list"]), stashes);
    assert_eq!(scene.git(&["status", "--porcelain"]), "");
    assert_sound(&scene);
    assert_eq!(fs::read(scene.mem().join(".git/config")).unwrap(), config);
    assert!(hook.exists() && !scene.at("hook-ran").exists());
    assert!(!scene.mem().join(".git/MERGE_HEAD").exists());
    assert!(!scene.mem().join(".git/index.lock").exists());
    // The way back: the replaced HEAD, by ref and by reflog.
    let kept = format!("refs/nexo/pre-restore/{}", id(7));
    assert_eq!(scene.git(&["rev-parse", &kept]), poisoned);
    assert_eq!(scene.git(&["rev-parse", "main@{1}"]), poisoned);
    // The next snapshot does not carry it, and nothing is left to do.
    let repo = git::open(&scene.mem()).unwrap().unwrap();
    let (plan, _) = git::plan(Some(&repo.pin().unwrap()), &info);
    assert_eq!((plan.refs_set.len(), plan.refs_deleted.len()), (0, 0));
}

#[test]
fn a_plan_says_what_changes() {
    let scene = rich_scene();
    let (_, info) = scene.git_bytes();
    scene.commit("more");
    scene.git(&["branch", "newer"]);
    scene.git(&["stash", "clear"]);
    let now = git::open(&scene.mem()).unwrap().unwrap().pin().unwrap();
    let (plan, targets) = git::plan(Some(&now), &info);
    assert_eq!(plan.refs_set, ["refs/heads/main", "refs/stash"]);
    assert_eq!(plan.refs_deleted, ["refs/heads/newer"]);
    assert_eq!(plan.head_then, info.head_oid);
    assert_ne!(plan.head_now, plan.head_then);
    let json = serde_json::to_string(&targets).unwrap();
    assert_eq!(serde_json::from_str::<git::GitTargets>(&json).unwrap(), targets);
    assert_eq!(git::progress(&scene.mem(), &targets).unwrap(), GitProgress::Before);
    scene.git(&["branch", "since"]);
    assert_eq!(git::progress(&scene.mem(), &targets).unwrap(), GitProgress::Other);
}

/// A restore that dies at any step and is repeated must end in the same place, with no lock left.
#[test]
fn a_restore_repeated_after_every_step_ends_the_same() {
    struct StopAt(AtomicUsize);
    impl Hook for StopAt {
        fn before(&self, _: &Op<'_>) -> std::io::Result<()> {
            match self.0.fetch_sub(1, Ordering::Relaxed) {
                0 => Err(std::io::Error::other("stopped here")),
                _ => Ok(()),
            }
        }
    }
    let source = rich_scene();
    let (bytes, info) = source.git_bytes();
    for over_a_repository in [true, false] {
        let mut stop = 0;
        loop {
            let scene = match over_a_repository {
                true => with_a_stash(),
                false => Scene::new(),
            };
            let staged = scene.stage_git(Some(&bytes), &info).unwrap();
            let now = git::open(&scene.mem()).unwrap().map(|repo| repo.pin().unwrap());
            let (_, targets) = git::plan(now.as_ref(), &info);
            let hook = Arc::new(StopAt(AtomicUsize::new(stop)));
            let dying = DurableFs::with_hook(hook).open_dir(&scene.mem()).unwrap();
            let control = Control::default();
            let died = git::apply(&dying, &staged, &targets, id(7), &control).is_err();
            let progress = git::progress(&scene.mem(), &targets).unwrap();
            assert_ne!(progress, GitProgress::Other, "stopped at {stop}");
            if !died {
                assert!(stop > 10, "the hook saw the steps");
                break;
            }
            let calm = scene.dir("mem");
            git::apply(&calm, &staged, &targets, id(7), &control).unwrap();
            assert_eq!(git::progress(&scene.mem(), &targets).unwrap(), GitProgress::After);
            assert_eq!(refs(&scene.mem()), refs(&source.mem()), "stopped at {stop}");
            assert_eq!(scene.git(&["stash", "list"]), source.git(&["stash", "list"]));
            assert_sound(&scene);
            assert!(!scene.mem().join(".git/index.lock").exists());
            stop += 1;
        }
    }
}

/// Would catch: a recovery that takes a stash which git's library had half removed for somebody's work; entries that
/// nobody sees any more, and that the next `git stash` brings back.
#[test]
fn a_stash_that_was_half_removed_goes() {
    let source = Scene::with_history();
    let (bytes, info) = source.git_bytes();
    for removed in ["logs/refs/stash", "refs/stash"] {
        let scene = with_a_stash();
        let staged = scene.stage_git(Some(&bytes), &info).unwrap();
        let now = git::open(&scene.mem()).unwrap().map(|repo| repo.pin().unwrap());
        let (_, targets) = git::plan(now.as_ref(), &info);
        fs::remove_file(scene.mem().join(".git").join(removed)).unwrap();
        assert_ne!(git::progress(&scene.mem(), &targets).unwrap(), GitProgress::Other, "{removed}");
        let control = Control::default();
        git::apply(&scene.dir("mem"), &staged, &targets, id(7), &control).unwrap();
        assert_eq!(git::progress(&scene.mem(), &targets).unwrap(), GitProgress::After);
        scene.write("MEMORY.md", "another idea");
        scene.git(&["stash"]);
        assert_eq!(scene.git(&["stash", "list"]).lines().count(), 1, "{removed}");
    }
}

/// Would catch: a restore that no recovery can finish, since the power cut that it died by left the log of a ref that is
/// gone, where the log of another is to be.
#[test]
fn the_log_of_a_ref_that_is_gone_is_in_nobodys_way() {
    let source = rich_scene();
    source.git(&["branch", "plain"]);
    let (bytes, info) = source.git_bytes();
    let scene = Scene::with_history();
    for left in ["side", "plain/and/below"] {
        scene.write(&format!(".git/logs/refs/heads/{left}"), "the log of a ref that is gone\n");
    }
    scene.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(refs(&scene.mem()), refs(&source.mem()));
    for branch in ["side/branch", "plain"] {
        let log = scene.git(&["reflog", "show", branch]);
        assert!(log.contains("nexo-memory: restore"), "{branch}: {log}");
    }
    assert_sound(&scene);
}

/// Would catch: a restore that no recovery can finish, since one of these names and the stash, or the old HEAD that is
/// kept, cannot both be there.
#[test]
fn a_ref_that_leaves_no_room_is_left_out_and_stops_a_restore_before_it_begins() {
    for name in ["refs/nexo", "refs/stash/idea"] {
        let (scene, over) = (Scene::with_history(), with_a_stash());
        scene.git(&["update-ref", name, "HEAD"]);
        let repo = git::open(&scene.mem()).unwrap().unwrap();
        assert_eq!(repo.pin().unwrap().not_carried[0].path, name);
        let (bytes, info) = scene.git_bytes();
        over.restore_git(Some(&bytes), &info).unwrap();
        let refused = git::lock(&scene.dir("mem"), id(7)).unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
        assert!(!scene.mem().join(".git/index.lock").is_symlink());
        // One that came in a bundle that somebody made is refused too.
        let mut crafted = info;
        crafted.refs.push(GitRef { name: name.to_owned(), ..crafted.refs[0].clone() });
        let refused = over.stage_git(Some(&bytes), &crafted).unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

/// Would catch: a restore that no recovery can finish, since it was killed while libgit2 held locks; a lock of a
/// git process that is broken.
#[test]
fn locks_of_a_run_that_was_killed_are_broken_and_no_others() {
    let scene = Scene::with_history();
    let (bytes, info) = scene.git_bytes();
    scene.write("MEMORY.md", "later");
    scene.commit("later");
    let staged = scene.stage_git(Some(&bytes), &info).unwrap();
    let now = git::open(&scene.mem()).unwrap().map(|repo| repo.pin().unwrap());
    let (_, targets) = git::plan(now.as_ref(), &info);
    let (memdir, control) = (scene.dir("mem"), Control::default());
    let lock = scene.mem().join(".git/refs/heads/main.lock");
    let mark = scene.mem().join(".git/nexo-memory-refs");
    let apply = || git::apply(&memdir, &staged, &targets, id(7), &control);
    // Somebody's: nobody announced it, or another restore did.
    fs::write(&lock, "").unwrap();
    for other in [None, Some(id(8))] {
        if let Some(other) = other {
            std::os::unix::fs::symlink(format!("nexo-memory-restore-{other}"), &mark).unwrap();
        }
        match apply() {
            Err(StoresError::GitLocked { path }) => assert_eq!(path, lock),
            other => panic!("{other:?}"),
        }
        assert!(!mark.exists() && fs::symlink_metadata(&mark).is_err());
    }
    // Older than our mark: not ours either.
    std::os::unix::fs::symlink(format!("nexo-memory-restore-{}", id(7)), &mark).unwrap();
    assert!(matches!(apply(), Err(StoresError::GitLocked { .. })) && lock.exists());
    // Ours, with what libgit2 leaves where it is killed while it builds an index.
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(format!("nexo-memory-restore-{}", id(7)), &mark).unwrap();
    for killed in ["refs/heads/main.lock", "packed-refs.lock", "HEAD.lock"] {
        fs::write(scene.mem().join(".git").join(killed), "").unwrap();
    }
    fs::write(staged.path().join("index.lock"), "").unwrap();
    apply().unwrap();
    assert_eq!(git::progress(&scene.mem(), &targets).unwrap(), GitProgress::After);
    assert!(!lock.exists() && fs::symlink_metadata(&mark).is_err());
    assert_sound(&scene);
    // Somebody's own thing under the mark's name stays, and is told before anything is changed.
    fs::create_dir(&mark).unwrap();
    let refused = git::lock(&memdir, id(9));
    assert!(matches!(refused, Err(StoresError::GitUnsupported { .. })) && mark.is_dir());
}

/// Would catch: objects that are said to be staged, and that a power cut takes.
#[test]
fn what_is_staged_is_durable() {
    /// The last change.
    #[derive(Default)]
    struct Last(std::sync::Mutex<Option<OpKind>>);
    impl Hook for Last {
        fn before(&self, op: &Op<'_>) -> std::io::Result<()> {
            *self.0.lock().unwrap() = Some(op.kind);
            Ok(())
        }
    }
    let scene = rich_scene();
    let (bytes, info) = scene.git_bytes();
    fs::create_dir(scene.at("staged")).unwrap();
    let last = Arc::new(Last::default());
    let staged = DurableFs::with_hook(last.clone()).open_dir(&scene.at("staged")).unwrap();
    git::stage(Some(&mut bytes.as_slice()), &info, &staged, MAX_OBJECT, &Control::default())
        .unwrap();
    assert_eq!(*last.0.lock().unwrap(), Some(OpKind::SyncFs));
}

/// Would catch: a disk that refuses, told as a bundle that is damaged.
#[test]
fn what_the_disk_refuses_is_no_damage_of_the_bundle() {
    let scene = rich_scene();
    let (bytes, info) = scene.git_bytes();
    let stage = |name: &str| {
        let at = scene.at(name);
        fs::create_dir_all(&at).unwrap();
        let staged = DurableFs::default().open_dir(&at).unwrap();
        let control = Control::default();
        git::stage(Some(&mut bytes.as_slice()), &info, &staged, MAX_OBJECT, &control)
    };
    stage("first").unwrap();
    for entry in fs::read_dir(scene.at("first/objects/pack")).unwrap() {
        // What is in the way of a rename.
        let pack = entry.unwrap().file_name();
        fs::create_dir_all(scene.at("second/objects/pack").join(pack).join("full")).unwrap();
    }
    let refused = stage("second").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused:?}");
}

/// Would catch: a temporary file of libgit2's, which could not be removed, that a restore carries into the agent's
/// repository.
#[test]
fn only_packs_are_brought_into_the_repository() {
    let source = rich_scene();
    let (bytes, info) = source.git_bytes();
    let scene = Scene::new();
    let staged = scene.stage_git(Some(&bytes), &info).unwrap();
    let packs = staged.path().join("objects/pack");
    for left in ["pack_git2_a1b2c3.idx.lock", "pack_git2_a1b2c3.tmp", "pack-1.idx.lock"] {
        fs::write(packs.join(left), "half").unwrap();
    }
    let (_, targets) = git::plan(None, &info);
    git::apply(&scene.dir("mem"), &staged, &targets, id(7), &Control::default()).unwrap();
    let brought = fs::read_dir(scene.mem().join(".git/objects/pack")).unwrap();
    let endings = brought.map(|entry| entry.unwrap().path().extension().unwrap().to_owned());
    assert_eq!(endings.collect::<BTreeSet<_>>(), BTreeSet::from(["idx".into(), "pack".into()]));
    assert_sound(&scene);
}

/// Would catch: a lock on the stash that is told as a fault of git's, in which nobody sees what to do.
#[test]
fn a_locked_stash_is_busy() {
    let scene = Scene::with_history();
    let (bytes, info) = scene.git_bytes();
    scene.write("MEMORY.md", "an idea");
    scene.git(&["stash"]);
    scene.write(".git/refs/stash.lock", "");
    match scene.restore_git(Some(&bytes), &info) {
        Err(StoresError::GitLocked { path }) => assert!(path.ends_with("refs/stash.lock")),
        other => panic!("{other:?}"),
    }
    fs::remove_file(scene.mem().join(".git/refs/stash.lock")).unwrap();
    scene.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(scene.git(&["stash", "list"]), "");
}

#[test]
fn a_busy_repository_is_left_alone() {
    let scene = Scene::with_history();
    let (bytes, info) = scene.git_bytes();
    scene.write("MEMORY.md", "later");
    scene.commit("later");
    let head = scene.git(&["rev-parse", "HEAD"]);
    for lock in [".git/index.lock", ".git/refs/heads/main.lock"] {
        scene.write(lock, "");
        let refused = scene.restore_git(Some(&bytes), &info);
        assert!(matches!(refused, Err(StoresError::GitLocked { .. })), "{refused:?}");
        assert_eq!(scene.git(&["rev-parse", "HEAD"]), head);
        fs::remove_file(scene.mem().join(lock)).unwrap();
    }
    // The second refusal came under our lock; it keeps git out until it is given up.
    let memdir = scene.dir("mem");
    let blocked = git_command(&scene.mem(), &["add", "-A"]).output().unwrap();
    assert!(!blocked.status.success());
    assert!(matches!(git::lock(&memdir, id(8)), Err(StoresError::GitLocked { .. })));
    git::unlock(&memdir, id(8)).unwrap();
    git::lock(&memdir, id(7)).unwrap();
    git::unlock(&memdir, id(7)).unwrap();
    scene.git(&["add", "-A"]);
}

#[test]
fn kinds_that_cannot_travel_are_refused_by_name() {
    let why = |scene: &Scene| match git::open(&scene.mem()) {
        Err(StoresError::GitUnsupported { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let sha256 = Scene::new();
    sha256.git(&["init", "-q", "--object-format=sha256"]);
    assert!(why(&sha256).contains("SHA-1"));
    let reftable = Scene::new();
    reftable.git(&["init", "-q", "--ref-format=reftable"]);
    assert!(why(&reftable).contains("reftable"));
    let partial = Scene::with_history();
    partial.git(&["config", "remote.origin.promisor", "true"]);
    assert!(why(&partial).contains("partial"));
    let none = Scene::new();
    assert!(git::open(&none.mem()).unwrap().is_none());
    none.write(".git", "no link");
    assert!(why(&none).contains("names no repository"));
}

#[test]
fn a_repository_of_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    use std::os::unix::fs::{chown, symlink};
    // An agent's link to a repository that it could not read itself.
    let secret = Scene::with_history();
    let scene = Scene::new();
    symlink(secret.mem().join(".git"), scene.mem().join(".git")).unwrap();
    chown(scene.mem(), Some(4711), Some(4711)).unwrap();
    std::os::unix::fs::lchown(scene.mem().join(".git"), Some(4711), Some(4711)).unwrap();
    let refused = git::open(&scene.mem());
    assert!(
        matches!(refused, Err(StoresError::GitOwner { owner: 0, expected: 4711, .. })),
        "{refused:?}"
    );
}

/// An operator restores another user's agent as root.
#[test]
fn what_root_restores_belongs_to_the_agent() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    fn everything(dir: &Path, seen: &mut Vec<(std::path::PathBuf, u32)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            seen.push((path.clone(), meta.uid()));
            if meta.is_dir() {
                everything(&path, seen);
            }
        }
    }
    let (bytes, info) = rich_scene().git_bytes();
    let fresh = Scene::new();
    let living = Scene::with_history();
    for scene in [fresh, living] {
        let mut all = Vec::new();
        everything(&scene.mem(), &mut all);
        all.push((scene.mem(), 0));
        for (path, _) in all {
            std::os::unix::fs::lchown(path, Some(4711), Some(4712)).unwrap();
        }
        scene.restore_git(Some(&bytes), &info).unwrap();
        let mut all = Vec::new();
        everything(&scene.mem(), &mut all);
        let others: Vec<_> = all.iter().filter(|(_, uid)| *uid != 4711).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

#[test]
fn objects_past_the_limit_are_refused_at_both_ends() {
    let scene = Scene::with_history();
    scene.write("large", vec![7; 3000]);
    scene.commit("large");
    let repo = git::open(&scene.mem()).unwrap().unwrap();
    let pinned = repo.pin().unwrap();
    let (spool, control) = (scene.dir("spool"), Control::default());
    let write = |limit| git::write_bundle(&repo, &pinned, &spool, limit, &control).map(|_| ());
    assert!(matches!(write(2999), Err(StoresError::GitObjectTooLarge { size: 3000, .. })));
    write(3000).unwrap();
    let (bytes, info) = scene.git_bytes();
    let staged = scene.dir("staged");
    let refused = git::stage(Some(&mut &*bytes), &info, &staged, 2999, &control);
    assert!(matches!(refused, Err(StoresError::GitObjectTooLarge { size: 3000, .. })));
}

/// A gc or a new history between pin and pack: the cut is to be retried.
#[test]
fn objects_that_vanish_are_told_from_other_failures() {
    let scene = Scene::with_history();
    let repo = git::open(&scene.mem()).unwrap().unwrap();
    let pinned = repo.pin().unwrap();
    let (spool, control) = (scene.dir("spool"), Control::default());
    scene.git(&["commit", "-q", "--amend", "-m", "amended"]);
    scene.git(&["reflog", "expire", "--expire=now", "--all"]);
    scene.git(&["gc", "-q", "--prune=now"]);
    let gone = git::write_bundle(&repo, &pinned, &spool, MAX_OBJECT, &control);
    assert!(matches!(gone, Err(StoresError::GitVanished { .. })), "{gone:?}");
    // The retry succeeds.
    let pinned = repo.pin().unwrap();
    git::write_bundle(&repo, &pinned, &spool, MAX_OBJECT, &control).unwrap();
}

#[test]
fn what_git_holds_outside_history_and_files_is_named() {
    let scene = Scene::with_history();
    scene.write("clean-staged", "staged and on disk");
    scene.git(&["add", "clean-staged"]);
    let left_out = |scene: &Scene| {
        let bundle = scene.bundle_git().unwrap();
        bundle.not_carried.into_iter().map(|n| n.path).collect::<Vec<_>>()
    };
    assert_eq!(left_out(&scene), Vec::<String>::new());
    scene.write("staged", "only staged");
    scene.git(&["add", "staged"]);
    scene.write("staged", "and then changed again");
    fs::write(scene.mem().join(".git/MERGE_HEAD"), scene.git(&["rev-parse", "HEAD~1"]) + "\n")
        .unwrap();
    assert_eq!(left_out(&scene), [".git", "staged"]);
}

/// `git status` must not run what a bundle brought, for a bundle brings no configuration.
#[test]
fn nothing_but_objects_and_refs_is_carried() {
    let scene = Scene::with_history();
    scene.git(&["config", "core.fsmonitor", "touch planted"]);
    scene.write(".git/info/exclude", "secret-rule");
    scene.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    let (bytes, info) = scene.git_bytes();
    let other = Scene::new();
    other.restore_git(Some(&bytes), &info).unwrap();
    let config = fs::read_to_string(other.mem().join(".git/config")).unwrap();
    assert!(!config.contains("fsmonitor"));
    for name in ["hooks", "info", "modules", "objects/info/alternates"] {
        assert!(!other.mem().join(".git").join(name).exists(), "{name}");
    }
    let (files, _) = scene.capture_files();
    assert!(files.contents.keys().all(|path| !path.to_string().contains(".git/")));
}

/// The cut holds no git lock: refs that move while they are read must still be of one moment. Two
/// refs are moved one after the other, first `a`, then `z`: at every moment `a` is where `z` is, or
/// one ahead. Hundreds of refs between them make a single reading see `z` ahead.
#[test]
fn a_pin_is_of_one_moment() {
    let scene = Scene::with_history();
    let tree = scene.git(&["rev-parse", "HEAD^{tree}"]);
    let commits: Vec<String> =
        (0..40).map(|n| scene.git(&["commit-tree", "-m", &n.to_string(), &tree])).collect();
    let set = |name: &str, oid: &str| {
        let path = scene.mem().join(".git/refs/heads").join(name);
        fs::write(path.with_extension("lock"), format!("{oid}\n")).unwrap();
        fs::rename(path.with_extension("lock"), path).unwrap();
    };
    (0..1500).for_each(|n| set(&format!("between{n}"), &commits[0]));
    set("a", &commits[0]);
    set("z", &commits[0]);
    let repo = git::open(&scene.mem()).unwrap().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| {
            for oid in commits.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                set("a", oid);
                set("z", oid);
                // Leaves room for two readings without a move.
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        for _ in 0..40 {
            // Never two equal readings in a row: an error, not a torn pin.
            let Ok(pinned) = repo.pin() else { continue };
            let at = |name: &str| {
                let GitRef { oid, .. } = pinned.info.refs.iter().find(|r| r.name == name).unwrap();
                commits.iter().position(|c| oid.as_ref().unwrap().as_str() == c).unwrap()
            };
            let (a, z) = (at("refs/heads/a"), at("refs/heads/z"));
            assert!(a == z || a == (z + 1) % commits.len(), "a is at {a}, z at {z}");
        }
    });
}

#[test]
fn a_stash_message_cannot_forge_reflog_lines() {
    let scene = rich_scene();
    let (bytes, mut info) = scene.git_bytes();
    info.stash[0].message = format!("x\n{0} {0} Eve <e> 0 +0000\tforged", "1".repeat(40));
    let other = Scene::new();
    other.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(other.git(&["stash", "list"]).lines().count(), 3);
}

/// The predecessor gave a placeholder for whatever went wrong in git.
#[test]
fn a_broken_repository_is_an_error() {
    let scene = Scene::with_history();
    scene.write(".git/HEAD", "nonsense");
    assert!(git::open(&scene.mem()).and_then(|repo| repo.unwrap().pin()).is_err());
    let missing = Scene::with_history();
    let tree = missing.git(&["rev-parse", "HEAD^{tree}"]);
    fs::remove_file(missing.mem().join(".git/objects").join(&tree[..2]).join(&tree[2..])).unwrap();
    assert!(matches!(missing.bundle_git(), Err(StoresError::GitVanished { .. })));
}

#[test]
fn large_histories_are_kept_small() {
    let scene = Scene::new();
    scene.git(&["init", "-q", "-b", "main"]);
    let line = |n: u32| format!("fact {n}: {:x}\n", n.wrapping_mul(2_654_435_761));
    let mut text: String = (0..2000).map(line).collect();
    for n in 0..20 {
        text.push_str(&line(n));
        scene.write("MEMORY.md", &text);
        scene.commit("more");
    }
    let (bytes, _) = scene.git_bytes();
    // One copy deflates to a third or so; twenty without deltas would be far over two.
    assert!(bytes.len() < text.len(), "{} bytes for a text of {}", bytes.len(), text.len());
}

/// A remote's HEAD whose branch was pruned: git keeps such refs, and so do we.
#[test]
fn a_symbolic_ref_to_nowhere_comes_back() {
    let scene = Scene::with_history();
    let (name, target) = ("refs/remotes/gone/HEAD", "refs/remotes/gone/main");
    scene.git(&["symbolic-ref", name, target]);
    let (bytes, info) = scene.git_bytes();
    let other = Scene::new();
    other.restore_git(Some(&bytes), &info).unwrap();
    assert_eq!(other.git(&["symbolic-ref", name]), target);
}
