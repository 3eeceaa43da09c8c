//! Which pieces there are: one bit each, in the order of BEP 3's `bitfield` message.

use std::fmt;

use crate::PieceIndex;

/// One bit for each piece, high bit of the first byte first (BEP 3). Bits past the end are always zero.
///
/// Kept as 64-bit words, most significant bit first, so that whole words can be compared and counted.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    words: Vec<u64>,
    len: u32,
    ones: u32,
}

/// Why bytes are not the bitfield of this torrent (BEP 3: the connection is dropped).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitfieldError {
    /// Not ⌈pieces / 8⌉ bytes.
    Length,
    /// A bit past the last piece is set.
    SpareBits,
}

impl fmt::Display for BitfieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "bitfield of the wrong length",
            Self::SpareBits => "bitfield with spare bits set",
        })
    }
}

impl std::error::Error for BitfieldError {}

const TOP: u64 = 1 << 63;

impl Bitfield {
    /// `len` pieces, none of them set.
    #[must_use]
    pub fn new(len: u32) -> Self {
        Self {
            words: vec![0; len.div_ceil(64) as usize],
            len,
            ones: 0,
        }
    }

    /// `len` pieces, all of them set.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut all = Self::new(len);
        all.set_all();
        all
    }

    /// From the payload of a `bitfield` message.
    ///
    /// # Errors
    /// Where the length is wrong or a spare bit is set.
    pub fn from_bytes(bytes: &[u8], len: u32) -> Result<Self, BitfieldError> {
        if bytes.len() != len.div_ceil(8) as usize {
            return Err(BitfieldError::Length);
        }
        let mut out = Self::new(len);
        for (word, part) in out.words.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            for (to, from) in eight.iter_mut().zip(part) {
                *to = *from;
            }
            *word = u64::from_be_bytes(eight);
        }
        if out
            .words
            .last()
            .is_some_and(|last| last & !out.last_mask() != 0)
        {
            return Err(BitfieldError::SpareBits);
        }
        out.ones = out.words.iter().map(|word| word.count_ones()).sum();
        Ok(out)
    }

    /// The payload of a `bitfield` message, appended to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len.div_ceil(8) as usize;
        for word in &self.words {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.truncate(end);
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.words.len() * 8);
        self.write_to(&mut out);
        out
    }

    /// How many pieces there are, set or not.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// How many are set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// False for a piece past the end.
    #[must_use]
    pub fn get(&self, piece: PieceIndex) -> bool {
        let (word, bit) = place(piece);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Sets the bit; true if it was not set before. A piece past the end changes nothing.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        let (word, bit) = place(piece);
        if piece.get() >= self.len || self.words[word] & bit != 0 {
            return false;
        }
        self.words[word] |= bit;
        self.ones += 1;
        true
    }

    /// Clears the bit; true if it was set before.
    pub fn clear(&mut self, piece: PieceIndex) -> bool {
        let (word, bit) = place(piece);
        if piece.get() >= self.len || self.words[word] & bit == 0 {
            return false;
        }
        self.words[word] &= !bit;
        self.ones -= 1;
        true
    }

    pub fn set_all(&mut self) {
        let mask = self.last_mask();
        self.words.fill(u64::MAX);
        if let Some(last) = self.words.last_mut() {
            *last = mask;
        }
        self.ones = self.len;
    }

    pub fn clear_all(&mut self) {
        self.words.fill(0);
        self.ones = 0;
    }

    /// The set bits in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(i, word)| bits(i, *word))
    }

    /// The pieces that are set here and not in `other`, in order. Both are of one torrent.
    pub fn iter_and_not<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = PieceIndex> + 'a {
        debug_assert_eq!(self.len, other.len);
        let pairs = self.words.iter().zip(&other.words).enumerate();
        pairs.flat_map(|(i, (a, b))| bits(i, a & !b))
    }

    /// Whether anything is set here that is not set in `other`.
    #[must_use]
    pub fn any_and_not(&self, other: &Self) -> bool {
        self.words
            .iter()
            .zip(&other.words)
            .any(|(a, b)| a & !b != 0)
    }

    /// How many are set in both.
    #[must_use]
    pub fn count_and(&self, other: &Self) -> u32 {
        let pairs = self.words.iter().zip(&other.words);
        pairs.map(|(a, b)| (a & b).count_ones()).sum()
    }

    fn last_mask(&self) -> u64 {
        match self.len % 64 {
            0 => u64::MAX,
            used => !(u64::MAX >> used),
        }
    }
}

fn place(piece: PieceIndex) -> (usize, u64) {
    (piece.as_usize() / 64, TOP >> (piece.get() % 64))
}

fn bits(word_index: usize, mut word: u64) -> impl Iterator<Item = PieceIndex> {
    let base = word_index as u32 * 64;
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let zeros = word.leading_zeros();
        word &= !(TOP >> zeros);
        Some(PieceIndex::new(base + zeros))
    })
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.ones, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(index: u32) -> PieceIndex {
        PieceIndex::new(index)
    }

    #[test]
    fn first_piece_is_the_high_bit() {
        let mut field = Bitfield::new(10);
        assert!(field.set(p(0)) && field.set(p(9)) && !field.set(p(9)));
        assert!(!field.set(p(10)));
        assert_eq!(field.to_bytes(), [0x80, 0x40]);
        assert_eq!(Bitfield::from_bytes(&[0x80, 0x40], 10), Ok(field));
    }

    #[test]
    fn spare_bits_and_lengths_are_refused() {
        assert_eq!(
            Bitfield::from_bytes(&[0, 0x20], 10),
            Err(BitfieldError::SpareBits)
        );
        assert_eq!(Bitfield::from_bytes(&[0], 10), Err(BitfieldError::Length));
        assert_eq!(
            Bitfield::from_bytes(&[0; 3], 10),
            Err(BitfieldError::Length)
        );
        assert!(Bitfield::from_bytes(&[0xff, 0xc0], 10).unwrap().is_full());
        assert!(Bitfield::from_bytes(&[], 0).unwrap().is_full());
    }

    #[test]
    fn agrees_with_a_plain_set() {
        let mut rng = crate::Rng::new(3);
        for len in [1, 7, 8, 63, 64, 65, 200] {
            let mut field = Bitfield::new(len);
            let mut model = std::collections::BTreeSet::new();
            for _ in 0..500 {
                let piece = p(rng.below(u64::from(len)) as u32);
                if rng.one_in(3) {
                    assert_eq!(field.clear(piece), model.remove(&piece));
                } else {
                    assert_eq!(field.set(piece), model.insert(piece));
                }
                assert_eq!(field.count() as usize, model.len());
            }
            assert!(field.iter().eq(model.iter().copied()));
            assert_eq!(
                Bitfield::from_bytes(&field.to_bytes(), len).as_ref(),
                Ok(&field)
            );
            let all = Bitfield::full(len);
            assert_eq!(all.iter_and_not(&field).count() as u32, len - field.count());
            assert_eq!(all.count_and(&field), field.count());
            assert_eq!(all.any_and_not(&field), !field.is_full());
        }
    }
}
