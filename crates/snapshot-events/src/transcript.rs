//! A transcript: every message as a line of a file, rotated by size.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use snapshot_fs::{Dir, DurableFile, DurableFs, FsError};

use crate::envelope::Message;
use crate::transport::{Fault, Transport, TransportError};

/// Mode of the file.
const FILE_MODE: u32 = 0o600;
/// Mode of its folder, where that is made.
const DIR_MODE: u32 = 0o700;

/// [`Transport`] to a file, one line a message: `{"subject": .., "event": {..}}`. A full one becomes
/// `<name>.1`, that `<name>.2`, and the last is dropped. Lines are appended, not synced: it is for
/// reading along, the outbox is for keeping.
#[derive(Debug)]
pub struct JsonlTranscript {
    dir: Dir,
    name: OsString,
    max_bytes: u64,
    keep: u32,
    open: Mutex<Option<(DurableFile, u64)>>,
}

/// One line.
#[derive(serde::Serialize)]
struct Line<'a> {
    subject: &'a str,
    event: &'a RawValue,
}

impl JsonlTranscript {
    /// The transcript at `path`, of at most `max_bytes`, and `keep` full ones beside it.
    ///
    /// # Errors
    /// If its folder cannot be made or opened.
    pub fn new(fs: &DurableFs, path: &Path, max_bytes: u64, keep: u32) -> Result<Self, FsError> {
        let no_name = || FsError::Escape { path: path.to_owned(), root: PathBuf::from("/") };
        let name = path.file_name().ok_or_else(no_name)?.to_owned();
        let dir = fs.ensure_dir(path.parent().ok_or_else(no_name)?, DIR_MODE)?;
        Ok(Self { dir, name, max_bytes, keep, open: Mutex::default() })
    }

    fn append(&self, message: &Message) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let event: &RawValue = serde_json::from_slice(&message.payload)?;
        let mut line = serde_json::to_vec(&Line { subject: &message.subject, event })?;
        line.push(b'\n');
        let mut open = self.open.lock();
        let (mut file, mut size) = match open.take() {
            Some(open) => open,
            None => {
                let file = self.dir.append(&self.name, FILE_MODE)?;
                let size = file.size()?;
                (file, size)
            }
        };
        if size > 0 && size.saturating_add(line.len() as u64) > self.max_bytes {
            self.rotate()?;
            (file, size) = (self.dir.append(&self.name, FILE_MODE)?, 0);
        }
        // One write a line, so that a reader sees whole lines.
        file.write_all(&line)?;
        *open = Some((file, size + line.len() as u64));
        Ok(())
    }

    fn rotate(&self) -> Result<(), FsError> {
        for number in (0..self.keep).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number + 1));
            match self.dir.rename(from, &self.dir, to) {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        match self.keep {
            0 => self.dir.unlink(&self.name),
            _ => Ok(()),
        }
    }

    fn numbered(&self, number: u32) -> OsString {
        let mut name = self.name.clone();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name
    }
}

impl Transport for JsonlTranscript {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        self.append(message).map_err(|source| TransportError {
            subject: message.subject.clone(),
            to: self.dir.path().join(&self.name).display().to_string(),
            fault: Fault::Unreachable,
            source,
        })
    }
}
