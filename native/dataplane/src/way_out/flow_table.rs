//! Which flows of UDP there are: so many at most, and of one client so many. For a new one that which was quiet for
//! longest makes room, unless both of its sides talk.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Who asks, and whom.
pub(super) type Key = (SocketAddrV4, SocketAddrV4);

pub(super) trait Used {
    /// When it was last, in milliseconds.
    fn used(&self) -> u64;
    /// Both sides do, and from then on they always have.
    fn talks(&self) -> bool;
}

/// In the order of their last use as it was when they were listed: whoever is first is looked at again.
type Quiet = BTreeSet<(u64, Key)>;

struct Known<F> {
    flow: Arc<F>,
    /// None: it has been found to talk.
    listed: Option<u64>,
}

#[derive(Default)]
struct Client {
    flows: usize,
    quiet: Quiet,
}

pub(super) struct FlowTable<F> {
    most: usize,
    most_of_one: usize,
    known: FxHashMap<Key, Known<F>>,
    quiet: Quiet,
    clients: FxHashMap<Ipv4Addr, Client>,
}

impl<F: Used> FlowTable<F> {
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            known: FxHashMap::default(),
            quiet: Quiet::new(),
            clients: FxHashMap::default(),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<F>> {
        self.known.get(key).map(|known| &known.flow)
    }

    /// For a flow of the client's: that which had to go for it. Errors: EAGAIN where none may go.
    pub(super) fn make_room(&mut self, client: Ipv4Addr) -> io::Result<Option<Arc<F>>> {
        let own = self.clients.get(&client).map_or(0, |client| client.flows);
        let of = match () {
            () if own >= self.most_of_one => Some(client),
            () if self.known.len() >= self.most => None,
            () => return Ok(None),
        };
        let quietest = self.quietest(of).ok_or(io::ErrorKind::WouldBlock)?;
        Ok(self.remove(&quietest))
    }

    /// Of one that is not known.
    pub(super) fn insert(&mut self, key: Key, flow: Arc<F>) {
        let used = flow.used();
        self.known.insert(key, Known { flow, listed: None });
        self.clients.entry(*key.0.ip()).or_default().flows += 1;
        self.list(key, Some(used));
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<F>> {
        self.list(*key, None);
        let known = self.known.remove(key)?;
        if let Some(client) = self.clients.get_mut(key.0.ip()) {
            client.flows -= 1;
            if client.flows == 0 {
                self.clients.remove(key.0.ip());
            }
        }
        Some(known.flow)
    }

    /// Of all, or of those of a client. Each is listed anew but once for each time that it was used meanwhile.
    fn quietest(&mut self, of: Option<Ipv4Addr>) -> Option<Key> {
        loop {
            let quiet = match of {
                Some(client) => &self.clients.get(&client)?.quiet,
                None => &self.quiet,
            };
            let (listed, key) = *quiet.first()?;
            let flow = self.get(&key)?;
            let (used, talks) = (flow.used(), flow.talks());
            if !talks && used == listed {
                return Some(key);
            }
            self.list(key, (!talks).then_some(used));
        }
    }

    /// At that time instead of where it was.
    fn list(&mut self, key: Key, at: Option<u64>) {
        let (Some(known), Some(client)) = (self.known.get_mut(&key), self.clients.get_mut(key.0.ip())) else {
            return;
        };
        for quiet in [&mut self.quiet, &mut client.quiet] {
            if let Some(before) = known.listed {
                quiet.remove(&(before, key));
            }
            if let Some(now) = at {
                quiet.insert((now, key));
            }
        }
        known.listed = at;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Flow {
        used: AtomicU64,
        talks: AtomicBool,
        asked: AtomicU64,
    }

    impl Used for Flow {
        fn used(&self) -> u64 {
            self.asked.fetch_add(1, Relaxed);
            self.used.load(Relaxed)
        }

        fn talks(&self) -> bool {
            self.talks.load(Relaxed)
        }
    }

    fn key(client: u8, port: u16) -> Key {
        let at = |network, last, port| SocketAddrV4::new(Ipv4Addr::new(network, 0, 2, last), port);
        (at(10, client, port), at(192, 1, 53))
    }

    /// With flows of these clients, each of which was used at the time that its port tells.
    fn table(most: usize, most_of_one: usize, flows: &[(u8, u16)]) -> FlowTable<Flow> {
        let mut table = FlowTable::new(most, most_of_one);
        for (client, port) in flows {
            let used = AtomicU64::new(u64::from(*port));
            table.insert(key(*client, *port), Arc::new(Flow { used, ..Flow::default() }));
        }
        table
    }

    /// The port of the client whose flow made room for one of the client's.
    fn gone(table: &mut FlowTable<Flow>, client: u8) -> Option<u64> {
        let made = table.make_room(*key(client, 0).0.ip()).unwrap();
        made.map(|flow| flow.used.load(Relaxed))
    }

    #[test]
    fn while_there_is_room_nobody_goes() {
        let mut table = table(3, 2, &[(1, 10), (2, 20)]);
        assert_eq!((gone(&mut table, 1), gone(&mut table, 2)), (None, None));
    }

    #[test]
    fn that_which_was_quiet_for_longest_goes_whatever_was_so_when_it_came() {
        let mut table = table(3, 3, &[(1, 10), (2, 20), (3, 30)]);
        table.get(&key(1, 10)).unwrap().used.store(40, Relaxed);
        assert_eq!(gone(&mut table, 4), Some(20));
        assert!(table.get(&key(2, 20)).is_none());
    }

    #[test]
    fn of_a_client_with_its_whole_share_its_own_goes() {
        let mut table = table(9, 2, &[(1, 10), (2, 20), (2, 30)]);
        assert_eq!(gone(&mut table, 2), Some(20));
        assert_eq!(gone(&mut table, 2), None);
    }

    #[test]
    fn where_both_sides_talk_nobody_goes() {
        let mut table = table(2, 2, &[(1, 10), (2, 20)]);
        table.get(&key(1, 10)).unwrap().talks.store(true, Relaxed);
        assert_eq!(gone(&mut table, 3), Some(20));
        table.insert(key(3, 50), Arc::default());
        table.get(&key(3, 50)).unwrap().talks.store(true, Relaxed);
        let refused = table.make_room(*key(4, 0).0.ip()).err();
        assert_eq!(refused.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn of_those_that_are_removed_nothing_is_left() {
        let mut table = table(2, 2, &[(1, 10), (1, 20)]);
        assert!(table.remove(&key(1, 10)).is_some() && table.remove(&key(1, 20)).is_some());
        assert!(table.remove(&key(1, 20)).is_none());
        assert!(table.known.is_empty() && table.quiet.is_empty() && table.clients.is_empty());
    }

    #[test]
    fn at_the_limit_not_all_are_looked_at_for_each_new_one() {
        const MANY: u16 = 2000;
        let mut table = table(MANY.into(), MANY.into(), &[]);
        for port in 0..MANY {
            table.insert(key((port % 8) as u8, port), Arc::default());
        }
        let flows: Vec<_> = table.known.values().map(|known| Arc::clone(&known.flow)).collect();
        let asked = || flows.iter().map(|flow| flow.asked.load(Relaxed)).sum::<u64>();
        let before = asked();
        for port in MANY..2 * MANY {
            assert!(table.make_room(Ipv4Addr::new(10, 0, 2, 9)).unwrap().is_some());
            let used = AtomicU64::new(1);
            table.insert(key(9, port), Arc::new(Flow { used, ..Flow::default() }));
        }
        assert_eq!(asked() - before, u64::from(MANY));
    }
}
