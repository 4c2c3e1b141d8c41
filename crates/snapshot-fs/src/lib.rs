//! The one narrow durable file-system layer: every byte that must survive a crash, and every change
//! to a live agent's files, goes through here, where tests count, fail, freeze and record it.
//!
//! Invariants: nothing here follows a symbolic link below a [`Dir`]; an fsync that failed is never
//! retried; no operation knows what the bytes mean.
//!
//! ```
//! use snapshot_fs::DurableFs;
//! let tmp = tempfile::tempdir()?;
//! let dir = DurableFs::default().open_dir(tmp.path())?;
//! dir.write_atomic("note", b"durable", 0o600)?;
//! assert_eq!(dir.read("note", 1024)?, b"durable");
//! assert!(dir.sub("../etc").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dir;
mod error;
mod file;
mod hook;
mod lock;
mod process;

pub use dir::{Dir, Entry, FileType, Stat, TEMP_PREFIX};
pub use error::FsError;
pub use file::{DurableFile, Meta};
pub use hook::{DurableFs, Hook, Op, OpKind};
pub use lock::{FileLock, LockMode};
pub use process::{is_dead_temp, is_temp_name, may_write, user};
