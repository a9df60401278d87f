//! Tracked connections by what tells them apart, for look-ups among millions of them at random.
//!
//! A look-up takes no lock and reads one cache line: a slot of 32 bytes holds the key of an IPv4 connection (of IPv6 a
//! fingerprint, and the entry is asked whether it is the one), a pointer to the entry, and a word of the entry's own
//! choice. Slots are probed one after the other; what is removed leaves no gap. Writers of a shard come one at a time
//! and count its version up, once before and once after a change: a reader who sees it move reads again (a seqlock).
//! Entries and outgrown arrays are freed when no reader can hold them any more (`seize`).

use std::alloc::{self, Layout};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64, fence};

use parking_lot::{Mutex, MutexGuard};
use seize::{Collector, Guard, LocalGuard};

use super::key::{FlowKey, Short};

const SHARDS: usize = 16;
const FEWEST_SLOTS: usize = 64;
/// Reads of a shard that changes meanwhile before its writers are made to wait.
const TRIES: usize = 64;

pub(super) trait Keyed {
    fn key(&self) -> &FlowKey;
}

#[repr(C, align(32))]
struct Slot<V> {
    short: [AtomicU64; 2],
    value: AtomicPtr<V>,
    word: AtomicU64,
}

impl<V> Slot<V> {
    fn empty() -> Self {
        Self {
            short: [const { AtomicU64::new(0) }; 2],
            value: AtomicPtr::new(std::ptr::null_mut()),
            word: AtomicU64::new(0),
        }
    }

    fn short(&self) -> Option<Short> {
        Short::from_words([self.short[0].load(Relaxed), self.short[1].load(Relaxed)])
    }

    fn copy(&self, from: &Self) {
        self.set(
            from.short().map_or([0; 2], Short::words),
            from.value.load(Relaxed),
            from.word.load(Relaxed),
        );
    }

    fn set(&self, short: [u64; 2], value: *mut V, word: u64) {
        self.short[0].store(short[0], Relaxed);
        self.word.store(word, Relaxed);
        // A reader that sees the pointer sees the entry.
        self.value.store(value, Release);
        self.short[1].store(short[1], Relaxed);
    }
}

/// Arrays of this size and more are on huge pages where the kernel lets them: a look-up at random then seldom has to ask
/// for the page, too.
const HUGE_PAGE: usize = 2 << 20;

struct Slots<V>(NonNull<[Slot<V>]>);

impl<V> Slots<V> {
    fn new(count: usize) -> Self {
        let layout = Self::layout(count);
        // SAFETY: the layout's size is not zero.
        let Some(memory) = NonNull::new(unsafe { alloc::alloc(layout) }) else {
            alloc::handle_alloc_error(layout)
        };
        if layout.size() >= HUGE_PAGE {
            // SAFETY: the memory is ours; a refusal leaves small pages.
            unsafe { libc::madvise(memory.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        let first = memory.cast::<Slot<V>>();
        for at in 0..count {
            // SAFETY: within the memory that was just allocated for so many.
            unsafe { first.add(at).write(Slot::empty()) };
        }
        Self(NonNull::slice_from_raw_parts(first, count))
    }

    fn layout(count: usize) -> Layout {
        let layout = Layout::array::<Slot<V>>(count).and_then(|layout| {
            let alignment = if layout.size() >= HUGE_PAGE { HUGE_PAGE } else { layout.align() };
            layout.align_to(alignment)
        });
        layout.expect("no table has so many connections that their bytes overflow")
    }

    fn each(&self) -> &[Slot<V>] {
        // SAFETY: written by `new`, and freed when this is dropped.
        unsafe { self.0.as_ref() }
    }

    fn mask(&self) -> usize {
        self.0.len() - 1
    }

    /// Where `wanted` says yes among the slots that a key of this hash may be in, or the first empty one.
    fn probe(&self, hash: u64, wanted: impl Fn(&Slot<V>, Short) -> bool) -> (usize, bool) {
        let mut at = hash as usize & self.mask();
        loop {
            match self.each()[at].short() {
                None => return (at, false),
                Some(short) if wanted(&self.each()[at], short) => return (at, true),
                Some(_) => at = (at + 1) & self.mask(),
            }
        }
    }

    /// Empties a slot and moves up what would not be found any more behind it.
    fn vacate(&self, mut hole: usize, seeds: &[u64; 2]) {
        let mut next = hole;
        loop {
            next = (next + 1) & self.mask();
            let Some(short) = self.each()[next].short() else { break };
            let home = short.hash(seeds) as usize & self.mask();
            let from_home = next.wrapping_sub(home) & self.mask();
            if from_home >= next.wrapping_sub(hole) & self.mask() {
                self.each()[hole].copy(&self.each()[next]);
                hole = next;
            }
        }
        self.each()[hole].set([0; 2], std::ptr::null_mut(), 0);
    }
}

impl<V> Drop for Slots<V> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout; slots have nothing to drop.
        unsafe { alloc::dealloc(self.0.as_ptr().cast(), Self::layout(self.0.len())) };
    }
}

#[repr(align(128))]
struct Shard<V> {
    /// Odd while a writer is at it.
    version: AtomicU64,
    slots: AtomicPtr<Slots<V>>,
    /// How many slots are in use.
    writing: Mutex<usize>,
}

/// An entry, and the word that was given with it.
pub(super) struct Found<'g, V> {
    pub(super) value: &'g V,
    pub(super) word: u64,
}

impl<V: Keyed> Shard<V> {
    fn new() -> Self {
        let slots = Box::into_raw(Box::new(Slots::new(FEWEST_SLOTS)));
        Self { version: AtomicU64::new(0), slots: AtomicPtr::new(slots), writing: Mutex::new(0) }
    }

    fn slots<'g>(&self, guard: &'g LocalGuard<'_>) -> &'g Slots<V> {
        // SAFETY: never null, and an array that is replaced is retired only: it lives as long as the guard.
        unsafe { &*guard.protect(&self.slots, Acquire) }
    }

    /// Without regard to writers; for a reader the version tells whether to believe it.
    fn look<'g>(
        &self,
        key: &FlowKey,
        short: Short,
        hash: u64,
        guard: &'g LocalGuard<'_>,
    ) -> Option<Found<'g, V>> {
        let slots = self.slots(guard);
        let mut at = hash as usize & slots.mask();
        for _ in 0..slots.each().len() {
            let slot = &slots.each()[at];
            if slot.short()? == short {
                // SAFETY: null or an entry that was in the table under this guard: those are retired, never freed.
                let value = unsafe { guard.protect(&slot.value, Acquire).as_ref() };
                let found = value.filter(|value| short.is_exact() || value.key() == key);
                if let Some(value) = found {
                    return Some(Found { value, word: slot.word.load(Relaxed) });
                }
            }
            at = (at + 1) & slots.mask();
        }
        None
    }

    /// Run `change` between the two counts that tell readers of it.
    fn change(&self, change: impl FnOnce()) {
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        fence(Release);
        change();
        self.version.store(version + 2, Release);
    }

    /// Fit the array to `used` slots: at most three quarters full, at least an eighth once it has grown.
    fn fit(&self, used: usize, seeds: &[u64; 2], guard: &LocalGuard<'_>) {
        let old = self.slots(guard);
        let count = match old.each().len() {
            count if used * 4 > count * 3 => count * 2,
            count if used * 8 < count && count > FEWEST_SLOTS => count / 2,
            _ => return,
        };
        let new = Slots::new(count);
        for slot in old.each() {
            let Some(short) = slot.short() else { continue };
            let (at, _) = new.probe(short.hash(seeds), |_, _| false);
            new.each()[at].copy(slot);
        }
        let new = Box::into_raw(Box::new(new));
        self.change(|| self.slots.store(new, Release));
        let old = std::ptr::from_ref(old).cast_mut();
        // SAFETY: made by Box::into_raw and out of everybody's reach from here on but for guards that are held.
        unsafe { guard.defer_retire(old, |old, _| drop(Box::from_raw(old))) };
    }
}

pub(super) struct FlowTable<V: Keyed> {
    shards: Box<[Shard<V>]>,
    collector: Collector,
    /// Nobody outside can choose connections that crowd one place.
    seeds: [u64; 2],
}

impl<V: Keyed> FlowTable<V> {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
            collector: Collector::new(),
            seeds: rand::random(),
        }
    }

    /// What look-ups give lives as long as this.
    pub(super) fn guard(&self) -> LocalGuard<'_> {
        self.collector.enter()
    }

    fn place(&self, key: &FlowKey) -> (Short, u64, &Shard<V>) {
        let short = key.short(&self.seeds);
        let hash = short.hash(&self.seeds);
        (short, hash, &self.shards[(hash >> 60) as usize % SHARDS])
    }

    pub(super) fn find<'g>(&self, key: &FlowKey, guard: &'g LocalGuard<'_>) -> Option<Found<'g, V>> {
        let (short, hash, shard) = self.place(key);
        for _ in 0..TRIES {
            let version = shard.version.load(Acquire);
            if version.is_multiple_of(2) {
                let found = shard.look(key, short, hash, guard);
                fence(Acquire);
                if shard.version.load(Relaxed) == version {
                    return found;
                }
            }
            std::hint::spin_loop();
        }
        let _writers_wait = shard.writing.lock();
        shard.look(key, short, hash, guard)
    }

    pub(super) fn get<'g>(&self, key: &FlowKey, guard: &'g LocalGuard<'_>) -> Option<&'g V> {
        self.find(key, guard).map(|found| found.value)
    }

    fn occupied(
        &self,
        key: &FlowKey,
        guard: &LocalGuard<'_>,
    ) -> (MutexGuard<'_, usize>, &Shard<V>, Option<(usize, *mut V)>) {
        let (short, hash, shard) = self.place(key);
        let used = shard.writing.lock();
        let (at, there) = shard.slots(guard).probe(hash, |slot, found| {
            // SAFETY: a slot in use has an entry, and entries are taken out under the lock that is held here.
            found == short && (short.is_exact() || unsafe { &*slot.value.load(Relaxed) }.key() == key)
        });
        let value = shard.slots(guard).each()[at].value.load(Relaxed);
        (used, shard, there.then_some((at, value)))
    }

    /// Enter `value` with its word, unless `keep` says of one that is there that it stays; returns what is there then.
    /// The one that had to go is retired.
    pub(super) fn enter<'g>(
        &self,
        value: Arc<V>,
        word: u64,
        keep: impl FnOnce(&V) -> bool,
        guard: &'g LocalGuard<'_>,
    ) -> (&'g V, Option<&'g V>) {
        let key = *value.key();
        let (mut used, shard, present) = self.occupied(&key, guard);
        // SAFETY: it is in the table, which holds it at least as long as the guard lives.
        let old = present.map(|(_, old)| unsafe { &*old });
        if let Some(old) = old.filter(|old| keep(old)) {
            return (old, None);
        }
        let entered = Arc::into_raw(value).cast_mut();
        let (short, hash, _) = self.place(&key);
        if old.is_none() {
            *used += 1;
            shard.fit(*used, &self.seeds, guard);
        }
        let slots = shard.slots(guard);
        let at = present.map_or_else(|| slots.probe(hash, |_, _| false).0, |(at, _)| at);
        shard.change(|| slots.each()[at].set(short.words(), entered, word));
        if let Some(old) = old {
            self.retire(old, guard);
        }
        // SAFETY: entered just now; removing it retires it only.
        (unsafe { &*entered }, old)
    }

    /// Take the one with this key out if `which` says so of it.
    pub(super) fn remove_if<'g>(
        &self,
        key: &FlowKey,
        which: impl FnOnce(&V) -> bool,
        guard: &'g LocalGuard<'_>,
    ) -> Option<&'g V> {
        let (mut used, shard, present) = self.occupied(key, guard);
        let (at, value) = present?;
        // SAFETY: as in `enter`.
        let value = unsafe { &*value };
        if !which(value) {
            return None;
        }
        let slots = shard.slots(guard);
        shard.change(|| slots.vacate(at, &self.seeds));
        *used -= 1;
        shard.fit(*used, &self.seeds, guard);
        self.retire(value, guard);
        Some(value)
    }

    fn retire(&self, value: &V, guard: &LocalGuard<'_>) {
        let value = std::ptr::from_ref(value).cast_mut();
        // SAFETY: made by Arc::into_raw, and no longer in the table.
        unsafe { guard.defer_retire(value, |value, _| drop(Arc::from_raw(value.cast_const()))) };
    }

    /// All there are, in no order.
    pub(super) fn all<'g>(&self, guard: &'g LocalGuard<'_>) -> Vec<&'g V> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let _writers_wait = shard.writing.lock();
            let slots = shard.slots(guard).each().iter();
            let values = slots.filter(|slot| slot.short().is_some()).map(|slot| slot.value.load(Relaxed));
            // SAFETY: as in `enter`.
            found.extend(values.map(|value| unsafe { &*value }));
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| *shard.writing.lock()).sum()
    }
}

impl<V: Keyed> Default for FlowTable<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Keyed> Drop for FlowTable<V> {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            // SAFETY: nobody else can reach the table; the array came from Box::into_raw, its entries from Arcs.
            let slots = unsafe { Box::from_raw(*shard.slots.get_mut()) };
            for slot in slots.each().iter().filter(|slot| slot.short().is_some()) {
                drop(unsafe { Arc::from_raw(slot.value.load(Relaxed).cast_const()) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
