//! Paths inside a bundle: relative, normal, and unable to leave the folder they are written to.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{ParseError, excerpt};

/// Longest path in a bundle, in bytes (Linux `PATH_MAX`).
pub const MAX_PATH_BYTES: usize = 4096;

/// Longest component of a path, in bytes (Linux `NAME_MAX`).
const MAX_COMPONENT_BYTES: usize = 255;

/// A `/`-separated relative path without empty, `.` or `..` components and without NUL.
///
/// Raw bytes, because file systems admit names that are not UTF-8; [`fmt::Display`] is lossy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundlePath(Vec<u8>);

impl BundlePath {
    /// Parses raw bytes.
    ///
    /// # Errors
    /// [`ParseError::Path`] naming the rule that the path breaks.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let bad = |why| ParseError::Path { value: excerpt(&String::from_utf8_lossy(bytes)), why };
        if bytes.is_empty() || bytes.len() > MAX_PATH_BYTES {
            return Err(bad("it must have 1 to 4096 bytes"));
        }
        if bytes.contains(&0) {
            return Err(bad("it contains NUL"));
        }
        for component in bytes.split(|&b| b == b'/') {
            match component {
                b"" => return Err(bad("it is absolute or has an empty component")),
                b"." | b".." => return Err(bad("it has a . or .. component")),
                c if c.len() > MAX_COMPONENT_BYTES => {
                    return Err(bad("a component has over 255 bytes"));
                }
                _ => {}
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    /// Parses text.
    ///
    /// # Errors
    /// As [`BundlePath::from_bytes`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::from_bytes(text.as_bytes())
    }

    /// `self/name`.
    ///
    /// # Errors
    /// As [`BundlePath::from_bytes`].
    pub fn join(&self, tail: &[u8]) -> Result<Self, ParseError> {
        Self::from_bytes(&[self.0.as_slice(), b"/", tail].concat())
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative file-system path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The text, where it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// What follows `prefix/`, if this path lies under it.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Option<Self> {
        let rest = self.0.strip_prefix(prefix.as_bytes())?.strip_prefix(b"/")?;
        Some(Self(rest.to_vec()))
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_hold_at_and_past_the_edge() {
        assert!(BundlePath::from_bytes(&[b'a'; 255]).is_ok());
        assert!(BundlePath::from_bytes(&[b'a'; 256]).is_err());
        let deep = |n: usize| "a/".repeat(n / 2 - 1) + "aa";
        assert_eq!(deep(4096).len(), 4096);
        assert!(BundlePath::parse(&deep(4096)).is_ok());
        assert!(BundlePath::parse(&(deep(4096) + "a")).is_err());
    }

    proptest! {
        #[test]
        fn no_accepted_path_can_leave_its_folder(bytes in proptest::collection::vec(prop_oneof![
            Just(b'/'), Just(b'.'), Just(0u8), Just(b'a'), any::<u8>()], 0..40)) {
            if let Ok(path) = BundlePath::from_bytes(&bytes) {
                prop_assert!(path.as_path().components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert_eq!(path.as_bytes(), bytes.as_slice());
            }
        }
    }
}
