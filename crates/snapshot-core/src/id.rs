//! Parsed names: an id can never be a path, a NATS wildcard or a second subject token.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::error::{ParseError, excerpt};
use crate::path::BundlePath;

/// The four stores of the classic layout, `<sqlite dir>/<name>.sqlite`.
pub const CLASSIC_STORES: [&str; 4] = ["long_term", "vector", "concepts", "compactions"];

/// Longest agent, tenant or store name, in bytes.
const MAX_NAME: usize = 64;

/// Prefix of a store that was found in the memdir rather than named.
const AUTO: &str = "auto:";

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// From a literal in source code.
            ///
            /// # Panics
            /// If the literal is not valid, as `http::HeaderValue::from_static` does.
            #[must_use]
            pub fn from_static(text: &'static str) -> Self {
                match text.parse() {
                    Ok(value) => value,
                    Err(e) => panic!("{e}"),
                }
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                $check(text).map_err(|why| ParseError::Id { what: $what, value: excerpt(text), why })?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_newtype! {
    /// An agent: `[a-z0-9_-]{1,64}`, no `_` or `-` at either end.
    AgentId, "agent id", check_name
}
text_newtype! {
    /// A tenant: the grammar of [`AgentId`].
    Tenant, "tenant", check_name
}
text_newtype! {
    /// A SQLite store: the grammar of [`AgentId`], or `auto:<path in the memdir>` for one that was
    /// found there by its header.
    StoreName, "store name", check_store
}
text_newtype! {
    /// What asked for a snapshot: `cli`, `tool`, `scheduled`, `auto-pre-restore`, ...; the grammar
    /// of [`AgentId`].
    CreatedBy, "origin", check_name
}

text_newtype! {
    /// A git object id: 40 lower-case hexadecimal digits (SHA-1 repositories only).
    GitOid, "git object id", check_oid
}

/// A snapshot's id: a random UUID v4, hyphenated lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SnapshotId(Uuid);

impl Default for Tenant {
    /// `default`, the tenant of those who name none.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl StoreName {
    /// The store that a SQLite file found at `path` in the memdir becomes.
    ///
    /// # Errors
    /// If the path may not stand in a bundle or is not UTF-8.
    pub fn auto(path: &str) -> Result<Self, ParseError> {
        format!("{AUTO}{path}").parse()
    }

    /// For a store found in the memdir, its path there.
    #[must_use]
    pub fn auto_path(&self) -> Option<&str> {
        self.0.strip_prefix(AUTO)
    }

    /// Where this store lies in a bundle: `sqlite/<name>.sqlite`, or `sqlite/auto/<path>.sqlite`.
    ///
    /// # Panics
    /// Never: the grammar of store names admits bundle paths only.
    #[must_use]
    pub fn bundle_path(&self) -> BundlePath {
        let path = match self.auto_path() {
            Some(path) => auto_bundle_path(path),
            None => BundlePath::parse(&format!("sqlite/{}.sqlite", self.0)),
        };
        match path {
            Ok(path) => path,
            Err(e) => panic!("store name {self} admitted a bad path: {e}"),
        }
    }
}

impl SnapshotId {
    /// From 16 random bytes; version and variant bits are set here.
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The nil id, which stands for `live` in a diff.
    #[must_use]
    pub const fn nil() -> Self {
        Self(Uuid::nil())
    }

    /// Its 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The first eight hexadecimal digits, as shown to people.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }

    pub(crate) fn new_random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for SnapshotId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = |why| ParseError::Id { what: "snapshot id", value: excerpt(text), why };
        let id = Uuid::try_parse(text).map_err(|_| bad("not a UUID"))?;
        // One spelling only, so that an id is always the file name that it came from.
        if id.hyphenated().to_string() != text {
            return Err(bad("not a hyphenated lower-case UUID"));
        }
        Ok(Self(id))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

fn check_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err("it must have 1 to 64 characters");
    }
    if !text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')) {
        return Err("only a-z, 0-9, _ and - are allowed");
    }
    if text.starts_with(['_', '-']) || text.ends_with(['_', '-']) {
        return Err("it may not start or end with _ or -");
    }
    Ok(())
}

fn check_oid(text: &str) -> Result<(), &'static str> {
    if text.len() != 40 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("not 40 lower-case hexadecimal digits");
    }
    Ok(())
}

fn check_store(text: &str) -> Result<(), &'static str> {
    let Some(path) = text.strip_prefix(AUTO) else {
        return check_name(text);
    };
    // Of the same rules, but for what stands around it: no name of a file may become too long by that.
    BundlePath::parse(path)
        .and_then(|_| auto_bundle_path(path))
        .map(|_| ())
        .map_err(|_| "its path may not stand in a bundle")
}

/// Where the store that was found at `path` in the memdir lies in a bundle.
fn auto_bundle_path(path: &str) -> Result<BundlePath, ParseError> {
    BundlePath::parse(&format!("sqlite/auto/{path}.sqlite"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_could_be_paths_subjects_or_wildcards_are_refused() {
        for bad in [
            "",
            "_all",
            "-a",
            "a-",
            "a.b",
            "a/b",
            "..",
            "*",
            ">",
            "Ana",
            "ä",
            "a\n",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<AgentId>().is_err(), "{bad:?}");
        }
        for good in ["a", "ana", "a_b-c9", &"a".repeat(64)] {
            assert!(good.parse::<AgentId>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_snapshot_id_has_one_spelling() {
        let id = SnapshotId::from_random_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse::<SnapshotId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<SnapshotId>().is_err());
        assert!(id.to_string().replace('-', "").parse::<SnapshotId>().is_err());
    }

    #[test]
    fn auto_stores_carry_safe_paths_only() {
        assert!(StoreName::auto("cache/x.db").is_ok());
        assert!(StoreName::auto("../x.db").is_err());
        assert_eq!(
            StoreName::auto("c/x.db").unwrap().bundle_path().to_string(),
            "sqlite/auto/c/x.db.sqlite"
        );
    }

    /// Would catch: a name that is good by itself and too long with `.sqlite` behind it, on which whoever asks
    /// for its place in a bundle panics: the capture, and every reader of a manifest.
    #[test]
    fn a_store_found_in_the_memdir_always_has_a_place_in_a_bundle() {
        let longest = format!("d/{}", "x".repeat(255 - ".sqlite".len()));
        assert!(StoreName::auto(&longest).unwrap().bundle_path().as_bytes().ends_with(b"x.sqlite"));
        assert!(StoreName::auto(&(longest + "x")).is_err());
        let deep = |n: usize| "a/".repeat(n / 2 - 1) + "aa";
        let longest = crate::path::MAX_PATH_BYTES - "sqlite/auto/.sqlite".len() - 1;
        let name = StoreName::auto(&deep(longest)).unwrap();
        assert_eq!(name.bundle_path().as_bytes().len(), crate::path::MAX_PATH_BYTES - 1);
        assert!(StoreName::auto(&deep(longest + 2)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_either_parses_to_itself_or_fails(text in ".{0,80}") {
            if let Ok(id) = text.parse::<AgentId>() {
                prop_assert_eq!(id.as_str(), text.as_str());
                prop_assert!(!text.contains(['/', '.', '*', '>', ' ']));
            }
        }
    }
}
