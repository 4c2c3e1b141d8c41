//! A bundle in another envelope, verified before anybody relies on it.

use snapshot_bundle::{Bundle, VerifyOptions};
use snapshot_core::mutants::off;
use snapshot_core::{Control, Sidecar};
use snapshot_fs::{Dir, DurableFile};

use super::Engine;
use crate::error::SnapshotError;
use crate::keys::Recipients;

impl Engine {
    /// Writes the bundle to `out`, a new file in `dir`, encrypted for `recipients` or in the clear, and reads
    /// what was written whole; returns it with its summary. What only a summary knows is taken from `said`.
    pub(super) fn reseal(
        &self,
        bundle: &Bundle,
        said: Option<&Sidecar>,
        recipients: Option<&Recipients>,
        (dir, out): (&Dir, DurableFile),
        ctl: &Control,
    ) -> Result<(DurableFile, Sidecar), SnapshotError> {
        let path = out.path().to_owned();
        let resealed = bundle.reseal(out, recipients, ctl)?;
        let again = dir.open_file(path.file_name().unwrap_or_default())?;
        let again = resealed.reopen(again, &path)?;
        let sidecar = Sidecar { rekeyed: false, ..again.sidecar(resealed.file.sha256, said) };
        // Whose signature counts was decided about the bundle that this is a copy of.
        let options = VerifyOptions { trust: None, ..self.verification(Some(&sidecar)) };
        if !off() {
            again.into_verified(&options, ctl)?;
        }
        Ok((resealed.out, sidecar))
    }
}
