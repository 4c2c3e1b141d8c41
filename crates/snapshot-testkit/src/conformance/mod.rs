//! The rules of the traits that others implement, as functions over the trait: an implementation that
//! keeps them may stand where ours does. One module a trait: [`snapshotter`], [`state`], [`publisher`].
//!
//! Invariants: a rule is what the trait or docs/wire.md says, and nothing of how ours is made; one
//! that is broken is an error that names it, never a panic; nothing waits for the time to pass. A rule
//! that no implementation could break proves nothing, so this crate's tests break each.
//!
//! In the tests of an implementation:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//!
//! use snapshot_core::{PortError, StateKind, StateProvider};
//! use snapshot_testkit::conformance::state;
//!
//! /// A host's own: it keeps both pieces in memory.
//! #[derive(Default)]
//! struct Ours(Mutex<BTreeMap<StateKind, Vec<u8>>>);
//!
//! impl StateProvider for Ours {
//!     fn capture(&self, kind: StateKind) -> Result<Option<Vec<u8>>, PortError> {
//!         Ok(self.0.lock().unwrap().get(&kind).cloned())
//!     }
//!
//!     fn restore(&self, kind: StateKind, json: Option<&[u8]>) -> Result<(), PortError> {
//!         let mut pieces = self.0.lock().unwrap();
//!         match json {
//!             Some(json) => pieces.insert(kind, json.to_owned()),
//!             None => pieces.remove(&kind),
//!         };
//!         Ok(())
//!     }
//! }
//!
//! state::check(&state::Subject::of_any_json(Arc::new(Ours::default())))?;
//! # Ok::<(), snapshot_testkit::conformance::ConformanceError>(())
//! ```

pub mod publisher;
pub mod snapshotter;
pub mod state;

use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A rule that an implementation does not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not kept: {rule}: {saw}")]
pub struct ConformanceError {
    /// The rule's name, which says what should hold.
    pub rule: &'static str,
    /// What was seen instead.
    pub saw: String,
}

/// One rule about an `S`.
#[derive(Debug)]
pub struct Rule<S> {
    /// Its name, which says what holds.
    pub name: &'static str,
    check: fn(&S) -> Kept,
}

/// Whether a rule is kept; if not, what was seen instead.
type Kept = Result<(), String>;

impl<S> Rule<S> {
    /// Checks this rule alone.
    ///
    /// # Errors
    /// If it is not kept.
    pub fn check(&self, subject: &S) -> Result<(), ConformanceError> {
        // What an implementation leaves behind in a panic is not looked at any more.
        let kept = catch_unwind(AssertUnwindSafe(|| (self.check)(subject)));
        let kept = kept.unwrap_or_else(|_| Err("it panicked".to_owned()));
        kept.map_err(|saw| ConformanceError { rule: self.name, saw })
    }
}

/// `what` is as expected.
fn same<T: PartialEq + Debug>(what: impl Display, seen: &T, expected: &T) -> Kept {
    holds(seen == expected, || format!("{what}: {seen:?}, not {expected:?}"))
}

/// A condition, and what was seen where it does not hold.
fn holds(condition: bool, saw: impl FnOnce() -> String) -> Kept {
    if condition { Ok(()) } else { Err(saw()) }
}
