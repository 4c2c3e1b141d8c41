//! The agent paused, as a guard: resumed on every way out, a panic included.

use std::time::Duration;

use snapshot_core::{AgentId, Quiesce};

use super::Engine;
use crate::error::SnapshotError;

/// While this lives the agent is paused, where the host gave a way to pause it.
pub(super) struct Paused<'a>(Option<(&'a dyn Quiesce, &'a AgentId)>);

impl Engine {
    /// Pauses the agent, or does nothing where the host gave no way to.
    pub(super) fn pause<'a>(&'a self, agent: &'a AgentId) -> Result<Paused<'a>, SnapshotError> {
        let Some((quiesce, deadline)) = self.quiesce_of(agent) else { return Ok(Paused(None)) };
        // Before the pause: one that failed half-way is to be undone too.
        let paused = Paused(Some((quiesce, agent)));
        quiesce.pause(agent, deadline)?;
        Ok(paused)
    }

    /// Whether there is a way to pause this agent.
    pub(super) fn pauses(&self, agent: &AgentId) -> bool {
        self.quiesce_of(agent).is_some()
    }

    fn quiesce_of(&self, agent: &AgentId) -> Option<(&dyn Quiesce, Duration)> {
        let (quiesce, deadline) = self.parts.quiesce.as_ref()?;
        quiesce.knows(agent).then_some((quiesce.as_ref(), *deadline))
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Some((quiesce, agent)) = self.0 {
            quiesce.resume(agent);
        }
    }
}
