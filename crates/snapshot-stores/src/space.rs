//! Room on a disk, looked for before anything is unpacked there.

use snapshot_fs::Dir;

use crate::error::StoresError;

/// Refuses to unpack `needed_bytes` into `dir` where its file system has less.
///
/// # Errors
/// [`StoresError::NoSpace`], naming the place and both numbers.
pub fn room(dir: &Dir, needed_bytes: u64) -> Result<(), StoresError> {
    let free_bytes = dir.free_bytes()?;
    match needed_bytes > free_bytes {
        true => Err(StoresError::NoSpace { at: dir.path().to_owned(), needed_bytes, free_bytes }),
        false => Ok(()),
    }
}
