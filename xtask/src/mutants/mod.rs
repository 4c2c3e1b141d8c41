//! The mutation check: with each sync, lock, check and journal step switched off in turn, a proof must go red.
//!
//! The switches are `snapshot_core::mutants`, and only a build with `--cfg nexo_mutants` has them. The tests are built
//! so once. A run without a mutant tells which test passes which place; then each mutant is put to the tests that
//! pass it, until one is red.

mod known;
mod proofs;
mod sites;

use std::time::{Duration, Instant};

use self::known::SURVIVORS;
use self::proofs::{Fate, Proofs, ROUNDS};
use self::sites::Site;
use crate::tools::{Outcome, has_cargo};

/// How many of a hundred mutants must be caught.
const ENOUGH: usize = 95;

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// Parts of names of mutants; all mutants where there is none.
    only: Vec<String>,
    minutes: Option<u64>,
}

/// Tries every mutant, or those that `flags` name, as far as the minutes go.
pub(crate) fn soak(flags: &[&str]) -> Outcome {
    if !has_cargo("nextest") {
        return Err(
            "cargo-nextest is not installed: cargo install cargo-nextest --locked".to_owned()
        );
    }
    let plan = plan(flags)?;
    let all = sites::all()?;
    check_list(&all, SURVIVORS)?;
    let chosen =
        |site: &&Site| plan.only.is_empty() || plan.only.iter().any(|o| site.name.contains(o));
    let sites: Vec<&Site> = all.iter().filter(chosen).collect();
    if sites.is_empty() {
        return Err(format!("no mutant of {} is called so", all.len()));
    }
    let proofs = Proofs::ready(&all)?;
    let (tests, seconds) = proofs.size();
    println!("{tests} tests of {seconds:.0} s are green without a mutant; {} mutants", sites.len());
    println!("\n| mutant | class | caught by |\n|---|---|---|");
    let time = plan.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let fates = try_all(&proofs, &sites, time)?;
    println!("\n{}", summary(&fates, sites.len()));
    judge(&fates, sites.len(), SURVIVORS)
}

/// Tries the mutants in rounds, until the time is over; tells each whose fate is known.
fn try_all<'s>(
    proofs: &Proofs,
    sites: &[&'s Site],
    time: Option<Duration>,
) -> Result<Vec<(&'s Site, Fate)>, String> {
    let (began, mut fates, mut open) = (Instant::now(), Vec::new(), sites.to_vec());
    for round in 0..ROUNDS {
        for site in std::mem::take(&mut open) {
            let over = time.is_some_and(|time| began.elapsed() >= time);
            match if over { None } else { proofs.try_round(site, round)? } {
                Some(fate) => {
                    println!("{}", row(site, &fate));
                    fates.push((site, fate));
                }
                None => open.push(site),
            }
        }
    }
    for site in open {
        println!("| `{}` | {} | not known: the time was over |", site.name, site.kind.as_str());
    }
    Ok(fates)
}

fn plan(flags: &[&str]) -> Result<Plan, String> {
    let (mut plan, mut flags) = (Plan::default(), flags);
    while let [flag, value, rest @ ..] = flags {
        match *flag {
            "--only" => plan.only.push((*value).to_owned()),
            "--minutes" => {
                let minutes =
                    value.parse().map_err(|_| format!("{value} is no number of minutes"))?;
                plan.minutes = Some(minutes);
            }
            _ => return Err(format!("unknown flag {flag}")),
        }
        flags = rest;
    }
    match flags {
        [] => Ok(plan),
        [flag, ..] => Err(format!("{flag} lacks its value")),
    }
}

/// That every mutant of the list exists: a renamed function must not hide a hole.
fn check_list(sites: &[Site], list: &[(&str, &str)]) -> Outcome {
    match list.iter().find(|(name, _)| !sites.iter().any(|site| site.name == *name)) {
        Some((name, _)) => Err(format!("the list of survivors names {name:?}, which is no mutant")),
        None => Ok(()),
    }
}

fn row(site: &Site, fate: &Fate) -> String {
    let told = match fate {
        Fate::Caught(by) => by.clone(),
        Fate::Survived(tests) => format!("**not caught** by {tests} tests{}", reason(site)),
        Fate::NotReached => format!("**not reached** by any test{}", reason(site)),
    };
    format!("| `{}` | {} | {told} |", site.name, site.kind.as_str())
}

fn reason(site: &Site) -> String {
    let why = SURVIVORS.iter().find(|(name, _)| *name == site.name);
    why.map_or_else(String::new, |(_, why)| format!(": {why}"))
}

fn summary(fates: &[(&Site, Fate)], wanted: usize) -> String {
    let caught = caught(fates);
    let percent = (caught * 100).checked_div(fates.len()).unwrap_or_default();
    let not_run = match wanted - fates.len() {
        0 => String::new(),
        left => format!("; of {left} it is not known, for the time was over"),
    };
    format!("{caught} of {} caught ({percent} %){not_run}", fates.len())
}

fn caught(fates: &[(&Site, Fate)]) -> usize {
    fates.iter().filter(|(_, fate)| matches!(fate, Fate::Caught(_))).count()
}

/// Fails where not all that were `wanted` were tried, too few are caught, one that is not caught is not in the list, or
/// one of the list is caught.
fn judge(fates: &[(&Site, Fate)], wanted: usize, list: &[(&str, &str)]) -> Outcome {
    let mut wrong = Vec::new();
    for (site, fate) in fates {
        let listed = list.iter().any(|(name, _)| *name == site.name);
        match (matches!(fate, Fate::Caught(_)), listed) {
            (true, true) => wrong.push(format!("{} is caught: take it off the list", site.name)),
            (false, false) => {
                wrong.push(format!("{} is not caught: a proof is missing", site.name))
            }
            _ => {}
        }
    }
    if fates.len() < wanted {
        wrong.push(format!("{} were not tried to the end", wanted - fates.len()));
    }
    if caught(fates) * 100 < fates.len() * ENOUGH {
        wrong.push(format!("less than {ENOUGH} % are caught"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::sites::Kind;

    fn site(name: &str) -> Site {
        Site { kind: Kind::Sync, name: name.to_owned(), place: String::new() }
    }

    /// Would catch: a hole that passes because others are closed, and a list that outlives its reasons.
    #[test]
    fn a_hole_fails_the_check() {
        let caught = || Fate::Caught("t".to_owned());
        let (a, b) = (site("a"), site("b"));
        assert_eq!(judge(&[(&a, caught())], 1, &[]), Ok(()));
        assert!(judge(&[(&a, caught())], 2, &[]).is_err(), "one was not tried");
        assert!(judge(&[(&a, caught())], 1, &[("a", "why")]).is_err());
        for missed in [Fate::Survived(7), Fate::NotReached] {
            let mut fates = vec![(&a, caught()); 19];
            fates.push((&b, missed));
            assert!(judge(&fates, 20, &[]).is_err());
            assert_eq!(judge(&fates, 20, &[("b", "why")]), Ok(()));
            fates.swap_remove(0);
            assert!(judge(&fates, 19, &[("b", "why")]).is_err(), "18 of 19");
        }
        assert!(check_list(&[a], &[("b", "why")]).is_err());
    }

    /// Would catch: a list of survivors that names what is no mutant any more.
    #[test]
    fn every_survivor_is_a_mutant() {
        check_list(&sites::all().unwrap(), SURVIVORS).unwrap();
    }
}
