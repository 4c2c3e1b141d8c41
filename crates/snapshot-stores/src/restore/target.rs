//! Which live files a restore writes, and the refusals that come before anything is staged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use snapshot_core::mutants::holds;
use snapshot_core::{
    AgentId, BundlePath, Manifest, MemoryLayout, Sha256Digest, StoreAction, StoreName,
};
use snapshot_fs::{DurableFs, FileType, Meta, Stat};

use crate::error::StoresError;
use crate::files;
use crate::sources::{Database, Sources, stat_file};
use crate::sqlite::{Live, other_agents};

/// One live database that a restore writes; stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreTarget {
    /// Its name.
    pub(crate) store: StoreName,
    /// The live file, canonical where it exists.
    pub(crate) path: PathBuf,
    /// What happens to it.
    pub(crate) action: Action,
    /// The staged copy's name in the staging folder.
    pub(crate) staged: String,
    /// Pages of the staged copy.
    pub(crate) pages: u32,
    /// Journal mode to give to a store that is created.
    pub(crate) journal_mode: String,
    /// Permission bits for a store that is created.
    pub(crate) mode: u32,
    /// Page digest of the live file before; none where there is no page.
    pub(crate) before: Option<Sha256Digest>,
    /// Page digest of the staged copy.
    pub(crate) after: Sha256Digest,
}

/// What happens to a store; [`StoreAction`] as the journal spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Replace,
    Create,
    Empty,
}

/// A store of the plan, before it is staged.
#[derive(Debug, Clone)]
pub(crate) struct StoreChoice {
    pub(crate) store: StoreName,
    pub(crate) path: PathBuf,
    pub(crate) action: Action,
    /// Bytes that it will have.
    pub(crate) size_bytes: u64,
}

/// Another agent whose layout is known.
pub type OtherAgent = (AgentId, MemoryLayout);

/// Chooses what happens to each store of the bundle and of the live agent.
pub(crate) fn choose(
    fs: &DurableFs,
    manifest: &Manifest,
    layout: &MemoryLayout,
    live: Option<&Sources>,
) -> Result<Vec<StoreChoice>, StoresError> {
    let mut choices: BTreeMap<PathBuf, (StoreChoice, Option<Sha256Digest>)> = BTreeMap::new();
    for (info, artifact) in manifest.stores() {
        let path = live_path(fs, layout, &info.store)?;
        let (path, action) = match stat_file(fs, &path)? {
            Some((canonical, stat)) => {
                (name_in_cut(live, &stat).unwrap_or(canonical), Action::Replace)
            }
            None => (path, Action::Create),
        };
        let choice = StoreChoice {
            store: info.store.clone(),
            path: path.clone(),
            action,
            size_bytes: artifact.size_bytes.max(u64::from(info.page_size)),
        };
        match choices.get(&path) {
            Some((_, Some(digest))) if !holds(*digest == artifact.sha256) => {
                return Err(StoresError::refused(
                    &path,
                    "two stores of the snapshot with different content belong here",
                ));
            }
            Some(_) => {}
            None => {
                choices.insert(path, (choice, Some(artifact.sha256)));
            }
        }
    }
    for database in live.iter().flat_map(|s| &s.databases).filter(|d| !d.stores.is_empty()) {
        let path = database.live.path().to_owned();
        choices.entry(path.clone()).or_insert_with(|| {
            let store = database.stores[0].clone();
            (StoreChoice { store, path, action: Action::Empty, size_bytes: 0 }, None)
        });
    }
    Ok(choices.into_values().map(|(choice, _)| choice).collect())
}

/// Refuses databases that other agents use too: by their layouts, or by rows with another
/// `agent_id`. Returns the agents hit where `allowed`.
pub(crate) fn refuse_shared(
    fs: &DurableFs,
    agent: &AgentId,
    choices: &[StoreChoice],
    others: &[OtherAgent],
    allowed: bool,
) -> Result<Vec<String>, StoresError> {
    let mut notes = Vec::new();
    for choice in choices.iter().filter(|c| c.action != Action::Create) {
        let mut agents: BTreeSet<String> = BTreeSet::new();
        for (other, layout) in others {
            if uses(fs, layout, &choice.path)? {
                agents.insert(other.to_string());
            }
        }
        let conn = Live::new(&choice.path).open()?;
        let rows = other_agents(&conn, agent.as_str())
            .map_err(StoresError::sqlite("look for other agents' rows in", &choice.path))?;
        agents.extend(rows);
        if agents.is_empty() {
            continue;
        }
        let agents: Vec<String> = agents.into_iter().collect();
        if !allowed {
            return Err(StoresError::SharedStore {
                store: choice.store.to_string(),
                path: choice.path.clone(),
                agents,
            });
        }
        notes.push(format!(
            "store {} is restored whole, for {} too",
            choice.store,
            agents.join(", ")
        ));
    }
    Ok(notes)
}

/// Owner and mode for a new file in `folder`.
pub(crate) fn new_file_meta(fs: &DurableFs, folder: &Path, mode: u32) -> Result<Meta, StoresError> {
    let stat = fs.open_dir(folder)?.stat_self()?;
    Ok(Meta { owner: Some((stat.uid, stat.gid)), mode: Some(mode), mtime_ns: None })
}

/// Refuses where what we create could not be given to the owner of what is there.
pub(crate) fn refuse_foreign_owner(fs: &DurableFs, paths: &[&Path]) -> Result<(), StoresError> {
    let me = rustix::process::geteuid();
    if me.is_root() {
        return Ok(());
    }
    for path in paths {
        let Some(folder) = path.ancestors().find(|p| p.is_dir()) else { continue };
        let stat = fs.open_dir(folder)?.stat_self()?;
        if stat.uid != me.as_raw() {
            let why = format!(
                "owned by user {}, and we are user {}: run as its owner or as root",
                stat.uid,
                me.as_raw()
            );
            return Err(StoresError::refused(folder, why));
        }
    }
    Ok(())
}

impl From<Action> for StoreAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Replace => Self::Replace,
            Action::Create => Self::Create,
            Action::Empty => Self::Empty,
        }
    }
}

/// The path under which the cut holds this file: of several names of one file it knows one, and a
/// second would wait for the first.
fn name_in_cut(live: Option<&Sources>, stat: &Stat) -> Option<PathBuf> {
    let is_it = |d: &&Database| (d.stat.dev, d.stat.ino) == (stat.dev, stat.ino);
    Some(live?.databases.iter().find(is_it)?.live.path().to_owned())
}

/// The live file of a store: as the layout names it, or in the memdir where it was found.
fn live_path(
    fs: &DurableFs,
    layout: &MemoryLayout,
    store: &StoreName,
) -> Result<PathBuf, StoresError> {
    if let Some(named) = layout.stores.get(store) {
        return Ok(named.clone());
    }
    match (&layout.memdir, store.auto_path()) {
        (Some(memdir), Some(path)) => path_in_memdir(fs, memdir, &BundlePath::parse(path)?),
        _ => {
            let why = "the snapshot holds it and this agent's layout names no file for it; add it with --store or in the configuration";
            Err(StoresError::refused(Path::new(store.as_str()), why))
        }
    }
}

/// SQLite opens by path and follows links, and the name comes from a bundle: so none may be on the
/// way, nor anything of git's or ours.
fn path_in_memdir(
    fs: &DurableFs,
    memdir: &Path,
    path: &BundlePath,
) -> Result<PathBuf, StoresError> {
    files::check_names(path)?;
    let found = memdir.join(path.as_path());
    let mut dir = match fs.open_dir(memdir) {
        Err(e) if e.is_not_found() => return Ok(found),
        opened => opened?,
    };
    let mut names = path.as_path().iter().peekable();
    while let Some(name) = names.next() {
        let is_last = names.peek().is_none();
        match dir.stat(name)?.map(|stat| stat.file_type) {
            None => break,
            Some(FileType::File) if is_last => {}
            Some(FileType::Dir) if !is_last => dir = dir.sub(name)?,
            Some(_) => {
                let why =
                    format!("{} is a link or of another type", dir.path().join(name).display());
                return Err(StoresError::InTheWay { path: path.to_string(), why });
            }
        }
    }
    Ok(found)
}

/// Whether `layout` names the file at `path`, by this name or another one of it.
fn uses(fs: &DurableFs, layout: &MemoryLayout, path: &Path) -> Result<bool, StoresError> {
    let id = |(_, stat): (PathBuf, Stat)| (stat.dev, stat.ino);
    let wanted = stat_file(fs, path)?.map(id);
    let is_it = |other: &Path| {
        other == path || (wanted.is_some() && stat_file(fs, other).ok().flatten().map(id) == wanted)
    };
    Ok(layout.paths().into_iter().any(is_it))
}
