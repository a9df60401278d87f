//! ClientIP affinity: IPVS's connection templates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use papaya::{HashMap, Operation};
use rustc_hash::FxSeededState;

use super::destination::Destination;

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
    /// When it is over, or `FORGOTTEN`.
    expires: AtomicU64,
    users: AtomicU32,
}

/// Of a template that is being swept from the table: from then on nobody is led by it.
const FORGOTTEN: u64 = 0;

impl Template {
    fn new(destination: Arc<Destination>, expires: u64) -> Self {
        Self { destination, expires: AtomicU64::new(expires.max(1)), users: AtomicU32::new(0) }
    }

    pub(super) fn acquire(&self) {
        self.users.fetch_add(1, Relaxed);
    }

    pub(super) fn release(&self) {
        self.users.fetch_sub(1, Relaxed);
    }

    /// False: it is swept, or being swept.
    fn extend(&self, expires: u64) -> bool {
        let later = |now: u64| (now != FORGOTTEN).then(|| now.max(expires));
        self.expires.fetch_update(Relaxed, Relaxed, later).is_ok()
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

    fn over(&self, expires: u64, now: u64) -> bool {
        self.users.load(Relaxed) == 0 && expires <= now
    }

    /// Is it to be kept? Also while its destination is removed, which may come back. One that is not leads nobody
    /// any more, also who has just found it.
    fn stays(&self, now: u64) -> bool {
        let forgotten = |expires: u64| self.over(expires, now).then_some(FORGOTTEN);
        self.expires.fetch_update(Relaxed, Relaxed, forgotten).is_err()
    }

    /// Lead a client by it, whose time starts anew; false: it can do so no more.
    fn lead(&self, now: u64, persistence: &Persistence) -> bool {
        let left = persistence.expire_quiescent && self.destination.weight() == 0;
        !left
            && !self.destination.removed()
            && !self.over(self.expires.load(Relaxed), now)
            && self.extend(now.saturating_add(persistence.timeout))
    }
}

/// Milliseconds until IPVS looks again whether a template with open connections can go (`ip_vs_conn_expire`).
const RETRY: u64 = 60_000;
/// Dead templates are not looked for among fewer.
const FEW: usize = 1024;

/// The templates of one virtual service: a look-up takes no lock. They have no table before there is one of them.
#[derive(Default, Debug)]
pub(super) struct TemplateTable {
    templates: OnceLock<HashMap<IpAddr, Arc<Template>, FxSeededState>>,
    /// Dead ones are swept when there are so many, so that memory follows the live clients.
    sweep_at: AtomicUsize,
}

impl TemplateTable {
    /// The live template of a (masked) client, its time-out started anew.
    pub(super) fn find(&self, client: IpAddr, now: u64, persistence: &Persistence) -> Option<Arc<Template>> {
        let templates = self.templates.get()?.pin();
        templates.get(&client).filter(|template| template.lead(now, persistence)).cloned()
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
        // Nobody outside can choose addresses that crowd one place.
        let seeded = || HashMap::with_hasher(FxSeededState::with_seed(rand::random::<u64>() as usize));
        let templates = self.templates.get_or_init(seeded);
        let fresh = Arc::new(Template::new(Arc::clone(destination), now.saturating_add(persistence.timeout)));
        let map = templates.pin();
        let outcome = map.compute(client, |present| match present {
            Some((_, found)) if !replace && found.lead(now, persistence) => {
                Operation::Abort(Arc::clone(found))
            }
            _ => Operation::Insert(Arc::clone(&fresh)),
        });
        if let papaya::Compute::Aborted(found) = outcome {
            return found;
        }
        self.sweep_if_many(now, map.len());
        fresh
    }

    /// Whoever inserts one too many sweeps, and nobody else meanwhile.
    fn sweep_if_many(&self, now: u64, count: usize) {
        let limit = self.sweep_at.load(Relaxed);
        if count > limit.max(FEW)
            && self.sweep_at.compare_exchange(limit, usize::MAX, Relaxed, Relaxed).is_ok()
        {
            self.sweep_at.store(self.expire(now) * 2, Relaxed);
        }
    }

    /// Drop what has expired; returns how many clients are still remembered.
    pub(super) fn expire(&self, now: u64) -> usize {
        self.sweep(|template| template.stays(now))
    }

    fn sweep(&self, mut stays: impl FnMut(&Template) -> bool) -> usize {
        let Some(templates) = self.templates.get() else { return 0 };
        let templates = templates.pin();
        templates.retain(|_, template| stays(template));
        templates.len()
    }

    pub(super) fn clear(&self) {
        if let Some(templates) = self.templates.get() {
            templates.pin().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Barrier;

    use super::*;
    use crate::balance::destination::DestinationSpec;

    fn destination(number: u8) -> Arc<Destination> {
        Arc::new(Destination::new(&DestinationSpec::new(SocketAddr::from(([10, 0, 0, number], 80)), 1)))
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_look_up_does_not_wait_for_who_changes_the_table() {
        let (table, persistence) = (TemplateTable::default(), Persistence::new(1000));
        table.insert(client(1), &destination(1), 0, &persistence, false);
        let mut looked = 0;
        table.sweep(|_| {
            looked += 1;
            table.find(client(1), 0, &persistence).is_some()
        });
        assert_eq!((looked, table.expire(0)), (1, 1));
    }

    #[test]
    fn of_threads_that_remember_one_client_at_once_the_first_ones_choice_holds_for_all() {
        const THREADS: u8 = 4;
        const CLIENTS: u32 = 2000;
        let (table, persistence) = (TemplateTable::default(), Persistence::new(1000));
        let together = Barrier::new(THREADS.into());
        let choices = |number: u8| {
            let own = destination(number);
            together.wait();
            let led = |of: u32| {
                // Those of even numbers were remembered long ago, and are swept by who comes later.
                table.insert(client(of * 2), &own, 0, &persistence, false);
                let found = table.find(client(of * 2 + 1), 2000, &persistence);
                let template = found
                    .unwrap_or_else(|| table.insert(client(of * 2 + 1), &own, 2000, &persistence, false));
                template.destination().address()
            };
            (0..CLIENTS).map(led).collect::<Vec<_>>()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || choices(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|led| *led == all[0]));
        assert_eq!(table.expire(2000), CLIENTS as usize);
    }

    #[test]
    fn who_is_being_swept_leads_nobody_and_who_leads_is_not_swept() {
        let persistence = Persistence::new(1000);
        let template = Template::new(destination(1), 1000);
        assert!(template.lead(999, &persistence) && template.stays(1000));
        assert!(!template.stays(1999) && !template.extend(5000) && !template.lead(1000, &persistence));
    }
}
