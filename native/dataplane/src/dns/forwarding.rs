//! Which resolvers are asked for which names.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::rr::Name;
use kubecore_core::clock::Clock;

use super::names::{Key, is_below, key};
use super::troubles::Troubles;
use super::upstream::Upstream;

struct Routes {
    /// The longest domain first.
    stubs: Vec<(Key, Arc<Upstream>)>,
    rest: Arc<Upstream>,
}

pub(super) struct Forwarding {
    clock: Clock,
    routes: ArcSwap<Routes>,
    pub(super) troubles: Arc<Troubles>,
}

impl Forwarding {
    pub(super) fn new(clock: Clock) -> Self {
        let troubles = Arc::<Troubles>::default();
        let rest = Arc::new(Upstream::new(clock.clone(), Vec::new(), Arc::clone(&troubles)));
        Self { clock, routes: ArcSwap::from_pointee(Routes { stubs: Vec::new(), rest }), troubles }
    }

    /// `stubs`: domains with resolvers of their own. Replies kept so far are forgotten.
    pub(super) fn set(&self, servers: Vec<SocketAddr>, stubs: Vec<(Name, Vec<SocketAddr>)>) {
        let all: Vec<_> = stubs.iter().flat_map(|(_, servers)| servers).chain(&servers).copied().collect();
        let upstream =
            |servers| Arc::new(Upstream::new(self.clock.clone(), servers, Arc::clone(&self.troubles)));
        let mut stubs: Vec<_> =
            stubs.into_iter().map(|(domain, servers)| (key(&domain), upstream(servers))).collect();
        stubs.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        self.routes.store(Arc::new(Routes { stubs, rest: upstream(servers) }));
        self.troubles.keep(&all);
    }

    /// Whether there is anybody to ask.
    pub(super) fn any(&self) -> bool {
        let routes = self.routes.load();
        routes.rest.any() || !routes.stubs.is_empty()
    }

    pub(super) fn of(&self, name: &Name) -> Arc<Upstream> {
        let routes = self.routes.load();
        let asked = key(name);
        let stub = routes.stubs.iter().find(|(domain, _)| is_below(&asked, domain));
        Arc::clone(stub.map_or(&routes.rest, |(_, upstream)| upstream))
    }
}
