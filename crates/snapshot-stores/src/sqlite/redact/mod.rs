//! Secrets in SQLite databases: found, taken out of every row and definition, and out of what is derived from
//! them (full-text indexes, vectors, samples of the planner, free pages).
//!
//! Works on private copies, which nobody else uses. Nothing that a database itself defines is run: no
//! trigger, and of functions only SQLite's own harmless ones. What cannot be redacted is an error that names
//! the table and never a value.

mod cells;
mod db;
mod embeddings;
mod finish;
mod full_text;
mod keys;
mod rewrite;
mod scan;
mod schema;
mod tables;
mod vectors;
mod virtuals;

pub use finish::{FinishedStore, finish_store};
pub use keys::RedactedRows;
pub use rewrite::{StoreRedaction, redact_rows};
pub use scan::scan_store;
