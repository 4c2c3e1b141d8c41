//! A history written anew: each object after those that it names or mentions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use git2::{ObjectType, Odb, OdbLookupFlags, Oid};
use snapshot_core::{Control, GitInfo, GitOid, NameOf, Redactor};

use super::super::info::{bundle_refs, git_oid, oid};
use super::super::walk::tree;
use super::objects::{Header, Raw, fold, parsable_who};
use super::trees::{NewEntry, tree_content};
use super::{ids, notes, refs, unredactable};
use crate::StoresError;

/// Most names of files that are remembered with what becomes of them.
const MAX_NAMES: usize = 1 << 16;
/// Longest of them, in bytes; crafted trees have others.
const MAX_NAME_BYTES: usize = 255;
/// Second paragraph of the one commit that stands for a history.
const HEAD_ONLY: &str = "Redacted: the history before this is not part of this snapshot\n";

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits for others.
    Open,
    Same,
    New(Oid),
}

/// The work on one history.
///
/// What makes an object anew asks for ids of others; those that are not known yet are noted as
/// `missing`, what was made is thrown away, and it is made again when they are known.
pub(super) struct Rewrite<'a> {
    pub(super) old: &'a Odb<'a>,
    new: &'a Odb<'a>,
    redactor: &'a dyn Redactor,
    /// Every commit of the history, in order.
    commits: Vec<Oid>,
    /// Trees whose names are ids of objects.
    notes: HashSet<Oid>,
    /// For errors.
    path: &'a Path,
    control: &'a Control,
    states: HashMap<Oid, State>,
    missing: Vec<Oid>,
    /// Names of files, and what becomes of them.
    names: HashMap<Vec<u8>, Option<Vec<u8>>>,
    signatures_dropped: u64,
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(
        old: &'a Odb<'a>,
        new: &'a Odb<'a>,
        redactor: &'a dyn Redactor,
        (commits, notes): (Vec<Oid>, HashSet<Oid>),
        path: &'a Path,
        control: &'a Control,
    ) -> Self {
        let (states, missing, names) = (HashMap::new(), Vec::new(), HashMap::new());
        let signatures_dropped = 0;
        Self {
            old,
            new,
            redactor,
            commits,
            notes,
            path,
            control,
            states,
            missing,
            names,
            signatures_dropped,
        }
    }

    /// Every id that changed, old to new, and how many signatures were dropped.
    pub(super) fn changed(self) -> Result<(BTreeMap<GitOid, GitOid>, u64), StoresError> {
        let new = |(old, state)| match state {
            State::New(new) => Some((old, new)),
            State::Open | State::Same => None,
        };
        let pair = |(old, new)| Ok::<_, StoresError>((git_oid(old)?, git_oid(new)?));
        let ids = self.states.into_iter().filter_map(new).map(pair).collect::<Result<_, _>>()?;
        Ok((ids, self.signatures_dropped))
    }

    /// Everything, and the manifest's part of it.
    pub(super) fn all(&mut self, info: &GitInfo) -> Result<GitInfo, StoresError> {
        self.run(bundle_refs(info).values().map(oid).collect::<Result<_, _>>()?)?;
        self.settle(|rewrite| refs::redacted(rewrite, info))
    }

    /// HEAD's tree as one commit, and HEAD's branch.
    pub(super) fn head_only(&mut self, info: &GitInfo) -> Result<GitInfo, StoresError> {
        let Some(head) = info.head_oid.as_ref().map(oid).transpose()? else {
            return self.settle(|rewrite| refs::head_only(rewrite, info, None));
        };
        let object = self.old.read(head).map_err(self.fail("read HEAD's commit"))?;
        if object.kind() != ObjectType::Commit {
            return Err(self.bad(head, "HEAD is no commit"));
        }
        let raw = Raw::parse(ObjectType::Commit, object.data());
        let (new, dropped) = self.settle(|rewrite| Ok(rewrite.lone_commit(&raw)))?;
        let new = self.write(ObjectType::Commit, &new)?;
        self.signatures_dropped += dropped;
        if new != head {
            self.states.insert(head, State::New(new));
        }
        self.settle(|rewrite| refs::head_only(rewrite, info, Some(new)))
    }

    /// Makes something of ids, again and again until it knows them all.
    fn settle<T>(
        &mut self,
        mut make: impl FnMut(&mut Self) -> Result<T, StoresError>,
    ) -> Result<T, StoresError> {
        loop {
            let made = make(self)?;
            if !self.is_waiting() {
                return Ok(made);
            }
            let missing = std::mem::take(&mut self.missing);
            self.run(missing)?;
        }
    }

    /// Makes `tips` and all that they lead to anew.
    fn run(&mut self, tips: Vec<Oid>) -> Result<(), StoresError> {
        let mut stack = tips;
        while let Some(&next) = stack.last() {
            self.control.check().map_err(StoresError::stopped("redacting the git history"))?;
            if matches!(self.states.get(&next), Some(State::Same | State::New(_))) {
                stack.pop();
                continue;
            }
            let made = self.make(next)?;
            if !self.is_waiting() {
                self.states.insert(next, made);
                stack.pop();
                continue;
            }
            self.states.insert(next, State::Open);
            // Whatever is open waits, in the end, for this one.
            if self.missing.iter().any(|oid| self.states.get(oid) == Some(&State::Open)) {
                let what = format!("git object {next}");
                return Err(unredactable(&what, "it mentions an object that leads to it"));
            }
            stack.append(&mut self.missing);
        }
        Ok(())
    }

    /// What becomes of an object, unless ids are missing.
    fn make(&mut self, oid: Oid) -> Result<State, StoresError> {
        let object = self.old.read(oid).map_err(self.fail("read an object"))?;
        let (kind, content) = (object.kind(), object.data());
        let made = match kind {
            ObjectType::Blob => self.text(content, ids::WHOLE),
            ObjectType::Tree if self.notes.contains(&oid) => notes::redacted(self, oid)?,
            ObjectType::Tree => self.tree(oid, content)?,
            _ => self.raw(oid, kind, content)?,
        };
        if self.is_waiting() {
            return Ok(State::Open);
        }
        let Some(made) = made else { return Ok(State::Same) };
        let new = self.write(kind, &made)?;
        Ok(if new == oid { State::Same } else { State::New(new) })
    }

    fn tree(&mut self, oid: Oid, content: &[u8]) -> Result<Option<Vec<u8>>, StoresError> {
        let (mut entries, mut is_changed) = (Vec::new(), false);
        for entry in tree(content) {
            let entry = entry.map_err(|why| self.bad(oid, why))?;
            let name = self.file_name(entry.name);
            let new = self.id(entry.oid);
            is_changed |= name.is_some() || new != entry.oid;
            let name = name.unwrap_or_else(|| entry.name.to_vec());
            entries.push(NewEntry { mode: entry.mode.to_vec(), name, oid: new });
        }
        if !is_changed || self.is_waiting() {
            return Ok(None);
        }
        tree_content(oid, entries).map(Some)
    }

    fn raw(
        &mut self,
        oid: Oid,
        kind: ObjectType,
        content: &[u8],
    ) -> Result<Option<Vec<u8>>, StoresError> {
        let raw = Raw::parse(kind, content);
        // What it leads to first: nothing else is worth its while before.
        for header in &raw.headers {
            if let Header::Link { id, .. } = header {
                self.id(*id);
            }
        }
        if self.is_waiting() {
            return Ok(None);
        }
        let mut draft = Draft::default();
        for header in &raw.headers {
            self.header(header, &mut draft);
        }
        if let Some(message) = raw.message {
            draft.content.push(b'\n');
            let new = self.text(message, ids::SHORTEST);
            draft.is_changed |= new.is_some();
            draft.content.extend_from_slice(new.as_deref().unwrap_or(message));
        }
        if let Some(signature) = raw.signature {
            draft.is_changed |= self.text(signature, ids::WHOLE).is_some();
            draft.signatures += 1;
        }
        if !draft.is_changed || self.is_waiting() {
            return Ok(None);
        }
        if draft.is_broken {
            let what = format!("{kind} {oid}");
            return Err(unredactable(&what, "without its secrets, a header is none any more"));
        }
        self.signatures_dropped += draft.signatures;
        Ok(Some(draft.content))
    }

    fn header(&mut self, header: &Header<'_>, draft: &mut Draft) {
        match header {
            Header::Link { label, id } => {
                let new = self.id(*id);
                draft.is_changed |= new != *id;
                draft.line(&[label, new.to_string().as_bytes()]);
            }
            Header::Kept(line) => draft.line(&[line]),
            Header::Who { label, who, when } => {
                let new = self.text(who, ids::WHOLE).map(parsable_who);
                draft.is_changed |= new.is_some();
                draft.line(&[label, new.as_deref().unwrap_or(who), when]);
            }
            Header::Name(name) => {
                let new = self.ref_name(name);
                draft.is_changed |= new.is_some();
                draft.line(&[b"tag ", new.as_deref().unwrap_or(name)]);
            }
            Header::Signature(text) => {
                draft.is_changed |= self.text(text, ids::WHOLE).is_some();
                draft.signatures += 1;
            }
            Header::Text(text) => {
                let new = self.text(text, ids::WHOLE);
                draft.is_changed |= new.is_some();
                let text = new.as_deref().unwrap_or(text);
                draft.is_broken |= matches!(text.first(), None | Some(b' ' | b'\n'));
                draft.line(&[&fold(text)]);
            }
        }
    }

    /// The one commit that stands for a history, and the signatures that it lacks.
    fn lone_commit(&mut self, head: &Raw<'_>) -> (Vec<u8>, u64) {
        let mut draft = Draft::default();
        for header in &head.headers {
            match header {
                Header::Link { label: b"parent ", .. } => {}
                Header::Text(text) if !text.starts_with(b"encoding ") => {}
                header => self.header(header, &mut draft),
            }
        }
        let message = head.message.unwrap_or_default();
        let new = self.text(message, ids::SHORTEST);
        let message = new.as_deref().unwrap_or(message).trim_ascii_start();
        let subject = message.split(|&b| b == b'\n').next().unwrap_or_default();
        draft.content.push(b'\n');
        if !subject.is_empty() {
            draft.content.extend_from_slice(subject);
            draft.content.extend_from_slice(b"\n\n");
        }
        draft.content.extend_from_slice(HEAD_ONLY.as_bytes());
        (draft.content, draft.signatures)
    }

    /// The id that an object has now. One that is not part of the history keeps its own.
    pub(super) fn id(&mut self, old: Oid) -> Oid {
        match self.states.get(&old) {
            Some(State::Same) => old,
            Some(State::New(new)) => *new,
            Some(State::Open) | None => {
                if self.old.exists_ext(old, OdbLookupFlags::NO_REFRESH) {
                    self.missing.push(old);
                }
                old
            }
        }
    }

    /// Whether ids were asked for that are not known yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Text without its secrets and with new ids, or none where it stays.
    pub(super) fn text(&mut self, text: &[u8], shortest: usize) -> Option<Vec<u8>> {
        let redacted = self.redactor.redact(text).filter(|new| new != text);
        let seen = redacted.as_deref().unwrap_or(text);
        let mapped = ids::replace(seen, shortest, &mut |digits| self.mention(digits));
        mapped.or(redacted)
    }

    /// A name of a file, as [`Rewrite::text`].
    pub(super) fn file_name(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let redacted = match self.names.get(name) {
            Some(known) => known.clone(),
            None => {
                let new = self.redactor.redact_name(name, NameOf::File).filter(|new| new != name);
                if self.names.len() >= MAX_NAMES {
                    self.names.clear();
                }
                if name.len() <= MAX_NAME_BYTES {
                    self.names.insert(name.to_vec(), new.clone());
                }
                new
            }
        };
        let seen = redacted.as_deref().unwrap_or(name);
        ids::replace(seen, ids::WHOLE, &mut |digits| self.mention(digits)).or(redacted)
    }

    /// A ref's or a tag's name, part by part, as [`Rewrite::text`].
    pub(super) fn ref_name(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let mut is_changed = false;
        let mut parts = Vec::new();
        for part in name.split(|&b| b == b'/') {
            let redacted = self.redactor.redact_name(part, NameOf::Ref).filter(|new| new != part);
            let seen = redacted.as_deref().unwrap_or(part);
            let mapped = ids::replace(seen, ids::WHOLE, &mut |digits| self.mention(digits));
            let new = mapped.or(redacted);
            is_changed |= new.is_some();
            parts.push(new.unwrap_or_else(|| part.to_vec()));
        }
        is_changed.then(|| parts.join(&b'/'))
    }

    /// The new id for a mention, where it is of an object whose id changes.
    fn mention(&mut self, digits: &str) -> Option<String> {
        if digits.len() == ids::WHOLE {
            let old = Oid::from_str(digits).ok()?;
            let new = self.id(old);
            return (new != old).then(|| new.to_string());
        }
        let first = self.commits.partition_point(|commit| *commit.to_string() < *digits);
        let alike = self.commits[first..].iter().copied();
        let alike: Vec<Oid> = alike.take_while(|c| c.to_string().starts_with(digits)).collect();
        let mut changed = None;
        for old in alike {
            let new = self.id(old);
            if new != old && changed.replace(new).is_some() {
                // It names two of them, and so none.
                return None;
            }
        }
        changed.map(|new| new.to_string())
    }

    pub(super) fn write(&self, kind: ObjectType, content: &[u8]) -> Result<Oid, StoresError> {
        self.new.write(kind, content).map_err(self.fail("write an object"))
    }

    pub(super) fn fail(&self, op: &'static str) -> impl FnOnce(git2::Error) -> StoresError {
        StoresError::git(op, self.path)
    }

    pub(super) fn bad(&self, oid: Oid, why: &str) -> StoresError {
        let path = self.path.to_owned();
        StoresError::GitObject { path, oid: oid.to_string(), why: why.to_owned() }
    }
}

/// A commit or a tag that is being made.
#[derive(Default)]
struct Draft {
    content: Vec<u8>,
    is_changed: bool,
    /// Whether a header is none any more.
    is_broken: bool,
    /// Signatures left out.
    signatures: u64,
}

impl Draft {
    fn line(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.content.extend_from_slice(part);
        }
        self.content.push(b'\n');
    }
}
