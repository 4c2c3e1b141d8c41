//! The operations that change something durable, each ready to be done to a [`crate::scene::Scene`].

use std::fmt;
use std::sync::Arc;

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::{Engine, ImportRequest};
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::report::RetentionTickReport;
use nexo_memory_snapshot::request::{
    Encryption, EncryptionKey, RestoreRequest, SnapshotRef, SnapshotRequest,
};
use nexo_memory_snapshot::retention::{Policy, RetentionConfig};

use crate::scene::{Scene, ana};

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A snapshot of the agent.
    Snapshot,
    /// The oldest snapshot put back over the live agent.
    Restore,
    /// The oldest snapshot deleted.
    Delete,
    /// All snapshots but the newest removed by policy.
    Prune,
    /// A bundle of another vault taken in.
    Import,
    /// The encrypted snapshot encrypted for somebody else.
    Rekey,
}

/// Why a deed was not done.
#[derive(Debug)]
pub enum Failure {
    /// The engine's error.
    Error(SnapshotError),
    /// What a run of the retention reports.
    Report(RetentionTickReport),
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Snapshot, Self::Restore, Self::Delete, Self::Prune, Self::Import, Self::Rekey];

    /// As in reports and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::Delete => "delete",
            Self::Prune => "prune",
            Self::Import => "import",
            Self::Rekey => "rekey",
        }
    }

    /// Does it to `scene` by `engine`, which is one of the scene.
    ///
    /// # Errors
    /// What the engine says.
    pub fn perform(self, scene: &Scene, engine: &Engine) -> Result<(), Failure> {
        let (tenant, control) = (Tenant::default(), Control::default());
        let oldest = SnapshotRef::Id(Scene::oldest());
        match self {
            Self::Snapshot => {
                engine.snapshot(&SnapshotRequest::cli(ana(), tenant), &control)?;
            }
            Self::Restore => {
                let req = RestoreRequest::new(ana(), tenant, oldest);
                engine.plan_restore(&req, &control)?.apply(&control)?;
            }
            Self::Delete => {
                engine.delete(&tenant, Some(&ana()), &oldest)?;
            }
            Self::Prune => return prune(engine),
            Self::Import => {
                let (agent, encrypt) = (Some(ana()), Encryption::Never);
                let req = ImportRequest { tenant, agent, foreign: false, encrypt };
                engine.import(&req, &scene.outside(), &control)?;
            }
            Self::Rekey => {
                let sealed = SnapshotRef::Id(Scene::sealed());
                let meta = engine.resolve(&tenant, Some(&ana()), &sealed)?;
                let to = EncryptionKey::AgePublicKey(Scene::next_reader().to_owned());
                engine.rekey(&meta, &Encryption::For(to), &control)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<SnapshotError> for Failure {
    fn from(e: SnapshotError) -> Self {
        Self::Error(e)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(e) => f.write_str(&nexo_memory_snapshot::error::error_chain(e)),
            Self::Report(report) => write!(f, "{report:?}"),
        }
    }
}

fn prune(engine: &Engine) -> Result<(), Failure> {
    let policy = Policy { keep_count: Some(1), ..Policy::default() };
    let policies = Arc::new(move |_: &Tenant, _: &_| policy.clone());
    let worker =
        engine.retention_worker(RetentionConfig { policies, ..RetentionConfig::default() });
    let report = worker.tick(&Control::default());
    if report.errors == 0 { Ok(()) } else { Err(Failure::Report(report)) }
}
