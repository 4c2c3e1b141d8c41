//! A memdir's repository, by stock git: refs, HEAD, stash and index, once every object was read.

use std::collections::BTreeMap;

use crate::error::KitError;
use crate::git::Git;

/// Reads every object there is, and finds each that a ref, the stash, a reflog or the index needs. What git keeps
/// beside packs to be faster is no part of a memory, and to look into it takes two more processes.
const CHECK: [&str; 8] = [
    "-c",
    "core.commitGraph=false",
    "-c",
    "core.multiPackIndex=false",
    "fsck",
    "--full",
    "--no-dangling",
    "--no-progress",
];

/// Refs with objects and symbolic targets, HEAD, and the stash entries.
///
/// # Errors
/// If git cannot read them, or an object that they or the index need is missing or damaged.
pub(super) fn refs(git: &Git) -> Result<BTreeMap<String, String>, KitError> {
    git.run(&CHECK)?;
    let list = git.run(&["for-each-ref", "--format=%(refname)%09%(objectname) %(symref)"])?;
    let mut refs: BTreeMap<String, String> = list
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, target)| (name.to_owned(), target.trim_end().to_owned()))
        .collect();
    let head = git
        .run(&["symbolic-ref", "--quiet", "HEAD"])
        .or_else(|_| git.run(&["rev-parse", "--verify", "HEAD"]))?;
    refs.insert("HEAD".to_owned(), head);
    if refs.contains_key("refs/stash") {
        let stash = git.run(&["stash", "list", "--format=%H %gs"])?;
        for (n, entry) in stash.lines().enumerate() {
            refs.insert(format!("stash@{{{n}}}"), entry.to_owned());
        }
    }
    Ok(refs)
}

/// What the index says of each path: mode, object, and which side of a merge it is.
///
/// # Errors
/// If git cannot read it.
pub(super) fn index(git: &Git) -> Result<BTreeMap<String, String>, KitError> {
    let list = git.run(&["ls-files", "--stage"])?;
    let entries = list.lines().filter_map(|line| line.split_once('\t'));
    let entries = entries.filter_map(|(what, path)| {
        let (what, side) = what.rsplit_once(' ')?;
        Some((format!("{path} {side}"), what.to_owned()))
    });
    Ok(entries.collect())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Two commits, and two stash entries, the older of which nothing but a reflog leads to.
    fn repository(dir: &Path) -> Git {
        let git = Git::at(dir);
        git.run(&["init", "--quiet"]).unwrap();
        for text in ["one", "two"] {
            fs::write(dir.join("note.md"), text).unwrap();
            git.run(&["add", "note.md"]).unwrap();
            git.run(&["commit", "--quiet", "--message", text]).unwrap();
        }
        for text in ["an idea", "another"] {
            fs::write(dir.join("note.md"), text).unwrap();
            git.run(&["stash", "push", "--quiet", "--message", text]).unwrap();
        }
        git
    }

    /// The file of a loose object.
    fn loose(git: &Git, object: &str) -> PathBuf {
        let id = git.run(&["rev-parse", "--verify", object]).unwrap();
        git.dir().join(".git/objects").join(&id[..2]).join(&id[2..])
    }

    /// The only pack.
    fn pack(git: &Git, ending: &str) -> PathBuf {
        git.run(&["gc", "--quiet"]).unwrap();
        let files = fs::read_dir(git.dir().join(".git/objects/pack")).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|found| found == ending)).unwrap()
    }

    /// Would catch: refs of a repository whose objects went or were torn in a power cut, taken for a memory.
    #[test]
    fn an_object_that_is_missing_or_torn_is_seen() {
        type Find = fn(&Git) -> PathBuf;
        let objects: [(&str, Find); 8] = [
            ("a blob", |git| loose(git, "HEAD:note.md")),
            ("an old blob", |git| loose(git, "HEAD~1:note.md")),
            ("a tree", |git| loose(git, "HEAD^{tree}")),
            ("a commit", |git| loose(git, "HEAD~1")),
            ("the newest stash entry", |git| loose(git, "stash@{0}")),
            ("an older stash entry", |git| loose(git, "stash@{1}")),
            ("a pack", |git| pack(git, "pack")),
            ("its index", |git| pack(git, "idx")),
        ];
        let half = |path: &Path| fs::read(path).map(|mut all| all.split_off(all.len() / 2));
        type Damage<'d> = &'d dyn Fn(&Path) -> std::io::Result<()>;
        let damages: [(&str, Damage<'_>); 4] = [
            ("gone", &|path| fs::remove_file(path)),
            ("empty", &|path| fs::write(path, "")),
            ("its second half alone", &|path| fs::write(path, half(path)?)),
            ("zeros", &|path| fs::write(path, vec![0; fs::read(path)?.len()])),
        ];
        for (what, find) in objects {
            for (how, damage) in damages {
                let tmp = tempfile::tempdir().unwrap();
                let git = repository(tmp.path());
                let path = find(&git);
                assert!(refs(&git).unwrap().contains_key("stash@{1}"));
                fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
                damage(&path).unwrap();
                assert!(refs(&git).is_err(), "{what}: {how}");
            }
        }
    }

    /// Would catch: an index that is not what HEAD's tree says, taken for one that is.
    #[test]
    fn what_the_index_says_is_seen() {
        let tmp = tempfile::tempdir().unwrap();
        let git = repository(tmp.path());
        let before = index(&git).unwrap();
        assert_eq!(before.keys().collect::<Vec<_>>(), ["note.md 0"]);
        fs::write(tmp.path().join("note.md"), "staged").unwrap();
        assert_eq!(index(&git).unwrap(), before);
        git.run(&["add", "note.md"]).unwrap();
        assert_ne!(index(&git).unwrap(), before);
        fs::write(tmp.path().join(".git/index"), "torn").unwrap();
        assert!(index(&git).is_err());
    }

    /// Would catch: a check that refuses what is sound.
    #[test]
    fn unborn_shallow_and_linked_repositories_pass() {
        let tmp = tempfile::tempdir().unwrap();
        let whole = tmp.path().join("whole");
        fs::create_dir(&whole).unwrap();
        let git = repository(&whole);
        let url = format!("file://{}", whole.display());
        Git::at(tmp.path()).run(&["clone", "--quiet", "--depth=1", &url, "shallow"]).unwrap();
        git.run(&["worktree", "add", "--quiet", "--detach", "../linked"]).unwrap();
        Git::at(tmp.path()).run(&["init", "--quiet", "unborn"]).unwrap();
        for (name, head) in [("shallow", "refs/heads/main"), ("unborn", "refs/heads/main")] {
            assert_eq!(refs(&Git::at(tmp.path().join(name))).unwrap()["HEAD"], head);
        }
        let linked = refs(&Git::at(tmp.path().join("linked"))).unwrap();
        assert_eq!(linked["HEAD"], linked["refs/heads/main"]);
    }
}
