//! The plan of a restore: what it would do, found out without changing anything.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use snapshot_core::{
    ArtifactKind, GitInfo, Manifest, MemoryLayout, RedactionReport, RestorePlan, SpaceNeed,
    StoreAction, StorePlan,
};

use crate::error::StoresError;
use crate::files::{self, FilesPlan, FilesState};
use crate::git::{self, PinnedGit};
use crate::restore::RestoreOptions;
use crate::restore::target::{Action, StoreChoice, choose, refuse_foreign_owner, refuse_shared};
use crate::sources::{Memdir, Sources, is_missing};
use crate::state;

/// The plan of restoring `manifest` over `layout`.
///
/// # Errors
/// Every refusal that the restore itself would give before it starts.
pub fn plan(
    manifest: &Manifest,
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
) -> Result<RestorePlan, StoresError> {
    let capture = &opts.capture;
    let live = discover(layout, opts)?;
    let (choices, mut notes) = choose_stores(manifest, layout, live.as_ref(), opts)?;
    let memdir = live.as_ref().and_then(|s| s.memdir.as_ref());
    let files = plan_files(manifest, layout, memdir, opts)?;
    notes.extend(files.notes.clone());
    let now = memdir.and_then(|m| m.repo.as_ref()).map(git::GitRepo::pin).transpose()?;
    let git = wanted_git(manifest, now.as_ref()).map(|info| git::plan(now.as_ref(), &info).0);
    let space = space(manifest, layout, &choices, &files, live.as_ref(), opts)?;
    notes.extend(manifest.redactions.as_ref().map(redacted));
    let stores = choices.iter().map(|c| StorePlan {
        store: c.store.clone(),
        target: c.path.clone(),
        action: StoreAction::from(c.action),
        size_bytes: c.size_bytes,
    });
    Ok(RestorePlan {
        agent_id: capture.agent.clone(),
        tenant: opts.tenant.clone(),
        from: manifest.snapshot_id,
        of_agent: Some(&manifest.agent_id).filter(|of| *of != capture.agent).cloned(),
        created_at_ms: manifest.created_at_ms,
        label: manifest.label.clone(),
        auto_pre_snapshot: true,
        stores: stores.collect(),
        files: files.plan,
        git,
        state: state::kinds(manifest, layout, capture.state.is_some()),
        space,
        notes,
        into: None,
    })
}

/// What a redaction took out does not come back.
fn redacted(report: &RedactionReport) -> String {
    format!(
        "the bundle is redacted: {} secrets stand in it as [REDACTED:...], and {} vectors are gone",
        report.matches_redacted, report.vectors_deleted
    )
}

/// What is live now; none where nothing is.
pub(crate) fn discover(
    layout: &MemoryLayout,
    opts: &RestoreOptions<'_>,
) -> Result<Option<Sources>, StoresError> {
    let capture = &opts.capture;
    match Sources::discover(capture.fs, capture.agent, layout, capture.control) {
        Err(StoresError::UnknownAgent { .. }) => Ok(None),
        found => found.map(Some),
    }
}

/// Chooses the stores and makes every refusal; returns what is worth saying too.
pub(crate) fn choose_stores(
    manifest: &Manifest,
    layout: &MemoryLayout,
    live: Option<&Sources>,
    opts: &RestoreOptions<'_>,
) -> Result<(Vec<StoreChoice>, Vec<String>), StoresError> {
    // What a newer agent made of its stores, this one may not understand.
    manifest.schema_versions.check()?;
    let capture = &opts.capture;
    let choices = choose(capture.fs, manifest, layout, live)?;
    refuse_missing(manifest, layout, live, &choices)?;
    let targets = choices.iter().map(|c| c.path.as_path()).chain(layout.memdir.as_deref());
    refuse_foreign_owner(capture.fs, &targets.collect::<Vec<_>>())?;
    let notes = refuse_shared(capture.fs, capture.agent, &choices, opts.others, opts.whole_store)?;
    if layout.memdir.is_none()
        && (manifest.git.is_some() || manifest.memory_entries().next().is_some())
    {
        let why = "the snapshot holds memory files and this agent's layout names no memdir";
        return Err(StoresError::refused(Path::new("memdir"), why));
    }
    Ok((choices, notes))
}

/// Refuses to empty what was not there when the snapshot was taken: a disk that was not mounted, a mistyped path. That
/// it held nothing, nobody knows.
fn refuse_missing(
    manifest: &Manifest,
    layout: &MemoryLayout,
    live: Option<&Sources>,
    choices: &[StoreChoice],
) -> Result<(), StoresError> {
    let missing = |what: &str| manifest.capture.not_carried.iter().find(|n| is_missing(n, what));
    let refuse = |path: &Path, why: &str| {
        let why = format!(
            "the snapshot was taken without it ({why}), and to put that back would empty it; restore --to a folder and \
             take what is needed from there, or move it away first"
        );
        Err(StoresError::refused(path, why))
    };
    for choice in choices.iter().filter(|choice| choice.action == Action::Empty) {
        if let Some(missing) = missing(&format!("store {}", choice.store)) {
            return refuse(&choice.path, &missing.why);
        }
    }
    let (Some(path), Some(memdir)) = (&layout.memdir, live.and_then(|live| live.memdir.as_ref()))
    else {
        return Ok(());
    };
    let history = || missing("git history").filter(|_| memdir.repo.is_some());
    match missing("memdir").or_else(history) {
        Some(missing) => refuse(path, &missing.why),
        None => Ok(()),
    }
}

/// What changes among the memory files.
pub(crate) fn plan_files(
    manifest: &Manifest,
    layout: &MemoryLayout,
    memdir: Option<&Memdir>,
    opts: &RestoreOptions<'_>,
) -> Result<FilesPlan, StoresError> {
    let mut live = match memdir {
        Some(memdir) => files::live_state(&memdir.dir, &memdir.options, opts.capture.control)?,
        None => FilesState::default(),
    };
    // The place of a store is its own, also where there is none yet.
    let places = layout.memdir.iter().flat_map(|memdir| {
        layout.stores.values().filter_map(move |path| path.strip_prefix(memdir).ok())
    });
    live.kept.extend(places.map(|path| path.as_os_str().as_bytes().to_vec()));
    files::plan(&live, manifest)
}

/// The repository that the restore brings about; where the snapshot has none and the live memdir
/// has one, an empty one, whose old HEAD is kept under `refs/nexo/pre-restore/`.
pub(crate) fn wanted_git(manifest: &Manifest, now: Option<&PinnedGit>) -> Option<GitInfo> {
    manifest.git.clone().or_else(|| {
        let head_ref = now?.info.head_ref.clone().unwrap_or_else(|| "refs/heads/main".to_owned());
        Some(GitInfo { head_ref: Some(head_ref), ..GitInfo::default() })
    })
}

/// Free space that the restore needs at most, per file system; an error where one has less.
fn space(
    manifest: &Manifest,
    layout: &MemoryLayout,
    choices: &[StoreChoice],
    files: &FilesPlan,
    live: Option<&Sources>,
    opts: &RestoreOptions<'_>,
) -> Result<Vec<SpaceNeed>, StoresError> {
    let stores: u64 = choices.iter().fold(0, |sum, c| c.size_bytes.saturating_add(sum));
    // The pre-restore bundle is smaller than what it holds.
    let present: u64 = live.iter().flat_map(|s| &s.databases).map(|d| d.stat.size).sum();
    let mut wanted = vec![(opts.work.path(), stores.saturating_add(present))];
    // A store is written through its journal or WAL: once there, once in the file.
    wanted.extend(
        choices
            .iter()
            .filter(|c| c.action != Action::Empty)
            .map(|c| (c.path.as_path(), c.size_bytes.saturating_mul(2))),
    );
    wanted.extend(layout.memdir.as_deref().map(|memdir| (memdir, files.needed_bytes)));
    // The history is checked in our folder and copied from there.
    let history = manifest.artifacts.iter().find(|a| a.kind == ArtifactKind::GitBundle);
    if let Some(history) = history {
        let packed = history.size_bytes.saturating_add(git::index_bytes(history.size_bytes));
        wanted.push((opts.work.path(), git::unpacked_bytes(history.size_bytes)));
        wanted.extend(layout.memdir.as_deref().map(|memdir| (memdir, packed)));
    }
    let mut needs: HashMap<u64, SpaceNeed> = HashMap::new();
    for (path, bytes) in wanted {
        let Some(folder) = path.ancestors().find(|p| p.is_dir()) else { continue };
        let dir = opts.capture.fs.open_dir(folder)?;
        let need = needs.entry(dir.stat_self()?.dev).or_insert(SpaceNeed {
            at: folder.to_owned(),
            needed_bytes: 0,
            free_bytes: dir.free_bytes()?,
        });
        need.needed_bytes = need.needed_bytes.saturating_add(bytes);
    }
    let mut needs: Vec<SpaceNeed> = needs.into_values().collect();
    needs.sort_by(|a, b| a.at.cmp(&b.at));
    match needs.iter().find(|n| n.needed_bytes > n.free_bytes) {
        Some(SpaceNeed { at, needed_bytes, free_bytes }) => Err(StoresError::NoSpace {
            at: at.clone(),
            needed_bytes: *needed_bytes,
            free_bytes: *free_bytes,
        }),
        None => Ok(needs),
    }
}
