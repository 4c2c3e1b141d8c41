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
}
