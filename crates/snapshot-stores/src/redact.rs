//! Looking for secrets in private copies of what a memory holds, and taking them out.

pub use crate::sqlite::redact::{
    FinishedStore, RedactedRows, StoreRedaction, finish_store, redact_rows, scan_store,
};
