//! The agent's memory as a value: which folders and files are captured and restored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, CLASSIC_STORES, StoreName};

/// Where one agent's memory lies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryLayout {
    /// The memdir: a folder of files, usually with a git repository at its root.
    pub memdir: Option<PathBuf>,
    /// SQLite databases by name.
    pub stores: BTreeMap<StoreName, PathBuf>,
    /// Where the runtime state comes from.
    pub state: StateLayout,
    /// Whether a part that is missing goes unreported: the classic layout is a guess, one that was
    /// spelled out is not.
    pub parts_optional: bool,
}

/// Sources of the two pieces of runtime state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateLayout {
    /// The extractor's cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract_cursor: Option<StateSource>,
    /// The last dream run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dream_run: Option<StateSource>,
}

/// One source of runtime state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum StateSource {
    /// A JSON file.
    Json {
        /// Its path.
        json: PathBuf,
    },
    /// The latest row of a table, as a JSON object of its columns.
    Sqlite {
        /// The database.
        sqlite: PathBuf,
        /// The table.
        table: String,
        /// The column whose greatest value marks the latest row.
        order_by: String,
    },
}

impl MemoryLayout {
    /// The classic layout: the memdir folder, `<sqlite_dir>/<store>.sqlite` for the four classic
    /// stores, and `<state_dir>/{extract_cursor,dream_run}.json`.
    #[must_use]
    pub fn classic(memdir: PathBuf, sqlite_dir: &Path, state_dir: &Path) -> Self {
        let stores = CLASSIC_STORES
            .iter()
            .map(|&name| (StoreName::from_static(name), sqlite_dir.join(format!("{name}.sqlite"))))
            .collect();
        Self {
            memdir: Some(memdir),
            stores,
            state: StateLayout::json_dir(state_dir),
            parts_optional: true,
        }
    }

    /// The classic layout below two roots, `<memdir_root>/<agent>` and `<sqlite_root>/<agent>`; the
    /// state lies beside the databases.
    #[must_use]
    pub fn classic_roots(memdir_root: &Path, sqlite_root: &Path, agent: &AgentId) -> Self {
        let sqlite_dir = sqlite_root.join(agent.as_str());
        Self::classic(memdir_root.join(agent.as_str()), &sqlite_dir, &sqlite_dir)
    }

    /// Every path that this layout looks at, for the error that names them.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        let state = [&self.state.extract_cursor, &self.state.dream_run]
            .into_iter()
            .flatten()
            .map(StateSource::path);
        self.memdir.iter().chain(self.stores.values()).map(PathBuf::as_path).chain(state).collect()
    }
}

impl StateLayout {
    /// `<dir>/extract_cursor.json` and `<dir>/dream_run.json`.
    #[must_use]
    pub fn json_dir(dir: &Path) -> Self {
        let json = |name: &str| Some(StateSource::Json { json: dir.join(name) });
        Self { extract_cursor: json("extract_cursor.json"), dream_run: json("dream_run.json") }
    }
}

impl StateSource {
    /// The file that it reads.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Json { json } => json,
            Self::Sqlite { sqlite, .. } => sqlite,
        }
    }
}
