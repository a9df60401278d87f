//! Committed writes on their way into the watch cache, without the GIL; see kubecore/apiserver/storage/cacher.py.

use std::sync::Arc;

use bytes::Bytes;
use kubecore_core::watch_cache::{Change, ResourceId, WatchCache as Core};
use kubecore_store::Event;
use parking_lot::Mutex;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::cache::{WatchCache, refused};
use crate::gil::released;

const ROOT: &str = "/registry/";

/// What is known of the keys under one prefix.
#[derive(Default)]
struct Route {
    number: ResourceId,
    /// Keys whose stored bytes are not what readers are shown, until they are written again.
    outdated: FxHashSet<String>,
}

#[derive(Default)]
struct Routes {
    by_prefix: FxHashMap<String, Route>,
    /// Prefixes that are being read anew, with what was written meanwhile.
    held: FxHashMap<String, Vec<Event>>,
}

/// Locked while something is published, and while a resource is put in another's place.
pub struct Router {
    cache: Arc<Core>,
    routes: Mutex<Routes>,
}

/// `/registry/apps/deployments/ns/name` → where `ns/name` begins.
fn prefix_end(key: &str) -> Option<usize> {
    let group = key.get(ROOT.len()..)?.find('/')? + ROOT.len() + 1;
    Some(key[group..].find('/')? + group + 1)
}

impl Router {
    /// Events of unknown prefixes are nobody's.
    pub fn publish(&self, revision: u64, events: &[Event]) -> Result<(), String> {
        let mut routes = self.routes.lock();
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            let Some(end) = prefix_end(&event.key) else { continue };
            let prefix = &event.key[..end];
            if !routes.held.is_empty()
                && let Some(held) = routes.held.get_mut(prefix)
            {
                held.push(event.clone());
            }
            if let Some(route) = routes.by_prefix.get_mut(prefix) {
                if !route.outdated.is_empty() {
                    route.outdated.remove(&*event.key);
                }
                changes.push(Change {
                    resource: route.number,
                    deleted: event.deleted,
                    key: Arc::from(&event.key[end..]),
                    revision: event.revision,
                    object: event.value.clone(),
                });
            }
        }
        self.cache.publish(revision, changes).map_err(|error| error.to_string())
    }

    pub fn compacted(&self, revision: u64) {
        self.cache.compacted(revision);
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Feed {
    pub router: Arc<Router>,
}

/// (0 put or 1 delete, key, revision, value, revision that it replaced)
type PyEvent = (u8, String, u64, PyBackedBytes, u64);

#[pymethods]
impl Feed {
    #[new]
    fn new(cache: &WatchCache) -> Self {
        let router = Router { cache: Arc::clone(&cache.core), routes: Mutex::default() };
        Self { router: Arc::new(router) }
    }

    /// What is written under the prefix from now on is the resource's.
    fn route(&self, py: Python<'_>, prefix: String, resource: ResourceId) -> PyResult<()> {
        released(py, || self.router.routes.lock().by_prefix.entry(prefix).or_default().number = resource)
    }

    fn unroute(&self, py: Python<'_>, prefix: &str) -> PyResult<()> {
        released(py, || drop(self.router.routes.lock().by_prefix.remove(prefix)))
    }

    /// These keys of a routed prefix are outdated until they are written.
    fn set_outdated(&self, py: Python<'_>, prefix: &str, keys: Vec<String>) -> PyResult<()> {
        released(py, || {
            if let Some(route) = self.router.routes.lock().by_prefix.get_mut(prefix) {
                route.outdated = keys.into_iter().collect();
            }
        })
    }

    fn outdated(&self, prefix: &str) -> FxHashSet<String> {
        self.router
            .routes
            .lock()
            .by_prefix
            .get(prefix)
            .map(|route| route.outdated.clone())
            .unwrap_or_default()
    }

    fn is_outdated(&self, prefix: &str, key: &str) -> bool {
        self.router.routes.lock().by_prefix.get(prefix).is_some_and(|route| route.outdated.contains(key))
    }

    /// Keeps what is written under the prefix, until `adopt` or `forget`.
    fn hold(&self, py: Python<'_>, prefix: String) -> PyResult<()> {
        released(py, || drop(self.router.routes.lock().held.insert(prefix, Vec::new())))
    }

    fn forget(&self, py: Python<'_>, prefix: &str) -> PyResult<()> {
        released(py, || drop(self.router.routes.lock().held.remove(prefix)))
    }

    /// Ends `hold`: the resource holds these items (name, revision, object), which were read at `revision`, and what
    /// was written after that, and takes the prefix over.
    fn adopt(
        &self,
        py: Python<'_>,
        prefix: String,
        resource: ResourceId,
        revision: u64,
        items: Vec<(PyBackedStr, u64, PyBackedBytes)>,
        outdated: Vec<String>,
    ) -> PyResult<()> {
        let mut objects: FxHashMap<Arc<str>, (u64, Bytes)> = items
            .into_iter()
            .map(|(name, at, object)| (Arc::from(&*name), (at, Bytes::copy_from_slice(&object))))
            .collect();
        let mut outdated: FxHashSet<String> = outdated.into_iter().collect();
        let adopted = released(py, || {
            let mut routes = self.router.routes.lock();
            let Some(held) = routes.held.remove(&prefix) else { return Ok(false) };
            for event in held.into_iter().filter(|event| event.revision > revision) {
                let name = &event.key[prefix.len()..];
                outdated.remove(&event.key);
                if event.deleted {
                    objects.remove(name);
                } else {
                    objects.insert(Arc::from(name), (event.revision, event.value));
                }
            }
            let cache = &self.router.cache;
            cache.load(
                resource,
                objects.into_iter().map(|(name, (at, object))| (name, at, object)).collect(),
            )?;
            cache.progress(cache.revision());
            routes.by_prefix.insert(prefix, Route { number: resource, outdated });
            Ok(true)
        })?;
        if adopted.map_err(|error| refused(&error))? {
            return Ok(());
        }
        Err(PyKeyError::new_err("nothing is held"))
    }

    // --- the part of a store's sink, for whoever commits in Python

    fn publish(&self, py: Python<'_>, revision: u64, events: Vec<PyEvent>) -> PyResult<()> {
        let events: Vec<Event> = events
            .into_iter()
            .map(|(kind, key, revision, value, previous)| Event {
                deleted: kind == 1,
                key,
                revision,
                value: Bytes::copy_from_slice(&value),
                previous,
            })
            .collect();
        released(py, || self.router.publish(revision, &events))?
            .map_err(pyo3::exceptions::PyValueError::new_err)
    }

    fn compacted(&self, py: Python<'_>, revision: u64) -> PyResult<()> {
        released(py, || self.router.compacted(revision))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Feed>()
}
