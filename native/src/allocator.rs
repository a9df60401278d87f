//! mimalloc as what the Rust of this extension allocates with: a third of what merging and decoding cost was the C
//! library's allocator.
//!
//! Its own crate asks for an alignment each time, which takes some thirty instructions more a piece, and twice as many
//! beyond 1 KB. Nearly all that is asked for is aligned as mimalloc aligns everything of that size.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// What mimalloc aligns pieces of so many bytes and more to (`MI_MAX_ALIGN_SIZE`); smaller ones it aligns to their size,
/// rounded down to a power of two.
const ALIGNED: usize = 16;

pub struct Allocator;

fn is_aligned_anyway(size: usize, alignment: usize) -> bool {
    alignment <= ALIGNED && alignment <= size
}

// SAFETY: pieces have the size and the alignment that were asked for, null says that there is none, and nothing of mimalloc
// unwinds. A piece that one of its functions gave may be given to any other.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two will do.
        unsafe {
            if is_aligned_anyway(size, alignment) {
                mi_malloc(size)
            } else {
                mi_malloc_aligned(size, alignment)
            }
            .cast()
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe {
            if is_aligned_anyway(size, alignment) {
                mi_zalloc(size)
            } else {
                mi_zalloc_aligned(size, alignment)
            }
            .cast()
        }
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, _: Layout) {
        // SAFETY: it came from one of these functions, and nobody uses it any more.
        unsafe { mi_free(piece.cast()) };
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let alignment = layout.align();
        // SAFETY: it came from one of these functions, and only what is returned is used from now on.
        unsafe {
            if is_aligned_anyway(size, alignment) {
                mi_realloc(piece.cast(), size)
            } else {
                mi_realloc_aligned(piece.cast(), size, alignment)
            }
            .cast()
        }
    }
}
