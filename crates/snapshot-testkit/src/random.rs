//! A small deterministic generator of numbers and text (SplitMix64). Not for secrets.

/// Deterministic numbers and text.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// How many words the text is made of.
const WORDS: usize = 2048;

const SYLLABLES: [&str; 32] = [
    "an", "ber", "ca", "de", "el", "for", "ga", "hi", "in", "ju", "ka", "li", "mo", "ne", "or",
    "pe", "qui", "ra", "se", "ti", "un", "ve", "wa", "xe", "yo", "zu", "ster", "ting", "ment",
    "ly", "al", "er",
];

/// The words that a generator's text is made of.
#[derive(Debug)]
pub(crate) struct Vocabulary(Vec<String>);

impl Random {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 for 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next_u64() % (n.max(1) as u64)).unwrap_or_default()
    }

    /// A number in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        // 24 bits fill an f32's mantissa exactly.
        let bits = u32::try_from(self.next_u64() >> 40).unwrap_or_default();
        bits as f32 / (1 << 23) as f32 - 1.0
    }

    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(n + 8);
        while bytes.len() < n {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(n);
        bytes
    }

    /// A UUID's text.
    pub(crate) fn uuid(&mut self) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.bytes(16));
        snapshot_core::SnapshotId::from_random_bytes(bytes).to_string()
    }
}

impl Vocabulary {
    pub(crate) fn new(random: &mut Random) -> Self {
        let word = |random: &mut Random| {
            (0..1 + random.below(3)).map(|_| SYLLABLES[random.below(SYLLABLES.len())]).collect()
        };
        Self((0..WORDS).map(|_| word(random)).collect())
    }

    /// About `bytes` bytes of sentences, common words more often than rare ones, as in real text.
    pub(crate) fn text(&self, random: &mut Random, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 32);
        let mut left_in_sentence = 0;
        while text.len() < bytes {
            if left_in_sentence == 0 {
                left_in_sentence = 6 + random.below(10);
            }
            let rank = random.below(WORDS) * random.below(WORDS) / WORDS;
            text.push_str(&self.0[rank]);
            left_in_sentence -= 1;
            text.push_str(if left_in_sentence == 0 { ".\n" } else { " " });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a generator that depends on anything but its seed.
    #[test]
    fn a_seed_says_everything() {
        let make = |seed| {
            let mut random = Random::new(seed);
            let words = Vocabulary::new(&mut random);
            (words.text(&mut random, 300), random.bytes(5), random.uuid())
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn numbers_stay_in_their_range() {
        let mut random = Random::new(3);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert!((0..1000).all(|_| (-1.0..1.0).contains(&random.unit())));
        assert_eq!(random.below(0), 0);
    }
}
