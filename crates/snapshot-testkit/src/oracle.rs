//! Says whether a captured state ever existed.
//!
//! The torture writers raise one counter in a fixed order: the stores `long_term` (a), `vector`
//! (b), `concepts` (c), `compactions` (d), then a commit, then the state file; only then the next
//! round begins. So at every instant `a >= b >= c >= d >= git >= json >= a - 1`, and a capture for
//! which that does not hold mixes two instants.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use snapshot_core::CLASSIC_STORES;

use crate::error::KitError;
use crate::seed::Agent;

/// Start of the subject of the writers' commits.
const SUBJECT: &str = "counter ";

/// The counters of one captured state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    /// Of the stores, in the order of [`CLASSIC_STORES`].
    pub stores: [u32; 4],
    /// Of HEAD's commit.
    pub git: u32,
    /// Of the state file.
    pub json: u32,
}

impl Values {
    /// Reads four database files, the subject of HEAD's commit and the state file's JSON, wherever
    /// they came from.
    ///
    /// # Errors
    /// If one of them cannot be read, or its noise is torn within the store.
    pub fn read(sqlite_dir: &Path, subject: &str, state: &[u8]) -> Result<Self, KitError> {
        let mut stores = [0; 4];
        for (value, name) in stores.iter_mut().zip(CLASSIC_STORES) {
            let path = sqlite_dir.join(format!("{name}.sqlite"));
            *value = counter_of_store(&path)?;
            noise_of_store(&path)?;
        }
        Ok(Self { stores, git: counter_of_subject(subject), json: counter_of_state(state) })
    }

    /// Reads the live agent, whose writers should rest.
    ///
    /// # Errors
    /// As [`Values::read`].
    pub fn of_agent(agent: &Agent) -> Result<Self, KitError> {
        let subject = agent.git().run(&["log", "-1", "--format=%s"])?;
        let path = agent.state("extract_cursor");
        let state = fs::read(&path).map_err(KitError::io("read", &path))?;
        Self::read(&agent.sqlite_dir(), &subject, &state)
    }

    /// Why no such state ever existed; none if it may have.
    #[must_use]
    pub fn torn(&self) -> Option<String> {
        let [a, b, c, d] = self.stores;
        let order = [a, b, c, d, self.git, self.json, a.saturating_sub(1)];
        if order.is_sorted_by(|x, y| x >= y) {
            return None;
        }
        Some(format!(
            "torn: a={a} b={b} c={c} d={d} git={} json={} (each at least the next, the last at \
             least a-1)",
            self.git, self.json
        ))
    }
}

/// The counter in a commit's subject; 0 for a commit of another kind.
#[must_use]
pub fn counter_of_subject(subject: &str) -> u32 {
    subject.trim().strip_prefix(SUBJECT).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// The counter in the state file `extract_cursor.json`; 0 where there is none.
#[must_use]
pub fn counter_of_state(json: &[u8]) -> u32 {
    serde_json::from_slice::<serde_json::Value>(json)
        .ok()
        .and_then(|state| u32::try_from(state["counter"].as_u64()?).ok())
        .unwrap_or_default()
}

/// The counter in a database file.
///
/// # Errors
/// If it cannot be read.
pub fn counter_of_store(path: &Path) -> Result<u32, KitError> {
    let read = || open(path)?.query_row("SELECT n FROM counter", [], |row| row.get(0));
    read().map_err(KitError::sql("read the counter of", path))
}

/// The highest number that a noise writer left in a database file; 0 for none. Each of its
/// transactions writes one number into two rows, so two that differ are half a transaction.
///
/// # Errors
/// If it cannot be read, or holds half a transaction.
pub fn noise_of_store(path: &Path) -> Result<u32, KitError> {
    let read = |sql| open(path)?.query_row(sql, [], |row| row.get::<_, Option<u32>>(0));
    let torn = "SELECT min(a.id) FROM noise a LEFT JOIN noise b ON b.id = a.id + 32 \
                WHERE a.id < 32 AND a.seq IS NOT b.seq";
    if let Some(id) = read(torn).map_err(KitError::sql("read the noise of", path))? {
        return Err(KitError::broken("noise", path, format!("half a transaction at row {id}")));
    }
    let newest = read("SELECT max(seq) FROM noise");
    Ok(newest.map_err(KitError::sql("read the noise of", path))?.unwrap_or_default())
}

pub(crate) fn subject(counter: u32) -> String {
    format!("{SUBJECT}{counter}")
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(std::time::Duration::from_secs(60))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn torn(stores: [u32; 4], git: u32, json: u32) -> bool {
        Values { stores, git, json }.torn().is_some()
    }

    /// Would catch: an oracle that calls everything whole.
    #[test]
    fn states_between_two_rounds_are_whole_and_all_others_torn() {
        assert!(!torn([5; 4], 5, 5));
        assert!(!torn([6, 5, 5, 5], 5, 5));
        assert!(!torn([6, 6, 6, 6], 6, 5));
        assert!(!torn([0; 4], 0, 0));
        assert!(torn([6, 6, 6, 6], 5, 6), "the state is newer than the commit");
        assert!(torn([5, 6, 5, 5], 5, 5), "the second store is newer than the first");
        assert!(torn([7, 6, 6, 6], 6, 5), "two rounds at once");
        assert!(torn([6, 6, 6, 6], 6, 4));
    }

    #[test]
    fn counters_are_read_from_subjects_and_state() {
        assert_eq!(counter_of_subject(&subject(17)), 17);
        assert_eq!(counter_of_subject("another commit"), 0);
        assert_eq!(counter_of_state(br#"{"counter": 17}"#), 17);
        assert_eq!(counter_of_state(b"{"), 0);
    }
}
