//! A secret as text: wiped from memory when dropped, and never printed.

use std::fmt;

use zeroize::Zeroizing;

/// A secret: a passphrase, or an identity as age writes it. Its memory is wiped when it is dropped;
/// `Debug` shows nothing of it, and it is no part of any document.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes it over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for those that need it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a derived `Debug`, which ends up in logs of whoever prints a request.
    #[test]
    fn nothing_of_a_secret_is_printed() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("hunter").count(), 0);
        assert_eq!(secret.expose(), "hunter2");
    }
}
