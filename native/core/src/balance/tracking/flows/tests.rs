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

/// What the table says of the word of an IPv4 connection.
fn word(table: &FlowTable<Entry>, number: u64) -> Option<u64> {
    let short = key(number).short(&table.seeds);
    assert!(short.is_exact());
    table.word(short)
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
        let stays = number % 2 == 1;
        assert_eq!(table.get(&key(number), &guard).map(|found| found.number), stays.then_some(number));
        if !number.is_multiple_of(3) {
            assert_eq!(word(&table, number), stays.then_some(number * 2));
        }
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
    assert_eq!(word(&table, 1), Some(3));
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
                assert_eq!(table.get(&key(number), &guard).expect("it stays").number, number);
                if !number.is_multiple_of(3) {
                    assert!([number, 0].map(Some).contains(&word(&table, number)));
                }
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
    let words: Vec<Option<u64>> =
        (0..STAYING).filter(|one| one % 3 != 0).map(|one| word(&table, one)).collect();
    assert_eq!(words, (0..STAYING).filter(|one| one % 3 != 0).map(Some).collect::<Vec<_>>());
    assert_eq!(table.len(), STAYING as usize);
}

#[test]
fn who_is_there_is_found_though_a_writer_has_stopped_in_the_midst_of_a_change() {
    let (dropped, table) = (Arc::default(), FlowTable::new());
    let guard = table.guard();
    for number in [0, 1] {
        table.enter(entry(number, &dropped), number + 1, |_| true, &guard);
    }
    for number in [0, 1] {
        let (_, _, shard) = table.place(&key(number));
        let _writer = shard.writing.lock();
        shard.version.fetch_add(1, Relaxed);
        assert_eq!(table.get(&key(number), &guard).map(|found| *found.key()), Some(key(number)));
        if number == 1 {
            assert_eq!(word(&table, number), Some(0));
        }
        shard.version.fetch_add(1, Relaxed);
    }
}

#[test]
fn an_outgrown_array_is_empty_and_is_used_again() {
    for count in [FEWEST_SLOTS, HUGE_PAGE / std::mem::size_of::<Slot<Entry>>()] {
        let slots: Slots<Entry> = Slots::new(count);
        for round in 1..3 {
            slots.each().iter().for_each(|slot| slot.set([round, round], std::ptr::null_mut(), round));
            slots.clear();
            assert!(slots.each().iter().all(|slot| slot.short().is_none() && slot.word.load(Relaxed) == 0));
        }
    }
}

#[test]
fn a_table_that_grows_and_shrinks_has_one_array_of_each_size() {
    let (dropped, table) = (Arc::default(), FlowTable::new());
    let sizes = || -> Vec<Vec<usize>> {
        let of = |shard: &Shard<Entry>| {
            shard.writing.lock().arrays.iter().map(|array| array.each().len()).collect()
        };
        table.shards.iter().map(of).collect()
    };
    let mut first = None;
    for _ in 0..3 {
        for number in 0..5000 {
            table.enter(entry(number, &dropped), number, |_| true, &table.guard());
        }
        for number in 0..5000 {
            assert!(table.remove_if(&key(number), |_| true, &table.guard()).is_some());
        }
        assert_eq!(&sizes(), first.get_or_insert_with(sizes));
    }
    for sizes in sizes() {
        assert!(sizes.len() > 1 && sizes[0] == FEWEST_SLOTS, "{sizes:?}");
        assert!(sizes.windows(2).all(|two| two[1] == 2 * two[0]), "{sizes:?}");
    }
}
