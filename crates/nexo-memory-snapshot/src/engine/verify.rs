//! Checking a bundle, and reading one thing out of it.

use std::io::Write;

use snapshot_bundle::{VerifyOptions, verify_file};
use snapshot_core::{
    BundlePath, Control, Damage, ErrorKind, Inside, SnapshotMeta, Step, VerifyReport,
};
use tracing::field::Empty;
use tracing::info_span;

use super::Engine;
use super::copy::{CHUNK, CopyError, Watch, copy};
use super::extract::below;
use crate::error::SnapshotError;
use crate::metrics::Operation;

/// What a finding about the checksum file is about.
const CHECKSUM: &str = "checksum file";

impl Engine {
    /// Reads a whole bundle and says what is wrong with it, and with the files beside it in the vault.
    ///
    /// # Errors
    /// If it cannot be read, or was written by a newer program. Damage is no error: it is in the
    /// report.
    pub fn verify(
        &self,
        meta: &SnapshotMeta,
        ctl: &Control,
    ) -> Result<VerifyReport, SnapshotError> {
        let span = info_span!("verify", snapshot_id = %meta.id, outcome = Empty);
        // Damage is no error of ours, but nobody counts on such a bundle.
        let outcome = |done: &Result<VerifyReport, SnapshotError>| match done {
            Ok(report) => report.error_kind(),
            Err(e) => Some(e.kind()),
        };
        self.metrics().measured(Operation::Verify, span, outcome, || {
            let located = self.locate(meta, ctl)?;
            let sum = match &located.sidecar {
                Some(_) => None,
                None => self.sum_beside(&located.path)?,
            };
            let options = VerifyOptions { sum, ..self.verification(located.sidecar.as_ref()) };
            let identities = self.identities_for(&located.file, &located.path)?;
            let mut report = verify_file(located.file, &located.path, &identities, &options, ctl)?;
            // What is refused is not damaged, and what nobody could look into is not known to be.
            let noted = report.is_sound() || report.error_kind() == Some(ErrorKind::Integrity);
            if noted {
                self.note_check(meta, (!report.is_sound()).then(|| damage(&report)));
            }
            // After the note: whoever keeps snapshots goes by the memory, which is no worse for this.
            if let (Some(sidecar), true) = (&located.sidecar, report.bundle_sha256_ok)
                && self.vault_of(meta).is_some()
                && let Some(why) = self.sum_fault(sidecar, &located.path)?
            {
                report.damage.push(Damage { artifact: CHECKSUM.to_owned(), frame: None, why });
            }
            Ok(report)
        })
    }

    /// Writes the content of one artifact to `out`, reading only what is needed of the bundle;
    /// returns its length in bytes. Nothing is written before all of it was read once and its digest was
    /// right.
    ///
    /// # Errors
    /// If there is no such artifact, it is damaged, or `out` fails.
    pub fn read_artifact(
        &self,
        meta: &SnapshotMeta,
        path: &BundlePath,
        out: &mut dyn Write,
        ctl: &Control,
    ) -> Result<u64, SnapshotError> {
        let opened = self.open(meta, ctl)?;
        let manifest = opened.bundle.manifest();
        let total = match manifest.artifact(path) {
            Some(artifact) if artifact.kind.has_content() => artifact.size_bytes,
            None if below(manifest, Some(path)).is_empty() => {
                let (path, bundle) = (path.to_string(), meta.bundle_path.clone());
                return Err(SnapshotError::NotInBundle { path, bundle });
            }
            // A folder, or what stands for one.
            _ => return Err(SnapshotError::NotAFile { path: path.to_string() }),
        };
        let of_artifact = |e: CopyError| e.of_artifact(path, &meta.bundle_path);
        let mut content = Vec::new();
        let keep = total <= CHUNK as u64;
        let first = Watch { step: Step::Verify, before: 0, total, control: ctl };
        let length = copy(&mut opened.bundle.read(path)?, first, |bytes| {
            if keep {
                content.extend_from_slice(bytes);
            }
            Ok(())
        });
        let length = length.map_err(of_artifact)?;
        let mut write = |bytes: &[u8]| {
            out.write_all(bytes)
                .map_err(|source| SnapshotError::Output { what: path.to_string(), source })
        };
        if keep {
            return write(&content).map(|()| length);
        }
        let again = Watch { step: Step::Stage, before: 0, total, control: ctl };
        copy(&mut opened.bundle.read(path)?, again, write).map_err(of_artifact)
    }
}

/// The first thing that is wrong, in one line. Of an encrypted bundle it names nothing that is inside: the
/// line is kept in the open.
pub(super) fn damage(report: &VerifyReport) -> String {
    if report.age_protected {
        if report.inside == Inside::Good {
            return "it is whole, and its summary says something else than it".to_owned();
        }
        let frame = report.damage.first().and_then(|damage| damage.frame);
        let frame = frame.map(|frame| format!(" (frame {frame})")).unwrap_or_default();
        return format!("its encrypted contents are damaged{frame}");
    }
    let first = report.damage.first().map(|damage| format!("{}: {}", damage.artifact, damage.why));
    first.unwrap_or_else(|| "it does not verify".to_owned())
}
