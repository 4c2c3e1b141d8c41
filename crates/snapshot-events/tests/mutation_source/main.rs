//! The source of mutation events, on real database files: what is told is what was committed, told
//! once, with the digests that a reader of the database computes.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod connection;
mod keys;
mod limits;
mod model;
mod oracle;
mod schema;
mod support;
mod transactions;
mod triggers;
