//! What a stream of a JetStream server holds, read by the server's own interface and no code of the
//! product.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Config;
use tokio::runtime::Builder;

use crate::error::KitError;

/// A stream of a server.
#[derive(Debug, Clone)]
pub struct Stored {
    url: String,
    name: String,
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// An error of the library.
type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Stored {
    /// Makes the stream `name` of everything that matches one of `subjects`.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses.
    pub fn create(url: impl Into<String>, name: &str, subjects: &[&str]) -> Result<Self, KitError> {
        let stored = Self { url: url.into(), name: name.to_owned() };
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let config = Config { name: name.to_owned(), subjects, ..Config::default() };
        stored.ask("make", async |context| {
            context.create_stream(config).await?;
            Ok(())
        })?;
        Ok(stored)
    }

    /// Everything stored, in the order of its arrival.
    ///
    /// # Errors
    /// If the server cannot be reached, or a message is gone.
    pub fn messages(&self) -> Result<Vec<StoredMessage>, KitError> {
        self.ask("read", async |context| {
            let stream = context.get_stream(&self.name).await?;
            let last = stream.get_info().await?.state.last_sequence;
            let mut messages = Vec::new();
            for sequence in 1..=last {
                let message = stream.get_raw_message(sequence).await?;
                let (subject, payload) = (message.subject.to_string(), message.payload.to_vec());
                messages.push(StoredMessage { subject, payload });
            }
            Ok(messages)
        })
    }

    /// Over a connection of its own: the server may have been another one since the last.
    fn ask<T>(
        &self,
        op: &'static str,
        question: impl AsyncFnOnce(Context) -> Result<T, Cause>,
    ) -> Result<T, KitError> {
        let fail = |source| KitError::Nats { op, stream: self.name.clone(), source };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| fail(e.into()))?;
        let answer = runtime.block_on(async {
            let client = async_nats::connect(&self.url).await?;
            question(async_nats::jetstream::new(client)).await
        });
        answer.map_err(fail)
    }
}
