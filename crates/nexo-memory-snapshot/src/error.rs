//! The facade's error: what the layers say passes through, with the kinds and hints that callers
//! act on.
//!
//! Rules: a layer's error keeps its own text and causes; a variant of ours names what was asked for
//! and where we looked; `kind` is stable, the texts are not.

use std::io;
use std::path::PathBuf;

#[cfg(feature = "local")]
use snapshot_bundle::BundleError;
#[cfg(feature = "local")]
use snapshot_bundle::redact::TooManySecrets;
use snapshot_core::{AgentId, Interrupted, ParseError, PortError, SnapshotId, Tenant};
use snapshot_events::OutboxError;
use snapshot_fs::FsError;
#[cfg(feature = "local")]
use snapshot_stores::StoresError;
#[cfg(feature = "local")]
use snapshot_vault::VaultError;

use crate::process::ProcessError;

pub use snapshot_core::{ErrorKind, error_chain, one_line, steers};

/// Most candidates, or agents, that an error names.
const SHOWN: usize = 10;

/// A snapshot that a prefix may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Its id.
    pub id: SnapshotId,
    /// Whose it is, where its place tells.
    pub agent: Option<AgentId>,
    /// When it was taken, milliseconds since the epoch, UTC; none where its summary cannot be read.
    pub created_at_ms: Option<i64>,
    /// Its label.
    pub label: Option<String>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The vault.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The agent's memory.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Stores(#[from] StoresError),
    /// The bundle.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The file-system layer.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The events that wait for their delivery.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// An event that has no JSON form: a path in it is not text.
    #[error("cannot render the event")]
    Render {
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Something that the host plugged in.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A document that is not as documented.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The caller stopped the operation.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The engine was built without the folder of its vault.
    #[error("the engine needs the root of its vault")]
    NoRoot,
    /// What is only done with a bundle of ours.
    #[error("{} is a bundle of 0.1.x: it can be read and restored, and for anything else it must be imported", path.display())]
    Predecessor {
        /// The bundle.
        path: PathBuf,
    },
    /// A redacted bundle, over a live agent.
    #[error("snapshot {id} is redacted: what was taken out of it stays lost")]
    Redacted {
        /// The snapshot.
        id: SnapshotId,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {why}")]
    Random {
        /// Why not.
        why: String,
    },
    /// More secrets than a redaction keeps in memory.
    #[cfg(feature = "local")]
    #[error("the memory cannot be redacted")]
    Secrets {
        /// How many are too many.
        #[source]
        source: TooManySecrets,
    },
    /// A secret that was still there once the redacted bundle was written; it was discarded.
    #[error("the redacted bundle was discarded: {masked} ({rule}) is still in it, at {place}")]
    StillSecret {
        /// The artifact, and where in it.
        place: String,
        /// The rule that found it.
        rule: String,
        /// The secret, masked.
        masked: String,
    },
    /// A label that cannot be given.
    #[error("this label cannot be given: {why}")]
    Label {
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The host's layouts do not know the agent.
    #[error("no layout is known for agent {agent} of tenant {tenant}")]
    UnknownAgent {
        /// The tenant.
        tenant: Tenant,
        /// The agent.
        agent: AgentId,
    },
    /// An agent of whom there is neither a trace in the vault nor a memory.
    #[error("there is no agent {agent} of tenant {tenant}: nothing of it lies in {}, and no memory of it is known; {}",
        root.display(), known_agents(known))]
    NoSuchAgent {
        /// The tenant.
        tenant: Tenant,
        /// The agent.
        agent: AgentId,
        /// Those whom the vault or the host knows.
        known: Vec<AgentId>,
        /// The vault.
        root: PathBuf,
    },
    /// A name that needs an agent, where several have snapshots.
    #[error("\"{wanted}\" needs an agent: {} have snapshots in {}", names(agents), root.display())]
    WhichAgent {
        /// The name.
        wanted: String,
        /// Those who have snapshots.
        agents: Vec<AgentId>,
        /// The vault.
        root: PathBuf,
    },
    /// No snapshot of that name.
    #[error("there is no snapshot \"{wanted}\" of {whose} in {}", root.display())]
    UnknownSnapshot {
        /// The name.
        wanted: String,
        /// Tenant, and agent where one was named.
        whose: String,
        /// The vault.
        root: PathBuf,
    },
    /// A prefix of several ids.
    #[error("\"{wanted}\" begins the ids of {} snapshots in {}: {}", candidates.len(), root.display(), listed(candidates))]
    Ambiguous {
        /// The prefix.
        wanted: String,
        /// All that it may mean, newest first.
        candidates: Vec<Match>,
        /// The vault.
        root: PathBuf,
    },
    /// The files of this snapshot are there but do not make one.
    #[error("{} is not a usable snapshot: {why}", path.display())]
    Unusable {
        /// The file at fault.
        path: PathBuf,
        /// The snapshot, where the file's place tells it.
        id: Option<SnapshotId>,
        /// What is wrong with it.
        why: String,
    },
    /// A snapshot that a newer program took.
    #[error("{} cannot be used: {why}", path.display())]
    TooNew {
        /// Its summary.
        path: PathBuf,
        /// The versions found and supported.
        why: String,
    },
    /// A bundle of somebody else.
    #[error("{} holds {found}, not {expected}", path.display())]
    Foreign {
        /// The bundle.
        path: PathBuf,
        /// `<tenant>/<agent>` or `<tenant>/<agent>/<id>` in it.
        found: String,
        /// The one asked for.
        expected: String,
    },
    /// The last good snapshot of an agent is not deleted.
    #[error("{id} is the last good snapshot of agent {agent}")]
    LastGood {
        /// The snapshot.
        id: SnapshotId,
        /// The agent.
        agent: AgentId,
    },
    /// Somebody or something holds on to the snapshot.
    #[error("{id} is not deleted: {why}")]
    Kept {
        /// The snapshot.
        id: SnapshotId,
        /// Pinned, on hold, or needed.
        why: String,
    },
    /// Nothing of the agent is erased while a hold lasts.
    #[error("agent {agent} is not erased: it is on hold: {why}")]
    Held {
        /// The agent.
        agent: AgentId,
        /// Why, as was said then.
        why: String,
    },
    /// A reason for a pin or a hold that cannot be given.
    #[error("this reason cannot be given: {why}")]
    Reason {
        /// The rule that it breaks.
        why: &'static str,
    },
    /// An operation on the vault was given a bundle that lies elsewhere.
    #[error("{} does not lie in the vault {}", path.display(), root.display())]
    NotInVault {
        /// The bundle.
        path: PathBuf,
        /// The vault.
        root: PathBuf,
    },
    /// A label that no snapshot has in the open, where there are others whose label is inside.
    #[error(
        "no snapshot is labelled \"{label}\" in the open, and {sealed} encrypted could not be looked into"
    )]
    SealedLabels {
        /// The label.
        label: String,
        /// How many nobody could open.
        sealed: u64,
    },
    /// A path in a bundle, at and below which nothing lies.
    #[error("there is nothing at {path} in {}", bundle.display())]
    NotInBundle {
        /// The path.
        path: String,
        /// The bundle.
        bundle: PathBuf,
    },
    /// What has no content was to be read.
    #[error("{path} is no file; ls shows what lies below it")]
    NotAFile {
        /// The path in the snapshot.
        path: String,
    },
    /// Something lies where a file was to be written.
    #[error("{} exists already", path.display())]
    Exists {
        /// What lies there.
        path: PathBuf,
    },
    /// A path that is no place to write a bundle to, or to look for one.
    #[error("{}: {why}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A text or a file that is no key.
    #[cfg(feature = "local")]
    #[error("{what} cannot be used")]
    Key {
        /// What was taken for one.
        what: String,
        /// Why it is none.
        #[source]
        source: snapshot_bundle::KeyError,
    },
    /// A file with a secret that cannot be read, or that others can read.
    #[error("the file of keys {} cannot be used: {why}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// An artifact could not be read to its end.
    #[cfg(feature = "local")]
    #[error("cannot read {artifact} in {}", bundle.display())]
    Artifact {
        /// The artifact.
        artifact: String,
        /// The bundle.
        bundle: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program that was run for it, [`crate::process::ProcessSnapshotter`]'s, says so.
    #[error("{message}")]
    Told {
        /// The kind that it told.
        kind: ErrorKind,
        /// What it told.
        message: String,
        /// What to try, where it told that.
        hint: Option<String>,
    },
    /// The program that was run for it gave no answer.
    #[error("`{} {verb}` gave no answer", program.display())]
    Process {
        /// The program.
        program: PathBuf,
        /// What it was to do.
        verb: &'static str,
        /// Why there is none.
        #[source]
        source: ProcessError,
    },
    /// The caller's writer failed.
    #[error("cannot write {what}")]
    Output {
        /// What was being written.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl SnapshotError {
    /// What a caller can act on; stable, and what exit codes and metrics are made of.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            #[cfg(feature = "local")]
            Self::Vault(e) => e.kind(),
            #[cfg(feature = "local")]
            Self::Stores(e) => e.kind(),
            #[cfg(feature = "local")]
            Self::Bundle(e) => e.kind(),
            Self::Fs(e) => e.kind(),
            Self::Outbox(e) => e.kind(),
            Self::Port(e) => e.kind,
            Self::Parse(e) => e.kind(),
            Self::Interrupted(e) => e.kind(),
            Self::NoRoot
            | Self::Label { .. }
            | Self::Reason { .. }
            | Self::WhichAgent { .. }
            | Self::NotAFile { .. }
            | Self::Path { .. } => ErrorKind::Usage,
            Self::UnknownAgent { .. } | Self::NoSuchAgent { .. } => ErrorKind::UnknownAgent,
            Self::UnknownSnapshot { .. } | Self::Ambiguous { .. } | Self::NotInBundle { .. } => {
                ErrorKind::UnknownSnapshot
            }
            #[cfg(feature = "local")]
            Self::Key { source, .. } => source.kind(),
            Self::KeyFile { .. } | Self::SealedLabels { .. } => ErrorKind::Encryption,
            Self::Unusable { .. } => ErrorKind::Integrity,
            Self::TooNew { .. } => ErrorKind::SchemaTooNew,
            Self::Foreign { .. }
            | Self::LastGood { .. }
            | Self::Kept { .. }
            | Self::Held { .. }
            | Self::NotInVault { .. }
            | Self::Redacted { .. }
            | Self::Predecessor { .. }
            | Self::StillSecret { .. }
            | Self::Exists { .. } => ErrorKind::Refused,
            #[cfg(feature = "local")]
            Self::Artifact { source, .. } => artifact_kind(source),
            Self::Told { kind, .. } => *kind,
            Self::Process { source, .. } => source.kind(),
            #[cfg(feature = "local")]
            Self::Secrets { .. } => ErrorKind::Refused,
            Self::Output { .. } | Self::Render { .. } | Self::Random { .. } => ErrorKind::Io,
        }
    }

    /// What to try, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Told { hint, .. } => return hint.clone(),
            Self::Ambiguous { .. } => "give more of the id",
            Self::WhichAgent { .. } => "name one",
            Self::LastGood { .. } => "take a new snapshot first",
            Self::Kept { .. } => "unpin it, release the hold, or let doctor finish the restore",
            Self::Held { .. } => "release the hold",
            Self::Unusable { .. } => "let doctor look at the vault",
            Self::NotInVault { .. } => {
                "it is a file like any other; `import` takes it into the vault"
            }
            Self::Exists { .. } => "choose another place, or remove it first",
            Self::Redacted { .. } => {
                "restore it with --to into a folder and take what you need, or say --accept-redacted"
            }
            Self::StillSecret { .. } => {
                "leave the store out (--drop-store), or the history (--git-history), or say in the policy \
                 (memory.snapshot.redaction.allow) that it is no secret"
            }
            Self::KeyFile { .. } => "make it yours alone (mode 0600), or name another",
            #[cfg(feature = "local")]
            Self::Bundle(BundleError::Untrusted { .. }) => {
                "trust the key that signed it (memory.snapshot.trusted_keys), or require no signature"
            }
            _ => match self.kind() {
                ErrorKind::UnknownAgent => {
                    "say where its memory lies: its memdir, its stores, or the configuration's \
                     memory.snapshot.agents"
                }
                ErrorKind::UnknownSnapshot => "list what there is",
                ErrorKind::Concurrent => {
                    "another process works on this agent: wait for it, or allow more time"
                }
                ErrorKind::Busy => {
                    "a writer keeps the database locked: allow more time, or pause it"
                }
                ErrorKind::RecoveryPending => "let doctor decide what becomes of it",
                ErrorKind::Encryption => "give the identity that opens it",
                ErrorKind::Integrity => "verify it, and let doctor look at the vault",
                ErrorKind::SchemaTooNew => "use the program that wrote it, or a newer one",
                _ => return None,
            },
        };
        Some(hint.to_owned())
    }
}

/// The kind of an error that a bundle's reader had to hand on as an I/O error.
#[cfg(feature = "local")]
fn artifact_kind(error: &io::Error) -> ErrorKind {
    let inner = error.get_ref();
    if let Some(e) = inner.and_then(|e| e.downcast_ref::<BundleError>()) {
        return e.kind();
    }
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Integrity,
        _ => ErrorKind::Io,
    }
}

fn names(agents: &[AgentId]) -> String {
    agents.iter().map(AgentId::as_str).collect::<Vec<_>>().join(", ")
}

/// Whom somebody may have meant.
fn known_agents(known: &[AgentId]) -> String {
    match known {
        [] => "no agent is".to_owned(),
        known => format!("there are: {}", first_of(known.iter().map(AgentId::to_string))),
    }
}

fn listed(candidates: &[Match]) -> String {
    first_of(candidates.iter().map(|candidate| {
        let Match { id, agent, label, .. } = candidate;
        let agent = agent.as_ref().map_or("unknown", AgentId::as_str);
        let label = label.as_ref().map(|label| format!(" \"{label}\"")).unwrap_or_default();
        format!("{id} ({agent}{label})")
    }))
}

/// The first few, and whether there are more.
fn first_of(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = if all.len() > SHOWN { ", ..." } else { "" };
    all.take(SHOWN).collect::<Vec<_>>().join(", ") + more
}
