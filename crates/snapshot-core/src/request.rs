//! What callers ask for.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{ParseError, excerpt};
use crate::id::{AgentId, CreatedBy, SnapshotId, StoreName, Tenant};
use crate::redaction::RedactionOptions;
use crate::secret::Secret;

/// How long an operation waits for locks and busy databases, where nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotRequest {
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// A name for people, at most 256 bytes.
    pub label: Option<String>,
    /// Whether secrets are to be redacted.
    pub redact_secrets: bool,
    /// What a redaction does beyond that.
    pub redaction: RedactionOptions,
    /// Whether it is encrypted, and for whom.
    pub encrypt: Encryption,
    /// Whether the label of an encrypted snapshot stands in its summary, for all to read.
    pub public_label: bool,
    /// What asks for it.
    pub created_by: CreatedBy,
    /// How long to wait for the agent's lock, and again for busy databases.
    pub timeout: Duration,
}

/// Whether something is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// As the agent's policy says.
    #[default]
    ByPolicy,
    /// Not at all, whatever the policy says.
    Never,
    /// For these, whatever the policy says.
    For(EncryptionKey),
}

/// Who can read what is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncryptionKey {
    /// The holder of the identity of this age recipient, `age1...`.
    AgePublicKey(String),
    /// The holder of any identity of these recipients.
    AgePublicKeys(Vec<String>),
    /// Whoever knows this passphrase.
    Passphrase(Secret),
}

/// What opens what is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecryptionIdentity {
    /// A file of age identities, one a line. It must be nobody else's to read.
    AgeIdentityFile(PathBuf),
    /// Age identities as such a file holds them.
    AgeIdentities(Secret),
    /// A passphrase.
    Passphrase(Secret),
}

/// Asks for a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreRequest {
    /// The agent that is restored.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// Which snapshot.
    pub from: SnapshotRef,
    /// Whose snapshot it is, of the same tenant; its own where none is named. A bundle of any other is refused.
    pub of_agent: Option<AgentId>,
    /// Over the live agent, or into an empty folder.
    pub target: RestoreTarget,
    /// Whether the present state is kept as a snapshot first.
    pub auto_pre_snapshot: bool,
    /// Whether a store that other agents use too may be restored whole.
    pub whole_store: bool,
    /// Whether a redacted bundle, which brings not everything back, may be restored over a live agent.
    pub accept_redacted: bool,
    /// What opens the bundle where it is encrypted, beside what the engine was given.
    pub decrypt: Option<DecryptionIdentity>,
    /// How long to wait for the agent's lock, and again for busy databases.
    pub timeout: Duration,
}

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTarget {
    /// Over the live agent.
    Live,
    /// Into an empty or absent folder, to look at first.
    Dir(PathBuf),
}

/// Asks what changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffRequest {
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// The older side.
    pub a: DiffSide,
    /// The newer side.
    pub b: DiffSide,
}

/// One side of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffSide {
    /// A snapshot.
    Snapshot(SnapshotRef),
    /// The live memory, captured for the purpose.
    Live,
}

/// What of a diff is wanted; everything by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffScope {
    /// Only this store, and neither files nor git nor state.
    pub store: Option<StoreName>,
    /// Only tables of this name, and neither files nor git nor state.
    pub table: Option<String>,
}

/// Asks for a copy of a bundle outside the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// Whose snapshot.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// Which snapshot.
    pub from: SnapshotRef,
    /// The folder, or file name ending in `.tar.zst` (encrypted: `.tar.zst.age`), that it is written to.
    pub to: PathBuf,
    /// How it leaves.
    pub form: ExportForm,
    /// Without its secrets, where that is asked for: a bundle of its own, with another id.
    pub redact: Option<RedactionOptions>,
}

/// How a bundle leaves the vault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ExportForm {
    /// As it lies there, encrypted or not.
    #[default]
    AsIs,
    /// Encrypted for these.
    For(EncryptionKey),
    /// In the clear.
    Clear,
}

/// How people name a snapshot: `latest`, `latest~2`, `@label`, an id, a unique prefix of at least
/// four characters, or the path of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotRef {
    /// The newest but `n`.
    Latest(usize),
    /// The newest with this label.
    Label(String),
    /// This one.
    Id(SnapshotId),
    /// The one whose id starts so.
    Prefix(String),
    /// The bundle at this path.
    Path(PathBuf),
}

impl SnapshotRequest {
    /// A request from a person at a shell.
    #[must_use]
    pub fn cli(agent_id: AgentId, tenant: Tenant) -> Self {
        Self {
            agent_id,
            tenant,
            label: None,
            redact_secrets: false,
            redaction: RedactionOptions::default(),
            encrypt: Encryption::ByPolicy,
            public_label: false,
            created_by: CreatedBy::from_static("cli"),
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

impl RestoreRequest {
    /// A restore of an agent's own snapshot over the live agent, the present state kept first.
    #[must_use]
    pub fn new(agent_id: AgentId, tenant: Tenant, from: SnapshotRef) -> Self {
        Self {
            agent_id,
            tenant,
            from,
            of_agent: None,
            target: RestoreTarget::Live,
            auto_pre_snapshot: true,
            whole_store: false,
            accept_redacted: false,
            decrypt: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

impl FromStr for SnapshotRef {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "latest" {
            return Ok(Self::Latest(0));
        }
        if let Some(n) = text.strip_prefix("latest~").and_then(|n| n.parse().ok()) {
            return Ok(Self::Latest(n));
        }
        if let Some(label) = text.strip_prefix('@').filter(|label| !label.is_empty()) {
            return Ok(Self::Label(label.to_owned()));
        }
        // In capitals, as some tools show them, or not.
        let lower = text.to_ascii_lowercase();
        if let Ok(id) = lower.parse() {
            return Ok(Self::Id(id));
        }
        if text.contains('/') || text.ends_with(".tar.zst") || text.ends_with(".age") {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        let hex = lower.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        if hex && (4..36).contains(&lower.len()) {
            return Ok(Self::Prefix(lower));
        }
        Err(ParseError::Id {
            what: "snapshot",
            value: excerpt(text),
            why: "expected latest, latest~N, @label, an id, 4 or more of its first characters, or a path",
        })
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest(0) => f.write_str("latest"),
            Self::Latest(n) => write!(f, "latest~{n}"),
            Self::Label(label) => write!(f, "@{label}"),
            Self::Id(id) => id.fmt(f),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_snapshot_parses_and_prints() {
        for text in [
            "latest",
            "latest~3",
            "@before dream",
            "3f9c",
            "/v/x.tar.zst",
            "x.tar.zst",
            "00000000-0000-4000-8000-000000000000",
        ] {
            assert_eq!(text.parse::<SnapshotRef>().unwrap().to_string(), text);
        }
        for (capitals, id) in [
            ("3F9C", "3f9c"),
            ("0000000A-0000-4000-8000-00000000000B", "0000000a-0000-4000-8000-00000000000b"),
        ] {
            assert_eq!(capitals.parse::<SnapshotRef>().unwrap().to_string(), id);
        }
        for bad in ["", "abc", "@", "latest~", "latest~-1", "zzzz"] {
            assert!(bad.parse::<SnapshotRef>().is_err(), "{bad:?}");
        }
    }
}
