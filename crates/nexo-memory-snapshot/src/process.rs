//! [`MemorySnapshotter`] over the program `nexo-memory`, for hosts that cannot link the engine.
//!
//! Invariants: no shell is involved, and whatever a request holds is one argument that cannot be taken
//! for a flag; what the program prints is bounded, and a result only where it is the documented
//! document; dropping a future asks its program to stop, which ends as cleanly as the engine would.
//! Each operation has a thread of its own, so that any executor will do.

mod answer;
mod run;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use snapshot_core::{
    AgentId, DecryptionIdentity, DiffRequest, DiffSide, Encryption, EncryptionKey, ErrorKind,
    ExportForm, ExportRequest, Listing, ParseError, RedactionOptions, RestoreReport,
    RestoreRequest, RestoreTarget, Secret, SnapshotDiff, SnapshotMeta, SnapshotRef,
    SnapshotRequest, Tenant, VerifyReport,
};

use crate::error::SnapshotError;
use crate::snapshotter::MemorySnapshotter;

/// Largest document taken from a program, in bytes: a listing of some 90,000 snapshots.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// Variables that hand the program age identities, and a passphrase.
const IDENTITY: &str = "NEXO_MEMORY_IDENTITY";
const PASSPHRASE: &str = "NEXO_MEMORY_PASSPHRASE";
/// Longest timeout handed on: a hundred years.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Runs `nexo-memory` for each operation.
///
/// The program finds agents as at a shell: by its configuration, or in the classic layout. It inherits
/// the environment. What it warns of goes to `tracing`, at level warn.
///
/// A snapshot that is named by a path that is not UTF-8 is refused, as the program does.
#[derive(Debug, Clone)]
#[must_use]
pub struct ProcessSnapshotter {
    program: PathBuf,
    global: Vec<OsString>,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It is not there, or cannot be run.
    #[error("it cannot be run")]
    Start {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What it prints cannot be read.
    #[error("what it prints cannot be read")]
    Read {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It printed more than [`MAX_DOCUMENT_BYTES`], and was ended.
    #[error("it printed more than {MAX_DOCUMENT_BYTES} bytes")]
    TooMuch,
    /// It ended without a document.
    #[error("it ended without an answer ({status}): {said}")]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said on standard error.
        said: String,
    },
    /// What it printed is not the documented document.
    #[error("it printed something else ({status}): {said}")]
    Document {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said on standard error.
        said: String,
        /// Why it is none.
        #[source]
        source: serde_json::Error,
    },
    /// The thread that ran it panicked.
    #[error("the thread that ran it panicked")]
    Panicked,
}

/// One run of the program: a verb and its arguments.
struct Call {
    verb: &'static str,
    args: Vec<OsString>,
    /// Secrets, which the arguments would show to everybody on the machine.
    secrets: Vec<(&'static str, Secret)>,
}

/// The document of `delete`.
#[derive(Deserialize)]
struct Deleted {
    deleted: SnapshotMeta,
}

/// The document of `export`.
#[derive(Deserialize)]
struct Exported {
    written: Vec<PathBuf>,
}

impl ProcessSnapshotter {
    /// One that runs `program`: a path, or a name that is looked for on the `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), global: Vec::new() }
    }

    /// The vault, as `--root`.
    pub fn root(self, root: impl AsRef<Path>) -> Self {
        self.global("--root", root.as_ref())
    }

    /// The configuration, as `--config`.
    pub fn config(self, file: impl AsRef<Path>) -> Self {
        self.global("--config", file.as_ref())
    }

    /// The classic layout below two folders, as `--memdir-root` and `--sqlite-root`.
    pub fn classic_layout(
        self,
        memdir_root: impl AsRef<Path>,
        sqlite_root: impl AsRef<Path>,
    ) -> Self {
        self.global("--memdir-root", memdir_root.as_ref())
            .global("--sqlite-root", sqlite_root.as_ref())
    }

    fn global(mut self, flag: &str, value: &Path) -> Self {
        self.global.push(joined(flag, value));
        self
    }

    /// Runs the program and reads its answer.
    async fn ask<T>(&self, call: Call) -> Result<T, SnapshotError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let verb = call.verb;
        let failed = |source| {
            let program = self.program.clone();
            SnapshotError::Process { program, verb, source }
        };
        let mut command = Command::new(&self.program);
        command.args(&self.global).args(["--json", "--quiet", "--no-progress", "--color=never"]);
        command.arg(verb).args(call.args);
        command.envs(call.secrets.iter().map(|(name, secret)| (name, secret.expose())));
        match run::run(command, |said| answer::read(said)).await {
            Ok(Ok(document)) => Ok(document),
            Ok(Err(told)) => Err(told),
            Err(why) => Err(failed(why)),
        }
    }
}

impl ProcessError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            // An argument that holds a NUL.
            Self::Start { source } if source.kind() == io::ErrorKind::InvalidInput => {
                ErrorKind::Usage
            }
            Self::Start { .. } | Self::Read { .. } => ErrorKind::Io,
            Self::Died { status, .. } => answer::kind_of(*status),
            Self::TooMuch | Self::Document { .. } | Self::Panicked => ErrorKind::Internal,
        }
    }
}

impl Call {
    fn new(verb: &'static str, tenant: &Tenant, agent: Option<&AgentId>) -> Self {
        let call = Self { verb, args: Vec::new(), secrets: Vec::new() };
        let call = call.value("--tenant", tenant.as_str());
        match agent {
            Some(agent) => call.value("--agent", agent.as_str()),
            None => call,
        }
    }

    fn flag(mut self, flag: &str) -> Self {
        self.args.push(flag.into());
        self
    }

    fn flag_if(self, yes: bool, flag: &str) -> Self {
        if yes { self.flag(flag) } else { self }
    }

    fn value(self, flag: &str, value: impl AsRef<OsStr>) -> Self {
        let mut call = self;
        call.args.push(joined(flag, value));
        call
    }

    /// For whom something is encrypted. Where that is nobody, the program must not be asked: without a flag it
    /// would not encrypt at all.
    fn encrypted_for(mut self, key: &EncryptionKey) -> Result<Self, SnapshotError> {
        let recipients = match key {
            EncryptionKey::AgePublicKey(recipient) => slice::from_ref(recipient),
            EncryptionKey::AgePublicKeys(recipients) => recipients,
            EncryptionKey::Passphrase(secret) => {
                self.secrets.push((PASSPHRASE, secret.clone()));
                return Ok(self.flag("--passphrase"));
            }
            _ => &[],
        };
        if recipients.is_empty() {
            let (what, value, why) = ("recipient", String::new(), "there is none to encrypt for");
            return Err(ParseError::Id { what, value, why }.into());
        }
        Ok(recipients.iter().fold(self, |call, recipient| call.value("--encrypt", recipient)))
    }

    /// What opens what is encrypted.
    fn opened_by(mut self, identity: &DecryptionIdentity) -> Self {
        match identity {
            DecryptionIdentity::AgeIdentityFile(path) => {
                return self.value("--decrypt-identity", path);
            }
            DecryptionIdentity::AgeIdentities(secret) => {
                self.secrets.push((IDENTITY, secret.clone()));
            }
            DecryptionIdentity::Passphrase(secret) => {
                self.secrets.push((PASSPHRASE, secret.clone()));
            }
            _ => {}
        }
        self
    }

    fn redacting(self, options: &RedactionOptions) -> Self {
        let call = self.value("--git-history", options.git_history.as_str());
        options
            .drop_stores
            .iter()
            .fold(call, |call, store| call.value("--drop-store", store.as_str()))
    }

    fn timeout(self, timeout: Duration) -> Self {
        let timeout = timeout.min(FOR_EVER);
        let seconds = format!("{}.{:09}", timeout.as_secs(), timeout.subsec_nanos());
        self.value("--lock-timeout", seconds)
    }
}

#[async_trait]
impl MemorySnapshotter for ProcessSnapshotter {
    async fn snapshot(&self, req: SnapshotRequest) -> Result<SnapshotMeta, SnapshotError> {
        let mut call = Call::new("snapshot", &req.tenant, Some(&req.agent_id))
            .value("--created-by", req.created_by.as_str())
            .flag(if req.redact_secrets { "--redact-secrets" } else { "--no-redact" })
            .timeout(req.timeout);
        if req.redact_secrets {
            call = call.redacting(&req.redaction);
        }
        if let Some(label) = &req.label {
            call = call.value("--label", label);
        }
        call = call.flag_if(req.public_label, "--public-label");
        call = match &req.encrypt {
            Encryption::ByPolicy => call,
            Encryption::Never => call.flag("--no-encrypt"),
            Encryption::For(key) => call.encrypted_for(key)?,
        };
        self.ask(call).await
    }

    async fn restore(&self, req: RestoreRequest) -> Result<RestoreReport, SnapshotError> {
        let keep = req.auto_pre_snapshot;
        let of = req.of_agent.as_ref().unwrap_or(&req.agent_id);
        let mut call = Call::new("restore", &req.tenant, Some(of))
            .value("--from", text_of(&req.from)?)
            .flag(if keep { "--auto-pre-snapshot" } else { "--no-auto-pre-snapshot" })
            .flag_if(req.whole_store, "--whole-store")
            .flag_if(req.accept_redacted, "--accept-redacted")
            .timeout(req.timeout)
            .flag("--yes");
        if req.of_agent.is_some() {
            call = call.value("--as", req.agent_id.as_str());
        }
        if let RestoreTarget::Dir(dir) = &req.target {
            call = call.value("--to", dir);
        }
        if let Some(identity) = &req.decrypt {
            call = call.opened_by(identity);
        }
        self.ask(call).await
    }

    async fn diff(&self, req: DiffRequest) -> Result<SnapshotDiff, SnapshotError> {
        let mut call =
            Call::new("diff", &req.tenant, Some(&req.agent_id)).flag("--stat").flag("--");
        for side in [&req.a, &req.b] {
            call.args.push(match side {
                DiffSide::Snapshot(snapshot) => text_of(snapshot)?,
                DiffSide::Live => "live".into(),
            });
        }
        self.ask(call).await
    }

    async fn list(&self, tenant: Tenant, agent: Option<AgentId>) -> Result<Listing, SnapshotError> {
        self.ask(Call::new("list", &tenant, agent.as_ref())).await
    }

    async fn verify(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        which: SnapshotRef,
    ) -> Result<VerifyReport, SnapshotError> {
        let call = Call::new("verify", &tenant, agent.as_ref());
        self.ask(call.value("--bundle", text_of(&which)?)).await
    }

    async fn delete(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        which: SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let call = Call::new("delete", &tenant, agent.as_ref());
        let call = call.value("--from", text_of(&which)?).flag("--yes");
        self.ask::<Deleted>(call).await.map(|document| document.deleted)
    }

    async fn export(&self, req: ExportRequest) -> Result<Vec<PathBuf>, SnapshotError> {
        let call = Call::new("export", &req.tenant, Some(&req.agent_id))
            .value("--from", text_of(&req.from)?)
            .value("--to", &req.to);
        let call = match (&req.form, &req.redact) {
            (ExportForm::For(key), _) => call.encrypted_for(key)?,
            (_, Some(_)) => call,
            (ExportForm::AsIs, None) => call.flag("--whole"),
            (ExportForm::Clear, None) => call.flag("--decrypt"),
        };
        let call = match &req.redact {
            Some(options) => call.flag("--redact").redacting(options),
            None => call,
        };
        self.ask::<Exported>(call).await.map(|document| document.written)
    }
}

/// A flag and its value in one argument: a value that begins with `-` is no flag then.
fn joined(flag: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push("=");
    argument.push(value);
    argument
}

/// The name of a snapshot as the program reads it, and reads it the same: a prefix `latest` is none.
fn text_of(which: &SnapshotRef) -> Result<OsString, SnapshotError> {
    if let SnapshotRef::Path(path) = which {
        // With a `/` in it, it is a path for the program too.
        let why = "it cannot be made absolute";
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|_| SnapshotError::Path { path: path.clone(), why })?;
        return Ok(absolute.into());
    }
    let text = which.to_string();
    let read: SnapshotRef = text.parse()?;
    // A whole id is its own prefix.
    if read == *which || matches!((which, read), (SnapshotRef::Prefix(_), SnapshotRef::Id(_))) {
        return Ok(text.into());
    }
    let why = "the program would take it for something else";
    Err(ParseError::Id { what: "snapshot", value: text, why }.into())
}
