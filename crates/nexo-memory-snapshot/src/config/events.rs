//! The section `events`: who is told, and where.

use std::fmt;
use std::path::PathBuf;

use super::ConfigError;
use super::section::Section;

/// Longest subject prefix, in bytes.
const MAX_PREFIX: usize = 128;

/// The section as written; what is absent there is absent here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsSection {
    /// What subjects of lifecycle events begin with.
    pub lifecycle_subject_prefix: Option<String>,
    /// What subjects of mutation events begin with.
    pub mutation_subject_prefix: Option<String>,
    /// Whether a host's mutation events are published.
    pub mutation_publish_enabled: Option<bool>,
    /// The NATS server.
    pub nats: Option<NatsSection>,
}

/// The NATS server. Its debug form shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NatsSection {
    /// Its address; empty where a host is to give it.
    pub url: String,
    /// A credentials file.
    pub creds: Option<PathBuf>,
    /// A file with the seed of an nkey.
    pub nkey: Option<PathBuf>,
    /// A token.
    pub token: Option<String>,
    /// Certificates to trust.
    pub tls_ca: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub tls_identity: Option<(PathBuf, PathBuf)>,
    /// Whether messages go to JetStream.
    pub jetstream: bool,
    /// The stream that must take them.
    pub stream: Option<String>,
}

impl fmt::Debug for NatsSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password, too.
        f.debug_struct("NatsSection").field("jetstream", &self.jetstream).finish_non_exhaustive()
    }
}

impl EventsSection {
    /// The server, where its address is known.
    #[must_use]
    pub fn server(&self) -> Option<&NatsSection> {
        self.nats.as_ref().filter(|nats| !nats.url.is_empty())
    }
}

#[cfg(feature = "nats")]
impl NatsSection {
    /// How to reach it.
    #[must_use]
    pub fn options(&self) -> snapshot_events::nats::NatsOptions {
        let mut options = snapshot_events::nats::NatsOptions::new(self.url.clone());
        options.creds.clone_from(&self.creds);
        options.nkey.clone_from(&self.nkey);
        options.token.clone_from(&self.token);
        options.tls.ca.clone_from(&self.tls_ca);
        options.tls.identity.clone_from(&self.tls_identity);
        options.jetstream = self.jetstream;
        options.stream.clone_from(&self.stream);
        options
    }
}

pub(super) fn read(mut section: Section<'_>) -> Result<EventsSection, ConfigError> {
    let read = EventsSection {
        lifecycle_subject_prefix: prefix(&mut section, "lifecycle_subject_prefix")?,
        mutation_subject_prefix: prefix(&mut section, "mutation_subject_prefix")?,
        mutation_publish_enabled: section.boolean("mutation_publish_enabled")?,
        nats: section.section("nats")?.map(read_nats).transpose()?.flatten(),
    };
    section.finish();
    Ok(read)
}

/// A subject prefix: tokens with points between them, no wildcard, nothing that is not a token.
fn prefix(section: &mut Section<'_>, key: &str) -> Result<Option<String>, ConfigError> {
    let Some(text) = section.expanded(key)? else { return Ok(None) };
    let token = |token: &str| {
        !token.is_empty()
            && !token.contains(['*', '>', '$'])
            && token.chars().all(|c| c.is_ascii_graphic())
    };
    match text.len() <= MAX_PREFIX && text.split('.').all(token) {
        true => Ok(Some(text)),
        false => Err(section.bad(key, "a subject is expected: words with points between them")),
    }
}

fn read_nats(mut nats: Section<'_>) -> Result<Option<NatsSection>, ConfigError> {
    let url = nats.expanded("url")?;
    let mut read = NatsSection {
        creds: nats.path("creds")?,
        nkey: nats.path("nkey")?,
        token: nats.expanded("token")?,
        jetstream: nats.boolean("jetstream")?.unwrap_or_default(),
        stream: nats.expanded("stream")?,
        ..NatsSection::default()
    };
    if let Some(mut tls) = nats.section("tls")? {
        read.tls_ca = tls.path("ca")?;
        read.tls_identity = match (tls.path("cert")?, tls.path("key")?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(tls.bad_here("cert and key belong together".to_owned())),
        };
        tls.finish();
    }
    if read.stream.is_some() && !read.jetstream {
        return Err(nats.bad("stream", "it needs jetstream: true"));
    }
    if url.is_some() && !cfg!(feature = "nats") {
        return Err(nats.bad("url", "this program was built without NATS"));
    }
    #[cfg(feature = "nats")]
    if let Some(why) = url.as_deref().and_then(snapshot_events::nats::NatsOptions::refusal) {
        return Err(nats.bad("url", why));
    }
    nats.finish();
    let read = NatsSection { url: url.unwrap_or_default(), ..read };
    Ok((read != NatsSection::default()).then_some(read))
}
