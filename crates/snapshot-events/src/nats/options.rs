//! How to reach a NATS server, and as whom.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr};

use super::Cause;

/// How long connecting, and then each message, may take, where nothing else is said.
const DEFAULT_BOUND: Duration = Duration::from_secs(2);
/// How often an idle connection is tested.
const PING_EVERY: Duration = Duration::from_secs(10);

/// How to reach a NATS server. Files are read at each connection, so that they can be replaced.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://` or `tls://`, host and port, perhaps several with commas between them. A user and a
    /// password may stand in it.
    pub url: String,
    /// A credentials file (`nsc`).
    pub creds: Option<PathBuf>,
    /// A file that holds the seed of an nkey.
    pub nkey: Option<PathBuf>,
    /// A token.
    pub token: Option<String>,
    /// TLS, beyond what the URL asks for.
    pub tls: NatsTls,
    /// Whether messages go to JetStream, which stores them and drops repeated ones.
    pub jetstream: bool,
    /// The stream that must take them; a publish to another one fails.
    pub stream: Option<String>,
    /// How long connecting, and then each message, may take.
    pub bound: Duration,
}

/// TLS files, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// Certificates to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl NatsOptions {
    /// A server at this address, without secrets.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            creds: None,
            nkey: None,
            token: None,
            tls: NatsTls::default(),
            jetstream: false,
            stream: None,
            bound: DEFAULT_BOUND,
        }
    }

    /// Why `url` is no address of a server; none where it is one. Says nothing of what is in it.
    #[must_use]
    pub fn refusal(url: &str) -> Option<&'static str> {
        let fits = |server: ServerAddr| matches!(server.scheme(), "nats" | "tls");
        match servers(url).is_ok_and(|servers| servers.into_iter().all(fits)) {
            true => None,
            false => Some(
                "nats://HOST:PORT or tls://HOST:PORT is expected, or several with commas between",
            ),
        }
    }

    /// The address without user and password, for people; of one that is none, nothing.
    #[must_use]
    pub fn shown_url(&self) -> String {
        let shown = |s: ServerAddr| format!("{}://{}:{}", s.scheme(), s.host(), s.port());
        let servers = servers(&self.url).unwrap_or_default();
        match servers.is_empty() {
            true => "***".to_owned(),
            false => servers.into_iter().map(shown).collect::<Vec<_>>().join(","),
        }
    }

    /// Connects; `denied` hears what the server refuses later.
    pub(super) async fn connect(
        &self,
        denied: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<async_nats::Client, Cause> {
        let mut options = ConnectOptions::new()
            .name("nexo-memory")
            .connection_timeout(self.bound)
            .ping_interval(PING_EVERY)
            .event_callback(move |event| {
                if let Event::ServerError(why) = event {
                    denied(why.to_string());
                }
                std::future::ready(())
            });
        if let Some(path) = &self.creds {
            options = options.credentials(&read_secret(path)?)?;
        }
        if let Some(path) = &self.nkey {
            options = options.nkey(read_secret(path)?.trim().to_owned());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(ca) = &self.tls.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((cert, key)) = &self.tls.identity {
            options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        let servers = servers(&self.url)?;
        // The library itself does not take them from the address.
        options = match servers.iter().find_map(|s| Some((s.username()?, s.password()))) {
            Some((user, Some(password))) => {
                options.user_and_password(user.to_owned(), password.to_owned())
            }
            Some((token, None)) => options.token(token.to_owned()),
            None => options,
        };
        Ok(options.connect(servers).await?)
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("url", &self.shown_url())
            .field("creds", &self.creds)
            .field("nkey", &self.nkey)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .field("jetstream", &self.jetstream)
            .field("stream", &self.stream)
            .field("bound", &self.bound)
            .finish()
    }
}

fn read_secret(path: &Path) -> Result<String, Cause> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn servers(url: &str) -> std::io::Result<Vec<ServerAddr>> {
    url.split(',').map(|url| url.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a password or token in a log.
    #[test]
    fn no_secret_is_shown() {
        let options = NatsOptions {
            token: Some("s3cret".to_owned()),
            ..NatsOptions::new("nats://me:s3cret@a:4222, tls://s3cret@b:1")
        };
        assert_eq!(options.shown_url(), "nats://a:4222,tls://b:1");
        for (url, good) in [
            ("localhost", true),
            ("nats://s3cret@a:1", true),
            ("nats://u:s3cr,et@a:1", false),
            ("nats://a:1?token=s3cret", true),
            ("http://a:1", false),
            ("nats://a:port", false),
            ("://", false),
        ] {
            assert_eq!(NatsOptions::refusal(url).is_none(), good, "{url}");
            let shown = NatsOptions::new(url).shown_url();
            assert!(!shown.contains("s3cr") && !shown.contains("et@"), "{shown}");
        }
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
