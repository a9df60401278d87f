//! A small cache of what upstream resolvers have said.

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use rustc_hash::FxHashMap;

use super::names::{Key, key};

const MAX_ENTRIES: usize = 4096;
/// Nothing is kept longer than this, whatever its TTL.
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    name: Key,
    kind: RecordType,
    dnssec: bool,
    unchecked: bool,
}

impl CacheKey {
    /// None for a query without exactly one question.
    pub(super) fn of(query: &Message) -> Option<Self> {
        let [question] = &query.queries[..] else { return None };
        Some(Self {
            name: key(question.name()),
            kind: question.query_type(),
            dnssec: query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            unchecked: query.metadata.checking_disabled,
        })
    }
}

#[derive(Debug)]
struct Entry {
    reply: Message,
    stored: Duration,
    until: Duration,
}

/// Times are the clock's monotonic readings.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: FxHashMap<CacheKey, Entry>,
}

impl Cache {
    /// The reply with its TTLs counted down.
    pub(super) fn get(&self, key: &CacheKey, now: Duration) -> Option<Message> {
        let entry = self.entries.get(key).filter(|entry| now < entry.until)?;
        let age = u32::try_from((now - entry.stored).as_secs()).unwrap_or(u32::MAX);
        let mut reply = entry.reply.clone();
        let count_down = |record: &mut Record| record.ttl = record.ttl.saturating_sub(age);
        reply.answers.iter_mut().for_each(count_down);
        reply.authorities.iter_mut().for_each(count_down);
        reply.additionals.iter_mut().for_each(count_down);
        Some(reply)
    }

    /// Keep a complete reply for as long as it says.
    pub(super) fn put(&mut self, key: CacheKey, reply: &Message, now: Duration) {
        let Some(ttl) = lifetime(reply).filter(|ttl| *ttl > 0) else { return };
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.retain(|_, entry| now < entry.until);
            if self.entries.len() >= MAX_ENTRIES {
                self.entries.clear();
            }
        }
        let until = now + LONGEST.min(Duration::from_secs(u64::from(ttl)));
        self.entries.insert(key, Entry { reply: reply.clone(), stored: now, until });
    }
}

/// For how many seconds a reply holds: the shortest TTL of its answers, and without any what the zone's SOA says
/// (RFC 2308, section 5). None when it must not be kept.
fn lifetime(reply: &Message) -> Option<u32> {
    if reply.metadata.truncation {
        return None;
    }
    let negative = || {
        reply.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(zone) => Some(record.ttl.min(zone.minimum)),
            _ => None,
        })
    };
    match reply.metadata.response_code {
        ResponseCode::NoError if !reply.answers.is_empty() => {
            reply.answers.iter().map(|record| record.ttl).min()
        }
        ResponseCode::NoError | ResponseCode::NXDomain => negative(),
        _ => None,
    }
}
