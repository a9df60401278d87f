//! Append-only memory for watch frames: frames that follow each other in it leave as one piece, without a copy.

use std::cell::UnsafeCell;
use std::sync::Arc;

use bytes::Bytes;

const FIRST: usize = 4 << 10;
const LARGEST: usize = 256 << 10;

struct Block {
    memory: Box<[UnsafeCell<u8>]>,
}

// SAFETY: bytes are written once, by the one `Arena` that owns the block's free end (`&mut self`), before any `Piece`
// over them exists; pieces only read, and only what was written before they were made.
unsafe impl Send for Block {}
unsafe impl Sync for Block {}

/// A run of bytes in a block, readable by everybody for as long as anybody holds it.
#[derive(Clone)]
pub struct Piece {
    block: Arc<Block>,
    start: usize,
    end: usize,
}

impl Piece {
    /// True when `next` begins where this ends: then this grows to hold both.
    pub fn extend(&mut self, next: &Piece) -> bool {
        let adjacent = self.end == next.start && Arc::ptr_eq(&self.block, &next.block);
        if adjacent {
            self.end = next.end;
        }
        adjacent
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        let cells = &self.block.memory[self.start..self.end];
        // SAFETY: initialised memory that nobody writes to any more, see `Block`; UnsafeCell<u8> is laid out as u8.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast::<u8>(), cells.len()) }
    }
}

/// The writing end. Blocks start small, so that a resource that hardly changes costs little.
pub struct Arena {
    block: Arc<Block>,
    used: usize,
}

impl Arena {
    pub fn new() -> Self {
        Self { block: Self::block(0), used: 0 }
    }

    pub fn append(&mut self, parts: &[&[u8]]) -> Piece {
        let length = parts.iter().map(|part| part.len()).sum();
        if self.block.memory.len() - self.used < length {
            let size = (self.block.memory.len() * 2).clamp(FIRST, LARGEST).max(length);
            (self.block, self.used) = (Self::block(size), 0);
        }
        let start = self.used;
        for part in parts {
            let cells = &self.block.memory[self.used..self.used + part.len()];
            // SAFETY: the range lies behind `used`: no piece covers it and only this `&mut self` writes there.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), UnsafeCell::raw_get(cells.as_ptr()), part.len())
            };
            self.used += part.len();
        }
        Piece { block: Arc::clone(&self.block), start, end: self.used }
    }

    fn block(size: usize) -> Arc<Block> {
        let memory = std::iter::repeat_with(|| UnsafeCell::new(0)).take(size).collect();
        Arc::new(Block { memory })
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_follow_each_other_join_without_a_copy() {
        let mut arena = Arena::new();
        let mut first = arena.append(&[b"ab", b"c"]);
        let second = arena.append(&[b"de"]);
        let third = arena.append(&[b"f"]);
        assert!(!first.clone().extend(&third));
        assert!(first.extend(&second) && first.extend(&third));
        assert_eq!(first.into_bytes(), Bytes::from_static(b"abcdef"));
    }

    #[test]
    fn a_piece_outlives_the_block_being_left() {
        let mut arena = Arena::new();
        let mut early = arena.append(&[&[1; 100]]);
        let late = arena.append(&[&[2; LARGEST * 2]]);
        assert!(!early.extend(&late));
        drop(arena);
        assert_eq!(early.as_ref(), [1; 100]);
        assert_eq!(late.len(), LARGEST * 2);
    }
}
