//! The way to the writer, and on which thread it works.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::encryption::Encryption;
use crate::file::OpenError;
use crate::operation::{Refusal, Ticket, Work};
use crate::writer::{Batch, Host, Limits, Shared, Works, Writer};

/// On which thread the writer works.
enum Working<T> {
    Own {
        queue: Sender<Batch<T>>,
        thread: Mutex<Option<JoinHandle<()>>>,
    },
    /// None once it has ended.
    Askers(Mutex<Option<Works<T>>>),
}

/// The way to the writer.
pub struct Store<T> {
    working: Working<T>,
    shared: Arc<Shared>,
}

impl<T: Ticket> Store<T> {
    /// The directory must be there, and nobody else use it. Without an `own_thread`, `submit` returns when the work is
    /// done and answered.
    pub fn open<H: Host<Ticket = T>>(
        directory: &Path,
        limits: Limits,
        encryption: Encryption,
        host: H,
        own_thread: bool,
    ) -> Result<Self, OpenError> {
        let (writer, shared) = Writer::open(directory, limits, encryption, host)?;
        if !own_thread {
            return Ok(Self { working: Working::Askers(Mutex::new(Some(writer.on_demand()))), shared });
        }
        let (queue, work) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new()
            .name("lmdb-writer".to_owned())
            .spawn(move || writer.run(&work))
            .map_err(|error| OpenError::Unreadable(error.to_string()))?;
        Ok(Self { working: Working::Own { queue, thread: Mutex::new(Some(thread)) }, shared })
    }

    pub fn revision(&self) -> u64 {
        self.shared.revision.load(Ordering::Acquire)
    }

    pub fn compacted(&self) -> u64 {
        self.shared.compacted.load(Ordering::Acquire)
    }

    /// Why no more work is taken.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().clone()
    }

    /// Hands work over, all at once; it is done in the order of the calls. What is refused comes back. Where there is
    /// no thread, whom the writer works for must not call this.
    pub fn submit(&self, work: Batch<T>) -> Result<(), (Batch<T>, Refusal)> {
        let stops = matches!(work.last(), Some((_, Work::Stop)));
        if !stops && let Some(failure) = self.failure() {
            return Err((work, Refusal::Failed(failure)));
        }
        match &self.working {
            Working::Own { queue, .. } => queue.send(work).map_err(|unsent| (unsent.0, Refusal::Closed)),
            Working::Askers(works) => {
                let mut works = works.lock();
                let Some(does) = works.as_mut() else { return Err((work, Refusal::Closed)) };
                if !does(work) {
                    *works = None;
                }
                Ok(())
            }
        }
    }

    /// Waits until the thread has ended and the file is closed; `Work::Stop` makes it.
    pub fn join(&self) {
        let Working::Own { thread, .. } = &self.working else { return };
        let thread = thread.lock().take();
        if let Some(thread) = thread {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}
