//! Copies of bundles outside the vault.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::local_fs::ImportRequest;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::{
    Encryption, EncryptionKey, ExportForm, ExportRequest, SnapshotRef,
};
use snapshot_fs::{Hook, Op, OpKind};

use crate::support::{Home, ana, flip_at, named};

fn export(home: &Home, from: SnapshotRef, to: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    let (agent_id, tenant) = (ana(), Tenant::default());
    let req = ExportRequest {
        agent_id,
        tenant,
        from,
        to: to.to_owned(),
        form: ExportForm::AsIs,
        redact: None,
    };
    home.engine().export(&req, &Control::default())
}

#[test]
fn a_copy_checks_and_opens_on_its_own_under_any_name() {
    let home = Home::new();
    let meta = home.take();
    for to in [home.path().join("folder/in/folder"), home.path().join("mine.tar.zst")] {
        let written = export(&home, named("latest"), &to).unwrap();
        assert_eq!(written.len(), 3);
        let check = Command::new("sha256sum")
            .args(["--strict", "-c"])
            .arg(&written[1])
            .current_dir(written[1].parent().unwrap())
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
        let path = SnapshotRef::Path(written[0].clone());
        let copy = home.engine().resolve(&Tenant::default(), Some(&ana()), &path).unwrap();
        assert_eq!((copy.id, copy.bundle_sha256), (meta.id, meta.bundle_sha256));
        assert!(home.engine().verify(&copy, &Control::default()).unwrap().is_good());
        // A copy of a copy is one too.
        let again = home.path().join("again");
        export(&home, path, &again).unwrap();
        std::fs::remove_dir_all(again).unwrap();
    }
}

#[test]
fn nothing_that_is_there_is_replaced() {
    let home = Home::new();
    home.take();
    let to = home.path().join("out");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("x.manifest.json"), b"precious").unwrap();
    let error = export(&home, named("latest"), &to.join("x.tar.zst")).unwrap_err();
    assert!(matches!(error, SnapshotError::Exists { .. }));
    assert_eq!(std::fs::read(to.join("x.manifest.json")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
}

/// Would catch: damage that is copied, wherever it is: what the copy reads last is not what opening reads.
#[test]
fn a_damaged_bundle_is_not_passed_on() {
    let home = Home::new();
    let meta = home.take();
    let to = home.path().join("out");
    let length = std::fs::read(&meta.bundle_path).unwrap().len();
    for eighth in 0..8 {
        let at = length * eighth / 8 + 20;
        flip_at(&meta.bundle_path, at);
        let error = export(&home, named("latest"), &to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{eighth}: {error}");
        let left = std::fs::read_dir(&to).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{eighth}");
        flip_at(&meta.bundle_path, at);
    }
}

#[test]
fn a_cancelled_export_leaves_nothing() {
    let home = Home::new();
    home.take();
    let control = Control::default();
    control.cancel();
    let to = home.path().join("out");
    let (agent_id, tenant) = (ana(), Tenant::default());
    let req = ExportRequest {
        agent_id,
        tenant,
        from: named("latest"),
        to: to.clone(),
        form: ExportForm::AsIs,
        redact: None,
    };
    let error = home.engine().export(&req, &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(!to.exists());
}

/// Would catch: a bundle that is sealed anew for another reader, goes wrong on its way, and is passed on unread.
#[test]
fn a_copy_for_another_reader_is_read_before_it_is_passed_on() {
    /// Flips a byte of what was written, once there is some.
    struct Flips(AtomicBool);
    impl Hook for Flips {
        fn before(&self, op: &Op<'_>) -> io::Result<()> {
            let written = std::fs::metadata(op.path).map_or(0, |meta| meta.len());
            if op.kind == OpKind::Write && written > 10_000 && !self.0.swap(true, Ordering::SeqCst)
            {
                flip_at(op.path, 9_000);
            }
            Ok(())
        }
    }
    let home = Home::new();
    let store = rusqlite::Connection::open(home.path().join("ana/long_term.sqlite")).unwrap();
    store.execute_batch("INSERT INTO facts VALUES (randomblob(500000))").unwrap();
    home.take();
    let hook = Arc::new(Flips(AtomicBool::new(false)));
    let engine = home.builder().fs(DurableFs::with_hook(hook.clone())).build().unwrap();
    let reader = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    let to = home.path().join("out");
    let req = ExportRequest {
        agent_id: ana(),
        tenant: Tenant::default(),
        from: named("latest"),
        to: to.clone(),
        form: ExportForm::For(EncryptionKey::AgePublicKey(reader.to_owned())),
        redact: None,
    };
    let error = engine.export(&req, &Control::default()).unwrap_err();
    assert!(hook.0.load(Ordering::SeqCst), "nothing was flipped");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert_eq!(std::fs::read_dir(&to).map_or(0, Iterator::count), 0);
}

/// Would catch: one tenant's memory taken in by another, or another agent's than was asked for, unasked.
#[test]
fn a_copy_of_somebody_else_is_not_taken_in_unasked() {
    let home = Home::new();
    home.take();
    let copy = export(&home, named("latest"), &home.path().join("out")).unwrap();
    let other = home.path().join("other");
    let engine = home.builder().root(&other).build().unwrap();
    let import = |tenant: &str, agent: Option<&'static str>, foreign| {
        let tenant = tenant.parse().unwrap();
        let agent = agent.map(AgentId::from_static);
        let req = ImportRequest { tenant, agent, foreign, encrypt: Encryption::Never };
        engine.import(&req, &copy[0], &Control::default())
    };
    for (tenant, agent, foreign) in [("theirs", None, false), ("default", Some("bo"), true)] {
        let refused = import(tenant, agent, foreign).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{tenant} {agent:?}: {refused}");
        assert!(!other.join("tenants").exists(), "{tenant} {agent:?}");
    }
    import("theirs", Some("ana"), true).unwrap();
}
