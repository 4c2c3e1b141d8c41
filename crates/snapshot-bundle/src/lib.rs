//! The bundle file: frames, tar, digests, and reading bytes that nobody vouches for.
//!
//! `docs/format.md` is the normative text of the format; this crate is its only implementation.
//! Invariants: a bundle is written in one pass with flat memory; the same input gives the same
//! bytes whatever the number of threads; a reader believes nothing that it has not compared with
//! the manifest, allocates within fixed limits and never unpacks.
//!
//! | module | concern |
//! |---|---|
//! | `format` | every constant of the format |
//! | `frame` | one zstd frame: make it, check it, open it |
//! | `pipeline` | frames in parallel, taken in order |
//! | `seek` | seek table and index, the two skippable frames at the end |
//! | `tar` | the header bytes that an artifact must have |
//! | `keys` | recipients, identities, passphrases |
//! | `envelope` | the age layer around an encrypted bundle |
//! | `signature` | minisign keys, signatures over manifests, attestations |
//! | `source` | the bytes of a plain bundle, sealed or not |
//! | [`redact`] | secrets in text: rules, search through encodings, placeholders |
//! | `v1`, `any` | bundles of 0.1.x, and telling them from ours |
//! | `write` / `read` / `verify` / `reseal` | the four things done with a bundle |
//!
//! ```
//! use std::io::Read;
//! use snapshot_bundle::{Bundle, BundleWriter, VerifyOptions, WriteOptions};
//! # use snapshot_core::{ArtifactKind, ArtifactSink, BundlePath, Control, FileSpec, Manifest, Sidecar};
//! # let manifest_of = |artifacts, at_ms: i64| Manifest::parse(serde_json::json!({
//! #     "manifest_version": 2, "bundle_format": snapshot_core::BUNDLE_FORMAT,
//! #     "snapshot_id": "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d", "agent_id": "ana", "tenant": "default",
//! #     "created_at_ms": at_ms, "created_by": "cli", "artifacts": serde_json::to_value::<Vec<_>>(artifacts).unwrap(),
//! #     "schema_versions": snapshot_core::SchemaVersions::CURRENT }).to_string().as_bytes()).unwrap();
//! let file = tempfile::NamedTempFile::new()?;
//! let options = WriteOptions::new(1_700_000_000_000);
//! let mut writer = BundleWriter::new(file.reopen()?, &options, Control::default())?;
//! let note = FileSpec {
//!     path: BundlePath::parse("memory_files/note.md")?,
//!     kind: ArtifactKind::MemoryFile,
//!     size_bytes: 5,
//!     mode: Some(0o600),
//!     mtime_ns: Some(0),
//! };
//! let artifact = writer.put_file(note, &mut b"hello".as_slice())?;
//! let manifest = manifest_of(vec![artifact], options.created_at_ms);
//! let finished = writer.finish(&manifest)?;
//!
//! let sidecar = Sidecar::of_plain(&manifest, finished.root_digest, finished.size_bytes, finished.sha256);
//! let bundle = Bundle::open(file.reopen()?, file.path())?;
//! let expect = VerifyOptions { expect: Some(&sidecar), ..VerifyOptions::default() };
//! assert!(bundle.verify(&expect, &Control::default())?.is_good());
//! let mut text = String::new();
//! bundle.read(&BundlePath::parse("memory_files/note.md")?)?.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod any;
mod envelope;
mod error;
mod format;
mod frame;
mod keys;
mod pipeline;
mod read;
pub mod redact;
mod reseal;
mod seek;
mod signature;
mod source;
mod tar;
mod v1;
mod verify;
mod write;

pub use any::AnyBundle;
pub use envelope::{is_encrypted, wants_passphrase};
pub use error::BundleError;
pub use format::{
    BUNDLE_EXTENSION, DEFAULT_LEVEL, DIGEST_EXTENSION, ENCRYPTED_EXTENSION, FRAME_BYTES,
    MAX_FRAMES, SIDECAR_EXTENSION,
};
pub use keys::{Identities, KeyError, MAX_RECIPIENTS, Recipients, generate_identity};
pub use read::{ArtifactReader, Bundle};
pub use reseal::Resealed;
pub use signature::{PublicKey, SigningKey, Trust};
pub use v1::BundleV1;
pub use verify::{VerifiedBundle, VerifyOptions, verify_file};
pub use write::{BundleWriter, Finished, WriteOptions};

/// Version of the library that compresses, for the manifest.
#[must_use]
pub fn tool_versions() -> [(&'static str, String); 1] {
    [("zstd", zstd::zstd_safe::version_string().to_owned())]
}
