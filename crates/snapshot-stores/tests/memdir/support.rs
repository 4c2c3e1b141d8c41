//! A bundle in memory, a hermetic git, and the whole way through capture and restore.

use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use snapshot_core::{Control, GitInfo, Manifest, SnapshotId};
use snapshot_fs::{Dir, DurableFs};
use snapshot_stores::StoresError;
use snapshot_stores::files::{self, FilesCaptured, ListOptions};
use snapshot_stores::git::{self, GitBundle};
pub(crate) use snapshot_testkit::MemoryBundle;

/// Largest git object in tests that are not about the limit.
pub(crate) const MAX_OBJECT: u64 = 1 << 28;

/// A folder with a memdir, a spool and a place for staged git objects.
pub(crate) struct Scene {
    pub(crate) tmp: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["mem", "spool"] {
            fs::create_dir(tmp.path().join(name)).unwrap();
        }
        Self { tmp }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    pub(crate) fn mem(&self) -> PathBuf {
        self.at("mem")
    }

    pub(crate) fn dir(&self, name: &str) -> Dir {
        DurableFs::default().ensure_dir(&self.at(name), 0o700).unwrap()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.mem().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git_in(&self.mem(), args)
    }

    /// A commit of everything.
    pub(crate) fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
    }

    /// A repository with two commits.
    pub(crate) fn with_history() -> Self {
        let scene = Self::new();
        scene.git(&["init", "-q", "-b", "main"]);
        scene.write("MEMORY.md", "one\n");
        scene.write("notes/day.md", "monday\n");
        scene.commit("first");
        scene.write("MEMORY.md", "one\ntwo\n");
        scene.commit("second");
        scene
    }

    /// Captures the memory files as the cut does.
    pub(crate) fn capture_files(&self) -> (MemoryBundle, FilesCaptured) {
        self.capture_files_with(&ListOptions::default())
    }

    pub(crate) fn capture_files_with(
        &self,
        options: &ListOptions,
    ) -> (MemoryBundle, FilesCaptured) {
        let (memdir, spool, control) = (self.dir("mem"), self.dir("spool"), Control::default());
        let before = files::list(&memdir, options, &control).unwrap();
        let after = files::list(&memdir, options, &control).unwrap();
        let mut bundle = MemoryBundle::default();
        let captured =
            files::write_files(&memdir, options, &before, &after, &mut bundle, &spool, &control)
                .unwrap();
        assert!(
            fs::read_dir(self.at("spool")).unwrap().next().is_none(),
            "the spool is left empty"
        );
        // What could not be read again would be no bundle.
        let bytes = bundle.manifest.to_bytes().unwrap();
        assert_eq!(Manifest::parse(&bytes).unwrap(), bundle.manifest);
        (bundle, captured)
    }

    /// Restores memory files into the memdir, as a restore does.
    pub(crate) fn restore_files(
        &self,
        bundle: &MemoryBundle,
    ) -> Result<files::FilesPlan, StoresError> {
        let (memdir, control) = (self.dir("mem"), Control::default());
        let live = files::live_state(&memdir, &ListOptions::default(), &control)?;
        let plan = files::plan(&live, &bundle.manifest)?;
        files::stage(&memdir, bundle, &plan.targets, id(7), &control)?;
        files::apply(&memdir, &plan.targets, id(7))?;
        Ok(plan)
    }

    pub(crate) fn bundle_git(&self) -> Result<GitBundle, StoresError> {
        let repo = git::open(&self.mem())?.unwrap();
        let pinned = repo.pin()?;
        git::write_bundle(&repo, &pinned, &self.dir("spool"), MAX_OBJECT, &Control::default())
    }

    /// The git bundle's bytes, and the manifest's part.
    pub(crate) fn git_bytes(&self) -> (Vec<u8>, GitInfo) {
        let GitBundle { info, file, .. } = self.bundle_git().unwrap();
        let (mut file, size) = file.unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        (bytes, info)
    }

    /// Stages a git bundle and puts it into this scene's memdir.
    pub(crate) fn restore_git(
        &self,
        bytes: Option<&[u8]>,
        info: &GitInfo,
    ) -> Result<(), StoresError> {
        let (memdir, control) = (self.dir("mem"), Control::default());
        let staged = self.stage_git(bytes, info)?;
        let now = git::open(memdir.path())?.map(|repo| repo.pin()).transpose()?;
        let (_, targets) = git::plan(now.as_ref(), info);
        git::apply(&memdir, &staged, &targets, id(7), &control)?;
        assert_eq!(git::progress(memdir.path(), &targets).unwrap(), git::GitProgress::After);
        Ok(())
    }

    pub(crate) fn stage_git(
        &self,
        bytes: Option<&[u8]>,
        info: &GitInfo,
    ) -> Result<Dir, StoresError> {
        let _ = fs::remove_dir_all(self.at("staged"));
        let staged = self.dir("staged");
        let mut bytes = bytes.map(Cursor::new);
        let bytes = bytes.as_mut().map(|b| b as &mut dyn Read);
        git::stage(bytes, info, &staged, MAX_OBJECT, &Control::default())?;
        Ok(staged)
    }
}

/// Stops a writer thread however its test ends: a scope waits for its threads even after a panic.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An id for tests.
pub(crate) fn id(n: u8) -> SnapshotId {
    SnapshotId::from_random_bytes([n; 16])
}

/// A git command that sees nothing of this machine's configuration.
pub(crate) fn git_command(dir: &Path, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).args(args).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "Ana"),
        ("GIT_AUTHOR_EMAIL", "ana@example.org"),
        ("GIT_AUTHOR_DATE", "1700000000 +0130"),
        ("GIT_COMMITTER_NAME", "Ana"),
        ("GIT_COMMITTER_EMAIL", "ana@example.org"),
        ("GIT_COMMITTER_DATE", "1700000000 -0330"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("LC_ALL", "C"),
    ] {
        command.env(name, value);
    }
    command
}

pub(crate) fn git_in(dir: &Path, args: &[&str]) -> String {
    let output = git_command(dir, args).output().unwrap();
    text(&output, args)
}

/// Runs git with something on its standard input.
pub(crate) fn git_with_input(dir: &Path, args: &[&str], input: &[u8]) -> String {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut command = git_command(dir, args);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    text(&child.wait_with_output().unwrap(), args)
}

fn text(output: &Output, args: &[&str]) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
