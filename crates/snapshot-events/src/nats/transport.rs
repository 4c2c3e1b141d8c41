//! Messages to a NATS server, each known to have arrived.

use std::fmt;
use std::sync::Arc;

use async_nats::connection::State;
use async_nats::header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::{Client, HeaderMap, jetstream};
use futures_util::StreamExt;
use parking_lot::Mutex;

use super::{Cause, NatsError, NatsOptions, Own};
use crate::envelope::Message;
use crate::transport::{Fault, Transport, TransportError};

/// Room for the headers of a message, in bytes.
const HEADERS: usize = 256;

/// [`Transport`] to a NATS server: core publish, known to have arrived because what was sent after
/// it came back; or JetStream, which acknowledges. `Nats-Msg-Id` is the event's id.
///
/// It connects with the first message; one that fails drops the connection, and the next makes a new
/// one, so a half-open one lasts no longer than one message's bound.
pub struct NatsTransport {
    options: Arc<NatsOptions>,
    connection: Mutex<Option<Connection>>,
    own: Own,
}

/// A connection, and the last thing that its server refused.
#[derive(Clone)]
struct Connection {
    client: Client,
    denied: Arc<Mutex<Option<String>>>,
}

/// Why a message did not arrive.
struct Failure {
    fault: Fault,
    source: Cause,
}

/// The server answered, and will not have this subject from us.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Denied(String);

impl NatsTransport {
    /// A transport to this server, whether or not it is there now.
    ///
    /// # Errors
    /// If a thread for it cannot be made.
    pub fn new(options: NatsOptions) -> Result<Self, NatsError> {
        let to = options.shown_url();
        let own = Own::new();
        let own = own.map_err(|e| NatsError { op: "prepare for", to, source: e.into() })?;
        Ok(Self { options: Arc::new(options), connection: Mutex::default(), own })
    }

    /// The connection, a new one where there is none that works.
    fn connection(&self) -> Result<Connection, Cause> {
        let mut held = self.connection.lock();
        let works = |c: &&Connection| c.client.connection_state() == State::Connected;
        if let Some(connection) = held.as_ref().filter(works) {
            return Ok(connection.clone());
        }
        *held = None;
        let denied = Arc::new(Mutex::new(None));
        let (options, hears) = (Arc::clone(&self.options), Arc::clone(&denied));
        let connect = async move { options.connect(move |why| *hears.lock() = Some(why)).await };
        let client = self.own.wait(self.options.bound, connect)?;
        Ok(held.insert(Connection { client, denied }).clone())
    }

    fn try_send(&self, message: &Message) -> Result<(), Failure> {
        let connection = self.connection();
        let connection =
            connection.map_err(|source| Failure { fault: Fault::Unreachable, source })?;
        let limit = connection.client.max_payload();
        if message.payload.len() + HEADERS > limit {
            let why = format!("{} bytes, and the server takes {limit}", message.payload.len());
            return Err(Failure { fault: Fault::Refused, source: why.into() });
        }
        let (message, options) = (message.clone(), Arc::clone(&self.options));
        let sent = self.own.wait(self.options.bound, async move {
            match options.jetstream {
                true => to_jetstream(connection.client, message, &options).await,
                false => to_core(connection, message).await,
            }
        });
        sent.map_err(|source| match source.is::<Denied>() {
            true => Failure { fault: Fault::Denied, source },
            false => {
                *self.connection.lock() = None;
                Failure { fault: Fault::Unreachable, source }
            }
        })
    }
}

impl Transport for NatsTransport {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        self.try_send(message).map_err(|Failure { fault, source }| TransportError {
            subject: message.subject.clone(),
            to: self.options.shown_url(),
            fault,
            source,
        })
    }
}

impl fmt::Debug for NatsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsTransport").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Publishes, and then sends ourselves a word: a server handles what one connection sends in order,
/// so with the word's return it has the message. (A flush says only that our side has written it.)
async fn to_core(connection: Connection, message: Message) -> Result<(), Cause> {
    let Connection { client, denied } = connection;
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    let headers = headers(&message);
    *denied.lock() = None;
    client.publish_with_headers(message.subject, headers, message.payload.into()).await?;
    client.publish(inbox, Vec::new().into()).await?;
    if echo.next().await.is_none() {
        return Err("the connection was closed".into());
    }
    // What the server refused came before the word did; let who hears it go first.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let why = denied.lock().take();
    why.map_or(Ok(()), |why| Err(Denied(why).into()))
}

async fn to_jetstream(
    client: Client,
    message: Message,
    options: &NatsOptions,
) -> Result<(), Cause> {
    let mut headers = headers(&message);
    if let Some(stream) = &options.stream {
        headers.insert(NATS_EXPECTED_STREAM, stream.as_str());
    }
    let context = jetstream::new(client);
    let ack =
        context.publish_with_headers(message.subject, headers, message.payload.into()).await?;
    // A repeated one is acknowledged too, as a duplicate.
    match ack.await {
        Err(e) if e.kind() == PublishErrorKind::StreamNotFound => Err(Denied(e.to_string()).into()),
        acknowledged => acknowledged.map(|_| ()).map_err(Cause::from),
    }
}

fn headers(message: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, message.event_id.to_string().as_str());
    headers
}
