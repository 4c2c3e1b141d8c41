//! Where bundles live: layout, atomic publish, listing, cross-process locks.
