//! What a damaged bundle's text says: the class of error that it must end in, what was done to it, and what
//! a verification reports.

use std::error::Error;
use std::fs::File;
use std::path::Path;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::ports::Control;
use snapshot_bundle::{Identities, VerifyOptions, verify_file};
use snapshot_core::{Sidecar, error_chain};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// What follows a bundle's name in that of its text.
pub(crate) const TEXT: &str = ".txt";

/// The first line.
pub(crate) fn class(kind: ErrorKind) -> String {
    format!("{kind} (exit {})", kind.exit_code())
}

/// What a verification makes of the bundle `name` in `dir`, by itself or with its summary beside it: the kind
/// of error, and the report.
pub(crate) fn report(
    dir: &Path,
    name: &str,
    identities: &Identities,
) -> Outcome<(Option<ErrorKind>, String)> {
    let stem = name.split_once(".tar.zst").map_or(name, |(stem, _)| stem);
    let sidecar = dir.join(format!("{stem}.manifest.json"));
    let expect = sidecar.exists().then(|| std::fs::read(&sidecar)).transpose()?;
    let expect = expect.map(|bytes| Sidecar::parse(&bytes)).transpose()?;
    let options = VerifyOptions { expect: expect.as_ref(), threads: 1, ..VerifyOptions::default() };
    let file = File::open(dir.join(name))?;
    match verify_file(file, Path::new(name), identities, &options, &Control::default()) {
        Ok(report) => Ok((report.error_kind(), serde_json::to_string_pretty(&report)?)),
        Err(e) => Ok((Some(e.kind()), error_chain(&e))),
    }
}
