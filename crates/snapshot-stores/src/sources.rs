//! What a layout's paths really lead to, before anything is held.

use std::path::{Path, PathBuf};

use snapshot_core::{
    AgentId, Control, MemoryLayout, NotCarried, StateKind, StateSource, StoreName,
};
use snapshot_fs::{Dir, DurableFs, FileType, Stat};

use crate::error::StoresError;
use crate::files::{self, ListOptions};
use crate::git::{self, GitRepo};
use crate::sqlite::Live;
use crate::state;

/// How the reason begins why a part that was named is left out.
const NO_PART: &str = "there is no ";

/// Everything of one agent that exists now.
pub(crate) struct Sources {
    /// Databases by (device, inode): two names of one file are one entry.
    pub(crate) databases: Vec<Database>,
    pub(crate) memdir: Option<Memdir>,
    /// State that lies in JSON files.
    pub(crate) json_state: Vec<(StateKind, PathBuf)>,
    /// Parts that the layout names and that are not there.
    pub(crate) missing: Vec<NotCarried>,
}

/// One live database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) live: Live,
    pub(crate) stat: Stat,
    /// The stores that it is captured as; none for one that only holds runtime state.
    pub(crate) stores: Vec<StoreName>,
    /// Runtime state that is a row of it.
    pub(crate) state: Vec<StateRow>,
}

/// Where the latest row lies.
#[derive(Debug, Clone)]
pub(crate) struct StateRow {
    pub(crate) kind: StateKind,
    pub(crate) table: String,
    pub(crate) order_by: String,
}

/// The memdir and what lay in it when it was listed.
pub(crate) struct Memdir {
    pub(crate) dir: Dir,
    pub(crate) repo: Option<GitRepo>,
    pub(crate) listing: files::Listing,
    /// Files in it that are captured by other means.
    pub(crate) options: ListOptions,
}

impl Sources {
    /// Looks at every path of the layout.
    pub(crate) fn discover(
        fs: &DurableFs,
        agent: &AgentId,
        layout: &MemoryLayout,
        control: &Control,
    ) -> Result<Self, StoresError> {
        let mut found = Self {
            databases: Vec::new(),
            memdir: None,
            json_state: Vec::new(),
            missing: Vec::new(),
        };
        for (name, path) in &layout.stores {
            match stat_file(fs, path)? {
                Some((path, stat)) => found.database(&path, stat).stores.push(name.clone()),
                None if !layout.parts_optional => found.missing(format!("store {name}"), path),
                None => {}
            }
        }
        for kind in StateKind::ALL {
            if let Some(source) = state::source(&layout.state, kind) {
                found.add_state(fs, kind, source)?;
            }
        }
        if let Some(path) = &layout.memdir {
            found.add_memdir(fs, path, layout, control)?;
        }
        let nothing =
            found.databases.is_empty() && found.json_state.is_empty() && found.memdir.is_none();
        if nothing {
            let looked = layout.paths().into_iter().map(Path::to_owned).collect();
            return Err(StoresError::UnknownAgent { agent: agent.to_string(), looked });
        }
        found.databases.sort_by(|a, b| a.live.path().cmp(b.live.path()));
        Ok(found)
    }

    fn add_state(
        &mut self,
        fs: &DurableFs,
        kind: StateKind,
        source: &StateSource,
    ) -> Result<(), StoresError> {
        let found = stat_file(fs, source.path())?;
        match (source, found) {
            (_, None) => {}
            (StateSource::Json { .. }, Some((path, _))) => self.json_state.push((kind, path)),
            (StateSource::Sqlite { table, order_by, .. }, Some((path, stat))) => {
                let row = StateRow { kind, table: table.clone(), order_by: order_by.clone() };
                self.database(&path, stat).state.push(row);
            }
        }
        Ok(())
    }

    fn add_memdir(
        &mut self,
        fs: &DurableFs,
        path: &Path,
        layout: &MemoryLayout,
        control: &Control,
    ) -> Result<(), StoresError> {
        let dir = match fs.open_dir(path) {
            Ok(dir) => dir,
            Err(e) if e.is_not_found() => {
                if !layout.parts_optional {
                    self.missing("memdir".to_owned(), path);
                }
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        let known = self.databases.iter().map(|d| (d.stat.dev, d.stat.ino));
        let mut options = list_options(path, layout, known)?;
        let listing = list_databases(path, &dir, &mut options, control)?;
        for auto in &listing.auto_stores {
            if let Some((path, stat)) = stat_file(fs, &path.join(auto.path.as_path()))? {
                self.database(&path, stat).stores.push(auto.name.clone());
            }
        }
        let repo = git::open(path)?;
        if !listing.entries.is_empty() || !listing.auto_stores.is_empty() || repo.is_some() {
            self.memdir = Some(Memdir { dir, repo, listing, options });
        }
        Ok(())
    }

    fn database(&mut self, path: &Path, stat: Stat) -> &mut Database {
        let known =
            self.databases.iter().position(|d| (d.stat.dev, d.stat.ino) == (stat.dev, stat.ino));
        let at = known.unwrap_or_else(|| {
            self.databases.push(Database {
                live: Live::new(path),
                stat,
                stores: Vec::new(),
                state: Vec::new(),
            });
            self.databases.len() - 1
        });
        &mut self.databases[at]
    }

    fn missing(&mut self, what: String, path: &Path) {
        self.missing.push(NotCarried { path: what, why: format!("{NO_PART}{}", path.display()) });
    }
}

/// That a redacted bundle lacks `part`, which `by` asked for: as of a part that was not there, a restore over a
/// live one empties nothing.
#[must_use]
pub fn left_out(part: &str, by: &str) -> NotCarried {
    let why = format!("{NO_PART}{part} in this redacted copy, by {by}");
    NotCarried { path: part.to_owned(), why }
}

/// That a rewritten bundle lacks `part`, and why: a restore over a live one empties nothing.
#[must_use]
pub fn not_usable(part: &str, why: &str) -> NotCarried {
    NotCarried { path: part.to_owned(), why: format!("{NO_PART}{part} that could be used: {why}") }
}

/// Whether a snapshot says that this part (`memdir`, `store NAME`, `git history`) was not there; a file of the memdir may have the
/// name too.
pub(crate) fn is_missing(left_out: &NotCarried, part: &str) -> bool {
    left_out.path == part && left_out.why.starts_with(NO_PART)
}

/// Lists the memdir until every store found in it is one for SQLite too, whatever its header says.
fn list_databases(
    path: &Path,
    dir: &Dir,
    options: &mut ListOptions,
    control: &Control,
) -> Result<files::Listing, StoresError> {
    loop {
        let listing = files::list(dir, options, control)?;
        let plain: Vec<(u64, u64)> = listing
            .auto_stores
            .iter()
            .filter(|auto| Live::new(&path.join(auto.path.as_path())).is_no_database())
            .map(|auto| auto.id)
            .collect();
        if plain.is_empty() {
            return Ok(listing);
        }
        options.plain.extend(plain);
    }
}

/// What the file walk passes over: databases by identity, state files by path, for they are replaced
/// by rename.
pub(crate) fn list_options(
    memdir: &Path,
    layout: &MemoryLayout,
    stores: impl Iterator<Item = (u64, u64)>,
) -> Result<ListOptions, StoresError> {
    let root = canonical(memdir)?;
    let inside = |path: &Path| {
        let parent = std::fs::canonicalize(path.parent()?).ok()?;
        let relative = parent.strip_prefix(&root).ok()?.join(path.file_name()?);
        Some(relative.into_os_string().into_encoded_bytes())
    };
    let state = StateKind::ALL.iter().filter_map(|&kind| state::source(&layout.state, kind));
    let paths = state.filter_map(|source| inside(source.path())).collect();
    Ok(ListOptions { stores: stores.collect(), paths, ..ListOptions::default() })
}

/// Canonical path and stat of the regular file at `path`, links followed; none where there is none.
pub(crate) fn stat_file(
    fs: &DurableFs,
    path: &Path,
) -> Result<Option<(PathBuf, Stat)>, StoresError> {
    let path = match std::fs::canonicalize(path) {
        Ok(path) => path,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(StoresError::refused(path, format!("cannot be looked at: {e}"))),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StoresError::refused(&path, "not the path of a file"));
    };
    match fs.open_dir(parent)?.stat(name)? {
        Some(stat) if stat.file_type == FileType::File => Ok(Some((path, stat))),
        Some(_) => Err(StoresError::refused(&path, "not a regular file")),
        None => Ok(None),
    }
}

fn canonical(path: &Path) -> Result<PathBuf, StoresError> {
    std::fs::canonicalize(path)
        .map_err(|e| StoresError::refused(path, format!("cannot be looked at: {e}")))
}
