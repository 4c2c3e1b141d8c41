//! Writing what was pinned as a real git bundle (version 2).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use git2::{ConfigLevel, ErrorCode, ObjectType, PackBuilder, Repository, RepositoryState};
use snapshot_core::{Control, GitInfo, NotCarried};
use snapshot_fs::Dir;

use super::head;
use super::info::{bundle_refs, oid};
use super::open::GitRepo;
use super::pack;
use super::pin::PinnedGit;
use super::stage::replaces_others;
use super::walk::Walk;
use crate::StoresError;

/// First line of a bundle.
pub(super) const SIGNATURE: &[u8] = b"# v2 git bundle\n";
/// Names in the spool.
const SPOOLED: &str = "git-bundle";
const LIMITS: &str = "git-limits";
/// How much memory the search for deltas may take. libgit2 takes `deltaCacheSize` for the largest
/// object that it looks for deltas of, too.
const LIMITS_CONFIG: &[u8] = b"[pack]\n\tdeltaCacheSize = 16777216\n\twindowMemory = 134217728\n";

/// What [`write_bundle`] made.
#[derive(Debug)]
pub struct GitBundle {
    /// The manifest's part.
    pub info: GitInfo,
    /// The bundle, at its start, and its length in bytes. None where there is no ref at all: git
    /// has no empty bundle.
    pub file: Option<(File, u64)>,
    /// What the bundle does not hold, and what a restore will refuse.
    pub not_carried: Vec<NotCarried>,
}

/// Writes everything that `pinned` leads to as a git bundle into `spool` (nothing stays there), and
/// completes the manifest's part.
///
/// # Errors
/// [`StoresError::GitVanished`] where an object is gone: retry the whole cut.
/// [`StoresError::GitObjectTooLarge`] past `max_object_bytes`, for libgit2 holds an object in memory.
pub fn write_bundle(
    repo: &GitRepo,
    pinned: &PinnedGit,
    spool: &Dir,
    max_object_bytes: u64,
    control: &Control,
) -> Result<GitBundle, StoresError> {
    let path = repo.path();
    let mut bundle = GitBundle {
        info: pinned.info.clone(),
        file: None,
        not_carried: pinned.not_carried.clone(),
    };
    describe_head(repo, &mut bundle.info)?;
    bundle.not_carried.extend(half_done(repo));
    let refs = bundle_refs(&bundle.info);
    if refs.is_empty() {
        return Ok(bundle);
    }
    let mut tips = refs.values().map(oid).collect::<Result<Vec<_>, _>>()?;
    tips.sort_unstable();
    tips.dedup();
    let shallow = pinned.info.shallow.iter().map(oid).collect::<Result<_, _>>()?;
    let mut pack = pack_builder(repo, spool)?;
    let odb = repo.repo.odb().map_err(repo.fail("open the objects"))?;
    let walk = Walk { odb: &odb, path: &path, shallow: &shallow, max_object_bytes, control };
    let walked = walk.run(tips, |seen| {
        // libgit2 sorts by name when it looks for deltas; a name is a hint only.
        let name = seen.name.and_then(|name| std::str::from_utf8(name).ok());
        let name = name.filter(|name| !name.contains('\0'));
        pack.insert_object(seen.oid, name).map_err(|e| packing(&path, e))
    })?;
    // What no reader takes is not written.
    if walked.objects.len() > pack::MAX_OBJECTS as usize {
        let why = format!("its history has over {} objects", pack::MAX_OBJECTS);
        return Err(StoresError::GitUnsupported { path, why });
    }
    let object = |oid: &str| format!("git object {oid}");
    let escaping = walked.escaping.iter();
    let mut refused: Vec<(String, String)> =
        escaping.map(|(oid, why)| (object(&oid.to_string()), why.clone())).collect();
    match head::check(&walk, &repo.repo, &bundle.info) {
        Err(StoresError::GitObject { oid, why, .. }) => refused.push((object(&oid), why)),
        checked => checked?,
    }
    let replaced = replaces_others(&walked, &bundle.info);
    refused.extend(replaced.map(|why| ("git refs".to_owned(), why)));
    bundle.not_carried.extend(refused.into_iter().map(|(path, why)| NotCarried {
        path,
        why: format!("{why}: carried, but a restore refuses it"),
    }));

    spool.remove_tree(SPOOLED)?;
    let mut out = BufWriter::new(spool.create_new(SPOOLED, 0o600)?);
    let spooled = spool.path().join(SPOOLED);
    let mut header = SIGNATURE.to_vec();
    for (name, oid) in &refs {
        header.extend_from_slice(format!("{oid} {name}\n").as_bytes());
    }
    header.push(b'\n');
    out.write_all(&header).map_err(StoresError::io("write", &spooled))?;
    write_pack(&mut pack, &mut out, &path, &spooled, control)?;
    let out = out.into_inner().map_err(|e| StoresError::io("write", &spooled)(e.into_error()))?;
    // Read on through the open descriptor.
    spool.unlink(SPOOLED)?;
    let size = out.size()?;
    bundle.file = Some((out.into_reader()?, size));
    Ok(bundle)
}

/// A builder whose memory is bounded, whatever the repository's own configuration says.
fn pack_builder<'r>(repo: &'r GitRepo, spool: &Dir) -> Result<PackBuilder<'r>, StoresError> {
    let fail = || repo.fail("begin a pack");
    spool.remove_tree(LIMITS)?;
    let mut limits = spool.create_new(LIMITS, 0o600)?;
    let path = limits.path().to_owned();
    limits.write_all(LIMITS_CONFIG).map_err(StoresError::io("write", &path))?;
    let mut config = repo.repo.config().map_err(fail())?;
    config.add_file(&path, ConfigLevel::App, true).map_err(fail())?;
    let mut pack = repo.repo.packbuilder().map_err(fail())?;
    // The same objects in the same order give the same bytes.
    pack.set_threads(1);
    spool.unlink(LIMITS)?;
    Ok(pack)
}

fn write_pack(
    pack: &mut PackBuilder<'_>,
    out: &mut impl Write,
    repo: &Path,
    spooled: &Path,
    control: &Control,
) -> Result<(), StoresError> {
    let mut stopped = None;
    let written = pack.foreach(|chunk| {
        let step = control
            .check()
            .map_err(StoresError::stopped("packing the git history"))
            .and_then(|()| out.write_all(chunk).map_err(StoresError::io("write", spooled)));
        stopped = step.err();
        stopped.is_none()
    });
    match (stopped, written) {
        (Some(e), _) => Err(e),
        (None, written) => written.map_err(|e| packing(repo, e)),
    }
}

/// An object that was there a moment ago and is not any more, told from other failures.
fn packing(path: &Path, e: git2::Error) -> StoresError {
    match e.code() {
        ErrorCode::NotFound => {
            StoresError::GitVanished { path: path.to_owned(), oid: e.message().to_owned() }
        }
        _ => StoresError::git("pack the history", path)(e),
    }
}

/// Subject, author and time of HEAD's commit.
fn describe_head(repo: &GitRepo, info: &mut GitInfo) -> Result<(), StoresError> {
    let Some(head) = &info.head_oid else { return Ok(()) };
    let id = oid(head)?;
    let commit = match repo.repo.find_commit(id) {
        Err(e) if e.code() == ErrorCode::NotFound => {
            return Err(StoresError::GitVanished { path: repo.path(), oid: id.to_string() });
        }
        found => found.map_err(repo.fail("read HEAD's commit"))?,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let author = commit.author();
    info.head_subject = commit.summary_bytes().map(text);
    info.head_author =
        Some(format!("{} <{}>", text(author.name_bytes()), text(author.email_bytes())));
    info.head_ts_ms = commit.time().seconds().checked_mul(1000);
    Ok(())
}

/// Git's own unfinished business, which lies in its files and not in its history.
fn half_done(repo: &GitRepo) -> Vec<NotCarried> {
    let mut found = Vec::new();
    if repo.repo.state() != RepositoryState::Clean {
        let why = format!("an unfinished git operation ({:?})", repo.repo.state());
        found.push(NotCarried { path: ".git".to_owned(), why });
    }
    let staged = match staged_only(&repo.repo) {
        Ok(staged) => staged,
        Err(e) => {
            // History and files are captured all the same.
            let why = format!("git's index cannot be read: {}", e.message());
            found.push(NotCarried { path: ".git/index".to_owned(), why });
            Vec::new()
        }
    };
    found.extend(staged.into_iter().map(|path| NotCarried {
        path: String::from_utf8_lossy(&path).into_owned(),
        why: "what is staged in git for it is in neither the history nor its file".to_owned(),
    }));
    found
}

/// Paths whose staged content is neither HEAD's nor, as far as sizes and times tell, the working
/// file's. No working file is opened: it may be a live database.
fn staged_only(repo: &Repository) -> Result<Vec<Vec<u8>>, git2::Error> {
    let Some(workdir) = repo.workdir() else { return Ok(Vec::new()) };
    let index = repo.index()?;
    let head = match repo.head().and_then(|head| head.peel_to_tree()) {
        Ok(tree) => Some(tree),
        Err(e) if matches!(e.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => None,
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for delta in repo.diff_tree_to_index(head.as_ref(), Some(&index), None)?.deltas() {
        let Some(path) = delta.new_file().path_bytes() else { continue };
        let on_disk = Path::new(OsStr::from_bytes(path));
        let Some(entry) = index.get_path(on_disk, 0) else { continue };
        if repo.odb()?.read_header(entry.id).is_ok_and(|(_, kind)| kind == ObjectType::Blob)
            && !is_working_file(workdir, &entry)
        {
            found.push(path.to_vec());
        }
    }
    Ok(found)
}

fn is_working_file(workdir: &Path, entry: &git2::IndexEntry) -> bool {
    let path = workdir.join(OsStr::from_bytes(&entry.path));
    let found: io::Result<_> = std::fs::symlink_metadata(path);
    // The index keeps the low 32 bits of each.
    found.is_ok_and(|now| {
        now.len() & 0xffff_ffff == u64::from(entry.file_size)
            && i64::from(entry.mtime.seconds()) == now.mtime() & 0xffff_ffff
            && i64::from(entry.mtime.nanoseconds()) == now.mtime_nsec()
    })
}
