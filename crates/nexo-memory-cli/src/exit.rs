//! Failures as people and programs get them, and the process's exit code.

use std::error::Error;
use std::process::ExitCode;

use nexo_memory_snapshot::config::ConfigError;
use nexo_memory_snapshot::error::{ErrorKind, SnapshotError, error_chain};
use serde_json::{Value, json};

/// Why a verb failed: what was being done, on what, why, and what to try.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
    details: Vec<(&'static str, String)>,
    hint: Option<String>,
}

/// How a verb ended that said all that there is to say: well, or with the exit code of a kind.
pub(crate) type Ended = Result<Option<ErrorKind>, Failure>;

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Vec::new(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// From an error and its causes.
    pub(crate) fn from_error(kind: ErrorKind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, error_chain(error))
    }

    /// Adds what to try, where nothing better is known yet.
    #[must_use]
    pub(crate) fn try_this(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds what to try, if anything.
    #[must_use]
    pub(crate) fn try_maybe(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.try_this(hint),
            None => self,
        }
    }

    /// Adds a line of what was looked at.
    #[must_use]
    pub(crate) fn detail(mut self, what: &'static str, text: impl Into<String>) -> Self {
        self.details.push((what, text.into()));
        self
    }

    pub(crate) const fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn details(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.details.iter().map(|(what, text)| (*what, text.as_str()))
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// `{"error": {"kind", "message", "hint"}}`; the details end the message.
    pub(crate) fn to_json(&self) -> Value {
        let mut message = self.message.clone();
        for (what, text) in self.details() {
            message = format!("{message}; {what}: {text}");
        }
        json!({ "error": { "kind": self.kind, "message": message, "hint": self.hint } })
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        Self { hint: error.hint(), ..Self::from_error(error.kind(), &error) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { hint: error.hint(), ..Self::from_error(error.kind(), &error) }
    }
}

/// The process's exit code.
pub(crate) fn code(kind: Option<ErrorKind>) -> ExitCode {
    kind.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_documented_shape() {
        let failure = Failure::usage("no agent")
            .detail("root", "/v")
            .try_this("first")
            .try_this("a later, vaguer hint");
        let error = json!({ "kind": "usage", "message": "no agent; root: /v", "hint": "first" });
        assert_eq!(failure.to_json(), json!({ "error": error }));
    }
}
