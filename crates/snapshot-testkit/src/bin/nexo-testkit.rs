//! The testkit as a program, for `cargo xtask bench`: it seeds agents and compares databases.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use snapshot_core::AgentId;
use snapshot_testkit::compare::Database;
use snapshot_testkit::{Agent, Scale, Seed, floor, tool};

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage:
  nexo-testkit seed DIR SCALE                    the standard agent `ana` below DIR
  nexo-testkit same DATABASE DATABASE            fails where a row, the schema or the header differs
  nexo-testkit hash-floor BUNDLE                 decodes and hashes it on all cores, checks nothing
  nexo-testkit write-floor BUNDLE OUT            decodes it on all cores into one file, and syncs it";

fn main() -> ExitCode {
    tool::run(|args| match args {
        ["seed", dir, scale] => seed(Path::new(dir), scale),
        ["same", a, b] => same(Path::new(a), Path::new(b)),
        ["hash-floor", bundle] => floor::decode_and_hash(Path::new(bundle)).map_err(Into::into),
        ["write-floor", bundle, out] => {
            floor::decode_and_write(Path::new(bundle), Path::new(out)).map_err(Into::into)
        }
        _ => Err(USAGE.into()),
    })
}

fn seed(dir: &Path, scale: &str) -> Outcome<()> {
    Agent::create(dir, ana(), &Seed::standard(Scale(scale.parse()?)))?;
    Ok(())
}

fn same(a: &Path, b: &Path) -> Outcome<()> {
    let differences = Database::read(a)?.differences(&Database::read(b)?);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ").into()) }
}

fn ana() -> AgentId {
    AgentId::from_static("ana")
}
