//! Watches within the process: one eventfd and batches for many of them.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use kubecore_core::status::Status;
use kubecore_core::watch_cache::{
    Delivery, EventType, ReadOptions, ResourceId, Start, WatchCache as Core, WatchQuery, Watcher,
};
use parking_lot::Mutex;
use pyo3::exceptions::{PyKeyError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustc_hash::FxHashMap;

use crate::cache::filter;
use crate::error::status_error;
use crate::gil::released;

type WatchId = u64;

/// Watches that have something to tell, and the eventfd that says so.
struct Ready {
    queue: Mutex<ReadyQueue>,
    eventfd: OwnedFd,
}

#[derive(Default)]
struct ReadyQueue {
    watches: VecDeque<Arc<Bell>>,
    /// The eventfd is readable.
    signalled: bool,
}

/// One watch's waker.
struct Bell {
    watch: WatchId,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let ready = Arc::clone(&self.ready);
            let mut queue = ready.queue.lock();
            queue.watches.push_back(self);
            ready.signal(&mut queue);
        }
    }
}

impl Ready {
    fn new() -> std::io::Result<Self> {
        // SAFETY: a plain system call; the descriptor is ours alone.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if raw < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Self { queue: Mutex::default(), eventfd: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    fn signal(&self, queue: &mut ReadyQueue) {
        if !std::mem::replace(&mut queue.signalled, true) {
            let one = 1u64;
            // SAFETY: eight bytes of a living integer. It cannot fail: the counter never comes near its end.
            unsafe { libc::write(self.eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }

    fn next(&self) -> Option<Arc<Bell>> {
        self.queue.lock().watches.pop_front()
    }

    /// The eventfd tells the truth again: readable when watches are left.
    fn settle(&self) {
        let mut queue = self.queue.lock();
        if queue.watches.is_empty() && std::mem::replace(&mut queue.signalled, false) {
            let mut count = 0u64;
            // SAFETY: eight bytes to write to; the descriptor does not block.
            unsafe { libc::read(self.eventfd.as_raw_fd(), (&raw mut count).cast(), 8) };
        }
    }
}

struct Watch {
    watcher: Watcher,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Watches {
    open: FxHashMap<WatchId, Watch>,
    last: WatchId,
    /// Bookmarks made by `bookmark`, to go out with the next drain.
    pending: VecDeque<(WatchId, Delivery)>,
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Subscriptions {
    cache: Arc<Core>,
    ready: Arc<Ready>,
    watches: Mutex<Watches>,
}

type PyDelivery<'py> = (WatchId, &'static str, u64, Bound<'py, PyBytes>);

impl Subscriptions {
    pub fn new(cache: Arc<Core>) -> PyResult<Self> {
        let ready = Arc::new(Ready::new().map_err(|error| PyOSError::new_err(error.to_string()))?);
        Ok(Self { cache, ready, watches: Mutex::default() })
    }

    fn open<F>(&self, resource: ResourceId, query: F) -> Result<WatchId, Status>
    where
        F: FnOnce(&kubecore_core::watch_cache::ResourceCache) -> Result<WatchQuery, Status>,
    {
        let resource = self.cache.resource(resource).ok_or_else(Status::unknown_path)?;
        let watcher = resource.subscribe(query(&resource)?)?;
        let mut watches = self.watches.lock();
        watches.last += 1;
        let watch = watches.last;
        let bell = Arc::new(Bell { watch, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        watches.open.insert(watch, Watch { watcher, bell: Arc::clone(&bell) });
        // The first drain looks at it, and waits from then on.
        bell.wake();
        Ok(watch)
    }

    fn take(&self, limit: usize) -> Vec<(WatchId, Delivery)> {
        let mut watches = self.watches.lock();
        let bookmarks = limit.min(watches.pending.len());
        let mut taken: Vec<_> = watches.pending.drain(..bookmarks).collect();
        while taken.len() < limit {
            let Some(bell) = self.ready.next() else { break };
            bell.queued.store(false, Ordering::Release);
            let Some(watch) = watches.open.get_mut(&bell.watch) else { continue };
            let waker = Waker::from(Arc::clone(&watch.bell));
            match watch.watcher.poll_deliveries(&mut Context::from_waker(&waker), limit - taken.len()) {
                Poll::Pending => {}
                Poll::Ready(Some(deliveries)) => {
                    taken.extend(deliveries.into_iter().map(|delivery| (bell.watch, delivery)));
                    // There may be more: back to the end of the queue, behind the others.
                    waker.wake();
                }
                Poll::Ready(None) => {
                    if watch.watcher.resource().is_removed() {
                        let status = Status::expired("the resource is not served any more");
                        let object = status.to_json().into();
                        taken.push((bell.watch, Delivery { event: EventType::Error, revision: 0, object }));
                    }
                    watches.open.remove(&bell.watch);
                }
            }
        }
        if watches.pending.is_empty() {
            self.ready.settle();
        }
        taken
    }
}

#[pymethods]
impl Subscriptions {
    fn fileno(&self) -> i32 {
        self.ready.eventfd.as_raw_fd()
    }

    #[pyo3(signature = (resource, namespace = None, label_selector = "", field_selector = "", revision = 0, *, bookmarks = false, initial = false))]
    #[allow(clippy::too_many_arguments)] // a watch's parameters, as in the API
    fn watch(
        &self,
        py: Python<'_>,
        resource: ResourceId,
        namespace: Option<&str>,
        label_selector: &str,
        field_selector: &str,
        revision: u64,
        bookmarks: bool,
        initial: bool,
    ) -> PyResult<WatchId> {
        let opened = released(py, || {
            self.open(resource, |resource| {
                let filter = filter(resource, namespace, label_selector, field_selector)?;
                let start = match (initial, revision) {
                    (true, _) => Start::State { not_older_than: revision, bookmark: true },
                    (false, 0) => Start::Now,
                    (false, _) => Start::After(revision),
                };
                // Who asks for the state wants to know where it ends.
                Ok(WatchQuery { filter, start, bookmarks: bookmarks || initial })
            })
        })?;
        opened.map_err(|status| status_error(py, &status))
    }

    /// A watch by the query string of its request.
    #[pyo3(signature = (resource, query, namespace = None, name = None))]
    fn watch_query(
        &self,
        py: Python<'_>,
        resource: ResourceId,
        query: &str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> PyResult<WatchId> {
        let opened = released(py, || {
            self.open(resource, |resource| {
                ReadOptions::parse(query)?.watch_query(resource.info(), namespace, name)
            })
        })?;
        opened.map_err(|status| status_error(py, &status))
    }

    fn cancel(&self, watch: WatchId) -> PyResult<()> {
        let mut watches = self.watches.lock();
        watches.pending.retain(|(of, _)| *of != watch);
        let removed = watches.open.remove(&watch);
        removed.map(drop).ok_or_else(|| PyKeyError::new_err(format!("there is no watch of number {watch}")))
    }

    /// Makes a BOOKMARK for each watch that wants them and has something new to learn by it.
    fn bookmark(&self, py: Python<'_>) -> PyResult<()> {
        released(py, || {
            let mut watches = self.watches.lock();
            let watches = &mut *watches;
            for (number, watch) in &mut watches.open {
                watches.pending.extend(watch.watcher.bookmark_delivery().map(|delivery| (*number, delivery)));
            }
            if !watches.pending.is_empty() {
                self.ready.signal(&mut self.ready.queue.lock());
            }
        })
    }

    #[pyo3(signature = (limit = 256))]
    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<PyDelivery<'py>>> {
        let taken = released(py, || self.take(limit.max(1)))?;
        Ok(taken
            .into_iter()
            .map(|(watch, delivery)| {
                (watch, delivery.event.name(), delivery.revision, PyBytes::new(py, &delivery.object))
            })
            .collect())
    }

    /// Ends all watches.
    fn close(&self) {
        let mut watches = self.watches.lock();
        watches.open.clear();
        watches.pending.clear();
        while self.ready.next().is_some() {}
        self.ready.settle();
    }
}
