//! Deleting, and what is never deleted.

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::request::SnapshotRef;

use crate::support::{Home, ana, flip, named};

#[test]
fn one_of_two_goes_and_the_last_stays() {
    let home = Home::new();
    let engine = home.engine();
    let (first, second) = (home.take(), home.take());
    let delete = |r: &str| engine.delete(&Tenant::default(), Some(&ana()), &named(r));
    assert_eq!(delete("latest").unwrap().id, second.id);
    assert_eq!(home.files().len(), 3);
    let error = delete("latest").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(matches!(error, SnapshotError::LastGood { id, .. } if id == first.id));
    assert_eq!(home.files().len(), 3);
}

#[test]
fn a_damaged_one_does_not_count_as_the_one_that_stays() {
    // In 0.1.x a damaged bundle counted as good, and the sound one was deleted.
    let home = Home::new();
    let (sound, damaged) = (home.take(), home.take());
    flip(&damaged.bundle_path);
    let delete = |id| home.engine().delete(&Tenant::default(), None, &SnapshotRef::Id(id));
    assert!(matches!(delete(sound.id), Err(SnapshotError::LastGood { .. })));
    delete(damaged.id).unwrap();
    assert_eq!(home.engine().list(&Tenant::default(), None).unwrap().snapshots[0].id, sound.id);
}

#[test]
fn a_snapshot_that_lost_its_bundle_can_be_deleted() {
    let home = Home::new();
    let (sound, cut_short, gone) = (home.take(), home.take(), home.take());
    std::fs::write(&cut_short.bundle_path, b"cut short").unwrap();
    std::fs::remove_file(&gone.bundle_path).unwrap();
    for id in [cut_short.id, gone.id] {
        let deleted = home.engine().delete(&Tenant::default(), None, &SnapshotRef::Id(id));
        assert_eq!(deleted.unwrap().id, id);
    }
    let listing = home.engine().list(&Tenant::default(), None).unwrap();
    assert_eq!((listing.snapshots[0].id, listing.problems), (sound.id, vec![]));
    assert_eq!(home.files().len(), 3);
}

#[test]
fn a_bundle_outside_the_vault_is_not_ours_to_delete() {
    let home = Home::new();
    let meta = home.take();
    home.take();
    let copy = home.path().join("copy.tar.zst");
    std::fs::copy(&meta.bundle_path, &copy).unwrap();
    let path = SnapshotRef::Path(copy.clone());
    let error = home.engine().delete(&Tenant::default(), Some(&ana()), &path).unwrap_err();
    assert!(matches!(error, SnapshotError::NotInVault { .. }));
    assert!(copy.exists() && meta.bundle_path.exists());
}
