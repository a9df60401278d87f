//! Many writes in one durable transaction.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use heed::{PutFlags, RwTxn};

use crate::file::{LogFile, Outcome};
use crate::layout::{self, Logged, MAX_KEY_BYTES};
use crate::operation::{Kind, Refusal, Write};
use crate::recent::Place;
use crate::resealing::sealed;

/// Where the store stands before a batch.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub revision: u64,
    pub compacted: u64,
}

/// A write and its value, if there is one: head and tail.
pub type Valued<'a> = (Write, Option<(&'a [u8], &'a [u8])>);

/// A write that was done: its revision, the one that it replaced (0: none), and what was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub revision: u64,
    pub previous: u64,
    pub value: Bytes,
}

/// What the writes of one transaction share.
struct Batch<'w> {
    now: u64,
    compacted: u64,
    /// Where those stand that were written in it.
    places: HashMap<&'w [u8], Place>,
    /// A buffer.
    record: Vec<u8>,
}

impl LogFile {
    /// Applies the writes in their order, each at the next revision; a failed precondition fails its own write only.
    /// When this returns, they are durable, or none of them is there. `needed` are the revisions that a compaction
    /// under way must keep: those replaced are added. `now` is unix seconds. `fold`: so many keys that were written
    /// before may go into `current` with them.
    pub fn write(
        &mut self,
        writes: &[Valued<'_>],
        (standing, now): (Standing, u64),
        mut needed: Option<&mut HashSet<u64>>,
        fold: usize,
    ) -> Outcome<Vec<Result<Written, Refusal>>> {
        let mut txn = self.env.write_txn()?;
        let mut last = standing.revision;
        let mut batch =
            Batch { now, compacted: standing.compacted, places: HashMap::new(), record: Vec::new() };
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            let outcome = self.apply(&mut txn, write, last + 1, &mut batch)?;
            if let Ok(written) = &outcome {
                last = written.revision;
                if let Some(needed) = &mut needed {
                    needed.insert(written.previous);
                }
            }
            outcomes.push(outcome);
        }
        if last != standing.revision {
            let folded = self.fold(&mut txn, fold)?;
            self.meta.put(&mut txn, layout::META_REVISION, &layout::number(last))?;
            txn.commit()?;
            self.recent.folded(folded);
            self.recent.add(batch.places, last);
        }
        Ok(outcomes)
    }

    fn apply<'w>(
        &self,
        txn: &mut RwTxn<'_>,
        (write, value): &'w Valued<'_>,
        revision: u64,
        Batch { now, compacted, places, record }: &mut Batch<'w>,
    ) -> Outcome<Result<Written, Refusal>> {
        let key = write.key.as_bytes();
        if key.len() > MAX_KEY_BYTES {
            return Ok(Err(Refusal::Failed(format!("key too long: {}", write.key))));
        }
        let Some((head, tail)) = value else {
            return Ok(Err(Refusal::Unmade { key: write.key.clone() }));
        };
        record.clear();
        let found = places.get(key).map_or_else(|| self.standing(txn, key), |place| Ok(place.record()))?;
        let (previous, created) = found.map_or((0, revision), |found| (found.revision, found.created));
        if let Some(replaced) = found.filter(|found| found.revision <= *compacted && !found.value.is_empty())
        {
            // Compaction took or may take its record: reads in the window need the value.
            Logged { deleted: false, time: 0, previous: 0, key, value: replaced.value }.encode(record);
        }
        if let Some(refusal) = refusal(write, previous) {
            return Ok(Err(refusal));
        }
        if !record.is_empty() {
            self.log.put(txn, &layout::number(previous), record)?;
        }
        let value = rendered(head, revision, tail);
        let stored = self.encryption.seal(key, &value).map_err(|why| sealed(key, &why))?;
        let deleted = write.kind == Kind::Delete;
        Logged { deleted, time: *now, previous, key, value: &stored }.encode(record);
        self.log.put_with_flags(txn, PutFlags::APPEND, &layout::number(revision), record)?;
        places.insert(key, Place { revision, created: if deleted { 0 } else { created } });
        Ok(Ok(Written { revision, previous, value: value.into() }))
    }
}

fn rendered(head: &[u8], revision: u64, tail: &[u8]) -> Vec<u8> {
    let mut digits = itoa::Buffer::new();
    [head, digits.format(revision).as_bytes(), tail].concat()
}

/// Why the write may not happen; `found` is the key's revision, 0 when there is no such key.
fn refusal(write: &Write, found: u64) -> Option<Refusal> {
    let key = || write.key.clone();
    match write.kind {
        Kind::Create if found != 0 => Some(Refusal::KeyExists { key: key() }),
        Kind::Create => None,
        _ if found == 0 => Some(Refusal::KeyMissing { key: key() }),
        _ if found != write.expected => {
            Some(Refusal::Conflict { key: key(), expected: write.expected, actual: found })
        }
        _ => None,
    }
}
