//! Events through queues, transcripts and the outbox, without any network.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make the disorder by hand, and a panic is how they fail"
)]

mod conformance;
mod mutation;
mod outbox;
mod queue;
mod support;
mod transcript;
mod wire;
