//! What the engine counted, and what a scrape reads of its vault.

use super::Engine;
use crate::metrics::{Facts, Metrics};

impl Engine {
    /// What this engine counts into.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// Everything that `docs/metrics.md` names, as text for a scrape: serve it as
    /// [`crate::metrics::CONTENT_TYPE`]. Reads the summary of every snapshot in the vault, and no
    /// bundle. What cannot be read is told in the text, so that the rest is.
    #[must_use]
    pub fn prometheus(&self) -> String {
        self.metrics().prometheus(std::slice::from_ref(self))
    }

    pub(crate) fn facts(&self) -> Facts {
        let waiting = self.events_waiting();
        let outbox = waiting.and_then(|waiting| Ok((waiting, self.events_put_aside()?)));
        Facts { agents: self.status_of_all().ok(), outbox: outbox.ok() }
    }
}
