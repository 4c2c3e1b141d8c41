//! Opening the memdir's repository: whose it is, and whether it is of a kind that we carry.

use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::{Config, Repository};

use super::limits;
use crate::StoresError;

/// Largest `.git` or `commondir` file, in bytes: a path and a few words.
const MAX_LINK_BYTES: u64 = 8192;

/// The memdir's repository, opened.
pub struct GitRepo {
    pub(super) repo: Repository,
}

/// Opens the memdir's repository, whose `.git` may be a folder, a link, or a linked worktree's file;
/// none where there is no `.git`.
///
/// # Errors
/// [`StoresError::GitOwner`] for somebody else's repository, [`StoresError::GitUnsupported`] for
/// SHA-256 repositories, reftables, partial clones and what is no repository.
pub fn open(memdir: &Path) -> Result<Option<GitRepo>, StoresError> {
    let dot_git = memdir.join(".git");
    let found = match fs::symlink_metadata(&dot_git) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(StoresError::io("look at", &dot_git))?,
    };
    let git_dir = git_dir(memdir, &dot_git)?;
    let common_dir = common_dir(&git_dir)?;
    check_owner(memdir, &found, &[&git_dir, &common_dir])?;
    check_kind(&common_dir)?;
    limits::set().map_err(StoresError::git("set limits", &dot_git))?;
    let repo = Repository::open(&dot_git).map_err(StoresError::git("open", &dot_git))?;
    Ok(Some(GitRepo { repo }))
}

impl std::fmt::Debug for GitRepo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GitRepo").field(&self.repo.path()).finish()
    }
}

impl GitRepo {
    /// For errors.
    pub(super) fn path(&self) -> PathBuf {
        self.repo.path().to_owned()
    }

    pub(super) fn fail(&self, op: &'static str) -> impl FnOnce(git2::Error) -> StoresError {
        StoresError::git(op, self.repo.path())
    }
}

/// The folder that `.git` is, or that its `gitdir:` line names.
fn git_dir(memdir: &Path, dot_git: &Path) -> Result<PathBuf, StoresError> {
    let target = fs::metadata(dot_git).map_err(StoresError::io("look at", dot_git))?;
    if target.is_dir() {
        return Ok(dot_git.to_owned());
    }
    let text = read_link_file(dot_git, &target)?;
    match text.strip_prefix("gitdir:") {
        Some(path) => Ok(memdir.join(path.trim())),
        None => Err(unsupported(dot_git, "its .git file names no repository")),
    }
}

/// A linked worktree shares objects and refs with its main repository.
fn common_dir(git_dir: &Path) -> Result<PathBuf, StoresError> {
    let link = git_dir.join("commondir");
    match fs::metadata(&link) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(git_dir.to_owned()),
        Err(e) => Err(StoresError::io("look at", &link)(e)),
        Ok(found) => Ok(git_dir.join(read_link_file(&link, &found)?.trim())),
    }
}

fn read_link_file(path: &Path, found: &Metadata) -> Result<String, StoresError> {
    if !found.is_file() {
        return Err(unsupported(path, "neither a file nor a folder"));
    }
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_LINK_BYTES).read_to_string(&mut text))
        .map_err(StoresError::io("read", path))?;
    Ok(text)
}

/// The repository must be ours; for root, its folders must belong to the memdir's owner, so that an
/// agent cannot have us read a repository that it could not read itself. A plain `.git` folder of
/// root's is fine too: only root can have put it there.
fn check_owner(memdir: &Path, dot_git: &Metadata, dirs: &[&Path]) -> Result<(), StoresError> {
    let me = rustix::process::geteuid().as_raw();
    let owner = |path: &Path| {
        fs::metadata(path).map(|found| found.uid()).map_err(StoresError::io("look at", path))
    };
    let expected = if me == 0 { owner(memdir)? } else { me };
    for &dir in dirs {
        let owner = owner(dir)?;
        let is_roots_own = me == 0 && owner == 0 && dot_git.is_dir() && dot_git.uid() == 0;
        if owner != expected && !is_roots_own {
            return Err(StoresError::GitOwner { path: dir.to_owned(), owner, expected });
        }
    }
    Ok(())
}

/// Reads the configuration alone, before anything obeys it.
fn check_kind(common_dir: &Path) -> Result<(), StoresError> {
    let path = common_dir.join("config");
    let fail = || StoresError::git("read the configuration", common_dir);
    let config = Config::open(&path).map_err(fail())?;
    let mut entries = config.entries(None).map_err(fail())?;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(fail())?;
        let name = String::from_utf8_lossy(entry.name_bytes()).to_ascii_lowercase();
        let value = String::from_utf8_lossy(entry.value_bytes()).to_ascii_lowercase();
        let is_remotes = name.starts_with("remote.");
        let why = match name.as_str() {
            "extensions.objectformat" if value != "sha1" => "it uses another hash than SHA-1",
            "extensions.refstorage" if value != "files" => "it keeps its refs in a reftable",
            "extensions.partialclone" => "it is a partial clone",
            _ if is_remotes && name.ends_with(".promisor") && value != "false" => {
                "it is a partial clone"
            }
            _ if is_remotes && name.ends_with(".partialclonefilter") => "it is a partial clone",
            _ => continue,
        };
        return Err(unsupported(common_dir, why));
    }
    Ok(())
}

fn unsupported(path: &Path, why: &str) -> StoresError {
    StoresError::GitUnsupported { path: path.to_owned(), why: why.to_owned() }
}
