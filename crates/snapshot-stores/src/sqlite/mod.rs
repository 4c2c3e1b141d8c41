//! SQLite: connections to live databases, gates that hold their writers, and pages read from a pin.
//!
//! Never, in this crate: a live database or its `-wal`/`-shm` opened as a plain file (closing any
//! descriptor drops the process's POSIX locks), or a checkpoint of it.

mod acting;
mod check;
mod connect;
mod gate;
mod holders;
mod pages;
pub(crate) mod redact;
mod shadow;
mod shared;

pub(crate) use acting::{Acting, acting, without};
pub(crate) use check::integrity;
pub use connect::limit_heap;
pub(crate) use connect::{
    Live, Shape, bound_cache, immutable_uri, open_immutable, open_private, open_scratch,
    open_staged,
};
pub(crate) use gate::{Backoff, Gates};
pub(crate) use holders::holders;
pub use holders::{Holder, Holders, Library};
pub(crate) use pages::{PageDigest, PageReader, page_digest, spool_pages};
pub(crate) use shadow::{
    FULL_TEXT_SHAPES, METADATA, METADATA_TEXT, ROWID_BYTES, VECTOR_COLUMNS, VECTOR_PARTS, VECTORS,
    quote,
};
pub(crate) use shared::other_agents;
