//! Bundles as 0.1.x wrote them, from whatever a test likes to put in: right ones, and ones that no 0.1.x would
//! write.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use snapshot_core::{AgentId, SnapshotId, Tenant};

/// Unit of a tar archive, in bytes.
const BLOCK: usize = 512;
/// zstd level of 0.1.x.
const LEVEL: i32 = 19;
/// Longest name that fits into a header, in bytes.
const NAME_BYTES: usize = 100;
/// Type of a regular file, as 0.1.x has it.
const REGULAR: u8 = 0;
/// Type of a long name.
const LONG_NAME: u8 = b'L';

/// A bundle of 0.1.x in the making: what it says, and what it holds.
#[derive(Debug, Clone)]
pub struct OldBundle {
    /// Its manifest; the seal and the artifacts are those of what was put in.
    pub manifest: Value,
    /// Its entries behind the manifest.
    pub entries: Vec<OldEntry>,
}

/// An entry of its archive.
#[derive(Debug, Clone)]
pub struct OldEntry {
    /// Its name.
    pub name: Vec<u8>,
    /// The type in its header.
    pub kind: u8,
    /// Its content.
    pub content: Vec<u8>,
}

impl OldBundle {
    /// One that holds nothing.
    #[must_use]
    pub fn new(id: SnapshotId, agent: &AgentId, tenant: &Tenant) -> Self {
        let manifest = json!({
            "manifest_version": 1,
            "bundle_format": "nexo-memory-snapshot-v1",
            "snapshot_id": id,
            "agent_id": agent,
            "tenant": tenant,
            "created_at_ms": 1_767_225_600_000_i64,
            "created_by": "cli",
            "schema_versions": { "long_term": 1, "vector": 1, "concepts": 1, "compactions": 1, "manifest": 1 },
            "git": {
                "head_oid": "0".repeat(40), "head_subject": "(no memdir)",
                "head_author": "nexo-memory-snapshot <ops@example.com>", "head_ts_ms": 0,
            },
            "artifacts": [],
            "tool_versions": { "nexo_version": "0.1.5", "git2": "0.19", "sqlx": "0.8" },
        });
        Self { manifest, entries: Vec::new() }.sealed()
    }

    /// With one artifact more.
    #[must_use]
    pub fn with(mut self, path: &str, kind: &str, content: &[u8]) -> Self {
        let row = json!({
            "path_in_bundle": path,
            "kind": kind,
            "size_bytes": content.len(),
            "sha256": hex(&Sha256::digest(content)),
        });
        if let Some(rows) = self.manifest["artifacts"].as_array_mut() {
            rows.push(row);
        }
        let name = path.as_bytes().to_vec();
        self.entries.push(OldEntry { name, kind: REGULAR, content: content.to_vec() });
        self.sealed()
    }

    /// With one memory file more.
    #[must_use]
    pub fn with_file(self, path: &str, content: &[u8]) -> Self {
        self.with(&format!("memory_files/{path}"), "memory_file", content)
    }

    /// With the seal of its artifacts.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        let rows = self.manifest["artifacts"].as_array().cloned().unwrap_or_default();
        let digests: String = rows.iter().filter_map(|row| row["sha256"].as_str()).collect();
        self.manifest["bundle_sha256"] = json!(hex(&Sha256::digest(digests.as_bytes())));
        self
    }

    /// The archive.
    #[must_use]
    pub fn to_tar(&self) -> Vec<u8> {
        // A value has no key that is not text: it always has a JSON form.
        let manifest = serde_json::to_vec_pretty(&self.manifest).unwrap_or_default();
        let mut tar = Vec::new();
        let first = OldEntry { name: b"manifest.json".to_vec(), kind: REGULAR, content: manifest };
        for entry in std::iter::once(&first).chain(&self.entries) {
            entry.render(&mut tar);
        }
        tar.resize(tar.len() + 2 * BLOCK, 0);
        tar
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        compressed(&self.to_tar())
    }
}

impl OldEntry {
    /// Appends header and content.
    fn render(&self, tar: &mut Vec<u8>) {
        if self.name.len() > NAME_BYTES {
            let content = [&self.name[..], b"\0"].concat();
            let name = b"././@LongLink".to_vec();
            Self { name, kind: LONG_NAME, content }.render(tar);
        }
        tar.extend_from_slice(&header(&self.name, self.kind, self.content.len() as u64));
        tar.extend_from_slice(&self.content);
        tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    }
}

/// A header block in GNU tar's form.
#[must_use]
pub fn header(name: &[u8], kind: u8, size_bytes: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = &name[..name.len().min(NAME_BYTES)];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000600");
    block[124..135].copy_from_slice(format!("{size_bytes:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[148..156].fill(b' ');
    block[156] = kind;
    block[257..264].copy_from_slice(b"ustar  ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:07o}").as_bytes());
    block[155] = 0;
    block
}

/// One zstd frame around `bytes`, as 0.1.x makes it: no size, no checksum, a window of 8 MiB.
#[must_use]
pub fn compressed(bytes: &[u8]) -> Vec<u8> {
    compressed_at(bytes, LEVEL)
}

/// The same at another level.
#[must_use]
pub fn compressed_at(bytes: &[u8], level: i32) -> Vec<u8> {
    // Into memory; nothing can fail.
    zstd::stream::encode_all(bytes, level).unwrap_or_default()
}

/// The SHA-256 of `bytes`, as its checksum file has it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
