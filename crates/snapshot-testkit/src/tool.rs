//! What the programs of developers have in common.
#![expect(clippy::print_stderr, reason = "a program tells its user why it failed")]

use std::error::Error;
use std::process::ExitCode;

use snapshot_core::error_chain;

/// Hands a program's arguments to `work`; an error is told with its causes, and fails the program.
pub fn run(work: impl FnOnce(&[&str]) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match work(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", error_chain(&*e));
            ExitCode::FAILURE
        }
    }
}
