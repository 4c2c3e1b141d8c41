//! Naming what lies inside a snapshot: a path of the bundle, or a path in the git history that it holds.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{ParseError, excerpt};
use crate::id::GitOid;
use crate::manifest::to_text;
use crate::path::BundlePath;

/// What a path into the history begins with; nothing in a bundle is named so.
const GIT: &str = "git@";
/// Longest revision, in bytes: the longest ref that a file system holds, and some steps from it.
const MAX_REVISION_BYTES: usize = 4096;

/// What to look at inside a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathInside {
    /// `memory_files/MEMORY.md`: as the bundle names it.
    Bundle(BundlePath),
    /// `git@main:MEMORY.md`: as a commit of the history has it.
    Git(GitPath),
}

/// A path in the tree of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitPath {
    revision: String,
    path: Option<BundlePath>,
}

/// One entry of a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "TreeEntryJson")]
pub struct TreeEntry {
    /// Where it lies in the tree. In JSON, `path_b64` beside it where it is not UTF-8.
    pub path: BundlePath,
    /// What it is.
    pub kind: TreeEntryKind,
    /// Its object.
    pub oid: GitOid,
    /// Content length in bytes, of files.
    pub size_bytes: u64,
    /// A link's target, raw. In JSON, `link_b64` beside it where it is not UTF-8.
    pub link: Option<Vec<u8>>,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeEntryKind {
    /// A regular file.
    File,
    /// A regular file that may be run.
    Executable,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A commit of another repository, whose content is not in this one.
    Submodule,
}

/// [`TreeEntry`] as JSON.
#[derive(Serialize)]
struct TreeEntryJson {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    kind: TreeEntryKind,
    oid: GitOid,
    size_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_b64: Option<String>,
}

impl GitPath {
    /// The commit: a branch, a tag, a full ref, `stash@{0}`, an id or its beginning, `HEAD`, each with
    /// steps from it (`main~3`).
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The place in its tree; none is the whole of it.
    #[must_use]
    pub const fn path(&self) -> Option<&BundlePath> {
        self.path.as_ref()
    }
}

/// `git@REVISION:PATH`, `git@REVISION` for the whole tree, `git@:PATH` for HEAD's; else a path in the
/// bundle.
impl FromStr for PathInside {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // As people type folders.
        let folder = |path| str::trim_end_matches(path, '/');
        let Some(rest) = text.strip_prefix(GIT) else {
            return BundlePath::parse(folder(text)).map(Self::Bundle);
        };
        // No ref has a colon in its name.
        let (revision, path) = rest.split_once(':').unwrap_or((rest, ""));
        let bad = |why| Err(ParseError::Path { value: excerpt(text), why });
        if revision.len() > MAX_REVISION_BYTES {
            return bad("the revision has over 4096 bytes");
        }
        if revision.chars().any(char::is_control) {
            return bad("the revision has a control character");
        }
        let revision = if revision.is_empty() { "HEAD" } else { revision }.to_owned();
        let path = if path.is_empty() { None } else { Some(BundlePath::parse(folder(path))?) };
        Ok(Self::Git(GitPath { revision, path }))
    }
}

impl fmt::Display for PathInside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(path) => path.fmt(f),
            Self::Git(path) => path.fmt(f),
        }
    }
}

impl fmt::Display for GitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{GIT}{}", self.revision)?;
        self.path.as_ref().map_or(Ok(()), |path| write!(f, ":{path}"))
    }
}

impl From<TreeEntry> for TreeEntryJson {
    fn from(entry: TreeEntry) -> Self {
        let (path, path_b64) = to_text(entry.path.as_bytes());
        let (link, link_b64) = entry.link.as_deref().map(to_text).unzip();
        Self {
            path,
            path_b64,
            kind: entry.kind,
            oid: entry.oid,
            size_bytes: entry.size_bytes,
            link,
            link_b64: link_b64.flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> GitPath {
        match text.parse().unwrap() {
            PathInside::Git(path) => path,
            PathInside::Bundle(path) => panic!("{path}"),
        }
    }

    /// Would catch: a colon of a path taken for the end of the revision, and HEAD not understood.
    #[test]
    fn a_revision_ends_at_the_first_colon() {
        let at = git("git@main~2:notes/a:b.md");
        assert_eq!(at.revision(), "main~2");
        assert_eq!(at.path().unwrap().as_str(), Some("notes/a:b.md"));
        assert_eq!(at.to_string(), "git@main~2:notes/a:b.md");
        assert_eq!(git("git@:MEMORY.md").revision(), "HEAD");
        assert_eq!(git("git@main").path(), None);
        assert_eq!(git("git@main:").path(), None);
    }

    /// Would catch: a path that leaves the tree, or a terminal's escape in a revision.
    #[test]
    fn what_could_not_be_a_place_is_refused() {
        for text in ["", "/etc/passwd", "git@main:../x", "git@main:/x", "git@\u{1b}[2J:x"] {
            text.parse::<PathInside>().unwrap_err();
        }
        format!("git@{}", "a".repeat(4097)).parse::<PathInside>().unwrap_err();
        let PathInside::Bundle(path) = "git/memory.bundle".parse().unwrap() else { panic!() };
        assert_eq!(path.as_str(), Some("git/memory.bundle"));
    }
}
