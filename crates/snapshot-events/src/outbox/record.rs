//! One record of a stream: its name and its bytes.

use std::ffi::OsStr;

use serde::{Deserialize, Serialize};
use snapshot_core::SnapshotId;

use crate::envelope::{EventId, Message};

/// Format of a record; another one is never guessed at.
const VERSION: u32 = 1;
/// Digits of the sequence number in a name.
const DIGITS: usize = 16;

/// What an event tells of, by which a prepared record is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// This snapshot is in the vault.
    Created {
        /// The snapshot.
        id: SnapshotId,
    },
    /// This snapshot is no longer in the vault.
    Deleted {
        /// The snapshot.
        id: SnapshotId,
    },
    /// Everything was put back, and the restore's journal is gone.
    Restored,
    /// A retention run ended.
    Gc,
}

/// What a record's name says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Prepared,
    Ready,
    Bad,
}

/// A record's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) sequence: u64,
    pub(super) state: State,
}

/// A record as it lies on disk. The payload is a text of its own, so that what is sent is what was
/// rendered, byte for byte.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    event_id: EventId,
    subject: String,
    payload: String,
    #[serde(flatten)]
    effect: Effect,
}

impl State {
    const fn extension(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Ready => "ready",
            Self::Bad => "bad",
        }
    }
}

impl Name {
    pub(super) fn parse(name: &OsStr) -> Option<Self> {
        let (digits, extension) = name.to_str()?.split_once('.')?;
        let states = [State::Prepared, State::Ready, State::Bad];
        let state = states.into_iter().find(|state| state.extension() == extension)?;
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != DIGITS || !digits.bytes().all(hex) {
            return None;
        }
        Some(Self { sequence: u64::from_str_radix(digits, 16).ok()?, state })
    }

    pub(super) fn text(self) -> String {
        format!("{:0DIGITS$x}.{}", self.sequence, self.state.extension())
    }

    pub(super) const fn with(self, state: State) -> Self {
        Self { state, ..self }
    }
}

impl Record {
    /// None for a payload that is no text: no event of ours.
    pub(super) fn new(message: &Message, effect: Effect) -> Option<Self> {
        Some(Self {
            version: VERSION,
            event_id: message.event_id,
            subject: message.subject.clone(),
            payload: String::from_utf8(message.payload.clone()).ok()?,
            effect,
        })
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|record: &Self| record.version == VERSION)
    }

    pub(super) const fn event_id(&self) -> EventId {
        self.event_id
    }

    pub(super) fn into_effect(self) -> Effect {
        self.effect
    }

    pub(super) fn into_message(self) -> Message {
        let Self { event_id, subject, payload, .. } = self;
        Message { event_id, subject, payload: payload.into_bytes() }
    }
}
