//! Looking into a snapshot: its files and its history, judged by the real git.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::manifest::{TreeEntry, TreeEntryKind};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::{GitPath, PathInside};
use snapshot_testkit::Random;

use crate::support::{World, frames_needed};

/// Would catch: a name of a commit that is read otherwise than git reads it, a file of another commit,
/// and content that is not the blob's.
#[test]
fn a_commit_is_called_what_git_calls_it() {
    let world = World::tiny();
    let git = world.agent.git();
    fs::write(world.agent.memdir().join("MEMORY.md"), "put away").unwrap();
    git.run(&["stash", "-q"]).unwrap();
    let meta = world.snapshot();
    let head = git.run(&["rev-parse", "HEAD"]).unwrap();
    let names = ["main", "HEAD", "@", "v1", "tags/v1", "refs/heads/ideas", "draft/unfinished"];
    let steps = ["main~3", "HEAD^", "v1^{commit}", "baseline", "stash@{0}", &head, &head[..7]];
    for name in names.into_iter().chain(steps) {
        let expected = git.run(&["ls-tree", "-r", "-t", "-l", name]).unwrap();
        assert_eq!(world.ls_tree(&meta, &format!("git@{name}")), expected, "{name}");
    }
    assert_eq!(world.cat(&meta, "git@stash:MEMORY.md").unwrap(), b"put away");
    let old = git.run(&["cat-file", "blob", "main~3:MEMORY.md"]).unwrap() + "\n";
    assert_eq!(world.cat(&meta, "git@main~3:MEMORY.md").unwrap(), old.as_bytes());
    assert_eq!(world.cat(&meta, "git@:latest").unwrap(), b"notes/0001-0.md");
}

/// Would catch: an error that does not say what there is, and one that an operator takes for damage.
#[test]
fn what_the_history_does_not_have_is_told() {
    let world = World::tiny();
    let meta = world.snapshot();
    for (path, says, kind) in [
        ("git@mian:MEMORY.md", "there are HEAD, draft/unfinished", ErrorKind::UnknownSnapshot),
        ("git@main:nothing.md", "nothing at git@main:nothing.md", ErrorKind::UnknownSnapshot),
        ("git@main~999:MEMORY.md", "main~999", ErrorKind::UnknownSnapshot),
        ("git@deadbeef:MEMORY.md", "deadbeef", ErrorKind::UnknownSnapshot),
        ("git@main:notes", "no file", ErrorKind::Usage),
        ("memory_files/notes", "no file", ErrorKind::Usage),
    ] {
        let error = world.cat(&meta, path).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
    fs::remove_dir_all(world.agent.memdir().join(".git")).unwrap();
    let error = world.cat(&world.snapshot(), "git@main:MEMORY.md").unwrap_err();
    assert!(error.to_string().contains("no git history"), "{error}");
}

/// Would catch: files of a history under wrong names, with wrong bytes, and links that were followed.
#[test]
fn a_commits_files_are_extracted_as_git_checks_them_out() {
    let world = World::tiny();
    let meta = world.snapshot();
    let (out, checked_out) = (world.tmp.path().join("out"), world.tmp.path().join("worktree"));
    let add = ["worktree", "add", "-q", checked_out.to_str().unwrap(), "v1"];
    world.agent.git().run(&add).unwrap();
    fs::remove_file(checked_out.join(".git")).unwrap();
    let v1: PathInside = "git@v1".parse().unwrap();
    let control = Control::default();
    let done = world.engine.extract(&meta, Some(&v1), &out, &control).unwrap();
    assert_eq!(files_of(&out), files_of(&checked_out));
    assert_eq!(done.entries, files_of(&out).len() as u64);
    let again = world.engine.extract(&meta, Some(&v1), &out, &control).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused, "{again}");
    // What was unpacked for it is gone.
    let staging = meta.bundle_path.ancestors().nth(2).unwrap().join(".staging");
    assert_eq!(fs::read_dir(staging).map_or(0, Iterator::count), 0);
}

/// Would catch: looking at one thing by reading others.
#[test]
fn only_the_frames_that_hold_it_are_read() {
    let world = World::tiny();
    let noise = |seed| Random::new(seed).bytes(5 << 19);
    let store = rusqlite::Connection::open(world.agent.store("long_term")).unwrap();
    store.execute("CREATE TABLE much AS SELECT ?1 AS noise", [noise(1)]).unwrap();
    for (seed, name) in [(2, "MEMORY.md"), (3, "noise")] {
        fs::write(world.agent.memdir().join(name), noise(seed)).unwrap();
    }
    world.agent.git().run(&["commit", "-qam", "much"]).unwrap();
    let meta = world.snapshot();
    let needed = |path: &str| frames_needed(&meta.bundle_path, || world.cat(&meta, path).is_ok());
    // One more for the manifest.
    assert_eq!(needed("memory_files/MEMORY.md"), 3 + 1);
    assert_eq!(needed("state/extract_cursor.json"), 1 + 1);
    assert_eq!(needed("git@main:MEMORY.md"), 3 + 1);
    assert_eq!(needed("git@v1:MEMORY.md"), 3 + 1);
}

/// Would catch: a history of a few small trees, each naming the next over and over, that fills the
/// memory or never ends when it is listed.
#[test]
fn a_tree_without_end_is_refused() {
    let world = World::tiny();
    let git = world.agent.git();
    let head = git.run(&["rev-parse", "HEAD"]).unwrap();
    // What costs least to list.
    let mut line = format!("160000 commit {head}");
    for _ in 0..7 {
        let entries: String = (0..16).map(|n| format!("{line}\tn{n}\n")).collect();
        line = format!("040000 tree {}", git.feed(&["mktree"], entries.as_bytes()).unwrap());
    }
    let tree = line.rsplit(' ').next().unwrap();
    let commit = git.run(&["commit-tree", tree, "-m", "endless"]).unwrap();
    git.run(&["branch", "endless", &commit]).unwrap();
    let meta = world.snapshot();
    assert_eq!(
        world.entries(&meta, "git@endless:n0/n1/n2/n3").unwrap().len(),
        1 + 16 * (1 + 16 * 17)
    );
    let error = world.entries(&meta, "git@endless").unwrap_err();
    assert!(error.to_string().contains("entries"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Integrity);
}

impl World {
    fn cat(&self, meta: &SnapshotMeta, path: &str) -> Result<Vec<u8>, SnapshotError> {
        let (mut out, control) = (Vec::new(), Control::default());
        match path.parse().unwrap() {
            PathInside::Bundle(path) => {
                self.engine.read_artifact(meta, &path, &mut out, &control)?
            }
            PathInside::Git(at) => self.engine.read_git(meta, &at, &mut out, &control)?,
        };
        Ok(out)
    }

    fn entries(&self, meta: &SnapshotMeta, at: &str) -> Result<Vec<TreeEntry>, SnapshotError> {
        self.engine.git_entries(meta, &git_path(at), &Control::default())
    }

    /// What `git ls-tree -r -t -l` prints of it.
    fn ls_tree(&self, meta: &SnapshotMeta, at: &str) -> String {
        let line = |e: &TreeEntry| {
            let (mode, kind) = match e.kind {
                TreeEntryKind::File => ("100644", "blob"),
                TreeEntryKind::Executable => ("100755", "blob"),
                TreeEntryKind::Symlink => ("120000", "blob"),
                TreeEntryKind::Dir => ("040000", "tree"),
                TreeEntryKind::Submodule => ("160000", "commit"),
            };
            let size = if kind == "blob" { e.size_bytes.to_string() } else { "-".to_owned() };
            format!("{mode} {kind} {} {size:>7}\t{}", e.oid, e.path)
        };
        let lines: Vec<_> = self.entries(meta, at).unwrap().iter().map(line).collect();
        lines.join("\n")
    }
}

fn git_path(text: &str) -> GitPath {
    match text.parse().unwrap() {
        PathInside::Git(at) => at,
        PathInside::Bundle(path) => panic!("{path} is no path of a history"),
    }
}

/// Every entry below a folder: a link's target, a file's content and whether it may be run.
fn files_of(dir: &Path) -> BTreeMap<PathBuf, (String, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stat = fs::symlink_metadata(&path).unwrap();
        let name = PathBuf::from(path.file_name().unwrap());
        if stat.is_symlink() {
            let target = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
            found.insert(name, ("link".to_owned(), target));
        } else if stat.is_dir() {
            let below = files_of(&path).into_iter().map(|(below, what)| (name.join(below), what));
            found.extend(below);
            found.insert(name, ("folder".to_owned(), Vec::new()));
        } else {
            let runs = stat.permissions().mode() & 0o100 != 0;
            found.insert(name, (format!("file, runs {runs}"), fs::read(&path).unwrap()));
        }
    }
    found
}
