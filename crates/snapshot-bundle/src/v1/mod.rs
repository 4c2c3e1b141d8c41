//! Bundles of 0.1.x: one zstd stream around one tar archive, its manifest first.
//!
//! Invariants: entries are the manifest's, once each and in its order, regular files of the declared sizes;
//! nothing follows the end of the archive or of the stream; no more is decompressed than the manifest declares;
//! what is wrong is an error before the entry behind it is given out. Read front to back only.

mod entry;
mod stream;

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use snapshot_core::mutants::holds;
use snapshot_core::{
    ArtifactV1, Control, EncryptionInfo, Inside, MAX_MANIFEST_BYTES, ManifestV1, Sha256Digest,
    Step, VerifyReport, path_in_bundle,
};

use self::entry::{Header, Kind};
use self::stream::Stream;
use crate::error::BundleError;
use crate::format::{SEEK_FOOTER_MAGIC, TAR_BLOCK, ZSTD_MAGIC};
use crate::seek::structure;
use crate::source::Source;
use crate::verify::{Findings, VerifyOptions};

/// What a seal says that is not the artifacts'.
const OTHER_SEAL: &str = "its seal is not that of its artifacts";

/// An open bundle of 0.1.x whose manifest holds; its contents are checked as they are read.
pub struct BundleV1 {
    source: Source,
    manifest: ManifestV1,
}

/// The content of one artifact, as it comes by.
struct Content<'s, 'a> {
    stream: &'s mut Stream<'a>,
    left: u64,
    hasher: Sha256,
}

/// Whether the bundle is one of 0.1.x, by how it begins and ends; what cannot be read as one is none.
pub(crate) fn is_v1(source: &Source) -> bool {
    let mut bytes = Vec::new();
    let end = source.len();
    let magics = |bytes: &[u8]| bytes.first_chunk().map(|magic| u32::from_le_bytes(*magic));
    // Every bundle since ends in a seek table.
    let seekable = source.read(end.saturating_sub(4)..end, &mut bytes).is_ok()
        && magics(&bytes) == Some(SEEK_FOOTER_MAGIC);
    let zstd = source.read(0..end.min(4), &mut bytes).is_ok() && magics(&bytes) == Some(ZSTD_MAGIC);
    let control = Control::default();
    let first = || Stream::start(source, &control)?.block();
    !seekable
        && zstd
        && first().is_ok_and(|block| {
            Header::parse(&block)
                .is_ok_and(|header| header.name == path_in_bundle::MANIFEST.as_bytes())
        })
}

impl BundleV1 {
    pub(crate) fn from_source(source: Source) -> Result<Self, BundleError> {
        let bytes = read_manifest(&mut Stream::start(&source, &Control::default())?)?;
        let manifest = ManifestV1::parse(&bytes)
            .map_err(|e| BundleError::Manifest { path: source.path().to_owned(), source: e })?;
        Ok(Self { source, manifest })
    }

    /// What it says that it holds.
    #[must_use]
    pub const fn manifest(&self) -> &ManifestV1 {
        &self.manifest
    }

    /// How it is encrypted, as far as a reader can tell: for which recipient the identity is that opened it.
    #[must_use]
    pub fn encryption(&self) -> Option<&EncryptionInfo> {
        self.source.encryption()
    }

    /// Length of its file in bytes.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.source.file_bytes()
    }

    /// Reads the whole bundle once and hands every artifact to `take`, which may leave some of the content;
    /// returns the digest of the file. What `take` was given is right once this returned.
    ///
    /// # Errors
    /// [`BundleError::Structure`] and [`BundleError::Mismatch`] for the first thing that is wrong, and what
    /// `take` fails with.
    pub fn unpack<E: From<BundleError>>(
        &self,
        control: &Control,
        take: &mut dyn FnMut(&ArtifactV1, &mut dyn Read) -> Result<(), E>,
    ) -> Result<Sha256Digest, E> {
        let path = self.source.path();
        if !holds(self.manifest.seal_of_artifacts() == self.manifest.seal) {
            return Err(structure(path, OTHER_SEAL).into());
        }
        self.read_through(Step::Stage, control, take, &mut |artifact| {
            let artifact = artifact.path.clone();
            let why = "has another digest than the manifest's";
            Err(BundleError::Mismatch { path: path.to_owned(), artifact, why }.into())
        })
    }

    /// Reads the whole bundle once and checks everything that one of 0.1.x says of itself: its seal, every
    /// header, every artifact, and its file's digest against `options.sum`.
    ///
    /// # Errors
    /// Only where the verification itself fails; damage is in the report.
    pub fn verify(
        &self,
        options: &VerifyOptions<'_>,
        control: &Control,
    ) -> Result<VerifyReport, BundleError> {
        let (mut findings, mut wrong) = (Findings::default(), Vec::new());
        let seal_ok = holds(self.manifest.seal_of_artifacts() == self.manifest.seal);
        if !seal_ok {
            findings.add(path_in_bundle::MANIFEST, None, OTHER_SEAL);
        }
        let read = self.read_through(Step::Verify, control, &mut |_, _| Ok(()), &mut |artifact| {
            wrong.push(artifact.path.clone());
            Ok::<(), BundleError>(())
        });
        let mut per_artifact_ok = wrong.is_empty();
        for path in wrong {
            findings.add(path, None, "has another digest than the manifest's");
        }
        let mut bundle_sha256_ok = false;
        match read {
            Ok(found) => {
                bundle_sha256_ok = holds(options.sum == Some(found));
                findings.compare_sum(options.sum, found);
            }
            Err(e @ BundleError::Interrupted(_)) => return Err(e),
            Err(e @ BundleError::Io { .. }) => return Err(e),
            Err(e) => {
                per_artifact_ok = false;
                findings.add("bundle", None, format!("{}; what follows was not read", e.why()));
            }
        }
        if options.expect.is_some() {
            findings.add("sidecar", None, "speaks of a bundle of another version");
        }
        let inside = if seal_ok && per_artifact_ok { Inside::Good } else { Inside::Bad };
        Ok(VerifyReport {
            bundle: self.source.path().to_owned(),
            manifest_ok: seal_ok && options.expect.is_none(),
            bundle_sha256_ok,
            per_artifact_ok,
            schema_versions: Some(self.manifest.schema_versions),
            age_protected: self.encryption().is_some(),
            inside,
            signature: None,
            refused: options.trust.and_then(|trust| trust.refusal(None)),
            damage: findings.finish(),
        })
    }

    /// The one pass: `wrong` hears of contents that have another digest than the manifest's.
    fn read_through<E: From<BundleError>>(
        &self,
        step: Step,
        control: &Control,
        take: &mut dyn FnMut(&ArtifactV1, &mut dyn Read) -> Result<(), E>,
        wrong: &mut dyn FnMut(&ArtifactV1) -> Result<(), E>,
    ) -> Result<Sha256Digest, E> {
        let (total, mut done) = (self.manifest.total_bytes(), 0u64);
        let mut stream = Stream::start(&self.source, control)?;
        read_manifest(&mut stream)?;
        for artifact in &self.manifest.artifacts {
            control.check().map_err(BundleError::from)?;
            control.advance(step, done, total);
            stream.expect(artifact.path.as_bytes(), Some(artifact.size_bytes))?;
            let left = artifact.size_bytes;
            let mut content = Content { stream: &mut stream, left, hasher: Sha256::new() };
            take(artifact, &mut content)?;
            let found = content.finish()?;
            if !holds(found == artifact.sha256) {
                wrong(artifact)?;
            }
            stream.padding(artifact.size_bytes)?;
            done = done.saturating_add(artifact.size_bytes);
        }
        Ok(stream.end()?)
    }
}

impl std::fmt::Debug for BundleV1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundleV1").field("path", &self.source.path()).finish_non_exhaustive()
    }
}

impl Content<'_, '_> {
    /// Reads what was left; returns the digest of all.
    fn finish(mut self) -> Result<Sha256Digest, BundleError> {
        let mut rest = [0; TAR_BLOCK * 16];
        while self.left > 0 {
            self.next_part(&mut rest)?;
        }
        Ok(Sha256Digest::from_bytes(self.hasher.finalize().into()))
    }

    fn next_part(&mut self, out: &mut [u8]) -> Result<usize, BundleError> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let out = &mut out[..want];
        self.stream.fill(out)?;
        self.hasher.update(&*out);
        self.left -= want as u64;
        Ok(want)
    }
}

impl Read for Content<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.next_part(out).map_err(BundleError::into_io)
    }
}

/// The exact bytes of the manifest, which is the first entry.
fn read_manifest(stream: &mut Stream<'_>) -> Result<Vec<u8>, BundleError> {
    let size = stream.expect(path_in_bundle::MANIFEST.as_bytes(), None)?;
    if size > MAX_MANIFEST_BYTES {
        return Err(stream.bad(&format!("its manifest is larger than {MAX_MANIFEST_BYTES} bytes")));
    }
    // Of what is only declared nothing is made room for.
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let from = bytes.len();
        let more = usize::try_from(size).unwrap_or(usize::MAX).min(from + (1 << 20));
        bytes.resize(more, 0);
        stream.fill(&mut bytes[from..])?;
    }
    stream.padding(size)?;
    Ok(bytes)
}

impl Stream<'_> {
    /// Reads the header of the next entry, which must be a regular file of this name and, where that is known,
    /// size; returns its size.
    fn expect(&mut self, name: &[u8], size: Option<u64>) -> Result<u64, BundleError> {
        let mut header = self.header()?;
        let mut long = None;
        if header.kind == Kind::LongName {
            if header.size_bytes > entry::MAX_LONG_NAME_BYTES {
                return Err(self.bad("an entry has a name of over 4096 bytes"));
            }
            let mut bytes = vec![0; usize::try_from(header.size_bytes).unwrap_or_default()];
            self.fill(&mut bytes)?;
            self.padding(header.size_bytes)?;
            if bytes.pop() != Some(0) {
                return Err(self.bad("a long name does not end in NUL"));
            }
            header = self.header()?;
            if header.kind != Kind::File || !bytes.starts_with(&header.name) {
                return Err(self.bad("a long name stands before an entry that is not its own"));
            }
            long = Some(bytes);
        }
        let found = long.as_ref().unwrap_or(&header.name);
        if !holds(found == name) {
            let (found, name) = (String::from_utf8_lossy(found), String::from_utf8_lossy(name));
            return Err(self.bad(&format!("it holds {found:?} where {name:?} must be")));
        }
        match size {
            Some(size) if !holds(size == header.size_bytes) => {
                let name = String::from_utf8_lossy(name);
                Err(self.bad(&format!("{name:?} has another size than its manifest says")))
            }
            _ => Ok(header.size_bytes),
        }
    }

    fn header(&mut self) -> Result<Header, BundleError> {
        let block = self.block()?;
        Header::parse(&block).map_err(|why| self.bad(&format!("it has {why}")))
    }
}
