//! A bundle in memory: both ends of the core's ports, so that capture and restore can be tested
//! without the bundle's bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use snapshot_core::{
    Artifact, ArtifactSink, ArtifactSource, BUNDLE_FORMAT, BundlePath, CreatedBy, ErrorKind,
    FileSpec, MANIFEST_VERSION, Manifest, ManifestCapture, PortError, SchemaVersions, Sha256Digest,
    Tenant, VerifiedSource,
};

use crate::error::KitError;
use crate::fixed::SeqIds;

/// What was put in can be read back.
#[derive(Debug, Clone)]
pub struct MemoryBundle {
    /// Contents of files by path.
    pub contents: BTreeMap<BundlePath, Vec<u8>>,
    /// What it holds; the caller fills in what the sink does not see.
    pub manifest: Manifest,
}

impl MemoryBundle {
    /// An empty bundle of the agent `ana`.
    #[must_use]
    pub fn new() -> Self {
        let manifest = Manifest {
            manifest_version: MANIFEST_VERSION,
            bundle_format: BUNDLE_FORMAT.to_owned(),
            snapshot_id: SeqIds::nth(0),
            agent_id: snapshot_core::AgentId::from_static("ana"),
            tenant: Tenant::default(),
            public_label: false,
            label: None,
            created_at_ms: 0,
            created_by: CreatedBy::from_static("cli"),
            schema_versions: SchemaVersions::CURRENT,
            git: None,
            artifacts: Vec::new(),
            redactions: None,
            encryption: None,
            attestation: None,
            rewritten_from: None,
            tool_versions: BTreeMap::new(),
            capture: ManifestCapture::default(),
        };
        Self { contents: BTreeMap::new(), manifest }
    }

    /// The content of the file at this path.
    #[must_use]
    pub fn content(&self, path: &str) -> Option<&[u8]> {
        self.contents.get(&BundlePath::parse(path).ok()?).map(Vec::as_slice)
    }

    /// Writes the files whose path starts with `prefix` below `dir`, for tools that want files.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn extract(&self, prefix: &str, dir: &Path) -> Result<(), KitError> {
        for (path, content) in &self.contents {
            if !path.as_path().starts_with(prefix) {
                continue;
            }
            let path = dir.join(path.as_path());
            let parent = path.parent().unwrap_or(dir);
            fs::create_dir_all(parent).map_err(KitError::io("make the folder", parent))?;
            fs::write(&path, content).map_err(KitError::io("write", &path))?;
        }
        Ok(())
    }
}

impl Default for MemoryBundle {
    fn default() -> Self {
        Self::new()
    }
}

impl ArtifactSink for MemoryBundle {
    fn put_file(&mut self, spec: FileSpec, content: &mut dyn Read) -> Result<Artifact, PortError> {
        let mut bytes = Vec::new();
        content
            .read_to_end(&mut bytes)
            .map_err(|e| PortError::new(ErrorKind::Io, format!("cannot read {}", spec.path), e))?;
        if bytes.len() as u64 != spec.size_bytes {
            let why = format!("{} gave {} bytes, not {}", spec.path, bytes.len(), spec.size_bytes);
            return Err(PortError::plain(ErrorKind::Integrity, why));
        }
        let artifact = spec.into_artifact(Sha256Digest::of(&bytes));
        self.contents.insert(artifact.path.clone(), bytes);
        self.manifest.artifacts.push(artifact.clone());
        Ok(artifact)
    }

    fn put_entry(&mut self, artifact: &Artifact) -> Result<(), PortError> {
        self.manifest.artifacts.push(artifact.clone());
        Ok(())
    }
}

impl ArtifactSource for MemoryBundle {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(&self, path: &BundlePath) -> Result<Box<dyn Read + '_>, PortError> {
        match self.contents.get(path) {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes))),
            None => Err(PortError::plain(ErrorKind::Integrity, format!("no {path}"))),
        }
    }
}

impl VerifiedSource for MemoryBundle {}

#[cfg(test)]
mod tests {
    use snapshot_core::ArtifactKind;

    use super::*;

    /// Would catch: a sink more patient than the real one, under which a capture that gives the
    /// wrong length passes.
    #[test]
    fn a_wrong_length_is_refused_and_a_right_one_read_back() {
        let spec = FileSpec {
            path: BundlePath::parse("memory_files/a").unwrap(),
            kind: ArtifactKind::MemoryFile,
            size_bytes: 3,
            mode: None,
            mtime_ns: None,
        };
        let mut bundle = MemoryBundle::new();
        assert!(bundle.put_file(spec.clone(), &mut b"1234".as_slice()).is_err());
        bundle.put_file(spec.clone(), &mut b"123".as_slice()).unwrap();
        let mut text = String::new();
        bundle.open(&spec.path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), bundle.manifest.artifacts.len()), ("123", 1));
        let tmp = tempfile::tempdir().unwrap();
        bundle.extract("memory_files", tmp.path()).unwrap();
        assert_eq!(fs::read(tmp.path().join("memory_files/a")).unwrap(), b"123");
    }
}
