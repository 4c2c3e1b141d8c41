//! `cargo xtask`: the one gate (`ci`), fixtures and goldens, benchmarks, soak runs.
//!
//! Invariant: every failure says what was being done and what to do about it, and exits non-zero.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program speaks to people")]

mod api;
mod bench;
mod ci;
mod demo;
mod edges;
mod embeds;
mod fixtures;
mod fuzz;
mod measure;
mod mutants;
mod nats;
mod peers;
mod rules;
mod soak;
mod systemd;
mod tidy;
mod tools;
mod wire;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <task>

  ci [STEP]...          the one gate: every step, or the named ones
  fixtures [--check]    regenerate fixtures/, the redaction rules and README's transcript (or say what
                        would change)
  rules                 only the redaction rules of them
  api [--check]         write the listings of the public API, docs/api (or show what would change)
  bench [--scale S] [--runs N] [--cuts N] [--dir D] [--docs]
                        the standard agent, ours beside every peer that is installed; --docs puts
                        the table into docs/performance.md
  bench retention [--docs]
                        listing, planning and ticking 100 and 1,000 agents with 30 snapshots each
  bench seal [--docs]   what encryption costs, on the standard agent of 1 GB
  bench diff [--docs]   two snapshots of a store of 150 and of 600 MB, compared
  soak [--minutes N] [--only PART]... [--seed S] [--fresh] [--case N]
                        every proof of docs/reliability.md in its full count, or for N minutes: one table.
                        It goes on where it was stopped; --fresh forgets what was run, --case is one alone
  soak crash [..]       its deaths alone
  soak events [--count N]
                        N snapshots (200) with events beside as many without, while the NATS server
                        is killed, restarted and made half-open
  soak fuzz [--minutes N] [--target T]
                        what reads untrusted bytes, fuzzed for N minutes (60) in all; needs cargo-fuzz
                        and a nightly compiler
  soak mutants [--only NAME]... [--minutes N]
                        each sync, lock, check and journal step switched off in turn: a test must go
                        red; needs cargo-nextest";

fn main() -> ExitCode {
    match std::env::var_os(api::AS_RUSTDOC) {
        Some(real) => end(api::rustdoc(&real, &std::env::args_os().skip(1).collect::<Vec<_>>())),
        None => task(),
    }
}

fn task() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["ci", steps @ ..] => ci::run(steps),
        ["fixtures"] => fixtures::write(),
        ["fixtures", "--check"] => fixtures::check(),
        ["rules"] => fixtures::write_rules(),
        ["api"] => api::write(),
        ["api", "--check"] => api::check(),
        ["bench", "retention"] => bench::retention::bench(false),
        ["bench", "retention", "--docs"] => bench::retention::bench(true),
        ["bench", "seal"] => bench::seal::bench(false),
        ["bench", "seal", "--docs"] => bench::seal::bench(true),
        ["bench", "diff"] => bench::diff::bench(false),
        ["bench", "diff", "--docs"] => bench::diff::bench(true),
        ["bench", flags @ ..] => bench::run_flags(flags),
        ["soak", "events"] => soak::events("200"),
        ["soak", "events", "--count", count] => soak::events(count),
        ["soak", "fuzz", flags @ ..] => fuzz::soak(flags),
        ["soak", "mutants", flags @ ..] => mutants::soak(flags),
        ["soak", "crash", flags @ ..] => soak::crash(flags),
        ["soak", flags @ ..] => soak::soak(flags),
        // Of `bench`: runs one command alone and reports what it cost.
        ["measure", report, command @ ..] => measure::child(report, command),
        ["--help" | "-h" | "help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    end(done)
}

fn end(done: tools::Outcome) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
