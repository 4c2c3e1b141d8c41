//! Verifying a bundle: the whole file is read once, front to back; frames are decoded in parallel;
//! every byte of the tar stream is compared or hashed.
//!
//! Invariant: a check that did not run is never reported as passed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use snapshot_core::mutants::holds;
use snapshot_core::{
    ArtifactSource, BundlePath, Control, Damage, ErrorKind, Inside, Manifest, PortError,
    Sha256Digest, Sidecar, SignatureReport, SignatureStatus, Step, VerifiedSource, VerifyReport,
    path_in_bundle,
};

use crate::any::AnyBundle;
use crate::envelope::is_encrypted;
use crate::error::BundleError;
use crate::format::TAR_END_BYTES;
use crate::frame::Decoder;
use crate::keys::Identities;
use crate::pipeline::{Consumer, Pipeline};
use crate::read::{Bundle, Inner};
use crate::signature::Trust;
use crate::source::{hash_file, length};
use crate::tar::{Entry, padding};

/// Why a sealed bundle is refused that nobody here can open.
const UNATTESTED: &str =
    "a signature is required, and its summary is attested by nobody who is trusted";

/// Most findings listed; a bundle of many small files may have one for each.
const MAX_DAMAGE: usize = 1000;

/// A bundle that passed a full verification; only [`Bundle::into_verified`] makes one.
#[derive(Debug)]
pub struct VerifiedBundle(Bundle);

/// What a verification goes by.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyOptions<'a> {
    /// The summary beside the bundle, where there is one.
    pub expect: Option<&'a Sidecar>,
    /// What the checksum file beside a bundle of 0.1.x says, which never had a summary.
    pub sum: Option<Sha256Digest>,
    /// Whose signatures count; by default nobody's.
    pub trust: Option<&'a Trust>,
    /// Worker threads; at least one is used.
    pub threads: usize,
}

/// Verifies a bundle that may not even open: what cannot be opened is reported as damage too. Without an
/// identity an encrypted one is compared with its summary as far as that goes, and its contents are not
/// checked.
///
/// # Errors
/// Only where the verification itself fails: unreadable files, newer formats, interruptions, and
/// [`BundleError::WrongIdentity`] for a file that is otherwise the one of its summary.
pub fn verify_file(
    file: File,
    path: &Path,
    identities: &Identities,
    options: &VerifyOptions<'_>,
    control: &Control,
) -> Result<VerifyReport, BundleError> {
    let again = file.try_clone();
    let again = || {
        again.map_err(|source| BundleError::Io { op: "open again", path: path.to_owned(), source })
    };
    match AnyBundle::open_with(file, path, identities) {
        Ok(AnyBundle::V2(bundle)) => bundle.verify(options, control),
        Ok(AnyBundle::V1(bundle)) => bundle.verify(options, control),
        Err(e) if e.kind() == ErrorKind::Integrity => {
            report_unopened(&again()?, path, &e, options, control)
        }
        Err(BundleError::NoIdentity { .. }) => report_sealed(&again()?, path, options, control),
        Err(e) if e.kind() == ErrorKind::Encryption => {
            let report = report_sealed(&again()?, path, options, control)?;
            if report.damage.is_empty() { Err(e) } else { Ok(report) }
        }
        Err(e) => Err(e),
    }
}

impl Bundle {
    /// Reads the whole file once and checks everything: its digest and the sidecar's statements
    /// (where they are given), every frame, header, artifact and padding, and the signature.
    ///
    /// Without a sidecar, `bundle_sha256_ok` stays false: there was nothing to compare with.
    ///
    /// # Errors
    /// Only where the verification itself fails; damage is in the report.
    pub fn verify(
        &self,
        options: &VerifyOptions<'_>,
        control: &Control,
    ) -> Result<VerifyReport, BundleError> {
        let inner = &self.inner;
        let pipeline = start_pipeline(inner, options.threads)?;
        let (walk, sha256) = read_through(inner, pipeline, control)?;
        let whole = walk.part == Part::End;
        let per_artifact_ok = whole && !walk.artifacts_bad;
        let contents_ok = per_artifact_ok && !walk.manifest_bad;
        let mut findings = walk.findings;
        let mut bundle_sha256_ok = false;
        let mut manifest_ok = true;
        match (sha256, options.expect) {
            (Err(e), _) => findings.add("bundle", None, e.to_string()),
            (Ok(_), None) => {}
            (Ok(sha256), Some(expect)) => {
                bundle_sha256_ok = holds(expect.bundle_sha256 == sha256);
                let ours = self.sidecar(sha256, Some(expect));
                manifest_ok = compare_sidecar(expect, &ours, &mut findings);
            }
        }
        let judge = |file| options.trust.and_then(|trust| trust.judge(self.manifest_bytes(), file));
        let signature = self.signature().and_then(judge);
        if let Some(SignatureReport { key_id, status: SignatureStatus::Forged }) = &signature {
            let why = format!("names {key_id}, which did not sign this manifest");
            findings.add(path_in_bundle::SIGNATURE, None, why);
        }
        Ok(VerifyReport {
            bundle: inner.source.path().to_owned(),
            manifest_ok: manifest_ok && !walk.manifest_bad,
            bundle_sha256_ok,
            per_artifact_ok,
            schema_versions: Some(inner.manifest.schema_versions),
            age_protected: self.encryption().is_some(),
            inside: if contents_ok { Inside::Good } else { Inside::Bad },
            refused: options.trust.and_then(|trust| trust.refusal(signature.as_ref())),
            signature,
            damage: findings.finish(),
        })
    }

    /// Verifies as [`Bundle::verify`] and gives the bundle out as one that may be restored from.
    ///
    /// # Errors
    /// [`BundleError::Damaged`] with all that was found, [`BundleError::Untrusted`] where a signature is
    /// required that it lacks; otherwise as [`Bundle::verify`].
    pub fn into_verified(
        self,
        options: &VerifyOptions<'_>,
        control: &Control,
    ) -> Result<VerifiedBundle, BundleError> {
        let report = self.verify(options, control)?;
        let sidecar_ok = options.expect.is_none() || report.bundle_sha256_ok;
        let good = report.manifest_ok && report.per_artifact_ok && report.damage.is_empty();
        if !holds(good && sidecar_ok && report.inside == Inside::Good) {
            return Err(BundleError::Damaged { path: report.bundle, damage: report.damage });
        }
        match report.refused {
            Some(why) => Err(BundleError::Untrusted { path: report.bundle, why }),
            None => Ok(VerifiedBundle(self)),
        }
    }
}

impl VerifiedBundle {
    /// The bundle.
    #[must_use]
    pub const fn bundle(&self) -> &Bundle {
        &self.0
    }
}

impl ArtifactSource for VerifiedBundle {
    fn manifest(&self) -> &Manifest {
        self.0.manifest()
    }

    fn open(&self, path: &BundlePath) -> Result<Box<dyn Read + '_>, PortError> {
        ArtifactSource::open(&self.0, path)
    }
}

impl VerifiedSource for VerifiedBundle {}

/// What is wrong, up to a limit.
#[derive(Default)]
pub(crate) struct Findings {
    damage: Vec<Damage>,
    dropped: usize,
}

impl Findings {
    pub(crate) fn add(
        &mut self,
        artifact: impl ToString,
        frame: Option<usize>,
        why: impl Into<String>,
    ) {
        if self.damage.len() == MAX_DAMAGE {
            self.dropped += 1;
            return;
        }
        let frame = frame.map(|frame| frame as u64);
        self.damage.push(Damage { artifact: artifact.to_string(), frame, why: why.into() });
    }

    /// Compares the file with its checksum file.
    pub(crate) fn compare_sum(&mut self, said: Option<Sha256Digest>, found: Sha256Digest) {
        if let Some(said) = said.filter(|said| !holds(*said == found)) {
            self.add("checksum file", None, format!("says {said}; the file has {found}"));
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Damage> {
        if self.dropped > 0 {
            let why = format!("has {} more findings", self.dropped);
            self.damage.push(Damage { artifact: "bundle".to_owned(), frame: None, why });
        }
        self.damage
    }
}

/// Follows the decoded stream through what the manifest says it must be.
struct Walk {
    inner: Arc<Inner>,
    /// Artifact under way; past the last one, the manifest.
    entry: usize,
    part: Part,
    /// Bytes left of the part.
    left: u64,
    header: Vec<u8>,
    hasher: Sha256,
    /// The frame in which something of this entry was last found wrong.
    reported: Option<usize>,
    artifacts_bad: bool,
    manifest_bad: bool,
    findings: Findings,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Content,
    Padding,
    End,
}

impl Walk {
    fn new(inner: Arc<Inner>) -> Self {
        let mut walk = Self {
            inner,
            entry: 0,
            part: Part::Header,
            left: 0,
            header: Vec::new(),
            hasher: Sha256::new(),
            reported: None,
            artifacts_bad: false,
            manifest_bad: false,
            findings: Findings::default(),
        };
        walk.begin_header();
        walk
    }

    /// Takes `bytes` of frame `frame`.
    fn feed(&mut self, frame: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.part != Part::End {
            let (now, later) = bytes.split_at(self.step(bytes.len()));
            match self.part {
                Part::Header => {
                    let at = self.header.len() - self.left_here();
                    if !holds(self.header[at..at + now.len()] == *now) {
                        self.report(frame, "its header is not the manifest's");
                    }
                }
                Part::Content => self.take_content(frame, now),
                Part::Padding if !holds(now.iter().all(|&byte| byte == 0)) => {
                    self.report(frame, "its padding is not zero");
                }
                Part::Padding | Part::End => {}
            }
            self.consume(frame, now.len());
            bytes = later;
        }
    }

    /// Passes over `count` bytes of frame `frame`, which could not be decoded.
    fn skip(&mut self, frame: usize, mut count: usize, why: &str) {
        while count > 0 && self.part != Part::End {
            self.report(frame, why);
            let now = self.step(count);
            self.consume(frame, now);
            count -= now;
        }
    }

    fn step(&self, available: usize) -> usize {
        available.min(self.left_here())
    }

    fn left_here(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    fn take_content(&mut self, frame: usize, bytes: &[u8]) {
        let Some((_, document)) = self.inner.document(self.entry) else {
            self.hasher.update(bytes);
            return;
        };
        let at = document.len() - self.left_here();
        if !holds(document[at..at + bytes.len()] == *bytes) {
            self.report(frame, "it changed since it was opened");
        }
    }

    /// Moves on by `count` bytes, and to the next part that has any.
    fn consume(&mut self, frame: usize, count: usize) {
        self.left -= count as u64;
        while self.left == 0 && self.part != Part::End {
            match self.part {
                Part::Header => self.begin_content(),
                Part::Content => self.end_content(frame),
                Part::Padding => {
                    self.entry += 1;
                    self.reported = None;
                    self.begin_header();
                }
                Part::End => {}
            }
        }
    }

    fn begin_header(&mut self) {
        let manifest = &self.inner.manifest;
        let created_at_ms = manifest.created_at_ms;
        self.header.clear();
        let entry = match (manifest.artifacts.get(self.entry), self.inner.document(self.entry)) {
            (Some(artifact), _) => Entry::of(artifact, created_at_ms),
            (None, Some((path, document))) => {
                Entry::of_document(path, document.len() as u64, created_at_ms)
            }
            (None, None) => {
                self.part = Part::End;
                return;
            }
        };
        entry.render(&mut self.header);
        self.part = Part::Header;
        self.left = self.header.len() as u64;
    }

    fn begin_content(&mut self) {
        self.part = Part::Content;
        self.left = self.content_bytes();
    }

    fn end_content(&mut self, frame: usize) {
        let digest = Sha256Digest::from_bytes(self.hasher.finalize_reset().into());
        let artifact = self.inner.manifest.artifacts.get(self.entry);
        // A link's digest is that of its target, which the manifest was checked for.
        let differs = artifact.is_some_and(|a| !holds(a.link.is_some() || a.sha256 == digest));
        // What follows from a finding is no news.
        if differs && self.reported.is_none() {
            self.report(frame, "its content has another digest than the manifest's");
        }
        let end = if self.entry + 1 < self.inner.entries() { 0 } else { TAR_END_BYTES };
        self.part = Part::Padding;
        self.left = (padding(self.content_bytes()) + end) as u64;
    }

    fn content_bytes(&self) -> u64 {
        match self.inner.manifest.artifacts.get(self.entry) {
            Some(artifact) => artifact.size_bytes,
            None => self.inner.document(self.entry).map_or(0, |(_, bytes)| bytes.len() as u64),
        }
    }

    /// Reports the entry under way, once for each frame.
    fn report(&mut self, frame: usize, why: &str) {
        if self.reported.replace(frame) == Some(frame) {
            return;
        }
        match self.inner.manifest.artifacts.get(self.entry) {
            Some(artifact) => {
                self.artifacts_bad = true;
                self.findings.add(&artifact.path, Some(frame), why);
            }
            None => {
                self.manifest_bad = true;
                let document = self.inner.document(self.entry);
                let path = document.map_or(path_in_bundle::MANIFEST, |(path, _)| path);
                self.findings.add(path, Some(frame), why);
            }
        }
    }
}

impl Consumer for Walk {
    fn take(
        &mut self,
        number: usize,
        _frame: &[u8],
        outcome: Result<&[u8], String>,
    ) -> Result<(), BundleError> {
        match outcome {
            Ok(content) => self.feed(number, content),
            Err(why) => {
                let lost = self.inner.frames.content_bytes(number).unwrap_or_default();
                self.skip(number, lost, &format!("its frame {why}"));
            }
        }
        Ok(())
    }
}

fn start_pipeline(inner: &Arc<Inner>, threads: usize) -> Result<Pipeline<Walk>, BundleError> {
    Pipeline::start(threads, Walk::new(Arc::clone(inner)), || {
        let (inner, mut decoder) = (Arc::clone(inner), Decoder::default());
        Ok(move |number, frame: &[u8], content: &mut Vec<u8>| {
            let expected = inner.frames.content_bytes(number).unwrap_or_default();
            decoder.decode(frame, expected, content)
        })
    })
}

/// Reads the whole file once, front to back; returns where the walk ended, and the file's digest
/// or why a part of it could not be read.
fn read_through(
    inner: &Inner,
    mut pipeline: Pipeline<Walk>,
    control: &Control,
) -> Result<(Walk, Result<Sha256Digest, BundleError>), BundleError> {
    let (mut reading, total) = (inner.source.sequential()?, inner.source.len());
    let mut unreadable = None;
    for frame in 0..inner.frames.len() {
        control.check()?;
        let place = inner.frames.in_file(frame).unwrap_or_default();
        let mut slot = pipeline.slot()?;
        if let Err(e) = reading.read(place.clone(), &mut slot.input) {
            // The walk then names what lay in this frame, and goes on.
            slot.input.clear();
            unreadable.get_or_insert(e);
        }
        pipeline.send(slot)?;
        control.advance(Step::Verify, place.end, total);
    }
    let walk = pipeline.finish()?;
    let digest = reading.finish(control);
    control.advance(Step::Verify, total, total);
    let digest = match (unreadable, digest) {
        (_, Err(e @ BundleError::Interrupted(_))) => return Err(e),
        (Some(e), _) => Err(e),
        (None, digest) => digest,
    };
    Ok((walk, digest))
}

/// The report on a file that does not open as a bundle.
fn report_unopened(
    file: &File,
    path: &Path,
    fault: &BundleError,
    options: &VerifyOptions<'_>,
    control: &Control,
) -> Result<VerifyReport, BundleError> {
    let mut findings = Findings::default();
    match fault {
        BundleError::Structure { why, .. } => findings.add("bundle", None, why),
        BundleError::Frame { frame, why, .. } => {
            findings.add(path_in_bundle::MANIFEST, Some(*frame), format!("its frame {why}"));
        }
        BundleError::Manifest { source, .. } => {
            findings.add(path_in_bundle::MANIFEST, None, source.to_string());
        }
        other => findings.add("bundle", None, other.to_string()),
    }
    let bundle_sha256_ok = compare_file(file, path, options, &mut findings, control)?;
    Ok(VerifyReport {
        bundle_sha256_ok,
        inside: Inside::Bad,
        damage: findings.finish(),
        ..nothing_checked(file, path)
    })
}

/// The report on an encrypted file that nobody here can open.
fn report_sealed(
    file: &File,
    path: &Path,
    options: &VerifyOptions<'_>,
    control: &Control,
) -> Result<VerifyReport, BundleError> {
    let mut findings = Findings::default();
    let bundle_sha256_ok = compare_file(file, path, options, &mut findings, control)?;
    let expect = options.expect;
    if !holds(expect.is_none_or(|expect| expect.encryption.is_some())) {
        findings.add("sidecar", None, "says that the bundle is not encrypted, and it is");
    }
    // What is inside is not known to be signed; that the summary is attested is all there is.
    let attested = |trust: &Trust| {
        expect.is_some_and(|expect| trust.attests(&expect.to_meta(path.to_owned())))
    };
    let refused = options.trust.filter(|trust| !holds(!trust.required || attested(trust)));
    Ok(VerifyReport {
        bundle_sha256_ok,
        refused: refused.map(|_| UNATTESTED.to_owned()),
        damage: findings.finish(),
        ..nothing_checked(file, path)
    })
}

fn nothing_checked(file: &File, path: &Path) -> VerifyReport {
    VerifyReport {
        bundle: path.to_owned(),
        manifest_ok: false,
        bundle_sha256_ok: false,
        per_artifact_ok: false,
        schema_versions: None,
        age_protected: is_encrypted(file).unwrap_or_default(),
        inside: Inside::NotChecked,
        signature: None,
        refused: None,
        damage: Vec::new(),
    }
}

/// Whether a file is the one of its summary, or of its checksum file; false without either.
fn compare_file(
    file: &File,
    path: &Path,
    options: &VerifyOptions<'_>,
    findings: &mut Findings,
    control: &Control,
) -> Result<bool, BundleError> {
    let Some(expect) = options.expect else {
        let Some(said) = options.sum else { return Ok(false) };
        let found = hash_file(file, path, control)?;
        findings.compare_sum(Some(said), found);
        return Ok(holds(said == found));
    };
    let (len, sha256) = (length(file, path)?, hash_file(file, path, control)?);
    if holds(expect.bundle_sha256 == sha256 && expect.bundle_size_bytes == len) {
        return Ok(true);
    }
    let why = format!(
        "says {} bytes of digest {}; the file has {len} of {sha256}",
        expect.bundle_size_bytes, expect.bundle_sha256
    );
    findings.add("sidecar", None, why);
    Ok(holds(expect.bundle_sha256 == sha256))
}

/// Compares every field of the sidecar with what the bundle says; returns whether those about the
/// manifest agree.
fn compare_sidecar(expect: &Sidecar, ours: &Sidecar, findings: &mut Findings) -> bool {
    let fields = |sidecar| match serde_json::to_value(sidecar) {
        Ok(Value::Object(fields)) => fields,
        // A sidecar is a struct of plain fields: it always becomes an object.
        Ok(_) | Err(_) => Map::new(),
    };
    let (expect, ours) = (fields(expect), fields(ours));
    let names: BTreeSet<&String> = expect.keys().chain(ours.keys()).collect();
    let mut manifest_ok = !names.is_empty();
    for name in names {
        let (said, is) = (expect.get(name), ours.get(name));
        if holds(said == is) {
            continue;
        }
        manifest_ok &= name.starts_with("bundle_s");
        let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
        let why = format!("says {name} is {}; the bundle's is {}", text(said), text(is));
        findings.add("sidecar", None, why);
    }
    manifest_ok
}
