//! Which keys an operation works with, and opening a bundle with them.

use std::fs::File;
use std::path::Path;

use snapshot_bundle::{
    AnyBundle, Bundle, BundleError, VerifyOptions, is_encrypted, wants_passphrase,
};
use snapshot_core::{
    AgentId, Control, DecryptionIdentity, Encryption, ErrorKind, Manifest, Sidecar,
    SignatureStatus, SnapshotMeta, Tenant,
};
use snapshot_fs::FsError;

use super::Engine;
use crate::error::SnapshotError;
use crate::keys::{Identities, Recipients, Trust, load};

/// How far a snapshot may be relied on.
pub(super) enum Standing {
    /// A trusted key signed this, which was looked at.
    Signed(Box<Manifest>),
    /// Its summary is attested, or nothing is required.
    Attested,
    /// It may be anybody's.
    Untrusted,
}

impl Engine {
    /// The same engine, which also opens what `identity` opens.
    pub(super) fn knowing(
        &self,
        identity: Option<&DecryptionIdentity>,
    ) -> Result<Self, SnapshotError> {
        let extra = identity.map(load).transpose()?.unwrap_or_default();
        Ok(Self { extra: self.extra.clone().and(extra), ..self.clone() })
    }

    /// For whom something of an agent is encrypted, where it is.
    pub(super) fn recipients(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        wanted: &Encryption,
    ) -> Result<Option<Recipients>, SnapshotError> {
        let policy = self.parts.keys.policy.as_ref();
        let key = match wanted {
            Encryption::Never => None,
            Encryption::For(key) => Some(key.clone()),
            Encryption::ByPolicy => policy.and_then(|policy| policy(tenant, agent)),
        };
        let what = || format!("what agent {agent} is to be encrypted for");
        let recipients = key.as_ref().map(Recipients::of).transpose();
        recipients.map_err(|source| SnapshotError::Key { what: what(), source })
    }

    /// What opens the file, where it is encrypted; of a plain one no key is read.
    pub(super) fn identities_for(
        &self,
        file: &File,
        path: &Path,
    ) -> Result<Identities, SnapshotError> {
        let identities = self.known_identities(file, path)?;
        let wanted = !identities.has_passphrase()
            && wants_passphrase(file).map_err(FsError::io("read", path))?;
        Ok(match wanted.then(|| self.parts.keys.ask(path)).flatten() {
            Some(asked) => identities.and(asked),
            None => identities,
        })
    }

    /// The same without asking anybody.
    pub(super) fn known_identities(
        &self,
        file: &File,
        path: &Path,
    ) -> Result<Identities, SnapshotError> {
        match is_encrypted(file).map_err(FsError::io("read", path))? {
            false => Ok(Identities::default()),
            true => Ok(self.parts.keys.identities()?.and(self.extra.clone())),
        }
    }

    /// Opens a bundle of any version. A signature that names a trusted key must be that key's.
    pub(super) fn open_any(&self, file: File, path: &Path) -> Result<AnyBundle, SnapshotError> {
        let identities = self.identities_for(&file, path)?;
        let opened = AnyBundle::open_with(file, path, &identities)?;
        if let AnyBundle::V2(bundle) = &opened {
            bundle.check_signature(self.trust())?;
        }
        Ok(opened)
    }

    /// Opens a bundle of ours.
    pub(super) fn open_file(&self, file: File, path: &Path) -> Result<Bundle, SnapshotError> {
        match self.open_any(file, path)? {
            AnyBundle::V2(bundle) => Ok(bundle),
            AnyBundle::V1(_) => Err(SnapshotError::Predecessor { path: path.to_owned() }),
        }
    }

    /// Refuses a bundle that nobody can have signed, where a signature is required.
    pub(super) fn refuse_unsigned(&self, path: &Path) -> Result<(), SnapshotError> {
        match self.trust().refusal(None) {
            Some(why) => Err(BundleError::Untrusted { path: path.to_owned(), why }.into()),
            None => Ok(()),
        }
    }

    /// Whose signatures count.
    pub(super) fn trust(&self) -> &Trust {
        &self.parts.keys.trust
    }

    /// Whether a snapshot may be relied on, where a signature is required: by what is inside, where that can be
    /// looked into without asking anybody, else by what its summary tells.
    pub(super) fn standing(&self, meta: &SnapshotMeta) -> Standing {
        if !self.trust().required {
            return Standing::Attested;
        }
        match self.vouched(meta) {
            Ok(Some(manifest)) => Standing::Signed(Box::new(manifest)),
            Err(e) if e.kind() == ErrorKind::Encryption && self.trust().attests(meta) => {
                Standing::Attested
            }
            Ok(None) | Err(_) => Standing::Untrusted,
        }
    }

    /// Whether a snapshot may be relied on.
    pub(super) fn trusts(&self, meta: &SnapshotMeta) -> bool {
        !matches!(self.standing(meta), Standing::Untrusted)
    }

    /// The manifest of a snapshot where a trusted key signed it, and it is the one that the summary speaks of.
    fn vouched(&self, meta: &SnapshotMeta) -> Result<Option<Manifest>, SnapshotError> {
        let bundle = self.open_quietly(meta)?;
        let signature = bundle.check_signature(self.trust())?;
        let manifest = bundle.manifest();
        let own = (&manifest.tenant, &manifest.agent_id, manifest.snapshot_id)
            == (&meta.tenant, &meta.agent_id, meta.id)
            && manifest.created_at_ms == meta.created_at_ms;
        let trusted = signature.is_some_and(|report| report.status == SignatureStatus::Trusted);
        Ok((trusted && own).then(|| manifest.clone()))
    }

    /// A bundle, opened by what opens it without asking anybody.
    pub(super) fn open_quietly(&self, meta: &SnapshotMeta) -> Result<Bundle, SnapshotError> {
        let located = self.locate(meta, &Control::default())?;
        let identities = self.known_identities(&located.file, &located.path)?;
        Ok(Bundle::open_with(located.file, &located.path, &identities)?)
    }

    /// How a bundle with this summary is verified.
    pub(super) fn verification<'a>(&'a self, expect: Option<&'a Sidecar>) -> VerifyOptions<'a> {
        let trust = Some(self.trust());
        VerifyOptions { expect, sum: None, trust, threads: self.parts.threads }
    }
}
