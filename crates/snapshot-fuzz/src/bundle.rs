//! Bundles: whole ones, crafted ones, and their tails.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;
use snapshot_bundle::{
    Bundle, BundleError, BundleWriter, FRAME_BYTES, Identities, SigningKey, Trust, VerifiedBundle,
    VerifyOptions, verify_file,
};
use snapshot_core::{
    Artifact, ArtifactKind, BundlePath, Control, ErrorKind, Manifest, Sha256Digest, path_in_bundle,
};

use crate::input::{Input, overwrite};
use crate::parts::{Item, Parts, compress, manifest_json, noise, options, seal};
use crate::scratch::file_of;

/// A key of nobody, as minisign writes it.
const KEY_FILE: &str = concat!(
    "untrusted comment: minisign secret key of nobody\n",
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAD0HL",
    "R/DLZdVgrLlFaQV21oIAmJtozbgGmaB8n4WvOMZZNnCrdVExCfYLoKEQ2gGhnhYbWwNc7JDwDOnM",
    "1NZ7HK79gV/fIctzAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "\n"
);
/// Most bytes of content for which other tools are asked, too.
const MAX_COMPARED: u64 = 16 << 20;
/// Most bytes of a mutated file.
const MAX_BYTES: usize = 8 << 20;
/// Where in the index the number of the manifest's frame stands, its size, and the places of the artifacts.
const MANIFEST_FRAME: usize = 8;
const MANIFEST_SIZE: usize = 16;
const PLACES: usize = 24;
/// Fields of an entry that a change aims at.
const FIELDS: [&str; 8] =
    ["path_in_bundle", "path_b64", "kind", "size_bytes", "sha256", "mode", "mtime_ns", "link"];
/// What is put there.
const VALUES: [&str; 12] = [
    "0",
    "1",
    "-1",
    "511",
    "512",
    "1048576",
    "18446744073709551615",
    "9223372036854775807",
    "null",
    "\"memory_files/../x\"",
    "\"memory_files/a\"",
    "\"memory_symlink\"",
];

/// A bundle with an entry of every kind, in few bytes.
static TEMPLATE: LazyLock<Parts> = LazyLock::new(|| template_of(false));

/// The same, signed.
static SIGNED: LazyLock<Parts> = LazyLock::new(|| template_of(true));

/// The key that signed it, which is of nobody.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::parse(KEY_FILE).expect("a key"));

fn template_of(signed: bool) -> Parts {
    let items = [
        Item::file("a", noise(700, 1)),
        Item::Dir { name: b"d".to_vec() },
        Item::Link { name: b"d/link".to_vec(), target: b"../a".to_vec() },
        Item::file("empty", ""),
        Item::file("text", "remember the milk\n".repeat(90)),
        Item::file(&format!("d/{}", "long".repeat(60)), "beyond ustar"),
    ];
    Parts::of(&written(&items, signed).expect("the template")).expect("the template's parts")
}

/// A bundle: the bytes as they are, or one made of them whose digests and tables fit what was changed.
pub(crate) fn bundle(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte() % 8;
    match how {
        0 | 4 => {
            judge(input.rest());
        }
        1 => crafted(TEMPLATE.clone(), &mut input),
        5 => crafted(SIGNED.clone(), &mut input),
        2 | 6 => {
            let mut parts = TEMPLATE.clone();
            parts.set_manifest(&String::from_utf8_lossy(input.rest())).expect("a frame in memory");
            judge(&parts.to_bytes());
        }
        _ => {
            let Some(bytes) = written(&items(&mut input), how == 7) else { return };
            assert!(judge(&bytes), "a bundle that was just written is not good");
            crafted(Parts::of(&bytes).expect("a written bundle's parts"), &mut input);
        }
    }
}

/// The end of a bundle, where a reader begins: index and seek table, behind frames that are whole.
pub(crate) fn seek_table(data: &[u8]) {
    let mut input = Input::new(data);
    let (frames, mut tail) = template();
    let bytes = match input.byte() % 4 {
        0 => [&frames, input.rest()].concat(),
        1 => input.rest().to_vec(),
        2 => Parts { index: input.rest().to_vec(), ..TEMPLATE.clone() }.to_bytes(),
        _ => {
            while !input.is_empty() {
                let at = input.below(tail.len());
                let count = 1 + input.below(8);
                overwrite(&mut tail, at, input.take(count));
            }
            [frames, tail].concat()
        }
    };
    judge(&bytes);
}

/// The template's frames, and what follows them.
pub(crate) fn template() -> (Vec<u8>, Vec<u8>) {
    let mut bytes = TEMPLATE.to_bytes();
    let tail = bytes.split_off(TEMPLATE.frames.iter().map(|(frame, _)| frame.len()).sum());
    (bytes, tail)
}

/// Reads `bytes` in every way there is; says whether it is a good bundle. The ways agree, faults have a
/// type that says so, and what is good is all there.
pub(crate) fn judge(bytes: &[u8]) -> bool {
    judge_with(bytes, &Identities::default())
}

/// As [`judge`], for what may be encrypted.
pub(crate) fn judge_with(bytes: &[u8], identities: &Identities) -> bool {
    let (path, control) = (Path::new("b.tar.zst"), Control::default());
    let trust = Trust { keys: vec![KEY.public()], required: false };
    let options = VerifyOptions { threads: 1, trust: Some(&trust), ..VerifyOptions::default() };
    let opened = Bundle::open_with(file_of(bytes), path, identities);
    let report = verify_file(file_of(bytes), path, identities, &options, &control);
    let (bundle, report) = match (opened, report) {
        (Ok(bundle), Ok(report)) => (bundle, report),
        (Err(e), report) => {
            is_typed(&e);
            let good = report.is_ok_and(|report| report.manifest_ok || report.per_artifact_ok);
            assert!(!good, "what does not open is reported as good: {e}");
            return false;
        }
        (Ok(_), Err(e)) => panic!("what opens cannot be verified: {e}"),
    };
    let manifest = bundle.manifest().clone();
    assert_eq!(Manifest::parse(bundle.manifest_bytes()).as_ref(), Ok(&manifest));
    let good = report.manifest_ok && report.per_artifact_ok && report.damage.is_empty();
    for artifact in &manifest.artifacts {
        let is_read = read(&bundle, artifact);
        assert!(is_read || !good, "verified as good, but {} cannot be read", artifact.path);
    }
    match bundle.into_verified(&options, &control) {
        Ok(verified) => {
            assert!(good, "{report:?}");
            tar_agrees(&verified);
        }
        Err(e) => {
            is_typed(&e);
            assert!(!good, "{e}");
        }
    }
    good
}

/// A fault of the bytes is not one of the disk, and none of ours.
fn is_typed(error: &BundleError) {
    let kinds = [ErrorKind::Integrity, ErrorKind::SchemaTooNew, ErrorKind::Encryption];
    assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
}

/// Whether an artifact can be read; if so it is what the manifest says.
fn read(bundle: &Bundle, artifact: &Artifact) -> bool {
    let mut content = Vec::new();
    let mut reader = match bundle.read(&artifact.path) {
        Ok(reader) => reader,
        Err(e) => {
            assert!(!artifact.kind.has_content(), "{e}");
            return true;
        }
    };
    // The size is no larger than the frames are, which the opening has checked.
    let ended = reader.read_to_end(&mut content);
    assert!(content.len() as u64 <= artifact.size_bytes, "more than the manifest says");
    match ended {
        Ok(_) => {
            assert_eq!(content.len() as u64, artifact.size_bytes);
            assert_eq!(Sha256Digest::of(&content), artifact.sha256);
            true
        }
        Err(e) => {
            let source = e.get_ref().and_then(|source| source.downcast_ref::<BundleError>());
            is_typed(source.expect("a fault of ours"));
            assert!(reader.read(&mut [0]).is_err(), "a reader goes on after a fault");
            false
        }
    }
}

/// What a good bundle holds is what stock tools find in it: other programs for zstd and tar.
fn tar_agrees(verified: &VerifiedBundle) {
    let bundle = verified.bundle();
    let manifest = bundle.manifest();
    if bundle.encryption().is_some() || manifest.total_bytes() > MAX_COMPARED {
        return;
    }
    // The crate `tar` ends a record of a PAX entry at the first line end; GNU tar goes by its length.
    let has_lines = |artifact: &Artifact| {
        let link = artifact.link.as_deref().unwrap_or_default();
        artifact.path.as_bytes().contains(&b'\n') || link.contains(&b'\n')
    };
    if manifest.artifacts.iter().any(has_lines) {
        return;
    }
    let resealed = bundle.reseal(Vec::new(), None, &Control::default()).expect("a plain copy");
    let stream = zstd::decode_all(&resealed.out[..]).expect("stock zstd reads it");
    let mut archive = tar::Archive::new(&stream[..]);
    let mut entries = archive.entries().expect("stock tar reads it");
    for artifact in &manifest.artifacts {
        let mut entry = entries.next().expect("as many entries").expect("a sound entry");
        let is_dir = artifact.kind == ArtifactKind::MemoryDir;
        let path = entry.path_bytes().into_owned();
        let path = path.strip_suffix(b"/").filter(|_| is_dir).unwrap_or(&path);
        assert_eq!(path, artifact.path.as_bytes());
        assert_eq!(entry.size(), artifact.size_bytes);
        assert_eq!(entry.link_name_bytes().map(|link| link.into_owned()), artifact.link);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        if artifact.kind.has_content() {
            assert_eq!(Sha256Digest::of(&content), artifact.sha256);
        }
    }
    let last = entries.next().expect("a manifest").expect("a sound entry");
    let name = last.path().expect("its name").as_os_str().as_bytes().to_vec();
    assert_eq!(name, path_in_bundle::MANIFEST.as_bytes());
    let more = entries.filter(|entry| entry.is_ok()).count();
    assert_eq!(more, usize::from(bundle.signature().is_some()));
}

/// Things to put into a bundle, some of which it does not take.
fn items(input: &mut Input<'_>) -> Vec<Item> {
    let count = input.below(6);
    let mut items = Vec::new();
    for _ in 0..count {
        let kind = input.byte();
        let repeat = if kind & 0x80 == 0 { 1 } else { 30 };
        let name = input.bytes().repeat(repeat);
        if BundlePath::from_bytes(&[b"memory_files/", name.as_slice()].concat()).is_err() {
            continue;
        }
        items.push(match kind % 8 {
            0 => Item::Dir { name },
            1 => Item::Link { name, target: input.bytes().repeat(repeat) },
            2 => Item::File {
                name,
                content: noise(FRAME_BYTES + input.below(1 << 16), 3),
                mode: 0o600,
                mtime_ns: 0,
            },
            _ => Item::File {
                name,
                content: input.bytes().repeat(repeat),
                mode: u32::try_from(input.number::<2>() & 0o7777).unwrap_or_default(),
                mtime_ns: input.number::<8>().cast_signed(),
            },
        });
    }
    items
}

/// The bundle of these items, where they make one.
fn written(items: &[Item], signed: bool) -> Option<Vec<u8>> {
    let mut writer = BundleWriter::new(Vec::new(), &options(1), Control::default()).ok()?;
    let mut artifacts = Vec::new();
    for item in items {
        artifacts.push(item.put(&mut writer).ok()?);
    }
    let mut manifest = Manifest::parse(manifest_json(&artifacts).to_string().as_bytes()).ok()?;
    let key = signed.then(|| &*KEY);
    let Manifest { tenant, agent_id, snapshot_id, created_at_ms, created_by, .. } = &manifest;
    manifest.attestation =
        key.map(|key| key.attest(tenant, agent_id, *snapshot_id, *created_at_ms, created_by));
    Some(writer.finish_signed(&manifest, key).ok()?.out)
}

/// The key of the signed template.
pub(crate) fn signing_key() -> &'static SigningKey {
    &KEY
}

/// Changes parts by what the input says, puts them together and judges that.
fn crafted(mut parts: Parts, input: &mut Input<'_>) {
    let mut only_cut = true;
    let mut changes = 0;
    while !input.is_empty() && changes < 64 {
        changes += 1;
        let change = input.byte() % 8;
        only_cut &= change == 0;
        let frame = input.below(parts.frames.len());
        match change {
            0 => cut(&mut parts, frame, input.number::<4>()),
            1 => change_manifest(&mut parts, input),
            2 => change_content(&mut parts, frame, input),
            3 => {
                let at = input.below(parts.frames[frame].0.len());
                overwrite(&mut parts.frames[frame].0, at, input.bytes());
            }
            4 => {
                let at = input.below(parts.index.len());
                overwrite(&mut parts.index, at, input.bytes());
            }
            5 => parts.frames[frame].0.extend_from_slice(input.bytes()),
            6 => {
                let with = input.below(parts.frames.len());
                parts.frames.swap(frame, with);
            }
            _ => {
                let copy = (compressed(input.bytes()), usize::from(input.byte()));
                parts.frames.insert(frame, copy);
            }
        }
        if parts.frames.iter().map(|(frame, _)| frame.len()).sum::<usize>() > MAX_BYTES {
            return;
        }
    }
    let good = judge(&parts.to_bytes());
    assert!(good || !only_cut, "a bundle that was cut elsewhere is no worse");
}

/// Cuts a frame in two: readers do not rely on where the writer cuts.
fn cut(parts: &mut Parts, frame: usize, at: u64) {
    let Some(content) = content_of(&parts.frames[frame].0) else { return };
    if content.len() < 2 {
        return;
    }
    let at = 1 + usize::try_from(at).unwrap_or_default() % (content.len() - 1);
    let (left, right) = content.split_at(at);
    parts.frames[frame] = (compressed(left), left.len());
    parts.frames.insert(frame + 1, (compressed(right), right.len()));
    // The manifest's entry starts its frame, so of that one only the number may change.
    move_place(&mut parts.index, MANIFEST_FRAME, frame, 0, at);
    for place in (PLACES..parts.index.len().saturating_sub(7)).step_by(8) {
        let offset = word(&parts.index, place + 4).unwrap_or_default();
        if let Some(offset) = move_place(&mut parts.index, place, frame, offset, at) {
            put_word(&mut parts.index, place + 4, offset);
        }
    }
}

/// A frame of our own making.
fn compressed(content: &[u8]) -> Vec<u8> {
    compress(content).expect("a frame in memory")
}

/// The number of a frame at `place` of the index after a cut; gives the new offset where that changed.
fn move_place(
    index: &mut [u8],
    place: usize,
    frame: usize,
    offset: usize,
    at: usize,
) -> Option<usize> {
    let number = word(index, place)?;
    let is_behind = number > frame || number == frame && offset >= at;
    if is_behind {
        put_word(index, place, number + 1);
    }
    (is_behind && number == frame).then(|| offset - at)
}

/// Puts a value into the manifest that is no such thing, or bytes over its text.
fn change_manifest(parts: &mut Parts, input: &mut Input<'_>) {
    let Some(text) = manifest_text(parts) else { return };
    if input.byte().is_multiple_of(2) {
        let mut text = text.into_bytes();
        let at = input.below(text.len());
        overwrite(&mut text, at, input.bytes());
        parts.set_manifest(&String::from_utf8_lossy(&text)).expect("a frame in memory");
        return;
    }
    let Ok(mut json) = serde_json::from_str::<Value>(&text) else { return };
    let (artifact, field) = (input.byte(), FIELDS[input.below(FIELDS.len())]);
    let value = serde_json::from_str(VALUES[input.below(VALUES.len())]).expect("a value");
    if let Some(artifacts) = json["artifacts"].as_array_mut().filter(|all| !all.is_empty()) {
        let artifact = usize::from(artifact) % artifacts.len();
        if artifacts[artifact].is_object() {
            artifacts[artifact][field] = value;
        }
    }
    parts.set_manifest(&json.to_string()).expect("a frame in memory");
}

/// Writes over a frame's content; a header block gets its checksum again.
fn change_content(parts: &mut Parts, frame: usize, input: &mut Input<'_>) {
    let Some(mut content) = content_of(&parts.frames[frame].0) else { return };
    let at = input.below(content.len());
    let is_header = input.byte().is_multiple_of(2);
    overwrite(&mut content, at, input.bytes());
    let block = at / 512 * 512;
    if let Some(header) = content.get_mut(block..block + 512).filter(|_| is_header) {
        seal(header);
    }
    parts.set_content(frame, &content).expect("a frame in memory");
}

/// The manifest's text, where all of it lies in its frame.
fn manifest_text(parts: &Parts) -> Option<String> {
    let number = word(&parts.index, MANIFEST_FRAME)?;
    let content = content_of(&parts.frames.get(number)?.0)?;
    let size = word(&parts.index, MANIFEST_SIZE)?;
    String::from_utf8(content.get(512..)?.get(..size)?.to_vec()).ok()
}

/// What a frame of ours holds.
fn content_of(frame: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::decompress(frame, FRAME_BYTES).ok()
}

fn word(index: &[u8], place: usize) -> Option<usize> {
    let word = index.get(place..place + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(word)).ok()
}

fn put_word(index: &mut [u8], place: usize, number: usize) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    overwrite(index, place, &number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a target whose own bundles are refused at once, so that it tries nothing but refusals.
    #[test]
    fn what_others_are_made_of_is_good() {
        assert!(judge(&TEMPLATE.to_bytes()) && judge(&SIGNED.to_bytes()));
        let mut parts = SIGNED.clone();
        (0..4).for_each(|number| cut(&mut parts, 0, 100 + number));
        assert!(judge(&parts.to_bytes()));
        change_manifest(&mut parts, &mut Input::new(&[1, 0, 3, 1]));
        assert!(!judge(&parts.to_bytes()));
    }
}
