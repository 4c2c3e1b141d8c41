//! Taking in a bundle of 0.1.x that lies in the vault, and dying at it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::{SnapshotId, Tenant};
use nexo_memory_snapshot::layout::MemoryLayout;
use nexo_memory_snapshot::local_fs::{Engine, ImportRequest, Imported};
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::{Encryption, SnapshotRef};
use snapshot_testkit::{FaultHook, OldBundle};

use crate::support::{ana, engine};

/// A vault as 0.1.x leaves it, with one bundle.
struct OldVault {
    tmp: tempfile::TempDir,
    id: SnapshotId,
    bytes: Vec<u8>,
}

impl OldVault {
    fn new() -> Self {
        let id = SnapshotId::from_random_bytes([9; 16]);
        let bytes = OldBundle::new(id, &ana(), &Tenant::default())
            .with("state/dream_run.json", "state_dream_run", b"{\"id\": 1}")
            .with_file("MEMORY.md", b"the user likes tea\n")
            .to_bytes();
        let vault = Self { tmp: tempfile::tempdir().unwrap(), id, bytes };
        fs::create_dir_all(vault.bundle().parent().unwrap()).unwrap();
        fs::write(vault.bundle(), &vault.bytes).unwrap();
        let sum = snapshot_testkit::old_bundle::sha256(&vault.bytes);
        fs::write(format!("{}.sha256", vault.bundle().display()), sum).unwrap();
        vault
    }

    fn root(&self) -> PathBuf {
        self.tmp.path().join("vault")
    }

    fn bundle(&self) -> PathBuf {
        let folder = self.root().join("tenants/default/snapshots/ana");
        folder.join(format!("{}.tar.zst", self.id))
    }

    fn engine(&self, fs: DurableFs) -> Engine {
        engine(&self.root(), MemoryLayout::default(), fs)
    }

    fn import(&self, engine: &Engine, path: &Path) -> Result<Imported, SnapshotError> {
        let (tenant, encrypt) = (Tenant::default(), Encryption::ByPolicy);
        let req = ImportRequest { tenant, agent: None, foreign: false, encrypt };
        engine.import(&req, path, &Control::default())
    }

    /// Whether the bundle as it was lies anywhere.
    fn is_kept(&self) -> bool {
        let aside = self.bundle().parent().unwrap().join(".quarantine");
        let mut places = vec![self.bundle()];
        for folder in fs::read_dir(aside).into_iter().flatten() {
            let files = fs::read_dir(folder.unwrap().path()).unwrap();
            places.extend(files.map(|file| file.unwrap().path()));
        }
        places.iter().any(|path| fs::read(path).is_ok_and(|bytes| bytes == self.bytes))
    }
}

/// Would catch: a death while a bundle is rewritten in its own place that loses it, leaves something that is
/// neither bundle, or that the next import does not take.
#[test]
fn death_at_any_change_of_an_adoption_leaves_the_old_or_the_new() {
    let (control, mut n, mut published) = (Control::default(), 0, 0);
    loop {
        let vault = OldVault::new();
        let hook = Arc::new(FaultHook::dying_at(n));
        let done = vault.import(&vault.engine(DurableFs::with_hook(hook.clone())), &vault.bundle());
        if !hook.fired() {
            assert!(done.unwrap().original.is_some());
            break;
        }
        let engine = vault.engine(DurableFs::default());
        assert!(vault.is_kept(), "change {n}");
        let listing = engine.list(&Tenant::default(), Some(&ana())).unwrap();
        if listing.snapshots.is_empty() {
            let orphans = engine.orphans(&Tenant::default(), Some(&ana())).unwrap();
            assert_eq!(orphans, [vault.bundle()], "change {n}: {listing:?}");
            let again = vault.import(&engine, &orphans[0]);
            assert!(again.is_ok(), "change {n}: {again:?}");
        } else {
            published += 1;
        }
        let which = SnapshotRef::Latest(0);
        let meta = engine.resolve(&Tenant::default(), Some(&ana()), &which).unwrap();
        assert_eq!(meta.id, vault.id);
        assert!(engine.verify(&meta, &control).unwrap().is_good(), "change {n}");
        n += 1;
    }
    assert!(n > 30 && published > 0, "{n} changes, {published} of them after the commit point");
}

/// Would catch: a bundle that is taken in though the checksum file beside it was written for another.
#[test]
fn a_bundle_that_its_checksum_file_does_not_know_is_not_taken_in() {
    let vault = OldVault::new();
    let sum = snapshot_testkit::old_bundle::sha256(b"another");
    fs::write(format!("{}.sha256", vault.bundle().display()), sum).unwrap();
    let refused = vault.import(&vault.engine(DurableFs::default()), &vault.bundle()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Integrity, "{refused}");
    assert!(vault.is_kept());
}

/// Would catch: another bundle of the id that is replaced unread, or kept aside as if it were the one that was read.
#[test]
fn of_two_that_have_one_id_neither_is_taken() {
    let vault = OldVault::new();
    let other = vault.bundle().with_extension("zst.age");
    fs::write(&other, b"age-encryption.org/v1\nsomebody's").unwrap();
    let engine = vault.engine(DurableFs::default());
    let refused = vault.import(&engine, &vault.bundle()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(vault.is_kept() && fs::read(&other).unwrap().ends_with(b"somebody's"));
    assert!(!vault.bundle().parent().unwrap().join(".quarantine").exists());
}

/// Would catch: an import of something that became of the bundle meanwhile, and one that is repeated.
#[test]
fn it_is_taken_once() {
    let vault = OldVault::new();
    let engine = vault.engine(DurableFs::default());
    vault.import(&engine, &vault.bundle()).unwrap();
    let again = vault.import(&engine, &vault.bundle()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Refused, "{again}");
    // What was set aside is the old bundle still, and its id is taken.
    let aside = vault.bundle().parent().unwrap().join(format!(".quarantine/{}", vault.id));
    let aside = aside.join(vault.bundle().file_name().unwrap());
    assert_eq!(fs::read(&aside).unwrap(), vault.bytes);
    assert_eq!(vault.import(&engine, &aside).unwrap_err().kind(), ErrorKind::Refused);
}

/// Would catch: another snapshot than the one that was listed, where its file was exchanged since: one of 0.1.x has no
/// summary that would tell.
#[test]
fn another_bundle_in_its_place_is_not_taken_for_it() {
    let vault = OldVault::new();
    let (engine, control) = (vault.engine(DurableFs::default()), Control::default());
    let (tenant, agent) = (Tenant::default(), ana());
    let named = engine.resolve(&tenant, Some(&agent), &SnapshotRef::Id(vault.id)).unwrap();
    let path = BundlePath::parse("memory_files/MEMORY.md").unwrap();
    let read = || engine.read_artifact(&named, &path, &mut Vec::new(), &control);
    read().unwrap();
    let other = SnapshotId::from_random_bytes([8; 16]);
    let other =
        OldBundle::new(other, &agent, &tenant).with_file("MEMORY.md", b"coffee\n").to_bytes();
    fs::write(vault.bundle(), &other).unwrap();
    let sum = snapshot_testkit::old_bundle::sha256(&other);
    fs::write(format!("{}.sha256", vault.bundle().display()), sum).unwrap();
    let refused = read().unwrap_err().to_string();
    assert!(refused.contains("it holds"), "{refused}");
}
