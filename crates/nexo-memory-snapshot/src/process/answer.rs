//! What a program printed, as a result or an error of ours.
//!
//! Invariant: a document of another shape than documented is an error, never a result in part.

use std::process::ExitStatus;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use snapshot_core::{ErrorKind, one_line};

use super::ProcessError;
use super::run::Said;
use crate::error::SnapshotError;

/// The document of every failure.
#[derive(Deserialize)]
struct Failed {
    error: Failure,
}

#[derive(Deserialize)]
struct Failure {
    kind: String,
    message: String,
    #[serde(default)]
    hint: Option<String>,
}

/// The document that was asked for, or the failure that the program told.
///
/// # Errors
/// If it printed neither.
pub(super) fn read<T: DeserializeOwned>(
    said: Said,
) -> Result<Result<T, SnapshotError>, ProcessError> {
    let Said { stdout, stderr: said, status } = said;
    let nothing = stdout.iter().all(u8::is_ascii_whitespace);
    // What a program printed before it was killed may be half of it.
    if nothing || status.code().is_none() {
        return Err(ProcessError::Died { status, said });
    }
    // A report of damage, too, comes with another code than 0.
    if !status.success()
        && let Ok(Failed { error }) = serde_json::from_slice(&stdout)
    {
        return Ok(Err(error.told(status)));
    }
    match serde_json::from_slice(&stdout) {
        Ok(document) => {
            if !said.is_empty() {
                tracing::warn!(said = %one_line(&said), "nexo-memory did it, and warned");
            }
            Ok(Ok(document))
        }
        Err(source) => Err(ProcessError::Document { status, said, source }),
    }
}

/// The kind of an exit code, the first of those that share it.
pub(super) fn kind_of(status: ExitStatus) -> ErrorKind {
    let mut kinds = ErrorKind::ALL.into_iter();
    let kind = kinds.find(|kind| status.code() == Some(i32::from(kind.exit_code())));
    kind.unwrap_or(ErrorKind::Internal)
}

impl Failure {
    fn told(self, status: ExitStatus) -> SnapshotError {
        let Self { kind, message, hint } = self;
        // A newer program may know more kinds; its exit code is of the known ones.
        let kind = serde_json::from_value(Value::String(kind)).unwrap_or_else(|_| kind_of(status));
        SnapshotError::Told { kind, message, hint }
    }
}
