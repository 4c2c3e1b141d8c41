//! The proofs: the tests of the product's crates, built once with the switches, and which of them pass which place.
//!
//! Invariant: a test can notice a mutant only if it passes its place, so that a mutant is caught by one of these
//! tests or by none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde_json::Value;

use super::sites::{Kind, Site, is_product};
use crate::ci::{MEMORY_DISK, memory_disk};
use crate::fixtures::put;
use crate::nats;
use crate::tools::{cargo, output, target};

/// Whose tests are the proofs.
const PACKAGES: [&str; 8] = [
    "snapshot-core",
    "snapshot-fs",
    "snapshot-bundle",
    "snapshot-stores",
    "snapshot-vault",
    "snapshot-events",
    "nexo-memory-snapshot",
    "snapshot-soak",
];
/// What a test may take before it hangs. Nothing waits so long that is not stuck.
const PATIENCE: &str = "300s";
/// How often a test is tried anew that is red without a mutant: one that is green then is no proof.
const RETRIES: &str = "3";
/// How nextest begins to tell of a test that it tries more than once.
const TRIED: &str = "TRY";
/// Words in the names of the tests that are likely to notice, by what is switched off.
const LIKELY: [(Kind, &[&str]); 4] = [
    (Kind::Sync, &["power", "sync", "durable"]),
    (Kind::Lock, &["lock", "turns", "races", "process", "busy", "writers"]),
    (Kind::Check, &["damage", "noticed", "refused", "crafted", "hostile", "changes", "forged"]),
    (Kind::Step, &["crash", "death", "dies", "recover", "interrupted", "kept"]),
];
/// Seconds of tests, by the control, that a mutant is put to in each round: most are caught in the first.
const BATCHES: [f64; ROUNDS] = [8.0, 40.0, f64::INFINITY];
/// How often those that are not caught yet are tried, by more tests each time.
pub(super) const ROUNDS: usize = 3;

/// The test binaries, and what is known of their tests.
pub(super) struct Proofs {
    dir: PathBuf,
    tests: BTreeMap<Test, Known>,
}

/// A test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    binary: String,
    name: String,
}

/// What the control told of a test.
#[derive(Debug, Clone, Default)]
struct Known {
    seconds: f64,
    places: BTreeSet<String>,
}

/// A test that ended, as nextest tells it.
#[derive(Debug, PartialEq)]
struct Ended {
    status: String,
    seconds: f64,
    test: Test,
}

/// What a run of nextest told.
struct Observed {
    /// Whether all were green.
    good: bool,
    ended: Vec<Ended>,
    told: String,
}

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// A test failed; how, where it did not just fail.
    Caught(String),
    /// All tests that pass it, so many, are green.
    Survived(usize),
    /// No test passes it.
    NotReached,
}

impl Proofs {
    /// Builds them, and runs all once without a mutant where that was not done since: all must be green.
    pub(super) fn ready(sites: &[Site]) -> Result<Self, String> {
        nats::ensure()?;
        let dir = target().join("mutants");
        let config = format!(
            "[profile.mutants]\nslow-timeout = {{ period = \"{PATIENCE}\", terminate-after = 1, grace-period = \"1s\" }}\n"
        );
        put(&dir.join("nextest.toml"), config.as_bytes())?;
        let mut proofs = Self { dir, tests: BTreeMap::new() };
        let binaries = proofs.build()?;
        let stale: Vec<&String> = binaries
            .iter()
            .filter(|(id, file)| !proofs.is_fresh(id, file))
            .map(|(id, _)| id)
            .collect();
        proofs.control(&stale)?;
        for id in binaries.keys() {
            proofs.read_control(id)?;
        }
        let known: BTreeSet<&str> = sites.iter().map(|site| site.place.as_str()).collect();
        let passed = proofs.tests.values().flat_map(|known| &known.places);
        match passed.into_iter().find(|place| is_product(place) && !known.contains(place.as_str()))
        {
            Some(place) => Err(format!("{place} is passed, and no mutant by the sources")),
            None => Ok(proofs),
        }
    }

    /// How many tests there are, and how long all take.
    pub(super) fn size(&self) -> (usize, f64) {
        (self.tests.len(), self.tests.values().map(|known| known.seconds).sum())
    }

    /// Tries a mutant in one of the [`ROUNDS`]: the tests that pass it, those first that are likely to notice it and
    /// fast. None where it is not caught yet.
    pub(super) fn try_round(&self, site: &Site, round: usize) -> Result<Option<Fate>, String> {
        let tests = self.tests_of(site);
        if tests.is_empty() {
            return Ok(Some(Fate::NotReached));
        }
        let mut rest = tests.as_slice();
        for seconds in &BATCHES[..round] {
            rest = &rest[first(rest, *seconds)..];
        }
        let batch = &rest[..first(rest, BATCHES[round])];
        let fate = self.try_batch(site, batch)?;
        let is_last = batch.len() == rest.len();
        Ok(fate.or(is_last.then_some(Fate::Survived(tests.len()))))
    }

    /// The tests that pass a mutant, with their seconds, in the order in which they are tried.
    fn tests_of(&self, site: &Site) -> Vec<(&Test, f64)> {
        let of_kind = LIKELY.iter().find(|(kind, _)| *kind == site.kind);
        let of_kind = of_kind.map_or(&[][..], |(_, words)| *words);
        // What the file and the function are called, short words and the ends of words left out.
        let own = site.name.rsplit('/').next().unwrap_or_default();
        let own: Vec<&str> = own
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.len() > 3)
            .map(|word| word.trim_end_matches(['d', 'e', 's']))
            .collect();
        let package = site.place.split('/').nth(1).unwrap_or_default();
        let likely = |test: &Test| {
            let name = test.full();
            let has = |word: &&&str| name.contains(**word);
            3 * usize::from(of_kind.iter().any(|word| has(&word)))
                + 2 * usize::from(test.binary.split(':').next() == Some(package))
                + own.iter().filter(has).count()
        };
        let passing = self.tests.iter().filter(|(_, known)| known.places.contains(&site.place));
        let mut tests: Vec<(&Test, f64)> =
            passing.map(|(test, known)| (test, known.seconds)).collect();
        tests.sort_by(|(a, s), (b, t)| {
            likely(b).cmp(&likely(a)).then(s.total_cmp(t)).then(a.cmp(b))
        });
        tests
    }

    fn try_batch(&self, site: &Site, batch: &[(&Test, f64)]) -> Result<Option<Fate>, String> {
        let mut tests: Vec<&Test> = batch.iter().map(|(test, _)| *test).collect();
        while !tests.is_empty() {
            let red = match self.run(site, &tests)? {
                None => return Ok(None),
                Some(red) => red,
            };
            // On a busy machine a test may be red for another reason, and is not twice.
            if self.run(site, &[&red.test])?.is_some() {
                return Ok(Some(Fate::Caught(red.told())));
            }
            tests.retain(|test| **test != red.test);
        }
        Ok(None)
    }

    /// Runs tests under a mutant; gives the first red one. What it said lies in a file of the mutant's name.
    fn run(&self, site: &Site, tests: &[&Test]) -> Result<Option<Ended>, String> {
        let mut command = self.nextest(&filter(tests), &["--fail-fast"]);
        command.env("NEXO_MUTANT", &site.place);
        let Observed { good, ended, told } = observe(&mut command)?;
        let red = ended.into_iter().find(Ended::is_red);
        match (good, &red) {
            (true, _) => Ok(None),
            (false, None) => Err(format!("the tests could not be run for {}", site.name)),
            (false, Some(_)) => {
                let name = site.name.replace(['/', ' ', '#'], "-");
                put(&self.dir.join(format!("{name}.txt")), told.as_bytes())?;
                Ok(red)
            }
        }
    }

    /// Builds the tests; gives each test binary's id and file.
    fn build(&self) -> Result<BTreeMap<String, PathBuf>, String> {
        println!("building the tests with the switches");
        let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
        put(&self.dir.join("cargo.json"), metadata.as_bytes())?;
        let packages: Vec<&str> = PACKAGES.iter().flat_map(|name| ["-p", name]).collect();
        let list = ["nextest", "list", "--list-type", "binaries-only", "--message-format", "json"];
        let flags = ["--locked", "--all-features", "--lib", "--bins", "--tests"];
        let mut command = cargo(&[&list[..], &flags, &packages].concat());
        let found = output(with_switches(&mut command))?;
        put(&self.dir.join("binaries.json"), found.as_bytes())?;
        let found: Value = serde_json::from_str(&found).map_err(|e| e.to_string())?;
        let suites = found["rust-binaries"].as_object().ok_or("nextest lists no test binaries")?;
        let path = |suite: &Value| suite["binary-path"].as_str().map(PathBuf::from);
        Ok(suites.iter().filter_map(|(id, suite)| Some((id.clone(), path(suite)?))).collect())
    }

    /// Runs all tests of these binaries without a mutant, and keeps what they tell.
    fn control(&self, binaries: &[&String]) -> Result<(), String> {
        if binaries.is_empty() {
            return Ok(());
        }
        println!("control: all tests of {} binaries without a mutant", binaries.len());
        let ids: Vec<String> = binaries.iter().map(|id| format!("binary_id(={id})")).collect();
        let seen = self.dir.join("seen.tsv");
        remove(&seen)?;
        let mut command = self.nextest(&ids.join(" + "), &["--no-fail-fast", "--retries", RETRIES]);
        command.env("NEXO_MUTANTS_SEEN", &seen);
        let Observed { good, ended, .. } = observe(&mut command)?;
        // What is red now and then without a mutant proves nothing of one.
        let unsteady = ended.iter().filter(|ended| ended.status == TRIED);
        let unsteady: BTreeSet<&Test> = unsteady.map(|ended| &ended.test).collect();
        for test in &unsteady {
            println!("no proof, for it is red without a mutant: {}", test.full());
        }
        if !good {
            return Err("without a mutant not all is green: nothing can be proved".to_owned());
        }
        let seen = fs::read_to_string(&seen).unwrap_or_default();
        let times =
            ended.iter().map(|Ended { seconds, test, .. }| (test.clone(), seconds.to_string()));
        let places = seen.lines().filter_map(|line| {
            let (binary, rest) = line.split_once('\t')?;
            let (name, place) = rest.split_once('\t')?;
            Some((Test { binary: binary.to_owned(), name: name.to_owned() }, place.to_owned()))
        });
        let mut texts: BTreeMap<&str, String> =
            binaries.iter().map(|id| (id.as_str(), String::new())).collect();
        for (test, what) in times.chain(places).filter(|(test, _)| !unsteady.contains(test)) {
            if let Some(text) = texts.get_mut(test.binary.as_str()) {
                *text += &format!("{}\t{what}\n", test.name);
            }
        }
        texts.iter().try_for_each(|(id, text)| put(&self.control_file(id), text.as_bytes()))
    }

    /// Reads what the control told of a binary: a line for each test with its seconds, and one for each place that it
    /// passes.
    fn read_control(&mut self, binary: &str) -> Result<(), String> {
        let file = self.control_file(binary);
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        for line in text.lines() {
            let (name, what) = line.split_once('\t').unwrap_or((line, ""));
            let test = Test { binary: binary.to_owned(), name: name.to_owned() };
            let known = self.tests.entry(test).or_default();
            match what.parse() {
                Ok(seconds) => known.seconds = seconds,
                Err(_) => _ = known.places.insert(what.to_owned()),
            }
        }
        Ok(())
    }

    fn control_file(&self, binary: &str) -> PathBuf {
        self.dir.join(format!("control-{}.tsv", binary.replace([':', '/'], "_")))
    }

    /// Whether the control ran since the binary was built.
    fn is_fresh(&self, id: &str, binary: &Path) -> bool {
        let time = |file: &Path| -> Option<SystemTime> { fs::metadata(file).ok()?.modified().ok() };
        match (time(&self.control_file(id)), time(binary)) {
            (Some(control), Some(built)) => control > built,
            _ => false,
        }
    }

    fn nextest(&self, filter: &str, flags: &[&str]) -> Command {
        let mut command = cargo(&["nextest", "run", "--profile", "mutants", "--color", "never"]);
        for (flag, file) in [
            ("--cargo-metadata", "cargo.json"),
            ("--binaries-metadata", "binaries.json"),
            ("--config-file", "nextest.toml"),
        ] {
            command.arg(flag).arg(self.dir.join(file));
        }
        command.args(["--status-level", "pass", "--final-status-level", "none"]);
        command
            .args(["--failure-output", "immediate", "--hide-progress-bar", "-E", filter])
            .args(flags);
        if let Some(disk) = memory_disk(Path::new(MEMORY_DISK)) {
            command.env("TMPDIR", disk);
        }
        command
    }
}

impl Test {
    fn full(&self) -> String {
        format!("{} {}", self.binary, self.name)
    }
}

impl Ended {
    /// A line such as `  TRY 2 PASS [   0.006s] (1/5) snapshot-fs lock::tests::waits`, which tells of a test that
    /// was red at first, or `    PASS [   0.006s] (1/5) snapshot-fs lock::tests::waits`.
    fn parse(line: &str) -> Option<Self> {
        let (status, rest) = line.split_once('[')?;
        let (seconds, rest) = rest.split_once("s]")?;
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('(') {
            Some(counted) => counted.split_once(')')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let (binary, name) = (words.next()?.to_owned(), words.next()?.to_owned());
        let status = match status.trim().split_once(' ') {
            Some((first, _)) => first.to_owned(),
            None => status.trim().to_owned(),
        };
        let is_status = !status.is_empty() && status.chars().all(|c| c.is_ascii_uppercase());
        let seconds = seconds.trim_start_matches('>').trim().parse().ok()?;
        is_status.then_some(Self { status, seconds, test: Test { binary, name } })
    }

    fn is_red(&self) -> bool {
        !["PASS", "SLOW", "LEAK", "START", "TERMINATING", TRIED].contains(&self.status.as_str())
    }

    fn told(&self) -> String {
        let how = match self.status.as_str() {
            "FAIL" => "",
            "TIMEOUT" => " (hangs)",
            "SIGABRT" => " (aborts)",
            _ => " (is killed)",
        };
        format!("{}{how}", self.test.full())
    }
}

/// The flag, and the debug assertions without which it does not compile, in a target folder of its own.
fn with_switches(command: &mut Command) -> &mut Command {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg nexo_mutants").trim());
    command
        .env("CARGO_TARGET_DIR", target().join("mutants/build"))
        .env_remove("CARGO_BUILD_BUILD_DIR")
}

/// How many of the tests fit into so many seconds: at least one.
fn first(tests: &[(&Test, f64)], seconds: f64) -> usize {
    let mut left = seconds;
    let fits = |(_, takes): &&(&Test, f64)| {
        left -= takes;
        left >= 0.0
    };
    tests.iter().take_while(fits).count().max(1).min(tests.len())
}

fn filter(tests: &[&Test]) -> String {
    let mut binaries: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Test { binary, name } in tests {
        binaries.entry(binary).or_default().push(format!("test(={name})"));
    }
    let of =
        |(id, tests): (&str, Vec<String>)| format!("(binary_id(={id}) & ({}))", tests.join(" + "));
    binaries.into_iter().map(of).collect::<Vec<_>>().join(" + ")
}

/// Runs nextest.
fn observe(command: &mut Command) -> Result<Observed, String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run cargo nextest: {e}"))?;
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    let ended: Vec<Ended> = told.lines().filter_map(Ended::parse).collect();
    if ended.is_empty() {
        return Err(format!("cargo nextest ran no test:\n{told}"));
    }
    Ok(Observed { good: done.status.success(), ended, told })
}

#[expect(clippy::disallowed_methods, reason = "a file below target/")]
fn remove(file: &Path) -> Result<(), String> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {e}", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a red test that is not seen, and a mutant that counts as survived because of it.
    #[test]
    fn what_nextest_tells_is_understood() {
        let parse = |line: &str| Ended::parse(line).map(|e| (e.is_red(), e.told()));
        let red = "        FAIL [   0.006s] ( 12/155) snapshot-fs lock::tests::waits";
        assert_eq!(parse(red), Some((true, "snapshot-fs lock::tests::waits".to_owned())));
        let hung = "     TIMEOUT [ 300.006s] (2/15) snapshot-vault::runner locks::one";
        assert_eq!(
            parse(hung),
            Some((true, "snapshot-vault::runner locks::one (hangs)".to_owned()))
        );
        for green in ["PASS", "SLOW", "LEAK"] {
            let line = format!("        {green} [> 60.000s] snapshot-fs lock::tests::waits");
            assert_eq!(parse(&line).map(|(red, _)| red), Some(false), "{green}");
        }
        let again = "   TRY 1 FAIL [   0.006s] (12/155) snapshot-fs lock::tests::waits";
        assert_eq!(Ended::parse(again).unwrap().status, TRIED);
        for none in ["     Summary [   0.019s] 15 tests run: 15 passed", "  Finished in [1s]", ""] {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    /// Would catch: tests that belong to no batch, and are never run.
    #[test]
    fn every_test_has_its_batch() {
        let test = Test { binary: "b".to_owned(), name: "t".to_owned() };
        let tests = [(&test, 3.0), (&test, 0.5), (&test, 9.0)];
        assert_eq!(first(&tests, 4.0), 2);
        assert_eq!(first(&tests[2..], 4.0), 1);
        assert_eq!(first(&tests, f64::INFINITY), 3);
        assert_eq!(first(&[], 4.0), 0);
    }
}
