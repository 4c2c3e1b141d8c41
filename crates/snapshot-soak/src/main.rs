//! The parts of the soak as a program: `cargo xtask soak` runs it slice by slice and keeps the books.
#![expect(clippy::print_stdout, reason = "a tool of developers")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use snapshot_soak::Outcome;
use snapshot_soak::live;
use snapshot_soak::part::{PARTS, Slice};
use snapshot_testkit::{Torture, tool};

const USAGE: &str = "usage:
  nexo-soak parts                                    the names of the parts, a line each
  nexo-soak PART SEED FROM COUNT SECONDS DIR PROGRAM a slice of a part's cases: its tally as JSON
  nexo-soak peer SETUP                               holds connections for the part live; orders on stdin";

fn main() -> ExitCode {
    tool::run(|args| match args {
        // Of the cuts: a process that writes.
        ["writer"] => Torture::child().map_err(Into::into),
        ["parts"] => {
            PARTS.iter().for_each(|(name, _)| println!("{name}"));
            Ok(())
        }
        ["peer", setup] => live::peer(setup, &mut std::io::stdout()).map_err(|e| e as _),
        [part, seed, from, count, seconds, dir, program] => {
            let slice = Slice {
                seed: seed.parse()?,
                from: from.parse()?,
                count: count.parse()?,
                time: Duration::from_secs(seconds.parse()?),
                dir: PathBuf::from(dir),
                program: PathBuf::from(program),
            };
            run(part, &slice).map_err(|e| e as _)
        }
        _ => Err(USAGE.into()),
    })
}

fn run(part: &str, slice: &Slice) -> Outcome<()> {
    let known = PARTS.iter().find(|(name, _)| *name == part);
    let (_, work) = known.ok_or_else(|| format!("no part {part}"))?;
    println!("{}", serde_json::to_string(&work(slice)?)?);
    Ok(())
}
