//! A bundle without its secrets, made of a whole one.
//!
//! Three passes: search everything for what is to go, write everything without it, and search everything that
//! was written again. Invariants: what cannot be redacted, or is found again, fails the whole; nothing of it
//! leaves the private folder before the last search came out clean.

mod scan;
mod search;
mod store;
mod write;

pub use scan::ScanRequest;

use std::collections::BTreeMap;

use snapshot_bundle::redact::{KnownSecrets, Replacer, Search, masked};
use snapshot_bundle::{Bundle, BundleWriter, Finished, WriteOptions};
use snapshot_core::{
    BundleFile, Control, CreatedBy, FoundSecret, GitOid, Manifest, ManifestCapture,
    RedactionOptions, RedactionReceipt, RedactionReport, Redactor, SecretSearch, SnapshotId,
    StoreName, path_in_bundle,
};
use snapshot_fs::{Dir, DurableFile};
use snapshot_stores::StoresError;

use self::search::{BundleSearch, Searched, shown};
use self::write::{Writing, Written};
use super::Engine;
use super::seal::{attest, tool_versions};
use super::snapshot::MAX_LABEL_BYTES;
use crate::error::SnapshotError;
use crate::keys::Recipients;

/// Name of the redacted bundle in the private folder, before its receipt.
const UNPROVED: &str = "redacted-bundle";
/// Bytes of the key of the tags.
const KEY_BYTES: usize = 32;

/// What a redacted bundle says of itself beyond its content.
pub(super) struct RedactedAs {
    pub(super) id: SnapshotId,
    pub(super) created_by: CreatedBy,
    pub(super) public_label: bool,
    /// The whole snapshot that it is a copy of, where that is one.
    pub(super) copy_of: Option<SnapshotId>,
    /// For whom it is encrypted, where it is.
    pub(super) recipients: Option<Recipients>,
}

impl RedactedAs {
    /// A copy of the whole snapshot of this manifest.
    pub(super) fn copy_of(
        whole: &Manifest,
        id: SnapshotId,
        recipients: Option<Recipients>,
    ) -> Self {
        Self {
            id,
            created_by: whole.created_by.clone(),
            public_label: whole.public_label,
            copy_of: Some(whole.snapshot_id),
            recipients,
        }
    }
}

/// A redacted bundle, written and proved. Not durable yet.
pub(super) struct Redacted {
    pub(super) out: DurableFile,
    pub(super) manifest: Manifest,
    pub(super) file: BundleFile,
    /// Old git objects, and what stands in their places.
    pub(super) ids: BTreeMap<GitOid, GitOid>,
}

impl Engine {
    /// Writes `whole` without its secrets to `out`, and proves it. `spool` is a private folder for what must
    /// be unpacked.
    pub(super) fn redact(
        &self,
        whole: &Bundle,
        options: &RedactionOptions,
        named: RedactedAs,
        (spool, out): (&Dir, DurableFile),
        ctl: &Control,
    ) -> Result<Redacted, SnapshotError> {
        refuse_unknown(&options.drop_stores, whole.manifest())?;
        let policy = self.parts.redaction.as_ref();
        let mut known = KnownSecrets::default();
        let search = Search::new(policy);
        self.find(&self.search(whole, &search, options, spool, ctl), &mut known)?;
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|e| SnapshotError::Random { why: e.to_string() })?;
        let mut replacer = Replacer::new(policy, &known, key);

        let writing = Writing {
            bundle: whole,
            replacer: &mut replacer,
            options,
            spool,
            max_git_object_bytes: self.parts.max_git_object_bytes,
            control: ctl,
        };
        let (unproved, ids) = self.write_unproved(writing, &named)?;
        let again = replacer.receipt();
        let shipped = RedactionOptions::default();
        let searched = self.prove(&self.search(&unproved, again, &shipped, spool, ctl))?;
        let receipt = RedactionReceipt {
            clean: true,
            bytes_searched: searched.bytes,
            rules: policy.rules() as u64,
            secrets: known.len() as u64,
        };
        let redacted =
            self.seal_proved(&unproved, receipt, (again, ids), named.recipients, out, ctl);
        spool.unlink(UNPROVED)?;
        redacted
    }

    /// The second pass: everything without its secrets, in the private folder, with a manifest that has no receipt.
    fn write_unproved(
        &self,
        writing: Writing<'_, '_>,
        named: &RedactedAs,
    ) -> Result<(Bundle, BTreeMap<GitOid, GitOid>), SnapshotError> {
        let (whole, spool, ctl) = (writing.bundle, writing.spool, writing.control);
        let mut writer = BundleWriter::new(
            spool.create_new(UNPROVED, 0o600)?,
            &WriteOptions { threads: self.parts.threads, ..WriteOptions::new(dated(whole)) },
            ctl.clone(),
        )?;
        let (mut written, replacer) = writing.run(&mut writer)?;
        let ids = std::mem::take(&mut written.ids);
        let manifest = self.redacted_manifest(whole, named, written, replacer);
        let unproved = writer.finish(&manifest)?.out;
        let path = unproved.path().to_owned();
        Ok((Bundle::open(unproved.into_reader()?, &path)?, ids))
    }

    /// The frames that were searched, and behind them a manifest with the receipt, which is searched too.
    fn seal_proved(
        &self,
        unproved: &Bundle,
        receipt: RedactionReceipt,
        (search, ids): (&dyn SecretSearch, BTreeMap<GitOid, GitOid>),
        recipients: Option<Recipients>,
        out: DurableFile,
        ctl: &Control,
    ) -> Result<Redacted, SnapshotError> {
        let mut manifest = unproved.manifest().clone();
        manifest.redactions.get_or_insert_default().receipt = Some(receipt);
        let signer = self.parts.keys.signer()?;
        manifest.attestation = signer.map(|key| attest(key, &manifest));
        prove_text(&manifest, search)?;
        let encryption = recipients.as_ref().map(Recipients::info);
        let (threads, dated) = (self.parts.threads, dated(unproved));
        let opts = WriteOptions { threads, recipients, ..WriteOptions::new(dated) };
        let writer = BundleWriter::after_artifacts_of(unproved, out, &opts, ctl.clone())?;
        let Finished { out, size_bytes, sha256, root_digest, .. } =
            writer.finish_signed(&manifest, signer)?;
        let file = BundleFile { size_bytes, sha256, root_digest, encryption };
        Ok(Redacted { out, manifest, file, ids })
    }

    fn search<'a>(
        &self,
        bundle: &'a Bundle,
        search: &'a dyn SecretSearch,
        options: &'a RedactionOptions,
        spool: &'a Dir,
        control: &'a Control,
    ) -> BundleSearch<'a> {
        let max_git_object_bytes = self.parts.max_git_object_bytes;
        BundleSearch { bundle, search, options, spool, max_git_object_bytes, control }
    }

    /// The first pass: every secret, and whether it stands where values must differ.
    fn find(
        &self,
        search: &BundleSearch<'_>,
        known: &mut KnownSecrets,
    ) -> Result<(), SnapshotError> {
        let mut full = None;
        search.run(&mut |_, place, found| {
            if full.is_none() {
                full = known.add(found, place.is_key || found.is_key).err();
            }
        })?;
        match full {
            Some(e) => Err(SnapshotError::Secrets { source: e }),
            None => Ok(()),
        }
    }

    /// The last pass: nothing may be found in what was written.
    fn prove(&self, search: &BundleSearch<'_>) -> Result<Searched, SnapshotError> {
        let mut left = None;
        let searched = search.run(&mut |artifact, place, found| {
            if left.is_none() {
                let place = format!("{artifact}, {}", place.place);
                left = Some(still(search.search, &place, found));
            }
        })?;
        match left {
            Some(e) => Err(e),
            None => Ok(searched),
        }
    }

    fn redacted_manifest(
        &self,
        whole: &Bundle,
        named: &RedactedAs,
        written: Written,
        replacer: &Replacer<'_>,
    ) -> Manifest {
        let policy = self.parts.redaction.as_ref();
        let old = whole.manifest();
        let text = |text: &str| match replacer.redact(text.as_bytes()) {
            Some(redacted) => String::from_utf8_lossy(&redacted).into_owned(),
            None => text.to_owned(),
        };
        let mut capture: ManifestCapture = old.capture.clone();
        for left_out in &mut capture.not_carried {
            (left_out.path, left_out.why) = (text(&left_out.path), text(&left_out.why));
        }
        for moved in &mut capture.unstable {
            (moved.path, moved.why) = (text(&moved.path), text(&moved.why));
        }
        capture.not_carried.extend(written.left_out);
        let label = old.label.as_deref().map(|label| shortened(text(label)));
        let report = RedactionReport {
            policy: policy.id().to_owned(),
            copy_of: named.copy_of,
            ..written.report
        };
        Manifest {
            snapshot_id: named.id,
            label,
            public_label: named.public_label,
            created_by: named.created_by.clone(),
            git: written.git,
            artifacts: written.artifacts,
            redactions: Some(report),
            encryption: None,
            attestation: None,
            // The digest of what it was would confirm a guess.
            rewritten_from: None,
            tool_versions: tool_versions(),
            capture,
            ..old.clone()
        }
    }
}

/// Whoever leaves out a store believes that it is not shipped; a mistyped one would be.
fn refuse_unknown(drop_stores: &[StoreName], manifest: &Manifest) -> Result<(), SnapshotError> {
    let held: Vec<&str> = manifest.stores().map(|(info, _)| info.store.as_str()).collect();
    match drop_stores.iter().find(|store| !held.contains(&store.as_str())) {
        Some(store) => {
            let why =
                format!("there is no such store to leave out; there are: {}", held.join(", "));
            let path = store.as_str().into();
            Err(StoresError::Refused { path, why }.into())
        }
        None => Ok(()),
    }
}

fn dated(bundle: &Bundle) -> i64 {
    bundle.manifest().created_at_ms
}

/// Every text of the manifest, as it will lie in the file.
fn prove_text(manifest: &Manifest, search: &dyn SecretSearch) -> Result<(), SnapshotError> {
    match search.search(&manifest.to_bytes()?).first() {
        Some(found) => Err(still(search, path_in_bundle::MANIFEST, found)),
        None => Ok(()),
    }
}

fn still(search: &dyn SecretSearch, place: &str, found: &FoundSecret) -> SnapshotError {
    SnapshotError::StillSecret {
        place: shown(search, place),
        rule: found.rule.to_string(),
        masked: masked(&found.value),
    }
}

/// A placeholder may be longer than what it stands for.
fn shortened(mut label: String) -> String {
    label.truncate(label.floor_char_boundary(MAX_LABEL_BYTES));
    label
}
