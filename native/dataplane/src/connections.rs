//! The connections that are open, so that they can be listed and ended.

use std::net::SocketAddr;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::task::AbortHandle;

/// One open connection or UDP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    pub client: SocketAddr,
    /// The virtual address the client asked for.
    pub target: SocketAddr,
    /// Where it is carried to; None while that is being decided.
    pub destination: Option<SocketAddr>,
}

#[derive(Debug)]
struct Entry {
    info: ConnectionInfo,
    task: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    open: FxHashMap<u64, Entry>,
}

#[derive(Debug, Default)]
pub(crate) struct Connections {
    entries: Mutex<Entries>,
}

impl Connections {
    pub(crate) fn open(&self, client: SocketAddr, target: SocketAddr) -> u64 {
        let mut entries = self.entries.lock();
        entries.next += 1;
        let id = entries.next;
        let info = ConnectionInfo { client, target, destination: None };
        entries.open.insert(id, Entry { info, task: None });
        id
    }

    /// The task that carries it; it may have ended already.
    pub(crate) fn carried_by(&self, id: u64, task: AbortHandle) {
        if let Some(entry) = self.entries.lock().open.get_mut(&id) {
            entry.task = Some(task);
        }
    }

    pub(crate) fn sent_to(&self, id: u64, destination: SocketAddr) {
        if let Some(entry) = self.entries.lock().open.get_mut(&id) {
            entry.info.destination = Some(destination);
        }
    }

    pub(crate) fn close(&self, id: u64) {
        self.entries.lock().open.remove(&id);
    }

    /// End one.
    pub(crate) fn abort(&self, id: u64) {
        let entry = self.entries.lock().open.remove(&id);
        if let Some(task) = entry.and_then(|entry| entry.task) {
            task.abort();
        }
    }

    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        self.entries.lock().open.values().map(|entry| entry.info).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.lock().open.len()
    }

    /// End all; their sockets are closed when their tasks are dropped.
    pub(crate) fn abort_all(&self) {
        let entries: Vec<_> = self.entries.lock().open.drain().collect();
        for (_, entry) in entries {
            if let Some(task) = entry.task {
                task.abort();
            }
        }
    }
}
