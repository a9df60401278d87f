//! mimalloc as what the Rust of this extension allocates with: a third of what merging and decoding cost was the C
//! library's allocator.
//!
//! Its own crate asks for an alignment each time, which takes some thirty instructions more a piece, and twice as many
//! beyond 1 KB. Nearly all that is asked for is aligned as mimalloc aligns everything of that size.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::null_mut;

use kubecore_front::connection::HEAD_BYTES;
use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// What mimalloc aligns pieces of so many bytes and more to (`MI_MAX_ALIGN_SIZE`); smaller ones it aligns to their size,
/// rounded down to a power of two.
const ALIGNED: usize = 16;

pub struct Allocator;

thread_local! {
    /// Pieces of memory of the size that hyper takes two of for each head of a request: mimalloc looks for one of more than
    /// 1 KB each time, and a thread whose only one it was would give back a page and map one for the next.
    static FOR_HEADS: Cell<[*mut u8; 2]> = const { Cell::new([null_mut(); 2]) };
}

/// One that was kept, or null.
fn kept() -> *mut u8 {
    let [first, second] = FOR_HEADS.get();
    FOR_HEADS.set([second, null_mut()]);
    first
}

/// Whether there was room for it.
fn keep(piece: *mut u8) -> bool {
    let [first, second] = FOR_HEADS.get();
    let has_room = second.is_null();
    if has_room {
        FOR_HEADS.set([piece, first]);
    }
    has_room
}

fn is_aligned_anyway(size: usize, alignment: usize) -> bool {
    alignment <= ALIGNED && alignment <= size
}

// SAFETY: pieces have the size and the alignment that were asked for, null says that there is none, and nothing of mimalloc
// unwinds. A piece that one of its functions gave may be given to any other.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        if size == HEAD_BYTES && alignment <= ALIGNED {
            let piece = kept();
            if !piece.is_null() {
                return piece;
            }
        }
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
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // Whatever its alignment: mimalloc aligns what is so large to more than `ALIGNED`.
        if layout.size() == HEAD_BYTES && keep(piece) {
            return;
        }
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
