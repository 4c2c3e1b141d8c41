//! A file system of our own in a file, whose power can be cut.
//!
//! `xfs_io` asks ext4 to shut down as if the power went (`EXT4_IOC_SHUTDOWN`): whatever has not reached the journal
//! is gone, and so are bytes that wait in memory. What a later mount makes of it is what a machine finds.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// Tries to unmount. A process that another thread of ours is starting has our files open until it is its own.
const TRIES: usize = 200;
/// Room for a scene; the file is sparse.
const BYTES: &str = "48M";

/// A file that holds an ext4.
#[derive(Debug)]
pub(super) struct Image(PathBuf);

/// A mounted image; dropping it unmounts it, and its loop device goes with that.
#[derive(Debug)]
pub(super) struct Mount(PathBuf);

/// How an image is mounted: from what distributions do to the least that the kernel allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Options {
    /// As everywhere.
    Default,
    /// Content of replaced files is not written before their names are.
    NoAutoAlloc,
    /// Content is written whenever, also after its size.
    Writeback,
}

/// What the journal of the file system has at the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// What was synced, and little else.
    Plain,
    /// All names and attributes; content only where it has its blocks.
    Flushed,
}

impl Image {
    /// An empty one at `path`.
    pub(super) fn create(path: &Path) -> Outcome<Self> {
        run(Command::new("truncate").args(["-s", BYTES]).arg(path))?;
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(path))?;
        Ok(Self(path.to_owned()))
    }

    /// A copy at `path`.
    pub(super) fn copy(&self, path: &Path) -> Outcome<Self> {
        run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).args([&self.0, path]))?;
        Ok(Self(path.to_owned()))
    }

    /// Mounts it at `dir`.
    pub(super) fn mount(&self, dir: &Path, options: Options) -> Outcome<Mount> {
        let options = match options {
            Options::Default => "loop",
            Options::NoAutoAlloc => "loop,noauto_da_alloc",
            Options::Writeback => "loop,noauto_da_alloc,data=writeback",
        };
        std::fs::create_dir_all(dir)?;
        run(Command::new("mount").args(["-t", "ext4", "-o", options]).args([&self.0, dir]))?;
        Ok(Mount(dir.to_owned()))
    }
}

impl Mount {
    /// The power goes. Whoever reads or writes here from now on gets an error.
    pub(super) fn cut(dir: &Path, cut: Cut) -> Outcome<()> {
        let how = match cut {
            Cut::Plain => "shutdown",
            Cut::Flushed => "shutdown -f",
        };
        run(Command::new("xfs_io").args(["-x", "-c", how]).arg(dir))
    }

    /// Unmounts it, or says why not: somebody still has a file open there.
    pub(super) fn unmount(self) -> Outcome<()> {
        unmount(&self.0)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if unmount(&self.0).is_err() {
            // Goes with the last file that is open there.
            let _ = run(Command::new("umount").arg("-l").arg(&self.0));
        }
    }
}

/// Why no power can be cut here, if so; tries it in the empty folder `dir`.
#[must_use]
pub fn unavailable(dir: &Path) -> Option<String> {
    let tried = || -> Outcome<()> {
        let image = Image::create(&dir.join("trial.img"))?;
        let mount = image.mount(&dir.join("trial"), Options::Default)?;
        let file = dir.join("trial/file");
        std::fs::write(&file, "x")?;
        Mount::cut(&dir.join("trial"), Cut::Plain)?;
        if std::fs::write(&file, "y").is_ok() {
            return Err("a file system that was shut down still takes writes".into());
        }
        mount.unmount()
    };
    let why = tried().err().map(|e| e.to_string());
    let _ = std::fs::remove_file(dir.join("trial.img"));
    why
}

fn unmount(dir: &Path) -> Outcome<()> {
    let mut done = run(Command::new("umount").arg(dir));
    for _ in 1..TRIES {
        if done.is_ok() {
            break;
        }
        std::thread::yield_now();
        done = run(Command::new("umount").arg(dir));
    }
    done
}

fn run(command: &mut Command) -> Outcome<()> {
    let done = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    match done.status.success() {
        true => Ok(()),
        false => {
            Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim()).into())
        }
    }
}
