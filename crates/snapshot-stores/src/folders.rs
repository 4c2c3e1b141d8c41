//! Folders that are made on the way to a part of the memory: they belong to whom the folder above
//! them belongs, not to root who restores.

use std::path::Path;

use snapshot_fs::{DurableFs, Meta};

use crate::error::StoresError;

/// Makes the folder at `path` and those above it, where they are missing, each with owner and mode of
/// the one above it.
pub(crate) fn make_folder(fs: &DurableFs, path: &Path) -> Result<(), StoresError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
    for path in missing.into_iter().rev() {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let dir = fs.open_dir(if above.as_os_str().is_empty() { Path::new(".") } else { above })?;
        let stat = dir.stat_self()?;
        dir.create_dir(name, stat.mode)?;
        let meta = Meta { owner: Some((stat.uid, stat.gid)), ..Meta::default() };
        dir.set_meta(name, meta)?;
        dir.sync()?;
    }
    Ok(())
}
