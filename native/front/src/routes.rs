//! Which paths the read path may serve, as Python declares them.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use http::HeaderValue;
use kubecore_core::edition::Edition;
use kubecore_core::watch_cache::{ResourceCache, Transcoder};
use rustc_hash::FxHashMap;

use crate::recent::{Recent, number_of_info};
use crate::request_info::RequestInfo;

/// One served (group, version, plural).
pub struct Route {
    pub group: String,
    pub version: String,
    pub plural: String,
    /// Where its objects are.
    pub cache: Arc<ResourceCache>,
    /// Makes the JSON of this version.
    pub json: Arc<dyn Transcoder>,
    /// Makes its protobuf; None for kinds without.
    pub protobuf: Option<Arc<dyn Transcoder>>,
    pub namespaced: bool,
    pub gets: bool,
    pub lists: bool,
    pub watches: bool,
    pub subresources: Vec<String>,
    /// What every client is told of a deprecated version: the Warning header's value.
    pub warning: Option<HeaderValue>,
}

impl Route {
    pub fn has_subresource(&self, name: &str) -> bool {
        self.subresources.iter().any(|own| own == name)
    }
}

/// By plural name, as few groups share one.
type Table = FxHashMap<String, Vec<Arc<Route>>>;

#[derive(Default)]
pub struct RouteTable {
    table: ArcSwap<Table>,
    edition: Edition,
}

/// The route that serves a read, as long as the table is of that edition. It keeps nobody's objects.
struct Serving {
    info: Arc<RequestInfo>,
    table: u64,
    route: Weak<Route>,
}

thread_local! {
    static RECENT: RefCell<Recent<Serving>> = const { RefCell::new(Recent::new()) };
}

impl RouteTable {
    pub fn put(&self, route: Route) {
        let route = Arc::new(route);
        self.table.rcu(|held| {
            let mut table = Table::clone(held);
            let entry = table.entry(route.plural.clone()).or_default();
            entry.retain(|old| old.group != route.group || old.version != route.version);
            entry.push(route.clone());
            table
        });
        self.edition.renew();
    }

    pub fn remove(&self, group: &str, version: &str, plural: &str) {
        self.table.rcu(|held| {
            let mut table = Table::clone(held);
            if let Some(entry) = table.get_mut(plural) {
                entry.retain(|route| route.group != group || route.version != version);
            }
            table
        });
        self.edition.renew();
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Route>> {
        let table = self.table.load();
        table.get(plural)?.iter().find(|route| route.group == group && route.version == version).cloned()
    }

    /// Where the objects of a resource are, whatever versions of it are served.
    pub fn cache(&self, group: &str, plural: &str) -> Option<Arc<ResourceCache>> {
        let table = self.table.load();
        table.get(plural)?.iter().find(|route| route.group == group).map(|route| route.cache.clone())
    }

    /// All caches, each once, with the group and plural of their resource, in order.
    pub fn caches(&self) -> Vec<(String, String, Arc<ResourceCache>)> {
        let table = self.table.load();
        let mut found: Vec<(String, String, Arc<ResourceCache>)> = Vec::new();
        for route in table.values().flatten() {
            if !found.iter().any(|(.., cache)| Arc::ptr_eq(cache, &route.cache)) {
                found.push((route.group.clone(), route.plural.clone(), route.cache.clone()));
            }
        }
        found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        found
    }

    /// Whether the resource and subresource of a request are among these.
    pub fn knows(&self, info: &RequestInfo) -> bool {
        let subresource = info.subresource();
        self.find(info.group(), info.version(), info.resource())
            .is_some_and(|route| subresource.is_empty() || route.has_subresource(subresource))
    }

    /// The route that serves a read request, if reads of that kind are routed at all. What is asked for again and again is
    /// looked for once.
    pub fn for_read(&self, info: &Arc<RequestInfo>) -> Option<Arc<Route>> {
        let number = self.edition.number();
        let kept = RECENT.with_borrow(|recent| {
            let serving = recent.get(number_of_info(info))?;
            let is_it = serving.table == number && Arc::ptr_eq(&serving.info, info);
            if is_it { serving.route.upgrade() } else { None }
        });
        let route = match kept {
            Some(route) => route,
            None => {
                let route = self.serving(info)?;
                let serving = || Serving { info: info.clone(), table: number, route: Arc::downgrade(&route) };
                RECENT.with_borrow_mut(|recent| recent.put(number_of_info(info), serving));
                route
            }
        };
        (!route.cache.is_removed()).then_some(route)
    }

    fn serving(&self, info: &RequestInfo) -> Option<Arc<Route>> {
        let route = self.find(info.group(), info.version(), info.resource())?;
        let named = !info.name().is_empty();
        let whole = info.subresource().is_empty()
            || (named && info.subresource() == "status" && route.has_subresource("status"));
        let verb = match info.verb() {
            "get" => route.gets && named,
            "list" => route.lists && !named,
            "watch" => route.watches && !named && !info.is_legacy_watch(),
            _ => false,
        };
        // A namespaced object cannot be had without its namespace; cluster objects have none. The one exception is
        // a namespace itself, whose name the path gives as its namespace too.
        let scope = if route.namespaced {
            !named || !info.namespace().is_empty()
        } else {
            info.namespace().is_empty()
                || (info.resource() == "namespaces" && info.namespace() == info.name())
        };
        (whole && verb && scope && info.rest().is_empty()).then_some(route)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use kubecore_core::clock::Clock;
    use kubecore_core::watch_cache::{Bounds, PartialMetadata, ResourceInfo, WatchCache};

    use super::*;

    const VERSIONS: [&str; 2] = ["v1", "v2"];

    struct World {
        cache: Arc<WatchCache>,
        routes: RouteTable,
    }

    impl World {
        fn new() -> Self {
            Self { cache: WatchCache::new(Bounds::default(), Clock::system()), routes: RouteTable::default() }
        }

        fn serves(&self, version: &str) -> Arc<ResourceCache> {
            let id = self.cache.register(ResourceInfo {
                key: "pods".into(),
                group: String::new(),
                plural: "pods".into(),
                kind: "Pod".into(),
                list_kind: String::new(),
                custom: false,
                storage_version: version.into(),
                namespaced: true,
                versions: VERSIONS.map(str::to_owned).into(),
                selectable_fields: Vec::new(),
                empty: Vec::new(),
            });
            let cache = self.cache.resource(id).unwrap();
            self.routes.put(Route {
                group: String::new(),
                version: version.into(),
                plural: "pods".into(),
                cache: cache.clone(),
                json: Arc::new(PartialMetadata),
                protobuf: None,
                namespaced: true,
                gets: true,
                lists: true,
                watches: true,
                subresources: Vec::new(),
                warning: None,
            });
            cache
        }

        /// Again and again.
        fn read(&self, info: &Arc<RequestInfo>) -> Option<Arc<ResourceCache>> {
            let found = [(); 4].map(|()| self.routes.for_read(info).map(|route| route.cache.clone()));
            let ways = found.each_ref().map(|cache| cache.as_ref().map(Arc::as_ptr));
            assert!(ways.iter().all(|way| *way == ways[0]));
            found.into_iter().next().flatten()
        }
    }

    fn get(version: &str) -> Arc<RequestInfo> {
        let path = format!("/api/{version}/namespaces/a/pods/p");
        RequestInfo::parse(&Method::GET, &path, "").unwrap().into()
    }

    #[test]
    fn a_route_that_is_kept_is_the_one_of_the_table() {
        let (world, other) = (World::new(), World::new());
        let [first, second] = VERSIONS.map(get);
        assert!(world.read(&first).is_none());
        let cache = world.serves("v1");
        assert!(Arc::ptr_eq(&world.read(&first).unwrap(), &cache));
        assert!(world.read(&second).is_none() && other.read(&first).is_none());
        let newer = world.serves("v1");
        assert!(Arc::ptr_eq(&world.read(&first).unwrap(), &newer));
        world.routes.remove("", "v1", "pods");
        assert!(world.read(&first).is_none());
    }

    #[test]
    fn a_resource_that_is_removed_is_not_read_though_its_route_is_kept() {
        let world = World::new();
        let (cache, info) = (world.serves("v1"), get("v1"));
        assert!(world.read(&info).is_some());
        world.cache.unregister(cache.id());
        assert!(world.read(&info).is_none());
    }

    #[test]
    fn what_is_kept_keeps_no_route_alive() {
        let (world, info) = (World::new(), get("v1"));
        world.serves("v1");
        let route = Arc::downgrade(&world.routes.for_read(&info).unwrap());
        world.read(&info);
        world.routes.remove("", "v1", "pods");
        assert!(route.upgrade().is_none());
    }
}
