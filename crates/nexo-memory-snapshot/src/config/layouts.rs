//! Where a configured agent's memory lies: what is spelled out first, else the classic layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use snapshot_core::{AgentId, MemoryLayout, PathResolver, Tenant};

use super::MemorySnapshotConfig;

/// The layouts of one tenant's agents. Another tenant's agents are not known to it.
#[derive(Debug, Clone)]
pub struct ConfiguredLayouts {
    tenant: Tenant,
    /// None for one in the classic layout.
    agents: BTreeMap<AgentId, Option<MemoryLayout>>,
    memdir_root: PathBuf,
    sqlite_root: PathBuf,
}

impl ConfiguredLayouts {
    /// The layouts of a configuration; both roots of the classic layout default to `root`, the
    /// vault.
    #[must_use]
    pub fn new(config: &MemorySnapshotConfig, tenant: Tenant, root: &Path) -> Self {
        let or_root = |path: &Option<PathBuf>| path.clone().unwrap_or_else(|| root.to_owned());
        let layouts = config.agents.iter();
        Self {
            tenant,
            agents: layouts.map(|(id, own)| (id.clone(), own.layout.clone())).collect(),
            memdir_root: or_root(&config.memdir_root),
            sqlite_root: or_root(&config.sqlite_root),
        }
    }

    /// Spells out the layout of one agent, instead of what the configuration says of it.
    #[must_use]
    pub fn with_agent(mut self, agent: AgentId, layout: MemoryLayout) -> Self {
        self.agents.insert(agent, Some(layout));
        self
    }
}

impl PathResolver for ConfiguredLayouts {
    fn layout(&self, tenant: &Tenant, agent: &AgentId) -> Option<MemoryLayout> {
        if *tenant != self.tenant {
            return None;
        }
        let classic = || MemoryLayout::classic_roots(&self.memdir_root, &self.sqlite_root, agent);
        Some(self.agents.get(agent).cloned().flatten().unwrap_or_else(classic))
    }

    fn agents(&self) -> Vec<(Tenant, AgentId)> {
        self.agents.keys().map(|agent| (self.tenant.clone(), agent.clone())).collect()
    }
}
