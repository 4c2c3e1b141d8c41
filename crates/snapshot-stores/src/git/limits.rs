//! libgit2's process-wide settings: the one place where its unsafe options are set.

use std::sync::OnceLock;

/// Largest window that libgit2 maps of a pack file, in bytes.
const WINDOW_BYTES: usize = 1 << 20;
/// Most that it maps at once, in bytes: mapped pages count as our memory, and packs are read in order.
const MAPPED_BYTES: usize = 8 << 20;

/// Most that it keeps of objects that it has parsed, in bytes; its default is 256 MiB.
const CACHE_BYTES: isize = 16 << 20;

/// Sets them once a process.
pub(super) fn set() -> Result<(), git2::Error> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| set_options().map_err(|e| e.message().to_owned()));
    done.as_ref().copied().map_err(|message| git2::Error::from_str(message))
}

#[expect(
    unsafe_code,
    reason = "libgit2's options are plain globals; no thread of this crate is inside libgit2 before \
              this has returned"
)]
fn set_options() -> Result<(), git2::Error> {
    // SAFETY: each call stores one number; `OnceLock` keeps two threads from doing it at once, and
    // every way into libgit2 from this crate comes after it.
    unsafe {
        // An operator runs us as root on another user's agent; `open` checks owners itself.
        git2::opts::set_verify_owner_validation(false)?;
        git2::opts::set_mwindow_size(WINDOW_BYTES)?;
        git2::opts::set_cache_max_size(CACHE_BYTES)?;
        git2::opts::set_mwindow_mapped_limit(MAPPED_BYTES)
    }
}
