//! The agent's memory: the cut across SQLite, git, files and state, and applying it back.

mod error;
pub mod files;
pub mod git;

pub use error::StoresError;
