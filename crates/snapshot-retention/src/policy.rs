//! What is to be kept.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use snapshot_core::CreatedBy;

/// Snapshots that an agent keeps, as in 0.1.
const KEEP_COUNT: u32 = 30;
/// Days that a snapshot is kept, as in 0.1.
const MAX_AGE_DAYS: u32 = 90;
/// Snapshots that one automatic origin keeps: as many dreams or restores can be undone.
const AUTO_KEEP_COUNT: u32 = 10;
/// What takes snapshots by itself, in bursts, and must not push out the others.
const AUTO_ORIGINS: [&str; 4] =
    ["auto-pre-dream", "auto-pre-restore", "auto-pre-recovery", "auto-pre-mutating-tool"];

/// A policy. Limits drop, rules keep: a snapshot goes only where a limit says so and no rule keeps
/// it.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Limit: this many of the newest stay.
    pub keep_count: Option<u32>,
    /// Limit: none is older.
    pub max_age_days: Option<u32>,
    /// Limit: all together have at most this many bytes; the oldest go first.
    pub max_total_bytes: Option<u64>,
    /// Limits of single origins, whose snapshots then count against these alone.
    pub origins: BTreeMap<CreatedBy, Budget>,
    /// Rule: the newest this many stay.
    pub keep_last: u32,
    /// Rule: the newest of each of so many hours, days, ...
    pub calendar: Calendar,
    /// Rule: all that were taken in the days before the newest stay.
    pub keep_within_days: Option<u32>,
    /// Rule: these labels stay; one that ends in `*` stands for all that begin so.
    pub keep_labels: Vec<String>,
    /// Where days, weeks, months and years begin.
    pub time_zone: TimeZone,
}

/// The limits of one origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// This many of the newest stay.
    pub keep_count: Option<u32>,
    /// None is older.
    pub max_age_days: Option<u32>,
}

/// How many hours, days, weeks, months and years keep their newest snapshot. Only those that have
/// one count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calendar {
    /// Hours.
    pub hourly: u32,
    /// Days.
    pub daily: u32,
    /// Weeks, which begin on Monday.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

impl Default for Policy {
    fn default() -> Self {
        let budget = Budget { keep_count: Some(AUTO_KEEP_COUNT), max_age_days: Some(MAX_AGE_DAYS) };
        Self {
            keep_count: Some(KEEP_COUNT),
            max_age_days: Some(MAX_AGE_DAYS),
            max_total_bytes: None,
            origins: AUTO_ORIGINS.map(|name| (CreatedBy::from_static(name), budget)).into(),
            keep_last: 0,
            calendar: Calendar::default(),
            keep_within_days: None,
            keep_labels: Vec::new(),
            time_zone: TimeZone::UTC,
        }
    }
}

impl Policy {
    /// The limits that an origin's snapshots stand under.
    #[must_use]
    pub fn budget(&self, origin: &CreatedBy) -> Budget {
        let general = Budget { keep_count: self.keep_count, max_age_days: self.max_age_days };
        self.origins.get(origin).copied().unwrap_or(general)
    }

    /// The label pattern that keeps this label.
    pub(crate) fn label_rule(&self, label: &str) -> Option<&str> {
        let fits = |rule: &&String| match rule.strip_suffix('*') {
            Some(start) => label.starts_with(start),
            None => label == rule.as_str(),
        };
        self.keep_labels.iter().find(fits).map(String::as_str)
    }
}
