//! Memory files: what is captured, what is not, and that everything comes back.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink, BundlePath, Control, FileSpec, PortError, Sha256Digest,
};
use snapshot_stores::StoresError;
use snapshot_stores::files::{self, FilesState, ListOptions};

use crate::support::{MemoryBundle, Scene, StopAtEnd, id};

const SQLITE_HEADER: &[u8] = b"SQLite format 3\0 and the rest of a page";

/// Type, content, mode, mtime in nanoseconds.
type Seen = (char, Vec<u8>, u32, i128);

/// Every entry below `root` by raw path.
fn tree(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mtime = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            let seen = if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                ('l', target.as_os_str().as_bytes().to_vec(), 0, mtime)
            } else if meta.is_dir() {
                folders.push(path.clone());
                ('d', Vec::new(), meta.mode() & 0o7777, mtime)
            } else if meta.is_file() {
                ('f', fs::read(&path).unwrap(), meta.mode() & 0o7777, mtime)
            } else {
                ('?', Vec::new(), 0, mtime)
            };
            found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), seen);
        }
    }
    found
}

fn why(list: &[snapshot_core::NotCarried], path: &str) -> String {
    let found = list.iter().find(|n| n.path == path);
    found.unwrap_or_else(|| panic!("{path} is not in {list:?}")).why.clone()
}

fn rich_scene() -> Scene {
    let scene = Scene::new();
    scene.write("MEMORY.md", "facts\n");
    scene.write("bin/run.sh", "#!/bin/sh\n");
    fs::set_permissions(scene.mem().join("bin/run.sh"), Permissions::from_mode(0o755)).unwrap();
    fs::write(scene.mem().join(OsStr::from_bytes(b"caf\xe9 \xff")), "latin").unwrap();
    fs::create_dir_all(scene.mem().join("empty/deeper")).unwrap();
    symlink("../nowhere", scene.mem().join("bin/dangling")).unwrap();
    symlink("empty", scene.mem().join("to-folder")).unwrap();
    let big: Vec<u8> = (0u32..(5 << 18) + 1).flat_map(u32::to_le_bytes).collect();
    scene.write("big.bin", big);
    scene.write("ignored/.gitignore", "*\n");
    fs::set_permissions(scene.mem().join("empty"), Permissions::from_mode(0o2750)).unwrap();
    scene
}

/// The predecessor lost files over 4 MiB, links, empty folders, modes and names that are not UTF-8.
#[test]
fn everything_comes_back_into_an_empty_folder() {
    let scene = rich_scene();
    let (bundle, captured) = scene.capture_files();
    assert_eq!(captured.not_carried, []);
    assert_eq!(captured.unstable, []);
    let other = Scene::new();
    let plan = other.restore_files(&bundle).unwrap();
    assert_eq!(plan.plan.write.len(), bundle.manifest.artifacts.len());
    assert_eq!(tree(&other.mem()), tree(&scene.mem()));
    // A second time, nothing is left to do.
    let again = other.restore_files(&bundle).unwrap();
    assert_eq!(
        (again.plan.write.len(), again.plan.touch.len(), again.plan.remove.len()),
        (0, 0, 0)
    );
    assert_eq!(tree(&other.mem()), tree(&scene.mem()));
}

#[test]
fn a_restore_changes_removes_and_swaps_types() {
    let scene = rich_scene();
    scene.write("was-file", "f");
    scene.write("was-folder/inside/deep", "f");
    symlink("x", scene.mem().join("was-link")).unwrap();
    let original = tree(&scene.mem());
    let (bundle, _) = scene.capture_files();

    let mem = scene.mem();
    scene.write("MEMORY.md", "poisoned\n");
    scene.write("new/folder/new", "x");
    fs::set_permissions(mem.join("bin/run.sh"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(mem.join("was-file")).unwrap();
    scene.write("was-file/now/folder", "x");
    fs::remove_dir_all(mem.join("was-folder")).unwrap();
    symlink("/etc", mem.join("was-folder")).unwrap();
    fs::remove_file(mem.join("was-link")).unwrap();
    scene.write("was-link", "now a file");
    fs::remove_dir(mem.join("empty/deeper")).unwrap();

    let plan = scene.restore_files(&bundle).unwrap().plan;
    assert!(plan.write.contains(&"MEMORY.md".to_owned()));
    assert!(plan.touch.contains(&"bin/run.sh".to_owned()));
    assert!(plan.remove.contains(&"new/folder/new".to_owned()));
    assert_eq!(tree(&mem), original);
}

/// A restore that dies anywhere and is repeated must end in the same place, and tell its own steps
/// from somebody's work at every point.
#[test]
fn a_restore_repeated_after_every_step_ends_the_same() {
    use snapshot_fs::{DurableFs, Hook, Op};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

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
    source.write("swap/me", "folder in the snapshot");
    let (bundle, _) = source.capture_files();
    let mut stop = 0;
    loop {
        let scene = Scene::new();
        scene.write("MEMORY.md", "other");
        scene.write("gone/deep", "x");
        scene.write("swap", "file now");
        scene.write("to-folder/x", "folder now");
        let (calm, control) = (scene.dir("mem"), Control::default());
        let options = ListOptions::default();
        let live = files::live_state(&calm, &options, &control).unwrap();
        let plan = files::plan(&live, &bundle.manifest).unwrap();
        files::stage(&calm, &bundle, &plan.targets, id(7), &control).unwrap();
        let hook = Arc::new(StopAt(AtomicUsize::new(stop)));
        let dying = DurableFs::with_hook(hook).open_dir(&scene.mem()).unwrap();
        let died = files::apply(&dying, &plan.targets, id(7)).is_err();
        let now = files::live_state(&calm, &options, &control).unwrap();
        let progress = files::progress(&now, &plan.targets);
        assert_eq!(progress.other, Vec::<String>::new(), "stopped at {stop}");
        if !died {
            assert_eq!(progress.before, 0);
            assert!(stop > 20, "the hook saw the steps");
            break;
        }
        files::apply(&calm, &plan.targets, id(7)).unwrap();
        assert_eq!(tree(&scene.mem()), tree(&source.mem()), "stopped at {stop}");
        stop += 1;
    }
}

#[test]
fn what_cannot_be_carried_is_named_and_never_removed() {
    let scene = Scene::new();
    scene.write("a.md", "a");
    let _socket = std::os::unix::net::UnixListener::bind(scene.mem().join("agent.sock")).unwrap();
    scene.write("sub/.git/config", "[core]\n");
    scene.write("sub/file", "carried");
    scene.write("worktree/.git", "gitdir: elsewhere\n");
    scene.write(".GIT/config", "[core]\n");
    let staged = format!(".nexo-tmp-{}/0", id(70));
    let temp = ".nexo-tmp-4194303-1f-0";
    scene.write(&staged, "ours");
    scene.write(temp, "ours");
    scene.write(".nexo-tmp-notes/0", "carried");
    scene.write(".git/HEAD", "ref: refs/heads/main\n");
    let (bundle, captured) = scene.capture_files();
    let names: HashSet<String> =
        bundle.manifest.artifacts.iter().map(|a| a.path.to_string()).collect();
    let expected = [".nexo-tmp-notes", ".nexo-tmp-notes/0", "a.md", "sub", "sub/file", "worktree"];
    let expected = expected.map(|n| format!("memory_files/{n}"));
    assert_eq!(names, HashSet::from(expected));
    assert_eq!(why(&captured.not_carried, "agent.sock"), "a socket");
    for nested in ["sub/.git", "worktree/.git", ".GIT"] {
        assert_eq!(why(&captured.not_carried, nested), "a nested git repository");
    }
    assert_eq!(why(&captured.not_carried, temp), "its name is that of a temporary file of ours");
    assert_eq!(captured.not_carried.len(), 5);

    // A snapshot without any of it, restored over it.
    let plan = scene.restore_files(&MemoryBundle::default()).unwrap();
    let left: HashSet<Vec<u8>> = tree(&scene.mem()).into_keys().collect();
    for kept in ["agent.sock", "sub/.git/config", "worktree/.git", ".git/HEAD", temp, &staged] {
        assert!(left.contains(kept.as_bytes()), "{kept}");
    }
    for removed in ["sub/file", "a.md", ".nexo-tmp-notes/0"] {
        assert!(!left.contains(removed.as_bytes()), "{removed}");
    }
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
}

/// Closing any descriptor of a live database drops this process's locks on it.
#[test]
fn databases_are_stores_and_never_opened_twice() {
    let scene = Scene::new();
    scene.write("named.sqlite", SQLITE_HEADER);
    scene.write("named.sqlite-wal", "w");
    scene.write("by-header.db", SQLITE_HEADER);
    scene.write("by-sibling", SQLITE_HEADER);
    scene.write("by-sibling-journal", "j");
    scene.write("todo", "a file with a namesake");
    scene.write("todo-journal", "its namesake");
    scene.write("text", "text");
    scene.write("alone-wal", "a base is missing: a file like any other");
    fs::write(scene.mem().join(OsStr::from_bytes(b"\xff.db")), SQLITE_HEADER).unwrap();
    // Not too long for a file, and too long with what a bundle puts behind it.
    scene.write(&"n".repeat(250), SQLITE_HEADER);
    let named = fs::metadata(scene.mem().join("named.sqlite")).unwrap();
    let options =
        ListOptions { stores: HashSet::from([(named.dev(), named.ino())]), ..Default::default() };
    let listed = files::list(&scene.dir("mem"), &options, &Control::default()).unwrap();
    let stores: Vec<&str> = listed.auto_stores.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(stores, ["auto:by-header.db", "auto:by-sibling"]);
    let entries: Vec<String> = listed.entries.iter().map(|e| e.path.to_string()).collect();
    assert_eq!(entries, ["alone-wal", "text", "todo", "todo-journal"]);
    assert_eq!(listed.not_carried.len(), 2);
    assert!(listed.kept.contains(&b"named.sqlite-wal"[..]));
    assert!(listed.kept.contains(&b"by-sibling-journal"[..]));

    // What was looked at and may be a database is still open; the one named never was.
    let open: HashSet<(u64, u64)> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| fs::metadata(fd.unwrap().path()).ok())
        .map(|m| (m.dev(), m.ino()))
        .collect();
    let is_open = |name: &str| {
        let m = fs::metadata(scene.mem().join(name)).unwrap();
        open.contains(&(m.dev(), m.ino()))
    };
    assert!(is_open("by-header.db") && is_open("by-sibling") && is_open("todo"));
    assert!(!is_open("named.sqlite") && !is_open("text"));

    // SQLite said that it is none.
    let plain = fs::metadata(scene.mem().join("by-sibling")).unwrap();
    let options = ListOptions { plain: HashSet::from([(plain.dev(), plain.ino())]), ..options };
    let listed = files::list(&scene.dir("mem"), &options, &Control::default()).unwrap();
    let entries: Vec<String> = listed.entries.iter().map(|e| e.path.to_string()).collect();
    let plain = ["alone-wal", "by-sibling", "by-sibling-journal", "text", "todo", "todo-journal"];
    assert_eq!(entries, plain);
}

#[test]
fn a_file_in_the_place_of_a_live_store_is_refused() {
    let scene = Scene::new();
    scene.write("x.db", "text then");
    let (bundle, _) = scene.capture_files();
    fs::remove_file(scene.mem().join("x.db")).unwrap();
    scene.write("x.db", SQLITE_HEADER);
    let refused = scene.restore_files(&bundle);
    assert!(matches!(refused, Err(StoresError::InTheWay { .. })), "{refused:?}");
}

/// Would catch: a crafted journal or log beside a database, which whoever opens that next would replay into
/// it, removing the file that the journal names; and an agent's text of such a name that is refused too.
#[test]
fn nothing_of_a_bundle_becomes_a_databases_journal() {
    for suffix in ["-journal", "-wal", "-shm"] {
        let scene = Scene::new();
        scene.write(&format!("sub/x.db{suffix}"), "crafted");
        scene.write(&format!("notes{suffix}"), "text");
        scene.write("notes", "text");
        symlink("elsewhere", scene.mem().join(format!("link{suffix}"))).unwrap();
        let (bundle, _) = scene.capture_files();
        let target = Scene::new();
        target.restore_files(&bundle).unwrap();
        for live in ["sub/x.db", "link"] {
            let target = Scene::new();
            target.write(live, SQLITE_HEADER);
            let before = tree(&target.mem());
            let refused = target.restore_files(&bundle);
            assert!(matches!(refused, Err(StoresError::BadPath { .. })), "{refused:?}");
            assert_eq!(tree(&target.mem()), before);
        }
    }
}

/// Would catch: a link of such a name that a capture carries and a restore then refuses.
#[test]
fn a_link_in_the_place_of_a_journal_is_sqlites_own() {
    let scene = Scene::new();
    scene.write("x.db", SQLITE_HEADER);
    symlink("elsewhere", scene.mem().join("x.db-journal")).unwrap();
    let (bundle, _) = scene.capture_files();
    assert!(bundle.manifest.memory_entries().next().is_none());
    scene.restore_files(&bundle).unwrap();
    assert!(scene.mem().join("x.db-journal").is_symlink());
}

/// What changes between the two listings, or after them, is whole, and reported.
#[test]
fn changes_around_the_cut_are_reported() {
    let scene = Scene::new();
    for name in ["still", "changed", "later", "vanished", "replaced", "removed-later"] {
        scene.write(name, format!("{name} before"));
    }
    let (memdir, spool, control) = (scene.dir("mem"), scene.dir("spool"), Control::default());
    let options = ListOptions::default();
    let before = files::list(&memdir, &options, &control).unwrap();
    scene.write("changed", "changed after");
    scene.write("appeared", "appeared");
    fs::remove_file(scene.mem().join("vanished")).unwrap();
    scene.write("temp", "replaced after");
    fs::rename(scene.mem().join("temp"), scene.mem().join("replaced")).unwrap();
    let after = files::list(&memdir, &options, &control).unwrap();
    scene.write("later", "later after");
    scene.write("too-late", "after the cut for sure");
    scene.write("late.db", SQLITE_HEADER);
    fs::remove_file(scene.mem().join("removed-later")).unwrap();
    let mut bundle = MemoryBundle::default();
    let captured =
        files::write_files(&memdir, &options, &before, &after, &mut bundle, &spool, &control)
            .unwrap();
    let unstable: BTreeMap<&str, &str> =
        captured.unstable.iter().map(|u| (u.path.as_str(), u.why.as_str())).collect();
    assert_eq!(unstable.len(), 5, "{unstable:?}");
    assert_eq!(unstable["changed"], "changed around the cut");
    assert_eq!(unstable["later"], "changed around the cut");
    assert_eq!(unstable["replaced"], "changed around the cut");
    assert_eq!(unstable["appeared"], "appeared around the cut");
    assert!(unstable["vanished"].contains("does not hold"));
    assert!(why(&captured.not_carried, "removed-later").contains("removed"));
    let content = |name: &str| {
        let path = BundlePath::parse(&format!("memory_files/{name}")).unwrap();
        bundle.contents.get(&path).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    };
    assert_eq!(content("later").unwrap(), "later after");
    assert_eq!(content("still").unwrap(), "still before");
    assert_eq!(content("too-late"), None);
}

/// Would catch: a repeated restore that takes what somebody wrote since for what it put there itself.
#[test]
fn what_changed_since_is_not_taken_for_what_was_put_there() {
    let scene = Scene::new();
    scene.write("MEMORY.md", "old");
    let (bundle, _) = scene.capture_files();
    scene.write("MEMORY.md", "new");
    let plan = scene.restore_files(&bundle).unwrap();
    let memdir = scene.dir("mem");
    files::apply(&memdir, &plan.targets, id(7)).unwrap();
    scene.write("MEMORY.md", "somebody's");
    let refused = files::apply(&memdir, &plan.targets, id(7));
    assert!(matches!(refused, Err(StoresError::Staged { .. })), "{refused:?}");
    assert_eq!(fs::read(scene.mem().join("MEMORY.md")).unwrap(), b"somebody's");
}

/// Would catch: a recovery that goes forward over what it cannot bring back, and stops half-way or says that it did.
#[test]
fn what_cannot_be_brought_back_any_more_is_told_before() {
    let scene = Scene::new();
    scene.write("changed", "then");
    scene.write("kept", "as it was");
    let (bundle, _) = scene.capture_files();
    scene.write("changed", "now");
    let plan = scene.restore_files(&bundle).unwrap();
    let memdir = scene.dir("mem");
    let lost = || files::irretrievable(&memdir, &plan.targets, id(7)).unwrap().cloned();
    assert_eq!(lost(), None);
    for (path, was) in [("changed", "then"), ("kept", "as it was")] {
        for somebodys in [Some("somebody's"), None] {
            match somebodys {
                Some(text) => scene.write(path, text),
                None => fs::remove_file(scene.mem().join(path)).unwrap(),
            }
            assert!(lost().unwrap().to_string().ends_with(path), "{path} {somebodys:?}");
            scene.write(path, was);
        }
    }
    // Whatever became of it, it is staged again.
    scene.write("changed", "somebody's");
    let control = Control::default();
    files::stage(&memdir, &bundle, &plan.targets, id(7), &control).unwrap();
    assert_eq!(lost(), None);
}

/// Would catch: a file that a writer rewrites in place without pause, and of which nobody hears.
#[test]
fn a_small_file_under_a_writer_is_carried_or_named() {
    use std::os::unix::fs::FileExt as _;
    let scene = Scene::new();
    scene.write("small", vec![b'a'; 64 << 10]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(scene.mem().join("small")).unwrap();
            for letter in (b'a'..=b'z').cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                file.write_all_at(&vec![letter; 64 << 10], 0).unwrap();
            }
        });
        for _ in 0..5 {
            let (bundle, captured) = scene.capture_files();
            let seen = bundle.contents.len() + captured.not_carried.len();
            assert_eq!(seen, 1, "carried or named");
        }
    });
}

/// A large file that changes while it is copied is copied again; one that always does is left out.
#[test]
fn no_large_file_is_torn() {
    use snapshot_fs::{DurableFs, Hook, Op, OpKind};
    use std::os::unix::fs::FileExt as _;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    /// Changes the end of the file when the copy of its front is written.
    struct Changes(std::path::PathBuf, AtomicUsize);
    impl Hook for Changes {
        fn before(&self, op: &Op<'_>) -> std::io::Result<()> {
            let left = &self.1;
            if op.kind == OpKind::Write && left.load(Ordering::Relaxed) > 0 {
                left.fetch_sub(1, Ordering::Relaxed);
                let file = fs::OpenOptions::new().write(true).open(&self.0)?;
                file.write_all_at(b"changed", 5 << 20)?;
            }
            Ok(())
        }
    }

    for (changes, carried) in [(0, true), (1, true), (usize::MAX, false)] {
        let scene = Scene::new();
        scene.write("big", vec![b'a'; 6 << 20]);
        let (memdir, options, control) =
            (scene.dir("mem"), ListOptions::default(), Control::default());
        let listing = files::list(&memdir, &options, &control).unwrap();
        let hook = Changes(scene.mem().join("big"), AtomicUsize::new(changes));
        let spool = DurableFs::with_hook(Arc::new(hook)).open_dir(&scene.at("spool")).unwrap();
        let mut bundle = MemoryBundle::default();
        let captured = files::write_files(
            &memdir,
            &options,
            &listing,
            &listing,
            &mut bundle,
            &spool,
            &control,
        )
        .unwrap();
        assert_eq!(bundle.contents.len(), usize::from(carried), "{changes} changes");
        assert_eq!(captured.not_carried.len(), usize::from(!carried));
        assert_eq!(captured.unstable.len(), usize::from(changes == 1));
        if changes == 1 {
            let path = BundlePath::parse("memory_files/big").unwrap();
            assert_eq!(bundle.contents[&path], fs::read(scene.mem().join("big")).unwrap());
        }
    }
}

#[test]
fn hostile_manifests_write_nothing() {
    let scene = Scene::new();
    scene.write("a", "a");
    let try_path = |path: &[u8]| {
        let mut bundle = MemoryBundle::default();
        let inside = [b"memory_files/", path].concat();
        let spec = FileSpec {
            path: BundlePath::from_bytes(&inside).unwrap(),
            kind: ArtifactKind::MemoryFile,
            size_bytes: 1,
            mode: Some(0o644),
            mtime_ns: Some(0),
        };
        bundle.put_file(spec, &mut &b"x"[..]).unwrap();
        scene.restore_files(&bundle)
    };
    for path in [
        &b".git/config"[..],
        b".GIT/hooks/x",
        b"sub/.git",
        b"git~1/config",
        b".git./config",
        ".g\u{200c}it/config".as_bytes(),
        b"sub/.nexo-tmp-1-1f-0/y",
        b".nexo-tmp-57a44b52-9d6e-4d2f-8a1b-4c5d0f3a1b4c/y",
    ] {
        let refused = try_path(path);
        assert!(matches!(refused, Err(StoresError::BadPath { .. })), "{path:?}: {refused:?}");
    }
    assert_eq!(tree(&scene.mem()).len(), 1);
    assert!(try_path(b".gitignore").is_ok());
    assert!(try_path(b".nexo-tmp-x/y").is_ok());
}

/// A link in the memdir must not lead the restore out of it.
#[test]
fn a_live_link_in_the_way_of_a_folder_is_replaced_not_followed() {
    let scene = Scene::new();
    scene.write("sub/file", "inside");
    let (bundle, _) = scene.capture_files();
    let outside = scene.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("keep"), "outside").unwrap();
    fs::remove_dir_all(scene.mem().join("sub")).unwrap();
    symlink(&outside, scene.mem().join("sub")).unwrap();
    scene.restore_files(&bundle).unwrap();
    assert_eq!(tree(&outside).len(), 1);
    assert_eq!(fs::read_to_string(scene.mem().join("sub/file")).unwrap(), "inside");
}

#[test]
fn content_that_is_not_the_manifests_stops_before_anything_changes() {
    let scene = Scene::new();
    scene.write("a", "good");
    let (mut bundle, _) = scene.capture_files();
    let path = BundlePath::parse("memory_files/a").unwrap();
    scene.write("a", "live");
    for forged in [&b"evil"[..], b"goo", b"good and more"] {
        bundle.contents.insert(path.clone(), forged.to_vec());
        let refused = scene.restore_files(&bundle);
        assert!(matches!(refused, Err(StoresError::Staged { .. })), "{refused:?}");
        assert_eq!(fs::read(scene.mem().join("a")).unwrap(), b"live");
    }
}

/// Run as root, as an operator does, on another user's agent: nothing may become root's.
#[test]
fn new_files_belong_to_whom_they_should() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let scene = Scene::new();
    scene.write("same", "then");
    scene.write("new/deep", "then");
    let (bundle, _) = scene.capture_files();
    fs::remove_dir_all(scene.mem().join("new")).unwrap();
    scene.write("same", "now");
    std::os::unix::fs::chown(scene.mem(), Some(4711), Some(4712)).unwrap();
    std::os::unix::fs::chown(scene.mem().join("same"), Some(815), Some(816)).unwrap();
    scene.restore_files(&bundle).unwrap();
    let owner = |name: &str| {
        let meta = fs::metadata(scene.mem().join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!(owner("same"), (815, 816));
    assert_eq!(owner("new"), (4711, 4712));
    assert_eq!(owner("new/deep"), (4711, 4712));
}

#[test]
fn a_bundle_cannot_plant_a_set_user_id_program() {
    let scene = Scene::new();
    scene.write("tool", "x");
    fs::set_permissions(scene.mem().join("tool"), Permissions::from_mode(0o6755)).unwrap();
    let (bundle, _) = scene.capture_files();
    let other = Scene::new();
    let plan = other.restore_files(&bundle).unwrap();
    assert_eq!(fs::metadata(other.mem().join("tool")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(plan.notes.len(), 1);
}

/// Bundles of the predecessor list files only, without modes or times.
#[test]
fn a_bundle_without_folders_or_modes_restores() {
    let mut bundle = MemoryBundle::default();
    let path = BundlePath::parse("memory_files/a/b/c").unwrap();
    bundle.contents.insert(path.clone(), b"x".to_vec());
    bundle.manifest.artifacts.push(Artifact {
        path,
        kind: ArtifactKind::MemoryFile,
        size_bytes: 1,
        sha256: Sha256Digest::of(b"x"),
        mode: None,
        mtime_ns: None,
        link: None,
        sqlite: None,
    });
    let scene = Scene::new();
    scene.restore_files(&bundle).unwrap();
    assert_eq!(fs::read(scene.mem().join("a/b/c")).unwrap(), b"x");
    assert_eq!(fs::metadata(scene.mem().join("a/b/c")).unwrap().mode() & 0o7777, 0o600);
}

/// A sink that fails must fail the capture, not lose a file.
#[test]
fn a_failing_sink_is_an_error() {
    struct Full;
    impl ArtifactSink for Full {
        fn put_file(
            &mut self,
            _: FileSpec,
            _: &mut dyn std::io::Read,
        ) -> Result<Artifact, PortError> {
            Err(PortError::plain(snapshot_core::ErrorKind::Io, "full"))
        }
        fn put_entry(&mut self, _: &Artifact) -> Result<(), PortError> {
            Ok(())
        }
    }
    let scene = Scene::new();
    scene.write("a", "a");
    let (memdir, options, control) = (scene.dir("mem"), ListOptions::default(), Control::default());
    let listing = files::list(&memdir, &options, &control).unwrap();
    let spool = scene.dir("spool");
    let failed =
        files::write_files(&memdir, &options, &listing, &listing, &mut Full, &spool, &control);
    assert!(matches!(failed, Err(StoresError::Port(_))));
}

/// A generated entry: a path of few letters (so that paths meet), and what lies there.
#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, u32),
    Folder(u32),
    Link(Vec<u8>),
}

fn things() -> impl Strategy<Value = Vec<(Vec<u8>, Thing)>> {
    let name = proptest::collection::vec(
        prop_oneof![Just(b'a'), Just(b'b'), Just(b'.'), Just(0xffu8), Just(b' '), Just(b'\n')],
        1..3,
    );
    let path = proptest::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'));
    let thing = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..40), 0u32..0o1000)
            .prop_map(|(c, m)| Thing::File(c, m)),
        (0u32..0o1000).prop_map(Thing::Folder),
        proptest::collection::vec(1u8..=255, 1..20).prop_map(Thing::Link),
    ];
    proptest::collection::vec((path, thing), 0..12)
}

fn lay_out(root: &Path, things: &[(Vec<u8>, Thing)]) {
    for (path, thing) in things {
        let path = root.join(OsStr::from_bytes(path));
        if !path.starts_with(root) || path.components().any(|c| c.as_os_str() == "..") {
            continue;
        }
        // What cannot be made here (below a file, at a name that is taken) is not part of the set.
        let _ = fs::create_dir_all(path.parent().unwrap());
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match thing {
            Thing::File(content, mode) => {
                if fs::write(&path, content).is_ok() {
                    // Readable for us: what is not is left out, unless we are root.
                    fs::set_permissions(&path, Permissions::from_mode(mode | 0o400)).unwrap();
                }
            }
            Thing::Folder(mode) => {
                if fs::create_dir(&path).is_ok() {
                    fs::set_permissions(&path, Permissions::from_mode(mode | 0o700)).unwrap();
                }
            }
            Thing::Link(target) => {
                let _ = symlink(OsStr::from_bytes(target), &path);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any files survive capture and restore, over any other files.
    #[test]
    fn any_set_of_files_comes_back(then in things(), now in things()) {
        let (source, target) = (Scene::new(), Scene::new());
        lay_out(&source.mem(), &then);
        lay_out(&target.mem(), &now);
        let (bundle, captured) = source.capture_files();
        prop_assert!(captured.not_carried.is_empty());
        target.restore_files(&bundle).unwrap();
        prop_assert_eq!(tree(&target.mem()), tree(&source.mem()));
    }
}

#[test]
fn an_empty_state_plans_a_whole_restore() {
    let scene = rich_scene();
    let (bundle, _) = scene.capture_files();
    let plan = files::plan(&FilesState::default(), &bundle.manifest).unwrap();
    assert_eq!(plan.plan.write.len(), bundle.manifest.artifacts.len());
    assert!(plan.needed_bytes > 5 << 20);
}
