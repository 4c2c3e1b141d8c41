//! The files of somebody's `.git` folder, of which objects and refs are taken and nothing else.
//!
//! Invariants: no configuration, hook, alternate, index or attribute of theirs reaches a disk; packs are bounded
//! and indexed anew, for an index is obeyed; what is laid out is a repository that [`super::open`] opens.

use std::io::{self, Read, Write as _};

use snapshot_core::{BundlePath, Control};
use snapshot_fs::Dir;

use super::info::is_ref_name;
use super::pack::unpacked_bytes;
use super::stage::{PACKS, take_pack};
use crate::StoresError;
use crate::space::room;

/// The configuration that a repository must have. It has no index, for theirs is not taken: what would be staged in one
/// is none of our business.
const CONFIG: &[u8] = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
/// Mode of its folders.
const MODE: u32 = 0o700;
/// Most bytes of a ref's file: a name and a newline.
const MAX_REF_BYTES: u64 = 4096;
/// Most bytes of a file that names many objects (every packed ref, every commit of a shallow list, the stash's log): a
/// manifest takes 16,384 of each, and libgit2 takes some fifteen times the text.
const MAX_LIST_BYTES: u64 = 4 << 20;
/// How much longer a compressed object can be than what it holds, in bytes a part of 16 KiB and for all of it
/// (<https://zlib.net/zlib_tech.html>).
const DEFLATE_OVERHEAD: (u64, u64) = (5, 64);
/// Reflogs are not carried, but that of the stash holds its entries.
const STASH_LOG: &str = "logs/refs/stash";

/// A repository that is being laid out.
pub struct RawRepo<'a> {
    dir: Dir,
    max_object_bytes: u64,
    control: &'a Control,
}

/// What a file of a `.git` folder is to somebody who obeys nothing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RawFile {
    /// A ref, HEAD: taken as it is.
    Ref,
    /// What names many objects: taken as it is.
    List,
    /// A loose object: taken as it is.
    Object,
    /// A pack.
    Pack,
    /// Of no use, or of danger.
    Nothing,
    /// Of a repository of another kind.
    Unsupported(&'static str),
}

impl<'a> RawRepo<'a> {
    /// Begins a repository in the folder `memdir`, which has none.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn begin(
        memdir: &Dir,
        max_object_bytes: u64,
        control: &'a Control,
    ) -> Result<Self, StoresError> {
        memdir.create_dir(".git", MODE)?;
        let dir = memdir.sub(".git")?;
        let repo = Self { dir, max_object_bytes, control };
        for folder in ["refs", "objects"] {
            repo.dir.create_dir(folder, MODE)?;
        }
        repo.write("config", &mut &*CONFIG)?;
        Ok(repo)
    }

    /// Takes the file at `path` of a `.git` folder, where it is one that is taken; returns whether it was.
    ///
    /// # Errors
    /// [`StoresError::GitUnsupported`] for SHA-256 repositories and reftables, [`StoresError::GitBundle`] for a
    /// pack that is not sound, [`StoresError::GitObjectTooLarge`], or what reading or writing fails with.
    pub fn put(
        &self,
        path: &BundlePath,
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<bool, StoresError> {
        let Some(text) = path.as_str() else { return Ok(false) };
        let limit = match judge(text) {
            RawFile::Nothing => return Ok(false),
            RawFile::Unsupported(why) => {
                let path = self.dir.path().to_owned();
                return Err(StoresError::GitUnsupported { path, why: why.to_owned() });
            }
            RawFile::Pack => {
                room(&self.dir, unpacked_bytes(size_bytes))?;
                let packs = self.dir.make_path(PACKS, MODE)?;
                take_pack(content, (&self.dir, &packs), self.max_object_bytes, self.control)?;
                return Ok(true);
            }
            RawFile::Ref => MAX_REF_BYTES,
            RawFile::List => MAX_LIST_BYTES,
            RawFile::Object => self.max_deflated_bytes(),
        };
        // libgit2 reads each of these whole.
        if size_bytes > limit {
            let why = format!("its {text} has {size_bytes} bytes, over {limit}");
            return Err(StoresError::GitBundle { why });
        }
        self.write(text, content)?;
        Ok(true)
    }

    /// Most bytes of a loose object of the largest size that is admitted.
    const fn max_deflated_bytes(&self) -> u64 {
        let (each, all) = DEFLATE_OVERHEAD;
        let parts = self.max_object_bytes / (16 << 10) + 1;
        self.max_object_bytes.saturating_add(parts.saturating_mul(each)).saturating_add(all)
    }

    fn write(&self, path: &str, content: &mut dyn Read) -> Result<(), StoresError> {
        let (dir, name) = match path.rsplit_once('/') {
            Some((parent, name)) => (self.dir.make_path(parent, MODE)?, name),
            None => (self.dir.clone(), path),
        };
        let mut file = dir.create_new(name, 0o600)?;
        let at = file.path().to_owned();
        io::copy(content, &mut file).map_err(StoresError::io("write", &at))?;
        file.flush().map_err(StoresError::io("write", &at))
    }
}

impl std::fmt::Debug for RawRepo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RawRepo").field(&self.dir.path()).finish()
    }
}

/// What the file at `path` of a `.git` folder is.
fn judge(path: &str) -> RawFile {
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_ref = |path: &str| is_ref_name(path) && !path.ends_with(".lock");
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["HEAD"] => RawFile::Ref,
        ["packed-refs" | "shallow"] => RawFile::List,
        ["objects", folder, name] if is_hex(folder, 2) && is_hex(name, 38) => RawFile::Object,
        ["objects", folder, name] if is_hex(folder, 2) && is_hex(name, 62) => {
            RawFile::Unsupported("it uses another hash than SHA-1")
        }
        ["objects", "pack", name] => match name.strip_suffix(".pack") {
            Some(name) if name.starts_with("pack-") => RawFile::Pack,
            _ => RawFile::Nothing,
        },
        ["reftable", ..] => RawFile::Unsupported("it keeps its refs in a reftable"),
        ["refs", ..] if is_ref(path) => RawFile::Ref,
        _ if path == STASH_LOG => RawFile::List,
        _ => RawFile::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a file that git obeys among those that are taken, or an object or ref that is not.
    #[test]
    fn objects_and_refs_are_taken_and_nothing_that_git_obeys() {
        let sha = "0123456789abcdef0123456789abcdef012345";
        for path in
            ["HEAD", "refs/heads/main", "refs/heads/a/b", "refs/stash", "refs/tags/pre-restore-1"]
        {
            assert_eq!(judge(path), RawFile::Ref, "{path}");
        }
        for path in ["packed-refs", "shallow", STASH_LOG] {
            assert_eq!(judge(path), RawFile::List, "{path}");
        }
        assert_eq!(judge(&format!("objects/ab/{sha}")), RawFile::Object);
        assert_eq!(judge(&format!("objects/pack/pack-ab{sha}.pack")), RawFile::Pack);
        for path in [
            "config",
            "config.worktree",
            "hooks/post-checkout",
            "info/attributes",
            "info/grafts",
            "info/exclude",
            "objects/info/alternates",
            "objects/info/commit-graph",
            "index",
            "commondir",
            "gitdir",
            "modules/x/config",
            "worktrees/x/gitdir",
            "logs/HEAD",
            "logs/refs/heads/main",
            "refs/heads/main.lock",
            "refs/heads/a..b",
            "HEAD/x",
            "HEAD.lock",
            "description",
            "objects/ab/short",
            &format!("objects/AB/{sha}"),
            &format!("objects/pack/pack-ab{sha}.idx"),
            &format!("objects/pack/pack-ab{sha}.rev"),
            "objects/pack/multi-pack-index",
            "objects/pack/tmp_pack_x",
        ] {
            assert_eq!(judge(path), RawFile::Nothing, "{path}");
        }
        assert!(matches!(judge("reftable/tables.list"), RawFile::Unsupported(_)));
        let sha256 = format!("objects/ab/{}", "0".repeat(62));
        assert!(matches!(judge(&sha256), RawFile::Unsupported(_)));
    }
}
