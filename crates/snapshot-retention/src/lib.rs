//! Which snapshots to keep: a pure planner that gives a reason for each, and the worker that runs
//! it.
//!
//! Invariants: a plan is a function of what there is, the policy and the time; limits drop and rules
//! keep; the last good snapshot stays whatever the policy says; a clock that is wrong drops nothing
//! by age. What a snapshot is made of is not known here.
//!
//! ```
//! use snapshot_core::{CreatedBy, SnapshotId};
//! use snapshot_retention::{Candidate, Health, Policy, plan};
//!
//! let hour = 3_600_000;
//! let now = 1_800_000_000_000;
//! let candidates: Vec<Candidate> = (0..4)
//!     .map(|n| Candidate {
//!         id: SnapshotId::from_random_bytes([n; 16]),
//!         created_at_ms: now - i64::from(n) * hour,
//!         size_bytes: 1024,
//!         label: None,
//!         created_by: CreatedBy::from_static("scheduled"),
//!         redacted: false,
//!         health: Health::Good { checked_at_ms: now },
//!         pin: None,
//!         needed: None,
//!     })
//!     .collect();
//! let policy = Policy { keep_count: Some(2), ..Policy::default() };
//! assert_eq!(plan(&candidates, &policy, None, now).dropped().count(), 2);
//! assert_eq!(plan(&candidates, &policy, Some("incident 42"), now).dropped().count(), 0);
//! ```

mod calendar;
mod keeper;
mod plan;
mod policy;
mod reason;
mod worker;

pub use keeper::{Keeper, Survey};
pub use plan::{CHECK_COUNTS_MS, Candidate, Entry, Health, Plan, plan};
pub use policy::{Budget, Calendar, Policy};
pub use reason::Reason;
pub use worker::{Policies, RetentionConfig, RetentionWorker};
