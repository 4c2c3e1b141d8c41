//! The kinds of damage, one small bundle each: its name tells the damage, its class is what the format's page
//! has it end in.

use std::io::{self, Seek, Write};
use std::path::Path;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::manifest::{Artifact, ArtifactKind, BundlePath};
use nexo_memory_snapshot::ports::Control;
use serde_json::Value;
use snapshot_bundle::{Bundle, BundleWriter, Recipients, WriteOptions};
use snapshot_core::{ArtifactSink, BundleFile, FileSpec, Sidecar};
use snapshot_testkit::damage::{Archive, Parts, compress, seal};
use snapshot_testkit::{MemoryBundle, SeqIds};

use super::report::Outcome;

/// Names of the encrypted bundle that is kept, of its summary, and of what opens it.
pub(crate) const SEALED: &str = "whole.tar.zst.age";
pub(crate) const SEALED_SIDECAR: &str = "whole.manifest.json";
pub(crate) const IDENTITY: &str = "identity.txt";

/// Most content of a frame, in bytes: the first artifact lies in several.
const CUT: usize = 1024;
/// 2026-11-21 23:10:00 UTC.
const INSTANT_MS: i64 = 1_795_302_600_000;

/// One damaged bundle.
pub(crate) struct Damaged {
    pub(crate) name: &'static str,
    /// What was done.
    pub(crate) about: &'static str,
    /// What it must end in.
    pub(crate) class: ErrorKind,
    pub(crate) bundle: Vec<u8>,
    /// Where it is the summary that tells.
    pub(crate) sidecar: Option<Vec<u8>>,
}

/// What is damaged.
pub(crate) struct Whole {
    bundle: Vec<u8>,
    sidecar: Vec<u8>,
    /// Another snapshot of the same agent.
    other: Vec<u8>,
    other_sidecar: Vec<u8>,
    /// Where the index and the seek table start.
    index_at: usize,
    table_at: usize,
}

/// The list as it grows.
#[derive(Default)]
struct List(Vec<Damaged>);

impl Whole {
    pub(crate) fn new() -> Outcome<Self> {
        let ((bundle, sidecar), (other, other_sidecar)) = (small(1)?, small(2)?);
        let parts = Parts::of(&bundle)?;
        let index_at = parts.start_of(parts.frames.len());
        let table_at = index_at + 8 + parts.index.len();
        Ok(Self { bundle, sidecar, other, other_sidecar, index_at, table_at })
    }

    fn parts(&self) -> io::Result<Parts> {
        Parts::of(&self.bundle)
    }

    fn archive(&self) -> io::Result<Archive> {
        Archive::of(&self.bundle)
    }

    /// The bundle with changed frames.
    fn frames(&self, change: impl FnOnce(&mut Parts) -> io::Result<()>) -> io::Result<Vec<u8>> {
        let mut parts = self.parts()?;
        change(&mut parts)?;
        Ok(parts.to_bytes())
    }

    /// The bundle with one frame's content changed, and whole again.
    fn content(&self, frame: usize, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<Vec<u8>> {
        self.frames(|parts| {
            let mut content = parts.content(frame)?;
            change(&mut content);
            parts.set_content(frame, &content)
        })
    }

    /// The bundle with changed entries; tables and frames fit them.
    fn entries(&self, change: impl FnOnce(&mut Archive) -> io::Result<()>) -> io::Result<Vec<u8>> {
        let mut archive = self.archive()?;
        change(&mut archive)?;
        archive.to_bundle(CUT)
    }

    /// The bundle with a changed manifest; header, tables and frames fit it.
    fn manifest(&self, change: impl FnOnce(&mut Value)) -> io::Result<Vec<u8>> {
        self.entries(|archive| {
            let mut json = archive.manifest()?;
            change(&mut json);
            archive.set_manifest(serde_json::to_vec_pretty(&json)?);
            Ok(())
        })
    }

    /// Its summary with a changed field.
    fn sidecar(&self, change: impl FnOnce(&mut Value)) -> Outcome<Vec<u8>> {
        let mut json = serde_json::from_slice(&self.sidecar)?;
        change(&mut json);
        Ok(serde_json::to_vec_pretty(&json)?)
    }
}

impl List {
    /// Damage that the bundle by itself shows.
    fn add(&mut self, name: &'static str, about: &'static str, bundle: Vec<u8>) {
        self.0.push(Damaged { name, about, class: ErrorKind::Integrity, bundle, sidecar: None });
    }

    /// Damage that only the summary shows.
    fn told(&mut self, name: &'static str, about: &'static str, bundle: &[u8], sidecar: &[u8]) {
        let (bundle, sidecar) = (bundle.to_vec(), Some(sidecar.to_vec()));
        self.0.push(Damaged { name, about, class: ErrorKind::Integrity, bundle, sidecar });
    }

    /// The last one ends in something else than `Integrity`.
    fn as_class(&mut self, class: ErrorKind) {
        self.0.iter_mut().last().into_iter().for_each(|last| last.class = class);
    }
}

/// Every kind of damage to a plain bundle.
pub(crate) fn plain(whole: &Whole) -> Outcome<Vec<Damaged>> {
    let mut list = List::default();
    ends(whole, &mut list)?;
    frames(whole, &mut list)?;
    tables(whole, &mut list)?;
    archive(whole, &mut list)?;
    manifest(whole, &mut list)?;
    summary(whole, &mut list)?;
    Ok(list.0)
}

/// The file is too short, or too long.
fn ends(whole: &Whole, list: &mut List) -> Outcome<()> {
    let (bundle, frame) = (&whole.bundle, whole.parts()?.start_of(1));
    let cut = |at: usize| bundle[..at].to_vec();
    list.add("truncated-to-nothing", "The file is empty.", Vec::new());
    list.add("truncated-in-a-frame", "The file ends in the second frame.", cut(frame + 20));
    list.add("truncated-in-the-index", "The file ends in the index.", cut(whole.index_at + 20));
    list.add("truncated-in-the-seek-table", "It ends in the seek table.", cut(whole.table_at + 20));
    list.add("truncated-by-a-byte", "The last byte is missing.", cut(bundle.len() - 1));
    let and = |tail: &[u8]| [bundle, tail].concat();
    list.add("byte-appended", "A zero follows the seek table.", and(&[0]));
    list.add("frame-appended", "An empty skippable frame follows the seek table.", and(&SKIPPABLE));
    list.add("bundle-appended", "The whole bundle follows itself.", and(bundle));
    Ok(())
}

/// A skippable frame without content.
const SKIPPABLE: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];

/// A frame is not what it was, or not where it was; the tables say what is there.
fn frames(whole: &Whole, list: &mut List) -> Outcome<()> {
    let other = Parts::of(&whole.other)?;
    let (middle, first) = (whole.parts()?.start_of(1) + 30, whole.parts()?.manifest_frame());
    let mut flipped = whole.bundle.clone();
    flipped[middle] ^= 1;
    list.add("frame-bit-flipped", "One bit of a frame is another.", flipped);
    let of = |change: &dyn Fn(&mut Parts)| {
        whole.frames(|parts| {
            change(parts);
            Ok(())
        })
    };
    let swapped = of(&|parts| parts.frames.swap(0, 1))?;
    list.add("frames-swapped", "The first two frames are in each other's place.", swapped);
    let deleted = of(&|parts| {
        parts.frames.remove(1);
        parts.set_manifest_frame(first - 1);
    })?;
    list.add("frame-deleted", "A frame is gone, and the tables know nothing of it.", deleted);
    let doubled = of(&|parts| {
        parts.frames.insert(1, parts.frames[1].clone());
        parts.set_manifest_frame(first + 1);
    })?;
    list.add("frame-doubled", "A frame is there twice, and so the tables say.", doubled);
    let foreign = of(&|parts| parts.frames[1] = other.frames[1].clone())?;
    list.add("frame-of-another-bundle", "A frame is another bundle's.", foreign);
    let hidden = of(&|parts| parts.frames[1].0.extend(SKIPPABLE))?;
    list.add("frame-followed", "A skippable frame hides behind a frame, in its range.", hidden);
    let empty = (compress(b"")?, 0);
    let emptied = of(&|parts| {
        parts.frames.insert(1, empty.clone());
        parts.set_manifest_frame(first + 1);
    })?;
    list.add("frame-empty", "A frame has no content.", emptied);
    let bare = zstd::bulk::compress(&whole.parts()?.content(1)?, 3)?;
    let bare = of(&|parts| parts.frames[1].0.clone_from(&bare))?;
    list.add("frame-without-checksum", "A frame carries no content checksum.", bare);
    let wide = of(&|parts| parts.frames[1].0 = wide_window())?;
    list.add("frame-window-too-large", "A frame needs a window of 4 GiB.", wide);
    let bomb = compress(&vec![0; 16 << 20])?;
    let bomb = of(&|parts| parts.frames[1].0.clone_from(&bomb))?;
    list.add("frame-bomb", "A frame holds 16 MiB, the seek table says 1 KiB.", bomb);
    let large = (compress(&vec![0; (1 << 20) + 1])?, (1 << 20) + 1);
    let large = of(&|parts| parts.frames[1] = large.clone())?;
    list.add(
        "frame-too-large",
        "A frame holds a byte more than 1 MiB, and so the table says.",
        large,
    );
    Ok(())
}

/// A frame of one empty block whose header asks for a window of 4 GiB.
fn wide_window() -> Vec<u8> {
    let mut frame = 0xFD2F_B528u32.to_le_bytes().to_vec();
    frame.extend([0x84, 22 << 3]);
    frame.extend(u32::try_from(CUT).unwrap_or_default().to_le_bytes());
    frame.extend([1, 0, 0]);
    frame
}

/// The index or the seek table says something else.
fn tables(whole: &Whole, list: &mut List) -> Outcome<()> {
    let other = Parts::of(&whole.other)?;
    let index = |change: &dyn Fn(&mut Vec<u8>)| {
        whole.frames(|parts| {
            change(&mut parts.index);
            Ok(())
        })
    };
    let foreign = index(&|index| index.clone_from(&other.index))?;
    list.add("index-of-another-bundle", "The index is another bundle's.", foreign);
    let off = index(&|index| index[28] ^= 1)?;
    list.add("index-entry-edited", "The index says another place of an artifact.", off);
    let nowhere = index(&|index| index[8..12].fill(0xff))?;
    list.add(
        "index-past-the-end",
        "The index says that the manifest starts past the end.",
        nowhere,
    );
    let newer = index(&|index| index[7] = 3)?;
    list.add("index-newer", "The index says version 3.", newer);
    list.as_class(ErrorKind::SchemaTooNew);
    let at = |place: usize, byte: u8| {
        let mut bundle = whole.bundle.clone();
        bundle[place] ^= byte;
        bundle
    };
    let length = whole.bundle.len();
    let size = at(whole.table_at + 8, 1);
    list.add("seek-table-size-edited", "The seek table says another size of a frame.", size);
    let flags = at(length - 5, 0x80);
    list.add("seek-table-descriptor-set", "The seek table claims to have checksums.", flags);
    list.add("seek-table-magic-edited", "The last byte of the file is another.", at(length - 1, 1));
    Ok(())
}

/// The archive is not what the manifest says, in frames that are whole.
fn archive(whole: &Whole, list: &mut List) -> Outcome<()> {
    let last = whole.parts()?.frames.len() - 1;
    let changed = whole.content(0, |content| content[600] ^= 1)?;
    list.add("artifact-changed", "A byte of an artifact is another.", changed);
    let mode = whole.content(0, |content| {
        content[100..107].copy_from_slice(b"0004755");
        seal(&mut content[..512]);
    })?;
    list.add("entry-header-mode", "An entry's header says set-user-id.", mode);
    let device = whole.content(0, |content| {
        content[156] = b'3';
        seal(&mut content[..512]);
    })?;
    list.add("entry-header-device", "An entry's header says that it is a device.", device);
    let end = whole.content(last, |content| _ = content.pop().map(|_| content.push(1)))?;
    list.add("end-not-zero", "The last byte of the archive is not zero.", end);
    let longer = whole.content(last, |content| content.extend([0; 512]))?;
    list.add("end-too-long", "The archive ends in a zero block too many.", longer);
    let padding = whole.archive()?.artifacts[0].content.len() + 512;
    let padded = whole.content(padding / CUT, |content| content[padding % CUT] = 1)?;
    list.add("padding-not-zero", "A byte between two entries is not zero.", padded);
    let gone = whole.entries(|archive| {
        archive.artifacts.remove(2);
        Ok(())
    })?;
    list.add("entry-deleted", "An entry that the manifest lists is gone.", gone);
    let doubled = whole.entries(|archive| {
        archive.artifacts.insert(2, archive.artifacts[2].clone());
        Ok(())
    })?;
    list.add("entry-doubled", "An entry is there twice, and listed once.", doubled);
    let swapped = whole.entries(|archive| {
        archive.artifacts.swap(2, 3);
        Ok(())
    })?;
    list.add("entries-swapped", "Two entries are in each other's place.", swapped);
    Ok(())
}

/// The manifest breaks a rule of its own; everything fits it otherwise.
fn manifest(whole: &Whole, list: &mut List) -> Outcome<()> {
    let newer = whole.manifest(|json| {
        json["manifest_version"] = 3.into();
        json["bundle_format"] = "nexo-memory-snapshot-v3".into();
        json["artifacts"] = "something else now".into();
    })?;
    list.add(
        "manifest-newer",
        "The manifest is of version 3, and nothing in it as we know it.",
        newer,
    );
    list.as_class(ErrorKind::SchemaTooNew);
    let no_json = whole.entries(|archive| {
        archive.set_manifest(b"memory".to_vec());
        Ok(())
    })?;
    list.add("manifest-no-json", "The manifest is no JSON.", no_json);
    let path = |to: Value| whole.manifest(|json| json["artifacts"][2]["path_in_bundle"] = to);
    let (up, root) = (path("memory_files/../../x".into())?, path("/etc/passwd".into())?);
    list.add("path-escapes", "A path leads out of the bundle.", up);
    list.add("path-absolute", "A path is absolute.", root);
    list.add("path-twice", "A path is listed twice.", path("memory_files/large".into())?);
    let below = path("memory_files/link/x".into())?;
    list.add("path-below-a-link", "A file lies below a link.", below);
    let size = |to: u64| whole.manifest(|json| json["artifacts"][0]["size_bytes"] = to.into());
    list.add("size-too-large", "A size is larger than what the frames hold.", size(1 << 40)?);
    list.add("size-too-small", "A size is smaller than the content.", size(1)?);
    list.add("size-the-largest", "A size is the largest number.", size(u64::MAX)?);
    let digest = whole.manifest(|json| json["artifacts"][2]["sha256"] = "00".repeat(32).into())?;
    list.add("digest-edited", "A digest is another.", digest);
    let unlisted = whole.manifest(|json| _ = json["artifacts"].as_array_mut().map(Vec::pop))?;
    list.add("entry-unlisted", "An entry is not listed.", unlisted);
    Ok(())
}

/// The bundle by itself is whole, and not the one that its summary was written for.
fn summary(whole: &Whole, list: &mut List) -> Outcome<()> {
    let (bundle, sidecar) = (&whole.bundle, &whole.sidecar);
    let label = whole.manifest(|json| json["label"] = "another".into())?;
    list.told("manifest-field-edited", "The label is another; all else fits it.", &label, sidecar);
    let forged = whole.entries(|archive| {
        let mut content = archive.artifacts[0].content.clone();
        content[100] ^= 1;
        archive.forge(0, content)
    })?;
    let about = "A content is another, of the digest that the manifest says.";
    list.told("artifact-forged", about, &forged, sidecar);
    let swapped = whole.manifest(|json| json["created_at_ms"] = (INSTANT_MS + 1).into())?;
    list.told("time-edited", "The time is a millisecond later.", &swapped, sidecar);
    let about = "Beside the bundle lies another snapshot's summary.";
    list.told("summary-of-another-snapshot", about, bundle, &whole.other_sidecar);
    let digest = whole.sidecar(|json| json["bundle_sha256"] = "00".repeat(32).into())?;
    list.told("summary-digest-edited", "The summary says another digest.", bundle, &digest);
    let agent = whole.sidecar(|json| json["agent_id"] = "bob".into())?;
    list.told("summary-agent-edited", "The summary says another agent.", bundle, &agent);
    Ok(())
}

/// Damage to the envelope of an encrypted bundle.
pub(crate) fn sealed(bundle: &[u8], sidecar: &[u8]) -> Vec<Damaged> {
    let mut list = List::default();
    let flipped = |at: usize| {
        let mut bundle = bundle.to_vec();
        bundle[at] ^= 1;
        bundle
    };
    let mac = b"\n--- ";
    let header = bundle.windows(mac.len()).position(|part| part == mac).unwrap_or_default();
    let (middle, end) = (header + (bundle.len() - header) / 2, bundle.len());
    list.add("age-chunk-bit-flipped", "One bit of the sealed content is another.", flipped(middle));
    list.add("age-chunk-cut", "The last chunk ends early.", bundle[..end - 1].to_vec());
    list.add("age-header-alone", "Nothing follows the header.", bundle[..header + 49].to_vec());
    list.add("age-header-cut", "The file ends in the header.", bundle[..header].to_vec());
    list.add("age-appended", "A zero follows the last chunk.", [bundle, &[0]].concat());
    list.add(
        "age-mac-bit-flipped",
        "One bit of the header's seal is another.",
        flipped(header + 8),
    );
    list.add("age-version-edited", "The first line says another version.", flipped(20));
    // By itself that is a bundle for somebody else.
    let about = "One bit of the recipient's part is another, and no summary tells it.";
    let share = bundle.windows(10).position(|part| part == b"-> X25519 ").unwrap_or_default() + 10;
    // One whose neighbour is in base64's alphabet too.
    let letter = bundle[share..].iter().position(|byte| (b'b'..=b'y').contains(byte));
    let stanza = flipped(share + letter.unwrap_or_default());
    list.add("age-recipient-bit-flipped", about, stanza.clone());
    list.as_class(ErrorKind::Encryption);
    let about = "One bit of the recipient's part is another.";
    list.told("age-recipient-bit-flipped-told", about, &stanza, sidecar);
    list.0
}

/// A bundle in small frames, and its summary; the same for each `n`.
fn small(n: u64) -> Outcome<(Vec<u8>, Vec<u8>)> {
    let bundle = Archive::of(&write(n, None)?.0)?.to_bundle(CUT)?;
    let mut file = tempfile::tempfile()?;
    file.write_all(&bundle)?;
    let digest = snapshot_core::Sha256Digest::of(&bundle);
    let sidecar = Bundle::open(file, Path::new("whole"))?.sidecar(digest, None).to_bytes()?;
    Ok((bundle, sidecar))
}

/// A bundle as the writer makes it, and its summary.
pub(crate) fn write(n: u64, recipients: Option<Recipients>) -> Outcome<(Vec<u8>, Vec<u8>)> {
    let info = recipients.as_ref().map(Recipients::info);
    let mut options = WriteOptions::new(INSTANT_MS);
    (options.threads, options.recipients) = (1, recipients);
    let out = tempfile::NamedTempFile::new()?;
    let mut writer = BundleWriter::new(out.reopen()?, &options, Control::default())?;
    let artifacts = put(&mut writer, n)?;
    let mut manifest = MemoryBundle::new().manifest;
    (manifest.snapshot_id, manifest.created_at_ms) = (SeqIds::nth(n), INSTANT_MS);
    (manifest.label, manifest.artifacts) = (Some(format!("snapshot {n}")), artifacts);
    let done = writer.finish(&manifest)?;
    let of = BundleFile {
        size_bytes: done.size_bytes,
        sha256: done.sha256,
        root_digest: done.root_digest,
        encryption: info,
    };
    let mut bytes = Vec::new();
    let mut file = out.reopen()?;
    file.rewind()?;
    io::copy(&mut file, &mut bytes)?;
    Ok((bytes, Sidecar::new(&manifest, of).to_bytes()?))
}

fn put(sink: &mut dyn ArtifactSink, n: u64) -> Outcome<Vec<Artifact>> {
    let path = |name: &str| BundlePath::parse(&format!("memory_files/{name}"));
    let lines = (0..80 + 20 * n).map(|line| format!("{line}: what snapshot {n} knows\n"));
    let files = [("large", lines.collect()), ("notes", String::new()), ("one", "1\n".repeat(9))];
    let mut artifacts = Vec::new();
    for (name, content) in files {
        let spec = FileSpec {
            path: path(name)?,
            kind: ArtifactKind::MemoryFile,
            size_bytes: content.len() as u64,
            mode: Some(0o600),
            mtime_ns: Some(1_600_000_000_123_456_789),
        };
        artifacts.push(sink.put_file(spec, &mut content.as_bytes())?);
    }
    let entries = [
        Artifact::dir(path("folder")?, 0o700, 0),
        Artifact::symlink(path("link")?, b"one".to_vec(), 0),
    ];
    for entry in entries {
        sink.put_entry(&entry)?;
        artifacts.push(entry);
    }
    Ok(artifacts)
}
