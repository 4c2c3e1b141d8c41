//! The proof of the redaction: secrets planted in every place of a memory, and a judge that shares no code with
//! what took them out.

use std::path::{Path, PathBuf};

use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::{
    ExportForm, ExportRequest, RestoreRequest, RestoreTarget, SnapshotRef, SnapshotRequest,
};
use snapshot_testkit::canary::{self, Place, Planted, Planting};

use crate::support::{builder, restore_with};

/// What a redaction refuses rather than ships: names of tables, columns, indexes and stores.
const REFUSED: [Place; 2] = [Place::SchemaName, Place::FoundStoreName];

/// A memory with secrets in it but where a redaction refuses it.
fn plant(home: &Path, planting: &Planting) -> (Planted, Engine) {
    let planting = Planting { without: &REFUSED, ..*planting };
    let planted = canary::plant_as(home, &planting).unwrap();
    let layout = planted.layout.clone();
    let engine = builder(&home.join("vault"), layout, DurableFs::default()).build().unwrap();
    (planted, engine)
}

fn request(planted: &Planted, redact: bool) -> SnapshotRequest {
    let mut request = SnapshotRequest::cli(planted.agent.clone(), planted.tenant.clone());
    request.label = Some(planted.label.clone());
    request.redact_secrets = redact;
    request
}

/// That nothing of what was planted is in the bundle, and that it is as sound as any.
#[track_caller]
fn assert_clean(bundle: &Path, planted: &Planted) {
    let leaks = canary::leaks(bundle, &planted.canaries).unwrap();
    let shown: Vec<String> = leaks.iter().take(40).map(ToString::to_string).collect();
    assert!(leaks.is_empty(), "{} leaks: {shown:#?}", leaks.len());
    assert_eq!(canary::checks(bundle).unwrap(), Vec::<String>::new());
}

/// The redacted snapshot of what was planted, which restores into a folder.
fn assert_snapshot_clean(planting: &Planting) {
    let home = tempfile::tempdir().unwrap();
    let (planted, engine) = plant(home.path(), planting);
    let asked = request(&planted, true);
    let meta = engine.snapshot(&asked, &Control::default()).unwrap_or_else(|e| panic!("{e:?}"));
    assert_clean(&meta.bundle_path, &planted);
    let from = SnapshotRef::Id(meta.id);
    let mut back = RestoreRequest::new(planted.agent.clone(), planted.tenant.clone(), from);
    back.target = RestoreTarget::Dir(home.path().join("back"));
    restore_with(&engine, &back).unwrap();
}

/// Would catch: a secret of any form left in any of the places of a memory, by a redaction that is switched off
/// for one of them, or a bundle that the redaction broke.
#[test]
fn no_canary_is_left_anywhere() {
    assert_snapshot_clean(&Planting::quick(7));
}

/// Would catch: what holds two of a kind and not fifteen, or in small files and not across the borders of pieces.
#[test]
fn of_a_thousand_canaries_none_is_left() {
    assert_snapshot_clean(&Planting::full(42, 1000));
}

/// Would catch: a copy of a whole snapshot that is redacted by other ways than a snapshot.
#[test]
fn no_canary_leaves_with_an_export() {
    let home = tempfile::tempdir().unwrap();
    let (planted, engine) = plant(home.path(), &Planting::quick(8));
    let whole = engine.snapshot(&request(&planted, false), &Control::default()).unwrap();
    let export = ExportRequest {
        agent_id: planted.agent.clone(),
        tenant: planted.tenant.clone(),
        from: SnapshotRef::Id(whole.id),
        to: home.path().join("away"),
        form: ExportForm::AsIs,
        redact: Some(Default::default()),
    };
    let written: Vec<PathBuf> = engine.export(&export, &Control::default()).unwrap();
    assert_clean(&written[0], &planted);
}
