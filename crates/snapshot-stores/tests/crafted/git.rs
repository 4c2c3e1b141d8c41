//! Histories that git would not write: refused before anything moves, or, where git itself makes nothing
//! of them, carried. Stock git is the judge of what arrives.

use std::fs;
use std::process::Command;

use git2::{ObjectType, Oid, PackBuilder, Repository};
use snapshot_core::{ArtifactKind, BundlePath, ErrorKind, GitInfo, GitOid, GitRef};
use snapshot_testkit::{Git, MemoryBundle};

use crate::support::{Target, put};

/// What a crafted commit says of who made it.
const WHO: &str = "author A <a> 0 +0000\ncommitter A <a> 0 +0000\n";

/// Where objects are made that nobody looks at.
struct Forge {
    _tmp: tempfile::TempDir,
    repo: Repository,
}

/// A history: its objects are all that its refs lead to in the forge, and those told.
struct History {
    objects: Vec<Oid>,
    info: GitInfo,
}

impl Forge {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let repo = Repository::init_bare(tmp.path()).unwrap();
        Self { _tmp: tmp, repo }
    }

    fn object(&self, kind: ObjectType, content: &[u8]) -> Oid {
        self.repo.odb().unwrap().write(kind, content).unwrap()
    }

    fn blob(&self, content: &[u8]) -> Oid {
        self.object(ObjectType::Blob, content)
    }

    fn tree(&self, entries: &[(&str, &[u8], Oid)]) -> Oid {
        let entry = |(mode, name, oid): &(&str, &[u8], Oid)| {
            [mode.as_bytes(), b" ", name, b"\0", oid.as_bytes()].concat()
        };
        self.object(ObjectType::Tree, &entries.iter().flat_map(entry).collect::<Vec<u8>>())
    }

    fn commit(&self, tree: Oid, parents: &[Oid], rest: &str) -> Oid {
        let parents: String = parents.iter().map(|oid| format!("parent {oid}\n")).collect();
        self.object(ObjectType::Commit, format!("tree {tree}\n{parents}{rest}").as_bytes())
    }

    /// One commit of this tree on `main`, with these objects too.
    fn of_tree(&self, tree: Oid, more: &[Oid]) -> History {
        let commit = self.commit(tree, &[], &format!("{WHO}\nx\n"));
        History::new(commit, &[&[commit, tree], more].concat())
    }

    /// One commit of one file.
    fn of_file(&self, mode: &str, name: &[u8], content: &[u8]) -> History {
        let blob = self.blob(content);
        self.of_tree(self.tree(&[(mode, name, blob)]), &[blob])
    }

    fn bundle(&self, history: &History) -> MemoryBundle {
        let History { objects, info } = history;
        let mut pack: PackBuilder<'_> = self.repo.packbuilder().unwrap();
        objects.iter().for_each(|oid| pack.insert_object(*oid, None).unwrap());
        let (mut bytes, mut packed) = (b"# v2 git bundle\n".to_vec(), git2::Buf::new());
        pack.write_buf(&mut packed).unwrap();
        let head = info.head_oid.iter().map(|oid| format!("{oid} HEAD\n"));
        let refs =
            info.refs.iter().filter_map(|r| Some(format!("{} {}\n", r.oid.as_ref()?, r.name)));
        bytes.extend(head.chain(refs).collect::<String>().into_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&packed);
        let mut bundle = MemoryBundle::new();
        let path = BundlePath::parse("git/memory.bundle").unwrap();
        put(&mut bundle, &path, ArtifactKind::GitBundle, &bytes);
        bundle.manifest.git = Some(info.clone());
        bundle
    }
}

impl History {
    fn new(head: Oid, objects: &[Oid]) -> Self {
        let info = GitInfo {
            head_oid: Some(id(head)),
            head_ref: Some("refs/heads/main".to_owned()),
            ..GitInfo::default()
        };
        Self { objects: objects.to_vec(), info }.and_ref("refs/heads/main", head)
    }

    fn and_ref(mut self, name: &str, oid: Oid) -> Self {
        let named = GitRef { name: name.to_owned(), oid: Some(id(oid)), target: None };
        self.info.refs.push(named);
        self
    }
}

impl History {
    fn and_symbolic(mut self, name: &str, target: &str) -> Self {
        let (name, target) = (name.to_owned(), Some(target.to_owned()));
        self.info.refs.push(GitRef { name, oid: None, target });
        self
    }
}

fn id(oid: Oid) -> GitOid {
    oid.to_string().parse().unwrap()
}

/// A bundle of one commit, on `main` and these refs.
pub(crate) fn with_refs(names: &[&str]) -> MemoryBundle {
    let forge = Forge::new();
    let empty = forge.tree(&[]);
    let history = forge.of_tree(empty, &[]);
    let head = history.objects[0];
    forge.bundle(&names.iter().fold(history, |history, name| history.and_ref(name, head)))
}

/// Nothing of it arrives.
#[track_caller]
fn refused(what: &str, forge: &Forge, history: &History) {
    let target = Target::new();
    let Err(error) = target.restore(&forge.bundle(history)) else { panic!("{what} was taken") };
    assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error:?}");
    let left: Vec<_> = fs::read_dir(target.mem()).unwrap().collect();
    assert!(left.is_empty(), "{what}: {left:?}");
}

/// Would catch: an object by which git was made to write elsewhere or run something, or that its library
/// stumbles over once the live repository is half changed.
#[test]
fn objects_that_harm_are_refused() {
    let forge = Forge::new();
    let (empty, blob) = (forge.tree(&[]), forge.blob(b"x"));
    let modules = |text: &[u8]| forge.of_file("100644", b".gitmodules", text);
    let commit = |rest: &str| {
        let commit = forge.commit(empty, &[], rest);
        History::new(commit, &[commit, empty])
    };
    let tag = |of: Oid, kind: &str| {
        let text = format!("object {of}\ntype {kind}\ntag t\ntagger A <a> 0 +0000\n\nx\n");
        forge.object(ObjectType::Tag, text.as_bytes())
    };
    let missing = Oid::from_str(&"7".repeat(40)).unwrap();
    let below = forge.tree(&[("120000", b".gitmodules", blob)]);
    let on_missing = tag(missing, "commit");
    let on_blob = tag(blob, "blob");
    let plain = commit(&format!("{WHO}\nx\n"));
    let main = plain.objects[0];
    for (what, history) in [
        (
            "no order",
            forge.of_tree(forge.tree(&[("100644", b"b", blob), ("100644", b"a", blob)]), &[blob]),
        ),
        (
            "a folder in the order of a file",
            forge.of_tree(
                forge.tree(&[("40000", b"a", empty), ("100644", b"a.b", blob)]),
                &[blob, empty],
            ),
        ),
        (
            "one name twice",
            forge.of_tree(forge.tree(&[("100644", b"a", blob), ("100644", b"a", blob)]), &[blob]),
        ),
        ("a URL that is an option", modules(b"[submodule \"a\"]\n\turl = -u./x\n")),
        ("a path that is an option", modules(b"[submodule \"a\"]\n\tpath = -x\n")),
        ("a name out of its folder", modules(b"[submodule \"../../.git/hooks\"]\n\turl = a\n")),
        ("a command", modules(b"[submodule \"a\"]\n\tupdate = !touch planted\n")),
        (
            "a link for submodules",
            forge.of_tree(forge.tree(&[("40000", b"sub", below)]), &[below, blob]),
        ),
        (
            "a folder of submodules",
            forge.of_tree(forge.tree(&[("40000", b".gitmodules", empty)]), &[empty]),
        ),
        ("submodules by another name", forge.of_file("100644", b"GITMOD~1", b"[submodule \"..\"]")),
        ("a short name of .git", forge.of_file("100644", b"git~1", b"")),
        ("a NUL in a header", commit("author A\0 <a> 0 +0000\ncommitter A <a> 0 +0000\n\nx\n")),
        ("an author without an address", commit("author x\ncommitter y\n\nx\n")),
        ("HEAD on a file", History::new(blob, &[blob])),
        ("HEAD on a tag of a file", History::new(on_blob, &[on_blob, blob])),
        (
            "a tag of nothing",
            History::new(main, &[main, empty, on_missing]).and_ref("refs/tags/t", on_missing),
        ),
        (
            "a ref longer than a file's name",
            History::new(main, &[main, empty])
                .and_ref(&format!("refs/heads/{}", "x".repeat(251)), main),
        ),
        (
            "a ref longer than any",
            History::new(main, &[main, empty])
                .and_ref(&format!("refs/heads/{}x", "x/".repeat(600)), main),
        ),
    ] {
        refused(what, &forge, &history);
    }
    // HEAD in a circle, at which git's library gives up.
    let mut circle =
        History::new(main, &[main, empty]).and_symbolic("refs/heads/a", "refs/heads/b");
    circle = circle.and_symbolic("refs/heads/b", "refs/heads/a");
    circle.info.head_oid = None;
    circle.info.head_ref = Some("refs/heads/a".to_owned());
    refused("HEAD in a circle", &forge, &circle);
    // Beside HEAD a circle, or a ref to nothing, is git's to complain of.
    circle.info.head_ref = Some("refs/heads/main".to_owned());
    circle.info.head_oid = Some(id(main));
    let circle = circle.and_symbolic("refs/heads/c", "refs/heads/not/there");
    Target::new().restore(&forge.bundle(&circle)).unwrap();
    let long = format!("refs/heads/{}{}", "x/".repeat(370), "x".repeat(249));
    let plain = plain.and_ref(&long, main).and_ref("refs/heads/longest", main);
    assert_eq!(long.len(), 1000);
    Target::new().restore(&forge.bundle(&plain)).unwrap();
}

/// Would catch: objects under another kind than they are named for, which git follows elsewhere or not at all.
#[test]
fn objects_of_another_kind_than_they_are_named_for_are_refused() {
    let forge = Forge::new();
    let (blob, empty) = (forge.blob(b"x"), forge.tree(&[]));
    let named = |mode, oid| forge.of_tree(forge.tree(&[(mode, b"a", oid)]), &[oid]);
    refused("a tree named as a file", &forge, &named("100644", empty));
    refused("a file named as a tree", &forge, &named("40000", blob));
    let other = forge.commit(empty, &[], &format!("{WHO}\nx\n"));
    let mut history = named("100644", other);
    history.objects.push(empty);
    refused("a commit named as a file", &forge, &history);
    refused("a file named as the tree of a commit", &forge, &forge.of_tree(blob, &[]));
}

/// Would catch: a few kilobytes of trees that stand for more files than fit anywhere, or for a path without
/// end, found out when the index is written and the live repository is already another.
#[test]
fn trees_that_stand_for_too_much_are_refused() {
    let forge = Forge::new();
    let blob = forge.blob(b"x");
    let nested = |levels: usize, width: usize| {
        let mut objects = vec![blob];
        let names: Vec<String> = (0..width).map(|n| format!("{n:02}")).collect();
        let of = |mode, oid| -> Vec<(&str, &[u8], Oid)> {
            names.iter().map(|name| (mode, name.as_bytes(), oid)).collect()
        };
        objects.push(forge.tree(&of("100644", blob)));
        for _ in 1..levels {
            objects.push(forge.tree(&of("40000", *objects.last().unwrap())));
        }
        forge.of_tree(*objects.last().unwrap(), &objects[..objects.len() - 1])
    };
    refused("a bomb", &forge, &nested(12, 10));
    refused("a million and one files", &forge, &nested(3, 101));
    refused("folders without end", &forge, &nested(3000, 1));
    Target::new().restore(&forge.bundle(&nested(100, 1))).unwrap();
    Target::new().restore(&forge.bundle(&nested(3, 20))).unwrap();
}

/// Would catch: something of a bundle that git obeys or runs once it is restored, and data refused for its
/// looks.
#[test]
fn what_git_makes_nothing_of_arrives_as_data() {
    let forge = Forge::new();
    let planted = tempfile::tempdir().unwrap();
    let touch = format!("touch {}/planted", planted.path().display());
    let attributes = forge.blob(b"* filter=evil diff=evil merge=evil\n");
    let modules = forge.blob(b"[submodule \"a\"]\n\tpath = a\n\turl = ../a\n");
    let (blob, hook) = (forge.blob(b"x"), forge.blob(touch.as_bytes()));
    let elsewhere = Oid::from_str(&"7".repeat(40)).unwrap();
    let hooks = forge.tree(&[("100755", b"post-checkout", hook)]);
    let tree = forge.tree(&[
        ("100644", b"\x1b[2J\xff", blob),
        ("100644", b"-x", blob),
        ("100644", b".gitattributes", attributes),
        ("100644", b".gitmodules", modules),
        ("160000", b"a", elsewhere),
        ("100644", b"back\\slash", blob),
        ("120000", b"config", blob),
        ("40000", b"hooks", hooks),
    ]);
    let first = forge.commit(tree, &[], &format!("{WHO}\n\u{1b}]8;;evil\u{7}\0after\n"));
    let second = forge.commit(tree, &[first], &format!("{WHO}gpgsig x\n y\n\n-x\n"));
    let objects = [first, second, tree, attributes, modules, blob, hook, hooks];
    let history = History::new(second, &objects)
        .and_ref("refs/heads/-x", first)
        .and_ref("refs/heads/HEAD", first)
        .and_ref("refs/notes/commits", first)
        .and_ref(&format!("refs/replace/{first}"), second)
        .and_ref("refs/remotes/origin/\u{202e}x", first);
    let target = Target::new();
    fs::write(target.mem().join(".keep"), "").unwrap();
    target.restore(&forge.bundle(&history)).unwrap();

    let dot_git = target.mem().join(".git");
    let config = fs::read_to_string(dot_git.join("config")).unwrap();
    assert!(
        config.lines().all(|line| line == "[core]" || line.contains(" = ")) && config.len() < 120
    );
    for absent in ["hooks", "info", "objects/info/alternates", "modules", "shallow", "worktrees"] {
        assert!(!dot_git.join(absent).exists(), "{absent}");
    }
    // Without the flags that the kit's git has.
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.env_clear().current_dir(target.mem()).args(args);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.envs([("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1")]);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    git(&["fsck", "--full", "--no-dangling"]);
    git(&["status", "--porcelain"]);
    git(&["log", "--all", "--stat"]);
    git(&["diff", "HEAD"]);
    git(&["checkout", "-q", "-f", "HEAD", "--", "."]);
    git(&["checkout", "-q", "--detach", "main"]);
    git(&["stash", "list"]);
    assert_eq!(git(&["rev-parse", "refs/heads/main"]).trim(), second.to_string());
    assert_eq!(fs::read_dir(planted.path()).unwrap().count(), 0, "something ran");
}

/// Would catch: history that the live repository has and that a bundle hides, by cutting it off or by
/// showing something else for it: the next `git gc` would remove it.
#[test]
fn nothing_hides_the_history_that_is_there() {
    let target = Target::new();
    let live = Git::at(target.mem());
    live.run(&["init", "-q"]).unwrap();
    for message in ["one", "two", "three"] {
        live.run(&["commit", "-q", "--allow-empty", "-m", message]).unwrap();
    }
    let head: Oid = live.run(&["rev-parse", "HEAD"]).unwrap().parse().unwrap();
    let forge = Forge::new();
    let text =
        Repository::open(target.mem()).unwrap().odb().unwrap().read(head).unwrap().data().to_vec();
    assert_eq!(forge.object(ObjectType::Commit, &text), head);
    let empty = forge.tree(&[]);

    let mut cut = History::new(head, &[head, empty]);
    cut.info.shallow = vec![id(head), id(Oid::from_str(&"7".repeat(40)).unwrap())];
    target.restore(&forge.bundle(&cut)).unwrap();
    assert!(!target.mem().join(".git/shallow").exists());
    assert_eq!(live.run(&["log", "--format=%s"]).unwrap(), "three\ntwo\none");
    // Where there is no such history, it is cut off, and git can work with that.
    let other = Target::new();
    other.restore(&forge.bundle(&cut)).unwrap();
    let cut_off = fs::read_to_string(other.mem().join(".git/shallow")).unwrap();
    assert_eq!(cut_off, format!("{head}\n"));
    assert_eq!(Git::at(other.mem()).run(&["log", "--format=%s"]).unwrap(), "three");

    let fake = forge.commit(empty, &[], &format!("{WHO}\nnever was\n"));
    let hiding = History::new(fake, &[fake, empty]).and_ref(&format!("refs/replace/{head}"), fake);
    let error = target.restore(&forge.bundle(&hiding)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert_eq!(live.run(&["log", "--format=%s"]).unwrap(), "three\ntwo\none");
}

/// Would catch: a memory file that lands in the live repository, or makes one that git finds.
#[test]
fn no_memory_file_reaches_into_a_repository() {
    for path in [
        ".git/hooks/post-checkout",
        ".git/config",
        ".git",
        ".Git/config",
        ".g\u{200c}it/config",
        "git~1/config",
        ".git./config",
        "sub/.git/config",
        "sub/.GIT",
        "sub/.git::$INDEX_ALLOCATION/config",
    ] {
        let target = Target::new();
        let live = Git::at(target.mem());
        live.run(&["init", "-q"]).unwrap();
        let before = fs::read(target.mem().join(".git/config")).unwrap();
        let mut bundle = MemoryBundle::new();
        let path = BundlePath::parse(&format!("memory_files/{path}")).unwrap();
        put(&mut bundle, &path, ArtifactKind::MemoryFile, b"[core]\n\tfsmonitor = touch planted\n");
        let error = target.restore(&bundle).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{path}: {error}");
        assert_eq!(fs::read(target.mem().join(".git/config")).unwrap(), before, "{path}");
        assert_eq!(fs::read_dir(target.mem()).unwrap().count(), 1, "{path}");
    }
    let target = Target::new();
    let mut bundle = MemoryBundle::new();
    for name in
        [".gitmodules", ".gitattributes", ".gitignore", "HEAD", "config", "hooks/post-checkout"]
    {
        let path = BundlePath::parse(&format!("memory_files/{name}")).unwrap();
        put(&mut bundle, &path, ArtifactKind::MemoryFile, b"text");
    }
    target.restore(&bundle).unwrap();
    assert!(target.mem().join("hooks/post-checkout").is_file());
}
