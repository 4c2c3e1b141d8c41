//! A memory held still becomes a published snapshot.

use std::collections::BTreeMap;

use snapshot_bundle::{Bundle, BundleWriter, WriteOptions};
use snapshot_core::{
    Attestation, BUNDLE_FORMAT, BundleFile, CaptureInfo, Control, CreatedBy, GitOid,
    MANIFEST_VERSION, Manifest, ManifestCapture, RedactionOptions, SchemaVersions, Sidecar,
    SnapshotId, SnapshotMeta, StoreCapture,
};
use snapshot_fs::DurableFile;
use snapshot_stores::{Captured, Pinned};
use snapshot_vault::{AgentLock, Staging};
use tracing::info_span;

use super::Engine;
use super::redact::{Redacted, RedactedAs};
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

impl About {
    /// Of what has no name, and never leaves us.
    pub(super) const fn unnamed(created_by: CreatedBy) -> Self {
        Self { label: None, public_label: false, created_by, recipients: None }
    }
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
        let (mut manifest, capture) = manifest(lock, about, id, created_at_ms, captured);
        let key = self.parts.keys.signer()?;
        manifest.attestation = key.map(|key| attest(key, &manifest));
        let sealed = writer.finish_signed(&manifest, key)?;
        drop(sealing);
        let file = BundleFile {
            size_bytes: sealed.size_bytes,
            sha256: sealed.sha256,
            root_digest: sealed.root_digest,
            encryption: about.recipients.as_ref().map(Recipients::info),
        };
        self.publish(lock, (staging, sealed.out), &manifest, file, capture, control)
    }

    /// Publishes `whole` without its secrets. The caller holds the agent's lock.
    pub(super) fn seal_redacted(
        &self,
        lock: &AgentLock,
        whole: &Bundle,
        capture: CaptureInfo,
        options: &RedactionOptions,
        about: &About,
        control: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let id = self.parts.ids.next_id();
        let sealing = info_span!("redact", snapshot_id = %id).entered();
        let (spool, staging) = (lock.staging()?, lock.staging()?);
        let named = RedactedAs {
            id,
            created_by: about.created_by.clone(),
            public_label: about.public_label,
            copy_of: None,
            recipients: about.recipients.clone(),
        };
        let out = (spool.dir(), staging.create_bundle()?);
        let Redacted { out, manifest, file, ids } =
            self.redact(whole, options, named, out, control)?;
        drop((sealing, spool));
        let capture = redacted_capture(capture, &manifest);
        if !ids.is_empty() {
            lock.keep_git_map(id, &git_map(&ids))?;
        }
        self.publish(lock, (staging, out), &manifest, file, capture, control).inspect_err(|_| {
            // The error that led here is the one to report.
            let _ = lock.drop_git_map(id);
        })
    }

    fn publish(
        &self,
        lock: &AgentLock,
        (staging, out): (Staging, DurableFile),
        manifest: &Manifest,
        file: BundleFile,
        mut capture: CaptureInfo,
        control: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let _publishing = info_span!("publish", snapshot_id = %manifest.snapshot_id).entered();
        // From here on it is a matter of milliseconds, and whole or nothing.
        control.check()?;
        if file.encryption.is_some() {
            capture = capture.times_only();
        }
        let sidecar = Sidecar::new(manifest, file);
        let meta = SnapshotMeta { capture: Some(capture), ..lock.agent().meta_of(&sidecar) };
        let announced = self.announce_created(lock, &meta);
        lock.publish(staging, out, &sidecar)?;
        announced.happened();
        self.metrics().published(meta.bundle_size_bytes);
        Ok(meta)
    }
}

/// How the capture went of what the redacted bundle holds: its times, and nothing that was taken out.
fn redacted_capture(capture: CaptureInfo, manifest: &Manifest) -> CaptureInfo {
    let size = |store: &StoreCapture| {
        let held = manifest.stores().find(|(info, _)| info.store == store.store);
        held.map(|(_, artifact)| artifact.size_bytes)
    };
    let stores = capture.stores.iter();
    let stores =
        stores.filter_map(|store| Some(StoreCapture { size_bytes: size(store)?, ..store.clone() }));
    CaptureInfo {
        stores: stores.collect(),
        not_carried: manifest.capture.not_carried.clone(),
        unstable: manifest.capture.unstable.clone(),
        ..capture
    }
}

/// Old and new git object, a line each; zeros stand for one that was left out.
pub(super) fn git_map(ids: &BTreeMap<GitOid, GitOid>) -> String {
    ids.iter().map(|(old, new)| format!("{old} {new}\n")).collect()
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
        rewritten_from: None,
        tool_versions: tool_versions(),
        capture: ManifestCapture {
            not_carried: capture.not_carried.clone(),
            unstable: capture.unstable.clone(),
        },
    };
    (manifest, capture)
}

pub(super) fn attest(key: &SigningKey, manifest: &Manifest) -> Attestation {
    let Manifest { tenant, agent_id, snapshot_id, created_at_ms, created_by, .. } = manifest;
    key.attest(tenant, agent_id, *snapshot_id, *created_at_ms, created_by)
}

/// Versions of what writes a bundle.
pub(super) fn tool_versions() -> BTreeMap<String, String> {
    let own = ("nexo_version", env!("CARGO_PKG_VERSION").to_owned());
    std::iter::once(own)
        .chain(snapshot_stores::tool_versions())
        .chain(snapshot_bundle::tool_versions())
        .map(|(name, version)| (name.to_owned(), version))
        .collect()
}
