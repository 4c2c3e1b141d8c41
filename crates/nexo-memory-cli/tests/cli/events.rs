//! What happens is told over NATS, or its absence is.

#[cfg(feature = "nats")]
use std::fs;
#[cfg(feature = "nats")]
use std::process::Stdio;

#[cfg(feature = "nats")]
use serde_json::{Value, json};

use super::Home;

/// Would catch: a build without NATS that keeps silent where it was asked to tell.
#[cfg(not(feature = "nats"))]
#[test]
fn a_build_without_nats_refuses_a_server() {
    let home = Home::new();
    let asked = home.command(&["list"]).env("NEXO_MEMORY_NATS_URL", "nats://a:1").output().unwrap();
    assert_eq!(asked.status.code(), Some(2), "{asked:?}");
    let nats = "memory: { snapshot: { events: { nats: { url: 'nats://a:1' } } } }";
    let config = home.write("memory.yaml", nats);
    let refused = home.run(&["list", "--config", &config]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("events.nats.url"), "{refused:?}");
}

/// Would catch: a configured server that is not told, an event of one agent shown for another, or a
/// snapshot that fails because nobody listens.
#[cfg(feature = "nats")]
#[test]
fn a_snapshot_is_told_to_those_who_listen() {
    let home = Home::new();
    let dir = home.path("nats");
    fs::create_dir(&dir).unwrap();
    let Some(mut broker) = snapshot_testkit::Broker::start(&dir, "").unwrap() else {
        assert!(std::env::var_os("CI").is_none(), "no nats-server: `cargo xtask ci nats-server`");
        return;
    };
    let url = broker.url();
    let told =
        |args: &[&str]| home.command(args).env("NEXO_MEMORY_NATS_URL", &url).output().unwrap();
    home.with_ana();
    let snapshot = ["snapshot", "--agent", "ana", "--memdir", "mem"];

    broker.kill();
    let unheard = told(&snapshot);
    let said = String::from_utf8_lossy(&unheard.stderr).into_owned();
    assert_eq!(unheard.status.code(), Some(0), "{said}");
    assert!(said.contains("1 event kept for later delivery"), "{said}");
    assert_eq!(home.json(&["status"]).0["events_waiting"], 1);
    broker.restart().unwrap();

    let mut tail = home
        .command(&["events", "tail", "--agent", "ana", "--json"])
        .env("NEXO_MEMORY_NATS_URL", &url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (heard, lines) = std::sync::mpsc::channel();
    let stdout = tail.stdout.take().unwrap();
    std::thread::spawn(move || {
        use std::io::BufRead;
        for line in std::io::BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = heard.send(line);
        }
    });
    // The listener may still be on its way, so we go on telling.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let line = loop {
        assert_eq!(told(&snapshot).status.code(), Some(0));
        match lines.recv_timeout(std::time::Duration::from_millis(200)) {
            Ok(line) => break line,
            Err(_) => assert!(std::time::Instant::now() < until, "nothing was heard"),
        }
    };
    tail.kill().unwrap();
    tail.wait().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["kind"], &event["agent_id"]), (&json!("created"), &json!("ana")));
    assert_eq!(home.json(&["status"]).0["events_waiting"], 0, "the one from before arrived too");

    // A run of retention is told too, though it deletes nothing.
    broker.kill();
    assert_eq!(told(&["prune"]).status.code(), Some(0));
    assert_eq!(home.json(&["status"]).0["events_waiting"], 1);
    assert_eq!(told(&["prune", "--dry-run"]).status.code(), Some(0));
    assert_eq!(home.json(&["status"]).0["events_waiting"], 1, "a dry run is no run");

    // The address alone comes from the environment: what else is configured holds.
    let strict = "memory: { snapshot: { events: { nats: { creds: /does/not/exist } } } }";
    let strict = home.write("strict.yaml", strict);
    let refused = told(&[&snapshot[..], &["--config", &strict]].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("/does/not/exist"), "{said}");
    for bad in ["http://a:1", "nats://u:s3cr,et@a:1"] {
        let refused = home.command(&["status"]).env("NEXO_MEMORY_NATS_URL", bad).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{bad}");
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("s3cr"), "{refused:?}");
    }

    let nowhere = home.run(&["events", "tail"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(nowhere.err.contains("NEXO_MEMORY_NATS_URL"), "{nowhere:?}");
}
