//! Stock tools open a bundle, and find in it every row, ref and file of the agent.
//!
//! [`by_hand`] uses `sha256sum`, `tar`, `zstd`, `git` and `sqlite3` alone; no code of ours stands
//! between the bundle and the verdict.

use std::path::{Path, PathBuf};
use std::process::Command;

use nexo_memory_snapshot::id::StoreName;
use nexo_memory_snapshot::layout::{MemoryLayout, StateLayout};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::DurableFs;
use snapshot_testkit::Git;
use snapshot_testkit::compare::{Memory, Node};

use crate::support::{World, assert_same, engine, restore, take};

/// A program that a test cannot do without, and the Debian package that holds it.
const TOOLS: [(&str, &str); 5] = [
    ("tar", "tar"),
    ("zstd", "zstd"),
    ("git", "git"),
    ("sqlite3", "sqlite3"),
    ("sha256sum", "coreutils"),
];

/// What a repository is like, and how plain git makes it so.
type Shape = (&'static str, fn(&Git));

/// A bundle that was opened by stock tools.
pub(crate) struct ByHand {
    dir: tempfile::TempDir,
    /// Databases, files, state, and the refs of a mirror clone.
    pub(crate) memory: Memory,
    /// `manifest.json`, as any JSON reader sees it.
    pub(crate) manifest: serde_json::Value,
}

/// Checks and unpacks a bundle as its documentation tells people to.
pub(crate) fn by_hand(meta: &SnapshotMeta) -> ByHand {
    need_tools();
    let dir = tempfile::tempdir().unwrap();
    let bundle = &meta.bundle_path;
    let sum = format!("{}.sha256", bundle.file_name().unwrap().to_str().unwrap());
    run(Command::new("sha256sum").args(["-c", &sum]).current_dir(bundle.parent().unwrap()));
    run(Command::new("tar").args(["--zstd", "-xf"]).arg(bundle).arg("-C").arg(dir.path()));
    let manifest = std::fs::read(dir.path().join("manifest.json")).unwrap();
    let refs = clone(dir.path());
    let mut memory = Memory::read(&unpacked(dir.path())).unwrap();
    memory.refs = refs;
    ByHand { memory, manifest: serde_json::from_slice(&manifest).unwrap(), dir }
}

impl ByHand {
    /// What was unpacked.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// It holds `source` in full, but for what a tar does not say and the manifest does.
    #[track_caller]
    pub(crate) fn assert_holds(&self, source: &Memory) {
        let mut expected = source.clone();
        expected.files.values_mut().for_each(as_in_tar);
        let head = expected.refs.remove("HEAD");
        expected.refs = refs_in_bundle(&expected.refs);
        // No bundle has one: a restore builds it from HEAD.
        expected.index.clear();
        let mut found = self.memory.clone();
        found.files.values_mut().for_each(as_in_tar);
        found.refs.remove("HEAD");
        assert_same(&expected, &found);
        assert_eq!(self.head(), head, "HEAD");
        self.assert_full_modes_and_times(source);
    }

    /// HEAD as the manifest tells it: its branch, or the commit where it is detached.
    fn head(&self) -> Option<String> {
        let git = self.manifest.get("git")?;
        let text = |name: &str| git.get(name)?.as_str().map(str::to_owned);
        text("head_ref").or_else(|| text("head_oid"))
    }

    /// The manifest has the mode and the nanoseconds that a tar has no room for.
    fn assert_full_modes_and_times(&self, source: &Memory) {
        let artifacts = self.manifest["artifacts"].as_array().unwrap();
        for (path, node) in &source.files {
            // What is not UTF-8 is named by `path_b64`.
            let Ok(path) = std::str::from_utf8(path) else { continue };
            let path = format!("memory_files/{path}");
            let found = artifacts.iter().find(|a| a["path_in_bundle"] == *path);
            let found = found.unwrap_or_else(|| panic!("{path} is not in the manifest"));
            if node.kind != "symlink" {
                assert_eq!(found["mode"].as_u64(), Some(node.mode.into()), "mode of {path}");
            }
            let time = found["mtime_ns"].as_i64().map(i128::from);
            assert_eq!(time, Some(node.mtime_ns), "time of {path}");
        }
    }
}

fn need_tools() {
    for (tool, package) in TOOLS {
        let found = Command::new(tool).arg("--version").output();
        assert!(found.is_ok(), "{tool} is needed for this test: apt-get install {package}");
    }
}

/// Runs a tool that must succeed; what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Where the parts of an unpacked bundle lie. Every database is looked at by `sqlite3`.
fn unpacked(dir: &Path) -> MemoryLayout {
    let memdir = dir.join("memory_files");
    let mut layout = MemoryLayout {
        memdir: memdir.exists().then_some(memdir),
        state: StateLayout::json_dir(&dir.join("state")),
        ..MemoryLayout::default()
    };
    for entry in std::fs::read_dir(dir.join("sqlite")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".sqlite") else {
            continue;
        };
        let checked = run(Command::new("sqlite3").arg(&path).arg("PRAGMA integrity_check"));
        assert_eq!(checked, "ok", "{}", path.display());
        layout.stores.insert(name.parse::<StoreName>().unwrap(), path);
    }
    layout
}

/// Clones `git/memory.bundle`, where there is one, and lets git check it; the refs of a mirror.
fn clone(dir: &Path) -> std::collections::BTreeMap<String, String> {
    let bundle = dir.join("git/memory.bundle");
    if !bundle.exists() {
        return std::collections::BTreeMap::new();
    }
    let git = Git::at(dir);
    let mirror = dir.join("mirror/.git");
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    git.run(&["clone", "--quiet", "--mirror", &path(&bundle), &path(&mirror)]).unwrap();
    git.run(&["clone", "--quiet", &path(&bundle), "clone"]).unwrap();
    let mirror = Git::at(dir.join("mirror"));
    mirror.run(&["bundle", "verify", "--quiet", &path(&bundle)]).unwrap();
    for repository in [&mirror, &Git::at(dir.join("clone"))] {
        repository.run(&["fsck", "--full", "--strict"]).unwrap();
    }
    let refs = mirror.run(&["for-each-ref", "--format=%(refname)%09%(objectname)"]).unwrap();
    let pairs = refs.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(name, oid)| (name.to_owned(), oid.to_owned())).collect()
}

/// The refs that a bundle has for those of a repository: symbolic ones resolved, stash entries
/// under names of their own.
fn refs_in_bundle(
    refs: &std::collections::BTreeMap<String, String>,
) -> std::collections::BTreeMap<String, String> {
    let in_bundle = |(name, target): (&String, &String)| {
        let oid = target.split(' ').next().unwrap().to_owned();
        match name.strip_prefix("stash@{").and_then(|n| n.strip_suffix('}')) {
            Some(n) => (format!("refs/nexo/stash/{n}"), oid),
            None => (name.clone(), oid),
        }
    };
    refs.iter().map(in_bundle).filter(|(name, _)| name != "refs/stash").collect()
}

/// A tar has 0644 or 0755 and whole seconds.
fn as_in_tar(node: &mut Node) {
    node.mode = match node.kind {
        "symlink" => 0,
        "folder" => 0o755,
        _ if node.mode & 0o100 != 0 => 0o755,
        _ => 0o644,
    };
    node.mtime_ns = node.mtime_ns.div_euclid(1_000_000_000);
}

/// Would catch: a row, ref, file, mode, link, empty folder, raw name or large file that only our
/// own reader finds, or nobody; a `.sha256` that `sha256sum` does not take.
#[test]
fn stock_tools_find_all_of_the_agent() {
    let world = World::tiny();
    let memdir = world.agent.memdir();
    let large: Vec<u8> =
        (0..5_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(memdir.join("inbox/large.bin"), large).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", memdir.join("inbox/absolute")).unwrap();
    let source = world.memory();
    let kinds = |kind: &str| source.files.values().filter(|node| node.kind == kind).count();
    assert!(kinds("symlink") > 2 && kinds("folder") > 3 && source.stores.len() == 4);
    assert!(source.files.keys().any(|path| std::str::from_utf8(path).is_err()));
    let opened = by_hand(&world.snapshot());
    opened.assert_holds(&source);
    let names: Vec<_> =
        std::fs::read_dir(opened.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    for name in ["sqlite", "git", "memory_files", "state", "manifest.json", "clone", "mirror"] {
        assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
    }
    assert_eq!(names.len(), 7, "{names:?}");
}

/// A memdir alone, in the folder `memdir`; its engine.
fn memdir_engine(tmp: &Path, memdir: &str) -> (Engine, MemoryLayout) {
    let layout = MemoryLayout { memdir: Some(tmp.join(memdir)), ..MemoryLayout::default() };
    (engine(&tmp.join("vault"), layout.clone(), DurableFs::default()), layout)
}

/// One commit, by plain git, of a file of this name.
fn commit(git: &Git, name: &str) {
    std::fs::write(git.dir().join(name), name).unwrap();
    git.run(&["add", name]).unwrap();
    git.run(&["commit", "--quiet", "-m", name]).unwrap();
}

/// Repositories in every shape that the predecessor lost, and some more.
fn shapes() -> Vec<Shape> {
    vec![
        ("after gc", |git| {
            commit(git, "one");
            git.run(&["branch", "side"]).unwrap();
            git.run(&["tag", "plain"]).unwrap();
            commit(git, "two");
            git.run(&["gc", "--quiet", "--prune=now"]).unwrap();
            assert!(git.dir().join(".git/packed-refs").exists());
            assert!(!git.dir().join(".git/refs/heads/main").exists());
        }),
        ("no commit", |git| std::fs::write(git.dir().join("draft"), "not committed").unwrap()),
        ("an unborn branch beside others", |git| {
            commit(git, "one");
            git.run(&["checkout", "--quiet", "--orphan", "unborn"]).unwrap();
            // An index is rebuilt from HEAD, so what is staged alone stays behind by design.
            git.run(&["rm", "--quiet", "--cached", "one"]).unwrap();
        }),
        ("detached", |git| {
            commit(git, "one");
            commit(git, "two");
            git.run(&["checkout", "--quiet", "--detach", "HEAD~1"]).unwrap();
        }),
        ("several stashes", |git| {
            commit(git, "one");
            for n in 0..3 {
                std::fs::write(git.dir().join("one"), format!("stashed {n}")).unwrap();
                git.run(&["stash", "push", "--quiet", "-m", &format!("thought {n}")]).unwrap();
            }
        }),
        ("annotated tags and notes", |git| {
            commit(git, "one");
            git.run(&["tag", "-a", "v1", "-m", "version 1"]).unwrap();
            git.run(&["tag", "-a", "of-a-tag", "-m", "tag of a tag", "v1"]).unwrap();
            git.run(&["tag", "of-a-blob", "HEAD:one"]).unwrap();
            git.run(&["tag", "of-a-tree", "HEAD^{tree}"]).unwrap();
            git.run(&["notes", "add", "-m", "a note", "HEAD"]).unwrap();
            git.run(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]).unwrap();
        }),
    ]
}

/// Would catch: refs read as loose files, a HEAD that is taken for a branch, a stash of which the
/// newest entry alone travels, tags and notes that are left behind; a repository that comes back
/// as "not a git repository".
#[test]
fn repositories_of_every_shape() {
    for (what, make) in shapes() {
        println!("{what}");
        let tmp = tempfile::tempdir().unwrap();
        let (from, layout) = memdir_engine(tmp.path(), "memdir");
        let git = Git::at(layout.memdir.as_ref().unwrap());
        std::fs::create_dir(git.dir()).unwrap();
        git.run(&["init", "--quiet"]).unwrap();
        make(&git);
        let source = Memory::read(&layout).unwrap();
        let meta = take(&from);
        by_hand(&meta).assert_holds(&source);

        let (to, layout) = memdir_engine(tmp.path(), "elsewhere");
        restore(&to, &meta).unwrap();
        assert_same(&source, &Memory::read(&layout).unwrap());
        let restored = Git::at(layout.memdir.as_ref().unwrap());
        restored.run(&["fsck", "--full", "--strict"]).unwrap();
        let status = |git: &Git| git.run(&["status", "--porcelain"]).unwrap();
        assert_eq!(status(&restored), status(&git), "{what}");
    }
}

/// Would catch: a memdir without a repository that is refused, or given one.
#[test]
fn a_memdir_without_a_repository() {
    let tmp = tempfile::tempdir().unwrap();
    let (from, layout) = memdir_engine(tmp.path(), "memdir");
    let memdir = layout.memdir.clone().unwrap();
    std::fs::create_dir_all(memdir.join("notes/empty")).unwrap();
    std::fs::write(memdir.join("notes/a.md"), "a note").unwrap();
    let source = Memory::read(&layout).unwrap();
    let meta = take(&from);
    let opened = by_hand(&meta);
    opened.assert_holds(&source);
    assert!(!opened.path().join("git").exists() && opened.manifest.get("git").is_none());

    let (to, layout) = memdir_engine(tmp.path(), "elsewhere");
    restore(&to, &meta).unwrap();
    assert_same(&source, &Memory::read(&layout).unwrap());
    assert!(!layout.memdir.unwrap().join(".git").exists());
}
