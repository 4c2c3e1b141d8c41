//! Runs of bytes of one class, found without looking at every byte.

use std::ops::Range;

/// What tokens are made of.
pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'=')
}

/// The letters of base64, both alphabets.
pub(super) const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// Runs of at least `least` bytes that `class` holds for, front to back.
pub(super) struct Runs<'b, F> {
    bytes: &'b [u8],
    class: F,
    least: usize,
    from: usize,
}

impl<'b, F: Fn(u8) -> bool> Runs<'b, F> {
    /// Of `bytes`; `least` is at least 1.
    pub(super) fn new(bytes: &'b [u8], least: usize, class: F) -> Self {
        Self { bytes, class, least, from: 0 }
    }
}

impl<F: Fn(u8) -> bool> Iterator for Runs<'_, F> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let Self { bytes, class, least, from } = self;
        // A run of `least` bytes holds every probe of that distance.
        let mut probe = *from + *least - 1;
        while probe < bytes.len() {
            let after = |&at: &usize| !class(bytes[at]);
            // Behind what was seen last, nothing can start before `from`.
            let start = (*from..=probe).rev().find(after).map_or(*from, |at| at + 1);
            if start > probe {
                *from = probe + 1;
                probe += *least;
                continue;
            }
            let end = (probe + 1..bytes.len()).find(after).unwrap_or(bytes.len());
            *from = end;
            if end - start >= *least {
                return Some(start..end);
            }
            probe = end + *least;
        }
        *from = bytes.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Would catch: a run that lies between two probes, or is cut by one.
        #[test]
        fn no_run_is_missed(text in "[a-c ]{0,200}", least in 1usize..9) {
            let slow = || {
                let mut start = 0;
                let mut runs = Vec::new();
                for part in text.split(' ') {
                    if part.len() >= least {
                        runs.push(start..start + part.len());
                    }
                    start += part.len() + 1;
                }
                runs
            };
            let runs: Vec<_> = Runs::new(text.as_bytes(), least, |c| c != b' ').collect();
            prop_assert_eq!(runs, slow());
        }
    }
}
