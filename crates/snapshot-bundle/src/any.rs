//! A bundle of whichever version.

use std::fs::File;
use std::path::Path;

use crate::error::BundleError;
use crate::keys::Identities;
use crate::read::Bundle;
use crate::source::Source;
use crate::v1::{BundleV1, is_v1};

/// An open bundle, of the version that it is.
#[derive(Debug)]
pub enum AnyBundle {
    /// Of this format.
    V2(Bundle),
    /// Of 0.1.x.
    V1(Box<BundleV1>),
}

impl AnyBundle {
    /// Opens a bundle, encrypted or not.
    ///
    /// # Errors
    /// As [`Bundle::open_with`].
    pub fn open_with(
        file: File,
        path: &Path,
        identities: &Identities,
    ) -> Result<Self, BundleError> {
        let source = Source::open(file, path, identities)?;
        match is_v1(&source) {
            true => BundleV1::from_source(source).map(Box::new).map(Self::V1),
            false => Bundle::from_source(source).map(Self::V2),
        }
    }
}
