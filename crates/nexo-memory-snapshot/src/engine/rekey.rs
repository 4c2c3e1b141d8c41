//! Encrypting a snapshot of the vault for other readers.
//!
//! Invariant: neither content nor signature changes, and at every moment one of the two files is the
//! snapshot's and whole; the old one goes once the new one was read back.

use snapshot_bundle::VerifyOptions;
use snapshot_core::{Control, Encryption, SnapshotMeta};
use snapshot_stores::room;
use tracing::info_span;

use super::v1::refuse_v1;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;
use crate::keys::KeyError;

impl Engine {
    /// Encrypts a snapshot anew, for `to` or as the agent's policy says; one in the clear is encrypted. The old
    /// file is gone when this returns.
    ///
    /// # Errors
    /// `Usage` where there is nobody to encrypt for, `Encryption` where the bundle cannot be opened, `Refused`
    /// for one outside the vault, `Integrity` for damage, `Concurrent` where somebody works on the agent or
    /// reads its bundles. The old bundle stays then. Where a sync fails at the very moment at which the new one
    /// becomes the snapshot's, both stay, and a sweep removes the one that does not count.
    pub fn rekey(
        &self,
        meta: &SnapshotMeta,
        to: &Encryption,
        ctl: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        refuse_v1(meta)?;
        let _span = info_span!("rekey", snapshot_id = %meta.id).entered();
        let Some(vault) = self.vault_of(meta) else {
            let (path, root) = (meta.bundle_path.clone(), self.root().to_owned());
            return Err(SnapshotError::NotInVault { path, root });
        };
        let recipients = self.recipients(&meta.tenant, &meta.agent_id, to)?;
        let recipients = recipients.ok_or_else(|| SnapshotError::Key {
            what: format!("the policy of agent {}", meta.agent_id),
            source: KeyError::NoRecipient,
        })?;
        let until = ctl.wait_until(LOCK_TIMEOUT);
        let lock = vault.lock(until, ctl)?;
        let opened = self.open_to_verify(&vault.meta(meta.id)?, ctl)?;
        let said = opened.sidecar.clone();
        let options = VerifyOptions { trust: None, ..self.verification(said.as_ref()) };
        let verified = opened.bundle.clone().into_verified(&options, ctl)?;
        let staging = lock.staging()?;
        room(staging.dir(), meta.bundle_size_bytes)?;
        let out = (staging.dir(), staging.create_bundle()?);
        let (file, sidecar) =
            self.reseal(verified.bundle(), said.as_ref(), Some(&recipients), out, ctl)?;
        // Its lock keeps readers' bundles in the vault, and we are one of them.
        drop(opened);
        let meta = lock.replace(staging, file, &sidecar, until, ctl)?;
        drop(lock);
        self.note_check(&meta, None);
        Ok(meta)
    }
}
