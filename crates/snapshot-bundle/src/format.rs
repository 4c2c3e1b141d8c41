//! Every constant of the bundle format, once. `docs/format.md` is the normative text.

use snapshot_core::MAX_ARTIFACTS;

/// What follows the snapshot id in a plain bundle's file name.
pub const BUNDLE_EXTENSION: &str = ".tar.zst";
/// What follows the snapshot id in an encrypted bundle's file name.
pub const ENCRYPTED_EXTENSION: &str = ".tar.zst.age";
/// What follows the snapshot id in the sidecar's file name.
pub const SIDECAR_EXTENSION: &str = ".manifest.json";
/// What follows the bundle's file name in that of its digest file.
pub const DIGEST_EXTENSION: &str = ".sha256";

/// Most content of one frame, in bytes: where the writer cuts, and what a reader accepts at most.
pub const FRAME_BYTES: usize = 1 << 20;
/// Most data frames of one bundle: 1 TiB of content in full frames.
pub const MAX_FRAMES: usize = 1 << 20;
/// zstd level used where none is chosen.
pub const DEFAULT_LEVEL: i32 = 3;

/// Largest zstd window that a reader accepts, in bytes.
pub(crate) const MAX_WINDOW_BYTES: u64 = 8 << 20;
/// Magic number of a zstd frame.
pub(crate) const ZSTD_MAGIC: u32 = 0xFD2F_B528;

/// Magic number of the skippable frame that holds the seek table (zstd seekable format).
pub(crate) const SEEK_TABLE_MAGIC: u32 = 0x184D_2A5E;
/// Magic number at the very end of the seek table.
pub(crate) const SEEK_FOOTER_MAGIC: u32 = 0x8F92_EAB1;
/// Bytes of the seek table's footer: number of frames, descriptor, magic.
pub(crate) const SEEK_FOOTER_BYTES: usize = 9;
/// Bytes of one entry of the seek table: compressed size, content size.
pub(crate) const SEEK_ENTRY_BYTES: usize = 8;
/// Bytes before the payload of a skippable frame: magic, length.
pub(crate) const SKIPPABLE_HEADER_BYTES: usize = 8;

/// Magic number of the skippable frame that holds our index.
pub(crate) const INDEX_MAGIC: u32 = 0x184D_2A5D;
/// First bytes of the index, before its version.
pub(crate) const INDEX_TAG: [u8; 7] = *b"NEXOIDX";
/// Version of the index: that of the bundle format.
pub(crate) const INDEX_VERSION: u8 = 2;
/// Bytes of the index before its entries: tag, version, manifest's frame, entries, manifest's size.
pub(crate) const INDEX_HEADER_BYTES: usize = 24;
/// Bytes of one entry of the index: frame, offset.
pub(crate) const INDEX_ENTRY_BYTES: usize = 8;
/// Largest payload of the index frame, in bytes.
pub(crate) const MAX_INDEX_BYTES: usize = INDEX_HEADER_BYTES + INDEX_ENTRY_BYTES * MAX_ARTIFACTS;

/// Unit of a tar archive, in bytes.
pub(crate) const TAR_BLOCK: usize = 512;
/// Zero bytes that end a tar archive: two blocks.
pub(crate) const TAR_END_BYTES: usize = 2 * TAR_BLOCK;
