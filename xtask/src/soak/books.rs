//! The books of the soak: what was run so far, so that it goes on where it was stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fixtures::put;
use crate::tools::Outcome;

/// What was run with one seed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Books {
    /// The seed of all cases.
    pub(crate) seed: u64,
    /// By part.
    pub(crate) parts: BTreeMap<String, Account>,
}

/// What came of one part so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Digest of the programs that ran it.
    pub(crate) build: String,
    /// Cases that were run: those before this number.
    pub(crate) done: u64,
    /// Cases of the full run; none before the first slice.
    pub(crate) total: Option<u64>,
    /// What was wrong.
    pub(crate) wrong: Vec<String>,
    /// How often what happened.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Times in microseconds.
    pub(crate) times_us: BTreeMap<String, Vec<u64>>,
    /// Time that was spent, in milliseconds.
    pub(crate) spent_ms: u64,
    /// Why it cannot go on, where it cannot.
    pub(crate) stopped: Option<String>,
}

/// What one slice says, as `nexo-soak` prints it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Tally {
    done: u64,
    total: u64,
    wrong: Vec<String>,
    counts: BTreeMap<String, u64>,
    times_us: BTreeMap<String, Vec<u64>>,
}

impl Books {
    /// Those at `path`; new ones where there are none, or `fresh` ones are wanted.
    pub(crate) fn open(path: &Path, seed: u64, fresh: bool) -> Result<Self, String> {
        if fresh || !path.exists() {
            return Ok(Self { seed, ..Self::default() });
        }
        let text = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let books: Self = serde_json::from_slice(&text)
            .map_err(|e| format!("{} is no book of a soak: {e}", path.display()))?;
        match books.seed == seed {
            true => Ok(books),
            false => Err(format!("{} is of seed {}; remove it first", path.display(), books.seed)),
        }
    }

    /// Goes on with a part, which one build must have run all of; begins it anew where it is told to.
    pub(crate) fn begin(&mut self, part: &str, build: &str, fresh: bool) -> Outcome {
        let new = Account { build: build.to_owned(), ..Account::default() };
        let account = self.parts.entry(part.to_owned()).or_insert_with(|| new.clone());
        if fresh {
            *account = new;
        }
        // What stopped it may be over.
        account.stopped = None;
        match account.build == build {
            true => Ok(()),
            false => Err(format!("{part} was run by another build: --fresh begins it anew")),
        }
    }

    /// Writes them down.
    pub(crate) fn save(&self, path: &Path) -> Outcome {
        let text = serde_json::to_vec(self).map_err(|e| format!("cannot write the books: {e}"))?;
        // A soak that is killed here must not lose its books.
        let temp = path.with_extension("new");
        put(&temp, &text)?;
        rename(&temp, path)
    }

    /// Whether nothing is wrong with these parts, and each could be run.
    pub(crate) fn is_clean(&self, parts: &[String]) -> bool {
        let chosen = parts.iter().filter_map(|part| self.parts.get(part));
        chosen.into_iter().all(|part| part.wrong.is_empty() && part.stopped.is_none())
    }
}

impl Tally {
    /// Whether the part has cases, and not those that were asked for.
    pub(crate) const fn is_beyond(&self) -> bool {
        self.done == 0 && self.total > 0
    }
}

impl Account {
    /// Whether there is nothing left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.stopped.is_some() || self.total.is_some_and(|total| self.done >= total)
    }

    /// Adds what a slice came to.
    pub(crate) fn add(&mut self, tally: Tally, spent: Duration) {
        if tally.total == 0 {
            // What cannot be run here is not done: it is tried again by the next soak.
            self.stopped = tally.counts.into_keys().next();
            return;
        }
        self.done += tally.done;
        self.total = Some(tally.total);
        self.wrong.extend(tally.wrong);
        self.spent_ms += u64::try_from(spent.as_millis()).unwrap_or(u64::MAX);
        for (what, n) in tally.counts {
            *self.counts.entry(what).or_default() += n;
        }
        for (what, times) in tally.times_us {
            self.times_us.entry(what).or_default().extend(times);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file below target/")]
fn rename(from: &Path, to: &Path) -> Outcome {
    fs::rename(from, to).map_err(|e| format!("cannot write {}: {e}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(done: u64) -> Tally {
        let counts = BTreeMap::from([("old".to_owned(), done)]);
        let times_us = BTreeMap::from([("held".to_owned(), vec![done])]);
        Tally { done, total: 5, wrong: vec!["case 1: torn".to_owned()], counts, times_us }
    }

    /// Would catch: a slice that counts for nothing or twice, a part that never ends or ends early.
    #[test]
    fn slices_add_up_and_a_part_ends() {
        let mut account = Account::default();
        assert!(!account.is_over(), "nothing was run");
        account.add(tally(3), Duration::from_millis(10));
        assert!(!account.is_over());
        account.add(tally(2), Duration::from_millis(10));
        assert!(account.is_over());
        assert_eq!((account.done, account.spent_ms, account.wrong.len()), (5, 20, 2));
        assert_eq!((account.counts["old"], account.times_us["held"].len()), (5, 2));
        let counts = BTreeMap::from([("NOT RUN: no strace".to_owned(), 1)]);
        let mut stopped = Account::default();
        stopped.add(Tally { counts, ..Tally::default() }, Duration::ZERO);
        assert_eq!(stopped.stopped.as_deref(), Some("NOT RUN: no strace"));
        assert!(stopped.is_over() && stopped.total.is_none());
        assert!(tally(0).is_beyond() && !tally(1).is_beyond());
        assert!(!Tally::default().is_beyond(), "it cannot be run, which is another thing");
    }

    /// Would catch: cases of two seeds or builds in one row, and a soak that begins anew each time.
    #[test]
    fn books_are_gone_on_with_by_the_same_seed_and_build_only() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("books.json");
        let mut books = Books::open(&path, 7, false).unwrap();
        books.begin("cuts", "a", false).unwrap();
        books.parts.get_mut("cuts").unwrap().add(tally(3), Duration::from_millis(10));
        books.save(&path).unwrap();
        let mut again = Books::open(&path, 7, false).unwrap();
        assert_eq!(again, books);
        assert!(Books::open(&path, 8, false).is_err());
        assert!(Books::open(&path, 8, true).unwrap().parts.is_empty());
        again.parts.get_mut("cuts").unwrap().stopped = Some("no memory".to_owned());
        again.begin("cuts", "a", false).unwrap();
        assert_eq!(again, books, "it goes on");
        assert!(again.begin("cuts", "b", false).unwrap_err().contains("another build"));
        again.begin("cuts", "b", true).unwrap();
        assert_eq!(again.parts["cuts"], Account { build: "b".to_owned(), ..Account::default() });
        let cuts = ["cuts".to_owned()];
        assert!(!books.is_clean(&cuts) && again.is_clean(&cuts) && books.is_clean(&[]));
    }
}
