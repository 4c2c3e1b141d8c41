//! The scene itself: each deed changes it, and a judge that sees nothing would pass anything.

use nexo_memory_snapshot::ports::DurableFs;
use snapshot_soak::deed::Deed;
use snapshot_soak::judge::Side;
use snapshot_soak::scene::Scene;

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
