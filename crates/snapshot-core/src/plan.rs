//! What a restore will do, before it does it: `--dry-run` prints this same value.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::id::{AgentId, GitOid, SnapshotId, StoreName, Tenant};
use crate::text::one_line;

/// Lists longer than this are shortened for people (never in JSON).
const SHOWN: usize = 8;
/// Steps of 1024.
const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// The plan of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    /// The agent that is restored.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// The snapshot.
    pub from: SnapshotId,
    /// Whose memory it holds, where that is another agent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_agent: Option<AgentId>,
    /// Its instant, milliseconds since the epoch, UTC.
    pub created_at_ms: i64,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether the present state is kept as a snapshot first.
    pub auto_pre_snapshot: bool,
    /// What happens to each store.
    pub stores: Vec<StorePlan>,
    /// What happens to the memory files.
    pub files: FilePlan,
    /// What happens to the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitPlan>,
    /// Pieces of runtime state that are put back (or removed).
    pub state: Vec<String>,
    /// Free space needed, per file system.
    pub space: Vec<SpaceNeed>,
    /// What is worth knowing before.
    pub notes: Vec<String>,
    /// The folder that is restored into; none for the live agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<PathBuf>,
}

/// What happens to one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorePlan {
    /// Its name.
    pub store: StoreName,
    /// The live file.
    pub target: PathBuf,
    /// What happens to it.
    pub action: StoreAction,
    /// Bytes that it will have.
    pub size_bytes: u64,
}

/// What happens to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreAction {
    /// The live database takes the snapshot's content.
    Replace,
    /// There is none now; it is created.
    Create,
    /// The snapshot has none; the live one is emptied, never unlinked.
    Empty,
}

/// What happens to the memory files, by path in the memdir.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FilePlan {
    /// Written: new, or with other content.
    pub write: Vec<String>,
    /// Same content; mode or time set.
    pub touch: Vec<String>,
    /// Live files that the snapshot lacks.
    pub remove: Vec<String>,
    /// Same already.
    pub unchanged: u64,
}

/// What happens to the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitPlan {
    /// HEAD's commit now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_now: Option<GitOid>,
    /// HEAD's commit in the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_then: Option<GitOid>,
    /// Refs that are set.
    pub refs_set: Vec<String>,
    /// Refs that are deleted.
    pub refs_deleted: Vec<String>,
}

/// Free space needed on one file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpaceNeed {
    /// A folder on it.
    pub at: PathBuf,
    /// Bytes needed at most.
    pub needed_bytes: u64,
    /// Bytes free now.
    pub free_bytes: u64,
}

/// A number of bytes as people read it: `1.5 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "two significant digits are shown")]
        let (mut value, mut unit) = (self.0 as f64, 0);
        // 1023.95 would print as 1024.0.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            (value, unit) = (value / 1024.0, unit + 1);
        }
        match unit {
            0 => write!(f, "{} B", self.0),
            _ => write!(f, "{value:.1} {}", UNITS[unit]),
        }
    }
}

impl RestorePlan {
    /// What goes where, for people: `ana <- 3f9c21ab`, or `bo <- 3f9c21ab of ana`.
    #[must_use]
    pub fn head(&self) -> String {
        let of = self.of_agent.as_ref().map(|agent| format!(" of {agent}")).unwrap_or_default();
        format!("{} <- {}{of}", self.agent_id, self.from.short())
    }
}

impl fmt::Display for RestorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        if let Some(label) = &self.label {
            write!(f, " ({})", escaped(label))?;
        }
        writeln!(f)?;
        for store in &self.stores {
            let action = match store.action {
                StoreAction::Replace => "replace",
                StoreAction::Create => "create",
                StoreAction::Empty => "empty (the snapshot has no such store)",
            };
            writeln!(
                f,
                "  store {:<12} {action}, {}, {}",
                escaped(&store.store),
                Bytes(store.size_bytes),
                escaped(&store.target.display())
            )?;
        }
        let FilePlan { write, touch, remove, unchanged } = &self.files;
        writeln!(
            f,
            "  memory files: {} to write, {} to touch, {} to remove, {unchanged} unchanged",
            write.len(),
            touch.len(),
            remove.len()
        )?;
        list(f, "write", write)?;
        list(f, "remove", remove)?;
        if let Some(git) = &self.git {
            let name = |oid: &Option<GitOid>| {
                oid.as_ref().map_or("none".to_owned(), |o| o.as_str().chars().take(8).collect())
            };
            writeln!(
                f,
                "  git HEAD {} -> {}, refs: {} set, {} deleted",
                name(&git.head_now),
                name(&git.head_then),
                git.refs_set.len(),
                git.refs_deleted.len()
            )?;
            list(f, "delete", &git.refs_deleted)?;
        }
        if !self.state.is_empty() {
            writeln!(f, "  state: {}", self.state.join(", "))?;
        }
        for need in &self.space {
            writeln!(
                f,
                "  space at {}: {} needed at most, {} free",
                escaped(&need.at.display()),
                Bytes(need.needed_bytes),
                Bytes(need.free_bytes)
            )?;
        }
        if let (Some(of), None) = (&self.of_agent, &self.into) {
            writeln!(f, "  the memory of {} becomes a copy of that of {of}", self.agent_id)?;
        }
        if let Some(into) = &self.into {
            writeln!(f, "  into {}: the live agent is not touched", escaped(&into.display()))?;
        } else if !self.auto_pre_snapshot {
            writeln!(f, "  the present state is NOT kept as a snapshot")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {}", escaped(note)))
    }
}

fn list(f: &mut fmt::Formatter<'_>, verb: &str, names: &[String]) -> fmt::Result {
    for name in names.iter().take(SHOWN) {
        writeln!(f, "    {verb} {}", escaped(name))?;
    }
    if names.len() > SHOWN {
        writeln!(f, "    ... and {} more", names.len() - SHOWN)?;
    }
    Ok(())
}

/// A bundle's names may hold line ends and worse.
fn escaped(text: &impl fmt::Display) -> String {
    one_line(&text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_bundle_stay_on_their_line() {
        let plan = RestorePlan {
            agent_id: AgentId::from_static("ana"),
            tenant: Tenant::default(),
            from: SnapshotId::nil(),
            of_agent: None,
            created_at_ms: 0,
            label: Some("l\u{202e}".into()),
            auto_pre_snapshot: true,
            stores: vec![StorePlan {
                store: StoreName::auto("x\n  store forged").unwrap(),
                target: PathBuf::from("/t\u{1b}[2J"),
                action: StoreAction::Create,
                size_bytes: 1,
            }],
            files: FilePlan { write: vec!["it's\n".into()], ..FilePlan::default() },
            git: None,
            state: Vec::new(),
            space: Vec::new(),
            notes: vec!["n\u{9b}".into()],
            into: None,
        };
        let text = plan.to_string();
        assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{9b}']), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.contains("store")).count(), 1, "{text}");
        assert!(text.contains(r"it's\n"), "{text}");
    }

    #[test]
    fn sizes_have_one_decimal_and_never_four_digits() {
        for (n, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (1536 * 1024, "1.5 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(Bytes(n).to_string(), shown);
        }
    }
}
