//! All virtual services, found by what names them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHasher};

use super::flow::ServiceKey;
use super::service::{ServiceOptions, VirtualService};
use super::tracking::ConnectionTable;

const SHARDS: usize = 64;

type Services = FxHashMap<ServiceKey, Arc<VirtualService>>;

/// The table of virtual services. Look-ups are lock-free; a change copies one of 64 shards of pointers.
#[derive(Debug)]
pub struct Balancer {
    shards: Vec<ArcSwap<Services>>,
    /// Changes are made one at a time.
    changing: Mutex<()>,
    connections: ConnectionTable,
}

impl Default for Balancer {
    fn default() -> Self {
        Self::new()
    }
}

impl Balancer {
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            changing: Mutex::new(()),
            connections: ConnectionTable::default(),
        }
    }

    pub(super) fn connections(&self) -> &ConnectionTable {
        &self.connections
    }

    fn shard(&self, key: &ServiceKey) -> &ArcSwap<Services> {
        let mut hasher = FxHasher::default();
        key.hash(&mut hasher);
        // The hasher's lowest 26 bits are its good ones; the map within a shard looks at those below these.
        &self.shards[(hasher.finish() >> 20) as usize % SHARDS]
    }

    pub fn get(&self, key: &ServiceKey) -> Option<Arc<VirtualService>> {
        self.shard(key).load().get(key).cloned()
    }

    /// Make a service, or give an existing one new options; its destinations stay.
    pub fn put(&self, key: ServiceKey, options: ServiceOptions) -> Arc<VirtualService> {
        let _changing = self.changing.lock();
        let shard = self.shard(&key);
        if let Some(service) = shard.load().get(&key) {
            service.reconfigure(options);
            return Arc::clone(service);
        }
        let service = Arc::new(VirtualService::new(key, options));
        let mut services = Services::clone(&shard.load());
        services.insert(key, Arc::clone(&service));
        shard.store(Arc::new(services));
        service
    }

    /// Take a service out. Its connections live on; whoever still holds it finds no destination.
    pub fn remove(&self, key: &ServiceKey) -> Option<Arc<VirtualService>> {
        let _changing = self.changing.lock();
        let shard = self.shard(key);
        if !shard.load().contains_key(key) {
            return None;
        }
        let mut services = Services::clone(&shard.load());
        let service = services.remove(key);
        shard.store(Arc::new(services));
        if let Some(service) = &service {
            service.set_destinations(&[]);
        }
        service
    }

    /// All services, in the order of their keys.
    pub fn services(&self) -> Vec<Arc<VirtualService>> {
        let mut services: Vec<_> =
            self.shards.iter().flat_map(|shard| shard.load().values().cloned().collect::<Vec<_>>()).collect();
        services.sort_by_key(|service| service.key());
        services
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::balance::flow::Protocol;

    #[test]
    fn services_of_one_range_and_port_are_spread_over_all_shards() {
        let balancer = Balancer::new();
        for number in 0..10_000_u32 {
            let address = SocketAddr::from(((0x0a60_0000 + number).to_be_bytes(), 8000));
            balancer.put(ServiceKey::new(Protocol::Tcp, address), ServiceOptions::default());
        }
        let sizes: Vec<_> = balancer.shards.iter().map(|shard| shard.load().len()).collect();
        assert!(sizes.iter().all(|size| *size < 2 * 10_000 / SHARDS), "{sizes:?}");
    }
}
