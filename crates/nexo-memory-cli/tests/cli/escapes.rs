//! Paths of a bundle that lead elsewhere: refused wherever something is written, and nothing is written.

use std::fs;

use snapshot_testkit::Crafted;

use super::Home;
use super::doctor::tree;

const ID: &str = "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d";
/// Everything that writes what a bundle holds, or takes it in.
const WRITING: [&[&str]; 5] = [
    &["extract", "b.tar.zst", "--to", "deep/out"],
    &["restore", "b.tar.zst", "--agent", "ana", "--to", "deep/out"],
    &["restore", "b.tar.zst", "--agent", "ana", "--memdir", "mem", "--yes"],
    &["import", "b.tar.zst"],
    &["export", "b.tar.zst", "--agent", "ana", "--to", "deep/out", "--whole"],
];

/// Would catch: a path that is joined to the folder it is written to, and leaves it; a file written through a link
/// that the bundle itself brought.
#[test]
fn no_path_of_a_bundle_leaves_the_folder_that_it_is_written_to() {
    let evil: [&[&str]; 9] = [
        &["memory_files/../../evil"],
        &["../evil"],
        &["/evil"],
        &["memory_files//evil"],
        &["memory_files/./evil"],
        &["memory_files/.."],
        &[""],
        &["memory_files/evil\\u0000x"],
        // Below what is no folder, a file or a link.
        &["memory_files/evil", "memory_files/evil/x"],
    ];
    for paths in evil {
        let home = Home::new();
        let mut bundle = Crafted::create(&home.path("b.tar.zst")).unwrap();
        for path in paths {
            bundle.entry(path, "memory_file", "", b"evil").unwrap();
        }
        let manifest = bundle.manifest(ID, "");
        bundle.finish(&manifest).unwrap();
        fs::create_dir_all(home.path("deep")).unwrap();
        fs::create_dir_all(home.path("mem")).unwrap();
        for args in WRITING {
            let said = home.run(args);
            assert_eq!(said.code, 4, "{paths:?} {args:?} {said:?}");
        }
        let files = tree(home.0.path());
        let evil = files.iter().find(|(_, (_, _, content))| content.as_deref() == Some(b"evil"));
        assert!(evil.is_none(), "{paths:?} {evil:?}");
    }
}

/// Would catch: two names that some file systems take for one, of which one is lost or mixed up here.
#[test]
fn names_that_differ_in_case_alone_stay_two() {
    let home = Home::new();
    let mut bundle = Crafted::create(&home.path("b.tar.zst")).unwrap();
    for (name, content) in [("Name", "1"), ("name", "2")] {
        bundle.file(name, content.as_bytes()).unwrap();
    }
    let manifest = bundle.manifest(ID, "");
    bundle.finish(&manifest).unwrap();
    for args in &WRITING[..2] {
        let to = home.path("deep/out");
        let _ = fs::remove_dir_all(&to);
        let said = home.run(args);
        assert_eq!(said.code, 0, "{args:?} {said:?}");
        let read = |name: &str| fs::read_to_string(to.join("memory_files").join(name)).unwrap();
        assert_eq!((read("Name"), read("name")), ("1".to_owned(), "2".to_owned()));
    }
}
