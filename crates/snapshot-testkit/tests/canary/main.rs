//! The judge is judged: in a snapshot without redaction it finds every secret, each in the place where it
//! was planted.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "files beside a bundle are laid there by hand, and a panic is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::layout::MemoryLayout;
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::ports::{Control, PathResolver};
use nexo_memory_snapshot::request::SnapshotRequest;
use snapshot_testkit::canary::{self, Canary, Form, Kind, Leak, Place, Planted, Planting, Seen};

struct Layout(MemoryLayout);

impl PathResolver for Layout {
    fn layout(&self, _: &Tenant, _: &AgentId) -> Option<MemoryLayout> {
        Some(self.0.clone())
    }
}

/// An ordinary snapshot of what was planted below `home`.
fn snapshot(home: &Path, planted: &Planted) -> PathBuf {
    let layouts = Arc::new(Layout(planted.layout.clone()));
    let engine = Engine::builder().root(home.join("vault")).layouts(layouts).build().unwrap();
    let mut request = SnapshotRequest::cli(planted.agent.clone(), planted.tenant.clone());
    request.label = Some(planted.label.clone());
    engine.snapshot(&request, &Control::default()).unwrap().bundle_path
}

/// Whether a leak was seen where its canary was planted, and not only in the stream that holds it all.
fn is_in_place(leak: &Leak) -> bool {
    let in_table = |name: &str| match &leak.seen {
        Seen::Cell { table, .. } | Seen::Words { table, .. } => table == name,
        _ => false,
    };
    let in_entry = |part: &str| matches!(&leak.seen, Seen::Entry(name) if name.contains(part));
    let in_object = |of: &str| matches!(&leak.seen, Seen::Object { kind, .. } if kind == of);
    match leak.canary.place {
        Place::State => in_entry("state/extract_cursor"),
        Place::StateEscaped | Place::StateNested => in_entry("state/dream_run"),
        Place::Label | Place::NotCarried => in_entry("manifest.json"),
        Place::Text => in_table("chats"),
        Place::Blob => in_table("raw"),
        Place::BlobUtf16 => in_table("wide"),
        Place::Json => in_table("calls"),
        Place::Jsonb => in_table("packed"),
        Place::LargeCell => in_table("pages"),
        Place::Base64 => in_table("mails"),
        Place::PrimaryKey => in_table("sessions"),
        Place::Unique => in_table("accounts"),
        Place::ForeignKey => in_table("children"),
        Place::WithoutRowid => in_table("names"),
        Place::Strict => in_table("facts"),
        Place::Generated => in_table("derived"),
        Place::Indexed => in_table("tags"),
        Place::CheckJson => in_table("checked"),
        Place::CheckLength => in_table("long"),
        Place::Embedding => in_table("chunks"),
        Place::Fts5 => in_table("own") || in_table("own_content"),
        Place::Fts5External => in_table("docs") && in_words(leak).is_none(),
        Place::Fts5Contentless => in_words(leak) == Some("words"),
        Place::Fts4 => in_table("old_content"),
        Place::Utf16Database => in_table("wide"),
        Place::FoundStore => in_table("kept"),
        Place::FoundStoreName => in_entry("sqlite/"),
        Place::SchemaCode | Place::SchemaName => in_table("sqlite_schema"),
        Place::SchemaDefault | Place::SchemaComment | Place::SchemaView => {
            in_table("sqlite_schema")
        }
        Place::Stat4 => in_table("sampled"),
        Place::FreePage | Place::FreeBlock => in_entry("sqlite/compactions"),
        Place::Wal => in_table("fresh"),
        Place::GitMessage | Place::GitMail | Place::GitHeader | Place::GitStashMessage => {
            in_object("commit")
        }
        Place::GitTagMessage | Place::GitTagger => in_object("tag"),
        Place::GitTagName | Place::GitBranchName => matches!(leak.seen, Seen::Ref(_)),
        Place::GitPath => in_object("tree"),
        Place::GitHead
        | Place::GitEncoded
        | Place::GitHistory
        | Place::GitBranch
        | Place::GitNote => in_object("blob"),
        Place::GitStash | Place::GitStashIndex | Place::GitStashUntracked => in_object("blob"),
        _ => in_entry("memory_files/planted"),
    }
}

fn in_words(leak: &Leak) -> Option<&str> {
    match &leak.seen {
        Seen::Words { table, .. } => Some(table),
        _ => None,
    }
}

/// Plants, takes a snapshot and judges it.
fn judged(planting: &Planting) -> (Planted, Vec<Leak>, Vec<String>) {
    let tmp = tempfile::tempdir().unwrap();
    let planted = canary::plant_as(tmp.path(), planting).unwrap();
    let bundle = snapshot(tmp.path(), &planted);
    let leaks = canary::leaks(&bundle, &planted.canaries).unwrap();
    let complaints = canary::checks(&bundle).unwrap();
    (planted, leaks, complaints)
}

fn assert_all_found(planted: &Planted, leaks: &[Leak]) {
    // A block in YAML is indented, so a key of several lines is there in pieces.
    let is_indented = |of: &Canary| of.place == Place::FileYaml && of.kind == Kind::Pem;
    let found: BTreeSet<usize> = leaks
        .iter()
        .filter(|leak| is_in_place(leak) && (leak.is_whole || is_indented(&leak.canary)))
        .map(|leak| leak.canary.id)
        .collect();
    let missed = planted.canaries.iter().filter(|canary| !found.contains(&canary.id));
    let missed: Vec<String> = missed.map(ToString::to_string).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Would catch: a judge that is blind to a place, an encoding, or what is compressed within the bundle; one
/// that calls a sound bundle broken.
#[test]
fn every_canary_of_an_ordinary_snapshot_is_found_where_it_was_planted() {
    let (planted, leaks, complaints) = judged(&Planting::quick(7));
    assert_all_found(&planted, &leaks);
    assert_eq!(complaints, Vec::<String>::new());
    let mut count: BTreeMap<Place, usize> = BTreeMap::new();
    planted.canaries.iter().for_each(|canary| *count.entry(canary.place).or_default() += 1);
    assert!(Place::ALL.iter().all(|place| count[place] == 2), "{count:?}");
    for of in ["own", "docs_fts", "words", "old"] {
        assert!(leaks.iter().any(|leak| in_words(leak) == Some(of)), "no words of {of}");
    }
    let samples =
        |leak: &Leak| matches!(&leak.seen, Seen::Cell { table, .. } if table == "sqlite_stat4");
    assert!(leaks.iter().any(|leak| leak.canary.place == Place::Stat4 && samples(leak)));
}

/// Would catch: leaks that are made up, by values that are not random enough.
#[test]
fn canaries_of_another_seed_are_not_found() {
    let tmp = tempfile::tempdir().unwrap();
    let planted = canary::plant_as(tmp.path(), &Planting::quick(7)).unwrap();
    let bundle = snapshot(tmp.path(), &planted);
    let other = tempfile::tempdir().unwrap();
    let others =
        canary::plant_as(other.path(), &Planting { count: 1000, ..Planting::quick(8) }).unwrap();
    assert_eq!(canary::leaks(&bundle, &others.canaries).unwrap(), []);
}

/// Would catch: a proof that cannot be run again.
#[test]
fn a_seed_says_what_is_planted() {
    let plant = || {
        let tmp = tempfile::tempdir().unwrap();
        let planted = canary::plant_as(tmp.path(), &Planting::quick(3)).unwrap();
        let main = fs::read_to_string(tmp.path().join("memdir/ana/.git/refs/heads/tools")).unwrap();
        let note = fs::read(tmp.path().join("memdir/ana/planted/large.md")).unwrap();
        (planted.canaries, planted.label, main, note)
    };
    let (a, b) = (plant(), plant());
    assert!(a == b);
    let values: BTreeSet<&str> = a.0.iter().map(|canary| canary.value.as_str()).collect();
    assert_eq!(values.len(), a.0.len(), "two secrets are the same");
}

/// Would catch: a redacted bundle under a summary or report that still holds what was taken out.
#[test]
fn what_lies_beside_a_bundle_is_looked_at() {
    let tmp = tempfile::tempdir().unwrap();
    let planted = canary::plant_as(tmp.path(), &Planting::quick(7)).unwrap();
    let bundle = snapshot(tmp.path(), &planted);
    let id = bundle.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
    let secret = &planted.canaries[Place::ALL.len() - 1];
    fs::write(bundle.with_file_name(format!("{id}.report.json")), &secret.value).unwrap();
    let leaks = canary::leaks(&bundle, &planted.canaries).unwrap();
    let beside = leaks.iter().filter(|leak| matches!(leak.seen, Seen::Beside(_)));
    assert!(beside.clone().any(|leak| leak.canary == *secret && leak.is_whole));
}

/// Would catch: a thousand secrets in a large memory that overflow what holds a hundred.
#[test]
fn a_thousand_canaries_are_found() {
    let (planted, leaks, complaints) = judged(&Planting::full(42, 1000));
    assert_eq!(planted.canaries.len(), 1000);
    assert_all_found(&planted, &leaks);
    let forms: BTreeSet<Form> = leaks.iter().map(|leak| leak.form).collect();
    assert_eq!(forms.len(), 10, "{forms:?}");
    let kinds: BTreeSet<Kind> = planted.canaries.iter().map(|canary| canary.kind).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    assert_eq!(complaints, Vec::<String>::new());
}
