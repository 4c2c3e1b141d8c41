//! What stays, what goes and why; and the worker that does it.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod planner;
mod property;
mod support;
mod worker;
