//! Values of two rows, compared byte by byte and as embeddings.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};
use snapshot_core::{Cell, CellDifference, Sha256Digest};

/// Fewest dimensions of what is taken for an embedding.
const MIN_DIMENSIONS: usize = 8;
/// Longest JSON text that is tried as an embedding, in bytes: 32,768 numbers of 32 digits.
const MAX_VECTOR_TEXT: usize = 1 << 20;
/// Magnitudes of an embedding's numbers. Random bytes read as floats of all exponents: that eight of
/// them all lie in here has a chance of one in a million.
const MAGNITUDES: std::ops::RangeInclusive<f32> = 1e-12..=1e4;

/// The columns of one side in the row of a statement: a contiguous run.
#[derive(Clone, Copy)]
pub(super) struct Cells<'r> {
    row: &'r Row<'r>,
    /// Where the run starts.
    start: usize,
}

impl<'r> Cells<'r> {
    pub(super) const fn new(row: &'r Row<'r>, start: usize) -> Self {
        Self { row, start }
    }

    /// The run that starts `cells` further on.
    pub(super) const fn from(self, cells: usize) -> Self {
        Self { row: self.row, start: self.start + cells }
    }

    /// The row that they are of.
    pub(super) const fn row(self) -> &'r Row<'r> {
        self.row
    }

    pub(super) fn get(self, column: usize) -> Result<ValueRef<'r>, rusqlite::Error> {
        self.row.get_ref(self.start + column)
    }
}

/// Whether two values are the same, type and bytes: 1 is not 1.0, and `A` is not `a` whatever the
/// column's collation says.
pub(super) fn same(a: ValueRef<'_>, b: ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

/// A digest over the first `count` cells: equal rows have equal ones.
pub(super) fn digest(cells: Cells<'_>, count: usize) -> Result<[u8; 32], rusqlite::Error> {
    let mut hasher = Sha256::new();
    for column in 0..count {
        let mut put = |tag: u8, bytes: &[u8]| {
            hasher.update([tag]);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        match cells.get(column)? {
            ValueRef::Null => put(0, &[]),
            ValueRef::Integer(n) => put(1, &n.to_le_bytes()),
            ValueRef::Real(x) => put(2, &x.to_bits().to_le_bytes()),
            ValueRef::Text(text) => put(3, text),
            ValueRef::Blob(bytes) => put(4, bytes),
        }
    }
    Ok(hasher.finalize().into())
}

/// A value to be told.
pub(super) fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(n) => Cell::Integer(n),
        ValueRef::Real(x) if x.is_finite() => Cell::Real(x),
        ValueRef::Real(x) => Cell::Text(x.to_string()),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => blob(bytes),
        },
        ValueRef::Blob(bytes) => blob(bytes),
    }
}

/// Both values of a column that differs.
pub(super) fn changed(column: &str, old: ValueRef<'_>, new: ValueRef<'_>) -> CellDifference {
    CellDifference {
        column: column.to_owned(),
        old: Some(cell(old)),
        new: Some(cell(new)),
        cosine: embeddings(old, new).and_then(|(old, new)| cosine(&old, &new)),
    }
}

/// Cosine of the angle between two vectors; none where one has no direction.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    (norms > 0.0).then(|| (dot(a, b) / norms).clamp(-1.0, 1.0))
}

/// Little-endian floats, where these bytes can be an embedding.
pub(super) fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    let vector: Vec<f32> = chunks.iter().map(|&x| f32::from_le_bytes(x)).collect();
    (rest.is_empty() && is_embedding(&vector)).then_some(vector)
}

fn blob(bytes: &[u8]) -> Cell {
    Cell::Blob { blob_bytes: bytes.len() as u64, sha256: Sha256Digest::of(bytes) }
}

/// Both as embeddings of as many dimensions, where they look like that: floats, or a JSON array.
fn embeddings(old: ValueRef<'_>, new: ValueRef<'_>) -> Option<(Vec<f32>, Vec<f32>)> {
    let (old, new) = match (old, new) {
        (ValueRef::Blob(old), ValueRef::Blob(new)) => (floats(old)?, floats(new)?),
        (ValueRef::Text(old), ValueRef::Text(new)) => (numbers(old)?, numbers(new)?),
        _ => return None,
    };
    (old.len() == new.len()).then_some((old, new))
}

fn numbers(text: &[u8]) -> Option<Vec<f32>> {
    if text.first() != Some(&b'[') || text.len() > MAX_VECTOR_TEXT {
        return None;
    }
    serde_json::from_slice(text).ok().filter(|vector: &Vec<f32>| is_embedding(vector))
}

fn is_embedding(vector: &[f32]) -> bool {
    let plausible = |x: &f32| *x == 0.0 || MAGNITUDES.contains(&x.abs());
    vector.len() >= MIN_DIMENSIONS && vector.iter().all(plausible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(vector: &[f32]) -> Vec<u8> {
        vector.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// Would catch: an embedding shown as a blob that nobody can judge, a text or picture shown as one.
    #[test]
    fn embeddings_are_known_by_their_numbers() {
        let (a, b) = (vec![0.1, -0.2, 0.0, 0.4, 0.5, 0.6, 0.7, 0.8], vec![0.1; 8]);
        let text = |v: &[f32]| serde_json::to_vec(v).unwrap();
        let found = changed("e", ValueRef::Blob(&bytes(&a)), ValueRef::Blob(&bytes(&b)));
        let cosine = found.cosine.unwrap();
        assert!((cosine - 0.7342).abs() < 0.0001, "{cosine}");
        let found = changed("e", ValueRef::Text(&text(&a)), ValueRef::Text(&text(&b)));
        assert!((found.cosine.unwrap() - cosine).abs() < 1e-6);
        for (old, new) in [
            (bytes(&a), bytes(&b[..7])),
            (b"JPEG....JPEG....JPEG....JPEG....".to_vec(), bytes(&b)),
            (bytes(&[0.0; 8]), bytes(&b)),
            (bytes(&a)[1..].to_vec(), bytes(&b)[1..].to_vec()),
        ] {
            assert_eq!(changed("e", ValueRef::Blob(&old), ValueRef::Blob(&new)).cosine, None);
        }
        assert_eq!(changed("e", ValueRef::Text(b"[1,2]"), ValueRef::Text(b"[1,3]")).cosine, None);
    }

    /// Would catch: a change of type, case or sign that a comparison by SQL takes for none.
    #[test]
    fn values_are_the_same_by_type_and_bytes() {
        assert!(!same(ValueRef::Integer(1), ValueRef::Real(1.0)));
        assert!(!same(ValueRef::Text(b"A"), ValueRef::Text(b"a")));
        assert!(!same(ValueRef::Text(b"a"), ValueRef::Blob(b"a")));
        assert!(!same(ValueRef::Real(0.0), ValueRef::Real(-0.0)));
        assert!(same(ValueRef::Null, ValueRef::Null));
        assert!(same(ValueRef::Real(0.5), ValueRef::Real(0.5)));
    }
}
