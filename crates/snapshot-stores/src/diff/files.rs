//! Files and links of the memdir, compared by path, content and mode; folders and times alone are no change of
//! memory, a file that became a folder is.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use git2::{DiffLineType, DiffOptions as LineOptions, Patch};
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSource, BundlePath, Change, Control, Difference,
    FileDifference, FileSide, Hunk, RowCounts, to_text,
};

use super::report::Sink;
use crate::error::StoresError;

/// Longest file that is compared by line, in bytes; of a longer one sizes and digests are told.
pub(super) const MAX_TEXT_BYTES: u64 = 4 << 20;
/// Most lines of such a file: each takes some hundred bytes while two texts are compared.
const MAX_LINES: usize = 100_000;

/// A file that differs. The artifacts are the sides that have it.
struct Pair<'m> {
    path: BundlePath,
    old_path: Option<BundlePath>,
    change: Change,
    old: Option<&'m Artifact>,
    new: Option<&'m Artifact>,
}

/// Counts the files that differ, and tells them.
pub(super) fn compare(
    a: &dyn ArtifactSource,
    b: &dyn ArtifactSource,
    sink: &mut Sink<'_>,
    control: &Control,
) -> Result<RowCounts, StoresError> {
    let mut counts = RowCounts::default();
    for pair in pairs(a, b) {
        control.check().map_err(StoresError::stopped("comparing the memory files"))?;
        counts.count(pair.change);
        if let Some(sink) = sink {
            sink(Difference::File(pair.tell(a, b)?));
        }
    }
    Ok(counts)
}

/// Every file that differs, in the order of their paths.
fn pairs<'m>(a: &'m dyn ArtifactSource, b: &'m dyn ArtifactSource) -> Vec<Pair<'m>> {
    let (old, new) = (entries(a), entries(b));
    let (old, new) = (beside(&old, &new), beside(&new, &old));
    let mut gone: HashMap<_, Vec<&BundlePath>> = HashMap::new();
    for (path, artifact) in old.iter().rev().filter(|(path, _)| !new.contains_key(*path)) {
        gone.entry((artifact.kind, artifact.sha256)).or_default().push(path);
    }
    let mut pairs = BTreeMap::new();
    for (path, &artifact) in &new {
        let content = (artifact.kind, artifact.sha256);
        let before = old.get(path).copied();
        if before
            .is_some_and(|old| (old.kind, old.sha256) == content && !modes_differ(old, artifact))
        {
            continue;
        }
        // What is empty tells nothing of where it came from.
        let may_be_moved = before.is_none() && artifact.size_bytes > 0;
        let from = gone.get_mut(&content).filter(|_| may_be_moved).and_then(Vec::pop);
        let (change, old) = match (before, from) {
            (Some(before), _) => (Change::Changed, Some(before)),
            (None, Some(from)) => (Change::Renamed, old.get(from).copied()),
            (None, None) => (Change::Added, None),
        };
        let (path, old_path) = (path.clone(), from.cloned());
        pairs.insert(path.clone(), Pair { path, old_path, change, old, new: Some(artifact) });
    }
    for path in gone.into_values().flatten() {
        let (path, old) = (path.clone(), old.get(path).copied());
        let pair =
            Pair { path: path.clone(), old_path: None, change: Change::Removed, old, new: None };
        pairs.insert(path, pair);
    }
    pairs.into_values().collect()
}

/// Whether both have permission bits, and others.
fn modes_differ(old: &Artifact, new: &Artifact) -> bool {
    matches!((old.mode, new.mode), (Some(old), Some(new)) if old != new)
}

/// What a memdir has, by path.
type Entries<'m> = BTreeMap<BundlePath, &'m Artifact>;

fn entries(side: &dyn ArtifactSource) -> Entries<'_> {
    side.manifest().memory_entries().collect()
}

/// Files and links, and folders only where the other side has one of those.
fn beside<'m>(own: &Entries<'m>, other: &Entries<'m>) -> Entries<'m> {
    let is_file = |artifact: &Artifact| artifact.kind != ArtifactKind::MemoryDir;
    let counts = |path: &BundlePath, artifact: &Artifact| {
        is_file(artifact) || other.get(path).is_some_and(|other| is_file(other))
    };
    let kept = own.iter().filter(|(path, artifact)| counts(path, artifact));
    kept.map(|(path, artifact)| (path.clone(), *artifact)).collect()
}

impl Pair<'_> {
    fn tell(
        &self,
        a: &dyn ArtifactSource,
        b: &dyn ArtifactSource,
    ) -> Result<FileDifference, StoresError> {
        let side = |artifact: &Artifact| FileSide {
            kind: artifact.kind,
            size_bytes: artifact.size_bytes,
            sha256: artifact.sha256,
            mode: artifact.mode,
        };
        let (path, path_b64) = to_text(self.path.as_bytes());
        let (old_path, old_path_b64) =
            self.old_path.as_ref().map(|path| to_text(path.as_bytes())).unzip();
        let mut told = FileDifference {
            path,
            path_b64,
            old_path,
            old_path_b64: old_path_b64.flatten(),
            change: self.change,
            old: self.old.map(side),
            new: self.new.map(side),
            insertions: 0,
            deletions: 0,
            hunks: Vec::new(),
        };
        // Of a rename, of new modes and of what became something else there are no lines to show.
        let of = |artifact: &Artifact| (artifact.kind, artifact.sha256);
        let (old, new) = (self.old.map(of), self.new.map(of));
        if let (Some(old), Some(new)) = (old, new)
            && (old == new || old.0 != new.0)
        {
            return Ok(told);
        }
        if let (Some(old), Some(new)) = (text(a, self.old)?, text(b, self.new)?) {
            told.hunks = hunks(&old, &new).map_err(|e| {
                StoresError::integrity(&self.path, format!("cannot be compared by line: {e}"))
            })?;
        }
        let lines = |sign| {
            let lines = told.hunks.iter().flat_map(|hunk| &hunk.lines);
            lines.filter(|line| line.starts_with(sign)).count() as u64
        };
        (told.insertions, told.deletions) = (lines('+'), lines('-'));
        Ok(told)
    }
}

/// The content of a side, empty where it has none; none where that is no text or too long.
fn text(
    side: &dyn ArtifactSource,
    artifact: Option<&Artifact>,
) -> Result<Option<Vec<u8>>, StoresError> {
    let Some(artifact) = artifact else { return Ok(Some(Vec::new())) };
    if let Some(target) = &artifact.link {
        return Ok(Some(target.clone()));
    }
    if artifact.size_bytes > MAX_TEXT_BYTES {
        return Ok(None);
    }
    let mut content = Vec::new();
    side.open(&artifact.path)?
        .read_to_end(&mut content)
        .map_err(StoresError::io("read", artifact.path.as_path()))?;
    Ok(is_text(&content).then_some(content))
}

/// Whether content is compared by line. As git tells text from the rest.
pub(super) fn is_text(content: &[u8]) -> bool {
    let lines = content.split(|byte| *byte == b'\n');
    !content.contains(&0) && lines.take(MAX_LINES + 2).count() <= MAX_LINES + 1
}

fn hunks(old: &[u8], new: &[u8]) -> Result<Vec<Hunk>, git2::Error> {
    let mut options = LineOptions::new();
    options.force_text(true);
    let patch = Patch::from_buffers(old, None, new, None, Some(&mut options))?;
    let mut hunks = Vec::with_capacity(patch.num_hunks());
    for number in 0..patch.num_hunks() {
        let (hunk, lines) = patch.hunk(number)?;
        let mut told = Hunk {
            old_start: hunk.old_start(),
            old_lines: hunk.old_lines(),
            new_start: hunk.new_start(),
            new_lines: hunk.new_lines(),
            lines: Vec::with_capacity(lines),
        };
        for line in 0..lines {
            let line = patch.line_in_hunk(number, line)?;
            let sign = match line.origin_value() {
                DiffLineType::Context => ' ',
                DiffLineType::Addition => '+',
                DiffLineType::Deletion => '-',
                // That a last line has no end.
                _ => continue,
            };
            let content = line.content();
            let content = content.strip_suffix(b"\n").unwrap_or(content);
            told.lines.push(format!("{sign}{}", String::from_utf8_lossy(content)));
        }
        hunks.push(told);
    }
    Ok(hunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a text of so many short lines that comparing them takes a hundred times its size, and the last line
    /// without an end counted as one more.
    #[test]
    fn lines_are_compared_up_to_their_limit() {
        let lines = b"\n".repeat(MAX_LINES);
        assert!(is_text(&lines) && is_text(b"") && !is_text(b"a\0"));
        assert!(!is_text(&b"\n".repeat(MAX_LINES + 1)));
    }
}
