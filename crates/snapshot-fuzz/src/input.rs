//! Choices drawn from the fuzzer's bytes.

/// The bytes that are left. Past their end come zeros, so that every input means something.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// An unsigned number of `N` bytes, at most eight.
    pub(crate) fn number<const N: usize>(&mut self) -> u64 {
        let bytes = self.take(N);
        bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte))
    }

    /// A number below `count`, or 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let number = if count <= 256 { self.number::<1>() } else { self.number::<4>() };
        let count = u64::try_from(count.max(1)).unwrap_or(u64::MAX);
        usize::try_from(number % count).unwrap_or_default()
    }

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// Some bytes, whose number comes first.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    /// Up to `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        self.0 = later;
        now
    }
}

/// Writes `bytes` over those at `at`, as far as there are any.
pub(crate) fn overwrite(over: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(over) = over.get_mut(at..) {
        let count = over.len().min(bytes.len());
        over[..count].copy_from_slice(&bytes[..count]);
    }
}
