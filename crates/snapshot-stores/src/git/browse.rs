//! Looking into the history of a snapshot: what a commit's tree holds, and its files.
//!
//! Invariant: the history was checked as for a restore before anything of it is looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use git2::{ErrorCode, Object, ObjectType, Odb, Oid, Repository, Tree};
use snapshot_core::{
    ArtifactSource, BundlePath, Control, GitOid, GitPath, MAX_ARTIFACTS, MAX_PATH_BYTES, TreeEntry,
    TreeEntryKind,
};
use snapshot_fs::Dir;

use super::info::{STASH_ENTRY_REFS, STASH_REF, bundle_refs, git_oid, oid};
use super::stage::open_objects;
use crate::StoresError;
use crate::restore::stage_git;

/// Most bytes that a listing takes, with the trees that are open meanwhile.
const MAX_LISTING_BYTES: u64 = 32 << 20;
/// What an entry takes beside its path and link, in bytes.
const ENTRY_BYTES: u64 = 256;

/// Shortest beginning of an id, as git has it.
const MIN_OID_CHARS: usize = 4;
/// How many refs an error names.
const MAX_NAMED: usize = 8;
/// Where a short name is looked for, in git's order (gitrevisions(7)).
const PLACES: [(&str, &str); 6] = [
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
];

/// The history of a snapshot, unpacked into a scratch folder.
pub struct History {
    repo: Repository,
    /// For errors: a repository made of objects alone has none.
    path: PathBuf,
    refs: BTreeMap<String, GitOid>,
}

/// Entries under way, and what they and the open trees take.
#[derive(Default)]
struct Listing {
    entries: Vec<TreeEntry>,
    bytes: u64,
}

impl History {
    /// Checks the history that `source` holds and unpacks it into `scratch`, which the caller removes.
    /// Of the source only the git bundle is read.
    ///
    /// # Errors
    /// [`StoresError::NotInHistory`] where there is none, else as [`super::stage`].
    pub fn open(
        source: &dyn ArtifactSource,
        scratch: &Dir,
        max_object_bytes: u64,
        control: &Control,
    ) -> Result<Self, StoresError> {
        let Some(info) = &source.manifest().git else {
            let why = "the snapshot has no git history".to_owned();
            return Err(StoresError::NotInHistory { why });
        };
        let dir = stage_git(source, info, scratch, max_object_bytes, control)?;
        let repo = open_objects(&[dir.path()]).and_then(Repository::from_odb);
        let repo = repo.map_err(StoresError::git("open the history in", dir.path()))?;
        Ok(Self { repo, path: dir.path().to_owned(), refs: bundle_refs(info) })
    }

    /// The entry at a path of a commit's tree and all below it, folders before what they hold.
    ///
    /// # Errors
    /// [`StoresError::NotInHistory`] where there is no such commit or path, [`StoresError::GitObject`]
    /// for a tree of over [`MAX_ARTIFACTS`] entries, or 32 MiB of them, or with one that has no place on a disk.
    pub fn entries(&self, at: &GitPath) -> Result<Vec<TreeEntry>, StoresError> {
        let root = self.tree(at)?;
        let mut listing = Listing::default();
        let Some(path) = at.path() else {
            self.below(&root, None, &mut listing)?;
            return Ok(listing.entries);
        };
        let found = match root.get_path(path.as_path()) {
            Err(e) if e.code() == ErrorCode::NotFound => {
                return Err(StoresError::NotInHistory { why: format!("there is nothing at {at}") });
            }
            found => found.map_err(self.fail("look for a path"))?,
        };
        self.entry(&found, path.clone(), &mut listing)?;
        Ok(listing.entries)
    }

    /// The one entry at a path of a commit's tree, where it has content: a file, or a link with its
    /// target.
    ///
    /// # Errors
    /// As [`History::entries`].
    pub fn file(&self, at: &GitPath) -> Result<Option<TreeEntry>, StoresError> {
        let has_content = |e: &TreeEntry| {
            Some(&e.path) == at.path()
                && !matches!(e.kind, TreeEntryKind::Dir | TreeEntryKind::Submodule)
        };
        Ok(self.entries(at)?.into_iter().next().filter(has_content))
    }

    /// The content of a file.
    ///
    /// # Errors
    /// If the object cannot be read.
    pub fn content(&self, entry: &TreeEntry) -> Result<Vec<u8>, StoresError> {
        let blob = self.repo.find_blob(oid(&entry.oid)?).map_err(self.fail("read a file"))?;
        Ok(blob.content().to_vec())
    }

    fn tree(&self, at: &GitPath) -> Result<Tree<'_>, StoresError> {
        let object = self.object(at.revision())?;
        object.peel_to_tree().map_err(|_| StoresError::NotInHistory {
            why: format!("{:?} is a {} and leads to no tree", at.revision(), kind_of(&object)),
        })
    }

    /// What a revision names: refs as the manifest has them, ids and steps as libgit2 reads them.
    fn object(&self, revision: &str) -> Result<Object<'_>, StoresError> {
        let end = revision.find(['~', '^']).unwrap_or(revision.len());
        let (name, steps) = revision.split_at(end);
        let name = if matches!(name, "" | "@") { "HEAD" } else { name };
        let tip = match self.named(name) {
            Some(oid) => oid.as_str(),
            None if is_oid(name) => name,
            None => return Err(self.no_such(revision)),
        };
        match self.repo.revparse_single(&format!("{tip}{steps}")) {
            Ok(object) => Ok(object),
            Err(e) if matches!(e.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec) => {
                Err(self.no_such(revision))
            }
            Err(e) if e.code() == ErrorCode::Ambiguous => Err(StoresError::NotInHistory {
                why: format!("several objects have ids that begin with {name:?}"),
            }),
            Err(e) => Err(self.fail("look for a commit")(e)),
        }
    }

    fn named(&self, name: &str) -> Option<&GitOid> {
        let stash = match name {
            "stash" | STASH_REF => Some("0"),
            _ => name.strip_prefix("stash@{").and_then(|rest| rest.strip_suffix('}')),
        };
        if let Some(number) = stash {
            return self.refs.get(&format!("{STASH_ENTRY_REFS}{number}"));
        }
        let mut full = PLACES.iter().map(|(before, behind)| format!("{before}{name}{behind}"));
        full.find_map(|full| self.refs.get(&full))
    }

    fn no_such(&self, revision: &str) -> StoresError {
        let short = |name: &String| match name.strip_prefix(STASH_ENTRY_REFS) {
            Some(number) => format!("stash@{{{number}}}"),
            None => {
                let local = name.strip_prefix("refs/heads/").or(name.strip_prefix("refs/tags/"));
                local.unwrap_or(name).to_owned()
            }
        };
        let mut names: Vec<_> = self.refs.keys().take(MAX_NAMED).map(short).collect();
        if self.refs.len() > MAX_NAMED {
            names.push("...".to_owned());
        }
        let why = match names.is_empty() {
            true => format!("no commit is called {revision:?}: the history is empty"),
            false => format!("no commit is called {revision:?}; there are {}", names.join(", ")),
        };
        StoresError::NotInHistory { why }
    }

    fn below(
        &self,
        tree: &Tree<'_>,
        at: Option<&BundlePath>,
        listing: &mut Listing,
    ) -> Result<(), StoresError> {
        let bytes = self.size(tree.id())?;
        self.takes(tree.id(), bytes, listing)?;
        for entry in tree {
            let name = entry.name_bytes();
            let path = at.map_or_else(|| BundlePath::from_bytes(name), |at| at.join(name));
            let path = path.map_err(|e| self.unsound(tree.id(), e.to_string()))?;
            self.entry(&entry, path, listing)?;
        }
        listing.bytes -= bytes;
        Ok(())
    }

    fn entry(
        &self,
        entry: &git2::TreeEntry<'_>,
        path: BundlePath,
        listing: &mut Listing,
    ) -> Result<(), StoresError> {
        // The same small tree may be named over and over: few objects can be a tree without end.
        if listing.entries.len() >= MAX_ARTIFACTS {
            return Err(self.unsound(entry.id(), format!("over {MAX_ARTIFACTS} entries")));
        }
        let kind = match entry.filemode() {
            0o040_000 => TreeEntryKind::Dir,
            0o120_000 => TreeEntryKind::Symlink,
            0o160_000 => TreeEntryKind::Submodule,
            0o100_755 => TreeEntryKind::Executable,
            _ => TreeEntryKind::File,
        };
        let has_content = !matches!(kind, TreeEntryKind::Dir | TreeEntryKind::Submodule);
        let size_bytes = if has_content { self.size(entry.id())? } else { 0 };
        let oid = git_oid(entry.id())?;
        let mut found = TreeEntry { path, kind, oid, size_bytes, link: None };
        if kind == TreeEntryKind::Symlink {
            if size_bytes > MAX_PATH_BYTES as u64 {
                return Err(self.unsound(entry.id(), "a link's target is too long".to_owned()));
            }
            found.link = Some(self.content(&found)?);
        }
        let text = found.path.as_bytes().len() + found.link.as_ref().map_or(0, Vec::len);
        self.takes(entry.id(), ENTRY_BYTES + text as u64, listing)?;
        let path = (kind == TreeEntryKind::Dir).then(|| found.path.clone());
        listing.entries.push(found);
        let Some(path) = path else { return Ok(()) };
        let tree = self.repo.find_tree(entry.id()).map_err(self.fail("read a tree"))?;
        self.below(&tree, Some(&path), listing)
    }

    /// Counts what the listing holds.
    fn takes(&self, oid: Oid, bytes: u64, listing: &mut Listing) -> Result<(), StoresError> {
        listing.bytes += bytes;
        match listing.bytes > MAX_LISTING_BYTES {
            true => {
                Err(self.unsound(oid, format!("its listing takes over {MAX_LISTING_BYTES} bytes")))
            }
            false => Ok(()),
        }
    }

    fn size(&self, oid: Oid) -> Result<u64, StoresError> {
        let header = self.repo.odb().and_then(|odb: Odb<'_>| odb.read_header(oid));
        header.map(|(size, _)| size as u64).map_err(self.fail("measure a file"))
    }

    fn unsound(&self, oid: Oid, why: String) -> StoresError {
        let path = self.path.clone();
        StoresError::GitObject { path, oid: oid.to_string(), why }
    }

    fn fail(&self, op: &'static str) -> impl FnOnce(git2::Error) -> StoresError {
        StoresError::git(op, &self.path)
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("refs", &self.refs).finish_non_exhaustive()
    }
}

fn is_oid(name: &str) -> bool {
    name.len() >= MIN_OID_CHARS && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn kind_of(object: &Object<'_>) -> &'static str {
    object.kind().unwrap_or(ObjectType::Any).str()
}
