//! A snapshotter that breaks one rule.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::local_fs::LocalFsSnapshotter;
use nexo_memory_snapshot::ports::DefaultPathResolver;
use nexo_memory_snapshot::request::{
    DiffRequest, ExportRequest, RestoreRequest, RestoreTarget, SnapshotRef, SnapshotRequest,
};
use nexo_memory_snapshot::snapshotter::MemorySnapshotter;
use snapshot_core::{
    AgentId, Inside, Listing, RestoreReport, SnapshotDiff, SnapshotMeta, Tenant, VerifyReport,
};
use snapshot_testkit::conformance::snapshotter::{RULES, Subject};
use snapshot_testkit::{Agent, Seed};

/// The engine but for the rule of this name.
struct Broken {
    rule: &'static str,
    good: LocalFsSnapshotter,
    agent: Agent,
    /// What was asked for first.
    first: Mutex<Option<SnapshotMeta>>,
}

impl Broken {
    fn breaks(&self, rule: &str) -> bool {
        self.rule == rule
    }

    /// Leaves something in the memdir that is not the agent's.
    fn litter(&self) {
        std::fs::write(self.agent.memdir().join("litter"), "").unwrap();
    }
}

#[async_trait]
impl MemorySnapshotter for Broken {
    async fn snapshot(&self, mut req: SnapshotRequest) -> Result<SnapshotMeta, SnapshotError> {
        if self.breaks("a_snapshot_is_what_was_asked_for") {
            req.label = None;
        }
        if self.breaks("a_label_has_a_limit") {
            req.label = req.label.map(|label| label.chars().take(256).collect());
        }
        let taken = self.good.snapshot(req).await?;
        if self.breaks("looking_leaves_the_memory_as_it_is") {
            self.litter();
        }
        let first = self.first.lock().unwrap().get_or_insert(taken.clone()).clone();
        Ok(if self.breaks("what_is_at_once_or_dropped_leaves_whole_ones") { first } else { taken })
    }

    async fn restore(&self, mut req: RestoreRequest) -> Result<RestoreReport, SnapshotError> {
        if self.breaks("a_restore_beside_leaves_the_memory_alone") {
            req.target = RestoreTarget::Live;
        }
        let mut report = self.good.restore(req).await?;
        if self.breaks("a_restore_brings_back_exactly_what_was") {
            self.litter();
        }
        if self.breaks("the_present_state_is_kept_first") {
            report.pre_snapshot = None;
        }
        Ok(report)
    }

    async fn diff(&self, req: DiffRequest) -> Result<SnapshotDiff, SnapshotError> {
        let mut diff = self.good.diff(req).await?;
        if self.breaks("a_diff_counts_what_changed") {
            diff.sqlite_summary.long_term_rows_added = 0;
        }
        Ok(diff)
    }

    async fn list(&self, tenant: Tenant, agent: Option<AgentId>) -> Result<Listing, SnapshotError> {
        if self.breaks("others_see_nothing_of_it") {
            return self.good.list(Tenant::default(), Some(self.agent.id().clone())).await;
        }
        let mut listing = self.good.list(tenant, agent).await?;
        if self.breaks("snapshots_are_listed_newest_first") {
            listing.snapshots.reverse();
        }
        Ok(listing)
    }

    async fn verify(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        mut which: SnapshotRef,
    ) -> Result<VerifyReport, SnapshotError> {
        if self.breaks("every_name_finds_its_snapshot") {
            which = SnapshotRef::Latest(0);
        }
        let mut report = match self.good.verify(tenant, agent, which).await {
            Err(e) if self.breaks("what_is_not_there_is_unknown") => {
                let (message, hint) = (e.to_string(), None);
                return Err(SnapshotError::Told { kind: ErrorKind::Internal, message, hint });
            }
            done => done?,
        };
        if self.breaks("damage_is_told_and_not_restored") {
            (report.damage, report.inside) = (Vec::new(), Inside::Good);
            (report.bundle_sha256_ok, report.per_artifact_ok) = (true, true);
        }
        Ok(report)
    }

    async fn delete(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        which: SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError> {
        if self.breaks("a_deleted_one_is_gone") {
            return Ok(self.first.lock().unwrap().clone().unwrap());
        }
        match self.good.delete(tenant, agent, which).await {
            Err(_) if self.breaks("the_last_good_one_is_not_deleted") => {
                Ok(self.first.lock().unwrap().clone().unwrap())
            }
            done => done,
        }
    }

    async fn export(&self, req: ExportRequest) -> Result<Vec<PathBuf>, SnapshotError> {
        let written = self.good.export(req).await?;
        if self.breaks("an_export_verifies_and_replaces_nothing") {
            std::fs::write(&written[0], "").unwrap();
        }
        Ok(written)
    }
}

/// Would catch: a rule that any snapshotter keeps, or that names another. One agent serves them all.
#[test]
fn each_rule_catches_who_breaks_it() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = Agent::create(tmp.path(), AgentId::from_static("ana"), &Seed::tiny(7)).unwrap();
    let layouts =
        DefaultPathResolver { memdir_root: agent.memdir_root(), sqlite_root: agent.sqlite_root() };
    let builder = LocalFsSnapshotter::builder().root(tmp.path().join("vault"));
    let good = builder.layouts(Arc::new(layouts)).build_snapshotter().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for rule in &RULES {
        let (good, agent, first) = (good.clone(), agent.clone(), Mutex::default());
        let broken = Broken { rule: rule.name, good, agent: agent.clone(), first };
        let (tenant, scratch) = (Tenant::default(), tmp.path().join("scratch"));
        let subject = Subject { snapshotter: Arc::new(broken), agent, tenant, scratch };
        let Err(caught) = runtime.block_on(rule.check(&subject)) else {
            panic!("nobody noticed that {} is broken", rule.name);
        };
        assert_eq!(caught.rule, rule.name, "{caught}");
        // What was broken is not handed on to the next rule.
        let _ = std::fs::remove_file(subject.agent.memdir().join("litter"));
    }
}
