//! Differences as lines for people, the first few of each sort.

use nexo_memory_snapshot::manifest::ArtifactKind;
use nexo_memory_snapshot::report::{
    Cell, CellDifference, Change, CommitDifference, Difference, FileDifference, FileSide,
    GitFileDifference, RowCounts, RowDifference, StateDifference,
};
use serde_json::Value;

use super::{counts, words};
use crate::human;
use crate::output::Output;

/// Most characters of a value.
const MAX_VALUE: usize = 160;
/// Most characters of a text whose words are compared.
const MAX_WORDS: usize = 600;
/// Characters that are shown before the first that differs.
const BEFORE: usize = 20;
/// Most lines of one file.
const MAX_FILE_LINES: usize = 40;
/// Characters of an object id.
const OID: usize = 8;

/// What will be shown. Only the lines to show are kept.
pub(super) struct Shown {
    /// Most things of a section; 0 for all.
    limit: usize,
    sections: Vec<Section>,
}

/// Differences of one sort.
struct Section {
    title: String,
    counts: RowCounts,
    /// Things whose lines are kept.
    kept: usize,
    /// Things whose lines are not.
    more: usize,
    /// A line, and the sign that it is about.
    lines: Vec<(char, String)>,
}

impl Shown {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, sections: Vec::new() }
    }

    pub(super) fn add(&mut self, difference: Difference) {
        let (title, change) = match &difference {
            Difference::Row(row) => (format!("{}.{}", row.store, row.table), row.change),
            Difference::File(file) => ("memory files".to_owned(), file.change),
            Difference::Commit(commit) => ("commits".to_owned(), commit.change),
            Difference::GitFile(file) => ("files between the two commits".to_owned(), file.change),
            Difference::State(state) => ("state".to_owned(), state.change),
        };
        let limit = self.limit;
        let section = self.section(title);
        section.counts.count(change);
        if limit > 0 && section.kept == limit {
            section.more += 1;
            return;
        }
        section.kept += 1;
        section.lines.extend(match difference {
            Difference::Row(row) => of_row(&row),
            Difference::File(file) => of_file(file),
            Difference::Commit(commit) => vec![of_commit(&commit)],
            Difference::GitFile(file) => vec![of_git_file(&file)],
            Difference::State(state) => vec![of_state(&state)],
        });
    }

    pub(super) fn print(&self, out: &mut Output) {
        for section in &self.sections {
            out.line("");
            out.line(&format!("{}  {}", section.title, counts(section.counts)));
            for (sign, line) in &section.lines {
                out.change(*sign, &format!("  {line}"));
            }
            if section.more > 0 {
                out.line(&format!("  ... and {} more (--limit 0 shows all)", section.more));
            }
        }
    }

    /// Differences of one sort come one after another.
    fn section(&mut self, title: String) -> &mut Section {
        let at = match self.sections.last() {
            Some(last) if last.title == title => self.sections.len() - 1,
            _ => {
                let counts = RowCounts::default();
                self.sections.push(Section { title, counts, kept: 0, more: 0, lines: Vec::new() });
                self.sections.len() - 1
            }
        };
        &mut self.sections[at]
    }
}

fn of_row(row: &RowDifference) -> Vec<(char, String)> {
    let sign = sign(row.change);
    let key: Vec<String> = row.key.iter().map(|cell| value(one_side(cell))).collect();
    let key = key.join(", ");
    if row.change != Change::Changed {
        let cells: Vec<String> = row
            .cells
            .iter()
            .map(|cell| format!("{}: {}", cell.column, value(one_side(cell))))
            .collect();
        return vec![(sign, format!("{sign} {key}  {}", cells.join(" | ")).trim_end().to_owned())];
    }
    let mut lines = vec![(sign, format!("{sign} {key}"))];
    lines.extend(
        row.cells.iter().map(|cell| (sign, format!("    {}: {}", cell.column, of_cell(cell)))),
    );
    lines
}

fn of_cell(cell: &CellDifference) -> String {
    if let Some(cosine) = cell.cosine {
        return format!("vector changed, cosine {cosine:.2}");
    }
    if let (Some(Cell::Text(old)), Some(Cell::Text(new))) = (&cell.old, &cell.new)
        && old != new
    {
        return match words::compared(old, new) {
            Some(words) => clip(&words, MAX_WORDS),
            None => of_texts(old, new),
        };
    }
    let (old, new) = (value(cell.old.as_ref()), value(cell.new.as_ref()));
    match old == new {
        false => format!("{old} -> {new}"),
        // As 1 and '1' do, they differ in what they are.
        true => format!("{old} ({}) -> {new} ({})", sort(&cell.old), sort(&cell.new)),
    }
}

/// Two texts, from where they differ if that is past what would be shown.
fn of_texts(old: &str, new: &str) -> String {
    let (shown_old, shown_new) = (clip(old, MAX_VALUE), clip(new, MAX_VALUE));
    if shown_old != shown_new {
        return format!("{shown_old} -> {shown_new}");
    }
    let alike = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    let from = alike.saturating_sub(BEFORE);
    let rest = |text: &str| clip(&text.chars().skip(from).collect::<String>(), MAX_VALUE);
    format!("…{} -> …{}, after {from} characters that are the same", rest(old), rest(new))
}

/// What a value is, as SQLite calls it.
const fn sort(cell: &Option<Cell>) -> &'static str {
    match cell {
        None | Some(Cell::Null) => "null",
        Some(Cell::Integer(_)) => "integer",
        Some(Cell::Real(_)) => "real",
        Some(Cell::Text(_)) => "text",
        Some(Cell::Blob { .. }) => "blob",
    }
}

fn of_file(file: FileDifference) -> Vec<(char, String)> {
    let name = renamed(&file.path, &file.path_b64, file.old_path.as_deref(), &file.old_path_b64);
    let what = what_of(&file);
    let own = sign(file.change);
    let mut told = vec![(own, format!("{own} {name}{what}"))];
    let hunks = file.hunks.into_iter().flat_map(|hunk| {
        let head = format!(
            "@@ -{},{} +{},{} @@",
            hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines
        );
        std::iter::once(head).chain(hunk.lines)
    });
    let mut hunks = hunks.map(|line| {
        let sign = line.chars().next().filter(|sign| "+-".contains(*sign)).unwrap_or(' ');
        (sign, format!("    {}", clip(&line, MAX_VALUE)))
    });
    told.extend(hunks.by_ref().take(MAX_FILE_LINES));
    let more = hunks.count() as u64;
    if more > 0 {
        told.push((' ', format!("    ... and {} more", human::count(more, "line"))));
    }
    told
}

fn of_commit(commit: &CommitDifference) -> (char, String) {
    let sign = sign(commit.change);
    let oid = clip(commit.oid.as_str(), OID);
    let oid = oid.trim_end_matches('…');
    (sign, format!("{sign} {oid}  {} ({})", clip(&commit.subject, MAX_VALUE), commit.author))
}

fn of_git_file(file: &GitFileDifference) -> (char, String) {
    let sign = sign(file.change);
    let name = renamed(&file.path, &file.path_b64, file.old_path.as_deref(), &file.old_path_b64);
    (sign, format!("{sign} {name}{}", lines(file.insertions, file.deletions)))
}

fn of_state(state: &StateDifference) -> (char, String) {
    let sign = sign(state.change);
    let text = |value: &Option<Value>| {
        value
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), |value| clip(&value.to_string(), MAX_VALUE))
    };
    let StateDifference { state: piece, path, .. } = state;
    (sign, format!("{sign} {piece}{path}  {} -> {}", text(&state.old), text(&state.new)))
}

const fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed | Change::Renamed => '~',
    }
}

fn one_side(cell: &CellDifference) -> Option<&Cell> {
    cell.new.as_ref().or(cell.old.as_ref())
}

fn value(cell: Option<&Cell>) -> String {
    match cell {
        None => String::new(),
        Some(Cell::Null) => "NULL".to_owned(),
        Some(Cell::Integer(n)) => n.to_string(),
        // With a point, which an integer has not.
        Some(Cell::Real(x)) => format!("{x:?}"),
        Some(Cell::Text(text)) => clip(text, MAX_VALUE),
        Some(Cell::Blob { blob_bytes, sha256 }) => {
            let digest = sha256.to_string();
            format!("{} (sha256 {})", human::bytes(*blob_bytes), &digest[..OID])
        }
    }
}

/// Nothing of a file that has no lines, or where none differ.
fn lines(insertions: u64, deletions: u64) -> String {
    match (insertions, deletions) {
        (0, 0) => String::new(),
        _ => format!("  +{insertions} -{deletions} lines"),
    }
}

/// How a file differs, after its name.
fn what_of(file: &FileDifference) -> String {
    let (old, new) = match (&file.old, &file.new) {
        (Some(old), Some(new)) => (old, new),
        _ if !file.hunks.is_empty() => return lines(file.insertions, file.deletions),
        (old, new) => {
            let size = old.as_ref().or(new.as_ref()).map_or(0, |side| side.size_bytes);
            return format!("  {}", human::bytes(size));
        }
    };
    let kind = |side: &FileSide| match side.kind {
        ArtifactKind::MemorySymlink => "link",
        ArtifactKind::MemoryDir => "folder",
        _ => "file",
    };
    let mut what = match file.change {
        _ if old.kind != new.kind => format!("  {} -> {}", kind(old), kind(new)),
        _ if old.sha256 == new.sha256 => String::new(),
        _ if !file.hunks.is_empty() => lines(file.insertions, file.deletions),
        _ => format!("  {} -> {}", human::bytes(old.size_bytes), human::bytes(new.size_bytes)),
    };
    if let (Some(old_mode), Some(new_mode)) = (old.mode, new.mode)
        && old.kind == new.kind
        && old_mode != new_mode
    {
        what += &format!("  mode {old_mode:04o} -> {new_mode:04o}");
    }
    what
}

fn renamed(
    path: &str,
    b64: &Option<String>,
    old: Option<&str>,
    old_b64: &Option<String>,
) -> String {
    // Names that are no text look alike as such.
    let named = |path: &str, b64: &Option<String>| match b64 {
        Some(b64) => format!("{path} (base64 {b64})"),
        None => path.to_owned(),
    };
    let path = named(path, b64);
    match old {
        Some(old) => format!("{} -> {path}", named(old, old_b64)),
        None => path,
    }
}

/// The first characters of a long text.
fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
