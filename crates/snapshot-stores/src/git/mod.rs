//! The memdir's repository: pinned, carried as a real git bundle, checked, and put back.
//!
//! Objects and refs travel; configuration, hooks, info, alternates and reflogs (but the stash's) do
//! not, so nothing that a bundle holds is ever run or obeyed by git. Capture: [`open`] before the
//! gates close, [`GitRepo::pin`] while they are closed, [`write_bundle`] later. Restore: [`stage`],
//! [`plan()`], [`lock`], [`apply()`]; a recovery asks [`progress`].
//! [`History`] looks into a bundle without restoring it; [`scan_history`] looks for secrets in one, and
//! [`redact_history`] makes another without them.
//!
//! A shallow repository's bundle holds what is there. Stock git reads it so: `git init r`, write the
//! manifest's `git.shallow` ids to `r/.git/shallow`, one a line, and in `r`
//! `git fetch ../memory.bundle 'refs/*:refs/*'`.
//!
//! Process-wide effect, from the first [`open`]: libgit2's own check of a repository's owner is off
//! (ours, in [`open`], is in its place), and its maps of pack files are capped.

mod apply;
mod browse;
mod bundle;
mod head;
mod info;
mod limits;
mod lock;
mod modules;
mod names;
mod open;
mod pack;
mod pin;
mod plan;
mod raw;
mod redact;
mod ref_locks;
mod refs;
mod stage;
mod stash;
mod walk;

pub use apply::apply;
pub use browse::History;
pub use bundle::{GitBundle, write_bundle};
pub use info::has_bundle;
pub(crate) use info::{PRE_RESTORE_REFS, STASH_REF};
pub use lock::{lock, unlock};
pub use names::is_dot_git;
pub use open::{GitRepo, open};
pub(crate) use pack::index_bytes;
pub use pack::unpacked_bytes;
pub use pin::PinnedGit;
pub use plan::{GitProgress, GitTargets, plan, progress};
pub use raw::RawRepo;
pub use redact::{RedactedHistory, redact_history, scan_history};
pub(crate) use stage::open_objects;
pub use stage::stage;
