//! The bytes of a plain bundle, whether they lie in a file as they are or sealed by age.
//!
//! Invariant: positions and lengths are those of the plain bundle; only [`Source::file_bytes`] and digests
//! speak of the file.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamReader;
use sha2::{Digest, Sha256};
use snapshot_core::{Control, EncryptionInfo, Sha256Digest};

use crate::envelope::{FileAt, Sealed, is_encrypted};
use crate::error::BundleError;
use crate::format::FRAME_BYTES;
use crate::keys::Identities;
use crate::seek::structure;

/// A bundle's bytes, read at positions, with the name that errors give it.
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
    file_bytes: u64,
}

enum Bytes {
    Plain(File),
    Sealed(Box<Sealed>),
}

/// One reading from front to back that also gives the digest of the file: of a plain one, and of a sealed
/// one as long as nothing in it is damaged, every byte is read once.
pub(crate) struct Sequential<'a> {
    source: &'a Source,
    hasher: Arc<Mutex<Sha256>>,
    /// The age reader, while it can go on.
    reader: Option<StreamReader<FileAt>>,
    position: u64,
}

impl Source {
    /// The bytes of `file`: as they are, or what is sealed in it.
    pub(crate) fn open(
        file: File,
        path: &Path,
        identities: &Identities,
    ) -> Result<Self, BundleError> {
        let failed = |source| BundleError::Io { op: "read", path: path.to_owned(), source };
        match is_encrypted(&file).map_err(failed)? {
            false => Self::plain(file, path),
            true => Self::sealed(Sealed::open(file, path, identities)?, path),
        }
    }

    /// The bytes of `file` as they are.
    pub(crate) fn plain(file: File, path: &Path) -> Result<Self, BundleError> {
        let file_bytes = length(&file, path)?;
        Ok(Self { path: path.to_owned(), bytes: Bytes::Plain(file), file_bytes })
    }

    /// What is sealed in a file.
    pub(crate) fn sealed(sealed: Sealed, path: &Path) -> Result<Self, BundleError> {
        let file_bytes = length(sealed.file(), path)?;
        Ok(Self { path: path.to_owned(), bytes: Bytes::Sealed(Box::new(sealed)), file_bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How it is encrypted, where it is.
    pub(crate) fn encryption(&self) -> Option<&EncryptionInfo> {
        match &self.bytes {
            Bytes::Plain(_) => None,
            Bytes::Sealed(sealed) => Some(sealed.info()),
        }
    }

    /// Length of the plain bundle in bytes.
    pub(crate) fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::Plain(_) => self.file_bytes,
            Bytes::Sealed(sealed) => sealed.len(),
        }
    }

    /// Length of the file in bytes.
    pub(crate) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Replaces `out` by the bytes in `place`. Callers have limited its length.
    pub(crate) fn read(&self, place: Range<u64>, out: &mut Vec<u8>) -> Result<(), BundleError> {
        resize(out, &place);
        match &self.bytes {
            Bytes::Plain(file) => read_exact_at(file, out, place.start, &self.path),
            Bytes::Sealed(sealed) => sealed.read_at(out, place.start, &self.path),
        }
    }

    /// Begins a reading from front to back.
    pub(crate) fn sequential(&self) -> Result<Sequential<'_>, BundleError> {
        let hasher = Arc::new(Mutex::new(Sha256::new()));
        let reader = match &self.bytes {
            Bytes::Plain(_) => None,
            Bytes::Sealed(sealed) => Some(sealed.reader(Some(Arc::clone(&hasher)), &self.path)?),
        };
        Ok(Sequential { source: self, hasher, reader, position: 0 })
    }
}

impl Sequential<'_> {
    /// Replaces `out` by the next bytes, which are those in `place`. What fails is passed over.
    pub(crate) fn read(&mut self, place: Range<u64>, out: &mut Vec<u8>) -> Result<(), BundleError> {
        debug_assert_eq!(place.start, self.position, "a part was left out");
        self.position = place.end;
        if let Some(reader) = &mut self.reader {
            resize(out, &place);
            if reader.read_exact(out).is_ok() {
                return Ok(());
            }
            // One that failed cannot go on. The rest is read by position, and the file is hashed at the end.
            self.reader = None;
        }
        self.source.read(place, out)?;
        if let Bytes::Plain(_) = self.source.bytes {
            self.hash(out);
        }
        Ok(())
    }

    /// Reads what is left; returns the digest of the file.
    pub(crate) fn finish(mut self, control: &Control) -> Result<Sha256Digest, BundleError> {
        let mut rest = Vec::new();
        while self.position < self.source.len() {
            control.check()?;
            let end = self.source.len().min(self.position + FRAME_BYTES as u64);
            self.read(self.position..end, &mut rest)?;
        }
        match (&self.source.bytes, &mut self.reader) {
            (Bytes::Plain(_), _) => {}
            // Past the last chunk there must be nothing.
            (Bytes::Sealed(_), Some(reader)) => match reader.read(&mut [0]) {
                Ok(0) => {}
                _ => return Err(structure(&self.source.path, "it grew while it was read")),
            },
            (Bytes::Sealed(sealed), None) => {
                return hash_file(sealed.file(), &self.source.path, control);
            }
        }
        let hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
    }

    fn hash(&self, bytes: &[u8]) {
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
    }
}

/// The digest of a file as it lies there.
pub(crate) fn hash_file(
    file: &File,
    path: &Path,
    control: &Control,
) -> Result<Sha256Digest, BundleError> {
    let (len, mut hasher, mut bytes) = (length(file, path)?, Sha256::new(), Vec::new());
    let mut position = 0;
    while position < len {
        control.check()?;
        let end = len.min(position + FRAME_BYTES as u64);
        resize(&mut bytes, &(position..end));
        read_exact_at(file, &mut bytes, position, path)?;
        hasher.update(&bytes);
        position = end;
    }
    Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
}

/// Length of a file in bytes.
pub(crate) fn length(file: &File, path: &Path) -> Result<u64, BundleError> {
    let failed = |source| BundleError::Io { op: "look at", path: path.to_owned(), source };
    file.metadata().map(|meta| meta.len()).map_err(failed)
}

fn read_exact_at(
    file: &File,
    out: &mut [u8],
    position: u64,
    path: &Path,
) -> Result<(), BundleError> {
    file.read_exact_at(out, position).map_err(|source| {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return structure(path, "it became shorter while it was read");
        }
        BundleError::Io { op: "read", path: path.to_owned(), source }
    })
}

fn resize(out: &mut Vec<u8>, place: &Range<u64>) {
    let count = place.end.saturating_sub(place.start);
    out.resize(usize::try_from(count).unwrap_or(usize::MAX), 0);
}
