//! What was written since `current` was brought up to date last: so much of it is in memory and in the log alone.
//!
//! New keys lie anywhere among the old ones, and each would dirty a page of `current` of its own in the commit that it
//! is in. Here they wait until there are many, and go into `current` in the order of its pages, a part with each commit.
//! A worked example, where three may wait:
//!
//! ```text
//! write      fresh            folding          current    indexed
//! c@1 a@2    c@1 a@2                                      0
//! b@3                         a@2 b@3 c@1                 0        a pass begins: it ends at 3
//! a@4        a@4              b@3 c@1          a@2        0        a commit takes a part along
//! d@5        a@4 d@5                           a@2 …      3        the pass is over
//! ```
//!
//! Whoever opens the file reads the log after `indexed` and knows the rest again.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use heed::RwTxn;

use crate::file::{Failure, LogFile, Outcome};
use crate::layout::{self, Current, Logged};

/// Of a pass, in a transaction that does nothing else.
const SLICE: usize = 512;

/// Where a key stands: its revision, and the one that made it, which is 0 where it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) revision: u64,
    pub(crate) created: u64,
}

impl Place {
    /// As `current` has it; its value is in the log.
    pub(crate) fn record(self) -> Option<Current<'static>> {
        let Self { revision, created } = self;
        (created != 0).then_some(Current { revision, created, value: b"" })
    }
}

#[derive(Default)]
pub(crate) struct Recent {
    /// Written since the pass under way began, or since the last one.
    fresh: HashMap<Box<[u8]>, Place>,
    /// What the pass under way has yet to put into `current`.
    folding: BTreeMap<Box<[u8]>, Place>,
    /// What `current` lacks was written after this revision; after `target` once the pass is over.
    indexed: u64,
    target: u64,
    /// So many may wait, or a batch more.
    most: usize,
}

impl Recent {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Place> {
        self.fresh.get(key).or_else(|| self.folding.get(key)).copied()
    }

    pub(crate) fn indexed(&self) -> u64 {
        self.indexed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.folding.is_empty()
    }

    /// Everything under a prefix, from a key on, in no order.
    pub(crate) fn under<'a>(
        &'a self,
        prefix: &'a [u8],
        begin: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Place)> {
        let older = self.folding.iter().filter(|(key, _)| !self.fresh.contains_key(*key));
        let all = self.fresh.iter().chain(older).map(|(key, place)| (&**key, *place));
        all.filter(move |(key, _)| key.starts_with(prefix) && *key >= begin)
    }

    /// What a commit has written, the last of it at `revision`.
    pub(crate) fn add<'a>(&mut self, written: impl IntoIterator<Item = (&'a [u8], Place)>, revision: u64) {
        self.fresh.extend(written.into_iter().map(|(key, place)| (key.into(), place)));
        if self.fresh.len() >= self.most {
            self.begin(revision);
        }
    }

    /// Begins a pass to the store's revision, unless one is under way, or there is nothing that `current` lacks.
    fn begin(&mut self, revision: u64) {
        if self.folding.is_empty() {
            self.folding = self.fresh.drain().collect();
            self.target = revision;
        }
        if self.folding.is_empty() {
            self.indexed = revision;
        }
    }

    /// So many of the pass are in `current` for good.
    pub(crate) fn folded(&mut self, count: usize) {
        for _ in 0..count {
            self.folding.pop_first();
        }
        if count > 0 && self.folding.is_empty() {
            self.indexed = self.target;
        }
    }
}

impl LogFile {
    /// A key's record as `current` would have it, were it up to date.
    pub(crate) fn standing<'t>(&self, txn: &'t heed::RoTxn<'_>, key: &[u8]) -> Outcome<Option<Current<'t>>> {
        if let Some(place) = self.recent.get(key) {
            return Ok(place.record());
        }
        let Some(raw) = self.current.get(txn, key)? else { return Ok(None) };
        Current::decode(raw).map(Some).ok_or_else(|| Failure::damaged("current"))
    }

    /// Learns from the log what `current` lacks. At most `most` will be kept from it.
    pub(crate) fn recall(&mut self, most: usize) -> Outcome<()> {
        let txn = self.env.read_txn()?;
        let indexed = self.meta.get(&txn, layout::META_INDEXED)?.map_or(0, layout::decode_number);
        self.recent = Recent { indexed, most, ..Recent::default() };
        let after = layout::number(indexed + 1);
        for item in self.log.range(&txn, &(Bound::Included(&after[..]), Bound::Unbounded))? {
            let (number, raw) = item?;
            let revision = layout::decode_number(number);
            let found = Logged::decode(raw).ok_or_else(|| Failure::damaged("log"))?;
            let created = match found {
                Logged { deleted: true, .. } => 0,
                Logged { previous: 0, .. } => revision,
                _ => self.standing(&txn, found.key)?.map_or(found.previous, |replaced| replaced.created),
            };
            self.recent.fresh.insert(found.key.into(), Place { revision, created });
        }
        Ok(())
    }

    /// Puts the next of the pass under way, at most so many, into `current`; how many those were is to be told to
    /// `folded` once the transaction is committed.
    pub(crate) fn fold(&self, txn: &mut RwTxn<'_>, most: usize) -> Outcome<usize> {
        let mut count = 0;
        for (key, place) in self.recent.folding.iter().take(most) {
            if let Some(record) = place.record() {
                self.current.put_reserved(txn, key, record.length(), |space| record.write(space))?;
            } else {
                self.current.delete(txn, key)?;
            }
            count += 1;
        }
        if count > 0 && count == self.recent.folding.len() {
            self.meta.put(txn, layout::META_INDEXED, &layout::number(self.recent.target))?;
        }
        Ok(count)
    }

    /// Brings `current` up to date a little further, in a transaction of its own. `newest` is the store's revision.
    pub(crate) fn fold_slice(&mut self, newest: u64) -> Outcome<()> {
        self.recent.begin(newest);
        let mut txn = self.env.write_txn()?;
        let count = self.fold(&mut txn, SLICE)?;
        txn.commit()?;
        self.recent.folded(count);
        Ok(())
    }
}
