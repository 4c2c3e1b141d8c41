//! A bundle taken apart by `zstd` and `tar` alone.

use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::KitError;
use crate::git::Git;

/// First bytes of what is looked into.
const SQLITE: &[u8] = b"SQLite format 3\0";
const GIT_BUNDLE: &[u8] = b"# v";

/// What every bundle has: nothing is found in one that is empty.
const MANIFEST: &[u8] = b"manifest.json";

/// A bundle's parts.
pub(super) struct Unpacked {
    /// The file as it is.
    pub(super) raw: Vec<u8>,
    /// All of the tar.
    pub(super) stream: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    /// Copies of the databases, with their names in the tar.
    pub(super) databases: Vec<(String, PathBuf)>,
    /// Mirrors of the git bundles.
    pub(super) repositories: Vec<Git>,
    _dir: TempDir,
}

/// One entry of the tar.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// Where its content lies in the stream.
    pub(super) content: Range<usize>,
}

impl Unpacked {
    pub(super) fn read(bundle: &Path) -> Result<Self, KitError> {
        let raw = fs::read(bundle).map_err(KitError::io("read", bundle))?;
        let mut stream = Vec::new();
        zstd::stream::read::Decoder::new(&raw[..])
            .and_then(|mut decoder| decoder.read_to_end(&mut stream))
            .map_err(KitError::io("decompress", bundle))?;
        let entries = entries(&stream).map_err(KitError::io("list the tar of", bundle))?;
        if !entries.iter().any(|entry| entry.path == MANIFEST) {
            return Err(KitError::broken("the tar", bundle, "it has no manifest"));
        }
        let dir = tempfile::tempdir().map_err(KitError::io("make a folder for", bundle))?;
        let (mut databases, mut repositories) = (Vec::new(), Vec::new());
        for (n, entry) in entries.iter().enumerate() {
            let content = &stream[entry.content.clone()];
            let is_git = content.starts_with(GIT_BUNDLE)
                && content.get(4..15).is_some_and(|rest| rest == b" git bundle");
            if !is_git && !content.starts_with(SQLITE) {
                continue;
            }
            let path = dir.path().join(n.to_string());
            fs::write(&path, content).map_err(KitError::io("write", &path))?;
            match is_git {
                true => repositories.push(mirror(&path)?),
                false => databases.push((entry.name.clone(), path)),
            }
        }
        Ok(Self { raw, stream, entries, databases, repositories, _dir: dir })
    }
}

fn entries(stream: &[u8]) -> std::io::Result<Vec<Entry>> {
    let mut archive = tar::Archive::new(stream);
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry?;
        let path = entry.path_bytes().into_owned();
        let at = usize::try_from(entry.raw_file_position()).map_err(std::io::Error::other)?;
        let size = usize::try_from(entry.size()).map_err(std::io::Error::other)?;
        Ok(Entry {
            name: path.escape_ascii().to_string(),
            link: entry.link_name_bytes().unwrap_or_default().into_owned(),
            content: at..(at + size).min(stream.len()),
            path,
        })
    };
    archive.entries()?.map(entry).collect()
}

fn mirror(bundle: &Path) -> Result<Git, KitError> {
    // Not the same name with `.git` behind it: git would clone the clone.
    let dir = bundle.with_extension("mirror");
    let (from, to) = (bundle.as_os_str(), dir.as_os_str());
    let git = Git::at(bundle.parent().unwrap_or(bundle));
    git.run(&["clone".as_ref(), "--quiet".as_ref(), "--mirror".as_ref(), from, to])?;
    Ok(Git::at(dir))
}
