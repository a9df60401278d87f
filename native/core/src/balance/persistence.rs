//! ClientIP affinity: IPVS's connection templates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use super::destination::Destination;
use super::flow::fold;

/// How long, and how precisely, a client is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Milliseconds after the last use; Kubernetes' default is 10,800,000.
    pub timeout: u64,
    /// Leading bits of the client's address that count, IPv4 (32: each address by itself).
    pub prefix_v4: u8,
    /// The same for IPv6, 128 by default.
    pub prefix_v6: u8,
    /// Clients of a destination of weight 0 are led to another; else they stay. (`expire_quiescent_template`)
    pub expire_quiescent: bool,
}

impl Persistence {
    pub fn new(timeout: u64) -> Self {
        Self { timeout, prefix_v4: 32, prefix_v6: 128, expire_quiescent: false }
    }

    /// The part of an address that clients are told apart by.
    pub fn mask(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let keep = u32::MAX.checked_shl(32 - u32::from(self.prefix_v4.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & keep))
            }
            IpAddr::V6(v6) => {
                let keep = u128::MAX.checked_shl(128 - u32::from(self.prefix_v6.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) & keep))
            }
        }
    }
}

/// A remembered client. It does not expire while connections made through it are open.
#[derive(Debug)]
pub(super) struct Template {
    destination: Arc<Destination>,
    expires: AtomicU64,
    users: AtomicU32,
}

impl Template {
    pub(super) fn acquire(&self) {
        self.users.fetch_add(1, Relaxed);
    }

    pub(super) fn release(&self) {
        self.users.fetch_sub(1, Relaxed);
    }

    fn extend(&self, expires: u64) {
        self.expires.fetch_max(expires, Relaxed);
    }

    /// A connection ends at `now`: while it lasted, IPVS looked again each minute after the time was up.
    pub(super) fn outlive(&self, now: u64) {
        let expires = self.expires.load(Relaxed);
        if expires <= now {
            self.extend(expires + (now - expires + 1).div_ceil(RETRY) * RETRY);
        }
    }

    pub(super) fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }

    /// Is it to be kept? Also while its destination is removed, which may come back.
    fn alive(&self, now: u64) -> bool {
        self.users.load(Relaxed) > 0 || self.expires.load(Relaxed) > now
    }

    fn usable(&self, now: u64, persistence: &Persistence) -> bool {
        let left = persistence.expire_quiescent && self.destination.weight() == 0;
        !left && !self.destination.removed() && self.alive(now)
    }
}

/// Milliseconds until IPVS looks again whether a template with open connections can go (`ip_vs_conn_expire`).
const RETRY: u64 = 60_000;
const SHARDS: usize = 16;

#[derive(Default, Debug)]
struct Shard {
    templates: FxHashMap<IpAddr, Arc<Template>>,
    /// Dead entries are swept when the shard has grown to this size, so that memory follows the live clients.
    sweep_at: usize,
}

/// The templates of one virtual service.
#[derive(Default, Debug)]
pub(super) struct TemplateTable {
    shards: [RwLock<Shard>; SHARDS],
}

impl TemplateTable {
    fn shard(&self, client: IpAddr) -> &RwLock<Shard> {
        let hash = fold(client).wrapping_mul(0x9E37_79B1);
        &self.shards[(hash >> 28) as usize % SHARDS]
    }

    /// The live template of a (masked) client, its time-out started anew.
    pub(super) fn find(&self, client: IpAddr, now: u64, persistence: &Persistence) -> Option<Arc<Template>> {
        let shard = self.shard(client).read();
        let template = shard.templates.get(&client).filter(|template| template.usable(now, persistence))?;
        template.extend(now.saturating_add(persistence.timeout));
        Some(Arc::clone(template))
    }

    /// Remember where a client went. If another thread was first, its choice holds.
    pub(super) fn insert(
        &self,
        client: IpAddr,
        destination: &Arc<Destination>,
        now: u64,
        persistence: &Persistence,
        replace: bool,
    ) -> Arc<Template> {
        let mut shard = self.shard(client).write();
        let present = shard.templates.get(&client).filter(|found| found.usable(now, persistence));
        if !replace && let Some(present) = present {
            return Arc::clone(present);
        }
        let template = Arc::new(Template {
            destination: Arc::clone(destination),
            expires: AtomicU64::new(now.saturating_add(persistence.timeout)),
            users: AtomicU32::new(0),
        });
        shard.templates.insert(client, Arc::clone(&template));
        if shard.templates.len() > shard.sweep_at.max(64) {
            shard.templates.retain(|_, template| template.alive(now));
            shard.sweep_at = shard.templates.len() * 2;
        }
        template
    }

    /// Drop what has expired; returns how many clients are still remembered.
    pub(super) fn expire(&self, now: u64) -> usize {
        let sweep = |shard: &RwLock<Shard>| {
            let mut shard = shard.write();
            shard.templates.retain(|_, template| template.alive(now));
            shard.templates.len()
        };
        self.shards.iter().map(sweep).sum()
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            shard.write().templates.clear();
        }
    }
}
