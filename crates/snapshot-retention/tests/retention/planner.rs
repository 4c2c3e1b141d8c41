//! The planner, rule by rule.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use snapshot_core::CreatedBy;
use snapshot_retention::{Budget, Calendar, Candidate, Health, Policy, Reason, plan};

use crate::support::{DAY_MS, HOUR_MS, NOW_MS, aged, daily, id, ids, keeping, kept, nothing};

fn bad(candidate: Candidate) -> Candidate {
    Candidate { health: Health::Bad { why: "truncated".to_owned() }, ..candidate }
}

fn unknown(candidate: Candidate) -> Candidate {
    Candidate { health: Health::Unknown, ..candidate }
}

fn at(n: u8, time: &str) -> Candidate {
    let created_at_ms = time.parse::<Timestamp>().unwrap().as_millisecond();
    Candidate { created_at_ms, ..aged(n, 0) }
}

/// Would catch: limits of 0.1 that mean something else here.
#[test]
fn count_and_age_limit_as_they_did_in_0_1() {
    let policy = Policy::default();
    assert_eq!((policy.keep_count, policy.max_age_days), (Some(30), Some(90)));
    let all = daily(40);
    assert_eq!(kept(&plan(&all, &policy, None, NOW_MS)), ids(0..30));
    let old = Policy { max_age_days: Some(5), ..nothing() };
    let plan = plan(&all, &old, None, NOW_MS);
    assert_eq!(kept(&plan), ids(0..=5));
    assert_eq!(plan.entries[7].reasons, [Reason::Age { days: 5 }]);
}

/// Would catch: something dropped that a person or a running operation holds on to.
#[test]
fn pins_holds_and_what_is_needed_stay() {
    let mut all = daily(6);
    all[4].pin = Some("the good old days".to_owned());
    all[5].needed = Some("an interrupted restore".to_owned());
    assert_eq!(kept(&plan(&all, &keeping(1), None, NOW_MS)), ids([0, 4, 5]));
    let held = plan(&all, &keeping(1), Some("incident 42"), NOW_MS);
    assert_eq!(held.dropped().count(), 0);
    assert!(held.entries[1].why().contains("incident 42"));
}

/// Would catch: the sound one deleted because a damaged or redacted one counts as good, as in 0.1.
#[test]
fn the_last_good_one_stays_whatever_the_limits_say() {
    let mut all = daily(4);
    all[0] = bad(aged(0, 0));
    all[1].redacted = true;
    // A damaged one does not push out a sound one either.
    assert_eq!(kept(&plan(&all, &keeping(1), None, NOW_MS)), ids([0, 1, 2]));
    let planned = plan(&all, &keeping(0), None, NOW_MS);
    assert_eq!(kept(&planned), ids([2]));
    assert_eq!(planned.entries[2].reasons, [Reason::LastGood]);
    let policy = Policy { max_age_days: Some(0), ..nothing() };
    assert_eq!(kept(&plan(&daily(3), &policy, None, NOW_MS + DAY_MS)), ids([0]));
}

/// Would catch: whole ones pushed out by redacted ones, which are no way back.
#[test]
fn redacted_ones_count_among_themselves() {
    let mut all = daily(6);
    for redacted in [0, 2, 4] {
        all[redacted].redacted = true;
    }
    assert_eq!(kept(&plan(&all, &keeping(2), None, NOW_MS)), ids([0, 1, 2, 3]));
    let policy = Policy { keep_last: 1, ..keeping(1) };
    assert_eq!(kept(&plan(&all, &policy, None, NOW_MS)), ids([0, 1]));
}

/// Would catch: a deletion before anything that stays was looked at.
#[test]
fn nothing_goes_before_one_is_found_good() {
    let mut all: Vec<Candidate> = daily(4).into_iter().map(unknown).collect();
    let stale = Health::Good { checked_at_ms: NOW_MS - 8 * DAY_MS };
    all[1].health = stale;
    let planned = plan(&all, &keeping(2), None, NOW_MS);
    assert_eq!(planned.dropped().count(), 0);
    assert_eq!(planned.needs_check, ids(0..4));
    all[0] = bad(all[0].clone());
    let planned = plan(&all, &keeping(2), None, NOW_MS);
    assert_eq!(planned.needs_check, ids(1..4));
    all[1].health = Health::Good { checked_at_ms: NOW_MS };
    let planned = plan(&all, &keeping(2), None, NOW_MS);
    assert!(planned.needs_check.is_empty());
    // The damaged one counts for nobody: two sound ones stay beside it.
    assert_eq!(kept(&planned), ids([0, 1, 2]));
    let all: Vec<Candidate> = all.into_iter().map(bad).collect();
    let planned = plan(&all, &keeping(1), None, NOW_MS);
    assert_eq!((planned.dropped().count(), planned.needs_check), (0, vec![]));
}

/// Would catch: a clock that was wrong, then or now, dropping what it should not.
#[test]
fn a_wrong_clock_drops_nothing_by_age() {
    let mut all = daily(4);
    all.push(aged(8, -40 * DAY_MS));
    all.push(Candidate { created_at_ms: 86_400_000, ..aged(9, 0) });
    let policy = Policy { max_age_days: Some(2), ..keeping(2) };
    let planned = plan(&all, &policy, None, NOW_MS);
    // The one from the future takes no place, and both stay.
    assert_eq!(kept(&planned), ids([8, 0, 1, 9]));
    assert_eq!(planned.notes.len(), 2, "{:?}", planned.notes);
    // The clock jumps forward by a year: ages are not counted, places are.
    let policy = Policy { max_age_days: Some(90), ..keeping(3) };
    let jumped = plan(&daily(4), &policy, None, NOW_MS + 365 * DAY_MS);
    assert_eq!(jumped.dropped().count(), 0, "nothing that stays is known to be good then");
    assert!(jumped.notes[0].contains("365 days"), "{:?}", jumped.notes);
}

/// Would catch: a snapshot by a clock that jumped, which makes all before it too old.
#[test]
fn a_snapshot_by_a_clock_that_jumped_makes_nothing_old() {
    let aging = |days| Policy { max_age_days: Some(days), ..nothing() };
    for days in [2, 7, 90] {
        // One each 23 hours, and then some by a clock that is a year ahead.
        let mut all: Vec<Candidate> =
            (0..10).map(|n| aged(n, 365 * DAY_MS + i64::from(n) * 23 * HOUR_MS)).collect();
        for n in 20..23 {
            let policy = aging(days);
            let planned = plan(&all, &policy, None, NOW_MS);
            let old = (0..10).filter(|n| i64::from(*n) > i64::from(days)).count();
            assert_eq!(planned.dropped().count(), old, "{days}, {n}: {planned}");
            assert!(planned.notes[0].contains("days, in which"), "{planned}");
            all.push(aged(n, i64::from(n - 20) * HOUR_MS));
        }
    }
    // Nor are those of the days before the newest any other.
    let mut all: Vec<Candidate> = (0..5).map(|n| aged(n, (365 + i64::from(n)) * DAY_MS)).collect();
    all.push(aged(20, 0));
    let within = Policy { keep_within_days: Some(2), ..keeping(1) };
    assert_eq!(kept(&plan(&all, &within, None, NOW_MS)), ids([20, 0, 1, 2]));
    // An agent that stopped for long and goes on: its old ones go in the end. The pause counts as half
    // of the limit, so the old ones are 21.5, 22.5, ... days old.
    let mut all: Vec<Candidate> = (0..10).map(|n| aged(n, i64::from(n) * DAY_MS)).collect();
    all.extend((20..30).map(|n| aged(n, (365 + i64::from(n)) * DAY_MS)));
    assert_eq!(plan(&all, &aging(25), None, NOW_MS).dropped().count(), 6);
}

/// Would catch: automatic snapshots pushing out those that people took, or kept for ever.
#[test]
fn automatic_ones_have_places_of_their_own() {
    let mut all = daily(4);
    let dream = CreatedBy::from_static("auto-pre-dream");
    all.extend((10..20).map(|n| Candidate { created_by: dream.clone(), ..aged(n, 0) }));
    let budget = Budget { keep_count: Some(3), max_age_days: None };
    let policy = Policy { origins: [(dream, budget)].into(), ..keeping(2) };
    let planned = plan(&all, &policy, None, NOW_MS);
    assert_eq!(planned.entries.iter().filter(|e| e.keep).count(), 5);
    assert!(kept(&planned).ends_with(&ids([1])));
    let Policy { origins, .. } = Policy::default();
    assert!(origins.contains_key(&CreatedBy::from_static("auto-pre-restore")));
}

/// Would catch: a label that is kept too widely or not at all.
#[test]
fn labels_keep_by_name_or_by_beginning() {
    let labels = ["release-1", "release", "re", "nightly"];
    let mut all = daily(5);
    for (candidate, label) in all[1..].iter_mut().zip(labels) {
        candidate.label = Some(label.to_owned());
    }
    let keep_labels = vec!["release*".to_owned(), "nightly".to_owned()];
    let policy = Policy { keep_labels, ..keeping(1) };
    assert_eq!(kept(&plan(&all, &policy, None, NOW_MS)), ids([0, 1, 2, 4]));
}

/// Would catch: a slot that begins at midnight of the wrong zone, weeks that begin on Sunday, or an
/// hour that the change of the clocks repeats counted once.
#[test]
fn calendar_slots_are_those_of_the_time_zone() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let policy = |calendar| Policy { calendar, time_zone: zone.clone(), ..keeping(0) };
    let kept_of = |all: &[Candidate], calendar| {
        let now = all.iter().map(|c| c.created_at_ms).max().unwrap() + HOUR_MS;
        let fresh = |c: &Candidate| {
            let health = Health::Good { checked_at_ms: now };
            Candidate { health, ..c.clone() }
        };
        let all: Vec<Candidate> = all.iter().map(fresh).collect();
        kept(&plan(&all, &policy(calendar), None, now))
    };
    // 23:30 UTC on the 9th is the 10th in Berlin.
    let days = [
        at(0, "2026-12-10T12:00:00Z"),
        at(1, "2026-12-09T23:30:00Z"),
        at(2, "2026-12-09T22:30:00Z"),
    ];
    assert_eq!(kept_of(&days, Calendar { daily: 2, ..Calendar::default() }), ids([0, 2]));
    // Monday and the Sunday before it.
    let weeks = [
        at(0, "2026-12-14T12:00:00Z"),
        at(1, "2026-12-13T12:00:00Z"),
        at(2, "2026-12-08T12:00:00Z"),
    ];
    assert_eq!(kept_of(&weeks, Calendar { weekly: 2, ..Calendar::default() }), ids([0, 1]));
    // 2026-10-25: 02:30 comes twice in Berlin, at 00:30 and 01:30 UTC.
    let hours = [
        at(0, "2026-10-25T01:30:00Z"),
        at(1, "2026-10-25T00:45:00Z"),
        at(2, "2026-10-25T00:30:00Z"),
    ];
    assert_eq!(kept_of(&hours, Calendar { hourly: 2, ..Calendar::default() }), ids([0, 1]));
    // Slots without a snapshot do not count.
    let months = [
        at(0, "2026-12-10T12:00:00Z"),
        at(1, "2026-07-01T12:00:00Z"),
        at(2, "2025-01-01T12:00:00Z"),
    ];
    assert_eq!(kept_of(&months, Calendar { monthly: 2, ..Calendar::default() }), ids([0, 1]));
    assert_eq!(kept_of(&months, Calendar { yearly: 2, ..Calendar::default() }), ids([0, 2]));
}

/// Would catch: a stopped agent that loses what it took in its last days.
#[test]
fn keep_within_is_counted_from_the_newest() {
    let policy = Policy { keep_within_days: Some(2), ..keeping(1) };
    let later = NOW_MS + 100 * DAY_MS;
    let fresh = |c: Candidate| {
        let health = Health::Good { checked_at_ms: later };
        Candidate { health, ..c }
    };
    let all: Vec<Candidate> = daily(5).into_iter().map(fresh).collect();
    assert_eq!(kept(&plan(&all, &policy, None, later)), ids(0..3));
}

/// Would catch: a budget of bytes that takes the newest, or says nothing where it cannot be met.
#[test]
fn the_oldest_go_until_the_sizes_fit() {
    let policy = Policy { max_total_bytes: Some(250), ..nothing() };
    let planned = plan(&daily(5), &policy, None, NOW_MS);
    assert_eq!(kept(&planned), ids([0, 1]));
    let mut all = daily(3);
    all.iter_mut().for_each(|candidate| candidate.pin = Some("mine".to_owned()));
    let planned = plan(&all, &policy, None, NOW_MS);
    assert_eq!(planned.dropped().count(), 0);
    assert!(planned.notes[0].contains("300 bytes stay"), "{:?}", planned.notes);
    let one = Policy { max_total_bytes: Some(1), ..nothing() };
    assert_eq!(kept(&plan(&daily(3), &one, None, NOW_MS)), ids([0]));
}

/// Would catch: a plan that people cannot read, or whose words change unnoticed.
#[test]
fn a_plan_reads_well() {
    let mut all = daily(6);
    all[3].pin = Some("before the move".to_owned());
    all[4].label = Some("release-1".to_owned());
    all.push(aged(7, -40 * DAY_MS));
    let policy = Policy {
        calendar: Calendar { daily: 2, ..Calendar::default() },
        keep_labels: vec!["release*".to_owned()],
        max_age_days: Some(4),
        ..keeping(1)
    };
    let planned = plan(&all, &policy, None, NOW_MS);
    insta::assert_snapshot!(planned);
    insta::assert_json_snapshot!(planned.entries.iter().find(|e| e.id == id(5)).unwrap());
}
