//! Reading a bundle that may be crafted: open it, and read one artifact of it.
//!
//! Invariants: an opened bundle consists of exactly its data frames, index and seek table, and all
//! three agree with the manifest on where every byte of the tar stream lies; reads are positioned
//! (no shared cursor); the last bytes of an artifact are given out only once its digest is right.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use snapshot_core::mutants::holds;
use snapshot_core::{
    Artifact, ArtifactSource, BundleFile, BundlePath, EncryptionInfo, Manifest, PortError,
    Sha256Digest, Sidecar, SignatureReport, SignatureStatus, path_in_bundle, root_digest,
};

use crate::error::BundleError;
use crate::format::{SEEK_FOOTER_BYTES, TAR_BLOCK, TAR_END_BYTES};
use crate::frame::Decoder;
use crate::keys::Identities;
use crate::seek::{FrameTable, Index, structure};
use crate::signature::{MAX_SIGNATURE_BYTES, Trust, is_signature};
use crate::source::Source;
use crate::tar::{Entry, padding};

/// An open bundle, whose structure and manifest hold; its contents are checked as they are read,
/// or by [`Bundle::verify`].
#[derive(Debug, Clone)]
pub struct Bundle {
    pub(crate) inner: Arc<Inner>,
}

/// The content of one artifact. Decodes only the frames that hold it.
///
/// Content that is not the manifest's ends in an [`io::Error`] that wraps a [`BundleError`], before
/// its last bytes are given out; so does every read after that.
#[derive(Debug)]
pub struct ArtifactReader {
    inner: Arc<Inner>,
    artifact: usize,
    cursor: FrameCursor,
    /// What is left of the content, in the stream.
    left: Range<u64>,
    /// What is left of it in the frame that the cursor holds.
    ready: Range<usize>,
    hasher: Sha256,
    frames_read: u64,
    failed: bool,
}

pub(crate) struct Inner {
    pub(crate) source: Source,
    pub(crate) frames: FrameTable,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_bytes: Vec<u8>,
    /// The signature file over them, where there is one.
    pub(crate) signature: Option<Vec<u8>>,
    /// Where each artifact's content starts in the stream.
    pub(crate) contents: Vec<u64>,
    /// Numbers of the artifacts, by path.
    by_path: Vec<u32>,
    /// Buffers between two readers. They still hold the last frame read, so that a row of small
    /// files decodes the frame that they share once.
    idle: Mutex<Option<FrameCursor>>,
}

/// Buffers for one frame, and which frame they hold.
#[derive(Default)]
pub(crate) struct FrameCursor {
    decoder: Decoder,
    compressed: Vec<u8>,
    content: Vec<u8>,
    frame: Option<usize>,
}

impl Bundle {
    /// Opens a plain bundle; `path` is what errors and reports call it.
    ///
    /// # Errors
    /// [`BundleError::Manifest`] for a newer format or a manifest that breaks its rules,
    /// [`BundleError::Structure`] and [`BundleError::Frame`] for what is no whole bundle,
    /// [`BundleError::Io`] for what cannot be read, [`BundleError::NoIdentity`] for what is encrypted.
    pub fn open(file: File, path: &Path) -> Result<Self, BundleError> {
        Self::open_with(file, path, &Identities::default())
    }

    /// Opens a bundle, encrypted or not. Of an encrypted one only the chunks are decrypted that hold what is
    /// read.
    ///
    /// # Errors
    /// As [`Bundle::open`], and [`BundleError::WrongIdentity`].
    pub fn open_with(
        file: File,
        path: &Path,
        identities: &Identities,
    ) -> Result<Self, BundleError> {
        Self::from_source(Source::open(file, path, identities)?)
    }

    pub(crate) fn from_source(source: Source) -> Result<Self, BundleError> {
        let path = source.path();
        let (frames, index) = read_tail(&source)?;
        let Documents { header, manifest_bytes, signature } =
            read_documents(&source, &frames, &index)?;
        let manifest = Manifest::parse(&manifest_bytes)
            .map_err(|source| BundleError::Manifest { path: path.to_owned(), source })?;
        let created_at_ms = manifest.created_at_ms;
        let must_be = header_of(path_in_bundle::MANIFEST, &manifest_bytes, created_at_ms);
        if !holds(header == must_be) {
            return Err(structure(path, "the header of its manifest is not what it must be"));
        }
        let signature = signature
            .map(|(header, bytes)| {
                let must_be = header_of(path_in_bundle::SIGNATURE, &bytes, created_at_ms);
                match holds(header == must_be && is_signature(&bytes)) {
                    true => Ok(bytes),
                    false => Err(structure(path, "what follows its manifest is no signature")),
                }
            })
            .transpose()?;
        let contents = check_layout(path, &frames, &index, &manifest)?;
        let mut by_path: Vec<u32> = (0u32..).take(manifest.artifacts.len()).collect();
        by_path.sort_unstable_by_key(|&n| manifest.artifacts[n as usize].path.as_bytes());
        let idle = Mutex::new(None);
        let inner =
            Inner { source, frames, manifest, manifest_bytes, signature, contents, by_path, idle };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What it holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// What it held, where that is all that is wanted of it: no copy, if nobody else has it open.
    #[must_use]
    pub fn into_manifest(self) -> Manifest {
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner.manifest,
            Err(shared) => shared.manifest.clone(),
        }
    }

    /// The exact bytes of `manifest.json`.
    #[must_use]
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.inner.manifest_bytes
    }

    /// The signature file over them, where the bundle is signed; [`Bundle::check_signature`] says what it is
    /// worth.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        self.inner.signature.as_deref()
    }

    /// How it is encrypted, as far as a reader can tell: for which recipient the identity is that opened it.
    #[must_use]
    pub fn encryption(&self) -> Option<&EncryptionInfo> {
        self.inner.source.encryption()
    }

    /// What its signature is worth; none where it is not signed.
    ///
    /// # Errors
    /// [`BundleError::Forged`] where it names a trusted key that did not make it.
    pub fn check_signature(&self, trust: &Trust) -> Result<Option<SignatureReport>, BundleError> {
        let judge = |signature| trust.judge(self.manifest_bytes(), signature);
        match self.signature().and_then(judge) {
            Some(SignatureReport { key_id, status: SignatureStatus::Forged }) => {
                Err(BundleError::Forged { path: self.inner.source.path().to_owned(), key_id })
            }
            report => Ok(report),
        }
    }

    /// The summary that belongs beside it, whose file has this digest. What only a summary knows, all its
    /// recipients and which of two names it has, is taken from `said` where the bundle does not contradict it.
    #[must_use]
    pub fn sidecar(&self, sha256: Sha256Digest, said: Option<&Sidecar>) -> Sidecar {
        let named = |said: &&EncryptionInfo| {
            let is = self.encryption();
            is.is_some_and(|is| {
                let fingerprints = &is.recipients_fingerprint;
                let listed = |one| said.recipients_fingerprint.contains(one);
                is.scheme == said.scheme && fingerprints.iter().all(listed)
            })
        };
        let listed = said.and_then(|said| said.encryption.as_ref()).filter(named);
        let file = BundleFile {
            size_bytes: self.inner.source.file_bytes(),
            sha256,
            root_digest: self.root_digest(),
            encryption: listed.or(self.encryption()).cloned(),
        };
        let rekeyed = said.is_some_and(|said| said.rekeyed) && self.encryption().is_some();
        Sidecar { rekeyed, ..Sidecar::new(self.manifest(), file) }
    }

    /// The root digest.
    #[must_use]
    pub fn root_digest(&self) -> Sha256Digest {
        root_digest(&self.inner.manifest_bytes)
    }

    /// Number of data frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.inner.frames.len()
    }

    /// A reader over one file.
    ///
    /// # Errors
    /// [`BundleError::NoSuchArtifact`], or [`BundleError::Artifact`] for a folder or link.
    pub fn read(&self, path: &BundlePath) -> Result<ArtifactReader, BundleError> {
        let inner = Arc::clone(&self.inner);
        let Some(number) = inner.find(path) else {
            return Err(BundleError::NoSuchArtifact {
                path: inner.source.path().to_owned(),
                artifact: path.clone(),
            });
        };
        let artifact = &inner.manifest.artifacts[number];
        if !artifact.kind.has_content() {
            return Err(BundleError::Artifact { artifact: path.clone(), why: "it is no file" });
        }
        let start = inner.contents[number];
        let left = start..start + artifact.size_bytes;
        let cursor = inner.take_cursor();
        Ok(ArtifactReader {
            inner,
            artifact: number,
            cursor,
            left,
            ready: 0..0,
            hasher: Sha256::new(),
            frames_read: 0,
            failed: false,
        })
    }
}

impl ArtifactSource for Bundle {
    fn manifest(&self) -> &Manifest {
        self.manifest()
    }

    fn open(&self, path: &BundlePath) -> Result<Box<dyn Read + '_>, PortError> {
        match self.read(path) {
            Ok(reader) => Ok(Box::new(reader)),
            Err(e) => Err(e.reading()),
        }
    }
}

impl ArtifactReader {
    /// Frames decoded so far; a frame that was still at hand does not count.
    #[must_use]
    pub const fn frames_read(&self) -> u64 {
        self.frames_read
    }

    /// Gets the next part of the content ready, and hashes it; none at the end.
    fn advance(&mut self) -> Result<(), BundleError> {
        if self.left.is_empty() {
            // Empty content never came by here with a part that completes it.
            return if self.artifact().size_bytes == 0 { self.check_digest() } else { Ok(()) };
        }
        let source = &self.inner.source;
        let past_end = || structure(source.path(), "an artifact lies past its end");
        let place = self.inner.frames.locate(self.left.start).ok_or_else(past_end)?;
        let frame = place.frame as usize;
        if self.cursor.load(source, &self.inner.frames, frame)? {
            self.frames_read += 1;
        }
        let start = place.offset as usize;
        let rest = self.cursor.content.get(start..).ok_or_else(past_end)?;
        let want = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX);
        let part = &rest[..rest.len().min(want)];
        self.hasher.update(part);
        self.ready = start..start + part.len();
        self.left.start += part.len() as u64;
        if self.left.is_empty() { self.check_digest() } else { Ok(()) }
    }

    fn check_digest(&mut self) -> Result<(), BundleError> {
        let digest = Sha256Digest::from_bytes(self.hasher.finalize_reset().into());
        let artifact = self.artifact();
        if holds(digest == artifact.sha256) {
            return Ok(());
        }
        Err(BundleError::Mismatch {
            path: self.inner.source.path().to_owned(),
            artifact: artifact.path.clone(),
            why: "has another digest than the manifest's",
        })
    }

    fn artifact(&self) -> &Artifact {
        &self.inner.manifest.artifacts[self.artifact]
    }
}

impl Read for ArtifactReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, BundleError::AlreadyFailed));
        }
        if out.is_empty() {
            return Ok(0);
        }
        if self.ready.is_empty()
            && let Err(e) = self.advance()
        {
            self.failed = true;
            self.ready = 0..0;
            return Err(e.into_io());
        }
        let count = self.ready.len().min(out.len());
        let from = self.ready.start;
        out[..count].copy_from_slice(&self.cursor.content[from..from + count]);
        self.ready.start += count;
        Ok(count)
    }
}

impl Drop for ArtifactReader {
    fn drop(&mut self) {
        self.inner.keep_cursor(std::mem::take(&mut self.cursor));
    }
}

impl Inner {
    /// How many entries the archive has.
    pub(crate) fn entries(&self) -> usize {
        self.manifest.artifacts.len() + 1 + usize::from(self.signature.is_some())
    }

    /// Name and content of an entry that is no artifact: the manifest, and its signature.
    pub(crate) fn document(&self, entry: usize) -> Option<(&'static str, &[u8])> {
        match entry.checked_sub(self.manifest.artifacts.len())? {
            0 => Some((path_in_bundle::MANIFEST, &self.manifest_bytes)),
            1 => Some((path_in_bundle::SIGNATURE, self.signature.as_deref()?)),
            _ => None,
        }
    }

    /// Where the artifacts end in the stream, and the manifest's entry begins.
    pub(crate) fn artifacts_end(&self) -> u64 {
        let last = self.contents.last().zip(self.manifest.artifacts.last());
        last.map_or(0, |(start, artifact)| {
            start + artifact.size_bytes + padding(artifact.size_bytes) as u64
        })
    }

    /// The number of the artifact at `path`.
    fn find(&self, path: &BundlePath) -> Option<usize> {
        let path_of = |&n: &u32| self.manifest.artifacts[n as usize].path.as_bytes();
        let at = self.by_path.binary_search_by_key(&path.as_bytes(), path_of).ok()?;
        Some(self.by_path[at] as usize)
    }

    fn take_cursor(&self) -> FrameCursor {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    fn keep_cursor(&self, cursor: FrameCursor) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor);
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("path", &self.source.path()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FrameCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameCursor").field("frame", &self.frame).finish_non_exhaustive()
    }
}

impl FrameCursor {
    /// Makes `content` that of `frame`; returns whether it had to be decoded.
    fn load(
        &mut self,
        source: &Source,
        frames: &FrameTable,
        frame: usize,
    ) -> Result<bool, BundleError> {
        if self.frame == Some(frame) {
            return Ok(false);
        }
        let past_end = || structure(source.path(), "a frame lies past its end");
        let place = frames.in_file(frame).ok_or_else(past_end)?;
        let expected = frames.content_bytes(frame).ok_or_else(past_end)?;
        self.frame = None;
        source.read(place, &mut self.compressed)?;
        self.decoder
            .decode(&self.compressed, expected, &mut self.content)
            .map_err(|why| BundleError::Frame { path: source.path().to_owned(), frame, why })?;
        self.frame = Some(frame);
        Ok(true)
    }
}

/// What the last frames hold.
struct Documents {
    header: Vec<u8>,
    manifest_bytes: Vec<u8>,
    /// Header and content of the signature's entry.
    signature: Option<(Vec<u8>, Vec<u8>)>,
}

/// Reads the seek table and the index from the end of the bundle.
fn read_tail(source: &Source) -> Result<(FrameTable, Index), BundleError> {
    let (path, len) = (source.path(), source.len());
    let too_short = || structure(path, "it is shorter than its own seek table says");
    let mut bytes = Vec::new();
    let footer_at = len.checked_sub(SEEK_FOOTER_BYTES as u64).ok_or_else(too_short)?;
    source.read(footer_at..len, &mut bytes)?;
    let footer = bytes.first_chunk().ok_or_else(too_short)?;
    let table_bytes = FrameTable::bytes_from_footer(footer, path)?;
    let table_at = len.checked_sub(table_bytes as u64).ok_or_else(too_short)?;
    source.read(table_at..len, &mut bytes)?;
    let (frames, index_bytes) = FrameTable::parse(&bytes, path)?;
    // The frames must fill the bundle up to the seek table: nothing between them, nothing before.
    if !holds(frames.file_end() + index_bytes as u64 == table_at) {
        return Err(structure(path, "its frames do not fill it"));
    }
    source.read(frames.file_end()..table_at, &mut bytes)?;
    let index = Index::parse(&bytes, path)?;
    Ok((frames, index))
}

/// Reads the exact bytes of the manifest, and of the signature that may follow it; their entries fill the
/// last frames.
fn read_documents(
    source: &Source,
    frames: &FrameTable,
    index: &Index,
) -> Result<Documents, BundleError> {
    let bad = |why: &str| structure(source.path(), why);
    let first = index.manifest_frame as usize;
    let start = frames.in_stream(first).ok_or_else(|| bad("its manifest lies past its end"))?.start;
    // The limit on the manifest's size was checked with the index; each document needs one header block.
    let size = usize::try_from(index.manifest_bytes).unwrap_or(usize::MAX);
    let padding = padding(index.manifest_bytes);
    let alone = (TAR_BLOCK + size + padding + TAR_END_BYTES) as u64;
    let total = frames.stream_end() - start;
    let signature = total.checked_sub(alone).and_then(|more| usize::try_from(more).ok());
    let signature = signature.filter(|more| *more <= TAR_BLOCK + MAX_SIGNATURE_BYTES);
    let signature =
        signature.ok_or_else(|| bad("its last frames do not hold the manifest alone"))?;
    let mut bytes = Vec::with_capacity(TAR_BLOCK + size + padding + signature + TAR_END_BYTES);
    let mut cursor = FrameCursor::default();
    for frame in first..frames.len() {
        cursor.load(source, frames, frame)?;
        bytes.extend_from_slice(&cursor.content);
    }
    // The manifest stays where it is: a copy would double the most that opening a bundle takes.
    let mut zeros = bytes.split_off(TAR_BLOCK + size);
    let header = bytes.drain(..TAR_BLOCK).collect();
    let manifest_bytes = bytes;
    let end = zeros.split_off(padding + signature);
    let signature = match signature {
        0 => None,
        // A signature is text: the zeros after it are its padding.
        _ => Some(
            split_document(zeros.split_off(padding))
                .ok_or_else(|| bad("what follows its manifest is too short for a signature"))?,
        ),
    };
    if !holds(zeros.iter().chain(&end).all(|&byte| byte == 0)) {
        return Err(bad("what follows its manifest is not zero"));
    }
    Ok(Documents { header, manifest_bytes, signature })
}

/// Header and content of an entry whose content does not end in a zero; none where the padding is not the
/// content's.
fn split_document(mut header: Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut content = (header.len() > TAR_BLOCK).then(|| header.split_off(TAR_BLOCK))?;
    let padded = content.len();
    let size = content.iter().rposition(|&byte| byte != 0)? + 1;
    content.truncate(size);
    (size + padding(size as u64) == padded).then_some((header, content))
}

/// The header that the entry of a document must have.
fn header_of(path: &'static str, bytes: &[u8], created_at_ms: i64) -> Vec<u8> {
    let mut header = Vec::with_capacity(TAR_BLOCK);
    Entry::of_document(path, bytes.len() as u64, created_at_ms).render(&mut header);
    header
}

/// Checks that frames, index and manifest agree; returns where each artifact's content starts.
///
/// Headers and padding of artifacts are compared where the stream is read as a whole: in a
/// verification.
fn check_layout(
    path: &Path,
    frames: &FrameTable,
    index: &Index,
    manifest: &Manifest,
) -> Result<Vec<u64>, BundleError> {
    let bad = |why: &str| structure(path, why);
    let mut contents = Vec::with_capacity(manifest.artifacts.len());
    let mut header = Vec::new();
    let mut position = 0u64;
    for artifact in &manifest.artifacts {
        header.clear();
        Entry::of(artifact, manifest.created_at_ms).render(&mut header);
        position = position.saturating_add(header.len() as u64);
        contents.push(position);
        let padded = artifact.size_bytes.saturating_add(padding(artifact.size_bytes) as u64);
        position = position.saturating_add(padded);
        // Stops a sum of crafted sizes long before it overflows.
        if position > frames.stream_end() {
            return Err(bad("its manifest declares more than its frames hold"));
        }
    }
    let expected = Index::of(frames, position, index.manifest_bytes, &contents);
    if !holds(expected.as_ref() == Some(index)) {
        return Err(bad("its index does not agree with its manifest"));
    }
    Ok(contents)
}
