//! Transports: what carries a rendered message somewhere else, and may take its time.

use crate::envelope::Message;

/// Carries messages. Called from a thread of its own, never from one that holds a lock of the vault.
pub trait Transport: Send + Sync {
    /// Carries one message; returns once the other side has it, or has it refused, within a bound of
    /// the transport's own.
    ///
    /// # Errors
    /// Whatever kept it from arriving; it may have arrived nevertheless, and is sent again with the
    /// same [`crate::EventId`].
    fn send(&self, message: &Message) -> Result<(), TransportError>;
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The other side is not there, or not now: no other message would arrive either.
    Unreachable,
    /// This subject is denied us as things stand; an operator may change that, and others may pass.
    Denied,
    /// The other side will never take this message, however often it is sent: it is too large, say.
    Refused,
}

/// Why a message was not carried.
#[derive(Debug, thiserror::Error)]
#[error("cannot send {subject} to {to}")]
pub struct TransportError {
    /// The message's subject.
    pub subject: String,
    /// The other side, without secrets.
    pub to: String,
    /// What that means for this message, and for others.
    pub fault: Fault,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
