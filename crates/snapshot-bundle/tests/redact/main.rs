//! Redaction of text, as the stores use it.

#[cfg(test)]
mod encodings;
#[cfg(test)]
mod labelled;
#[cfg(test)]
mod recall;
#[cfg(test)]
mod replacing;
#[cfg(test)]
mod support;
