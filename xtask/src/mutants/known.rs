//! The mutants that no proof catches, and why that is no hole.

/// Name and reason.
pub(super) const SURVIVORS: &[(&str, &str)] = &[
    (
        "sync stores/restore/hold.rs sync_targets",
        "only for speed: SQLite syncs its own files when it commits, under the hold, and has less to sync then",
    ),
    (
        "sync stores/restore/stage.rs copy",
        "only for speed: the file system of the staging is synced before the journal, while everybody is held",
    ),
    (
        "sync stores/git/apply.rs apply #3",
        "git's folder and the common one are on two file systems where a worktree says so alone; the tests have one",
    ),
    (
        "sync events/transcript.rs new",
        "nothing of a transcript is synced, so that its folder need not be either; there is no call that makes it otherwise",
    ),
    (
        "check bundle/frame.rs decode #3",
        "zstd refuses a frame whose content is not as long as its header says, and the header was compared before",
    ),
    (
        "step stores/restore/commit.rs restore",
        "a second line: the engine recovers first, and its refusal to work over a pending recovery is a mutant too",
    ),
];
