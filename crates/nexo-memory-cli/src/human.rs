//! Numbers and times as people read them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nexo_memory_snapshot::plan::Bytes;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    Bytes(n).to_string()
}

/// `2026-11-21 23:10 UTC (3 h 52 min ago)`; `zone` decides the hour shown.
pub(crate) fn time(ms: i64, now_ms: i64, zone: &TimeZone) -> String {
    let shown = match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string(),
        Err(_) => format!("{ms} ms since 1970"),
    };
    format!("{shown} ({})", age(ms, now_ms))
}

/// `3 h 52 min ago`, `just now`, or `in 2 min` where a clock was wrong.
pub(crate) fn age(ms: i64, now_ms: i64) -> String {
    let secs = now_ms.abs_diff(ms) / 1000;
    let span = match secs {
        0 => return "just now".to_owned(),
        1..MINUTE => format!("{secs} s"),
        MINUTE..HOUR => format!("{} min", secs / MINUTE),
        HOUR..DAY => format!("{} h {} min", secs / HOUR, secs % HOUR / MINUTE),
        _ => format!("{} d {} h", secs / DAY, secs % DAY / HOUR),
    };
    if ms <= now_ms { format!("{span} ago") } else { format!("in {span}") }
}

/// `0.08 ms`, `12.3 ms`, `1.8 s`.
pub(crate) fn span(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        ..1000.0 => format!("{ms:.1} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: u64, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_both_ways_and_at_the_extremes() {
        let hour = 3_600_000;
        assert_eq!(age(0, 999), "just now");
        assert_eq!(age(0, 1000), "1 s ago");
        assert_eq!(age(0, 59 * 60_000), "59 min ago");
        assert_eq!(age(0, 3 * hour + 52 * 60_000), "3 h 52 min ago");
        assert_eq!(age(0, 49 * hour), "2 d 1 h ago");
        assert_eq!(age(hour, 0), "in 1 h 0 min");
        assert!(age(i64::MIN, i64::MAX).ends_with(" ago"));
        assert!(time(i64::MAX, 0, &TimeZone::UTC).contains("since 1970"));
        assert_eq!(time(0, 1000, &TimeZone::UTC), "1970-01-01 00:00 UTC (1 s ago)");
    }

    #[test]
    fn spans_keep_two_or_three_digits() {
        assert_eq!(span(Duration::from_micros(80)), "0.08 ms");
        assert_eq!(span(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(span(Duration::from_millis(1840)), "1.8 s");
    }
}
