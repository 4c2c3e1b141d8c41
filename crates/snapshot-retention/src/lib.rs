//! Which snapshots to keep: a pure planner that gives a reason for each, and the worker that runs
//! it.
