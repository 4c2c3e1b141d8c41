//! What came of a slice of a part's cases, as JSON for `cargo xtask soak`.

use std::collections::BTreeMap;

use serde::Serialize;

/// What came of some cases.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Cases that were run, from the first of the slice on.
    pub done: u64,
    /// Cases of the full run.
    pub total: u64,
    /// What was wrong, a line each that names its case.
    pub wrong: Vec<String>,
    /// How often what happened: numbers to be added up.
    pub counts: BTreeMap<String, u64>,
    /// Times in microseconds, all of them, by what was timed.
    pub times_us: BTreeMap<String, Vec<u64>>,
}

/// What a case counts as whose fault had nothing to strike.
pub const NOT_REACHED: &str = "not reached";
/// From so many cases on it is told where too many of them are.
const MANY: u64 = 20;

impl Tally {
    /// None yet of `total`.
    #[must_use]
    pub fn of(total: u64) -> Self {
        Self { total, ..Self::default() }
    }

    /// No cases at all, and why.
    #[must_use]
    pub fn not_run(why: &str) -> Self {
        let mut tally = Self::default();
        tally.count(format!("NOT RUN: {why}"));
        tally
    }

    /// Adds one to what is called `what`.
    pub fn count(&mut self, what: impl Into<String>) {
        self.add(what, 1);
    }

    /// Adds `n` to what is called `what`.
    pub fn add(&mut self, what: impl Into<String>, n: u64) {
        *self.counts.entry(what.into()).or_default() += n;
    }

    /// Remembers a time.
    pub fn time(&mut self, what: &str, us: u64) {
        self.times_us.entry(what.to_owned()).or_default().push(us);
    }

    /// Remembers what is wrong with case `n`.
    pub fn wrong(&mut self, n: u64, why: impl std::fmt::Display) {
        self.wrong.push(format!("case {n}: {why}"));
    }

    /// Chance may let a case miss the call that it is about. Where more than one in ten does, the calls are not those
    /// that were counted, and the part proves little: that is wrong.
    #[must_use]
    pub fn refuse_misses(mut self) -> Self {
        let missed = self.counts.get(NOT_REACHED).copied().unwrap_or_default();
        if self.done >= MANY && missed * 10 > self.done {
            self.wrong.push(format!("{missed} of {} cases were {NOT_REACHED}", self.done));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a part that strikes nothing and is called clean.
    #[test]
    fn one_case_in_ten_may_miss() {
        let is_clean = |done, missed| {
            let mut tally = Tally { done, ..Tally::of(done) };
            tally.add(NOT_REACHED, missed);
            tally.refuse_misses().wrong.is_empty()
        };
        assert!(is_clean(30, 3) && !is_clean(30, 4) && is_clean(19, 19) && !is_clean(20, 20));
    }
}
