//! What a NATS server tells its subscribers.

use std::fmt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select_all;

use super::{NatsError, NatsOptions, Own};

/// Messages that wait for a slow reader; beyond them the server drops what it does not take.
const WAITING: usize = 4096;

/// A subscription, read by a thread that may wait. Reconnects by itself.
pub struct NatsTail {
    messages: Receiver<Received>,
    to: String,
    _own: Own,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its subject.
    pub subject: String,
    /// Its content.
    pub payload: Vec<u8>,
}

impl NatsTail {
    /// Subscribes to these subjects; `*` and `>` may stand in them.
    ///
    /// # Errors
    /// If the server is not there or refuses.
    pub fn subscribe(options: NatsOptions, subjects: Vec<String>) -> Result<Self, NatsError> {
        let to = options.shown_url();
        let fail = |source| NatsError { op: "subscribe at", to: to.clone(), source };
        let own = Own::new().map_err(|e| fail(e.into()))?;
        let (tell, messages) = mpsc::sync_channel(WAITING);
        own.wait(options.bound, async move {
            let client = options.connect(|_| {}).await?;
            let mut subscriptions = Vec::new();
            for subject in subjects {
                subscriptions.push(client.subscribe(subject).await?);
            }
            client.flush().await?;
            tokio::spawn(async move {
                let mut messages = select_all(subscriptions);
                while let Some(message) = messages.next().await {
                    let subject = message.subject.to_string();
                    let received = Received { subject, payload: message.payload.to_vec() };
                    // A slow reader must not keep the connection from answering its server.
                    if tokio::task::block_in_place(|| tell.send(received)).is_err() {
                        return;
                    }
                }
            });
            Ok(())
        })
        .map_err(fail)?;
        Ok(Self { messages, to, _own: own })
    }

    /// The next message, or none within `wait`.
    ///
    /// # Errors
    /// If the subscription ended for good.
    pub fn next(&self, wait: Duration) -> Result<Option<Received>, NatsError> {
        match self.messages.recv_timeout(wait) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                let (to, source) = (self.to.clone(), "the subscription ended".into());
                Err(NatsError { op: "hear from", to, source })
            }
        }
    }
}

impl fmt::Debug for NatsTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsTail").field("to", &self.to).finish_non_exhaustive()
    }
}
