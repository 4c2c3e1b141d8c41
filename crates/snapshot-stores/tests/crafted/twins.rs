//! Names that only some file systems keep apart. No file system that folds names can be counted on here:
//! one is imitated, by making a name's other spellings beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use snapshot_core::{ArtifactKind, BundlePath, ErrorKind};
use snapshot_fs::{DurableFs, Hook, Op, OpKind};
use snapshot_stores::StoresError;
use snapshot_testkit::MemoryBundle;

use crate::git::with_refs;
use crate::support::{Target, put};

/// Makes other spellings of every name that is tried, and of a live file.
struct Folds {
    live: Option<(PathBuf, PathBuf)>,
}

impl Hook for Folds {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let text = op.path.to_str().unwrap();
        if !text.contains("/.nexo-tmp-") || !text.contains("/probe") {
            return Ok(());
        }
        match (op.kind, &self.live) {
            (OpKind::CreateDir, Some((name, other))) if text.ends_with("/probe") => {
                fs::hard_link(name, other)
            }
            (OpKind::Create, _) => {
                spellings(op.path).iter().try_for_each(|other| fs::write(other, ""))
            }
            _ => Ok(()),
        }
    }
}

fn spellings(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let (start, end) = name.split_at(name.char_indices().last().unwrap().0);
    let end = if end == end.to_lowercase() { end.to_uppercase() } else { end.to_lowercase() };
    let others = [
        name.to_lowercase(),
        name.to_uppercase(),
        format!("{start}{end}"),
        name.replace('\u{e9}', "e\u{301}"),
        name.replace("e\u{301}", "\u{e9}"),
    ];
    others.iter().filter(|other| *other != name).map(|other| path.with_file_name(other)).collect()
}

fn with_files(paths: &[&str]) -> MemoryBundle {
    let mut bundle = MemoryBundle::new();
    for path in paths {
        let inside = BundlePath::parse(&format!("memory_files/{path}")).unwrap();
        put(&mut bundle, &inside, ArtifactKind::MemoryFile, path.as_bytes());
    }
    bundle
}

fn folding(live: Option<(PathBuf, PathBuf)>) -> DurableFs {
    DurableFs::with_hook(Arc::new(Folds { live }))
}

#[track_caller]
fn refused(target: &Target, bundle: &MemoryBundle, fs: &DurableFs, pair: [&str; 2]) {
    let names = || {
        let entries = fs::read_dir(target.mem()).unwrap().map(|e| e.unwrap().file_name());
        entries.filter(|name| name != "x.DB").collect::<Vec<_>>()
    };
    let before = names();
    let error = target.restore_with(bundle, fs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let StoresError::Twins { one, other, .. } = &error else { panic!("{error:?}") };
    let mut named = [one.as_str(), other.as_str()];
    named.sort_unstable();
    assert_eq!(named, pair);
    assert_eq!(names(), before);
}

/// Would catch: twins refused where they are two files, or written over each other where they are one.
#[test]
fn twins_are_refused_where_they_meet_and_nowhere_else() {
    for pair in [
        ["A.md", "a.md"],
        ["sub/caf\u{e9}", "sub/cafe\u{301}"],
        ["NOTES/x", "notes/y"],
        ["A", "a/b"],
    ] {
        let mut sorted = pair;
        sorted.sort_unstable();
        let bundle = with_files(&sorted);
        let target = Target::new();
        target.restore(&bundle).unwrap();
        for path in pair {
            assert_eq!(fs::read(target.mem().join(path)).unwrap(), path.as_bytes());
        }
        // Of two folders these are the twins, not what is in them.
        let expected = match pair {
            ["NOTES/x", _] => ["NOTES", "notes"],
            ["A", _] => ["A", "a"],
            _ => sorted,
        };
        refused(&Target::new(), &bundle, &folding(None), expected);
    }
    let fine = with_files(&["a.md", "b.md", "sub/a.md", "sub/b"]);
    Target::new().restore_with(&fine, &folding(None)).unwrap();
}

/// Would catch: a file of the bundle that is renamed over a live database, which has its name in another
/// spelling.
#[test]
fn a_twin_of_what_is_live_is_refused() {
    let target = Target::new();
    let live = target.mem().join("x.db");
    rusqlite::Connection::open(&live).unwrap().execute_batch("CREATE TABLE mine(x)").unwrap();
    let before = fs::read(&live).unwrap();
    let fs_ = folding(Some((live.clone(), target.mem().join("x.DB"))));
    refused(&target, &with_files(&["x.DB"]), &fs_, ["x.DB", "x.db"]);
    assert_eq!(fs::read(&live).unwrap(), before);
}

/// Would catch: refs that are one file, found out when git's library waits for its own lock and the live
/// files are already others.
#[test]
fn refs_that_are_one_file_are_refused_where_they_are() {
    for pair in [
        ["refs/heads/A", "refs/heads/a"],
        ["refs/heads/caf\u{e9}", "refs/heads/cafe\u{301}"],
        ["refs/Nexo", "refs/nexo"],
    ] {
        let mut sorted = pair;
        sorted.sort_unstable();
        let refs: Vec<&str> = match pair {
            ["refs/Nexo", _] => vec!["refs/Nexo/pre-restore/x"],
            pair => pair.to_vec(),
        };
        let bundle = with_refs(&refs);
        Target::new().restore(&bundle).unwrap();
        refused(&Target::new(), &bundle, &folding(None), sorted);
    }
    Target::new()
        .restore_with(&with_refs(&["refs/heads/a", "refs/tags/A"]), &folding(None))
        .unwrap();
}
