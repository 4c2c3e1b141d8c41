//! The scene itself: each deed changes it, and a judge that sees nothing would pass anything.

use nexo_memory_snapshot::ports::DurableFs;
use snapshot_soak::deed::Deed;
use snapshot_soak::judge::Side;
use snapshot_soak::scene::Scene;
use snapshot_testkit::compare::Memory;

/// Would catch: a judge that calls a mixture old or new, a deed that is not done done, or a lost snapshot fine.
#[test]
fn the_judge_tells_sides_apart() {
    let scene = Scene::scratch().unwrap();
    for deed in Deed::ALL {
        let sides = scene.sides(deed).unwrap();
        assert_eq!(sides.judge(&sides.before, false), Ok(Side::Before), "{deed}");
        assert!(sides.judge(&sides.before, true).is_err(), "{deed}");
        assert!(sides.judge(&sides.after, true).is_ok(), "{deed}");
        let mut lost = sides.before.clone();
        lost.snapshots.pop_last();
        assert!(sides.judge(&lost, false).is_err(), "{deed}");
    }
    let sides = scene.sides(Deed::Restore).unwrap();
    assert_eq!(sides.judge(&sides.after, false), Ok(Side::After));
    let mut mixed = sides.before.clone();
    mixed.memory.refs.clone_from(&sides.after.memory.refs);
    assert!(sides.judge(&mixed, false).is_err());
    let mut unkept = sides.after.clone();
    unkept.snapshots.clone_from(&sides.before.snapshots);
    assert!(sides.judge(&unkept, false).is_err());
    let mut another = sides.after.clone();
    let content = another.snapshots[&Scene::oldest()].memory.clone();
    another.snapshots.get_mut(&Scene::newest()).unwrap().memory = content;
    assert!(sides.judge(&another, false).is_err());
}

/// Would catch: a scene whose restore has nothing to do in some part, so that no proof sees where one leaves it out.
#[test]
fn a_restore_has_something_to_do_in_every_part() {
    let scene = Scene::scratch().unwrap();
    let sides = scene.sides(Deed::Restore).unwrap();
    let (before, after) = (&sides.before.memory, &sides.after.memory);
    let differences = before.differences(after);
    for part in [
        "store long_term: table memories: ",
        "store vector: table embeddings: ",
        "store concepts: table concepts: ",
        "store compactions: table compactions_v1: ",
        "state extract_cursor.json: ",
        "state dream_run.json: ",
        "ref refs/heads/main: ",
        "ref refs/heads/ideas: ",
        "ref refs/heads/draft is missing on the right",
        "ref refs/heads/draft/unfinished is missing on the left",
        "ref refs/tags/v1: ",
        "ref refs/tags/baseline is missing on the left",
        "ref stash@{0}: ",
        "index of MEMORY.md 0: ",
        "file MEMORY.md: ",
        "file latest: ",
        "file notes/0023-0.md is missing on the left",
    ] {
        assert!(differences.iter().any(|line| line.starts_with(part)), "{part}: {differences:?}");
    }
    let node = |memory: &Memory, path: &str| memory.files[path.as_bytes()].clone();
    let modes = [before, after].map(|memory| node(memory, "bin/remind.sh").mode);
    assert_eq!(modes, [0o644, 0o755]);
    for path in ["inbox/gone", "inbox/empty"] {
        assert_ne!(node(before, path).kind, node(after, path).kind, "{path}");
    }
    // What it has to bring.
    let tip = |name: &str| after.refs[name].clone();
    let (main, stash) = (tip("refs/heads/main"), tip("refs/stash"));
    let git = scene.agent().git();
    for object in [&main, &stash] {
        git.run(&["cat-file", "-e", object]).unwrap_err();
    }
}

/// Would catch: files that nobody owns, and a look that does not see them.
#[test]
fn what_belongs_to_no_snapshot_is_seen() {
    let scene = Scene::scratch().unwrap();
    scene.look().unwrap();
    for stray in ["vault/tenants/default/staging/ana/1-0/left", "agent/memdir/ana/.nexo-tmp-1-0-0"]
    {
        let copy = scene.copy().unwrap();
        let path = copy.dir().join(stray);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "left").unwrap();
        let found = copy.look().unwrap_err().to_string();
        assert!(found.contains("left"), "{stray}: {found}");
    }
    drop(scene.engine(DurableFs::default()).unwrap());
}
