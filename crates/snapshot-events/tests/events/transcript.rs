//! The transcript.

use std::os::unix::fs::PermissionsExt;

use snapshot_events::{JsonlTranscript, Message, Transport};
use snapshot_fs::DurableFs;

use crate::support::message;

/// Would catch: a line that is cut, lost or doubled by rotation, a file that grows for ever, or one
/// that everybody may read.
#[test]
fn lines_are_whole_and_full_files_move_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log/events.jsonl");
    let size = message(0).payload.len() as u64 + 100;
    for n in 0..9 {
        // A new process each time goes on where the last one stopped.
        let transcript = JsonlTranscript::new(&DurableFs::default(), &path, 2 * size, 2).unwrap();
        transcript.send(&message(n)).unwrap();
    }
    let lines = |name: &str| -> Vec<i64> {
        let text = std::fs::read_to_string(dir.path().join("log").join(name)).unwrap();
        assert!(text.ends_with('\n') && text.len() as u64 <= 2 * size);
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let values: Vec<_> = text.lines().map(line).collect();
        assert!(values.iter().all(|v| v["subject"] == "test.ana.deleted"));
        values.iter().map(|v| v["event"]["ts_ms"].as_i64().unwrap()).collect()
    };
    let kept = [lines("events.jsonl.2"), lines("events.jsonl.1"), lines("events.jsonl")].concat();
    assert_eq!(kept, (9 - kept.len() as i64..9).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(dir.path().join("log")).unwrap().count(), 3);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Would catch: a payload that breaks the lines of the others.
#[test]
fn what_is_no_json_is_an_error_and_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let transcript = JsonlTranscript::new(&DurableFs::default(), &path, 1 << 20, 1).unwrap();
    let broken = Message { payload: b"two\nlines".to_vec(), ..message(1) };
    transcript.send(&broken).unwrap_err();
    transcript.send(&message(2)).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
}
