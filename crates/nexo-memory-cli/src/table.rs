//! Tables: columns that line up, in a width where there is one.
//!
//! Invariant: what one types back (an id, an agent, a path) is shown whole or not at all.

use unicode_width::UnicodeWidthStr;

/// Between two columns.
const GAP: usize = 2;
/// Narrowest that a column of words becomes before columns are left out: a date with its hour.
const MIN_WORDS: usize = 17;
/// What stands for what was cut, or left out.
const CUT: char = '…';

/// How a column gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Whole in any case.
    Kept(&'static str),
    /// Whole, or left out with all after it.
    Whole(&'static str),
    /// Cut at its end, or left out with all after it.
    Words(&'static str),
}

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Self::Kept(name) | Self::Whole(name) | Self::Words(name) => name,
        }
    }

    /// The least that it needs of what it would like.
    fn least(self, natural: usize) -> usize {
        match self {
            Self::Kept(_) | Self::Whole(_) => natural,
            Self::Words(_) => natural.min(MIN_WORDS),
        }
    }
}

/// The lines of a table, header first. Cells hold no control characters. Without a width nothing is cut.
pub(crate) fn lines(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let natural = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width());
        cells.chain([columns[at].name().width()]).max().unwrap_or_default()
    };
    let natural: Vec<usize> = (0..columns.len()).map(natural).collect();
    let widths = fit(columns, natural, width);
    let line = |cells: &[&str]| {
        let shown = cells.iter().zip(&widths).map(|(cell, width)| padded(cell, *width));
        shown.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
    let mut head = line(&names);
    if widths.len() < columns.len() {
        head.push(CUT);
    }
    let rows = rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    std::iter::once(head).chain(rows).collect()
}

/// The widths of the columns that are shown: words give way first, the longest of them most; then columns are left
/// out from the end.
fn fit(columns: &[Column], mut widths: Vec<usize>, width: Option<usize>) -> Vec<usize> {
    let Some(width) = width else { return widths };
    let total =
        |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    let least = |widths: &[usize]| -> Vec<usize> {
        columns.iter().zip(widths).map(|(column, width)| column.least(*width)).collect()
    };
    let kept = columns.iter().rposition(|c| matches!(c, Column::Kept(_))).map_or(0, |at| at + 1);
    let mut room = width;
    while widths.len() > kept && total(&least(&widths)) > room {
        widths.pop();
        // The header says so, in a place of its own.
        room = width.saturating_sub(1);
    }
    let floor = least(&widths);
    while total(&widths) > room {
        let over = |at: &usize| widths[*at] - floor[*at];
        let Some(at) = (0..widths.len()).max_by_key(over).filter(|at| over(at) > 0) else { break };
        widths[at] -= 1;
    }
    widths
}

/// A cell in exactly `width` places: cut with an ellipsis, or filled up with blanks.
fn padded(cell: &str, width: usize) -> String {
    let mut shown = cell.to_owned();
    if cell.width() > width {
        let room = width.saturating_sub(1);
        // Of whole prefixes: a variation selector widens the character before it.
        let ends = cell.char_indices().map(|(at, _)| at);
        let end = ends.take_while(|at| cell[..*at].width() <= room).last().unwrap_or_default();
        shown = format!("{}{CUT}", &cell[..end]);
    }
    let blanks = width.saturating_sub(shown.width());
    shown + &" ".repeat(blanks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [Column; 4] =
        [Column::Kept("ID"), Column::Words("TAKEN"), Column::Whole("SIZE"), Column::Words("LABEL")];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row([
                "3f9c21ab",
                "2026-11-21 23:10 UTC (3 h 52 min ago)",
                "2.1 MiB",
                "夢の前のスナップショット 🐱 before the long dream of last night",
            ]),
            row(["0b1d2e3f", "2026-11-21 22:10 UTC (just now)", "997 B", ""]),
        ]
    }

    /// Would catch: an id that is cut, wide characters that push a column aside, columns that vanish unsaid.
    #[test]
    fn tables_give_way_in_order() {
        let shown = |width| lines(&COLUMNS, &rows(), width).join("\n");
        let all = [Some(12), Some(40), Some(80), Some(200), None].map(shown);
        insta::assert_snapshot!("widths", all.join("\n\n"));
    }

    const CELLS: &str = "[a-z 語🐱☀\u{fe0f}e\u{301}]{0,30}";

    proptest! {
        /// Would catch: a line wider than the terminal though there was room to cut, a panic at any width.
        #[test]
        fn lines_fit(
            cells in prop::collection::vec(prop::collection::vec(CELLS, 4..=4), 0..5),
            width in 0usize..120,
        ) {
            let text = lines(&COLUMNS, &cells, Some(width));
            prop_assert_eq!(text.len(), cells.len() + 1);
            let id = cells.iter().map(|row| row[0].width()).max().unwrap_or_default().max(2);
            for line in text {
                prop_assert!(line.width() <= width.max(id + 1), "{:?} in {}", line, width);
            }
        }

        /// Would catch: a column that does not start at one place, for a cell before it is wider than its column.
        #[test]
        fn cells_fill_their_place(cell in CELLS, width in 1usize..60) {
            prop_assert_eq!(padded(&cell, width).width(), width);
        }
    }
}
