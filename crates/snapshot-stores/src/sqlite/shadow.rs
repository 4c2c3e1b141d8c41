//! The tables that virtual tables keep their rows in, and names in SQL.

/// The first columns of the tables beneath a full-text table; one of its name with others is somebody's own
/// (in SQLite's source, `fts5_index.c`, `fts5_storage.c`, `fts3.c`).
pub(crate) const FULL_TEXT_SHAPES: [(&str, &[&str]); 8] = [
    ("data", &["id", "block"]),
    ("idx", &["segid", "term", "pgno"]),
    ("config", &["k", "v"]),
    ("docsize", &["id", "sz"]),
    ("docsize", &["docid", "size"]),
    ("segments", &["blockid", "block"]),
    ("segdir", &["level", "idx", "start_block"]),
    ("stat", &["id", "value"]),
];

/// Tables of a sqlite-vec index (0.1) that hold nothing but its vectors and where they lie.
pub(crate) const VECTOR_PARTS: [&str; 5] =
    ["info", "chunks", "rowids", "vector_chunks", "metadatachunks"];
/// Most columns of a kind in a sqlite-vec index (`VEC0_MAX_VECTOR_COLUMNS`, `VEC0_MAX_METADATA_COLUMNS`).
pub(crate) const VECTOR_COLUMNS: usize = 16;
/// Tables of its vector columns, of metadata columns, and of metadata texts too long for those.
pub(crate) const VECTORS: &str = "vector_chunks";
pub(crate) const METADATA: &str = "metadatachunks";
pub(crate) const METADATA_TEXT: &str = "metadatatext";
/// Bytes of a rowid in a chunk.
pub(crate) const ROWID_BYTES: usize = 8;

/// A name in SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
