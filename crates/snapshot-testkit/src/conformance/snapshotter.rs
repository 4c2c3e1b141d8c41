//! What a [`MemorySnapshotter`] must keep to, seen through the trait, the agent's memory and the files
//! that it names.
//!
//! Invariants: each rule holds on a used subject as on a fresh one; memories are compared by
//! [`crate::compare`], with no code of the product. The rules want an executor as their implementation
//! does, and nothing else of it.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures_util::future::join;
use nexo_memory_snapshot::error::{ErrorKind, SnapshotError, error_chain};
use nexo_memory_snapshot::report::{
    GitSummary, RowCounts, SnapshotDiff, SqliteSummary, StateSummary,
};
use nexo_memory_snapshot::request::{
    DiffRequest, DiffSide, ExportForm, ExportRequest, RestoreRequest, RestoreTarget, SnapshotRef,
    SnapshotRequest,
};
use nexo_memory_snapshot::snapshotter::MemorySnapshotter;
use serde_json::json;
use snapshot_core::{
    AgentId, CreatedBy, Listing, RestoreReport, Sha256Digest, SnapshotId, SnapshotMeta, Tenant,
    VerifyReport,
};

use super::{ConformanceError, Kept, holds, same};
use crate::compare::Memory;
use crate::fixed::SeqIds;
use crate::seed::Agent;

/// Longest label, in bytes.
const MAX_LABEL_BYTES: usize = 256;
/// Of a bundle's file.
const BUNDLE_ENDING: &str = ".tar.zst";

/// A snapshotter, and the agent whose memory it takes.
pub struct Subject {
    /// What is checked.
    pub snapshotter: Arc<dyn MemorySnapshotter>,
    /// A seeded agent, which the snapshotter finds and which changes here only.
    pub agent: Agent,
    /// The tenant under which it finds it, and nobody else.
    pub tenant: Tenant,
    /// A folder for what is written outside the vault; it need not exist.
    pub scratch: PathBuf,
}

/// One rule.
pub struct Rule {
    /// Its name, which says what holds.
    pub name: &'static str,
    check: for<'a> fn(&'a Subject) -> Checking<'a>,
}

/// A check under way.
type Checking<'a> = Pin<Box<dyn Future<Output = Kept> + 'a>>;

macro_rules! rules {
    ($($check:ident),*) => {
        [$(Rule { name: stringify!($check), check: |subject| Box::pin($check(subject)) }),*]
    };
}

/// Every rule. The first needs no other snapshot, and deletes those that it finds.
pub const RULES: [Rule; 16] = rules![
    the_last_good_one_is_not_deleted,
    a_snapshot_is_what_was_asked_for,
    a_label_has_a_limit,
    snapshots_are_listed_newest_first,
    every_name_finds_its_snapshot,
    looking_leaves_the_memory_as_it_is,
    damage_is_told_and_not_restored,
    a_restore_brings_back_exactly_what_was,
    the_present_state_is_kept_first,
    a_restore_beside_leaves_the_memory_alone,
    a_diff_counts_what_changed,
    a_deleted_one_is_gone,
    what_is_not_there_is_unknown,
    others_see_nothing_of_it,
    an_export_verifies_and_replaces_nothing,
    what_is_at_once_or_dropped_leaves_whole_ones
];

/// Checks every rule, to the first that is not kept.
///
/// # Errors
/// If one is not kept.
pub async fn check(subject: &Subject) -> Result<(), ConformanceError> {
    for rule in &RULES {
        rule.check(subject).await?;
    }
    Ok(())
}

impl Rule {
    /// Checks this rule alone.
    ///
    /// # Errors
    /// If it is not kept.
    pub async fn check(&self, subject: &Subject) -> Result<(), ConformanceError> {
        (self.check)(subject).await.map_err(|saw| ConformanceError { rule: self.name, saw })
    }
}

impl Subject {
    fn request(&self) -> SnapshotRequest {
        SnapshotRequest::cli(self.agent.id().clone(), self.tenant.clone())
    }

    async fn take(&self) -> Result<SnapshotMeta, String> {
        self.snapshotter.snapshot(self.request()).await.map_err(failed("snapshot"))
    }

    async fn list(&self) -> Result<Listing, String> {
        let agent = Some(self.agent.id().clone());
        let listing = self.snapshotter.list(self.tenant.clone(), agent).await;
        let listing = listing.map_err(failed("list"))?;
        same("problems of the listing", &listing.problems, &Vec::new())?;
        Ok(listing)
    }

    async fn ids(&self) -> Result<Vec<SnapshotId>, String> {
        Ok(self.list().await?.snapshots.iter().map(|meta| meta.id).collect())
    }

    async fn try_verify(&self, which: SnapshotRef) -> Result<VerifyReport, SnapshotError> {
        let agent = Some(self.agent.id().clone());
        self.snapshotter.verify(self.tenant.clone(), agent, which).await
    }

    async fn verify(&self, which: SnapshotRef) -> Result<VerifyReport, String> {
        self.try_verify(which).await.map_err(failed("verify"))
    }

    async fn good(&self, which: SnapshotRef) -> Kept {
        let report = self.verify(which).await?;
        holds(report.is_good(), || format!("it does not verify: {report:?}"))
    }

    fn restore_request(&self, from: SnapshotRef) -> RestoreRequest {
        RestoreRequest::new(self.agent.id().clone(), self.tenant.clone(), from)
    }

    async fn restore(&self, request: RestoreRequest) -> Result<RestoreReport, String> {
        self.snapshotter.restore(request).await.map_err(failed("restore"))
    }

    async fn delete(&self, id: SnapshotId) -> Result<SnapshotMeta, SnapshotError> {
        let agent = Some(self.agent.id().clone());
        self.snapshotter.delete(self.tenant.clone(), agent, SnapshotRef::Id(id)).await
    }

    async fn diff(&self, a: SnapshotId, b: Option<SnapshotId>) -> Result<SnapshotDiff, String> {
        let side = |id| DiffSide::Snapshot(SnapshotRef::Id(id));
        let request = DiffRequest {
            agent_id: self.agent.id().clone(),
            tenant: self.tenant.clone(),
            a: side(a),
            b: b.map_or(DiffSide::Live, side),
        };
        self.snapshotter.diff(request).await.map_err(failed("diff"))
    }

    fn memory(&self) -> Result<Memory, String> {
        Memory::read(&self.agent.layout()).map_err(|e| error_chain(&e))
    }

    /// The memory is `expected`, but for the way back that a restore leaves in the repository.
    fn remembers(&self, expected: &Memory) -> Kept {
        let differences = expected.differences_after_restore(&self.memory()?);
        same("differences of the memory", &differences, &Vec::new())
    }

    /// Something new in a store, a file, a commit and a piece of state.
    fn learn(&self, what: &str) -> Kept {
        let at = json!({ "session": what });
        let learnt = self.agent.remember(what, what);
        let learnt = learnt.and_then(|()| self.agent.write_state("extract_cursor", &at));
        learnt.map_err(|e| error_chain(&e))
    }

    /// A path below the scratch folder at which nothing lies.
    fn fresh(&self) -> Result<PathBuf, String> {
        let cannot = |e| format!("cannot make {}: {e}", self.scratch.display());
        fs::create_dir_all(&self.scratch).map_err(cannot)?;
        let mut paths = (0..u32::MAX).map(|n| self.scratch.join(n.to_string()));
        paths.find(|path| !path.exists()).ok_or_else(|| "the scratch folder is full".to_owned())
    }
}

/// Of an agent's only snapshot, however often it is asked.
async fn the_last_good_one_is_not_deleted(subject: &Subject) -> Kept {
    let last = subject.take().await?.id;
    for id in subject.ids().await?.into_iter().filter(|id| *id != last) {
        subject.delete(id).await.map_err(failed("delete"))?;
    }
    refused("the deletion of the last one", subject.delete(last).await, &[ErrorKind::Refused])?;
    same("what is listed", &subject.ids().await?, &vec![last])?;
    subject.good(SnapshotRef::Id(last)).await
}

/// Label, origin, agent and tenant are those of the request; size and digest those of the file.
async fn a_snapshot_is_what_was_asked_for(subject: &Subject) -> Kept {
    let mut request = subject.request();
    request.label = Some("before \"it\" — 1".to_owned());
    request.created_by = CreatedBy::from_static("scheduled");
    let taken = subject.snapshotter.snapshot(request.clone()).await.map_err(failed("snapshot"))?;
    same("label", &taken.label, &request.label)?;
    same("origin", &taken.created_by, &Some(request.created_by))?;
    same("agent", &taken.agent_id, &request.agent_id)?;
    same("tenant", &taken.tenant, &request.tenant)?;
    holds(taken.capture.is_some(), || "how the capture went is not told".to_owned())?;
    let bundle = bytes_of(&taken.bundle_path)?;
    same("size of the bundle", &taken.bundle_size_bytes, &(bundle.len() as u64))?;
    same("digest of the bundle", &taken.bundle_sha256, &Sha256Digest::of(&bundle))?;
    let report = subject.verify(SnapshotRef::Id(taken.id)).await?;
    same("bundle that is verified", &report.bundle, &taken.bundle_path)?;
    holds(report.is_good(), || format!("it does not verify: {report:?}"))
}

/// A label of the longest length is kept whole, a longer one refused.
async fn a_label_has_a_limit(subject: &Subject) -> Kept {
    let mut request = subject.request();
    request.label = Some("x".repeat(MAX_LABEL_BYTES));
    let taken = subject.snapshotter.snapshot(request.clone()).await.map_err(failed("snapshot"))?;
    same("label", &taken.label, &request.label)?;
    request.label = Some("x".repeat(MAX_LABEL_BYTES + 1));
    let too_long = subject.snapshotter.snapshot(request).await;
    refused("a label that is too long", too_long, &[ErrorKind::Usage])
}

/// Of the agent and of the tenant, with what was told of them when they were taken.
async fn snapshots_are_listed_newest_first(subject: &Subject) -> Kept {
    let taken = [subject.take().await?, subject.take().await?];
    let listed = subject.list().await?.snapshots;
    for meta in &taken {
        let meta = SnapshotMeta { capture: None, ..meta.clone() };
        holds(listed.contains(&meta), || format!("{} is not listed as it was taken", meta.id))?;
    }
    let order: Vec<_> = listed.iter().map(|meta| (meta.created_at_ms, meta.id)).collect();
    holds(order.is_sorted_by(|a, b| a > b), || format!("not newest first: {order:?}"))?;
    let all = subject.snapshotter.list(subject.tenant.clone(), None).await;
    same("the tenant's", &all.map_err(failed("list"))?.snapshots, &listed)
}

/// `latest`, `latest~1`, a label, an id, its beginning, a path.
async fn every_name_finds_its_snapshot(subject: &Subject) -> Kept {
    let mut request = subject.request();
    request.label = Some("by name".to_owned());
    let first = subject.snapshotter.snapshot(request).await.map_err(failed("snapshot"))?;
    subject.take().await?;
    let listed = subject.list().await?.snapshots;
    let at = |id| listed.iter().position(|meta| meta.id == id);
    let nth = at(first.id).ok_or("what was taken is not listed")?;
    let names = [
        (SnapshotRef::Latest(0), &listed[0].bundle_path),
        (SnapshotRef::Latest(nth), &first.bundle_path),
        (SnapshotRef::Label("by name".to_owned()), &first.bundle_path),
        (SnapshotRef::Id(first.id), &first.bundle_path),
        (SnapshotRef::Prefix(first.id.to_string()[..35].to_owned()), &first.bundle_path),
        (SnapshotRef::Path(first.bundle_path.clone()), &first.bundle_path),
    ];
    for (name, bundle) in names {
        let report = subject.verify(name.clone()).await?;
        same(name, &report.bundle, bundle)?;
    }
    Ok(())
}

/// A snapshot, a list, a verification and a comparison change nothing of the agent.
async fn looking_leaves_the_memory_as_it_is(subject: &Subject) -> Kept {
    let before = subject.memory()?;
    let taken = subject.take().await?.id;
    subject.list().await?;
    subject.good(SnapshotRef::Id(taken)).await?;
    subject.diff(taken, None).await?;
    same("differences of the memory", &before.differences(&subject.memory()?), &Vec::new())
}

/// A report and no error where it is looked for, an error where it would be put back.
async fn damage_is_told_and_not_restored(subject: &Subject) -> Kept {
    let taken = subject.take().await?;
    let (which, whole) = (SnapshotRef::Id(taken.id), bytes_of(&taken.bundle_path)?);
    subject.learn("what damage must not take away")?;
    let before = subject.memory()?;
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    put(&taken.bundle_path, &damaged)?;
    let report = subject.verify(which.clone()).await;
    let request = subject.restore_request(which.clone());
    let restored = subject.snapshotter.restore(request).await;
    put(&taken.bundle_path, &whole)?;
    let told = report?.error_kind();
    same("what a verification finds", &told, &Some(ErrorKind::Integrity))?;
    refused("the restore of a damaged bundle", restored, &[ErrorKind::Integrity])?;
    subject.remembers(&before)?;
    subject.good(which).await
}

/// Every row, ref, file and piece of state, and nothing else; no snapshot where none is asked for.
async fn a_restore_brings_back_exactly_what_was(subject: &Subject) -> Kept {
    let then = subject.memory()?;
    let taken = subject.take().await?;
    subject.learn("what goes again")?;
    let listed = subject.ids().await?;
    let mut request = subject.restore_request(SnapshotRef::Id(taken.id));
    request.auto_pre_snapshot = false;
    let report = subject.restore(request).await?;
    same("snapshot that was restored", &report.from, &taken.id)?;
    same("agent", &report.agent_id, subject.agent.id())?;
    same("dry run", &report.dry_run, &false)?;
    same("snapshot of the present state", &report.pre_snapshot, &None)?;
    same("what is listed", &subject.ids().await?, &listed)?;
    subject.remembers(&then)
}

/// The way back from a restore, where it is asked for.
async fn the_present_state_is_kept_first(subject: &Subject) -> Kept {
    let taken = subject.take().await?;
    subject.learn("what comes back")?;
    let now = subject.memory()?;
    let report = subject.restore(subject.restore_request(SnapshotRef::Id(taken.id))).await?;
    let kept = report.pre_snapshot.ok_or("no snapshot of the present state was taken")?;
    holds(subject.ids().await?.contains(&kept), || format!("{kept} is not listed"))?;
    subject.restore(subject.restore_request(SnapshotRef::Id(kept))).await?;
    subject.remembers(&now)
}

/// Into a folder: the memory stays, and a folder that is not empty is refused.
async fn a_restore_beside_leaves_the_memory_alone(subject: &Subject) -> Kept {
    let taken = subject.take().await?;
    let (before, beside) = (subject.memory()?, subject.fresh()?);
    let mut request = subject.restore_request(SnapshotRef::Id(taken.id));
    request.target = RestoreTarget::Dir(beside.clone());
    let report = subject.restore(request.clone()).await?;
    same("snapshot of the present state", &report.pre_snapshot, &None)?;
    let filled = fs::read_dir(&beside).is_ok_and(|entries| entries.count() > 0);
    holds(filled, || format!("nothing was restored into {}", beside.display()))?;
    let again = subject.snapshotter.restore(request).await;
    refused("a restore into a folder that is not empty", again, &[ErrorKind::Refused])?;
    subject.remembers(&before)
}

/// Nothing between a snapshot and itself or the memory that it is of; one fact, whichever way round.
async fn a_diff_counts_what_changed(subject: &Subject) -> Kept {
    let a = subject.take().await?.id;
    let itself = subject.diff(a, Some(a)).await?;
    same("a snapshot and itself", &counts(&itself), &Counts::default())?;
    let live = subject.diff(a, None).await?;
    same("a snapshot and its memory", &counts(&live), &Counts::default())?;
    same("the sides", &(live.a, live.b, live.live), &(a, SnapshotId::nil(), true))?;
    subject.learn("one fact")?;
    let b = subject.take().await?.id;
    let state = StateSummary { extract_cursor_changed: true, last_dream_run_changed: false };
    let git = GitSummary { commits_between: 1, files_changed: 1, ..GitSummary::default() };
    let forth = Counts {
        git: GitSummary { insertions: 3, ..git },
        rows: SqliteSummary { long_term_rows_added: 1, ..SqliteSummary::default() },
        files: RowCounts { added: 1, ..RowCounts::default() },
        state,
    };
    let back = Counts {
        git: GitSummary { deletions: 3, ..git },
        rows: SqliteSummary { long_term_rows_removed: 1, ..SqliteSummary::default() },
        files: RowCounts { removed: 1, ..RowCounts::default() },
        state,
    };
    same("what was learnt", &counts(&subject.diff(a, Some(b)).await?), &forth)?;
    same("what was learnt, backwards", &counts(&subject.diff(b, Some(a)).await?), &back)
}

/// It is told as it was listed, and then neither listed, nor found, nor a file any more.
async fn a_deleted_one_is_gone(subject: &Subject) -> Kept {
    let taken = subject.take().await?;
    subject.take().await?;
    let deleted = subject.delete(taken.id).await.map_err(failed("delete"))?;
    same("what was deleted", &deleted.id, &taken.id)?;
    let listed = subject.ids().await?;
    holds(!listed.contains(&taken.id), || "a deleted snapshot is listed".to_owned())?;
    let found = subject.try_verify(SnapshotRef::Id(taken.id)).await;
    refused("what was deleted", found, &[ErrorKind::UnknownSnapshot])?;
    holds(!taken.bundle_path.exists(), || "the bundle is there still".to_owned())
}

/// Of every way to name one, in every operation; and an agent of which there is nothing.
async fn what_is_not_there_is_unknown(subject: &Subject) -> Kept {
    let id = SeqIds::nth(u64::MAX / 2);
    let names = [
        SnapshotRef::Id(id),
        SnapshotRef::Prefix(id.short()),
        SnapshotRef::Label("no such label".to_owned()),
        SnapshotRef::Latest(1 << 20),
        SnapshotRef::Path(subject.scratch.join(format!("none{BUNDLE_ENDING}"))),
    ];
    for name in names {
        let found = subject.try_verify(name.clone()).await;
        refused(&name.to_string(), found, &[ErrorKind::UnknownSnapshot])?;
    }
    let (agent, tenant) = (subject.agent.id().clone(), subject.tenant.clone());
    touch(subject, &agent, &tenant, &SnapshotRef::Id(id), &[ErrorKind::UnknownSnapshot]).await?;
    let nobody = SnapshotRequest::cli(AgentId::from_static("nobody"), tenant);
    let taken = subject.snapshotter.snapshot(nobody).await;
    refused("a snapshot of nobody", taken, &[ErrorKind::UnknownAgent])
}

/// Another agent and another tenant are shown nothing, and can do nothing to it.
async fn others_see_nothing_of_it(subject: &Subject) -> Kept {
    let taken = subject.take().await?;
    let (before, listed) = (subject.memory()?, subject.ids().await?);
    let (agent, other) = (subject.agent.id().clone(), AgentId::from_static("other-agent"));
    let (tenant, elsewhere) = (subject.tenant.clone(), Tenant::from_static("other-tenant"));
    let kinds = [ErrorKind::UnknownSnapshot, ErrorKind::UnknownAgent, ErrorKind::Refused];
    for (agent, tenant) in [(&other, &tenant), (&agent, &elsewhere)] {
        let seen = subject.snapshotter.list(tenant.clone(), Some(agent.clone())).await;
        same("seen by others", &seen.map_err(failed("list"))?.snapshots, &Vec::new())?;
        for name in [SnapshotRef::Id(taken.id), SnapshotRef::Path(taken.bundle_path.clone())] {
            touch(subject, agent, tenant, &name, &kinds).await?;
        }
    }
    same("what is listed", &subject.ids().await?, &listed)?;
    subject.remembers(&before)
}

/// What is outside the vault is as good as what is in it.
async fn an_export_verifies_and_replaces_nothing(subject: &Subject) -> Kept {
    let taken = subject.take().await?;
    let request = ExportRequest {
        agent_id: subject.agent.id().clone(),
        tenant: subject.tenant.clone(),
        from: SnapshotRef::Id(taken.id),
        to: subject.fresh()?,
        form: ExportForm::AsIs,
        redact: None,
    };
    let written = subject.snapshotter.export(request.clone()).await.map_err(failed("export"))?;
    let is_bundle = |path: &&PathBuf| path.to_string_lossy().ends_with(BUNDLE_ENDING);
    let bundle = written.iter().find(is_bundle).ok_or("no bundle was written")?;
    holds(written.iter().all(|path| path.is_file()), || format!("not all are files: {written:?}"))?;
    subject.good(SnapshotRef::Path(bundle.clone())).await?;
    let again = subject.snapshotter.export(request).await;
    refused("an export over another", again, &[ErrorKind::Refused])
}

/// Two at once both count, or one is told that it came in the way; one whose future is dropped leaves
/// nothing half-done.
async fn what_is_at_once_or_dropped_leaves_whole_ones(subject: &Subject) -> Kept {
    let before = subject.memory()?;
    let ask = || subject.snapshotter.snapshot(subject.request());
    let (one, other) = join(ask(), ask()).await;
    let mut taken = Vec::new();
    for done in [one, other] {
        match done {
            Ok(meta) => taken.push(meta.id),
            Err(e) if matches!(e.kind(), ErrorKind::Busy | ErrorKind::Concurrent) => {}
            Err(e) => return Err(failed("snapshot")(e)),
        }
    }
    // Begun, and left.
    let mut left = ask();
    let _ = left.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    drop(left);
    taken.push(subject.take().await?.id);
    let listed = subject.ids().await?;
    holds(taken.len() > 1, || "of two at once neither was taken".to_owned())?;
    let ids: BTreeSet<_> = taken.iter().collect();
    same("snapshots told", &ids.len(), &taken.len())?;
    for id in taken {
        let times = listed.iter().filter(|listed| **listed == id).count();
        same(format!("times that {id} is listed"), &times, &1)?;
        subject.good(SnapshotRef::Id(id)).await?;
    }
    subject.remembers(&before)
}

/// What a diff counts, its sides and details left out.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    git: GitSummary,
    rows: SqliteSummary,
    files: RowCounts,
    state: StateSummary,
}

fn counts(diff: &SnapshotDiff) -> Counts {
    Counts {
        git: diff.git_summary,
        rows: diff.sqlite_summary,
        files: diff.memory_files,
        state: diff.state_summary,
    }
}

/// Every operation on a snapshot, as this agent of this tenant, is refused with one of `kinds`.
async fn touch(
    subject: &Subject,
    agent: &AgentId,
    tenant: &Tenant,
    which: &SnapshotRef,
    kinds: &[ErrorKind],
) -> Kept {
    let (by, from) = (&subject.snapshotter, || which.clone());
    let (agent_id, asked) = (agent.clone(), Some(agent.clone()));
    refused("verify", by.verify(tenant.clone(), asked.clone(), from()).await, kinds)?;
    let restore = RestoreRequest::new(agent_id.clone(), tenant.clone(), from());
    refused("restore", by.restore(restore).await, kinds)?;
    let side = || DiffSide::Snapshot(from());
    let (a, b) = (side(), side());
    let diff = DiffRequest { agent_id: agent_id.clone(), tenant: tenant.clone(), a, b };
    refused("diff", by.diff(diff).await, kinds)?;
    let to = subject.fresh()?;
    let export = ExportRequest {
        agent_id,
        tenant: tenant.clone(),
        from: from(),
        to,
        form: ExportForm::AsIs,
        redact: None,
    };
    refused("export", by.export(export).await, kinds)?;
    refused("delete", by.delete(tenant.clone(), asked, from()).await, kinds)
}

/// It failed, and with one of these kinds.
fn refused<T>(what: &str, done: Result<T, SnapshotError>, kinds: &[ErrorKind]) -> Kept {
    match done {
        Ok(_) => Err(format!("{what} succeeds, and should be refused")),
        Err(e) if kinds.contains(&e.kind()) => Ok(()),
        Err(e) => Err(format!("{what} is {}, not {kinds:?}: {}", e.kind(), error_chain(&e))),
    }
}

fn failed(what: &'static str) -> impl FnOnce(SnapshotError) -> String {
    move |e| format!("{what} fails with {}: {}", e.kind(), error_chain(&e))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn put(path: &Path, bytes: &[u8]) -> Kept {
    fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
