//! Reading a bundle that may be crafted: open it, and read one artifact of it.
//!
//! Invariants: an opened bundle consists of exactly its data frames, index and seek table, and all
//! three agree with the manifest on where every byte of the tar stream lies; reads are positioned
//! (no shared cursor); the last bytes of an artifact are given out only once its digest is right.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use snapshot_core::{
    Artifact, ArtifactSource, BundlePath, ErrorKind, Manifest, PortError, Sha256Digest, root_digest,
};

use crate::error::BundleError;
use crate::format::{SEEK_FOOTER_BYTES, TAR_BLOCK, TAR_END_BYTES};
use crate::frame::Decoder;
use crate::seek::{FrameTable, Index, structure};
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
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Length of the file in bytes.
    pub(crate) len: u64,
    pub(crate) frames: FrameTable,
    pub(crate) manifest: Manifest,
    pub(crate) manifest_bytes: Vec<u8>,
    /// Where each artifact's content starts in the stream.
    contents: Vec<u64>,
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
    /// Opens a bundle; `path` is what errors and reports call it.
    ///
    /// # Errors
    /// [`BundleError::Manifest`] for a newer format or a manifest that breaks its rules,
    /// [`BundleError::Structure`] and [`BundleError::Frame`] for what is no whole bundle,
    /// [`BundleError::Io`] for what cannot be read.
    pub fn open(file: File, path: &Path) -> Result<Self, BundleError> {
        let raw = RawFile { file: &file, path };
        let len = raw.len()?;
        let (frames, index) = read_tail(raw, len)?;
        let (manifest_header, manifest_bytes) = read_manifest(raw, &frames, &index)?;
        let manifest = Manifest::parse(&manifest_bytes)
            .map_err(|source| BundleError::Manifest { path: path.to_owned(), source })?;
        if manifest_header != header_of_manifest(&manifest_bytes, manifest.created_at_ms) {
            return Err(structure(path, "the header of its manifest is not what it must be"));
        }
        let contents = check_layout(path, &frames, &index, &manifest)?;
        let mut by_path: Vec<u32> = (0u32..).take(manifest.artifacts.len()).collect();
        by_path.sort_unstable_by_key(|&n| manifest.artifacts[n as usize].path.as_bytes());
        let inner = Inner {
            file,
            path: path.to_owned(),
            len,
            frames,
            manifest,
            manifest_bytes,
            contents,
            by_path,
            idle: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What it holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The exact bytes of `manifest.json`.
    #[must_use]
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.inner.manifest_bytes
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
                path: inner.path.clone(),
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
        let raw = RawFile { file: &self.inner.file, path: &self.inner.path };
        let past_end = || structure(&self.inner.path, "an artifact lies past its end");
        let place = self.inner.frames.locate(self.left.start).ok_or_else(past_end)?;
        let frame = place.frame as usize;
        if self.cursor.load(raw, &self.inner.frames, frame)? {
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
        if digest == artifact.sha256 {
            return Ok(());
        }
        Err(BundleError::Mismatch {
            path: self.inner.path.clone(),
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
            let e = BundleError::AlreadyFailed;
            return Err(io::Error::new(io::ErrorKind::InvalidData, e));
        }
        if out.is_empty() {
            return Ok(0);
        }
        if self.ready.is_empty()
            && let Err(e) = self.advance()
        {
            self.failed = true;
            self.ready = 0..0;
            // Whoever gets it may not know bundles: damage is told from a disk that fails by this.
            let kind = match e.kind() {
                ErrorKind::Integrity => io::ErrorKind::InvalidData,
                _ => io::ErrorKind::Other,
            };
            return Err(io::Error::new(kind, e));
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
        f.debug_struct("Inner").field("path", &self.path).finish_non_exhaustive()
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
        raw: RawFile<'_>,
        frames: &FrameTable,
        frame: usize,
    ) -> Result<bool, BundleError> {
        if self.frame == Some(frame) {
            return Ok(false);
        }
        let past_end = || structure(raw.path, "a frame lies past its end");
        let place = frames.in_file(frame).ok_or_else(past_end)?;
        let expected = frames.content_bytes(frame).ok_or_else(past_end)?;
        self.frame = None;
        raw.read(place, &mut self.compressed)?;
        self.decoder
            .decode(&self.compressed, expected, &mut self.content)
            .map_err(|why| BundleError::Frame { path: raw.path.to_owned(), frame, why })?;
        self.frame = Some(frame);
        Ok(true)
    }
}

/// A file read at positions, with the name that errors give it.
#[derive(Clone, Copy)]
pub(crate) struct RawFile<'a> {
    pub(crate) file: &'a File,
    pub(crate) path: &'a Path,
}

impl RawFile<'_> {
    /// Length of the file in bytes.
    pub(crate) fn len(self) -> Result<u64, BundleError> {
        self.file.metadata().map(|meta| meta.len()).map_err(|source| BundleError::Io {
            op: "look at",
            path: self.path.to_owned(),
            source,
        })
    }

    /// Replaces `out` by the bytes in `place`. Callers have limited its length.
    pub(crate) fn read(self, place: Range<u64>, out: &mut Vec<u8>) -> Result<(), BundleError> {
        let count = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
        out.resize(count, 0);
        self.file.read_exact_at(out, place.start).map_err(|source| {
            if source.kind() == io::ErrorKind::UnexpectedEof {
                return structure(self.path, "it became shorter while it was read");
            }
            BundleError::Io { op: "read", path: self.path.to_owned(), source }
        })
    }
}

/// Whether an artifact has content.
/// Reads the seek table and the index from the end of the file.
fn read_tail(raw: RawFile<'_>, len: u64) -> Result<(FrameTable, Index), BundleError> {
    let too_short = || structure(raw.path, "it is shorter than its own seek table says");
    let mut bytes = Vec::new();
    let footer_at = len.checked_sub(SEEK_FOOTER_BYTES as u64).ok_or_else(too_short)?;
    raw.read(footer_at..len, &mut bytes)?;
    let footer = bytes.first_chunk().ok_or_else(too_short)?;
    let table_bytes = FrameTable::bytes_from_footer(footer, raw.path)?;
    let table_at = len.checked_sub(table_bytes as u64).ok_or_else(too_short)?;
    raw.read(table_at..len, &mut bytes)?;
    let (frames, index_bytes) = FrameTable::parse(&bytes, raw.path)?;
    // The frames must fill the file up to the seek table: nothing between them, nothing before.
    if frames.file_end() + index_bytes as u64 != table_at {
        return Err(structure(raw.path, "its frames do not fill it"));
    }
    raw.read(frames.file_end()..table_at, &mut bytes)?;
    let index = Index::parse(&bytes, raw.path)?;
    Ok((frames, index))
}

/// Reads header and exact bytes of the manifest, whose entry fills the last frames.
fn read_manifest(
    raw: RawFile<'_>,
    frames: &FrameTable,
    index: &Index,
) -> Result<(Vec<u8>, Vec<u8>), BundleError> {
    let bad = |why: &str| structure(raw.path, why);
    let first = index.manifest_frame as usize;
    let start = frames.in_stream(first).ok_or_else(|| bad("its manifest lies past its end"))?.start;
    // The limit on the manifest's size was checked with the index; it needs one header block.
    let size = usize::try_from(index.manifest_bytes).unwrap_or(usize::MAX);
    let tail = padding(index.manifest_bytes) + TAR_END_BYTES;
    if frames.stream_end() - start != (TAR_BLOCK + size + tail) as u64 {
        return Err(bad("its last frames do not hold the manifest alone"));
    }
    let mut header = Vec::with_capacity(TAR_BLOCK + size + tail);
    let mut cursor = FrameCursor::default();
    for frame in first..frames.len() {
        cursor.load(raw, frames, frame)?;
        header.extend_from_slice(&cursor.content);
    }
    let mut manifest = header.split_off(TAR_BLOCK);
    if manifest.split_off(size).iter().any(|&byte| byte != 0) {
        return Err(bad("what follows its manifest is not zero"));
    }
    Ok((header, manifest))
}

/// The header that the entry of the manifest must have.
fn header_of_manifest(manifest_bytes: &[u8], created_at_ms: i64) -> Vec<u8> {
    let mut header = Vec::with_capacity(TAR_BLOCK);
    Entry::of_manifest(manifest_bytes.len() as u64, created_at_ms).render(&mut header);
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
    if expected.as_ref() != Some(index) {
        return Err(bad("its index does not agree with its manifest"));
    }
    Ok(contents)
}
