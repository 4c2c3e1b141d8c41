//! What the tests share: an agent, sidecars, a hook that dies.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use snapshot_core::{
    AgentId, Control, CreatedBy, SchemaVersions, Sha256Digest, Sidecar, SnapshotId, SnapshotMeta,
    Tenant,
};
use snapshot_fs::{DurableFs, Hook, Op};
use snapshot_vault::{AgentLock, AgentVault, Vault, VaultError};

/// Dies at its operation number `at`: that one and all after it fail.
pub(crate) struct DieAt {
    at: usize,
    seen: AtomicUsize,
}

impl DieAt {
    pub(crate) fn new(at: usize) -> Arc<Self> {
        Arc::new(Self { at, seen: AtomicUsize::new(0) })
    }

    pub(crate) fn died(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.at
    }
}

impl Hook for DieAt {
    fn before(&self, _: &Op<'_>) -> io::Result<()> {
        if self.seen.fetch_add(1, Ordering::SeqCst) >= self.at {
            return Err(io::Error::other("dead"));
        }
        Ok(())
    }
}

pub(crate) fn ana(root: &Path, fs: DurableFs) -> AgentVault {
    Vault::open(fs, root).unwrap().agent(&Tenant::default(), &AgentId::from_static("ana"))
}

pub(crate) fn lock(agent: &AgentVault) -> Result<AgentLock, VaultError> {
    agent.lock(soon(), &Control::default())
}

/// Long enough for any lock that is free, short enough to end a failing test.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub(crate) fn id(n: u8) -> SnapshotId {
    SnapshotId::from_random_bytes([n; 16])
}

pub(crate) fn sidecar(n: u8, content: &[u8]) -> Sidecar {
    Sidecar {
        manifest_version: 2,
        bundle_format: "nexo-memory-snapshot-v2".into(),
        snapshot_id: id(n),
        agent_id: AgentId::from_static("ana"),
        tenant: Tenant::default(),
        created_at_ms: 1_700_000_000_000 + i64::from(n),
        created_by: CreatedBy::from_static("cli"),
        schema_versions: SchemaVersions::CURRENT,
        encryption: None,
        redacted: false,
        whole: true,
        bundle_size_bytes: content.len() as u64,
        bundle_sha256: Sha256Digest::of(content),
        rekeyed: false,
        attestation: None,
        label: None,
        git_oid: None,
        root_digest: None,
    }
}

/// A bundle that is written, and not published.
pub(crate) fn staged(
    lock: &AgentLock,
    content: &[u8],
) -> Result<(snapshot_vault::Staging, snapshot_fs::DurableFile), VaultError> {
    let staging = lock.staging()?;
    let mut file = staging.create_bundle()?;
    file.write_all(content).map_err(|source| snapshot_fs::FsError::Io {
        op: "write",
        path: file.path().to_owned(),
        source,
    })?;
    Ok((staging, file))
}

pub(crate) fn publish(lock: &AgentLock, n: u8, content: &[u8]) -> Result<SnapshotMeta, VaultError> {
    let (staging, file) = staged(lock, content)?;
    lock.publish(staging, file, &sidecar(n, content))
}

/// Every file and folder below `root`, sorted.
pub(crate) fn tree(root: &Path) -> Vec<String> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let text = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() {
                walk(&path, root, found);
            }
            found.push(text);
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}
