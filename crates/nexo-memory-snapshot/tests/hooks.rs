//! Hooks: the right agent, the right error, nothing left running.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nexo_memory_snapshot::{ShellHooks, ShellQuiesce};
use snapshot_core::{AgentId, Control, ErrorKind, Quiesce};

const LONG: Duration = Duration::from_secs(60);

fn hooks(quiesce: &str, resume: &str, deadline: Duration) -> ShellQuiesce {
    let (quiesce, resume) = (quiesce.to_owned(), resume.to_owned());
    shell(ShellHooks { quiesce, resume, deadline }, Control::default())
}

fn shell(all: ShellHooks, control: Control) -> ShellQuiesce {
    ShellQuiesce::new(Some(all), BTreeMap::new(), control).unwrap_or_else(|| panic!("it has hooks"))
}

fn source(e: &dyn std::error::Error) -> String {
    e.source().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn commands_run_for_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seen");
    let quiesce = format!("echo stop {{agent}} >> {}", file.display());
    let resume = format!("echo start {{agent}} >> {}", file.display());
    let ana = AgentId::from_static("ana");
    let hooks = hooks(&quiesce, &resume, LONG);
    hooks.pause(&ana, LONG).unwrap();
    hooks.resume(&ana);
    assert_eq!(fs::read_to_string(file).unwrap(), "stop ana\nstart ana\n");
    assert!(hooks.take_resume_failures().is_empty());
}

#[test]
fn a_failure_says_the_command_its_status_and_its_stderr() {
    let hooks = hooks("echo no such unit >&2; exit 5", "exit 6", LONG);
    let ana = AgentId::from_static("ana");
    let error = hooks.pause(&ana, LONG).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.to_string().contains("quiesce agent ana"), "{error}");
    assert_eq!(source(&error), "exit status: 5: no such unit");
    hooks.resume(&ana);
    let failures = hooks.take_resume_failures();
    assert_eq!(failures.len(), 1, "a failed resume must not vanish");
    assert_eq!(source(&failures[0]), "exit status: 6");
}

#[test]
fn the_deadline_ends_the_command_and_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    // The child's id is written before the shell waits, so the file is whole once we were late.
    let quiesce = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
    let error = hooks(&quiesce, "true", Duration::from_secs(1))
        .pause(&AgentId::from_static("ana"), LONG)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    let stat = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
    // Gone, or dead and not yet collected by its new parent.
    while Path::new(&stat).exists() {
        let Ok(text) = fs::read_to_string(&stat) else { break };
        if text.contains(") Z ") {
            break;
        }
        std::thread::yield_now();
    }
}

#[test]
fn output_without_end_does_not_keep_it_from_its_deadline() {
    let error = hooks("yes >&2", "true", Duration::from_millis(100))
        .pause(&AgentId::from_static("ana"), LONG)
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    assert!(source(&error).len() < 4096);
}

#[test]
fn cancelling_ends_the_pause_and_never_the_resume() {
    let dir = tempfile::tempdir().unwrap();
    let resumed = dir.path().join("resumed");
    let quiesce = "sleep 1000".to_owned();
    let resume = format!("sleep 0.1; touch {}", resumed.display());
    let control = Control::default();
    let hooks = shell(ShellHooks { quiesce, resume, deadline: LONG }, control.clone());
    control.cancel();
    let ana = AgentId::from_static("ana");
    assert_eq!(hooks.pause(&ana, LONG).unwrap_err().kind, ErrorKind::Interrupted);
    hooks.resume(&ana);
    assert!(resumed.exists());
}
