//! Why a snapshot stays or goes.

use std::fmt;

use serde::Serialize;

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Stays: no limit drops it.
    WithinLimits,
    /// Stays: it is pinned.
    Pinned {
        /// Why, as its pinner said.
        why: String,
    },
    /// Stays: everything is on hold.
    Held {
        /// Why, as was said then.
        why: String,
    },
    /// Stays: something that runs or waits needs it.
    Needed {
        /// What.
        why: String,
    },
    /// Stays: the only good one.
    LastGood,
    /// Stays: nothing that would stay is known to be good.
    NoneGood,
    /// Stays: its time lies in the future, so nothing can be told from it.
    Future,
    /// Stays: its time is before there were any snapshots, so nothing can be told from it.
    Outlier,
    /// Stays: among the newest.
    Last,
    /// Stays: the newest of its hour, day, week, month or year.
    Newest {
        /// Of which span.
        of: &'static str,
        /// Which one.
        slot: String,
    },
    /// Stays: taken shortly before the newest.
    Within {
        /// How shortly.
        days: u32,
    },
    /// Stays: its label is kept.
    Label {
        /// The rule.
        rule: String,
    },
    /// Goes: enough newer ones stay.
    Count {
        /// The limit.
        keep: u32,
        /// Whose.
        #[serde(skip_serializing_if = "Option::is_none")]
        origin: Option<String>,
    },
    /// Goes: it is too old.
    Age {
        /// The limit.
        days: u32,
    },
    /// Goes: all together are too large.
    Size {
        /// The limit.
        max_total_bytes: u64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithinLimits => f.write_str("within the limits"),
            Self::Pinned { why } => write!(f, "pinned: {why}"),
            Self::Held { why } => write!(f, "on hold: {why}"),
            Self::Needed { why } => write!(f, "needed: {why}"),
            Self::LastGood => f.write_str("the last good one"),
            Self::NoneGood => f.write_str("nothing that would stay is known to be good"),
            Self::Future => f.write_str("its time lies in the future"),
            Self::Outlier => f.write_str("its time is impossible"),
            Self::Last => f.write_str("among the newest"),
            Self::Newest { of, slot } => write!(f, "{of}: {slot}"),
            Self::Within { days } => write!(f, "within {days} days of the newest"),
            Self::Label { rule } => write!(f, "label {rule}"),
            Self::Count { keep, origin: None } => write!(f, "more than {keep}"),
            Self::Count { keep, origin: Some(origin) } => write!(f, "more than {keep} {origin}"),
            Self::Age { days } => write!(f, "older than {days} days"),
            Self::Size { max_total_bytes } => write!(f, "over {max_total_bytes} bytes together"),
        }
    }
}
