//! The section `retention`: what is to be kept.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Serialize;
use snapshot_core::CreatedBy;
use snapshot_retention::{Budget, Calendar, Policy};

use super::ConfigError;
use super::keys::MAX_INTERVAL_SECS;
use super::section::Section;

/// Most keep rules of one sort.
const MAX_RULES: usize = 256;

/// The section as written; what is absent there is absent here. 0 for a limit means none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetentionSection {
    /// Limit: this many of the newest stay.
    pub keep_count: Option<u32>,
    /// Limit: none is older.
    pub max_age_days: Option<u32>,
    /// The time between two runs of a worker, in seconds.
    pub gc_interval_secs: Option<u64>,
    /// Limit: all of an agent's together have at most this many bytes.
    pub max_total_bytes: Option<u64>,
    /// Rule: the newest this many stay.
    pub keep_last: Option<u32>,
    /// Rule: the newest of each of so many hours stays.
    pub keep_hourly: Option<u32>,
    /// Of days.
    pub keep_daily: Option<u32>,
    /// Of weeks.
    pub keep_weekly: Option<u32>,
    /// Of months.
    pub keep_monthly: Option<u32>,
    /// Of years.
    pub keep_yearly: Option<u32>,
    /// Rule: all of the days before the newest stay.
    pub keep_within_days: Option<u32>,
    /// Rule: these labels stay; one that ends in `*` stands for all that begin so.
    pub keep_labels: Option<Vec<String>>,
    /// Where days begin, as `Europe/Berlin`.
    pub time_zone: Option<String>,
    /// Limits of single origins.
    pub origins: BTreeMap<CreatedBy, OriginSection>,
}

/// Limits of one origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct OriginSection {
    /// This many of the newest stay.
    pub keep_count: Option<u32>,
    /// None is older.
    pub max_age_days: Option<u32>,
}

impl RetentionSection {
    /// The policy, with the defaults of [`Policy`] for what is absent.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let default = Policy::default();
        let mut origins = default.origins.clone();
        for (origin, section) in &self.origins {
            let general =
                Budget { keep_count: default.keep_count, max_age_days: default.max_age_days };
            let known = origins.get(origin).copied().unwrap_or(general);
            let budget = Budget {
                keep_count: limit(section.keep_count, known.keep_count),
                max_age_days: limit(section.max_age_days, known.max_age_days),
            };
            origins.insert(origin.clone(), budget);
        }
        // Read when it was parsed: it is one.
        let zone = self.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        Policy {
            keep_count: limit(self.keep_count, default.keep_count),
            max_age_days: limit(self.max_age_days, default.max_age_days),
            max_total_bytes: self.max_total_bytes.filter(|bytes| *bytes > 0),
            origins,
            keep_last: self.keep_last.unwrap_or_default(),
            calendar: Calendar {
                hourly: self.keep_hourly.unwrap_or_default(),
                daily: self.keep_daily.unwrap_or_default(),
                weekly: self.keep_weekly.unwrap_or_default(),
                monthly: self.keep_monthly.unwrap_or_default(),
                yearly: self.keep_yearly.unwrap_or_default(),
            },
            keep_within_days: self.keep_within_days,
            keep_labels: self.keep_labels.clone().unwrap_or_default(),
            time_zone: zone.unwrap_or(default.time_zone),
        }
    }

    /// What is absent here is what `all` says; origins that both name keep each limit that is given
    /// here.
    #[must_use]
    pub fn or(self, all: &Self) -> Self {
        let mut origins = all.origins.clone();
        for (origin, own) in self.origins {
            let general = origins.entry(origin).or_default();
            general.keep_count = own.keep_count.or(general.keep_count);
            general.max_age_days = own.max_age_days.or(general.max_age_days);
        }
        Self {
            keep_count: self.keep_count.or(all.keep_count),
            max_age_days: self.max_age_days.or(all.max_age_days),
            gc_interval_secs: self.gc_interval_secs.or(all.gc_interval_secs),
            max_total_bytes: self.max_total_bytes.or(all.max_total_bytes),
            keep_last: self.keep_last.or(all.keep_last),
            keep_hourly: self.keep_hourly.or(all.keep_hourly),
            keep_daily: self.keep_daily.or(all.keep_daily),
            keep_weekly: self.keep_weekly.or(all.keep_weekly),
            keep_monthly: self.keep_monthly.or(all.keep_monthly),
            keep_yearly: self.keep_yearly.or(all.keep_yearly),
            keep_within_days: self.keep_within_days.or(all.keep_within_days),
            keep_labels: self.keep_labels.or_else(|| all.keep_labels.clone()),
            time_zone: self.time_zone.or_else(|| all.time_zone.clone()),
            origins,
        }
    }

    /// The time between two runs.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.gc_interval_secs.filter(|secs| *secs > 0).map(Duration::from_secs)
    }
}

/// 0 is no limit, and absent the default.
fn limit(written: Option<u32>, default: Option<u32>) -> Option<u32> {
    written.map_or(default, |n| Some(n).filter(|n| *n > 0))
}

pub(super) fn read(mut section: Section<'_>) -> Result<RetentionSection, ConfigError> {
    let gc_interval_secs = section.number("gc_interval_secs", 0..=MAX_INTERVAL_SECS)?;
    Ok(RetentionSection { gc_interval_secs, ..read_own(section)? })
}

/// Reads what may be said of one agent: all but the time between two runs.
pub(super) fn read_own(mut section: Section<'_>) -> Result<RetentionSection, ConfigError> {
    let mut count = |key: &str| section.count(key);
    let read = RetentionSection {
        keep_count: count("keep_count")?,
        max_age_days: count("max_age_days")?,
        keep_last: count("keep_last")?,
        keep_hourly: count("keep_hourly")?,
        keep_daily: count("keep_daily")?,
        keep_weekly: count("keep_weekly")?,
        keep_monthly: count("keep_monthly")?,
        keep_yearly: count("keep_yearly")?,
        keep_within_days: count("keep_within_days")?,
        gc_interval_secs: None,
        max_total_bytes: section.number("max_total_bytes", 0..=u64::MAX)?,
        keep_labels: section.texts("keep_labels", MAX_RULES)?,
        time_zone: section.expanded("time_zone")?,
        origins: section.section("origins")?.map(read_origins).transpose()?.unwrap_or_default(),
    };
    if let Some(zone) = &read.time_zone
        && let Err(e) = TimeZone::get(zone)
    {
        return Err(section.bad("time_zone", e.to_string()));
    }
    section.finish();
    Ok(read)
}

fn read_origins(origins: Section<'_>) -> Result<BTreeMap<CreatedBy, OriginSection>, ConfigError> {
    let mut read = BTreeMap::new();
    for (name, mut section) in origins.into_sections()? {
        let origin = name.parse::<CreatedBy>().map_err(|e| section.bad_here(e.to_string()))?;
        let budget = OriginSection {
            keep_count: section.count("keep_count")?,
            max_age_days: section.count("max_age_days")?,
        };
        section.finish();
        read.insert(origin, budget);
    }
    Ok(read)
}
