//! Taking a snapshot: lock, cut, seal, publish.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use snapshot_core::{Control, MemoryLayout, SnapshotMeta, SnapshotRequest};
use snapshot_stores::{CaptureOptions, Pinned, StoresError, cut};
use snapshot_vault::AgentLock;
use tracing::field::Empty;
use tracing::info_span;

use super::Engine;
use super::seal::About;
use crate::error::SnapshotError;
use crate::metrics::{Operation, failure};

/// Longest label, in bytes.
pub(super) const MAX_LABEL_BYTES: usize = 256;
/// Cuts begun before a repository that is rewritten all the time is given up.
const MAX_CUTS: u32 = 3;

impl Engine {
    /// Takes a snapshot of an agent, beside its running self. An interrupted restore is finished
    /// first.
    ///
    /// # Errors
    /// `UnknownAgent` where its layout finds nothing, `Concurrent` and `Busy` past the request's
    /// timeout, `Refused` for what cannot be redacted where that is asked for, `RecoveryPending` where an interrupted restore must be decided first, whatever
    /// cannot be captured. Nothing of a failed snapshot stays.
    pub fn snapshot(
        &self,
        req: &SnapshotRequest,
        ctl: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let span =
            info_span!("snapshot", tenant = %req.tenant, agent = %req.agent_id, outcome = Empty);
        let work = || self.snapshot_now(req, ctl);
        self.metrics().measured(Operation::Snapshot, span, failure, work)
    }

    fn snapshot_now(
        &self,
        req: &SnapshotRequest,
        ctl: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        check_label(req.label.as_deref())?;
        let recipients = self.recipients(&req.tenant, &req.agent_id, &req.encrypt)?;
        let layout = self.layout(&req.tenant, &req.agent_id)?;
        // Before anything is made for an agent whose name was mistyped.
        check_found(&layout, req)?;
        ctl.check()?;
        let agent = self.parts.vault.agent(&req.tenant, &req.agent_id);
        let until = ctl.wait_until(req.timeout);
        let lock = agent.lock(until, ctl)?;
        // What the dead left is no reason to refuse the living; doctor names what stays.
        let _ = lock.sweep();
        self.recover_first(&lock, req.timeout, ctl)?;
        let targets: Vec<PathBuf> = layout.paths().into_iter().map(Path::to_owned).collect();
        let _targets = self.parts.vault.lock_targets(&targets, until, ctl)?;
        let about = About {
            label: req.label.clone(),
            public_label: req.public_label,
            created_by: req.created_by.clone(),
            recipients,
        };
        for _ in 1..MAX_CUTS {
            match self.cut_and_seal(&lock, &layout, req, &about, ctl) {
                Err(SnapshotError::Stores(e)) if e.is_git_vanished() => {}
                done => return done,
            }
        }
        self.cut_and_seal(&lock, &layout, req, &about, ctl)
    }

    fn cut_and_seal(
        &self,
        lock: &AgentLock,
        layout: &MemoryLayout,
        req: &SnapshotRequest,
        about: &About,
        ctl: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let spool = lock.staging()?;
        let opts = self.live_options(&req.agent_id, spool.dir(), req.timeout, ctl);
        let meta = if req.redact_secrets {
            self.parts.keys.signer()?;
            let (whole, capture) =
                self.unpublished(lock, &mut self.cut_paused(layout, &opts)?, about, ctl)?;
            self.seal_redacted(lock, &whole, capture, &req.redaction, about, ctl)?
        } else {
            let begun = self.begin(lock, about, ctl)?;
            let mut pinned = self.cut_paused(layout, &opts)?;
            self.seal(lock, begun, &mut pinned, about, ctl)?
        };
        if let Some(capture) = &meta.capture {
            self.metrics().writers_held(Operation::Snapshot, capture.writers_held_us);
        }
        Ok(meta)
    }

    /// The cut, the agent paused for as long as it takes and no longer.
    fn cut_paused<'a>(
        &self,
        layout: &MemoryLayout,
        opts: &CaptureOptions<'a>,
    ) -> Result<Pinned<'a>, SnapshotError> {
        let _span = info_span!("capture").entered();
        let _paused = self.pause(opts.agent)?;
        Ok(cut(layout, opts)?)
    }
}

fn check_label(label: Option<&str>) -> Result<(), SnapshotError> {
    label.and_then(refusal).map_or(Ok(()), |why| Err(SnapshotError::Label { why }))
}

/// Why a label or a reason is none.
pub(super) fn refusal(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("it is empty"),
        text if text.len() > MAX_LABEL_BYTES => Some("it has more than 256 bytes"),
        text if text.chars().any(char::is_control) => Some("it has a control character"),
        _ => None,
    }
}

/// That something of the layout is there.
fn check_found(layout: &MemoryLayout, req: &SnapshotRequest) -> Result<(), SnapshotError> {
    let looked = layout.paths();
    // What we may not look at is for the cut to report.
    let absent = |path: &&Path| {
        path.symlink_metadata()
            .is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
    };
    if !looked.iter().all(absent) {
        return Ok(());
    }
    let looked = looked.into_iter().map(Path::to_owned).collect();
    Err(StoresError::UnknownAgent { agent: req.agent_id.to_string(), looked }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_end_at_256_bytes_and_hold_no_control_characters() {
        assert!(check_label(None).is_ok());
        assert!(check_label(Some(&"ä".repeat(128))).is_ok());
        for bad in ["", &"a".repeat(257), "a\nb", "\u{1b}[31m", "c1 \u{9b}"] {
            assert!(check_label(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
