//! An eventfd that wakes Python's event loop.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Readable from `ring` until `clear`, however often it is rung.
pub struct Bell {
    eventfd: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    pub fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; the descriptor is ours alone.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Self { eventfd: unsafe { OwnedFd::from_raw_fd(raw) }, rung: AtomicBool::new(false) })
    }

    pub fn fileno(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            let one = 1u64;
            // SAFETY: eight bytes of a living integer. It cannot fail: the counter never comes near its end.
            unsafe { libc::write(self.fileno(), (&raw const one).cast(), 8) };
        }
    }

    /// Before looking at what it was rung for: who comes after that rings anew.
    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes to write to; the descriptor does not block.
        unsafe { libc::read(self.fileno(), (&raw mut count).cast(), 8) };
        self.rung.store(false, Ordering::SeqCst);
    }
}
