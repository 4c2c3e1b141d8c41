//! Which secrets a memory holds: a redaction's first pass, told and not written.

use std::time::Duration;

use snapshot_bundle::redact::{Search, masked};
use snapshot_core::{
    AgentId, Control, CreatedBy, DiffSide, RedactionOptions, SecretFinding, SecretsReport, Tenant,
};

use super::search::shown;
use crate::engine::Engine;
use crate::engine::seal::About;
use crate::error::SnapshotError;

/// Asks which secrets a memory holds.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// A snapshot, or the live memory, captured for the purpose.
    pub of: DiffSide,
    /// How long to wait for the agent's lock, and again for busy databases.
    pub timeout: Duration,
}

impl Engine {
    /// Searches all that a snapshot ships, or would ship now; `tell` hears each secret, masked, as it is
    /// found. Changes nothing.
    ///
    /// # Errors
    /// If the snapshot cannot be found or read, or the live memory not be captured.
    pub fn scan_secrets(
        &self,
        req: &ScanRequest,
        ctl: &Control,
        tell: &mut dyn FnMut(SecretFinding),
    ) -> Result<SecretsReport, SnapshotError> {
        // Before anything is made in the vault: of a mistyped agent nothing is to stay.
        let meta = match &req.of {
            DiffSide::Snapshot(which) => {
                Some(self.resolve(&req.tenant, Some(&req.agent_id), which)?)
            }
            DiffSide::Live => {
                self.layout(&req.tenant, &req.agent_id)?;
                None
            }
        };
        let agent = self.parts.vault.agent(&req.tenant, &req.agent_id);
        let lock = agent.lock(ctl.wait_until(req.timeout), ctl)?;
        let spool = lock.staging()?;
        let opened = match &meta {
            Some(meta) => self.open_under(Some(&lock), meta, ctl)?,
            None => {
                let about = About::unnamed(CreatedBy::from_static("scan"));
                self.live_bundle(&lock, &about, req.timeout, ctl)?.into()
            }
        };
        let policy = self.parts.redaction.as_ref();
        let (search, options) = (Search::new(policy), RedactionOptions::default());
        let mut report = SecretsReport {
            snapshot_id: meta.map(|meta| meta.id),
            policy: policy.id().to_owned(),
            ..SecretsReport::default()
        };
        let whole = self.search(&opened.bundle, &search, &options, spool.dir(), ctl);
        let searched = whole.run(&mut |artifact, place, found| {
            report.findings += 1;
            *report.by_rule.entry(found.rule.to_string()).or_default() += 1;
            tell(SecretFinding {
                artifact: shown(&search, artifact),
                place: shown(&search, &place.place),
                rule: found.rule.to_string(),
                masked: masked(&found.value),
            });
        })?;
        report.artifacts = searched.artifacts;
        report.bytes_searched = searched.bytes;
        Ok(report)
    }
}
