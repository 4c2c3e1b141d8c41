//! The public API of the library crates as checked-in text, so that a change of it is seen and meant.
//!
//! It is made of rustdoc's JSON, which the stable rustdoc writes under `RUSTC_BOOTSTRAP=1`. That must not
//! be set for cargo: build scripts ask for it, and everything would be built anew. So cargo runs this
//! program as its rustdoc ([`rustdoc`]), which sets it for the real one alone.
//!
//! Invariant: nothing is listed that another format of the JSON may have made; that is said instead.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::fixtures::{put, remove};
use crate::tools::{self, Outcome, cargo, output, root, target};

/// Set where this program runs as rustdoc.
pub(crate) const AS_RUSTDOC: &str = "XTASK_AS_RUSTDOC";

/// The format that `public-api` reads, of Rust 1.95.
const FORMAT: u32 = 57;

/// Where the listings lie.
const DIR: &str = "docs/api";

/// Libraries for our own tests, which promise nothing to anyone.
const UNLISTED: [&str; 3] = ["snapshot-fuzz", "snapshot-soak", "snapshot-testkit"];

/// File name and content of every listing.
type Listings = BTreeMap<String, String>;

/// The part of rustdoc's JSON that is the same in every format.
#[derive(Deserialize)]
struct Versioned {
    format_version: u32,
}

/// Writes every listing, and removes those of crates that are gone.
pub(crate) fn write() -> Outcome {
    let Some(listings) = listings()? else { return Err(not_this_toolchain()) };
    for name in present()?.iter().filter(|name| !listings.contains_key(*name)) {
        remove(&root().join(DIR).join(name))?;
    }
    for (name, text) in &listings {
        put(&root().join(DIR).join(name), text.as_bytes())?;
    }
    println!("{} listings written to {DIR}", listings.len());
    Ok(())
}

/// Shows what [`write()`] would change, and fails if anything.
pub(crate) fn check() -> Outcome {
    let Some(listings) = listings()? else {
        println!("NOT RUN: {}", not_this_toolchain());
        return Ok(());
    };
    let fresh = target().join("api");
    let written = fresh.read_dir().into_iter().flatten().flatten();
    written.map(|entry| entry.path()).try_for_each(|path| remove(&path))?;
    for (name, text) in &listings {
        put(&fresh.join(name), text.as_bytes())?;
    }
    let mut diff = Command::new("git");
    diff.args(["--no-pager", "diff", "--no-index", "--unified=0", "--", DIR]).arg(&fresh);
    tools::run(diff.current_dir(root())).map_err(|_| {
        "the public API is not the one that is checked in (above); if the change is meant, run \
         `cargo xtask api`, and say it in CHANGELOG.md"
            .to_owned()
    })
}

/// Runs the real rustdoc with `args`, unstable options allowed.
pub(crate) fn rustdoc(real: &OsStr, args: &[OsString]) -> Outcome {
    tools::run(Command::new(real).args(args).env("RUSTC_BOOTSTRAP", "1"))
}

/// The listings of this source; none where this rustdoc writes another format.
fn listings() -> Result<Option<Listings>, String> {
    let libraries = libraries()?;
    document()?;
    let mut listings = Listings::new();
    for library in libraries {
        let json = target().join("doc").join(format!("{}.json", library.replace('-', "_")));
        if format_of(&json)? != FORMAT {
            return Ok(None);
        }
        let api = public_api::Builder::from_rustdoc_json(&json)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .build()
            .map_err(|e| format!("cannot read {}: {e}", json.display()))?;
        let items = api.items().map(|item| (item.id(), item.parent_id(), item.to_string()));
        listings.insert(format!("{library}.txt"), listing(&items.collect::<Vec<_>>()));
    }
    Ok(Some(listings))
}

/// Our libraries, of whatever name.
fn libraries() -> Result<Vec<String>, String> {
    let json = output(&mut cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&json).map_err(|e| format!("cargo metadata is no JSON: {e}"))?;
    let is_library = |package: &&Value| {
        let targets = package["targets"].as_array().into_iter().flatten();
        targets.flat_map(|target| target["kind"].as_array()).flatten().any(|kind| kind == "lib")
    };
    let packages = metadata["packages"].as_array().into_iter().flatten().filter(is_library);
    let names = packages.filter_map(|package| package["name"].as_str());
    Ok(names.filter(|name| !UNLISTED.contains(name)).map(str::to_owned).collect())
}

/// Has cargo document everything as the gate's step `doc` does, so that what that has checked is not
/// checked again; with the command line in it, every feature of the libraries is on.
fn document() -> Outcome {
    let me = env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let real = env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into());
    let flags = "-Z unstable-options --output-format json --cap-lints allow";
    let mut doc = cargo(&["doc", "--workspace", "--locked", "--no-deps", "--quiet"]);
    tools::run(doc.env("RUSTDOC", me).env(AS_RUSTDOC, real).env("RUSTDOCFLAGS", flags))
}

fn format_of(json: &Path) -> Result<u32, String> {
    let fail = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", json.display());
    let bytes = fs::read(json).map_err(|e| fail(&e))?;
    let versioned: Versioned = serde_json::from_slice(&bytes).map_err(|e| fail(&e))?;
    Ok(versioned.format_version)
}

fn not_this_toolchain() -> String {
    format!("the listings are made by Rust 1.95, whose rustdoc writes JSON of format {FORMAT}")
}

fn present() -> Result<BTreeSet<String>, String> {
    let dir: PathBuf = root().join(DIR);
    if !dir.exists() {
        return Ok(BTreeSet::new());
    }
    let entries = dir.read_dir().map_err(|e| format!("cannot read {DIR}: {e}"))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The items (id, parent, text), one a line; but of an implemented trait no methods, for the trait says
/// which there are.
fn listing<I: Copy + Eq + Hash>(items: &[(I, Option<I>, String)]) -> String {
    let implements = |text: &str| text.starts_with("impl") && text.contains(" for ");
    let of_traits: HashSet<I> =
        items.iter().filter(|(.., text)| implements(text)).map(|(id, ..)| *id).collect();
    let implied = |(_, parent, text): &&(I, Option<I>, String)| {
        let of_trait = parent.is_some_and(|parent| of_traits.contains(&parent));
        of_trait && text.starts_with("pub fn")
            || text.starts_with("impl core::marker::StructuralPartialEq for ")
    };
    items.iter().filter(|item| !implied(item)).map(|(.., text)| format!("{text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a method of a type, or a function after it, that is taken for one of a trait and left
    /// out.
    #[test]
    fn only_the_methods_of_implemented_traits_are_left_out() {
        let items = [
            (1, None, "pub struct a::B"),
            (2, None, "impl a::B"),
            (3, Some(2), "pub fn a::B::each(impl for<'a> core::ops::Fn(&'a str)) -> Self"),
            (4, None, "impl core::str::traits::FromStr for a::B"),
            (5, Some(4), "pub type a::B::Err = a::E"),
            (6, Some(4), "pub fn a::B::from_str(&str) -> Self"),
            (7, None, "impl core::marker::StructuralPartialEq for a::B"),
            (8, None, "pub fn a::free()"),
            (9, None, "pub trait a::T"),
            (10, Some(9), "pub fn a::T::f(&self)"),
        ];
        let text = listing(&items.map(|(id, parent, text)| (id, parent, text.to_owned())));
        let wanted = items.iter().filter(|(id, ..)| ![6, 7].contains(id)).map(|(.., text)| *text);
        assert_eq!(text.lines().collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }
}
