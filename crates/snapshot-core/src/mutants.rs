//! Switches by which `cargo xtask soak mutants` proves that the proofs can fail: each leaves one check or one step
//! out of the program.
//!
//! They exist only where the compiler is told `--cfg nexo_mutants`, in a build with debug assertions, and then the
//! environment chooses one. In every other build both functions below say nothing and cost nothing.

#[cfg(all(nexo_mutants, not(debug_assertions)))]
compile_error!("nexo_mutants switches safety off: no release build may have it");

/// Whether a check is passed: `condition`. A mutant passes it always.
#[cfg(not(nexo_mutants))]
#[inline]
#[must_use]
pub const fn holds(condition: bool) -> bool {
    condition
}

/// Whether the step that follows is left out: never. A mutant leaves it out.
#[cfg(not(nexo_mutants))]
#[inline]
#[must_use]
pub const fn off() -> bool {
    false
}

#[cfg(nexo_mutants)]
pub use on::{holds, off};

#[cfg(nexo_mutants)]
mod on {
    use std::collections::HashSet;
    use std::env;
    use std::fs::File;
    use std::io::Write as _;
    use std::panic::Location;
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// The place that is switched off: `file:line:column`.
    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| env::var("NEXO_MUTANT").ok());

    /// The places that were passed, in this process.
    static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

    /// Whether a check is passed: `condition`, or anyway where the caller's place is switched off.
    #[must_use]
    #[track_caller]
    pub fn holds(condition: bool) -> bool {
        off() || condition
    }

    /// Whether the caller's place is switched off.
    #[must_use]
    #[track_caller]
    pub fn off() -> bool {
        let place = Location::caller().to_string();
        let off = CHOSEN.as_ref() == Some(&place);
        note(place);
        off
    }

    /// Tells the file `NEXO_MUTANTS_SEEN`, where there is one, that the test under way passes this place.
    fn note(place: String) {
        let Some(file) = env::var_os("NEXO_MUTANTS_SEEN") else { return };
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&place) {
            return;
        }
        let name = |what| env::var(what).unwrap_or_default();
        let (binary, test) = (name("NEXTEST_BINARY_ID"), name("NEXTEST_TEST_NAME"));
        let line = format!("{binary}\t{test}\t{place}\n");
        // One write, for others append too. Nobody is helped by an error here: what is not noted counts as not passed.
        let file = File::options().append(true).create(true).open(file);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        seen.insert(place);
    }
}

#[cfg(all(test, not(nexo_mutants)))]
mod tests {
    use super::*;

    /// Would catch: a switch that a build without the flag has.
    #[test]
    fn nothing_is_switched_off() {
        const { assert!(!off() && holds(true) && !holds(false)) }
    }
}
