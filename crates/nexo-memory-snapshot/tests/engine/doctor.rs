//! The doctor where the disk fails it, or somebody exchanged a bundle.

use std::collections::BTreeSet;
use std::path::Path;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::{DoctorReport, Engine, FindingKind, ProblemKind};
use nexo_memory_snapshot::ports::{Control, DurableFs};

use crate::support::{CancelAt, Fail, Home, ana};

fn mend(engine: &Engine, control: &Control) -> Result<DoctorReport, SnapshotError> {
    engine.doctor(&Tenant::default(), Some(&ana()), true, control)
}

/// One snapshot without its summary, one that is no bundle, one whose summary lies; what is in their files.
fn harm(home: &Home) -> BTreeSet<Vec<u8>> {
    let [orphan, damaged, belied] = [home.take(), home.take(), home.take()];
    let summary = |bundle: &Path| {
        let text = bundle.to_str().unwrap().replace(".tar.zst", ".manifest.json");
        Path::new(&text).to_owned()
    };
    std::fs::remove_file(summary(&orphan.bundle_path)).unwrap();
    std::fs::write(&damaged.bundle_path, "no bundle").unwrap();
    std::fs::write(summary(&belied.bundle_path), "{}").unwrap();
    contents(&home.vault())
}

/// Contents of all files below a folder.
fn contents(folder: &Path) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.append(&mut contents(&path)),
            false => _ = found.insert(std::fs::read(path).unwrap()),
        }
    }
    found
}

/// All is mended, and nothing that was there is lost.
#[track_caller]
fn assert_mended(home: &Home, before: &BTreeSet<Vec<u8>>) {
    let left = mend(&home.engine(), &Control::default()).unwrap();
    assert!(left.findings.iter().all(|finding| finding.fixed), "{:?}", left.findings);
    let now = contents(&home.vault());
    assert!(before.is_subset(&now), "something is lost");
    let listing = home.engine().list(&Tenant::default(), Some(&ana())).unwrap();
    assert_eq!((listing.snapshots.len(), listing.problems), (2, vec![]));
    for meta in listing.snapshots {
        assert!(home.engine().verify(&meta, &Control::default()).unwrap().is_good());
    }
}

/// Would catch: a mending that loses a bundle or a summary where it fails or dies half-way, or that the
/// next one cannot finish.
#[test]
fn a_mending_that_fails_anywhere_loses_nothing() {
    for for_good in [false, true] {
        for at in 0.. {
            let home = Home::new();
            let before = harm(&home);
            let hook = Fail::new(at, for_good);
            let engine = home.builder().fs(DurableFs::with_hook(hook.clone())).build().unwrap();
            let _ = mend(&engine, &Control::default());
            assert_mended(&home, &before);
            if !hook.failed() {
                assert!(at > 10, "the hook sees too little: {at}");
                break;
            }
        }
    }
}

/// Would catch: a mending that cannot be stopped, or that a stop leaves half done for good.
#[test]
fn a_mending_can_be_stopped() {
    let mut stopped = 0;
    for at in 0.. {
        let home = Home::new();
        let before = harm(&home);
        let (hook, control) = CancelAt::control(at);
        stopped += usize::from(mend(&home.engine(), &control).is_err());
        assert_mended(&home, &before);
        if !hook.cancelled() {
            break;
        }
    }
    assert!(stopped > 3, "{stopped}");
}

/// Would catch: a whole bundle of the same name and another content that is given a summary, as if it were
/// the one that was published.
#[test]
fn a_bundle_that_was_exchanged_is_not_blessed() {
    let (home, theirs) = (Home::new(), Home::new());
    let meta = home.take();
    theirs.take();
    std::fs::remove_dir_all(theirs.vault()).unwrap();
    theirs.next_ids(&[[0, 0]]);
    let forged = theirs.take();
    assert_eq!(forged.id, meta.id);
    assert_ne!(forged.bundle_sha256, meta.bundle_sha256);
    std::fs::copy(&forged.bundle_path, &meta.bundle_path).unwrap();
    let report = mend(&home.engine(), &Control::default()).unwrap();
    let found = &report.findings[0];
    assert_eq!(found.kind, FindingKind::Vault(ProblemKind::Sidecar));
    assert!(found.moved_to.is_some() && found.why.contains("files beside it"), "{found:?}");
    assert_eq!(home.engine().list(&Tenant::default(), Some(&ana())).unwrap().snapshots, []);
}

/// Would catch: a checksum file that `sha256sum -c` fails on, which `verify` and the doctor call good, or one
/// that is damaged and makes the memory count as damaged.
#[test]
fn a_checksum_file_that_is_not_its_line_is_told_and_mended() {
    let home = Home::new();
    let (engine, meta, control) = (home.engine(), home.take(), Control::default());
    let sum = format!("{}.sha256", meta.bundle_path.display());
    let line = std::fs::read(&sum).unwrap();
    let other_name = [&line[..70], b"x", &line[71..]].concat();
    for damaged in [None, Some(&line[..10]), Some(&other_name[..]), Some(&line[..line.len() - 1])] {
        match damaged {
            None => std::fs::remove_file(&sum).unwrap(),
            Some(bytes) => std::fs::write(&sum, bytes).unwrap(),
        }
        let report = engine.verify(&meta, &control).unwrap();
        assert_eq!(report.error_kind(), Some(ErrorKind::Integrity), "{damaged:?}");
        assert_eq!(report.damage.len(), 1, "{report:?}");
        assert_eq!(report.damage[0].artifact, "checksum file");
        let mended = mend(&engine, &control).unwrap().findings;
        assert!(mended.len() == 1 && mended[0].fixed, "{mended:?}");
        // The note of it would have had the doctor judge the bundle.
        assert_eq!(mended[0].kind, FindingKind::from(ProblemKind::Sum), "{mended:?}");
        assert_eq!(std::fs::read(&sum).unwrap(), line);
        assert!(engine.verify(&meta, &control).unwrap().is_good());
    }
}
