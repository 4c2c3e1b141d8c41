//! The agent's memory: the cut across SQLite, git, files and state, and applying it back.
