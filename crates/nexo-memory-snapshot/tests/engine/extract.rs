//! Files out of a bundle.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::PathInside;

use snapshot_testkit::damage::Parts;

use crate::support::Home;

/// Would catch: damage that goes into a file unnoticed, or a half-written one under its name.
#[test]
fn what_is_damaged_is_not_extracted() {
    let home = Home::new();
    let taken = home.take();
    // In the first frame, which holds the store.
    let mut bytes = std::fs::read(&taken.bundle_path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&taken.bundle_path, bytes).unwrap();
    let (to, control) = (home.path().join("out"), Control::default());
    let path = "sqlite/long_term.sqlite".parse::<PathInside>().unwrap();
    let error = home.engine().extract(&taken, Some(&path), &to, &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    let left = std::fs::read_dir(to.join("sqlite")).unwrap().count();
    assert_eq!(left, 0);
}

/// Would catch: an extraction that goes on after it was cancelled.
#[test]
fn a_cancelled_extraction_stops() {
    let home = Home::new();
    let taken = home.take();
    let control = Control::default();
    control.cancel();
    let to = home.path().join("out");
    let error = home.engine().extract(&taken, None, &to, &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
}

/// Would catch: the first megabytes of a large artifact in a pipe before the last frame, which is whole and
/// another, shows that they belong to no good one.
#[test]
fn of_a_large_artifact_nothing_is_given_out_before_all_is_right() {
    let home = Home::new();
    let store = home.path().join("ana/long_term.sqlite");
    let noise = snapshot_testkit::Random::new(1).bytes(5 << 19);
    let sql = "CREATE TABLE much AS SELECT ?1 AS noise";
    rusqlite::Connection::open(store).unwrap().execute(sql, [noise]).unwrap();
    let taken = home.take();
    let (path, control) =
        (BundlePath::parse("sqlite/long_term.sqlite").unwrap(), Control::default());
    let cat = || {
        let mut out = Vec::new();
        let read = home.engine().read_artifact(&taken, &path, &mut out, &control);
        (read.map_err(|e| e.kind()), out)
    };
    let (length, content) = cat();
    assert!(length == Ok(content.len() as u64) && content.len() > 5 << 19);

    let mut parts = Parts::of(&std::fs::read(&taken.bundle_path).unwrap()).unwrap();
    // The first frame holds the entry's header, and content follows in frames of its own.
    let last = 3;
    let mut other = parts.content(last).unwrap();
    other[0] ^= 1;
    parts.set_content(last, &other).unwrap();
    std::fs::write(&taken.bundle_path, parts.to_bytes()).unwrap();
    assert_eq!(cat(), (Err(ErrorKind::Integrity), vec![]));
}
