use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use crate::balance::flow::Protocol;

struct Entry {
    key: FlowKey,
    number: u64,
    dropped: Arc<AtomicUsize>,
}

impl Keyed for Entry {
    fn key(&self) -> &FlowKey {
        &self.key
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Relaxed);
    }
}

/// Every third is of IPv6.
fn key(number: u64) -> FlowKey {
    let (ip, port) = (number as u32, (number % 7) as u16 + 1);
    let client = if number.is_multiple_of(3) {
        SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, (ip >> 16) as u16, ip as u16], port))
    } else {
        SocketAddr::from((ip.to_be_bytes(), port))
    };
    let target = if number.is_multiple_of(3) { "[fd00::96]:80" } else { "10.96.0.1:80" };
    FlowKey::new(Protocol::Tcp, client, target.parse().unwrap())
}

fn entry(number: u64, dropped: &Arc<AtomicUsize>) -> Arc<Entry> {
    Arc::new(Entry { key: key(number), number, dropped: Arc::clone(dropped) })
}

#[test]
fn what_was_entered_is_found_until_it_is_removed_and_freed_once() {
    const COUNT: u64 = 5000;
    let dropped = Arc::default();
    let table = FlowTable::new();
    for number in 0..COUNT {
        table.enter(entry(number, &dropped), number * 2, |_| true, &table.guard());
    }
    assert_eq!(table.len(), COUNT as usize);
    for number in (0..COUNT).step_by(2) {
        let guard = table.guard();
        assert!(table.remove_if(&key(number), |found| found.number != number, &guard).is_none());
        assert_eq!(table.remove_if(&key(number), |_| true, &guard).unwrap().number, number);
    }
    let guard = table.guard();
    for number in 0..COUNT {
        let found = table.find(&key(number), &guard).map(|found| (found.value.number, found.word));
        assert_eq!(found, (number % 2 == 1).then_some((number, number * 2)));
    }
    assert_eq!((table.len(), table.all(&guard).len()), (2500, 2500));
    drop(guard);
    drop(table);
    assert_eq!(dropped.load(Relaxed), COUNT as usize);
}

#[test]
fn one_that_is_there_stays_if_it_is_to_be_kept_and_is_replaced_otherwise() {
    let dropped = Arc::default();
    let table = FlowTable::new();
    let guard = table.guard();
    let first = std::ptr::from_ref(table.enter(entry(1, &dropped), 1, |_| true, &guard).0);
    let (kept, old) = table.enter(entry(1, &dropped), 2, |_| true, &guard);
    assert!(std::ptr::eq(kept, first) && old.is_none());
    let (new, old) = table.enter(entry(1, &dropped), 3, |_| false, &guard);
    assert!(!std::ptr::eq(new, first) && old.is_some_and(|old| std::ptr::eq(old, first)));
    assert_eq!(table.find(&key(1), &guard).unwrap().word, 3);
    assert_eq!(table.len(), 1);
}

#[test]
fn readers_always_find_what_stays_while_others_come_and_go() {
    const STAYING: u64 = 300;
    let (dropped, over) = (Arc::default(), AtomicBool::new(false));
    let table = FlowTable::new();
    for number in 0..STAYING {
        table.enter(entry(number, &dropped), number, |_| true, &table.guard());
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !over.load(Relaxed) || reads < STAYING {
                let number = reads % STAYING;
                let guard = table.guard();
                let found = table.find(&key(number), &guard).expect("it stays");
                assert_eq!((found.value.number, found.word), (number, number));
                reads += 1;
            }
        });
        for round in 0..20 {
            for number in STAYING..STAYING + 3000 {
                table.enter(entry(number, &dropped), round, |_| true, &table.guard());
            }
            for number in STAYING..STAYING + 3000 {
                assert!(table.remove_if(&key(number), |_| true, &table.guard()).is_some());
            }
        }
        over.store(true, Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(table.len(), STAYING as usize);
}
