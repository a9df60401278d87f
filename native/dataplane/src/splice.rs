//! Pipes that splice(2) moves bytes through without copying them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;
use rustix::io::Errno;

/// Asked of the kernel for each pipe; an unprivileged user who holds many gets less, which only costs calls.
const PIPE_BYTES: libc::c_int = 512 * 1024;
/// Empty pipes kept for reuse.
const SPARE_PIPES: usize = 64;

static SPARE: Mutex<Vec<Ends>> = Mutex::new(Vec::new());

struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// A pipe and how much is in it.
pub(crate) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Self> {
        let spare = SPARE.lock().pop();
        let ends = match spare {
            Some(ends) => ends,
            None => open()?,
        };
        Ok(Self { ends: Some(ends), held: 0 })
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Move what `socket` has received into the (empty) pipe. 0: the peer has finished. EAGAIN: nothing there.
    pub(crate) fn fill(&mut self, socket: RawFd) -> Result<usize, Errno> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let moved = splice(socket, ends.writer.as_raw_fd(), PIPE_BYTES as usize)?;
        self.held += moved;
        Ok(moved)
    }

    /// Move what the pipe holds into `socket`, as much as it takes.
    pub(crate) fn drain(&mut self, socket: RawFd) -> Result<usize, Errno> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let moved = splice(ends.reader.as_raw_fd(), socket, self.held)?;
        self.held -= moved.min(self.held);
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        // A pipe with bytes left in it would hand them to a stranger.
        if self.held == 0 {
            let mut spare = SPARE.lock();
            if spare.len() < SPARE_PIPES {
                spare.push(ends);
            }
        }
    }
}

fn open() -> io::Result<Ends> {
    let mut descriptors = [0; 2];
    // SAFETY: the array has room for the two descriptors pipe2 writes.
    if unsafe { libc::pipe2(descriptors.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: pipe2 has just opened both and nobody else owns them.
    let (reader, writer) =
        unsafe { (OwnedFd::from_raw_fd(descriptors[0]), OwnedFd::from_raw_fd(descriptors[1])) };
    // SAFETY: plain integer arguments on a descriptor we own; a refusal leaves the default size.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
    Ok(Ends { reader, writer })
}

fn splice(from: RawFd, to: RawFd, length: usize) -> Result<usize, Errno> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: no offsets are passed; descriptors are open for the duration of the call.
    let moved = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), length, flags) };
    usize::try_from(moved).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
