//! What reads untrusted bytes, as functions of bytes: the fuzzer calls them, and a test with every seed.
//!
//! Invariants: a target panics where the product breaks a promise, and returns for whatever the bytes are
//! otherwise; it uses the product by its public interfaces alone, works in scratch folders that it removes,
//! and does the same for the same bytes.
#![expect(
    clippy::expect_used,
    reason = "a promise that is broken is a panic, which is the finding"
)]

mod age;
mod bundle;
mod documents;
mod git;
mod input;
mod names;
mod scratch;
mod seeds;
mod sqlite;
mod v1;

// How bundles are taken apart and put together by hand is told once, with the reader's own tests.
#[path = "../../snapshot-bundle/tests/bundle/support.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "helpers of tests, of which some are used here")]
mod parts;

pub use seeds::{Seed, seeds};

/// A name, which is also that of its folder of seeds, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("bundle", bundle::bundle),
    ("seek_table", bundle::seek_table),
    ("age_envelope", age::age_envelope),
    ("git_bundle", git::git_bundle),
    ("sqlite_admission", sqlite::sqlite_admission),
    ("manifest", documents::manifest),
    ("sidecar", documents::sidecar),
    ("notes", documents::notes),
    ("journal", documents::journal),
    ("outbox_record", documents::outbox_record),
    ("snapshot_names", names::snapshot_names),
    ("keys", names::keys),
    ("configuration", names::configuration),
    ("v1", v1::v1),
];

/// Does what the target of this name does.
///
/// # Panics
/// If the product breaks a promise, or there is no such target.
pub fn run(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, target) = found.expect("a target of this name");
    target(data);
}
