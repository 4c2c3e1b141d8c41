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

#[cfg(test)]
mod tests {
    use snapshot_core::ErrorKind;
    use snapshot_fs::DurableFs;

    use super::*;

    /// Would catch: a look that refuses what fits, or takes what does not.
    #[test]
    fn there_is_room_for_what_is_free_and_no_more() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        room(&dir, 1).unwrap();
        let refused = room(&dir, u64::MAX).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Io);
        assert!(matches!(refused, StoresError::NoSpace { needed_bytes: u64::MAX, .. }));
    }
}
