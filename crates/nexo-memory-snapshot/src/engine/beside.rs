//! The checksum file beside a bundle, and whether what lies there is of that bundle.

use std::path::{Path, PathBuf};

use snapshot_bundle::DIGEST_EXTENSION;
use snapshot_core::mutants::holds;
use snapshot_core::{Sha256Digest, Sidecar, SnapshotId};

use super::Engine;
use crate::error::SnapshotError;

/// Most bytes of a checksum file that are read.
const MAX_SUM_BYTES: u64 = 4096;

/// The path of the checksum file of a bundle.
pub(super) fn sum_path(bundle: &Path) -> PathBuf {
    let mut path = bundle.as_os_str().to_owned();
    path.push(DIGEST_EXTENSION);
    path.into()
}

/// That the bundle at `path` has the digest that `what` beside it says, where it says one.
pub(super) fn check_said(
    what: &str,
    said: Option<Sha256Digest>,
    found: Sha256Digest,
    (path, id): (&Path, Option<SnapshotId>),
) -> Result<(), SnapshotError> {
    match said.filter(|said| !holds(*said == found)) {
        None => Ok(()),
        Some(said) => {
            let why = format!("its SHA-256 is {found}, the {what} beside it says {said}");
            Err(SnapshotError::Unusable { path: path.to_owned(), id, why })
        }
    }
}

impl Engine {
    /// The digest in the checksum file beside a bundle, where there is one.
    pub(super) fn sum_beside(&self, bundle: &Path) -> Result<Option<Sha256Digest>, SnapshotError> {
        let Some(text) = self.sum_text(bundle)? else { return Ok(None) };
        let bad = |e| SnapshotError::Unusable {
            path: sum_path(bundle),
            id: None,
            why: format!("it is no checksum file: {e}"),
        };
        digest_in(&text).map(Some).map_err(bad)
    }

    /// What is wrong with the checksum file of a snapshot of the vault, which is there and says in one line
    /// what the summary says: `sha256sum -c` takes each of its bytes at its word.
    pub(super) fn sum_fault(
        &self,
        sidecar: &Sidecar,
        bundle: &Path,
    ) -> Result<Option<String>, SnapshotError> {
        let Some(text) = self.sum_text(bundle)? else {
            return Ok(Some("it is missing".to_owned()));
        };
        let (digest, name) = (sidecar.bundle_sha256, bundle.file_name().unwrap_or_default());
        if holds(text == format!("{digest}  {}\n", name.to_string_lossy())) {
            return Ok(None);
        }
        Ok(Some(match digest_in(&text) {
            Ok(said) if said == digest => "it is not the line that it must be".to_owned(),
            Ok(said) => format!("it says {said}, the summary {digest}"),
            Err(e) => format!("it is no checksum file: {e}"),
        }))
    }

    fn sum_text(&self, bundle: &Path) -> Result<Option<String>, SnapshotError> {
        let path = sum_path(bundle);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        match self.parts.fs.open_dir(parent)?.read(name, MAX_SUM_BYTES) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

fn digest_in(text: &str) -> Result<Sha256Digest, snapshot_core::ParseError> {
    text.split_whitespace().next().unwrap_or_default().parse()
}
