//! The search of a history: every object once, inflated, and what the manifest says of it.

use std::collections::HashSet;
use std::io::Read;

use git2::ObjectType;
use snapshot_core::{Control, FoundSecret, GitInfo, SecretPlace, SecretSearch};
use snapshot_fs::Dir;

use super::super::stage::unpack;
use super::super::walk::{Seen, Walk, tree};
use super::in_scratch;
use super::objects::{Header, Raw};
use crate::StoresError;

/// Name in the spool.
const SCRATCH: &str = "git-scan";
/// Most names of files that are remembered as searched.
const MAX_NAMES: usize = 1 << 16;
/// Longest of them, in bytes; crafted trees have others.
const MAX_NAME_BYTES: usize = 255;
/// Most characters of a path that are shown.
const MAX_SHOWN: usize = 256;

/// Looks for secrets in a git bundle, which is none where [`super::super::has_bundle`] says so, and in
/// the manifest's part. `found` sees each with a place that does not show it; one name in many trees
/// counts once.
///
/// # Errors
/// As [`super::super::stage()`].
pub fn scan_history(
    bundle: Option<&mut dyn Read>,
    info: &GitInfo,
    spool: &Dir,
    search: &dyn SecretSearch,
    max_object_bytes: u64,
    control: &Control,
    found: &mut dyn FnMut(SecretPlace, FoundSecret),
) -> Result<(), StoresError> {
    let mut scan = Scan { search, found, names: HashSet::new() };
    scan.info(info);
    in_scratch(spool, SCRATCH, |dir| {
        unpack(bundle, info, dir, max_object_bytes, control, &mut |walk, seen| {
            scan.object(walk, seen)
        })
    })
}

struct Scan<'a> {
    search: &'a dyn SecretSearch,
    found: &'a mut dyn FnMut(SecretPlace, FoundSecret),
    /// Names that were searched.
    names: HashSet<Vec<u8>>,
}

impl Scan<'_> {
    fn info(&mut self, info: &GitInfo) {
        let refs = info.refs.iter().flat_map(|r| [Some(&r.name), r.target.as_ref()]);
        for name in refs.chain([info.head_ref.as_ref()]).flatten() {
            self.path(name.as_bytes(), |shown| format!("ref {shown}"));
        }
        for (n, entry) in info.stash.iter().enumerate() {
            self.text(entry.message.as_bytes(), || format!("stash {n}, message"));
        }
        for (text, what) in [(&info.head_subject, "subject"), (&info.head_author, "author")] {
            let text = text.as_deref().unwrap_or_default();
            self.text(text.as_bytes(), || format!("HEAD, {what}"));
        }
    }

    fn object(&mut self, walk: &Walk<'_>, seen: &Seen<'_>) -> Result<(), StoresError> {
        let short = short(seen);
        match (seen.kind, seen.content) {
            (ObjectType::Tree, Some(content)) => {
                for entry in tree(content).flatten() {
                    self.entry_name(entry.name, seen);
                }
            }
            (kind @ (ObjectType::Commit | ObjectType::Tag), Some(content)) => {
                self.raw(&Raw::parse(kind, content), &format!("{kind} {short}"));
            }
            _ => {
                let content = walk.read(seen.oid)?;
                let secrets = self.search.search(content.data());
                if !secrets.is_empty() {
                    let path = seen.path().map(|path| format!(", {}", self.shown(&path)));
                    let place = format!("blob {short}{}", path.unwrap_or_default());
                    self.say(&place, false, secrets);
                }
            }
        }
        Ok(())
    }

    /// The pieces that a redaction takes one by one.
    fn raw(&mut self, raw: &Raw<'_>, object: &str) {
        for header in &raw.headers {
            match header {
                Header::Link { .. } | Header::Kept(_) => {}
                Header::Who { label, who, .. } => {
                    let label = String::from_utf8_lossy(label.trim_ascii_end());
                    self.text(who, || format!("{object}, {label}"));
                }
                Header::Name(name) => self.path(name, |_| format!("{object}, name")),
                Header::Signature(text) => self.text(text, || format!("{object}, signature")),
                Header::Text(text) => self.text(text, || format!("{object}, header")),
            }
        }
        self.text(raw.message.unwrap_or_default(), || format!("{object}, message"));
        self.text(raw.signature.unwrap_or_default(), || format!("{object}, signature"));
    }

    fn entry_name(&mut self, name: &[u8], within: &Seen<'_>) {
        if self.names.contains(name) {
            return;
        }
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        if name.len() <= MAX_NAME_BYTES {
            self.names.insert(name.to_vec());
        }
        let secrets = self.search.search(name);
        if !secrets.is_empty() {
            let folder = within.path();
            let path = folder.map_or_else(|| name.to_vec(), |at| [&at, name].join(&b'/'));
            let path = self.shown(&path);
            self.say(&format!("tree {}, the name {path}", short(within)), true, secrets);
        }
    }

    fn text(&mut self, text: &[u8], place: impl FnOnce() -> String) {
        let secrets = self.search.search(text);
        if !secrets.is_empty() {
            self.say(&place(), false, secrets);
        }
    }

    /// A name with slashes: whole, and each part as what it is.
    fn path(&mut self, path: &[u8], place: impl FnOnce(&str) -> String) {
        let mut secrets = self.search.search(path);
        if secrets.is_empty() {
            secrets =
                path.split(|&b| b == b'/').flat_map(|part| self.search.search(part)).collect();
        }
        if !secrets.is_empty() {
            let place = place(&self.shown(path));
            self.say(&place, true, secrets);
        }
    }

    fn say(&mut self, place: &str, is_key: bool, secrets: Vec<FoundSecret>) {
        for secret in secrets {
            (self.found)(SecretPlace { place: place.to_owned(), is_key }, secret);
        }
    }

    /// A path for people and terminals, which must not show a secret in it.
    fn shown(&self, path: &[u8]) -> String {
        let parts: Vec<_> = path.split(|&b| b == b'/').map(|part| self.masked(part)).collect();
        let path = self.masked(&parts.join(&b'/'));
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        String::from_utf8_lossy(&path).chars().map(plain).take(MAX_SHOWN).collect()
    }

    fn masked(&self, text: &[u8]) -> Vec<u8> {
        let (mut masked, mut copied) = (Vec::new(), 0);
        for secret in self.search.search(text) {
            masked.extend_from_slice(text.get(copied..secret.range.start).unwrap_or_default());
            masked.extend_from_slice(format!("[REDACTED:{}]", secret.rule).as_bytes());
            copied = secret.range.end;
        }
        masked.extend_from_slice(&text[copied..]);
        masked
    }
}

/// The id as people see it.
fn short(seen: &Seen<'_>) -> String {
    let mut id = seen.oid.to_string();
    id.truncate(12);
    id
}
