//! From a query's bytes to the answer's bytes.

use std::mem;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rustc_hash::FxHashSet;

use super::table::{Found, Table};

/// What every resolver takes without asking (RFC 1035), and the most sent over UDP to one that asks for more.
const PLAIN_UDP: usize = 512;
const LARGEST_UDP: u16 = 4096;
/// The size we ask of others (DNS flag day 2020).
const OWN_PAYLOAD: u16 = 1232;
const LONGEST_CHAIN: usize = 8;
const HEADER_BYTES: usize = 12;

/// What is to be done about a query.
pub(super) enum Outcome {
    /// Not a query at all.
    Drop,
    Reply(Vec<u8>),
    /// Not ours: ask an upstream resolver.
    Forward(Box<Message>),
    /// Ours up to an alias that leads out: ask for `target` and put its records behind ours.
    Follow {
        reply: Box<Message>,
        target: Name,
        limit: usize,
    },
    /// Not there, and the first name of a search: `names` are the others, `reply` says that it is not there.
    Search {
        reply: Box<Message>,
        names: Vec<Name>,
        limit: usize,
    },
}

/// Who asks, and whether names outside the tables can be asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asker {
    pub address: Option<IpAddr>,
    pub recursive: bool,
}

/// How much an answer may be; `None` is TCP.
pub(super) fn limit(query: &Message, udp: bool) -> usize {
    if !udp {
        return usize::from(u16::MAX);
    }
    let asked = query.edns.as_ref().map_or(0, Edns::max_payload);
    usize::from(asked.min(LARGEST_UDP)).max(PLAIN_UDP)
}

/// A reply to `query` without records yet.
pub(super) fn reply_to(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.response_code = code;
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.checking_disabled = query.metadata.checking_disabled;
    reply.add_queries(query.queries.iter().cloned());
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_PAYLOAD);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        reply.set_edns(edns);
    }
    reply
}

/// Why a well-formed message gets no look-up.
fn refusal(query: &Message) -> Option<ResponseCode> {
    if query.metadata.op_code != OpCode::Query {
        return Some(ResponseCode::NotImp);
    }
    let [question] = &query.queries[..] else { return Some(ResponseCode::FormErr) };
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Some(ResponseCode::BADVERS);
    }
    if question.query_class() != DNSClass::IN {
        return Some(ResponseCode::Refused);
    }
    matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR).then_some(ResponseCode::Refused)
}

/// Answer from the table.
pub(super) fn answer(table: &Table, wire: &[u8], udp: bool, asker: Asker) -> Outcome {
    let Ok(query) = Message::from_vec(wire) else { return malformed(wire) };
    if query.metadata.message_type == MessageType::Response {
        return Outcome::Drop;
    }
    let limit = limit(&query, udp);
    if let Some(code) = refusal(&query) {
        return finish(&reply_to(&query, code), limit);
    }
    let Some(question) = query.queries.first() else { return Outcome::Drop };
    if table.is_unknown_yet(question.name()) {
        return finish(&reply_to(&query, ResponseCode::ServFail), limit);
    }
    let mut reply = reply_to(&query, ResponseCode::NoError);
    reply.metadata.recursion_available = asker.recursive;
    reply.metadata.authoritative = true;
    match resolve(table, question, &mut reply) {
        Resolved::Elsewhere => Outcome::Forward(Box::new(query)),
        Resolved::Leads(target) if asker.recursive => {
            Outcome::Follow { reply: Box::new(reply), target, limit }
        }
        Resolved::Done if reply.metadata.response_code == ResponseCode::NXDomain => {
            let next = |client| {
                table.search().next_names(client, question.name(), question.query_type(), table.domain())
            };
            match asker.address.and_then(next) {
                Some(names) => Outcome::Search { reply: Box::new(reply), names, limit },
                None => finish(&reply, limit),
            }
        }
        Resolved::Leads(_) | Resolved::Done => finish(&reply, limit),
    }
}

impl Table {
    /// The answer to a message from here alone; None when it is not ours to answer, or no query at all.
    pub fn answer(&self, query: &[u8], udp: bool) -> Option<Vec<u8>> {
        match answer(self, query, udp, Asker::default()) {
            Outcome::Reply(reply) => Some(reply),
            // who asks is not known: nothing is searched
            Outcome::Drop | Outcome::Forward(_) | Outcome::Follow { .. } | Outcome::Search { .. } => None,
        }
    }
}

pub(super) enum Resolved {
    Done,
    Elsewhere,
    /// An alias leads out of our names.
    Leads(Name),
}

/// Put what the table knows of the question into `reply`.
pub(super) fn resolve(table: &Table, question: &Query, reply: &mut Message) -> Resolved {
    let kind = question.query_type();
    let mut name = question.name().clone();
    let mut aliases = Vec::new();
    for step in 0..LONGEST_CHAIN {
        let records = match table.find(&name, kind) {
            Found::Records(records) => records,
            Found::Elsewhere if step == 0 => return Resolved::Elsewhere,
            Found::Elsewhere => return Resolved::Leads(name),
            missing => {
                if missing == Found::NoName {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                }
                reply.add_authority(table.soa());
                return Resolved::Done;
            }
        };
        let alias = records.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if kind != RecordType::CNAME && kind != RecordType::ANY => {
                Some(target.0.clone())
            }
            _ => None,
        });
        add_answers(table, reply, &name, records);
        match alias {
            Some(target) => aliases.push(mem::replace(&mut name, target)),
            None => return Resolved::Done,
        }
        // They lead in circles.
        if aliases.contains(&name) {
            return Resolved::Done;
        }
    }
    Resolved::Done
}

/// Answers under the name as it was asked (letter case included), addresses in another order each time, and the
/// addresses of SRV targets beside them.
fn add_answers(table: &Table, reply: &mut Message, name: &Name, mut records: Vec<Record>) {
    if records.len() > 1 {
        let turn = rand::random_range(0..records.len());
        records.rotate_left(turn);
    }
    let mut targets = FxHashSet::default();
    for mut record in records {
        if let RData::SRV(service) = &record.data
            && targets.insert(service.target.clone())
        {
            for kind in [RecordType::A, RecordType::AAAA] {
                if let Found::Records(addresses) = table.find(&service.target, kind) {
                    reply.add_additionals(addresses);
                }
            }
        }
        record.name = name.clone();
        reply.add_answer(record);
    }
}

fn malformed(wire: &[u8]) -> Outcome {
    let (Some(&[high, low]), Some(flags)) = (wire.first_chunk::<2>(), wire.get(2)) else {
        return Outcome::Drop;
    };
    if wire.len() < HEADER_BYTES || flags & 0x80 != 0 {
        return Outcome::Drop;
    }
    let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
    let reply = Message::error_msg(u16::from_be_bytes([high, low]), op_code, ResponseCode::FormErr);
    finish(&reply, PLAIN_UDP)
}

fn finish(reply: &Message, limit: usize) -> Outcome {
    encode(reply, limit).map_or(Outcome::Drop, Outcome::Reply)
}

/// The message's bytes. What does not fit is left out: additional records silently, answers with the TC bit.
pub(super) fn encode(reply: &Message, limit: usize) -> Option<Vec<u8>> {
    let whole = reply.to_vec().ok()?;
    if whole.len() <= limit {
        return Some(whole);
    }
    let mut smaller = reply.clone();
    smaller.additionals.clear();
    let without = smaller.to_vec().ok()?;
    if without.len() <= limit {
        return Some(without);
    }
    smaller.metadata.truncation = true;
    let (mut fits, mut too_many) = (0, smaller.answers.len());
    let mut best = None;
    while fits < too_many {
        let middle = (fits + too_many) / 2;
        let mut part = smaller.clone();
        part.answers.truncate(middle);
        let bytes = part.to_vec().ok()?;
        if bytes.len() <= limit {
            (fits, best) = (middle + 1, Some(bytes));
        } else {
            too_many = middle;
        }
    }
    best.or_else(|| {
        smaller.answers.clear();
        smaller.authorities.clear();
        smaller.to_vec().ok()
    })
}
