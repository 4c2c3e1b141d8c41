//! The named agents: where each keeps its memory, and what differs for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use snapshot_core::{AgentId, MemoryLayout, StateLayout, StateSource, StoreName};
use snapshot_retention::Policy;

use super::keys::MAX_WAIT_SECS;
use super::section::Section;
use super::{
    ConfigError, DEFAULT_LOCK_TIMEOUT, EncryptionSection, MemorySnapshotConfig, RetentionSection,
};
use crate::hooks::ShellHooks;

/// How long a hook may take where nothing else is said, in seconds.
const DEFAULT_HOOK_SECS: u64 = 30;

/// One named agent, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentSection {
    /// Where it keeps its memory; absent, in the classic layout.
    pub layout: Option<MemoryLayout>,
    /// What differs for it.
    pub options: AgentOptions,
    /// What is to be kept of it, where that differs.
    pub retention: RetentionSection,
}

/// What is said for all agents, and may be said again for one; what is absent there is absent here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentOptions {
    /// How long to wait for locks and busy databases.
    pub lock_timeout: Option<Duration>,
    /// Whether a runtime takes a snapshot before each dream run.
    pub auto_pre_dream: Option<bool>,
    /// Whether a restore keeps the present state as a snapshot first.
    pub auto_pre_restore: Option<bool>,
    /// Whether a runtime takes a snapshot before each tool that changes the memory.
    pub auto_pre_mutating_tool: Option<bool>,
    /// Whether snapshots are redacted where nothing else is said.
    pub redact_secrets_default: Option<bool>,
    /// For whom its snapshots are encrypted, and what opens them.
    pub encryption: EncryptionSection,
    /// Commands that pause and resume it around the cut.
    pub hooks: Option<ShellHooks>,
}

/// What is in force for one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AgentSettings {
    /// How long to wait for locks and busy databases.
    pub lock_timeout: Duration,
    /// Whether a runtime takes a snapshot before each dream run.
    pub auto_pre_dream: bool,
    /// Whether a restore keeps the present state as a snapshot first.
    pub auto_pre_restore: bool,
    /// Whether a runtime takes a snapshot before each tool that changes the memory.
    pub auto_pre_mutating_tool: bool,
    /// Whether snapshots are redacted where nothing else is said.
    pub redact_secrets_default: bool,
    /// Whether snapshots are encrypted where nothing else is said.
    pub encrypted: bool,
}

impl MemorySnapshotConfig {
    /// What is in force for an agent: what it says for itself, else what is said for all, else the
    /// default. Where `enabled` is false, nothing is automatic.
    #[must_use]
    pub fn settings_of(&self, agent: &AgentId) -> AgentSettings {
        let (own, all) = (self.agents.get(agent).map(|a| &a.options), &self.options);
        let switch = |of: fn(&AgentOptions) -> Option<bool>| own.and_then(of).or_else(|| of(all));
        let automatic = |of| self.enabled != Some(false) && switch(of).unwrap_or_default();
        let lock_timeout = own.and_then(|own| own.lock_timeout).or(all.lock_timeout);
        AgentSettings {
            lock_timeout: lock_timeout.unwrap_or(DEFAULT_LOCK_TIMEOUT),
            auto_pre_dream: automatic(|o| o.auto_pre_dream),
            auto_pre_restore: switch(|o| o.auto_pre_restore).unwrap_or(true),
            auto_pre_mutating_tool: automatic(|o| o.auto_pre_mutating_tool),
            redact_secrets_default: switch(|o| o.redact_secrets_default).unwrap_or_default(),
            encrypted: self.encryption_of(agent).is_some(),
        }
    }

    /// The retention policy of an agent: its own limits and rules, else those said for all.
    #[must_use]
    pub fn policy_of(&self, agent: &AgentId) -> Policy {
        match self.agents.get(agent) {
            Some(own) => own.retention.clone().or(&self.retention).policy(),
            None => self.retention.policy(),
        }
    }

    /// What is likely not meant as it is written, one line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let own = self.agents.iter();
        let own = own.map(|(agent, own)| (format!("agents.{agent}."), &own.options));
        let all = std::iter::once((String::new(), &self.options)).chain(own);
        let redacts = all.filter(|(_, options)| options.redact_secrets_default == Some(true));
        let warning = |(place, _): (String, _)| {
            format!(
                "memory.snapshot.{place}redact_secrets_default is true: what is redacted does not come back \
                 by a restore, and none of these snapshots counts as the last good one"
            )
        };
        let unsigned = self.signing.trust.required && self.signing.key_path.is_none();
        let unsigned = unsigned.then(|| {
            "memory.snapshot.require_signature is true, and signing_key_path is not set: what is kept before \
             a restore is not signed, so it could not be restored"
                .to_owned()
        });
        redacts.map(warning).chain(unsigned).collect()
    }
}

pub(super) fn read(agents: Section<'_>) -> Result<BTreeMap<AgentId, AgentSection>, ConfigError> {
    let mut read = BTreeMap::new();
    for (name, mut agent) in agents.into_sections()? {
        let id = name.parse::<AgentId>().map_err(|e| agent.bad_here(e.to_string()))?;
        let section = AgentSection {
            layout: read_layout(&mut agent)?,
            options: read_options(&mut agent)?,
            retention: agent
                .section("retention")?
                .map(super::retention::read_own)
                .transpose()?
                .unwrap_or_default(),
        };
        agent.finish();
        read.insert(id, section);
    }
    Ok(read)
}

pub(super) fn read_options(section: &mut Section<'_>) -> Result<AgentOptions, ConfigError> {
    let lock_timeout = section.number("lock_timeout_secs", 0..=MAX_WAIT_SECS)?;
    Ok(AgentOptions {
        lock_timeout: lock_timeout.map(Duration::from_secs),
        auto_pre_dream: section.boolean("auto_pre_dream")?,
        auto_pre_restore: section.boolean("auto_pre_restore")?,
        auto_pre_mutating_tool: section.boolean("auto_pre_mutating_tool")?,
        redact_secrets_default: section.boolean("redact_secrets_default")?,
        encryption: section
            .section("encryption")?
            .map(super::encryption::read)
            .transpose()?
            .unwrap_or_default(),
        hooks: section.section("hooks")?.map(read_hooks).transpose()?.flatten(),
    })
}

/// The layout, or none where not a word is said of it.
fn read_layout(agent: &mut Section<'_>) -> Result<Option<MemoryLayout>, ConfigError> {
    let layout = MemoryLayout {
        memdir: agent.path("memdir")?,
        stores: agent.section("stores")?.map(read_stores).transpose()?.unwrap_or_default(),
        state: agent.section("state")?.map(read_state).transpose()?.unwrap_or_default(),
        parts_optional: false,
    };
    if layout.memdir.is_some() || !layout.stores.is_empty() {
        return Ok(Some(layout));
    }
    match layout.state == StateLayout::default() {
        true => Ok(None),
        false => Err(agent.bad_here("it names neither a memdir nor a store".to_owned())),
    }
}

fn read_hooks(mut hooks: Section<'_>) -> Result<Option<ShellHooks>, ConfigError> {
    let quiesce = hooks.command("quiesce")?;
    let resume = hooks.command("resume")?;
    let deadline = hooks.number("deadline_secs", 1..=MAX_WAIT_SECS)?.unwrap_or(DEFAULT_HOOK_SECS);
    let read = match (quiesce, resume) {
        (Some(quiesce), Some(resume)) => {
            Some(ShellHooks { quiesce, resume, deadline: Duration::from_secs(deadline) })
        }
        (None, None) => None,
        (Some(_), None) => return Err(hooks.bad("resume", "quiesce is set, so it must be too")),
        (None, Some(_)) => return Err(hooks.bad("quiesce", "resume is set, so it must be too")),
    };
    hooks.finish();
    Ok(read)
}

fn read_stores(mut stores: Section<'_>) -> Result<BTreeMap<StoreName, PathBuf>, ConfigError> {
    let mut read = BTreeMap::new();
    for key in stores.keys() {
        let name = key.parse::<StoreName>().map_err(|e| stores.bad(&key, e.to_string()))?;
        if name.auto_path().is_some() {
            return Err(stores.bad(&key, "auto: names are given by the program"));
        }
        let path = stores.path(&key)?.ok_or_else(|| stores.bad(&key, "a path is needed"))?;
        read.insert(name, path);
    }
    Ok(read)
}

fn read_state(mut state: Section<'_>) -> Result<StateLayout, ConfigError> {
    let read = StateLayout {
        extract_cursor: state.section("extract_cursor")?.map(read_source).transpose()?,
        dream_run: state.section("dream_run")?.map(read_source).transpose()?,
    };
    state.finish();
    Ok(read)
}

fn read_source(mut source: Section<'_>) -> Result<StateSource, ConfigError> {
    let (json, sqlite) = (source.path("json")?, source.path("sqlite")?);
    let (table, order_by) = (source.sql_name("table")?, source.sql_name("order_by")?);
    let read = match (json, sqlite, table, order_by) {
        (Some(json), None, None, None) => StateSource::Json { json },
        (None, Some(sqlite), Some(table), Some(order_by)) => {
            StateSource::Sqlite { sqlite, table, order_by }
        }
        _ => {
            let why = "it takes either json, or sqlite with table and order_by";
            return Err(source.bad_here(why.to_owned()));
        }
    };
    source.finish();
    Ok(read)
}
