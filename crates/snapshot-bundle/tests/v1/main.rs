//! Bundles of 0.1.x: those that it wrote, and those that somebody made up.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod frozen;
mod hostile;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use snapshot_bundle::{AnyBundle, BundleError, BundleV1, Identities, VerifyOptions, verify_file};
use snapshot_core::{Control, Sha256Digest, VerifyReport};

/// A bundle whose bytes are these.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(bytes: &[u8], identities: &Identities) -> Result<BundleV1, BundleError> {
    match AnyBundle::open_with(file(bytes), Path::new("old.tar.zst"), identities)? {
        AnyBundle::V1(bundle) => Ok(*bundle),
        AnyBundle::V2(_) => panic!("it was taken for one of ours"),
    }
}

fn verify(bytes: &[u8], identities: &Identities, sum: Sha256Digest) -> VerifyReport {
    let options = VerifyOptions { sum: Some(sum), ..VerifyOptions::default() };
    let path = Path::new("old.tar.zst");
    verify_file(file(bytes), path, identities, &options, &Control::default()).unwrap()
}

/// Everything that it holds, as (path, content), or why it is not given.
fn unpack(bundle: &BundleV1) -> Result<Vec<(String, Vec<u8>)>, BundleError> {
    let mut found = Vec::new();
    bundle.unpack(&Control::default(), &mut |artifact, content| {
        let mut bytes = Vec::new();
        // What reading fails with, the bundle says itself.
        let _ = content.read_to_end(&mut bytes);
        found.push((artifact.path.to_string(), bytes));
        Ok::<(), BundleError>(())
    })?;
    Ok(found)
}
