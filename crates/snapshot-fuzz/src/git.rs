//! Git bundles: any bytes, packs whose digests are right, and histories of made-up objects.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use git2::{ObjectType, Oid};
use sha1::{Digest as _, Sha1};
use snapshot_bundle::redact::{KnownSecrets, Replacer, Rules, Search};
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink as _, BundlePath, Control, ErrorKind, FileSpec,
    GitHistory, GitInfo, GitOid, GitRef, GitStash, PathInside, SnapshotId, TreeEntryKind,
    error_chain, path_in_bundle,
};
use snapshot_fs::Dir;
use snapshot_stores::StoresError;
use snapshot_stores::git::{self, GitProgress, History};
use snapshot_testkit::MemoryBundle;

use crate::input::{Input, overwrite};
use crate::scratch::Scratch;

/// Largest object that is taken: small, so that one that is let through shows.
const MAX_OBJECT: u64 = 1 << 20;
/// First line of a bundle.
const SIGNATURE: &str = "# v2 git bundle\n";
/// Ids that an input may name refs by.
const REFS: [&str; 10] = [
    "refs/heads/main",
    "refs/heads/side",
    "refs/tags/v1",
    "refs/remotes/origin/main",
    "refs/notes/commits",
    "refs/heads/main/below",
    "refs/heads/a.lock",
    "refs/../config",
    "refs/stash",
    "HEAD",
];
/// Names of tree entries, sound and not.
const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"a.md",
    b"notes",
    b".git",
    b"..",
    b"",
    b"a/b",
    b"git~1",
    b".gitmodules",
    b".gitattributes",
    b"\xff",
];
/// Their modes.
const MODES: [&str; 8] =
    ["100644", "100755", "40000", "120000", "160000", "100664", "040000", "777"];

/// Describes a history of two commits, with a tag and a stash.
pub(crate) const HISTORY: &[u8] =
    b"\x07\x00\x05hello\x00\x08hello ab\x00\x02\x02\x00\x00\x01\x01\x01\
        \x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02hi\
        \x00\x03new\x01\x02\x02\x02\x02\x04\x00\x01\x00\x06\x03\x01v\
        \x04\x01\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x02ho\x01\
        \x00\x02\x02\x06\x04\x00\x03\x00";

static RULES: LazyLock<std::sync::Arc<Rules>> = LazyLock::new(Rules::builtin);

/// The git history of a bundle, and what its manifest says of it.
pub(crate) fn git_bundle(data: &[u8]) {
    let mut input = Input::new(data);
    let (bytes, info) = match input.byte() % 4 {
        0 => (input.rest().to_vec(), listed(input.rest())),
        1 => {
            let bytes = with_trailer(input.rest());
            let info = listed(&bytes);
            (bytes, info)
        }
        2 => made(&mut input),
        _ => {
            let (mut bytes, info) = made(&mut input);
            let at = input.below(bytes.len());
            overwrite(&mut bytes, at, input.rest());
            (bytes, info)
        }
    };
    take(&bytes, &info);
}

/// Everything that is done with a history: staged for a restore, looked into, searched, redacted, put
/// into a repository.
///
/// Says whether it was taken.
fn take(bytes: &[u8], info: &GitInfo) -> bool {
    let scratch = Scratch::new();
    let staged = scratch.sub("staged");
    let control = Control::default();
    if let Err(e) = git::stage(Some(&mut &*bytes), info, &staged, MAX_OBJECT, &control) {
        is_typed(&e);
        scratch.finish();
        return false;
    }
    let memdir = scratch.sub("mem");
    if bytes.len().is_multiple_of(2) {
        let (bytes, info) = made(&mut Input::new(HISTORY));
        let before = scratch.sub("before");
        git::stage(Some(&mut &*bytes), &info, &before, MAX_OBJECT, &control).expect("a history");
        put(&memdir, &before, &info, 6);
    }
    put(&memdir, &staged, info, 7);
    browse(&scratch, bytes, info);
    let search = Search::new(RULES.as_ref());
    let scanned = git::scan_history(
        Some(&mut &*bytes),
        info,
        &scratch.sub("scan"),
        &search,
        MAX_OBJECT,
        &control,
        &mut |_, _| {},
    );
    scanned.expect("what was staged can be searched");
    let known = KnownSecrets::new();
    let replacer = Replacer::new(RULES.as_ref(), &known, [1; 32]);
    let how = [GitHistory::Rewrite, GitHistory::HeadOnly][bytes.len() % 2];
    let spool = scratch.sub("redact");
    let redacted =
        git::redact_history(Some(&mut &*bytes), info, how, &replacer, &spool, MAX_OBJECT, &control);
    if let Err(e) = redacted {
        is_typed(&e);
    }
    scratch.finish();
    true
}

/// Puts a staged history into place. By then something live has changed: what fails here leaves an agent half
/// restored.
fn put(memdir: &Dir, staged: &Dir, info: &GitInfo, id: u8) {
    let now = git::open(memdir.path()).expect("a repository or none");
    let now = now.map(|repo| repo.pin().expect("what was put into place can be read"));
    let (_, targets) = git::plan(now.as_ref(), info);
    let id = SnapshotId::from_random_bytes([id; 16]);
    if let Err(e) = git::apply(memdir, staged, &targets, id, &Control::default()) {
        panic!("what was staged cannot be put into place: {}", error_chain(&e));
    }
    let progress = git::progress(memdir.path(), &targets).expect("a repository");
    assert_eq!(progress, GitProgress::After, "what was put back is not there");
}

/// Every entry of every tip, and every file's content.
fn browse(scratch: &Scratch, bytes: &[u8], info: &GitInfo) {
    let mut source = MemoryBundle::new();
    let path = BundlePath::parse(path_in_bundle::GIT_BUNDLE).expect("a path");
    let spec = FileSpec {
        path,
        kind: ArtifactKind::GitBundle,
        size_bytes: bytes.len() as u64,
        mode: None,
        mtime_ns: None,
    };
    let _: Artifact = source.put_file(spec, &mut &*bytes).expect("an artifact");
    source.manifest.git = Some(info.clone());
    let control = Control::default();
    let history = History::open(&source, &scratch.sub("browse"), MAX_OBJECT, &control);
    let history = history.expect("what was staged can be looked into");
    for name in std::iter::once("HEAD").chain(info.refs.iter().map(|r| r.name.as_str())) {
        let Ok(PathInside::Git(at)) = format!("git:{name}").parse() else { continue };
        match history.entries(&at) {
            Ok(entries) => {
                let files = entries.iter().filter(|entry| entry.kind == TreeEntryKind::File);
                for file in files.take(64) {
                    let content = history.content(file).expect("a file that was checked");
                    assert_eq!(content.len() as u64, file.size_bytes);
                }
            }
            Err(e) => is_typed(&e),
        }
    }
}

/// A fault of the bytes is not one of the disk, and none of ours.
fn is_typed(error: &StoresError) {
    let kinds = [ErrorKind::Integrity, ErrorKind::Refused, ErrorKind::UnknownSnapshot];
    let why = error_chain(error);
    assert!(kinds.contains(&error.kind()), "{:?}: {why}", error.kind());
}

/// What a manifest would say that fits the header of these bytes, as far as it is one.
fn listed(bytes: &[u8]) -> GitInfo {
    let mut info = GitInfo::default();
    let header = bytes.split(|&byte| byte == b'\n').skip(1).take_while(|line| !line.is_empty());
    for line in header.take(100) {
        let Some((oid, name)) = std::str::from_utf8(line).ok().and_then(|l| l.split_once(' '))
        else {
            continue;
        };
        let Ok(oid) = oid.parse::<GitOid>() else { continue };
        match (name, name.strip_prefix("refs/nexo/stash/")) {
            ("HEAD", _) => info.head_oid = Some(oid),
            (_, Some(_)) => info.stash.push(GitStash { oid, message: "x".to_owned() }),
            _ => info.refs.push(GitRef { name: name.to_owned(), oid: Some(oid), target: None }),
        }
    }
    let main = info.refs.iter().find(|r| r.oid == info.head_oid);
    info.head_ref = main.map(|main| main.name.clone());
    info
}

/// Bytes whose end is made the digest of the pack in them.
fn with_trailer(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let start = bytes.windows(2).position(|two| two == b"\n\n").map_or(bytes.len(), |at| at + 2);
    if bytes.len() >= start + 20 {
        let end = bytes.len() - 20;
        let digest = Sha1::digest(&bytes[start..end]);
        bytes[end..].copy_from_slice(&digest);
    }
    bytes
}

/// An object of a made-up history.
struct Made {
    kind: ObjectType,
    content: Vec<u8>,
    oid: Oid,
}

/// A bundle of objects that the input describes, with refs that lead to them.
fn made(input: &mut Input<'_>) -> (Vec<u8>, GitInfo) {
    let mut pack = Vec::new();
    let mut objects: Vec<Made> = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..1 + input.below(24) {
        let (kind, content) = object(input, &objects);
        let oid = Oid::hash_object(kind, &content).expect("an id");
        if !seen.insert(oid) {
            continue;
        }
        // Of another object of its kind, or whole.
        let base = objects.iter().rev().find(|made| made.kind == kind);
        match base.filter(|_| input.byte().is_multiple_of(4)) {
            Some(base) => pack.extend(delta_entry(base, &content)),
            None => pack.extend(entry(number_of(kind), &content, &[])),
        }
        objects.push(Made { kind, content, oid });
    }
    let count = u32::try_from(objects.len()).expect("a small number");
    let pack = [&b"PACK\0\0\0\x02"[..], &count.to_be_bytes(), &pack].concat();
    let info = refs(input, &objects);
    let mut header = SIGNATURE.to_owned();
    let head = info.head_oid.iter().map(|oid| (oid, "HEAD".to_owned()));
    let direct = info.refs.iter().filter_map(|r| Some((r.oid.as_ref()?, r.name.clone())));
    let stash = info.stash.iter().enumerate();
    let stash = stash.map(|(n, entry)| (&entry.oid, format!("refs/nexo/stash/{n}")));
    for (oid, name) in head.chain(direct).chain(stash) {
        header.push_str(&format!("{oid} {name}\n"));
    }
    let bytes = [header.as_bytes(), b"\n", &pack, &Sha1::digest(&pack)].concat();
    (bytes, info)
}

/// The bundle that [`git_bundle`] makes of this description.
pub(crate) fn bytes_of(description: &[u8]) -> Vec<u8> {
    made(&mut Input::new(description)).0
}

/// Kind and content of an object, which may name earlier ones.
fn object(input: &mut Input<'_>, earlier: &[Made]) -> (ObjectType, Vec<u8>) {
    match input.byte() % 8 {
        0 | 1 => (ObjectType::Blob, input.bytes().to_vec()),
        2 | 3 => (ObjectType::Tree, tree(input, earlier)),
        4 | 5 => (ObjectType::Commit, commit(input, earlier)),
        6 => {
            let of = input.below(earlier.len());
            let (kind, oid) =
                earlier.get(of).map_or((ObjectType::Commit, Oid::ZERO_SHA1), |o| (o.kind, o.oid));
            let mut text = format!(
                "object {oid}\ntype {}\ntag v1\ntagger A <a@b> 1700000000 +0000\n\n",
                kind.str()
            );
            text.push_str(&String::from_utf8_lossy(input.bytes()));
            (ObjectType::Tag, text.into_bytes())
        }
        _ => {
            let kinds = [ObjectType::Blob, ObjectType::Tree, ObjectType::Commit, ObjectType::Tag];
            (*input.pick(&kinds), input.bytes().to_vec())
        }
    }
}

fn tree(input: &mut Input<'_>, earlier: &[Made]) -> Vec<u8> {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..input.below(6) {
        let made = earlier.get(input.below(earlier.len()));
        let oid = made.map_or(Oid::ZERO_SHA1, |made| made.oid);
        let how = input.byte();
        let mode = match (how & 0x80 != 0, made.map(|made| made.kind)) {
            (true, _) => MODES[usize::from(how) % MODES.len()],
            (false, Some(ObjectType::Tree)) => "40000",
            (false, Some(ObjectType::Commit)) => "160000",
            (false, _) => "100644",
        };
        let name = match how & 0x40 != 0 {
            true => input.bytes().to_vec(),
            false => NAMES[usize::from(how) % NAMES.len()].to_vec(),
        };
        let entry = [mode.as_bytes(), b" ", &name, b"\0", oid.as_bytes()].concat();
        // As git sorts them: a folder as if its name ended in a slash.
        entries.push(([&name[..], if mode == "40000" { b"/" } else { b"" }].concat(), entry));
    }
    if !input.byte().is_multiple_of(8) {
        entries.sort();
        entries.dedup_by(|a, b| a.0 == b.0);
    }
    entries.into_iter().flat_map(|(_, entry)| entry).collect()
}

fn commit(input: &mut Input<'_>, earlier: &[Made]) -> Vec<u8> {
    let last = |kind| earlier.iter().rev().find(|made| made.kind == kind).map(|made| made.oid);
    let tree = last(ObjectType::Tree).unwrap_or(Oid::ZERO_SHA1);
    let mut text = format!("tree {tree}\n");
    let commits: Vec<Oid> = earlier
        .iter()
        .filter(|made| made.kind == ObjectType::Commit)
        .map(|made| made.oid)
        .collect();
    for _ in 0..input.below(3).min(commits.len()) {
        text.push_str(&format!("parent {}\n", commits[input.below(commits.len())]));
    }
    let how = input.byte();
    match how % 4 {
        0 => text.push_str(&String::from_utf8_lossy(input.bytes())),
        _ => text.push_str(&format!(
            "author A <a@b> {} +0000\ncommitter A <a@b> 1700000000 -0330\n",
            input.number::<8>()
        )),
    }
    if how & 0x10 != 0 {
        text.push_str("encoding latin1\ngpgsig x\n y\n");
    }
    text.push('\n');
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(input.bytes());
    bytes
}

/// Refs to the objects, HEAD among them, and what else a manifest says of a repository.
fn refs(input: &mut Input<'_>, objects: &[Made]) -> GitInfo {
    let oid = |at: usize| objects[at].oid.to_string().parse::<GitOid>().expect("an id");
    let last = objects.len() - 1;
    let mut info = GitInfo::default();
    let main = GitRef { name: REFS[0].to_owned(), oid: Some(oid(last)), target: None };
    if input.byte() % 4 != 3 {
        info.head_oid = Some(oid(last));
        info.head_ref = Some(main.name.clone());
        info.refs.push(main);
    }
    for _ in 0..input.below(4) {
        let (name, at) = (input.pick(&REFS).to_string(), input.below(objects.len()));
        match input.byte() % 8 {
            0 => info.stash.push(GitStash { oid: oid(at), message: "x".to_owned() }),
            1 => info.shallow.push(oid(at)),
            2 => {
                let target = Some(input.pick(&REFS).to_string());
                info.refs.push(GitRef { name, oid: None, target });
            }
            3 => {
                let name = String::from_utf8_lossy(input.bytes()).into_owned();
                info.refs.push(GitRef { name, oid: Some(oid(at)), target: None });
            }
            _ => info.refs.push(GitRef { name, oid: Some(oid(at)), target: None }),
        }
    }
    info
}

/// An object in a pack that says how it differs from another: what both begin with, and the rest.
fn delta_entry(base: &Made, content: &[u8]) -> Vec<u8> {
    let same = base.content.iter().zip(content).take_while(|(a, b)| a == b).count().min(0xffff);
    let mut delta = [varint(base.content.len()), varint(content.len())].concat();
    if same > 0 {
        // Copy from 0 on, a length of two bytes.
        let length = u16::try_from(same).expect("a small number").to_le_bytes();
        delta.extend([0xb0, length[0], length[1]]);
    }
    for part in content[same..].chunks(127) {
        delta.push(u8::try_from(part.len()).expect("a small number"));
        delta.extend_from_slice(part);
    }
    entry(7, &delta, base.oid.as_bytes())
}

/// An entry of a pack: kind and length, what it is based on, its content.
fn entry(kind: u8, content: &[u8], base: &[u8]) -> Vec<u8> {
    let length = content.len();
    let low = u8::try_from(length & 0x0f).expect("four bits");
    let mut bytes = match length >> 4 {
        0 => vec![kind << 4 | low],
        high => [vec![0x80 | kind << 4 | low], varint(high)].concat(),
    };
    bytes.extend_from_slice(base);
    let mut encoder = ZlibEncoder::new(bytes, Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

/// Seven bits a byte, low ones first.
fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn number_of(kind: ObjectType) -> u8 {
    match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Tag => 4,
        ObjectType::Any | ObjectType::Blob => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: made-up histories that are all refused, so that nothing behind the checks is tried.
    #[test]
    fn made_up_histories_are_taken_and_one_that_escapes_is_not() {
        let is_taken = |seed: &str| {
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/fuzz/git_bundle/");
            let data = std::fs::read(format!("{dir}{seed}")).unwrap();
            let (bytes, info) = made(&mut Input::new(&data[1..]));
            take(&bytes, &info)
        };
        assert!(is_taken("one_commit"));
        assert!(is_taken("two_commits_a_tag_and_a_stash"));
        assert!(!is_taken("a_tree_that_escapes"));
    }
}
