//! One message at a time.

use std::time::Duration;

use snapshot_core::error_chain;
use snapshot_events::nats::{NatsOptions, NatsTls, NatsTransport};
use snapshot_events::{Fault, Message, Transport};
use snapshot_testkit::{Broker, Proxy};

use crate::support::{Server, eventually, message, next};

/// Would catch: another subject, another byte, or a subject prefix that lets two daemons hear each
/// other.
#[test]
fn subject_and_bytes_arrive_as_rendered_and_prefixes_keep_daemons_apart() {
    let Some(server) = Server::start("") else { return };
    let (ours, all) = (server.tail("test.ana.>"), server.tail(">"));
    let transport = NatsTransport::new(server.options()).unwrap();
    let foreign = Message { subject: "other.ana.deleted".to_owned(), ..message("ana", 1) };
    transport.send(&foreign).unwrap();
    let sent = message("ana", 2);
    transport.send(&sent).unwrap();
    let heard = next(&ours);
    assert_eq!((heard.subject, heard.payload), (sent.subject.clone(), sent.payload));
    assert_eq!(sent.subject, "test.ana.deleted");
    assert_eq!(next(&all).subject, "other.ana.deleted");
}

/// Would catch: an event stored twice after a repeated delivery, or stored in a stream of others.
#[test]
fn jetstream_stores_a_repeated_event_once_and_only_in_the_named_stream() {
    let Some(server) = Server::start(Broker::JETSTREAM) else { return };
    let transport = |stream: &str| {
        let stream = Some(stream.to_owned());
        NatsTransport::new(NatsOptions { jetstream: true, stream, ..server.options() }).unwrap()
    };
    let events = transport("EVENTS");
    let missing = events.send(&message("ana", 1)).unwrap_err();
    assert_eq!(missing.fault, Fault::Denied, "an operator may still make the stream");
    let stored = server.store("EVENTS");
    events.send(&message("ana", 1)).unwrap();
    events.send(&message("ana", 1)).unwrap();
    events.send(&message("ana", 2)).unwrap();
    assert_eq!(stored.messages().unwrap().len(), 2);
    transport("OTHER").send(&message("ana", 3)).unwrap_err();
    assert_eq!(stored.messages().unwrap().len(), 2);
}

/// Would catch: credentials that do not work, an event that counts as sent though the server
/// refused it, or a secret in an error.
#[test]
fn tokens_and_rights_are_the_servers_to_check_and_no_secret_is_told() {
    let rights = "authorization { users: [
        { user: u, password: s3cret, permissions: { publish: [\"test.ana.>\", \"_INBOX.>\"] } } ] }";
    let Some(limited) = Server::start(rights) else { return };
    let url = |secret: &str| format!("nats://u:{secret}@{}", limited.broker.address());
    let send = |url: String, agent| {
        NatsTransport::new(NatsOptions::new(url)).unwrap().send(&message(agent, 1))
    };
    send(url("s3cret"), "ana").unwrap();
    let denied = send(url("s3cret"), "bob").unwrap_err();
    assert_eq!(denied.fault, Fault::Denied, "others may pass");
    let denied = error_chain(&denied);
    assert!(denied.to_lowercase().contains("permission"), "{denied}");
    let wrong = error_chain(&send(url("wr0ng"), "ana").unwrap_err());
    for text in [denied, wrong] {
        assert!(!text.contains("s3cret") && !text.contains("wr0ng"), "{text}");
    }

    let Some(server) = Server::start("authorization { token: t0ken }") else { return };
    let with = |token: &str| {
        let token = Some(token.to_owned());
        NatsTransport::new(NatsOptions { token, ..server.options() }).unwrap()
    };
    with("t0ken").send(&message("ana", 1)).unwrap();
    let refused = with("another").send(&message("ana", 1)).unwrap_err();
    assert!(!error_chain(&refused).contains("another"), "{refused}");
}

/// Would catch: an nkey that is not read from its file.
#[test]
fn an_nkey_opens_the_door() {
    let pair = nkeys::KeyPair::new_user();
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", pair.public_key());
    let Some(server) = Server::start(&config) else { return };
    let seed = server.dir().join("seed");
    std::fs::write(&seed, format!("{}\n", pair.seed().unwrap())).unwrap();
    let known = NatsOptions { nkey: Some(seed), ..server.options() };
    NatsTransport::new(known).unwrap().send(&message("ana", 1)).unwrap();
    NatsTransport::new(server.options()).unwrap().send(&message("ana", 1)).unwrap_err();
}

/// Would catch: a certificate that nobody checks, or a private one that cannot be used.
#[test]
fn a_private_certificate_must_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let config = "tls { cert_file: \"./ca.pem\", key_file: \"./key.pem\" }";
    let Some(server) = Server::start_in(dir, config) else { return };
    let tls = NatsTls { ca: Some(ca), identity: None };
    let trusting = NatsOptions { tls, ..server.options() };
    NatsTransport::new(trusting).unwrap().send(&message("ana", 1)).unwrap();
    NatsTransport::new(server.options()).unwrap().send(&message("ana", 1)).unwrap_err();
}

/// Would catch: a transport that never finds a server that came later or came back.
#[test]
fn a_server_that_was_down_is_found_again() {
    let Some(mut server) = Server::start("") else { return };
    let transport = NatsTransport::new(server.options()).unwrap();
    server.broker.kill();
    transport.send(&message("ana", 1)).unwrap_err();
    server.broker.restart().unwrap();
    eventually(|| transport.send(&message("ana", 1)));
    server.broker.kill();
    transport.send(&message("ana", 2)).unwrap_err();
    server.broker.restart().unwrap();
    eventually(|| transport.send(&message("ana", 2)));
}

/// Would catch: a send that never comes back, or counts as arrived, on a connection that is half
/// open.
#[test]
fn a_half_open_connection_ends_within_the_bound_and_is_given_up() {
    let Some(server) = Server::start("") else { return };
    let proxy = Proxy::start(server.broker.address()).unwrap();
    let bound = Duration::from_millis(300);
    let options = NatsOptions { bound, ..NatsOptions::new(proxy.url()) };
    let transport = NatsTransport::new(options).unwrap();
    transport.send(&message("ana", 1)).unwrap();
    let heard = server.tail("test.>");
    proxy.set_deaf(true);
    transport.send(&message("ana", 2)).unwrap_err();
    transport.send(&message("ana", 2)).unwrap_err();
    proxy.set_deaf(false);
    eventually(|| transport.send(&message("ana", 3)));
    assert_eq!(next(&heard).payload, message("ana", 3).payload);
}

/// Would catch: a message too large for the server, sent again for ever.
#[test]
fn what_a_server_can_never_take_is_refused_for_good() {
    let Some(server) = Server::start("max_payload: 4096") else { return };
    let large = Message { payload: vec![b' '; 8192], ..message("ana", 1) };
    let transport = NatsTransport::new(server.options()).unwrap();
    assert_eq!(transport.send(&large).unwrap_err().fault, Fault::Refused);
    transport.send(&message("ana", 2)).unwrap();
}

/// Would catch: a panic where the host has a runtime of its own.
#[test]
fn it_works_inside_somebody_elses_runtime() {
    let Some(server) = Server::start("") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let transport = NatsTransport::new(server.options()).unwrap();
        transport.send(&message("ana", 1)).unwrap();
        drop(transport);
    });
}
