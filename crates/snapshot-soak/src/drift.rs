//! What the agent of a scene has done since its oldest snapshot: something in each part of its memory, so that a
//! restore that leaves one out is seen, and to its history so much that objects of the snapshot are gone.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use snapshot_testkit::{Agent, Git};

use crate::Outcome;

/// A row of each store.
const ROWS: [(&str, &str); 4] = [
    ("long_term", "UPDATE memories SET content = 'known better' WHERE rowid = 1"),
    ("vector", "UPDATE embeddings SET model = 'large' WHERE id = 1"),
    ("concepts", "UPDATE concepts SET summary = 'known better' WHERE id = 1"),
    ("compactions", "UPDATE compactions_v1 SET summary = 'shorter' WHERE rowid = 1"),
];
/// Both pieces of state.
const STATE: [(&str, &str); 2] = [
    ("extract_cursor", "{\"session\": \"the next\", \"counter\": 1}\n"),
    ("dream_run", "{\"id\": \"the next\", \"status\": \"running\"}\n"),
];
/// The file that every commit of the seed changes.
const INDEX: &str = "MEMORY.md";
/// The note of the newest commit alone.
const NEWEST_NOTE: &str = "notes/0023-0.md";

/// Before the oldest snapshot: an idea is put by.
pub(crate) fn prepare(agent: &Agent) -> Outcome<()> {
    stash(agent, "an idea")
}

/// After it.
pub(crate) fn change(agent: &Agent) -> Outcome<()> {
    for (store, sql) in ROWS {
        agent.connect(store)?.execute_batch(sql)?;
    }
    for (name, json) in STATE {
        fs::write(agent.state(name), json)?;
    }
    change_files(&agent.memdir())?;
    change_history(&agent.git())?;
    stash(agent, "another idea")
}

/// A content, a mode, a link; a link that becomes a file, and the reverse; one file goes.
fn change_files(memdir: &Path) -> Outcome<()> {
    fs::write(memdir.join(INDEX), "- all of it anew\n")?;
    fs::set_permissions(memdir.join("bin/remind.sh"), fs::Permissions::from_mode(0o644))?;
    for gone in [NEWEST_NOTE, "latest", "inbox/gone", "inbox/empty"] {
        fs::remove_file(memdir.join(gone))?;
    }
    symlink("notes/0002-0.md", memdir.join("latest"))?;
    fs::write(memdir.join("inbox/gone"), "found again\n")?;
    Ok(symlink("../latest", memdir.join("inbox/empty"))?)
}

/// The newest commit becomes another, a branch and a tag move, others go, one where there was a folder of branches;
/// and what nothing leads to any more is removed.
fn change_history(git: &Git) -> Outcome<()> {
    let commands: [&[&str]; 9] = [
        &["commit", "--quiet", "--all", "--amend", "--message", "known better"],
        &["branch", "--quiet", "--force", "ideas", "main"],
        &["branch", "--quiet", "--delete", "--force", "draft/unfinished"],
        &["branch", "draft", "main"],
        &["tag", "--force", "--annotate", "--message", "version 2", "v1", "main"],
        &["tag", "--delete", "baseline"],
        &["stash", "drop", "--quiet"],
        &["reflog", "expire", "--expire=now", "--all"],
        &["gc", "--quiet", "--prune=now"],
    ];
    for command in commands {
        git.run(command)?;
    }
    Ok(())
}

fn stash(agent: &Agent, idea: &str) -> Outcome<()> {
    fs::write(agent.memdir().join(INDEX), idea)?;
    agent.git().run(&["stash", "push", "--quiet", "--message", idea])?;
    Ok(())
}
