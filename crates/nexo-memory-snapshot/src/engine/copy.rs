//! Reading to the end, chunk by chunk, under the caller's control.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use snapshot_core::{BundlePath, Control, Sha256Digest, Step};
use snapshot_fs::FsError;

use crate::error::SnapshotError;

/// Bytes read at a time.
pub(super) const CHUNK: usize = 1 << 20;

/// Who is told how far it is, and may stop it.
pub(super) struct Watch<'a> {
    pub(super) step: Step,
    /// Bytes that others did of it before.
    pub(super) before: u64,
    /// Bytes of all.
    pub(super) total: u64,
    pub(super) control: &'a Control,
}

/// Which side failed.
pub(super) enum CopyError {
    Read(io::Error),
    Other(SnapshotError),
}

impl CopyError {
    /// The error of copying an artifact out of a bundle.
    pub(super) fn of_artifact(self, artifact: &BundlePath, bundle: &Path) -> SnapshotError {
        match self {
            Self::Read(source) => SnapshotError::Artifact {
                artifact: artifact.to_string(),
                bundle: bundle.to_owned(),
                source,
            },
            Self::Other(e) => e,
        }
    }
}

/// Hands everything that `reader` has to `sink`; returns how many bytes.
pub(super) fn copy(
    reader: &mut dyn Read,
    watch: Watch<'_>,
    mut sink: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
) -> Result<u64, CopyError> {
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    loop {
        watch.control.check().map_err(|e| CopyError::Other(e.into()))?;
        watch.control.advance(watch.step, watch.before.saturating_add(done), watch.total);
        let n = match reader.read(&mut chunk) {
            Ok(0) => return Ok(done),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(CopyError::Read(e)),
        };
        sink(&chunk[..n]).map_err(CopyError::Other)?;
        done += n as u64;
    }
}

/// As [`copy`] for the file at `path`; returns the SHA-256 of what was read.
pub(super) fn copy_file(
    file: &mut File,
    path: &Path,
    watch: Watch<'_>,
    mut sink: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
) -> Result<Sha256Digest, SnapshotError> {
    let mut hasher = Sha256::new();
    let copied = copy(file, watch, |bytes| {
        hasher.update(bytes);
        sink(bytes)
    });
    match copied {
        Ok(_) => Ok(Sha256Digest::from_bytes(hasher.finalize().into())),
        Err(CopyError::Read(source)) => {
            Err(FsError::Io { op: "read", path: path.to_owned(), source }.into())
        }
        Err(CopyError::Other(e)) => Err(e),
    }
}
