//! Files out of a bundle.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::request::PathInside;

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
