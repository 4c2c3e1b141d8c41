//! Copying memory files into a bundle.
use super::walk::Listing;
use crate::StoresError;
use snapshot_core::{Artifact, ArtifactSink, Control, NotCarried, UnstableFile};
use snapshot_fs::Dir;
/// What was captured.
#[derive(Debug, Default)]
pub struct FilesCaptured {
    /// In the order written.
    pub artifacts: Vec<Artifact>,
    /// Left out, with the reason.
    pub not_carried: Vec<NotCarried>,
    /// Whole, but not of the instant; or appeared or vanished around it.
    pub unstable: Vec<UnstableFile>,
}
/// Writes what the two listings (before the gates close, after they open) hold.
pub fn write_files(
    memdir: &Dir,
    before: &Listing,
    after: &Listing,
    sink: &mut dyn ArtifactSink,
    spool: &Dir,
    control: &Control,
) -> Result<FilesCaptured, StoresError> {
    let _ = (memdir, before, after, sink, spool, control);
    todo!()
}
