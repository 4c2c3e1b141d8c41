//! How good the rules are: recall on labelled secrets, false hits in the Markdown of the crates that we are
//! built of, and how fast it goes. `cargo run --release -p snapshot-bundle --example rules_report`
//!
//! `--show` shows what is around a false hit; the name of a file adds the labelled secrets in it, a JSON list
//! of objects with `id`, `text` and `secret`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a report for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use snapshot_bundle::redact::{Rules, Search, masked};
use snapshot_core::SecretSearch;

#[path = "../tests/redact/labelled.rs"]
mod labelled;

/// Other letters for each sample, so many times.
const ROUNDS: usize = 5;

fn main() {
    let rules = Rules::builtin();
    let search = Search::new(&*rules);
    recall(&search);
    if let Some(file) = env::args().skip(1).find(|argument| !argument.starts_with('-')) {
        of_others(&search, &file);
    }
    precision(&search, env::args().any(|argument| argument == "--show"));
}

/// Of each provider's secrets, how many are taken out whole.
fn recall(search: &Search<'_>) {
    let samples = labelled::samples(ROUNDS);
    let mut missed: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let providers: BTreeSet<_> = samples.iter().map(|sample| sample.provider).collect();
    for sample in &samples {
        if labelled_is_left(search, sample) {
            *missed.entry((sample.provider, sample.context)).or_default() += 1;
        }
    }
    let total: usize = missed.values().sum();
    println!("labelled secrets: {} of {} kinds; missed {total}", samples.len(), providers.len());
    for ((provider, context), count) in missed {
        println!("  missed {count}/{ROUNDS}: {provider}, {context}");
    }
}

/// The same of what others labelled.
fn of_others(search: &Search<'_>, file: &str) {
    let list: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let text =
        |one: &serde_json::Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let missed: Vec<_> = list
        .iter()
        .filter(|one| is_left(search, &text(one, "text"), &text(one, "secret")))
        .collect();
    println!("{file}: {} labelled secrets, missed {}", list.len(), missed.len());
    for one in missed {
        println!("  missed {}: {:?}", text(one, "id"), text(one, "text"));
    }
}

fn labelled_is_left(search: &Search<'_>, sample: &labelled::Sample) -> bool {
    is_left(search, &sample.text, &sample.secret)
}

fn is_left(search: &Search<'_>, text: &str, secret: &str) -> bool {
    let mut left = text.to_owned().into_bytes();
    for found in search.search(text.as_bytes()) {
        left[found.range].fill(b'*');
    }
    // A few of its letters in a row are a part of it that was left.
    let part = |bytes: &[u8]| left.windows(bytes.len()).any(|window| window == bytes);
    secret.as_bytes().chunks(6).filter(|chunk| chunk.len() == 6).any(part)
}

/// What is found where nobody put a secret.
fn precision(search: &Search<'_>, show: bool) {
    let files = markdown();
    let texts: Vec<(PathBuf, Vec<u8>)> =
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let lines: usize =
        texts.iter().map(|(_, text)| text.iter().filter(|&&c| c == b'\n').count()).sum();
    let start = Instant::now();
    let found: Vec<_> = texts.iter().map(|(_, text)| search.search(text)).collect();
    let seconds = start.elapsed().as_secs_f64();
    let hits: usize = found.iter().map(Vec::len).sum();
    println!("Markdown: {} files, {lines} lines, {bytes} bytes; found {hits}", texts.len());
    println!("first pass {seconds:.3} s");
    for ((path, text), found) in texts.iter().zip(&found) {
        for one in found {
            let from = one.range.start.saturating_sub(60);
            let around = String::from_utf8_lossy(&text[from..text.len().min(one.range.end + 30)]);
            let what = if show { format!("{around:?}") } else { masked(&one.value) };
            println!(
                "  {} {}: {what}",
                one.rule,
                path.iter()
                    .rev()
                    .take(2)
                    .collect::<Vec<_>>()
                    .iter()
                    .rev()
                    .map(|p| p.to_string_lossy())
                    .collect::<Vec<_>>()
                    .join("/")
            );
        }
    }
    let start = Instant::now();
    let again: usize = texts.iter().map(|(_, text)| search.search(text).len()).sum();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(again, hits, "the same bytes give the same");
    let total = u32::try_from(bytes).map_or(f64::INFINITY, f64::from);
    println!("second pass {seconds:.3} s, {:.0} MB/s on one core", total / seconds / 1e6);
}

/// The Markdown of the crates in `Cargo.lock`, where cargo unpacked them.
fn markdown() -> Vec<PathBuf> {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock")).unwrap();
    let mut crates = BTreeSet::new();
    let mut name = "";
    for line in lock.lines() {
        let value = || line.split('"').nth(1).unwrap_or_default();
        if line.starts_with("name = ") {
            name = value();
        } else if line.starts_with("version = ") {
            crates.insert(format!("{name}-{}", value()));
        }
    }
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).unwrap();
    let mut files = Vec::new();
    for registry in fs::read_dir(home.join("registry/src")).unwrap() {
        for one in &crates {
            collect(&registry.as_ref().unwrap().path().join(one), &mut files);
        }
    }
    files.sort();
    files
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            files.push(path);
        }
    }
}
