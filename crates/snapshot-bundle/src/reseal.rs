//! A bundle for other readers: the same plain bytes in another envelope.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use age_core::format::FileKey;
use snapshot_core::{BundleFile, Control, Step};

use crate::envelope::{Envelope, Sealed, Written};
use crate::error::BundleError;
use crate::format::FRAME_BYTES;
use crate::keys::Recipients;
use crate::read::Bundle;
use crate::source::Source;

/// A bundle that was written into another envelope. Flushed, not synced: that is its owner's step.
pub struct Resealed<W> {
    /// The output.
    pub out: W,
    /// The file that it is now.
    pub file: BundleFile,
    key: Option<FileKey>,
}

impl Bundle {
    /// Writes the same bundle, encrypted for `recipients`, or plain where there are none. Neither the content
    /// nor its signature changes.
    ///
    /// # Errors
    /// If it cannot be read or `out` fails. What was read is authentic, and not verified.
    pub fn reseal<W: Write>(
        &self,
        out: W,
        recipients: Option<&Recipients>,
        control: &Control,
    ) -> Result<Resealed<W>, BundleError> {
        let mut envelope = Envelope::new(out, recipients)?;
        let (source, mut part, mut position) = (&self.inner.source, Vec::new(), 0);
        while position < source.len() {
            control.check()?;
            let end = source.len().min(position + FRAME_BYTES as u64);
            source.read(position..end, &mut part)?;
            envelope.write_all(&part).map_err(|source| BundleError::Write { source })?;
            position = end;
            control.advance(Step::Seal, position, source.len());
        }
        let written = envelope.finish().map_err(|source| BundleError::Write { source })?;
        let Written { out, size_bytes, sha256, key } = written;
        let encryption = recipients.map(Recipients::info);
        let file = BundleFile { size_bytes, sha256, root_digest: self.root_digest(), encryption };
        Ok(Resealed { out, file, key })
    }
}

impl<W> Resealed<W> {
    /// Opens what was written, to verify it: by the key that it was sealed with, which no identity is needed
    /// for.
    ///
    /// # Errors
    /// As [`Bundle::open_with`].
    pub fn reopen(&self, file: File, path: &Path) -> Result<Bundle, BundleError> {
        let source = match (&self.key, &self.file.encryption) {
            (Some(key), Some(info)) => {
                Source::sealed(Sealed::reopen(file, path, key, info.clone())?, path)?
            }
            _ => Source::plain(file, path)?,
        };
        Bundle::from_source(source)
    }
}
