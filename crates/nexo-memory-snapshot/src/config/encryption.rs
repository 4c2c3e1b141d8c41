//! For whom snapshots are encrypted, and whose signatures count.

use std::path::{Path, PathBuf};

use snapshot_core::{AgentId, EncryptionKey};

use super::section::Section;
use super::{ConfigError, MemorySnapshotConfig};
use crate::keys::{MAX_RECIPIENTS, PublicKey, Recipients, Trust};

/// Most trusted keys.
const MAX_TRUSTED_KEYS: usize = 1024;

/// The section `encryption`; what is absent there is absent here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncryptionSection {
    /// Whether snapshots are encrypted.
    pub enabled: Option<bool>,
    /// Who can read them; an empty list is nobody.
    pub recipients: Option<Vec<String>>,
    /// A file of identities that open them.
    pub identity_path: Option<PathBuf>,
}

/// Who signs, and whose signatures count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SigningSection {
    /// Whose signatures count, and whether what they did not sign is refused.
    pub trust: Trust,
    /// The secret key that signs every snapshot taken.
    pub key_path: Option<PathBuf>,
}

impl MemorySnapshotConfig {
    /// For whom the snapshots of an agent are encrypted where nothing else is said: what it says for itself,
    /// else what is said for all.
    #[must_use]
    pub fn encryption_of(&self, agent: &AgentId) -> Option<EncryptionKey> {
        let (own, all) =
            (self.agents.get(agent).map(|a| &a.options.encryption), &self.options.encryption);
        let enabled = own.and_then(|own| own.enabled).or(all.enabled) == Some(true);
        let recipients = own.and_then(|own| own.recipients.as_ref()).or(all.recipients.as_ref());
        enabled.then(|| EncryptionKey::AgePublicKeys(recipients.cloned().unwrap_or_default()))
    }

    /// Every file of identities, without repetition: a bundle tells not which of them opens it.
    #[must_use]
    pub fn identity_paths(&self) -> Vec<PathBuf> {
        let own = self.agents.values().map(|agent| &agent.options.encryption);
        let mut paths = Vec::new();
        for section in std::iter::once(&self.options.encryption).chain(own) {
            if let Some(path) = &section.identity_path
                && !paths.contains(path)
            {
                paths.push(path.clone());
            }
        }
        paths
    }

    /// That whatever is to be encrypted is so for somebody. While it is off, recipients ask for nothing.
    pub(super) fn check_encryption(&self, file: &Path) -> Result<(), ConfigError> {
        let check = |place: String, key: Option<EncryptionKey>| {
            let refused = key.and_then(|key| Recipients::of(&key).err());
            refused.map_or(Ok(()), |why| {
                let key = format!("memory.snapshot.{place}encryption.recipients");
                Err(ConfigError::Value { path: file.to_owned(), key, why: why.to_string() })
            })
        };
        let all = &self.options.encryption;
        let recipients = all.recipients.clone().unwrap_or_default();
        let recipients = EncryptionKey::AgePublicKeys(recipients);
        check(String::new(), (all.enabled == Some(true)).then_some(recipients))?;
        let mut agents = self.agents.keys();
        agents.try_for_each(|agent| check(format!("agents.{agent}."), self.encryption_of(agent)))
    }
}

pub(super) fn read(mut section: Section<'_>) -> Result<EncryptionSection, ConfigError> {
    let enabled = section.boolean("enabled")?;
    let recipients = section.texts("recipients", MAX_RECIPIENTS)?;
    let identity_path = match section.path("identity_path") {
        // A configuration of 0.1 names one that it has no use for.
        Err(ConfigError::Variable { .. }) if enabled != Some(true) => None,
        read => read?,
    };
    section.finish();
    Ok(EncryptionSection { enabled, recipients, identity_path })
}

/// The keys of the general section that are about signatures.
pub(super) fn read_signing(section: &mut Section<'_>) -> Result<SigningSection, ConfigError> {
    let required = section.boolean("require_signature")? == Some(true);
    let texts = section.texts("trusted_keys", MAX_TRUSTED_KEYS)?.unwrap_or_default();
    let keys: Result<Vec<PublicKey>, _> = texts.iter().map(|text| text.parse()).collect();
    let keys = keys.map_err(|e| section.bad("trusted_keys", format!("{e}")))?;
    if required && keys.is_empty() {
        let why = "require_signature is true, so it must name a key: nothing could be restored";
        return Err(section.bad("trusted_keys", why));
    }
    let key_path = section.path("signing_key_path")?;
    Ok(SigningSection { trust: Trust { keys, required }, key_path })
}
