//! Where events go: a log (`log_file`), a thread before it, or a queue that Python empties.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;

use super::events::Events;

/// Takes events, each a line of its own.
pub trait Sink: Send + Sync {
    /// Whether they are where they belong; who cannot say so, or not yet, says yes.
    fn take(&self, events: &Events) -> bool;
    /// What was taken is where it belongs when this returns, unless a queue is between.
    fn settle(&self) {}
    /// Events that were lost.
    fn lost(&self) -> u64;
    /// The name that metrics know it by.
    fn name(&self) -> &'static str;
}

/// Events that a thread takes from its queue at once.
const MOST_TOGETHER: usize = 256;

/// A sink behind a queue and a thread: requests do not wait for it, and what the queue has no room for is lost.
pub struct Buffered {
    queue: Sender<Bytes>,
    name: &'static str,
    lost: AtomicU64,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Buffered {
    pub fn new(sink: impl Sink + 'static, room: usize) -> io::Result<Self> {
        let (queue, events): (Sender<Bytes>, Receiver<Bytes>) = crossbeam_channel::bounded(room.max(1));
        let name = sink.name();
        // What has come meanwhile goes on together.
        let work = move || {
            while let Ok(first) = events.recv() {
                sink.take(&std::iter::once(first).chain(events.try_iter().take(MOST_TOGETHER - 1)).collect());
            }
        };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(work)?;
        Ok(Self { queue, name, lost: AtomicU64::new(0), thread: Mutex::new(Some(thread)) })
    }
}

impl Drop for Buffered {
    /// What is in the queue is written.
    fn drop(&mut self) {
        let (gone, _) = crossbeam_channel::bounded(0);
        drop(std::mem::replace(&mut self.queue, gone));
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Sink for Buffered {
    fn take(&self, events: &Events) -> bool {
        for event in events.iter() {
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                self.queue.try_send(Bytes::copy_from_slice(event))
            {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

/// Events that somebody comes for; `wake` is called when the first of them is there.
pub struct Outbox {
    queue: (Sender<Bytes>, Receiver<Bytes>),
    asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    lost: AtomicU64,
}

impl Outbox {
    pub fn new(room: usize, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let queue = crossbeam_channel::bounded(room.max(1));
        Self { queue, asleep: AtomicBool::new(true), wake, lost: AtomicU64::new(0) }
    }

    /// Up to `limit`, oldest first. Who got none is woken for the next one.
    pub fn collect(&self, limit: usize) -> Vec<Bytes> {
        let events: Vec<Bytes> = self.queue.1.try_iter().take(limit).collect();
        if events.is_empty() {
            self.asleep.store(true, Ordering::SeqCst);
            if !self.queue.1.is_empty() && self.asleep.swap(false, Ordering::SeqCst) {
                (self.wake)();
            }
        }
        events
    }
}

impl Sink for Outbox {
    fn take(&self, events: &Events) -> bool {
        for event in events.iter() {
            if self.queue.0.try_send(Bytes::copy_from_slice(event)).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else if self.asleep.swap(false, Ordering::SeqCst) {
                (self.wake)();
            }
        }
        true
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        "webhook"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn an_outbox_wakes_once_and_loses_what_it_has_no_room_for() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counted = woken.clone();
        let wake = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let outbox = Outbox::new(2, Box::new(wake));
        for text in ["a", "b", "c"] {
            outbox.take(&Events::from_iter([text]));
        }
        assert_eq!((woken.load(Ordering::SeqCst), outbox.lost()), (1, 1));
        assert_eq!(outbox.collect(10), ["a", "b"]);
        outbox.take(&Events::from_iter(["d"]));
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(outbox.collect(10), ["d"]);
        assert!(outbox.collect(10).is_empty());
        outbox.take(&Events::from_iter(["e"]));
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}
