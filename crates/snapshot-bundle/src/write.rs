//! Writing a bundle in one pass: every byte is read once, hashed once, compressed once, written
//! once.
//!
//! Invariants: the layout depends on the artifacts alone, never on threads or timing; what was
//! written is what the manifest lists, in its order; after an error nothing more is written.

use std::collections::HashSet;
use std::io::{Read, Write};

use sha2::{Digest, Sha256};
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink, BundlePath, Control, FileSpec, MAX_ARTIFACTS, Manifest,
    PortError, Sha256Digest, Step, path_in_bundle, root_digest,
};

use crate::envelope::Envelope;
use crate::error::BundleError;
use crate::format::{DEFAULT_LEVEL, FRAME_BYTES, TAR_END_BYTES};
use crate::frame::Encoder;
use crate::keys::Recipients;
use crate::pipeline::{Consumer, Pipeline, Slot};
use crate::read::Bundle;
use crate::seek::{FrameTable, Index};
use crate::signature::SigningKey;
use crate::tar::{Entry, padding};

/// How to write a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    /// For whom it is encrypted, where it is.
    pub recipients: Option<Recipients>,
    /// Worker threads; at least one is used.
    pub threads: usize,
    /// zstd level.
    pub level: i32,
    /// The manifest's `created_at_ms`: the time of entries that have none of their own.
    pub created_at_ms: i64,
}

/// Writes a bundle; see [`ArtifactSink`] for what goes in.
///
/// Dropping it before [`BundleWriter::finish`] gives the bundle up and ends its threads.
pub struct BundleWriter<W: Write + Send + 'static> {
    pipeline: Pipeline<Output<W>>,
    frame: Slot,
    control: Control,
    created_at_ms: i64,
    position: u64,
    contents: Vec<u64>,
    written: Vec<Artifact>,
    paths: HashSet<BundlePath>,
    failed: bool,
}

/// A bundle that was written whole. Flushed, not synced: that is its owner's step.
#[derive(Debug)]
pub struct Finished<W> {
    /// The output.
    pub out: W,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256Digest,
    /// The root digest, over the exact bytes of the manifest.
    pub root_digest: Sha256Digest,
    /// Data frames.
    pub frames: u64,
}

/// The end of the pipeline: the file and its frames.
struct Output<W: Write> {
    out: Envelope<W>,
    frames: FrameTable,
}

impl WriteOptions {
    /// The usual level, and a thread for every core.
    #[must_use]
    pub fn new(created_at_ms: i64) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { recipients: None, threads, level: DEFAULT_LEVEL, created_at_ms }
    }
}

impl<W: Write + Send + 'static> BundleWriter<W> {
    /// Starts a bundle.
    ///
    /// # Errors
    /// If threads, zstd or age cannot be set up, or `out` fails.
    pub fn new(out: W, options: &WriteOptions, control: Control) -> Result<Self, BundleError> {
        let out = Envelope::new(out, options.recipients.as_ref())?;
        Self::begin(Output { out, frames: FrameTable::default() }, options, control)
    }

    /// Goes on where the artifacts of `bundle` end, whose frames are copied as they are: what is still to be
    /// written is another manifest of the same artifacts and the same time.
    ///
    /// # Errors
    /// As [`BundleWriter::new`], or if `bundle` cannot be read.
    pub fn after_artifacts_of(
        bundle: &Bundle,
        out: W,
        options: &WriteOptions,
        control: Control,
    ) -> Result<Self, BundleError> {
        let inner = &bundle.inner;
        let (end, copied) = (inner.artifacts_end(), inner.frames.before(inner.artifacts_end()));
        let mut out = Envelope::new(out, options.recipients.as_ref())?;
        let (mut frames, mut frame) = (FrameTable::default(), Vec::new());
        for number in 0..copied {
            control.check()?;
            let range = inner.frames.in_file(number).unwrap_or_default();
            inner.source.read(range, &mut frame)?;
            let content = inner.frames.content_bytes(number).unwrap_or_default();
            frames.push(frame.len(), content)?;
            out.write_all(&frame).map_err(|source| BundleError::Write { source })?;
            control.advance(Step::Seal, frames.stream_end(), end);
        }
        let mut writer = Self::begin(Output { out, frames }, options, control)?;
        let artifacts = &bundle.manifest().artifacts;
        writer.created_at_ms = bundle.manifest().created_at_ms;
        writer.position = end;
        writer.contents.clone_from(&inner.contents);
        writer.written = artifacts.iter().map(|a| Artifact { sqlite: None, ..a.clone() }).collect();
        writer.paths = artifacts.iter().map(|artifact| artifact.path.clone()).collect();
        Ok(writer)
    }

    fn begin(
        output: Output<W>,
        options: &WriteOptions,
        control: Control,
    ) -> Result<Self, BundleError> {
        let new_stage = || {
            let mut encoder =
                Encoder::new(options.level).map_err(|why| BundleError::Compress { why })?;
            Ok(move |_: usize, content: &[u8], frame: &mut Vec<u8>| encoder.encode(content, frame))
        };
        let mut pipeline = Pipeline::start(options.threads, output, new_stage)?;
        Ok(Self {
            frame: pipeline.slot()?,
            pipeline,
            control,
            created_at_ms: options.created_at_ms,
            position: 0,
            contents: Vec::new(),
            written: Vec::new(),
            paths: HashSet::new(),
            failed: false,
        })
    }

    /// The same bundle with another time, where the instant of the cut was not known when it was begun. To be
    /// said before anything is added.
    #[must_use]
    pub const fn dated(mut self, created_at_ms: i64) -> Self {
        self.created_at_ms = created_at_ms;
        self
    }

    /// Writes the manifest and the end of the bundle.
    ///
    /// # Errors
    /// [`BundleError::ManifestMismatch`] where `manifest` does not list exactly what was written,
    /// in order, or has another time; otherwise as writing does.
    pub fn finish(self, manifest: &Manifest) -> Result<Finished<W>, BundleError> {
        self.finish_signed(manifest, None)
    }

    /// The same, and where there is a key the signature after the manifest.
    ///
    /// # Errors
    /// As [`BundleWriter::finish`].
    pub fn finish_signed(
        mut self,
        manifest: &Manifest,
        key: Option<&SigningKey>,
    ) -> Result<Finished<W>, BundleError> {
        if self.failed {
            return Err(BundleError::AlreadyFailed);
        }
        self.check_manifest(manifest)?;
        let json = manifest.to_bytes().map_err(|source| BundleError::ManifestRefused { source })?;
        self.end_frame()?;
        let manifest_position = self.position;
        self.append_document(path_in_bundle::MANIFEST, &json)?;
        if let Some(key) = key {
            let signature = key.sign(manifest, &json);
            self.append_document(path_in_bundle::SIGNATURE, signature.as_bytes())?;
        }
        self.append_zeros(TAR_END_BYTES)?;
        self.end_frame()?;

        let Self { pipeline, contents, .. } = self;
        let Output { mut out, frames } = pipeline.finish()?;
        let failed = |source| BundleError::Write { source };
        let index = Index::of(&frames, manifest_position, json.len() as u64, &contents)
            .ok_or(BundleError::TooLarge)?
            .render();
        out.write_all(&index).map_err(failed)?;
        out.write_all(&frames.render(index.len())).map_err(failed)?;
        let written = out.finish().map_err(failed)?;
        Ok(Finished {
            out: written.out,
            size_bytes: written.size_bytes,
            sha256: written.sha256,
            root_digest: root_digest(&json),
            frames: frames.len() as u64,
        })
    }

    /// An entry that no artifact is.
    fn append_document(&mut self, path: &'static str, bytes: &[u8]) -> Result<(), BundleError> {
        let (size, mut header) = (bytes.len() as u64, Vec::new());
        Entry::of_document(path, size, self.created_at_ms).render(&mut header);
        self.append(&header)?;
        self.append(bytes)?;
        self.append_zeros(padding(size))
    }

    fn check_manifest(&self, manifest: &Manifest) -> Result<(), BundleError> {
        let bad = |why| Err(BundleError::ManifestMismatch { why });
        if manifest.created_at_ms != self.created_at_ms {
            return bad("it has another time".to_owned());
        }
        let (listed, written) = (manifest.artifacts.len(), self.written.len());
        if listed != written {
            return bad(format!("it lists {listed} artifacts, {written} were written"));
        }
        for (listed, written) in manifest.artifacts.iter().zip(&self.written) {
            // What was seen in a store is not known here.
            let same = Artifact { sqlite: None, ..listed.clone() } == *written;
            if !same {
                return bad(format!("{} was written where it lists {}", written.path, listed.path));
            }
        }
        Ok(())
    }

    fn write_file(
        &mut self,
        spec: FileSpec,
        content: &mut dyn Read,
    ) -> Result<Artifact, BundleError> {
        if matches!(spec.kind, ArtifactKind::MemoryDir | ArtifactKind::MemorySymlink) {
            return Err(BundleError::Artifact { artifact: spec.path, why: "it is no file" });
        }
        // The digest is known once the content is; the header does not hold it.
        let mut artifact = spec.into_artifact(Sha256Digest::from_bytes([0; 32]));
        self.begin_entry(&artifact)?;
        let alone = artifact.size_bytes >= FRAME_BYTES as u64;
        if alone {
            self.end_frame()?;
        }
        self.contents.push(self.position);
        artifact.sha256 = self.append_content(&artifact, content)?;
        self.append_zeros(padding(artifact.size_bytes))?;
        if alone {
            self.end_frame()?;
        }
        self.written.push(artifact.clone());
        Ok(artifact)
    }

    fn write_entry(&mut self, artifact: &Artifact) -> Result<(), BundleError> {
        if !matches!(artifact.kind, ArtifactKind::MemoryDir | ArtifactKind::MemorySymlink) {
            return Err(BundleError::Artifact {
                artifact: artifact.path.clone(),
                why: "it is neither folder nor link",
            });
        }
        if artifact.size_bytes != 0 {
            return Err(BundleError::Artifact {
                artifact: artifact.path.clone(),
                why: "it has a size but no content",
            });
        }
        self.begin_entry(artifact)?;
        self.contents.push(self.position);
        self.written.push(artifact.clone());
        Ok(())
    }

    /// Claims the path and writes the header.
    fn begin_entry(&mut self, artifact: &Artifact) -> Result<(), BundleError> {
        let bad = |why| BundleError::Artifact { artifact: artifact.path.clone(), why };
        if self.written.len() == MAX_ARTIFACTS {
            return Err(bad("there are too many artifacts"));
        }
        if !self.paths.insert(artifact.path.clone()) {
            return Err(bad("it was written before"));
        }
        let mut header = Vec::new();
        Entry::of(artifact, self.created_at_ms).render(&mut header);
        self.append(&header)
    }

    /// Reads exactly the declared length of content, straight into frames.
    fn append_content(
        &mut self,
        artifact: &Artifact,
        mut content: &mut dyn Read,
    ) -> Result<Sha256Digest, BundleError> {
        let failed = |source| BundleError::Content { artifact: artifact.path.clone(), source };
        let length = |more| BundleError::Length {
            artifact: artifact.path.clone(),
            declared: artifact.size_bytes,
            more,
        };
        let mut hasher = Sha256::new();
        let mut left = artifact.size_bytes;
        while left > 0 {
            let start = self.frame.input.len();
            let room = (FRAME_BYTES - start) as u64;
            self.frame.input.reserve_exact(FRAME_BYTES - start);
            let mut part = (&mut content).take(left.min(room));
            part.read_to_end(&mut self.frame.input).map_err(failed)?;
            if part.limit() > 0 {
                return Err(length(false));
            }
            let read = &self.frame.input[start..];
            hasher.update(read);
            left -= read.len() as u64;
            self.position += read.len() as u64;
            self.end_full_frame()?;
        }
        let mut probe = Vec::new();
        content.take(1).read_to_end(&mut probe).map_err(failed)?;
        if !probe.is_empty() {
            return Err(length(true));
        }
        Ok(Sha256Digest::from_bytes(hasher.finalize().into()))
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), BundleError> {
        while !bytes.is_empty() {
            let room = FRAME_BYTES - self.frame.input.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.frame.input.extend_from_slice(now);
            self.position += now.len() as u64;
            self.end_full_frame()?;
            bytes = later;
        }
        Ok(())
    }

    fn append_zeros(&mut self, count: usize) -> Result<(), BundleError> {
        const ZEROS: [u8; 2 * TAR_END_BYTES] = [0; 2 * TAR_END_BYTES];
        self.append(&ZEROS[..count])
    }

    fn end_full_frame(&mut self) -> Result<(), BundleError> {
        if self.frame.input.len() == FRAME_BYTES { self.end_frame() } else { Ok(()) }
    }

    /// Sends the frame being filled on its way, unless it is empty.
    fn end_frame(&mut self) -> Result<(), BundleError> {
        if self.frame.input.is_empty() {
            return Ok(());
        }
        self.control.check()?;
        let next = self.pipeline.slot()?;
        self.pipeline.send(std::mem::replace(&mut self.frame, next))?;
        // How much memory there is to seal is known to the caller alone.
        self.control.advance(Step::Seal, self.position, 0);
        Ok(())
    }

    /// Runs one step; once it failed, every later one does.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, BundleError>,
    ) -> Result<T, PortError> {
        let result = if self.failed { Err(BundleError::AlreadyFailed) } else { step(self) };
        self.failed |= result.is_err();
        result.map_err(BundleError::writing)
    }
}

impl<W: Write + Send + 'static> ArtifactSink for BundleWriter<W> {
    fn put_file(&mut self, spec: FileSpec, content: &mut dyn Read) -> Result<Artifact, PortError> {
        self.guarded(|writer| writer.write_file(spec, content))
    }

    fn put_entry(&mut self, artifact: &Artifact) -> Result<(), PortError> {
        self.guarded(|writer| writer.write_entry(artifact))
    }
}

impl<W: Write + Send + 'static> Consumer for Output<W> {
    fn take(
        &mut self,
        _number: usize,
        content: &[u8],
        outcome: Result<&[u8], String>,
    ) -> Result<(), BundleError> {
        let frame = outcome.map_err(|why| BundleError::Compress { why })?;
        self.frames.push(frame.len(), content.len())?;
        self.out.write_all(frame).map_err(|source| BundleError::Write { source })
    }
}
