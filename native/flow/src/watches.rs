//! Who watches what, so that a write can be priced by how many will be told of it.
//!
//! Source: apiserver `pkg/util/flowcontrol/watch_tracker.go`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kubecore_core::rbac::Attributes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Group, resource, namespace (empty: all), name (empty: all).
type Scope = [Box<str>; 4];

#[derive(Default)]
pub struct Watches {
    by_scope: Mutex<FxHashMap<Scope, u32>>,
    open: AtomicUsize,
}

/// A watch, counted while this lives.
pub struct Watching {
    watches: Arc<Watches>,
    scope: Scope,
}

fn scope(attributes: &Attributes<'_>, namespace: &str, name: &str) -> Scope {
    [attributes.group, attributes.resource, namespace, name].map(Into::into)
}

impl Watches {
    pub fn open(self: &Arc<Self>, attributes: &Attributes<'_>) -> Watching {
        let scope = scope(attributes, attributes.namespace, attributes.name);
        *self.by_scope.lock().entry(scope.clone()).or_insert(0) += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Watching { watches: self.clone(), scope }
    }

    /// How many watches will hear of a write: of all namespaces, of its namespace, of the object alone.
    pub fn interested_in(&self, write: &Attributes<'_>) -> u32 {
        if self.open.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let by_scope = self.by_scope.lock();
        let count = |namespace, name| by_scope.get(&scope(write, namespace, name)).copied().unwrap_or(0);
        let mut heard = count("", "");
        if !write.namespace.is_empty() {
            heard += count(write.namespace, "");
        }
        if !write.name.is_empty() {
            heard += count(write.namespace, write.name);
        }
        heard
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut by_scope = self.watches.by_scope.lock();
        if let Some(count) = by_scope.get_mut(&self.scope) {
            *count -= 1;
            if *count == 0 {
                by_scope.remove(&self.scope);
            }
        }
        self.watches.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(namespace: &'a str, name: &'a str) -> Attributes<'a> {
        let resource = Attributes { group: "apps", resource: "deployments", ..Attributes::default() };
        Attributes { namespace, name, is_resource: true, ..resource }
    }

    #[test]
    fn a_write_is_heard_of_by_who_watches_all_its_namespace_or_just_it() {
        let watches = Arc::new(Watches::default());
        assert_eq!(watches.interested_in(&at("a", "x")), 0);
        let open =
            [at("", ""), at("a", ""), at("b", ""), at("a", "x"), at("a", "y")].map(|one| watches.open(&one));
        assert_eq!(watches.interested_in(&at("a", "x")), 3);
        assert_eq!(watches.interested_in(&at("a", "")), 2);
        assert_eq!(watches.interested_in(&at("c", "x")), 1);
        drop(open);
        assert!(watches.by_scope.lock().is_empty());
    }
}
