//! The one table of the soak.

use std::fmt::Write as _;

use super::books::{Account, Books};

/// Upper ends of the classes that times are shown in, in microseconds: 1, 2 and 5 in each decade.
const CLASSES: [u64; 16] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000,
];

/// Everything that was run so far, as Markdown.
pub(crate) fn table(books: &Books) -> String {
    let mut text = "| part | cases | of | wrong | what happened | minutes | build |\n\
                    |---|---|---|---|---|---|---|\n"
        .to_owned();
    for (name, part) in &books.parts {
        let total = part.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
        let counts: Vec<_> = part.counts.iter().map(|(what, n)| format!("{what}: {n}")).collect();
        let (tenths, wrong) = (part.spent_ms / 6_000, part.wrong.len());
        let stopped = if part.stopped.is_some() { "; stopped early" } else { "" };
        let _ = writeln!(
            text,
            "| {name} | {} | {total} | {wrong}{stopped} | {} | {}.{} | {} |",
            part.done,
            counts.join(", "),
            tenths / 10,
            tenths % 10,
            part.build.get(..8).unwrap_or(&part.build)
        );
    }
    for (name, part) in &books.parts {
        histograms(name, part, &mut text);
    }
    for (name, part) in &books.parts {
        for why in part.wrong.iter().chain(&part.stopped) {
            let _ = writeln!(text, "\nWRONG  {name}, {why}");
        }
    }
    text
}

/// What was timed, and how many lie in each class.
fn histograms(name: &str, part: &Account, text: &mut String) {
    for (what, times) in &part.times_us {
        let mut sorted = times.clone();
        sorted.sort_unstable();
        let _ = writeln!(text, "\n{name}, {what}: {} over {}\n", quantiles(times), times.len());
        text.push_str("| at most ms | how many |\n|---|---|\n");
        let mut before = 0;
        for class in CLASSES {
            let upto = sorted.partition_point(|us| *us <= class);
            if upto > before {
                let _ = writeln!(text, "| {} | {} |", millis(class), upto - before);
            }
            before = upto;
        }
        if sorted.len() > before {
            let _ = writeln!(text, "| more | {} |", sorted.len() - before);
        }
    }
}

/// The median, the 99th percentile and the longest of times in microseconds, by nearest rank.
pub(crate) fn quantiles(times_us: &[u64]) -> String {
    let mut sorted = times_us.to_vec();
    sorted.sort_unstable();
    let share = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        millis(sorted.get(rank).copied().unwrap_or_default())
    };
    format!("p50 {}, p99 {}, max {} ms", share(50), share(99), share(100))
}

fn millis(us: u64) -> String {
    format!("{}.{:02}", us / 1000, us % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Would catch: a part, a wrong case or a time that the table does not show.
    #[test]
    fn all_that_was_run_is_in_the_table() {
        let cuts = Account {
            done: 5,
            total: Some(10),
            counts: BTreeMap::from([("steps".to_owned(), 9)]),
            times_us: BTreeMap::from([("held".to_owned(), vec![40, 150, 160, 9_000_000])]),
            spent_ms: 90_000,
            build: "abcdef0123".to_owned(),
            ..Account::default()
        };
        let wrong = vec!["case 3: torn".to_owned()];
        let crash = Account { wrong, stopped: Some("died".to_owned()), ..Account::default() };
        let parts = BTreeMap::from([("cuts".to_owned(), cuts), ("crash".to_owned(), crash)]);
        let text = table(&Books { parts, ..Books::default() });
        assert!(text.contains("| cuts | 5 | 10 | 0 | steps: 9 | 1.5 | abcdef01 |\n"), "{text}");
        assert!(text.contains("| crash | 0 | ? | 1; stopped early |  | 0.0 |  |\n"), "{text}");
        assert!(text.contains("held: p50 0.15, p99 9000.00, max 9000.00 ms over 4"), "{text}");
        assert!(text.contains("| 0.05 | 1 |\n| 0.20 | 2 |\n| more | 1 |\n"), "{text}");
        assert!(text.contains("WRONG  crash, case 3: torn\n\nWRONG  crash, died\n"), "{text}");
    }
}
