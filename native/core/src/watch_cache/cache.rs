//! All resources together, and the one door for writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

use super::history::{Bounds, Event, History, Previous};
use super::object::Object;
use super::resource::{Past, ResourceCache, ResourceId, ResourceInfo};
use super::scan::ScanError;
use crate::clock::Clock;

/// Follows writes synchronously: called in order of revision, before `publish` returns.
///
/// Must not publish, and must be quick: writers wait for it.
pub trait Observer: Send + Sync {
    fn published(&self, resource: &Arc<ResourceCache>, events: &[Arc<Event>]);

    /// All objects of the resource have been replaced.
    fn loaded(&self, resource: &Arc<ResourceCache>);
}

/// One write. A deletion carries the object as it was last.
#[derive(Clone, Debug)]
pub struct Change {
    pub resource: ResourceId,
    pub deleted: bool,
    /// "namespace/name", or "name".
    pub key: Arc<str>,
    pub revision: u64,
    pub object: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("there is no resource of number {0}")]
    UnknownResource(ResourceId),
    #[error("{key}: {error}")]
    BadObject { key: Arc<str>, error: ScanError },
}

pub struct WatchCache {
    revision: Arc<AtomicU64>,
    compacted: AtomicU64,
    history: Bounds,
    history_bytes: Arc<AtomicUsize>,
    clock: Clock,
    resources: RwLock<Resources>,
    observers: RwLock<Vec<Arc<dyn Observer>>>,
    /// One writer at a time: revisions only grow.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Resources {
    by_id: Vec<Option<Arc<ResourceCache>>>,
    by_key: FxHashMap<String, ResourceId>,
}

type Prepared = Vec<(Arc<ResourceCache>, Vec<(bool, Arc<Object>)>)>;

impl WatchCache {
    /// `history`: what is kept of a resource's events, which grow old by `clock`.
    pub fn new(history: Bounds, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            revision: Arc::default(),
            compacted: AtomicU64::new(0),
            history,
            history_bytes: Arc::default(),
            clock,
            resources: RwLock::default(),
            observers: RwLock::default(),
            writing: Mutex::default(),
        })
    }

    pub fn register(&self, info: ResourceInfo) -> ResourceId {
        let mut resources = self.resources.write();
        let id = ResourceId::try_from(resources.by_id.len()).unwrap_or(ResourceId::MAX);
        resources.by_key.insert(info.key.clone(), id);
        let history = History::new(self.history, Arc::clone(&self.history_bytes), self.revision());
        let cache = ResourceCache::new(id, info, Arc::clone(&self.revision), history, self.clock.clone());
        cache.compacted(self.compacted.load(Ordering::Acquire));
        resources.by_id.push(Some(Arc::new(cache)));
        id
    }

    /// Forgets the resource and ends its watches.
    pub fn unregister(&self, id: ResourceId) {
        let removed = {
            let mut resources = self.resources.write();
            let removed = resources.by_id.get_mut(id as usize).and_then(Option::take);
            if let Some(resource) = &removed
                && resources.by_key.get(&resource.info().key) == Some(&id)
            {
                resources.by_key.remove(&resource.info().key);
            }
            removed
        };
        if let Some(resource) = removed {
            resource.remove();
        }
    }

    pub fn resource(&self, id: ResourceId) -> Option<Arc<ResourceCache>> {
        self.resources.read().by_id.get(id as usize)?.clone()
    }

    /// By group resource: "pods", "deployments.apps".
    pub fn resource_by_key(&self, key: &str) -> Option<Arc<ResourceCache>> {
        let resources = self.resources.read();
        let id = *resources.by_key.get(key)?;
        resources.by_id.get(id as usize)?.clone()
    }

    pub fn resources(&self) -> Vec<Arc<ResourceCache>> {
        self.resources.read().by_id.iter().flatten().cloned().collect()
    }

    /// Everything up to it is in the cache.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _writing = self.writing.lock();
        for resource in self.resources() {
            observer.loaded(&resource);
        }
        self.observers.write().push(observer);
    }

    /// The initial fill of a resource: (key, revision, object) each.
    pub fn load(&self, id: ResourceId, items: Vec<(Arc<str>, u64, Bytes)>) -> Result<(), PublishError> {
        let resource = self.resource(id).ok_or(PublishError::UnknownResource(id))?;
        let objects = items
            .into_iter()
            .map(|(key, revision, json)| prepare(&resource, key, revision, json))
            .collect::<Result<_, _>>()?;
        let _writing = self.writing.lock();
        resource.load(objects);
        self.observers.read().iter().for_each(|observer| observer.loaded(&resource));
        Ok(())
    }

    /// Writes in order of revision; everything up to `revision` is then known. Nothing is done on an error.
    pub fn publish(&self, revision: u64, changes: Vec<Change>) -> Result<(), PublishError> {
        // One writer at a time, the reading of its objects included: they arrive in order.
        let writing = self.writing.lock();
        let mut prepared: Prepared = Vec::new();
        for change in changes {
            let resource = match prepared.iter().position(|(known, _)| known.id() == change.resource) {
                Some(at) => at,
                None => {
                    let unknown = PublishError::UnknownResource(change.resource);
                    prepared.push((self.resource(change.resource).ok_or(unknown)?, Vec::new()));
                    prepared.len() - 1
                }
            };
            let (resource, ready) = &mut prepared[resource];
            let object = prepare(resource, change.key, change.revision, change.object)?;
            ready.push((change.deleted, object));
        }
        let mut woken: Vec<Waker> = Vec::new();
        for (resource, changes) in prepared {
            let events = resource.apply(changes, &mut woken);
            self.observers.read().iter().for_each(|observer| observer.published(&resource, &events));
        }
        self.make_room();
        self.revision.fetch_max(revision, Ordering::AcqRel);
        drop(writing);
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Nothing else happened up to `revision`.
    pub fn progress(&self, revision: u64) {
        let _writing = self.writing.lock();
        self.resources().iter().for_each(|resource| resource.progress(revision));
        self.revision.fetch_max(revision, Ordering::AcqRel);
    }

    /// Revisions before this cannot be read or watched from any more.
    pub fn compacted(&self, revision: u64) {
        self.compacted.fetch_max(revision, Ordering::AcqRel);
        self.resources().iter().for_each(|resource| resource.compacted(revision));
    }

    /// Refills the histories after `load` with the log from the compacted revision on; objects stay as they are.
    ///
    /// `previous` of a change: the object before it, empty bytes when there was none, None when that is not known.
    pub fn replay(&self, changes: Vec<(Change, Option<Bytes>)>) -> Result<(), PublishError> {
        let _writing = self.writing.lock();
        let since = self.compacted.load(Ordering::Acquire);
        let mut ready: FxHashMap<ResourceId, Vec<Past>> = FxHashMap::default();
        for (change, previous) in changes {
            let id = change.resource;
            let resource = self.resource(id).ok_or(PublishError::UnknownResource(id))?;
            let previous = match previous {
                None => None,
                Some(json) if json.is_empty() => Some(Previous::Absent),
                Some(json) => {
                    Some(Previous::Known(prepare_previous(&resource, Arc::clone(&change.key), json)?))
                }
            };
            let object = prepare(&resource, change.key, change.revision, change.object)?;
            ready.entry(id).or_default().push(Past { deleted: change.deleted, object, previous });
        }
        for resource in self.resources() {
            resource.replay(ready.remove(&resource.id()).unwrap_or_default(), since);
        }
        self.make_room();
        Ok(())
    }

    /// Whose history is the largest forgets until all fit, or somebody else's is a little larger.
    fn make_room(&self) {
        while self.history_bytes.load(Ordering::Relaxed) > self.history.all_bytes {
            let mut largest: Vec<_> =
                self.resources().into_iter().map(|resource| (resource.history_bytes(), resource)).collect();
            largest.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
            let next = largest.get(1).map_or(0, |(bytes, _)| *bytes);
            match largest.first() {
                Some((bytes, resource)) if *bytes > 0 => resource.make_room((next - next / 8).min(bytes - 1)),
                // What is left is of resources that are not served any more.
                _ => break,
            }
        }
    }
}

fn prepare(
    resource: &ResourceCache,
    key: Arc<str>,
    revision: u64,
    json: Bytes,
) -> Result<Arc<Object>, PublishError> {
    match Object::new(Arc::clone(&key), revision, json, resource.scanner()) {
        Ok(object) => Ok(Arc::new(object)),
        Err(error) => Err(PublishError::BadObject { key, error }),
    }
}

/// With the revision that its own bytes tell.
fn prepare_previous(
    resource: &ResourceCache,
    key: Arc<str>,
    json: Bytes,
) -> Result<Arc<Object>, PublishError> {
    match Object::stored(Arc::clone(&key), json, resource.scanner()) {
        Ok(object) => Ok(Arc::new(object)),
        Err(error) => Err(PublishError::BadObject { key, error }),
    }
}
