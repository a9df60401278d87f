//! Tracked connections by what tells them apart, for look-ups among millions of them at random.
//!
//! A look-up takes no lock and reads one cache line: a slot of 32 bytes holds the key of an IPv4 connection (of IPv6 a
//! fingerprint, and the entry is asked whether it is the one), a pointer to the entry, and a word of the entry's own
//! choice. Slots are probed one after the other; what is removed leaves no gap. Writers of a shard come one at a time
//! and count its version up, once before and once after a change: a reader who sees it move reads again (a seqlock), and
//! asks the entries themselves where a writer has stopped in between: who is there is found without a wait for anybody.
//! Entries are freed when no reader can hold them any more (`seize`). Arrays stay as long as the table, those outgrown
//! without their memory: who asks for the word alone holds nothing, and writes nothing, so that the processor fetches
//! the line of the next look-up before this one's has come.

use std::alloc::{self, Layout};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64, fence};

use parking_lot::{Mutex, MutexGuard};
use seize::{Collector, Guard, LocalGuard};

use super::key::{FlowKey, Short};

/// By the upper four bits of a hash.
const SHARDS: usize = 16;
const FEWEST_SLOTS: usize = 64;
/// Slots of two cache lines, which come together.
const RUN: usize = 4;
/// Reads of a shard that changes meanwhile before its entries are asked.
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

    fn is(&self, wanted: Short) -> bool {
        let [first, second] = wanted.words();
        (self.short[0].load(Relaxed) ^ first) | (self.short[1].load(Relaxed) ^ second) == 0
    }

    fn clear(&self) {
        self.set([0; 2], std::ptr::null_mut(), 0);
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
            let alignment = if layout.size() >= HUGE_PAGE { HUGE_PAGE } else { RUN * layout.align() };
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

    /// Where a key of this hash is looked for first: at the beginning of a run.
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask() & !(RUN - 1)
    }

    /// Each slot once, from where a key of this hash is looked for first.
    fn along(&self, hash: u64) -> impl Iterator<Item = &Slot<V>> {
        let (before, from_there) = self.each().split_at(self.home(hash));
        from_there.iter().chain(before)
    }

    /// The word beside `wanted`. Which slot of a run it is in no processor can guess, and one that has guessed wrong
    /// begins what comes next anew once the line is there: so all are looked at, and which is taken depends on no branch.
    #[inline]
    fn word(&self, wanted: Short, hash: u64) -> Option<u64> {
        let (runs, _) = self.each().as_chunks::<RUN>();
        let mut at = self.home(hash) / RUN;
        loop {
            let run = &runs[at];
            // One more than the slot's number: what is added up leaves the compiler no branch to make of it.
            let found: usize = run
                .iter()
                .enumerate()
                .map(|(number, slot)| (number + 1) * usize::from(slot.is(wanted)))
                .sum();
            if found > 0 {
                return Some(run[(found - 1) % RUN].word.load(Relaxed));
            }
            // There always is an empty one: arrays are three quarters full at most.
            if run.iter().any(|slot| slot.short().is_none()) {
                return None;
            }
            at = (at + 1) & (runs.len() - 1);
        }
    }

    /// Where `wanted` says yes among the slots that a key of this hash may be in, or the first empty one.
    fn probe(&self, hash: u64, wanted: impl Fn(&Slot<V>, Short) -> bool) -> (usize, bool) {
        let mut at = self.home(hash);
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
            let home = self.home(short.hash(seeds));
            let from_home = next.wrapping_sub(home) & self.mask();
            if from_home >= next.wrapping_sub(hole) & self.mask() {
                self.each()[hole].copy(&self.each()[next]);
                hole = next;
            }
        }
        self.each()[hole].clear();
    }

    /// Empty all slots; those of a large array give their memory back until they are written again.
    fn clear(&self) {
        let bytes = std::mem::size_of_val(self.each());
        // SAFETY: the memory is ours, private and of whole pages; what is read from it from now on is zeroes, which is an
        // empty slot's.
        let given_back = bytes >= HUGE_PAGE
            && unsafe { libc::madvise(self.0.as_ptr().cast(), bytes, libc::MADV_DONTNEED) } == 0;
        if !given_back {
            self.each().iter().for_each(Slot::clear);
        }
    }
}

// SAFETY: slots are atomics, and the entries they point at are shared among threads.
unsafe impl<V: Send + Sync> Send for Slots<V> {}
// SAFETY: as above.
unsafe impl<V: Send + Sync> Sync for Slots<V> {}

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
    /// One of the writer's arrays.
    slots: AtomicPtr<Slots<V>>,
    writing: Mutex<Writing<V>>,
}

struct Writing<V> {
    /// How many slots are in use.
    used: usize,
    /// One of each size there has been: readers may look at any of them.
    arrays: Vec<Arc<Slots<V>>>,
}

impl<V: Keyed> Shard<V> {
    fn new() -> Self {
        let slots = Arc::new(Slots::new(FEWEST_SLOTS));
        Self {
            version: AtomicU64::new(0),
            slots: AtomicPtr::new(Arc::as_ptr(&slots).cast_mut()),
            writing: Mutex::new(Writing { used: 0, arrays: vec![slots] }),
        }
    }

    fn slots(&self) -> &Slots<V> {
        // SAFETY: never null, and arrays live as long as the shard.
        unsafe { &*self.slots.load(Acquire) }
    }

    /// What `look` makes of the slots while no writer is at them. None: one is, each time.
    #[inline]
    fn read<T>(&self, look: impl Fn(&Slots<V>) -> T) -> Option<T> {
        self.try_read(&look).or_else(|| self.read_again(look))
    }

    #[inline(always)]
    fn try_read<T>(&self, look: impl Fn(&Slots<V>) -> T) -> Option<T> {
        let version = self.version.load(Acquire);
        if !version.is_multiple_of(2) {
            return None;
        }
        let found = look(self.slots());
        fence(Acquire);
        (self.version.load(Relaxed) == version).then_some(found)
    }

    #[cold]
    #[inline(never)]
    fn read_again<T>(&self, look: impl Fn(&Slots<V>) -> T) -> Option<T> {
        (0..TRIES).find_map(|_| {
            std::hint::spin_loop();
            self.try_read(&look)
        })
    }

    /// Run `change` between the two counts that tell readers of it.
    fn change(&self, change: impl FnOnce()) {
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        fence(Release);
        change();
        self.version.store(version + 2, Release);
    }

    /// Fit the array to the slots in use: at most three quarters full, at least an eighth once it has grown.
    fn fit(&self, writing: &mut Writing<V>, seeds: &[u64; 2]) {
        let old = self.slots();
        let count = match old.each().len() {
            count if writing.used * 4 > count * 3 => count * 2,
            count if writing.used * 8 < count && count > FEWEST_SLOTS => count / 2,
            _ => return,
        };
        let new = writing.of_size(count);
        // Who still reads in an array of former times sees that the version has moved since.
        fence(Release);
        for slot in old.each() {
            let Some(short) = slot.short() else { continue };
            let (at, _) = new.probe(short.hash(seeds), |_, _| false);
            new.each()[at].copy(slot);
        }
        self.change(|| self.slots.store(Arc::as_ptr(&new).cast_mut(), Release));
        old.clear();
    }
}

impl<V> Writing<V> {
    /// An array of so many slots, all empty.
    fn of_size(&mut self, count: usize) -> Arc<Slots<V>> {
        if let Some(there) = self.arrays.iter().find(|slots| slots.each().len() == count) {
            return Arc::clone(there);
        }
        let new = Arc::new(Slots::new(count));
        self.arrays.push(Arc::clone(&new));
        new
    }
}

/// A shard that nobody else changes meanwhile, and where in it an entry is, if it is.
type Occupied<'t, V> = (MutexGuard<'t, Writing<V>>, &'t Shard<V>, Option<(usize, *mut V)>);

pub(super) struct FlowTable<V: Keyed> {
    shards: Box<[Shard<V>; SHARDS]>,
    collector: Collector,
    /// Nobody outside can choose connections that crowd one place.
    seeds: [u64; 2],
}

impl<V: Keyed> FlowTable<V> {
    pub(super) fn new() -> Self {
        Self {
            shards: Box::new(std::array::from_fn(|_| Shard::new())),
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
        (short, hash, self.shard(hash))
    }

    fn shard(&self, hash: u64) -> &Shard<V> {
        &self.shards[(hash >> 60) as usize]
    }

    pub(super) fn get<'g>(&self, key: &FlowKey, guard: &'g LocalGuard<'_>) -> Option<&'g V> {
        let (short, hash, shard) = self.place(key);
        let find = |slots: &Slots<V>, exact: bool| {
            slots.along(hash).take_while(|slot| slot.short().is_some()).find_map(|slot| {
                let value = (slot.short() == Some(short)).then(|| guard.protect(&slot.value, Acquire))?;
                // SAFETY: null or an entry that was in the table under this guard: those are retired, never freed.
                unsafe { value.as_ref() }.filter(|value| exact || value.key() == key)
            })
        };
        if let Some(found) = shard.read(|slots| find(slots, short.is_exact())) {
            return found;
        }
        // A writer has stopped in the midst of a change. An entry that says itself that it is the one is the one; only
        // that there is none is not known before that writer has come to an end.
        find(shard.slots(), false).or_else(|| {
            let _writers_wait = shard.writing.lock();
            find(shard.slots(), short.is_exact())
        })
    }

    /// The word of the entry whose key is `exact`; 0, too, while a writer is in the midst of a change.
    #[inline]
    pub(super) fn word(&self, exact: Short) -> Option<u64> {
        let hash = exact.hash(&self.seeds);
        self.shard(hash).read(|slots| slots.word(exact, hash)).unwrap_or(Some(0))
    }

    fn occupied(&self, key: &FlowKey) -> Occupied<'_, V> {
        let (short, hash, shard) = self.place(key);
        let writing = shard.writing.lock();
        let (at, there) = shard.slots().probe(hash, |slot, found| {
            // SAFETY: a slot in use has an entry, and entries are taken out under the lock that is held here.
            found == short && (short.is_exact() || unsafe { &*slot.value.load(Relaxed) }.key() == key)
        });
        let value = shard.slots().each()[at].value.load(Relaxed);
        (writing, shard, there.then_some((at, value)))
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
        let (mut writing, shard, present) = self.occupied(&key);
        // SAFETY: it is in the table, which holds it at least as long as the guard lives.
        let old = present.map(|(_, old)| unsafe { &*old });
        if let Some(old) = old.filter(|old| keep(old)) {
            return (old, None);
        }
        let entered = Arc::into_raw(value).cast_mut();
        let (short, hash, _) = self.place(&key);
        if old.is_none() {
            writing.used += 1;
            shard.fit(&mut writing, &self.seeds);
        }
        let slots = shard.slots();
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
        let (mut writing, shard, present) = self.occupied(key);
        let (at, value) = present?;
        // SAFETY: as in `enter`.
        let value = unsafe { &*value };
        if !which(value) {
            return None;
        }
        let slots = shard.slots();
        shard.change(|| slots.vacate(at, &self.seeds));
        writing.used -= 1;
        shard.fit(&mut writing, &self.seeds);
        self.retire(value, guard);
        Some(value)
    }

    fn retire(&self, value: &V, guard: &LocalGuard<'_>) {
        let value = std::ptr::from_ref(value).cast_mut();
        // SAFETY: made by Arc::into_raw, and no longer in the table.
        unsafe { guard.defer_retire(value, |value, _| drop(Arc::from_raw(value.cast_const()))) };
    }

    /// All there are, in no order.
    pub(super) fn all<'g>(&self, _guard: &'g LocalGuard<'_>) -> Vec<&'g V> {
        let mut found = Vec::new();
        for shard in self.shards.iter() {
            let _writers_wait = shard.writing.lock();
            let slots = shard.slots().each().iter();
            let values = slots.filter(|slot| slot.short().is_some()).map(|slot| slot.value.load(Relaxed));
            // SAFETY: as in `enter`.
            found.extend(values.map(|value| unsafe { &*value }));
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.writing.lock().used).sum()
    }
}

impl<V: Keyed> Default for FlowTable<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Keyed> Drop for FlowTable<V> {
    fn drop(&mut self) {
        for shard in self.shards.iter() {
            // Nobody else can reach the table; its entries came from Arcs.
            for slot in shard.slots().each().iter().filter(|slot| slot.short().is_some()) {
                // SAFETY: as said.
                drop(unsafe { Arc::from_raw(slot.value.load(Relaxed).cast_const()) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
