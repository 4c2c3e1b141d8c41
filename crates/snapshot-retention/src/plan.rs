//! The plan: what stays and what goes, and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use snapshot_core::{CreatedBy, SnapshotId};

use crate::calendar::Slots;
use crate::policy::Policy;
use crate::reason::Reason;

/// One day, in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// How long a check of a bundle counts, in milliseconds: 7 days. Publishing is one.
pub const CHECK_COUNTS_MS: i64 = 7 * DAY_MS;
/// How far clocks of one machine and the next may differ, in milliseconds: 5 minutes.
const SKEW_MS: i64 = 300_000;
/// 2020-01-01: a snapshot that says it is older was taken by a clock that had lost its time.
const FIRST_MS: i64 = 1_577_836_800_000;
/// The most that a time without snapshots counts as age, in days: the limit of age itself, but within
/// these. Longer, either the clock jumped or the agent stopped; in both cases age would eat up what
/// there is.
const GAP_COUNTS_DAYS: (u32, u32) = (3, 14);
/// Snapshots after such a time, over a day at least, that make it count at all: fewer could be those of
/// a clock that jumped.
const GAP_PROVEN_BY: usize = 3;

/// A snapshot to decide about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The snapshot.
    pub id: SnapshotId,
    /// The instant of its cut, milliseconds since the epoch, UTC.
    pub created_at_ms: i64,
    /// Size of its bundle.
    pub size_bytes: u64,
    /// Its label.
    pub label: Option<String>,
    /// What asked for it.
    pub created_by: CreatedBy,
    /// Whether redaction ran: it cannot bring everything back, so it is never the last good one.
    pub redacted: bool,
    /// What is known of its bundle.
    pub health: Health,
    /// Why it is pinned, where it is.
    pub pin: Option<String>,
    /// What needs it, where something does.
    pub needed: Option<String>,
}

/// What is known of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Its digest was right; publishing counts as a check.
    Good {
        /// When, milliseconds since the epoch, UTC.
        checked_at_ms: i64,
    },
    /// It is damaged.
    Bad {
        /// How.
        why: String,
    },
    /// Nobody whose signature counts vouches for it, where that is required: it may be anybody's, so it is
    /// never the last good one and takes nobody's place.
    Untrusted,
    /// Nobody has looked.
    Unknown,
}

/// What is to become of an agent's snapshots. Displays as one line each, and its notes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Every snapshot, newest first.
    pub entries: Vec<Entry>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// Bundles of which one must be found good before anything may go, in this order.
    #[serde(skip)]
    pub needs_check: Vec<SnapshotId>,
}

/// What is to become of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The snapshot.
    pub id: SnapshotId,
    /// The instant of its cut, milliseconds since the epoch, UTC.
    pub created_at_ms: i64,
    /// Size of its bundle.
    pub size_bytes: u64,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether it stays.
    pub keep: bool,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}

/// A candidate on its way to an entry.
struct Case<'c> {
    candidate: &'c Candidate,
    /// Whether anything can be told from its time.
    timely: bool,
    keep: Vec<Reason>,
    over: Vec<Reason>,
}

/// The ages of snapshots, walked from the newest, under each limit of age that there is.
struct Ages {
    by_limit: BTreeMap<u32, i64>,
    last_ms: i64,
    newest_ms: Option<i64>,
    seen: usize,
    longest_gap_ms: i64,
}

/// What is to become of `candidates`, at `now_ms`; `hold` is why nothing may go, where that is so.
#[must_use]
pub fn plan(candidates: &[Candidate], policy: &Policy, hold: Option<&str>, now_ms: i64) -> Plan {
    let mut cases: Vec<Case<'_>> = candidates.iter().map(|c| Case::new(c, hold, now_ms)).collect();
    cases.sort_by_key(|case| std::cmp::Reverse((case.candidate.created_at_ms, case.candidate.id)));
    let mut notes = Vec::new();
    apply_rules(&mut cases, policy);
    apply_limits(&mut cases, policy, now_ms, &mut notes);
    apply_size(&mut cases, policy, &mut notes);
    let needs_check = guard_last_good(&mut cases, now_ms);
    note_times(&cases, &mut notes);
    Plan { entries: cases.into_iter().map(Case::into_entry).collect(), notes, needs_check }
}

impl Plan {
    /// Those that go, newest first.
    pub fn dropped(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.keep)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            let word = if entry.keep { "keep" } else { "drop" };
            writeln!(f, "{word}  {}  {}", entry.id.short(), entry.why())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note  {note}"))
    }
}

impl Entry {
    /// The reasons in one line.
    #[must_use]
    pub fn why(&self) -> String {
        self.reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl<'c> Case<'c> {
    fn new(candidate: &'c Candidate, hold: Option<&str>, now_ms: i64) -> Self {
        let mut keep = Vec::new();
        keep.extend(hold.map(|why| Reason::Held { why: why.to_owned() }));
        keep.extend(candidate.pin.clone().map(|why| Reason::Pinned { why }));
        keep.extend(candidate.needed.clone().map(|why| Reason::Needed { why }));
        let future = candidate.created_at_ms > now_ms.saturating_add(SKEW_MS);
        let outlier = candidate.created_at_ms < FIRST_MS;
        if future {
            keep.push(Reason::Future);
        }
        if outlier {
            keep.push(Reason::Outlier);
        }
        Self { candidate, timely: !future && !outlier, keep, over: Vec::new() }
    }

    fn stays(&self) -> bool {
        self.over.is_empty() || !self.keep.is_empty()
    }

    fn is_bad(&self) -> bool {
        matches!(self.candidate.health, Health::Bad { .. }) || self.is_untrusted()
    }

    fn is_untrusted(&self) -> bool {
        self.candidate.health == Health::Untrusted
    }

    /// Whether it was found good lately and holds everything.
    fn is_good(&self, now_ms: i64) -> bool {
        let lately = |checked: i64| checked >= now_ms.saturating_sub(CHECK_COUNTS_MS);
        let good = matches!(self.candidate.health, Health::Good { checked_at_ms } if lately(checked_at_ms));
        good && !self.candidate.redacted
    }

    fn into_entry(self) -> Entry {
        let keep = self.stays();
        let mut reasons = if keep { self.keep } else { self.over };
        if reasons.is_empty() {
            reasons.push(Reason::WithinLimits);
        }
        let Candidate { id, created_at_ms, size_bytes, label, .. } = self.candidate;
        let (id, created_at_ms, size_bytes) = (*id, *created_at_ms, *size_bytes);
        Entry { id, created_at_ms, size_bytes, label: label.clone(), keep, reasons }
    }
}

impl Ages {
    fn new(policy: &Policy, now_ms: i64) -> Self {
        let budgets = policy.origins.values().map(|budget| budget.max_age_days);
        let limits = budgets.chain([policy.max_age_days]).flatten();
        let by_limit = limits.map(|days| (days, 0)).collect();
        Self { by_limit, last_ms: now_ms, newest_ms: None, seen: 0, longest_gap_ms: 0 }
    }

    /// Goes on to the next older snapshot.
    fn step(&mut self, created_at_ms: i64) {
        let gap_ms = self.last_ms.saturating_sub(created_at_ms).max(0);
        let newest_ms = *self.newest_ms.get_or_insert(created_at_ms);
        let proven = is_proven(self.seen, newest_ms, self.last_ms);
        self.longest_gap_ms = self.longest_gap_ms.max(gap_ms);
        for (days, age) in &mut self.by_limit {
            let (least, most) = GAP_COUNTS_DAYS;
            let most = i64::from((*days).clamp(least, most)) * DAY_MS;
            let counts = match gap_ms <= most {
                true => gap_ms,
                false if !proven => 0,
                // Of a short limit no gap may eat up more than half.
                false => most.min(i64::from(*days) * DAY_MS / 2),
            };
            *age = age.saturating_add(counts);
        }
        self.last_ms = created_at_ms;
        self.seen += 1;
    }

    fn of(&self, days: u32) -> i64 {
        self.by_limit.get(&days).copied().unwrap_or_default()
    }
}

/// The rules that keep. Damaged ones, redacted ones, which are no way back, and those of origins with limits of
/// their own take nobody's place.
fn apply_rules(cases: &mut [Case<'_>], policy: &Policy) {
    let mut slots = Slots::new(policy.calendar, policy.time_zone.clone());
    let mut last = policy.keep_last;
    let ends = ends(cases);
    for case in cases.iter_mut() {
        let candidate = case.candidate;
        if let Some(rule) = candidate.label.as_deref().and_then(|label| policy.label_rule(label)) {
            case.keep.push(Reason::Label { rule: rule.to_owned() });
        }
        let apart = policy.origins.contains_key(&candidate.created_by);
        if !case.timely || case.is_bad() || apart || candidate.redacted {
            continue;
        }
        if last > 0 {
            last -= 1;
            case.keep.push(Reason::Last);
        }
        case.keep.extend(slots.keep(candidate.created_at_ms));
        let within = |end: &i64, days: u32| {
            let before = end.saturating_sub(candidate.created_at_ms);
            (0..=i64::from(days).saturating_mul(DAY_MS)).contains(&before)
        };
        if let Some(days) = policy.keep_within_days
            && ends.iter().any(|end| within(end, days))
        {
            case.keep.push(Reason::Within { days });
        }
    }
}

/// The newest snapshot, and the newest before a gap if what came after it does not prove that the
/// clock was right.
fn ends(cases: &[Case<'_>]) -> Vec<i64> {
    let timely = cases.iter().filter(|case| case.timely && !case.is_untrusted());
    let mut times = timely.map(|case| case.candidate.created_at_ms);
    let Some(newest) = times.next() else { return Vec::new() };
    let (mut last, mut seen) = (newest, 1);
    for time in times {
        if last.saturating_sub(time) > i64::from(GAP_COUNTS_DAYS.1) * DAY_MS {
            return if is_proven(seen, newest, last) { vec![newest] } else { vec![newest, time] };
        }
        (last, seen) = (time, seen + 1);
    }
    vec![newest]
}

/// Whether snapshots after a gap, the newest and the oldest of them, make it count.
const fn is_proven(seen: usize, newest_ms: i64, oldest_ms: i64) -> bool {
    seen >= GAP_PROVEN_BY && newest_ms.saturating_sub(oldest_ms) >= DAY_MS
}

/// The limits of count and age.
fn apply_limits(cases: &mut [Case<'_>], policy: &Policy, now_ms: i64, notes: &mut Vec<String>) {
    let mut ages = Ages::new(policy, now_ms);
    // Redacted ones count among themselves: none pushes out a way back.
    let mut newer: BTreeMap<(Option<&CreatedBy>, bool), u32> = BTreeMap::new();
    let mut spared = 0;
    for case in cases.iter_mut().filter(|case| case.timely) {
        // One that may be anybody's closes no gap.
        if !case.is_untrusted() {
            ages.step(case.candidate.created_at_ms);
        }
        let origin = &case.candidate.created_by;
        let budget = policy.budget(origin);
        let group = policy.origins.contains_key(origin).then_some(origin);
        let before = newer.entry((group, case.candidate.redacted)).or_default();
        if let Some(keep) = budget.keep_count.filter(|keep| *before >= *keep) {
            case.over.push(Reason::Count { keep, origin: group.map(ToString::to_string) });
        }
        // A damaged one does not push out a sound one, nor one that may be anybody's.
        *before += u32::from(!case.is_bad());
        let Some(days) = budget.max_age_days else { continue };
        let limit_ms = i64::from(days).saturating_mul(DAY_MS);
        if ages.of(days) > limit_ms {
            case.over.push(Reason::Age { days });
        } else if case.over.is_empty()
            && now_ms.saturating_sub(case.candidate.created_at_ms) > limit_ms
        {
            spared += 1;
        }
    }
    if spared > 0 {
        notes.push(format!(
            "{spared} stay that a long time without snapshots has made old: {} days, in which either \
             the clock jumped or the agent stopped",
            ages.longest_gap_ms / DAY_MS
        ));
    }
}

/// The limit of all sizes together: the oldest that nothing keeps go first, the newest never. Those that may
/// be anybody's go before all others, who are then measured without them.
fn apply_size(cases: &mut [Case<'_>], policy: &Policy, notes: &mut Vec<String>) {
    let Some(max_total_bytes) = policy.max_total_bytes else { return };
    for untrusted in [true, false] {
        let counts = |case: &&mut Case<'_>| untrusted || !case.is_untrusted();
        let mut staying: Vec<_> =
            cases.iter_mut().filter(|case| case.stays()).filter(counts).collect();
        let size = |case: &Case<'_>| case.candidate.size_bytes;
        let mut total = staying.iter().map(|case| size(case)).fold(0, u64::saturating_add);
        for case in staying.iter_mut().skip(1).rev() {
            if total > max_total_bytes && case.keep.is_empty() && case.is_untrusted() == untrusted {
                total -= size(case);
                case.over.push(Reason::Size { max_total_bytes });
            }
        }
        if total > max_total_bytes && !untrusted {
            notes.push(format!("{total} bytes stay, and {max_total_bytes} are allowed"));
        }
    }
}

/// Sees to it that a good one stays; returns what must be looked at where none is known to be.
fn guard_last_good(cases: &mut [Case<'_>], now_ms: i64) -> Vec<SnapshotId> {
    if cases.iter().all(Case::stays) || cases.iter().any(|c| c.stays() && c.is_good(now_ms)) {
        return Vec::new();
    }
    if let Some(last) = cases.iter_mut().find(|case| case.is_good(now_ms)) {
        last.keep.push(Reason::LastGood);
        return Vec::new();
    }
    let unknown = |case: &&Case<'_>| !case.is_bad() && !case.candidate.redacted;
    let (staying, going): (Vec<_>, Vec<_>) = cases.iter().filter(unknown).partition(|c| c.stays());
    let needs_check = staying.into_iter().chain(going).map(|case| case.candidate.id).collect();
    for case in cases.iter_mut().filter(|case| !case.stays()) {
        case.keep.push(Reason::NoneGood);
    }
    needs_check
}

fn note_times(cases: &[Case<'_>], notes: &mut Vec<String>) {
    for (reason, what) in [(Reason::Future, "in the future"), (Reason::Outlier, "before 2020")] {
        let count = cases.iter().filter(|case| case.keep.contains(&reason)).count();
        if count > 0 {
            notes.push(format!("{count} with a time {what}: kept, and not counted"));
        }
    }
}
