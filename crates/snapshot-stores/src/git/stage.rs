//! An untrusted git bundle, checked and unpacked into a staging folder: nothing of it reaches a
//! repository before every object was hashed, parsed and found connected.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Seek as _, Write as _};
use std::path::Path;

use git2::{ErrorClass, Indexer, Odb, Oid, Repository};
use snapshot_core::mutants::{holds, off};
use snapshot_core::{Control, GitInfo, GitOid};
use snapshot_fs::Dir;

use super::bundle::SIGNATURE;
use super::head;
use super::info::{bundle_refs, check, oid};
use super::limits;
use super::pack;
use super::walk::{Seen, Walk, Walked};
use crate::StoresError;

/// Longest line of a header: an id, a space, a ref's name.
const MAX_LINE_BYTES: u64 = 4096;
/// Bytes handed to libgit2 at once.
const CHUNK_BYTES: usize = 1 << 16;
/// Name of the raw pack in the staging folder.
const INCOMING: &str = "incoming";
/// The object folder in the staging folder, as git lays it out.
pub(super) const PACKS: &str = "objects/pack";

/// Where git keeps what it shows instead of an object.
const REPLACE_REFS: &str = "refs/replace/";

/// What sees the objects of a bundle.
pub(super) type Visitor<'v> = dyn FnMut(&Walk<'_>, &Seen<'_>) -> Result<(), StoresError> + 'v;

/// Checks the git bundle of a snapshot against `info` from its manifest and unpacks it into the
/// empty folder `into`, durably. `bundle` is none where [`super::has_bundle`] says so.
///
/// # Errors
/// [`StoresError::GitBundle`] and [`StoresError::GitObject`] for whatever is not sound,
/// [`StoresError::GitObjectTooLarge`] past `max_object_bytes`.
pub fn stage(
    bundle: Option<&mut dyn Read>,
    info: &GitInfo,
    into: &Dir,
    max_object_bytes: u64,
    control: &Control,
) -> Result<(), StoresError> {
    unpack(bundle, info, into, max_object_bytes, control, &mut |_, _| Ok(()))?;
    Ok(into.sync_fs()?)
}

/// As [`stage`], but for a folder that nobody needs after a crash, and with a visitor: it sees each
/// object once, hashed, but before all are found connected.
pub(super) fn unpack(
    bundle: Option<&mut dyn Read>,
    info: &GitInfo,
    into: &Dir,
    max_object_bytes: u64,
    control: &Control,
    visit: &mut Visitor<'_>,
) -> Result<(), StoresError> {
    check(info)?;
    let refs = bundle_refs(info);
    let Some(bundle) = bundle else {
        return match refs.is_empty() {
            true => Ok(()),
            false => Err(bad("the manifest names refs, but there is no bundle")),
        };
    };
    limits::set().map_err(StoresError::git("set limits", into.path()))?;
    let packs = into.make_path(PACKS, 0o700)?;
    let mut bundle = BufReader::with_capacity(CHUNK_BYTES, bundle);
    check_header(&mut bundle, &refs)?;
    let objects = take_pack(&mut bundle, (into, &packs), max_object_bytes, control)?;
    check_objects(into, info, (objects, max_object_bytes), control, visit)
}

/// The header must list exactly the refs of the manifest, in any order, and no prerequisites.
fn check_header(
    bundle: &mut impl BufRead,
    refs: &BTreeMap<String, GitOid>,
) -> Result<(), StoresError> {
    if line(bundle)? != SIGNATURE {
        return Err(bad("it is not a git bundle of version 2"));
    }
    let mut missing: BTreeMap<&str, &GitOid> = refs.iter().map(|(n, o)| (n.as_str(), o)).collect();
    loop {
        let line = line(bundle)?;
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(bad("its header is cut off or has a line over 4096 bytes"));
        };
        if line.is_empty() {
            break;
        }
        if line.starts_with(b"-") {
            return Err(bad("it needs commits that it does not hold"));
        }
        let listed = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' '));
        let (oid, name) = listed.ok_or_else(|| bad("its header is malformed"))?;
        if !holds(missing.remove(name).is_some_and(|expected| expected.as_str() == oid)) {
            return Err(bad(&format!("its ref {name:?} is not the manifest's")));
        }
    }
    match missing.keys().next() {
        Some(name) if !off() => Err(bad(&format!("it lacks the manifest's ref {name:?}"))),
        _ => Ok(()),
    }
}

fn line(bundle: &mut impl BufRead) -> Result<Vec<u8>, StoresError> {
    let mut line = Vec::new();
    bundle
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', &mut line)
        .map_err(StoresError::io("read", "git/memory.bundle"))?;
    Ok(line)
}

/// Takes somebody's pack into the folder `packs` once it is found to be bounded, and returns how many objects it
/// says it has; on its way it lies in `work`.
pub(super) fn take_pack(
    pack: &mut dyn Read,
    (work, packs): (&Dir, &Dir),
    max_object_bytes: u64,
    control: &Control,
) -> Result<u32, StoresError> {
    let mut incoming = work.create_new(INCOMING, 0o600)?;
    let at = incoming.path().to_owned();
    io::copy(pack, &mut incoming).map_err(StoresError::io("unpack the bundle to", &at))?;
    let mut incoming = incoming.into_reader()?;
    let objects = pack::check(&mut incoming, max_object_bytes, control)?;
    incoming.rewind().map_err(StoresError::io("rewind", &at))?;
    index(&mut incoming, packs, control)?;
    work.unlink(INCOMING)?;
    Ok(objects)
}

/// Lets libgit2 hash every object and write the pack with its index.
fn index(incoming: &mut impl Read, packs: &Dir, control: &Control) -> Result<(), StoresError> {
    let path = packs.path();
    packs.durable_fs().external("index the git history", path)?;
    let fail = || StoresError::git("unpack the bundle", path);
    let mut indexer = Indexer::new(None, path, 0o444, false).map_err(fail())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        control.check().map_err(StoresError::stopped("unpacking the git history"))?;
        let got = incoming.read(&mut chunk).map_err(StoresError::io("read", path))?;
        if got == 0 {
            break;
        }
        indexer.write_all(&chunk[..got]).map_err(|e| match e.downcast() {
            Ok(e) => refused(e, path),
            Err(e) => StoresError::io("unpack", path)(e),
        })?;
    }
    // Resolving deltas takes its time; whoever waits may give up.
    indexer.progress(|_| control.check().is_ok());
    let indexed = indexer.commit();
    control.check().map_err(StoresError::stopped("unpacking the git history"))?;
    indexed.map_err(|e| refused(e, path))?;
    Ok(())
}

/// Why libgit2 does not take a pack: what the operating system refused is no fault of the pack.
fn refused(error: git2::Error, path: &Path) -> StoresError {
    match error.class() {
        ErrorClass::Os => StoresError::git("unpack the bundle", path)(error),
        _ => bad(&format!("its pack is damaged: {}", error.message())),
    }
}

/// Every object must be sound and reached from a ref, and every object that one names be there.
fn check_objects(
    into: &Dir,
    info: &GitInfo,
    (objects, max_object_bytes): (u32, u64),
    control: &Control,
    visit: &mut Visitor<'_>,
) -> Result<(), StoresError> {
    let path = into.path().join("objects");
    let fail = || StoresError::git("read the unpacked bundle", &path);
    let odb = open_objects(&[into.path()]).map_err(fail())?;
    let shallow = info.shallow.iter().map(oid).collect::<Result<_, _>>()?;
    let tips = bundle_refs(info).values().map(oid).collect::<Result<Vec<_>, _>>()?;
    let walk = Walk { odb: &odb, path: &path, shallow: &shallow, max_object_bytes, control };
    let walked = walk.run(tips, |seen| visit(&walk, seen)).map_err(|e| match e {
        StoresError::GitVanished { oid, .. } => bad(&format!("it lacks object {oid}")),
        e => e,
    })?;
    if let Some((oid, why)) = walked.escaping.first()
        && !off()
    {
        return Err(walk.bad(*oid, why.clone()));
    }
    if !holds(usize::try_from(objects) == Ok(walked.objects.len())) {
        return Err(bad("it holds objects that no ref leads to"));
    }
    if let Some(why) = replaces_others(&walked, info) {
        return Err(bad(&why));
    }
    let repo = open_objects(&[into.path()]).and_then(Repository::from_odb).map_err(fail())?;
    head::check(&walk, &repo, info)
}

/// Why a restore refuses the refs of `info`, if it does: git shows what such a ref says instead of an
/// object, and may be told that of the bundle's own objects only, never of what a repository holds already.
pub(super) fn replaces_others(walked: &Walked, info: &GitInfo) -> Option<String> {
    let mut replaced = info.refs.iter().filter_map(|r| r.name.strip_prefix(REPLACE_REFS));
    let is_own = |id: &&str| Oid::from_str(id).is_ok_and(|id| walked.objects.contains_key(&id));
    let other = replaced.find(|id| !is_own(id))?;
    Some(format!("its ref \"{REPLACE_REFS}{other}\" replaces what it does not hold"))
}

/// The objects of folders that [`stage`] filled, as if they were one repository's.
pub(crate) fn open_objects(staged: &[&Path]) -> Result<Odb<'static>, git2::Error> {
    let odb = Odb::new()?;
    for path in staged {
        let path = path.join("objects");
        let text = path.to_str().ok_or_else(|| git2::Error::from_str("its path is not UTF-8"))?;
        odb.add_disk_alternate(text)?;
    }
    Ok(odb)
}

fn bad(why: &str) -> StoresError {
    StoresError::GitBundle { why: why.to_owned() }
}
