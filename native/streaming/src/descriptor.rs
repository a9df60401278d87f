//! Pipes and terminals by their descriptors, awaited through the runtime.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use bytes::{BufMut, BytesMut};
use tokio::io::unix::AsyncFd;

/// A pipe's or terminal's end. A terminal whose other side was closed reads as ended.
pub struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Must be called within a runtime.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        set_nonblocking(descriptor.as_raw_fd())?;
        // SAFETY: an OwnedFd keeps its descriptor open and its own for as long as it lives.
        let registered = unsafe { AsyncFd::register(descriptor) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Appends what is there to `buffer`, up to its spare capacity; 0 at the end.
    pub async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(count) = ready.try_io(|inner| read(inner.as_raw_fd(), buffer)) {
                return count;
            }
        }
    }

    /// The same without waiting: `WouldBlock` when nothing is there now.
    pub fn read_now(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        read(self.0.as_raw_fd(), buffer)
    }

    pub async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(count) = ready.try_io(|inner| write(inner.as_raw_fd(), data)) {
                data = data.get(count?..).unwrap_or_default();
            }
        }
        Ok(())
    }
}

fn set_nonblocking(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: plain calls on a descriptor that the caller owns.
    unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        if flags < 0 || libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn read(descriptor: RawFd, buffer: &mut BytesMut) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    // SAFETY: the kernel writes at most as many bytes as the spare capacity has.
    let count = unsafe { libc::read(descriptor, spare.as_mut_ptr().cast(), spare.len()) };
    let Ok(count) = usize::try_from(count) else {
        let error = io::Error::last_os_error();
        // A terminal that nobody has open any more.
        return if error.raw_os_error() == Some(libc::EIO) { Ok(0) } else { Err(error) };
    };
    // SAFETY: the kernel has written so many bytes.
    unsafe { buffer.advance_mut(count) };
    Ok(count)
}

fn write(descriptor: RawFd, data: &[u8]) -> io::Result<usize> {
    // SAFETY: reads at most the slice's length from it.
    let count = unsafe { libc::write(descriptor, data.as_ptr().cast(), data.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
