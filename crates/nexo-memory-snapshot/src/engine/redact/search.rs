//! Everything that a bundle ships, searched: by a person who asks, by a redaction before it writes, and by
//! its receipt after it wrote.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use snapshot_bundle::Bundle;
use snapshot_bundle::redact::{masked, scan_reader};
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSource, Control, FoundSecret, GitHistory, Interrupted,
    Manifest, RedactionOptions, SecretPlace, SecretSearch, Step, StoreName, path_in_bundle,
};
use snapshot_fs::Dir;
use snapshot_stores::{StoresError, room};

use crate::error::SnapshotError;

/// Name of an unpacked store in the spool.
const STORE: &str = "searched-store";
/// Bytes copied at a time.
const BUFFER: usize = 256 << 10;

/// A search of a whole bundle.
pub(super) struct BundleSearch<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) search: &'a dyn SecretSearch,
    /// What is not shipped need not be searched.
    pub(super) options: &'a RedactionOptions,
    /// A private folder for what must be unpacked.
    pub(super) spool: &'a Dir,
    pub(super) max_git_object_bytes: u64,
    pub(super) control: &'a Control,
}

/// Who is told of a secret: the artifact's path, the place in it, the secret.
pub(super) type Tell<'t> = &'t mut dyn FnMut(&str, &SecretPlace, &FoundSecret);

/// What was searched.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Searched {
    pub(super) artifacts: u64,
    /// Decompressed.
    pub(super) bytes: u64,
}

impl BundleSearch<'_> {
    /// Searches every artifact and the manifest's texts.
    pub(super) fn run(&self, tell: Tell<'_>) -> Result<Searched, SnapshotError> {
        let manifest = self.bundle.manifest();
        let shipped = || manifest.artifacts.iter().filter(|artifact| self.is_shipped(artifact));
        let total = shipped().map(|artifact| artifact.size_bytes).sum();
        let mut searched = Searched::default();
        for artifact in shipped() {
            self.control.check()?;
            self.control.advance(Step::Search, searched.bytes, total);
            self.artifact(artifact, tell)?;
            searched.artifacts += 1;
            searched.bytes += artifact.size_bytes;
        }
        self.texts(manifest, tell);
        Ok(searched)
    }

    fn is_shipped(&self, artifact: &Artifact) -> bool {
        match &artifact.sqlite {
            Some(info) => !self.options.drop_stores.contains(&info.store),
            None => {
                artifact.kind != ArtifactKind::GitBundle
                    || self.options.git_history != GitHistory::Drop
            }
        }
    }

    fn artifact(&self, artifact: &Artifact, tell: Tell<'_>) -> Result<(), SnapshotError> {
        let name = artifact.path.to_string();
        self.path(artifact, &name, tell);
        match (&artifact.kind, &artifact.sqlite) {
            (ArtifactKind::MemoryDir, _) => Ok(()),
            (ArtifactKind::MemorySymlink, _) => {
                let target = artifact.link.as_deref().unwrap_or_default();
                self.text("its target", target, true, &mut |place, found| {
                    tell(&name, place, found)
                });
                Ok(())
            }
            (ArtifactKind::GitBundle, _) => self.history(artifact, &name, tell),
            (_, Some(info)) => self.store(artifact, &info.store, &name, tell),
            _ => {
                let content = self.bundle.open(&artifact.path)?;
                self.stream(content, &name, "byte", tell)
            }
        }
    }

    /// Each part of a path: one that is a secret must stay another than its siblings.
    fn path(&self, artifact: &Artifact, name: &str, tell: Tell<'_>) {
        for part in artifact.path.as_bytes().split(|&byte| byte == b'/') {
            self.text("its path", part, true, &mut |place, found| tell(name, place, found));
        }
    }

    fn text(
        &self,
        place: &str,
        text: &[u8],
        is_key: bool,
        tell: &mut dyn FnMut(&SecretPlace, &FoundSecret),
    ) {
        for found in self.search.search(text) {
            tell(&SecretPlace { place: place.to_owned(), is_key }, &found);
        }
    }

    fn stream(
        &self,
        content: impl Read,
        name: &str,
        unit: &str,
        tell: Tell<'_>,
    ) -> Result<(), SnapshotError> {
        let mut content = Watched { inner: content, control: self.control };
        let mut found = |offset: u64, found: FoundSecret| {
            let place = SecretPlace { place: format!("{unit} {offset}"), is_key: false };
            tell(name, &place, &found);
        };
        scan_reader(&mut content, self.search, &mut found).map_err(|source| unread(name, source))
    }

    fn history(
        &self,
        artifact: &Artifact,
        name: &str,
        tell: Tell<'_>,
    ) -> Result<(), SnapshotError> {
        let Some(info) = &self.bundle.manifest().git else { return Ok(()) };
        room(self.spool, snapshot_stores::git::unpacked_bytes(artifact.size_bytes))?;
        let mut content = self.bundle.open(&artifact.path)?;
        snapshot_stores::git::scan_history(
            Some(&mut content),
            info,
            self.spool,
            self.search,
            self.max_git_object_bytes,
            self.control,
            &mut |place, found| tell(name, &place, &found),
        )?;
        Ok(())
    }

    /// The cells, and then the pages: what is in these and in no cell lies on a free page or in an index.
    fn store(
        &self,
        artifact: &Artifact,
        store: &StoreName,
        name: &str,
        tell: Tell<'_>,
    ) -> Result<(), SnapshotError> {
        let mut seen = HashSet::new();
        if artifact.size_bytes > 0 {
            let path = unpack(self.bundle, artifact, self.spool, STORE)?;
            let mut found = |place: SecretPlace, found: FoundSecret| {
                tell(name, &place, &found);
                seen.insert(found.value);
            };
            let searched =
                snapshot_stores::redact::scan_store(&path, self.search, self.control, &mut found);
            self.spool.unlink(STORE)?;
            searched.map_err(|e| named(e, store))?;
        }
        let mut beyond = |name: &str, place: &SecretPlace, found: &FoundSecret| {
            if !seen.contains(&found.value) {
                tell(name, place, found);
            }
        };
        self.stream(self.bundle.open(&artifact.path)?, name, "page byte", &mut beyond)
    }

    /// What of the manifest comes from the memory or from people.
    fn texts(&self, manifest: &Manifest, tell: Tell<'_>) {
        let mut search = |place: &str, text: &str| {
            self.text(place, text.as_bytes(), false, &mut |place, found| {
                tell(path_in_bundle::MANIFEST, place, found);
            });
        };
        search("label", manifest.label.as_deref().unwrap_or_default());
        for left_out in &manifest.capture.not_carried {
            search("not_carried", &left_out.path);
            search("not_carried", &left_out.why);
        }
        for moved in &manifest.capture.unstable {
            search("unstable", &moved.path);
            search("unstable", &moved.why);
        }
    }
}

/// Unpacks an artifact to the file `name` in `spool`; returns its path.
pub(super) fn unpack(
    bundle: &Bundle,
    artifact: &Artifact,
    spool: &Dir,
    name: &str,
) -> Result<std::path::PathBuf, SnapshotError> {
    spool.remove_tree(name)?;
    room(spool, artifact.size_bytes)?;
    let mut file = spool.create_new(name, 0o600)?;
    let mut content = bundle.open(&artifact.path)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let got = content.read(&mut buffer).map_err(|e| unread(&artifact.path.to_string(), e))?;
        if got == 0 {
            return Ok(file.path().to_owned());
        }
        let path = file.path().to_owned();
        file.write_all(&buffer[..got]).map_err(|source| snapshot_fs::FsError::Io {
            op: "write",
            path,
            source,
        })?;
    }
}

/// A reader that ends where its caller is to stop: what searches a stream looks at it alone.
pub(super) struct Watched<'a, R> {
    pub(super) inner: R,
    pub(super) control: &'a Control,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.control.check().map_err(io::Error::other)?;
        self.inner.read(out)
    }
}

/// Content that cannot be read, told by its artifact; or that its caller stopped.
pub(super) fn unread(artifact: &str, source: io::Error) -> SnapshotError {
    let stopped = source.get_ref().and_then(|source| source.downcast_ref::<Interrupted>());
    if let Some(stopped) = stopped {
        return (*stopped).into();
    }
    StoresError::Io { op: "read", path: artifact.into(), source }.into()
}

/// A store that cannot be redacted is named as people drop it.
pub(super) fn named(e: StoresError, store: &StoreName) -> SnapshotError {
    match e {
        StoresError::Unredactable { what, why } => {
            StoresError::Unredactable { what: format!("store {store}: {what}"), why }.into()
        }
        e => e.into(),
    }
}

/// A name or a path, its own secrets masked: those of its parts, as they are searched, and those across them.
pub(super) fn shown(search: &dyn SecretSearch, text: &str) -> String {
    let parts: Vec<String> = text.split('/').map(|part| shown_part(search, part)).collect();
    shown_part(search, &parts.join("/"))
}

fn shown_part(search: &dyn SecretSearch, text: &str) -> String {
    let (mut shown, mut done) = (Vec::new(), 0);
    for found in search.search(text.as_bytes()) {
        shown.extend_from_slice(&text.as_bytes()[done..found.range.start]);
        shown.extend_from_slice(masked(&found.value).as_bytes());
        done = found.range.end;
    }
    shown.extend_from_slice(&text.as_bytes()[done..]);
    String::from_utf8_lossy(&shown).into_owned()
}
