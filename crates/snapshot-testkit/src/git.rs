//! The real git, with nothing of the user's configuration.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::KitError;

/// Runs git in one folder.
#[derive(Debug, Clone)]
pub struct Git {
    dir: PathBuf,
}

impl Git {
    /// For the repository (or future repository) at `dir`.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// A git command with a clean environment, not yet run. Author, committer and dates are fixed.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().current_dir(&self.dir).stdin(Stdio::null());
        for kept in ["PATH", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.envs([
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_AUTHOR_NAME", "Ana"),
            ("GIT_AUTHOR_EMAIL", "ana@example.org"),
            ("GIT_AUTHOR_DATE", "1790000000 +0000"),
            ("GIT_COMMITTER_NAME", "Ana"),
            ("GIT_COMMITTER_EMAIL", "ana@example.org"),
            ("GIT_COMMITTER_DATE", "1790000000 +0000"),
        ]);
        // No background gc behind a test's back; no hooks of a template; any owner.
        for setting in [
            "init.defaultBranch=main",
            "gc.auto=0",
            "maintenance.auto=false",
            "core.hooksPath=/dev/null",
            "protocol.file.allow=always",
            "safe.directory=*",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    /// Runs git and gives its standard output without the final newline.
    ///
    /// # Errors
    /// [`KitError::Command`] with what git said where it fails.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, KitError> {
        self.feed(args, b"")
    }

    /// Runs git with this standard input.
    ///
    /// # Errors
    /// [`KitError::Command`] with what git said where it fails.
    pub fn feed<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Result<String, KitError> {
        let mut command = self.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(KitError::io("run git in", &self.dir))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A git that gave up early says why on its standard error.
            let _ = stdin.write_all(input);
        }
        let out = child.wait_with_output().map_err(KitError::io("wait for git in", &self.dir))?;
        if !out.status.success() {
            let words: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
            // `git fsck` says what is missing on its standard output.
            let said = [out.stderr, out.stdout].concat();
            return Err(KitError::Command {
                command: format!("git {}", words.join(" ")),
                stderr: String::from_utf8_lossy(&said).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim_end_matches('\n').to_owned())
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a user's configuration that leaks into tests.
    #[test]
    fn commits_are_the_same_on_every_machine() {
        let tmp = tempfile::tempdir().unwrap();
        let git = Git::at(tmp.path());
        git.run(&["init", "-q"]).unwrap();
        git.run(&["commit", "-q", "--allow-empty", "-m", "first"]).unwrap();
        assert_eq!(git.run(&["symbolic-ref", "HEAD"]).unwrap(), "refs/heads/main");
        let expected = "d285a579e4cebba87ebb51abe30d1b4749161264";
        assert_eq!(git.run(&["rev-parse", "HEAD"]).unwrap(), expected);
    }

    #[test]
    fn a_failure_says_what_git_said() {
        let tmp = tempfile::tempdir().unwrap();
        let failed = Git::at(tmp.path()).run(&["rev-parse", "HEAD"]).unwrap_err().to_string();
        assert!(failed.contains("git rev-parse HEAD") && failed.contains("not a git"), "{failed}");
    }
}
