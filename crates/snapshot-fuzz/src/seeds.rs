//! The seeds: small inputs that get far, made from the goldens and from what the targets make bundles of.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use snapshot_bundle::{Bundle, generate_identity};
use snapshot_core::BundlePath;

use crate::{bundle, git, sqlite, v1};

/// A seed: its target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// The bundle of the second format, frozen.
const GOLDEN: &str = "v2/00000001-0000-4000-8000-000000000000.tar.zst";
const GOLDEN_SIDECAR: &str = "v2/00000001-0000-4000-8000-000000000000.manifest.json";
/// A store of it that is small.
const GOLDEN_STORE: &str = "sqlite/concepts.sqlite";
/// Those of the age format's vectors that differ most.
const VECTORS: [&str; 12] = [
    "x25519",
    "x25519_multiple_recipients",
    "x25519_grease",
    "x25519_low_order",
    "x25519_bad_tag",
    "scrypt",
    "scrypt_and_x25519",
    "hmac_bad",
    "stanza_valid_characters",
    "stream_three_chunks",
    "stream_no_final",
    "stream_two_final_chunks",
];
/// Names that are good, and ways to say a place.
const NAMES: [(&str, &str); 10] = [
    ("agent", "ana"),
    ("path", "memory_files/notes/day.md"),
    ("git_path", "git:HEAD~1:notes/day.md"),
    ("stash", "git:stash@{0}"),
    ("latest", "latest"),
    ("id", "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d"),
    ("digest", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("oid", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
    ("auto_store", "auto:db/facts.db"),
    ("stream", "default.ana"),
];
/// Documents that the vault keeps for itself.
const NOTES: &str = r#"{"version":1,"hold":{"why":"audit","at_ms":1700000000500},
"pins":{"6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d":{"why":"before the move","at_ms":1}},
"checks":{"6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d":{"at_ms":2,"damage":"a flipped bit"}}}"#;
const JOURNAL: &str = r#"{"version":1,"restore_id":"6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d",
"agent":"ana","tenant":"default","from":"6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5e",
"pre_snapshot":"6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5f","pre_recovery":null,"stores":[],
"memdir":"/srv/ana/mem","files":[],"git":null,"state_layout":{},
"state":[{"cursor":true,"before":null,"after":[123,125]}]}"#;
const RECORD: &str = r#"{"version":1,"event_id":"6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d",
"subject":"nexo.memory.snapshot.ana.created","payload":"{}","effect":"created",
"id":"6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5e"}"#;

/// Every seed, made from `fixtures`, the folder of that name.
///
/// # Panics
/// If a golden is missing.
#[must_use]
pub fn seeds(fixtures: &Path) -> Vec<Seed> {
    let golden = Golden(fixtures.to_owned());
    let mut seeds = Vec::new();
    seeds.extend(bundles(&golden));
    seeds.extend(age(&golden));
    seeds.extend(histories());
    seeds.extend(databases(&golden));
    seeds.extend(documents(&golden));
    seeds.extend(names());
    seeds.extend(predecessors(&golden));
    seeds
}

/// The folder of the goldens.
struct Golden(PathBuf);

impl Golden {
    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).expect("a golden")
    }

    fn bundle(&self) -> Bundle {
        let path = self.0.join(GOLDEN);
        Bundle::open(File::open(&path).expect("a golden"), &path).expect("a bundle")
    }
}

fn bundles(golden: &Golden) -> Vec<Seed> {
    let (frames, tail) = bundle::template();
    let whole = [frames, tail.clone()].concat();
    let manifest = golden.bundle().manifest_bytes().to_vec();
    let of =
        |name: &str, how: u8, rest: &[u8]| ("bundle", name.to_owned(), [&[how], rest].concat());
    let tails =
        |name: &str, how: u8, rest: &[u8]| ("seek_table", name.to_owned(), [&[how], rest].concat());
    vec![
        of("whole", 0, &whole),
        of("cut_in_half", 0, &whole[..whole.len() / 2]),
        of("signed", 5, &[]),
        of("cut_elsewhere", 1, &[0, 0, 100, 0, 0, 0, 0, 1, 44, 1, 0, 0]),
        of(
            "another_owner",
            1,
            &[2, 0, 108, 0, 0, 0, 0, 7, b'0', b'0', b'0', b'1', b'7', b'5', b'0'],
        ),
        of("another_size", 1, &[1, 0, 1, 0, 3, 3]),
        of("skippable_inside", 1, &[5, 0, 12, 0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]),
        of("another_manifest", 2, &manifest),
        of(
            "of_two_files",
            3,
            b"\x03\x03\x01a\x05hello\x05\x00\x00\x00\x00\x00\x00\x00\x00\x80\x02dd",
        ),
        of("of_a_large_file", 3, b"\x01\x02\x01a\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00"),
        tails("good", 0, &tail),
        tails("whole", 1, &whole),
        tails("another_index", 2, &tail[8..tail.len() / 2]),
        tails("bytes_changed", 3, &[200, 0, 0, 0, 3, 255, 255, 255, 255]),
    ]
}

fn predecessors(golden: &Golden) -> Vec<Seed> {
    let of = |name: &str, how: u8, rest: &[u8]| ("v1", name.to_owned(), [&[how], rest].concat());
    let old = v1::template();
    let frozen = [
        ("minimal", "01-plain-minimal/85c0d702-375b-4d25-a3b5-0e94cede8153"),
        ("unborn", "08-unborn-head/6650e2ad-25ac-4f96-a57e-7ab55fb7aaac"),
        ("nothing", "09-no-artifacts/812841ae-5903-4276-9ac4-5c8f56a416c4"),
    ];
    let mut seeds: Vec<Seed> = frozen
        .iter()
        .map(|(name, place)| of(name, 0, &golden.read(&format!("v1/{place}.tar.zst"))))
        .collect();
    seeds.extend([
        of("whole", 0, &old.to_bytes()),
        of("archive", 1, &old.to_tar()),
        of("bytes_changed", 2, &[0, 2, 0, 0, 3, 1, 2, 3]),
        of("entries", 3, b"\x04\x00\x00\x05hello\x02\x00\x02\x00\x01a\x002\x01b\x05\x00\x01\x02\x05\x03\x01\x01x"),
        of("repository", 4, b"\x04\x01\x00\x15ref: refs/heads/main\n\x01\x02\x294b825dc642cb6eb9a060e54bf8d69288fbee4904\n\x00\x03a/b\x01x"),
    ]);
    seeds
}

fn age(golden: &Golden) -> Vec<Seed> {
    let of = |name: &str, bytes: Vec<u8>| ("age_envelope", name.to_owned(), bytes);
    let vector = |name: &&str| {
        let file = golden.read(&format!("age/{name}"));
        let body = file.windows(2).position(|two| two == b"\n\n").expect("a head");
        of(&format!("vector_{name}"), [&[0], &file[body + 2..]].concat())
    };
    let mut seeds: Vec<Seed> = VECTORS.iter().map(vector).collect();
    seeds.extend([
        of("good", vec![2]),
        of("with_grease", b"\x01\x05\x10grease is random\x00\x03\x03abc".to_vec()),
        of("chunks_exchanged", vec![2, 0, 0, 0, 0, 0, 2, 0]),
        of("a_chunk_more", vec![2, 0, 0, 0, 0, 0, 5, 0, 1, 2]),
        of("bytes_changed", vec![2, 100, 0, 0, 0, 3, 1, 2, 3]),
    ]);
    seeds
}

fn histories() -> Vec<Seed> {
    let small = b"\x02\x00\x05hello\x02\x01\x00\x00\x01\x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02hi\x00\x00";
    let large = git::HISTORY;
    let escaping = b"\x02\x00\x05hello\x02\x01\x00\x04\x01\x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02hi\x00\x00";
    let of =
        |name: &str, how: u8, rest: &[u8]| ("git_bundle", name.to_owned(), [&[how], rest].concat());
    vec![
        of("one_commit", 2, small),
        of("two_commits_a_tag_and_a_stash", 2, large),
        of("a_tree_that_escapes", 2, escaping),
        of("raw_one_commit", 0, &git::bytes_of(small)),
        of("raw_two_commits", 0, &git::bytes_of(large)),
        of("trailer_made_anew", 1, &git::bytes_of(large)),
        of("bytes_changed", 3, &[large, &[60, 1, 2, 3]].concat()),
    ]
}

fn databases(golden: &Golden) -> Vec<Seed> {
    let mut store = Vec::new();
    let path = BundlePath::parse(GOLDEN_STORE).expect("a path");
    let bundle = golden.bundle();
    bundle.read(&path).expect("a store").read_to_end(&mut store).expect("its content");
    let of = |name: &str, how: u8, rest: &[u8]| {
        ("sqlite_admission", name.to_owned(), [&[how], rest].concat())
    };
    let with_sql = |how: u8, which: u8, sql: &str| {
        let length = u8::try_from(sql.len()).expect("a short text");
        [&[how, which, length], sql.as_bytes()].concat()
    };
    vec![
        of("template", 0, sqlite::template()),
        of("golden_store", 0, &store),
        of("no_database", 0, b"SQLite format 3\0"),
        of("a_page_changed", 1, &[3, 8, 0, 4, 255, 255, 0, 0]),
        of("the_header_changed", 1, &[0, 16, 0, 8, 0, 1, 1, 1, 0, 64, 32, 32]),
        of("a_view_instead", 2, &with_sql(0, 0, "CREATE VIEW facts AS SELECT 1 AS id")),
        of(
            "another_table",
            2,
            &with_sql(
                0,
                0,
                "CREATE TABLE facts (id INTEGER PRIMARY KEY, a, b, c AS (hex(a)) STORED)",
            ),
        ),
        of(
            "a_trigger_more",
            2,
            &with_sql(10, 5, "CREATE TRIGGER new5 AFTER INSERT ON loose BEGIN SELECT 1; END"),
        ),
        of(
            "a_module_we_lack",
            2,
            &with_sql(1, 5, "CREATE VIRTUAL TABLE new5 USING vec0(a float[3])"),
        ),
        of("a_name_twice", 2, &with_sql(2, 0, "pairs")),
    ]
}

fn documents(golden: &Golden) -> Vec<Seed> {
    let of = |target, name: &str, bytes: Vec<u8>| (target, name.to_owned(), bytes);
    vec![
        of("manifest", "wire", golden.read("wire/manifest.json")),
        of("manifest", "golden", golden.bundle().manifest_bytes().to_vec()),
        of("sidecar", "wire", golden.read("wire/sidecar.json")),
        of("sidecar", "wire_encrypted", golden.read("wire/sidecar_encrypted.json")),
        of("sidecar", "golden", golden.read(GOLDEN_SIDECAR)),
        of("notes", "all", NOTES.into()),
        of("notes", "newer", r#"{"version":2}"#.into()),
        of("journal", "small", JOURNAL.into()),
        of("journal", "newer", r#"{"version":2}"#.into()),
        of("outbox_record", "created", RECORD.into()),
        of("outbox_record", "restored", RECORD.replace("created\",", "restored\",").into()),
        of("configuration", "whole", include_str!("configuration.yaml").into()),
        of("configuration", "empty", "memory: {}\n".into()),
        of(
            "configuration",
            "aliases",
            "x: &x [1, 2]\nmemory:\n  snapshot: { retention: { keep_labels: *x } }\n".into(),
        ),
        of("configuration", "an_unknown_key", "memory:\n  snapshot:\n    rot: /x\n".into()),
    ]
}

fn names() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = NAMES
        .iter()
        .map(|(name, text)| ("snapshot_names", (*name).to_owned(), text.as_bytes().to_vec()))
        .collect();
    let (identity, recipient) = generate_identity();
    let key = bundle::signing_key();
    let of = |name: &str, text: &str| ("keys", name.to_owned(), text.as_bytes().to_vec());
    seeds.extend([
        of("identity", &format!("# of nobody\n{}\n", identity.expose())),
        of("recipient", &format!("{recipient}\n# twice\n{recipient}\n")),
        of("minisign_public", &key.public().to_file()),
        of("minisign_secret", key.to_file().expose()),
    ]);
    seeds
}
