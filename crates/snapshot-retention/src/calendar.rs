//! Hours, days, weeks, months and years in a time zone.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::policy::Calendar;
use crate::reason::Reason;

/// Finds the name of the slot that a time lies in.
type Slot = fn(&Zoned) -> String;

/// The slots that keep their newest, filled from the newest snapshot on.
pub(crate) struct Slots {
    zone: TimeZone,
    rules: [Rule; 5],
}

struct Rule {
    of: &'static str,
    left: u32,
    slot: Slot,
    last: Option<String>,
}

impl Slots {
    pub(crate) fn new(calendar: Calendar, zone: TimeZone) -> Self {
        let rule = |of, left, slot: Slot| Rule { of, left, slot, last: None };
        let Calendar { hourly, daily, weekly, monthly, yearly } = calendar;
        Self {
            zone,
            rules: [
                // With the offset: the hour that a change of the clocks repeats is two.
                rule("hourly", hourly, |t| t.strftime("%Y-%m-%d %H:00 %:z").to_string()),
                rule("daily", daily, |t| t.strftime("%Y-%m-%d").to_string()),
                rule("weekly", weekly, week),
                rule("monthly", monthly, |t| t.strftime("%Y-%m").to_string()),
                rule("yearly", yearly, |t| t.strftime("%Y").to_string()),
            ],
        }
    }

    /// The reasons to keep the next older snapshot.
    pub(crate) fn keep(&mut self, created_at_ms: i64) -> Vec<Reason> {
        let Ok(time) = Timestamp::from_millisecond(created_at_ms) else { return Vec::new() };
        let time = time.to_zoned(self.zone.clone());
        let mut reasons = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| rule.left > 0) {
            let slot = (rule.slot)(&time);
            if rule.last.as_ref() != Some(&slot) {
                rule.left -= 1;
                reasons.push(Reason::Newest { of: rule.of, slot: slot.clone() });
                rule.last = Some(slot);
            }
        }
        reasons
    }
}

/// The Monday that the week begins with.
fn week(time: &Zoned) -> String {
    let days = i64::from(time.weekday().since(Weekday::Monday));
    let monday = time.date().saturating_sub(jiff::Span::new().days(days));
    format!("from {monday}")
}
