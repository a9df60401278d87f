//! Reads, each within a transaction of its own: nothing is written meanwhile, since the same thread does both.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Bound;

use bytes::Bytes;
use heed::{RoTxn, WithoutTls};

use crate::file::{Failure, LogFile, Outcome};
use crate::layout::{self, Current, Logged};
use crate::operation::{Answer, Entry, Event, Page, Read, Refusal};
use crate::resealing::sealed;
use crate::writing::Standing;

impl LogFile {
    pub fn read(&self, read: &Read, standing: Standing) -> Outcome<Answer> {
        match read {
            Read::Get { key } => self.get(key),
            Read::List { prefix, start, limit, revision } => {
                let at = if *revision == 0 { standing.revision } else { *revision };
                if at > standing.revision {
                    return Ok(Refusal::yet_to_come(at, standing.revision).into());
                }
                if at < standing.compacted {
                    return Ok(Refusal::Compacted { revision: at, compacted: standing.compacted }.into());
                }
                let newest = at == standing.revision;
                self.list(prefix, start, *limit, (at, newest)).map(Answer::Page)
            }
            Read::Events { since, .. } if *since < standing.compacted => {
                Ok(Refusal::Compacted { revision: *since, compacted: standing.compacted }.into())
            }
            Read::Events { since, limit } => self.events(*since, *limit).map(Answer::Events),
        }
    }

    fn get(&self, key: &str) -> Outcome<Answer> {
        let txn = self.env.read_txn()?;
        let Some(found) = self.standing(&txn, key.as_bytes())? else { return Ok(Answer::Nothing) };
        let value = self.opened(key.as_bytes(), self.value(&txn, found)?)?;
        Ok(Answer::Stored { revision: found.revision, value })
    }

    /// The value of a record of `current`.
    fn value<'t>(&self, txn: &'t RoTxn<'_, WithoutTls>, current: Current<'t>) -> Outcome<&'t [u8]> {
        if !current.value.is_empty() {
            return Ok(current.value);
        }
        Ok(self.logged(txn, current.revision)?.value)
    }

    /// The log's record of a revision, which must be there.
    fn logged<'t>(&self, txn: &'t RoTxn<'_, WithoutTls>, revision: u64) -> Outcome<Logged<'t>> {
        let raw = self.log.get(txn, &layout::number(revision))?;
        let raw = raw.ok_or_else(|| Failure::Other(format!("the log lacks revision {revision}")))?;
        Logged::decode(raw).ok_or_else(|| Failure::damaged("log"))
    }

    /// Keys under `prefix` from `start` on, in byte order, at most `limit` (0: all), as of a revision, and whether that
    /// is now. Fails when the log lacks a value of that time.
    fn list(&self, prefix: &str, start: &str, limit: usize, (at, newest): (u64, bool)) -> Outcome<Page> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let txn = self.env.read_txn()?;
        let replaced = if newest { Vec::new() } else { self.replaced_since(&txn, prefix.as_bytes(), at)? };
        // One more than asked for tells where to go on.
        let enough = if replaced.is_empty() { limit.saturating_add(1) } else { usize::MAX };
        let begin = prefix.as_bytes().max(start.as_bytes());
        let recent: HashMap<_, _> = self.recent.under(prefix.as_bytes(), begin).collect();
        let mut entries = Vec::new();
        for item in self.current.range(&txn, &(Bound::Included(begin), Bound::Unbounded))? {
            let (key, raw) = item?;
            if !key.starts_with(prefix.as_bytes()) || entries.len() == enough {
                break;
            }
            if recent.contains_key(key) {
                continue;
            }
            let found = Current::decode(raw).ok_or_else(|| Failure::damaged("current"))?;
            if found.revision <= at {
                entries.push(self.entry(key, found.revision, self.value(&txn, found)?)?);
            }
        }
        let written = recent.iter().filter_map(|(key, place)| Some((*key, place.record()?)));
        let mut written: Vec<_> = written.filter(|(_, found)| found.revision <= at).collect();
        if written.len() > enough {
            // The others' values, which are in the log, need not be read.
            written.sort_unstable_by_key(|(key, _)| *key);
            written.truncate(enough);
        }
        for (key, found) in written {
            entries.push(self.entry(key, found.revision, self.value(&txn, found)?)?);
        }
        for &(key, previous) in replaced.iter().filter(|(key, previous)| *previous != 0 && *key >= begin) {
            entries.push(self.entry(key, previous, self.logged(&txn, previous)?.value)?);
        }
        if !replaced.is_empty() || !recent.is_empty() {
            entries.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let next = entries.get(limit).map(|more| more.key.clone());
        entries.truncate(limit);
        Ok(Page { revision: at, entries, next })
    }

    /// Keys written after `at`, with the revision they had then (0: they did not exist).
    fn replaced_since<'t>(
        &self,
        txn: &'t RoTxn<'_, WithoutTls>,
        prefix: &[u8],
        at: u64,
    ) -> Outcome<Vec<(&'t [u8], u64)>> {
        let (mut seen, mut replaced) = (HashSet::new(), Vec::new());
        let after = layout::number(at + 1);
        for item in self.log.range(txn, &(Bound::Included(&after[..]), Bound::Unbounded))? {
            let found = Logged::decode(item?.1).ok_or_else(|| Failure::damaged("log"))?;
            if found.key.starts_with(prefix) && seen.insert(found.key) {
                replaced.push((found.key, found.previous));
            }
        }
        Ok(replaced)
    }

    fn events(&self, since: u64, limit: usize) -> Outcome<Vec<Event>> {
        let txn = self.env.read_txn()?;
        let after = layout::number(since + 1);
        let range = self.log.range(&txn, &(Bound::Included(&after[..]), Bound::Unbounded))?;
        let mut events = Vec::new();
        for item in range.take(if limit == 0 { usize::MAX } else { limit }) {
            let (revision, raw) = item?;
            let found = Logged::decode(raw).ok_or_else(|| Failure::damaged("log"))?;
            events.push(Event {
                deleted: found.deleted,
                key: text(found.key)?,
                revision: layout::decode_number(revision),
                value: self.opened(found.key, found.value)?,
                previous: found.previous,
            });
        }
        Ok(events)
    }

    fn entry(&self, key: &[u8], revision: u64, stored: &[u8]) -> Outcome<Entry> {
        Ok(Entry { key: text(key)?, revision, value: self.opened(key, stored)? })
    }

    fn opened(&self, key: &[u8], stored: &[u8]) -> Outcome<Bytes> {
        match self.encryption.open(key, stored).map_err(|why| sealed(key, &why))? {
            Cow::Borrowed(value) => Ok(Bytes::copy_from_slice(value)),
            Cow::Owned(value) => Ok(value.into()),
        }
    }

    /// The last revision in (low, high] committed before `time` (unix seconds), else `low`; times never fall along the
    /// log.
    pub fn newest_before(&self, time: f64, low: u64, high: u64) -> Outcome<u64> {
        let txn = self.env.read_txn()?;
        let (mut low, mut high) = (low, high);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let raw = self.log.get(&txn, &layout::number(middle))?;
            let before = raw.and_then(Logged::decode).is_some_and(|found| (found.time as f64) < time);
            if before {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }
}

fn text(key: &[u8]) -> Outcome<String> {
    String::from_utf8(key.to_vec()).map_err(|_| Failure::damaged("a key"))
}
