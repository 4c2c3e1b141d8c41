//! What a repository was at one moment: HEAD, every ref, the stash, the shallow list.

use std::io::{self, Read as _};

use git2::{ErrorCode, ReferenceType};
use snapshot_core::{GitInfo, GitOid, GitRef, GitStash, NotCarried};

use super::info::{STASH_REF, git_oid, is_ref_name, is_reserved, leaves_no_room, ref_map, resolve};
use super::open::GitRepo;
use crate::StoresError;

/// Readings of the refs until two in a row are equal. A reading takes a millisecond or less.
const MAX_READINGS: usize = 50;
/// Largest `shallow` file, in bytes.
const MAX_SHALLOW_BYTES: u64 = 64 << 20;

/// What a repository was at the pin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinnedGit {
    /// HEAD, refs, stash and shallow list; HEAD's subject, author and time are left to
    /// [`super::write_bundle`].
    pub info: GitInfo,
    /// Refs that cannot be carried.
    pub not_carried: Vec<NotCarried>,
}

impl GitRepo {
    /// Reads HEAD, the refs and the stash until two readings in a row are equal: then there was a
    /// moment at which all of them were so. Reads no objects.
    ///
    /// # Errors
    /// [`StoresError::GitUnstable`] where they never are.
    pub fn pin(&self) -> Result<PinnedGit, StoresError> {
        let mut last = self.read_refs()?;
        for _ in 1..MAX_READINGS {
            let again = self.read_refs()?;
            if again == last {
                return Ok(again);
            }
            last = again;
        }
        Err(StoresError::GitUnstable { path: self.path() })
    }

    /// One reading, which a writer may have changed under: for those who compare two of their own.
    pub(crate) fn read_refs(&self) -> Result<PinnedGit, StoresError> {
        let fail = || self.fail("read the refs");
        let mut pinned = PinnedGit::default();
        for reference in self.repo.references().map_err(fail())? {
            let reference = reference.map_err(fail())?;
            let Some(name) = reference.name().ok().filter(|name| is_ref_name(name)) else {
                let path = String::from_utf8_lossy(reference.name_bytes()).into_owned();
                let why = "a git ref whose name is not UTF-8, not valid or too long".to_owned();
                pinned.not_carried.push(NotCarried { path, why });
                continue;
            };
            if leaves_no_room(name) {
                let why =
                    "a git ref that leaves no room for the stash or for refs of ours".to_owned();
                pinned.not_carried.push(NotCarried { path: name.to_owned(), why });
                continue;
            }
            if is_reserved(name) {
                continue;
            }
            let (oid, target) = match reference.kind() {
                Some(ReferenceType::Symbolic) => {
                    let target = reference.symbolic_target().map_err(fail())?;
                    (None, target.map(str::to_owned))
                }
                _ => (reference.target().map(git_oid).transpose()?, None),
            };
            pinned.info.refs.push(GitRef { name: name.to_owned(), oid, target });
        }
        pinned.info.refs.sort_by(|a, b| a.name.cmp(&b.name));
        self.read_head(&mut pinned.info)?;
        pinned.info.stash = self.read_stash()?;
        pinned.info.shallow = self.read_shallow()?;
        Ok(pinned)
    }

    fn read_head(&self, info: &mut GitInfo) -> Result<(), StoresError> {
        let fail = || self.fail("read HEAD");
        let head = self.repo.find_reference("HEAD").map_err(fail())?;
        match head.symbolic_target().map_err(fail())? {
            Some(name) => {
                info.head_oid = resolve(&ref_map(info), name);
                info.head_ref = Some(name.to_owned());
            }
            None => info.head_oid = head.target().map(git_oid).transpose()?,
        }
        Ok(())
    }

    /// Stash entries, newest first: they live in the reflog of one ref.
    fn read_stash(&self) -> Result<Vec<GitStash>, StoresError> {
        let fail = || self.fail("read the stash");
        let top = match self.repo.refname_to_id(STASH_REF) {
            Err(e) if e.code() == ErrorCode::NotFound => return Ok(Vec::new()),
            top => git_oid(top.map_err(fail())?)?,
        };
        let log = self.repo.reflog(STASH_REF).map_err(fail())?;
        let mut entries = Vec::with_capacity(log.len());
        for entry in log.iter() {
            let message = entry.message_bytes().unwrap_or_default();
            let message = String::from_utf8_lossy(message).into_owned();
            entries.push(GitStash { oid: git_oid(entry.id_new())?, message });
        }
        if entries.is_empty() {
            // A stash whose reflog was lost still has its newest entry.
            entries.push(GitStash { oid: top, message: String::new() });
        }
        Ok(entries)
    }

    fn read_shallow(&self) -> Result<Vec<GitOid>, StoresError> {
        let path = self.repo.commondir().join("shallow");
        let mut text = String::new();
        match std::fs::File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened
                .and_then(|file| file.take(MAX_SHALLOW_BYTES).read_to_string(&mut text))
                .map_err(StoresError::io("read", &path))?,
        };
        let mut oids = text.lines().map(str::parse).collect::<Result<Vec<GitOid>, _>>()?;
        oids.sort();
        Ok(oids)
    }
}
