//! Runtime state that a host keeps in memory: the plainest [`StateProvider`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use snapshot_core::{PortError, StateKind, StateProvider};

/// Gives back what it was given, byte for byte.
#[derive(Debug, Default)]
pub struct HostState(Mutex<BTreeMap<StateKind, Vec<u8>>>);

impl HostState {
    /// What it holds, to be read and changed.
    pub fn pieces(&self) -> MutexGuard<'_, BTreeMap<StateKind, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateProvider for HostState {
    fn capture(&self, kind: StateKind) -> Result<Option<Vec<u8>>, PortError> {
        Ok(self.pieces().get(&kind).cloned())
    }

    fn restore(&self, kind: StateKind, json: Option<&[u8]>) -> Result<(), PortError> {
        match json {
            Some(json) => self.pieces().insert(kind, json.to_owned()),
            None => self.pieces().remove(&kind),
        };
        Ok(())
    }
}
