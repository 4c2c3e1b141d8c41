//! A memory held still becomes a published snapshot.

use std::collections::BTreeMap;

use snapshot_bundle::{BundleWriter, WriteOptions};
use snapshot_core::{
    Attestation, BUNDLE_FORMAT, BundleFile, Control, CreatedBy, MANIFEST_VERSION, Manifest,
    ManifestCapture, SchemaVersions, Sidecar, SnapshotId, SnapshotMeta,
};
use snapshot_fs::DurableFile;
use snapshot_stores::{Captured, Pinned};
use snapshot_vault::{AgentLock, Staging};
use tracing::info_span;

use super::Engine;
use crate::error::SnapshotError;
use crate::keys::{Recipients, SigningKey};

/// What a snapshot says of itself beyond its content.
pub(super) struct About {
    pub(super) label: Option<String>,
    pub(super) public_label: bool,
    pub(super) created_by: CreatedBy,
    /// For whom it is encrypted, where it is.
    pub(super) recipients: Option<Recipients>,
}

/// A bundle without content. What takes its time with keys, a passphrase's derivation and a file on a slow
/// disk, is behind it.
pub(super) struct Begun {
    staging: Staging,
    writer: BundleWriter<DurableFile>,
}

impl Engine {
    /// Begins a bundle, while nobody is held.
    pub(super) fn begin(
        &self,
        lock: &AgentLock,
        about: &About,
        control: &Control,
    ) -> Result<Begun, SnapshotError> {
        self.parts.keys.signer()?;
        let staging = lock.staging()?;
        let (threads, recipients) = (self.parts.threads, about.recipients.clone());
        let opts = WriteOptions { threads, recipients, ..WriteOptions::new(0) };
        let writer = BundleWriter::new(staging.create_bundle()?, &opts, control.clone())?;
        Ok(Begun { staging, writer })
    }

    /// Writes what is pinned into a bundle and publishes it. The caller holds the agent's lock.
    pub(super) fn seal(
        &self,
        lock: &AgentLock,
        begun: Begun,
        pinned: &mut Pinned<'_>,
        about: &About,
        control: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let id = self.parts.ids.next_id();
        let sealing = info_span!("seal", snapshot_id = %id).entered();
        let created_at_ms = pinned.instant_ms();
        let (staging, mut writer) = (begun.staging, begun.writer.dated(created_at_ms));
        let captured = pinned.write_to(&mut writer)?;
        let (mut manifest, mut capture) = manifest(lock, about, id, created_at_ms, captured);
        let key = self.parts.keys.signer()?;
        manifest.attestation = key.map(|key| attest(key, &manifest));
        let sealed = writer.finish_signed(&manifest, key)?;
        drop(sealing);
        let _publishing = info_span!("publish", snapshot_id = %id).entered();
        // From here on it is a matter of milliseconds, and whole or nothing.
        control.check()?;
        let file = BundleFile {
            size_bytes: sealed.size_bytes,
            sha256: sealed.sha256,
            root_digest: sealed.root_digest,
            encryption: about.recipients.as_ref().map(Recipients::info),
        };
        if file.encryption.is_some() {
            capture = capture.times_only();
        }
        let sidecar = Sidecar::new(&manifest, file);
        let meta = SnapshotMeta { capture: Some(capture), ..lock.agent().meta_of(&sidecar) };
        let announced = self.announce_created(lock, &meta);
        lock.publish(staging, sealed.out, &sidecar)?;
        announced.happened();
        self.metrics().published(meta.bundle_size_bytes);
        Ok(meta)
    }
}

/// The manifest of what was captured, and how the capture went.
pub(super) fn manifest(
    lock: &AgentLock,
    about: &About,
    snapshot_id: SnapshotId,
    created_at_ms: i64,
    captured: Captured,
) -> (Manifest, snapshot_core::CaptureInfo) {
    let Captured { artifacts, git, capture } = captured;
    let manifest = Manifest {
        manifest_version: MANIFEST_VERSION,
        bundle_format: BUNDLE_FORMAT.to_owned(),
        snapshot_id,
        agent_id: lock.agent().agent().clone(),
        tenant: lock.agent().tenant().clone(),
        label: about.label.clone(),
        public_label: about.public_label,
        created_at_ms,
        created_by: about.created_by.clone(),
        schema_versions: SchemaVersions::CURRENT,
        git,
        artifacts,
        redactions: None,
        encryption: None,
        attestation: None,
        tool_versions: tool_versions(),
        capture: ManifestCapture {
            not_carried: capture.not_carried.clone(),
            unstable: capture.unstable.clone(),
        },
    };
    (manifest, capture)
}

fn attest(key: &SigningKey, manifest: &Manifest) -> Attestation {
    let Manifest { tenant, agent_id, snapshot_id, created_at_ms, created_by, .. } = manifest;
    key.attest(tenant, agent_id, *snapshot_id, *created_at_ms, created_by)
}

/// Versions of what writes a bundle.
fn tool_versions() -> BTreeMap<String, String> {
    let own = ("nexo_version", env!("CARGO_PKG_VERSION").to_owned());
    std::iter::once(own)
        .chain(snapshot_stores::tool_versions())
        .chain(snapshot_bundle::tool_versions())
        .map(|(name, version)| (name.to_owned(), version))
        .collect()
}
