//! The suites are proved: for each rule there is an implementation that breaks it alone, and is caught.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "what breaks a rule makes its disorder by hand, and a panic is how a test fails"
)]

mod publisher;
mod snapshotter;
mod state;
