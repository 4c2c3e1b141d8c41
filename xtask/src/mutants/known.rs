//! The mutants that no proof catches, and why that is no hole.

/// Name and reason.
pub(super) const SURVIVORS: &[(&str, &str)] = &[];
