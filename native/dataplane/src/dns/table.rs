//! Names and their records, replaced owner by owner.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustc_hash::{FxHashMap, FxHashSet};
use thiserror::Error;

use super::names::{Key, is_below, key, parent};
use super::search::Search;

/// Negative answers may be kept this long, in seconds: less than with CoreDNS as kubeadm has it (30), so that who asked
/// for a Service before it was there finds it soon.
const NEGATIVE_TTL: u32 = 5;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    #[error("{0:?} is not a domain name")]
    Name(String),
    #[error("{value:?} is no value for a record of type {kind}")]
    Value { kind: String, value: String },
    #[error("names of {0:?} are answered here, nobody else can be asked for them")]
    Ours(String),
    #[error("unknown record type {0:?}: expected A, AAAA, CNAME, EMPTY, NS, PODS, PTR, SRV or TXT")]
    Kind(String),
}

/// One record as text.
///
/// `kind` is a record type, or EMPTY (the name exists, without records), or PODS (names of one label below it that
/// spell an address, `10-1-2-3` or `fd00--1`, have that address). `value` is in zone file form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSpec {
    pub name: String,
    pub kind: String,
    pub ttl: u32,
    pub value: String,
}

enum Parsed {
    Record(Box<Record>),
    Exists,
    Pods(u32),
}

pub(super) fn parse_name(text: &str) -> Result<Name, RecordError> {
    let mut name = Name::from_ascii(text).map_err(|_| RecordError::Name(text.to_owned()))?;
    name.set_fqdn(true);
    Ok(name)
}

fn parse(spec: &RecordSpec) -> Result<(Name, Parsed), RecordError> {
    let name = parse_name(&spec.name)?;
    let value = || RecordError::Value { kind: spec.kind.clone(), value: spec.value.clone() };
    let data = match spec.kind.as_str() {
        "EMPTY" => return Ok((name, Parsed::Exists)),
        "PODS" => return Ok((name, Parsed::Pods(spec.ttl))),
        "A" => RData::A(A(spec.value.parse().map_err(|_| value())?)),
        "AAAA" => RData::AAAA(AAAA(spec.value.parse().map_err(|_| value())?)),
        "CNAME" => RData::CNAME(CNAME(parse_name(&spec.value)?)),
        "NS" => RData::NS(NS(parse_name(&spec.value)?)),
        "PTR" => RData::PTR(PTR(parse_name(&spec.value)?)),
        "TXT" => RData::TXT(TXT::new(vec![spec.value.clone()])),
        "SRV" => {
            let parts: Vec<&str> = spec.value.split_whitespace().collect();
            let [priority, weight, port, target] = parts[..] else { return Err(value()) };
            let number = |text: &str| text.parse::<u16>().map_err(|_| value());
            RData::SRV(SRV::new(number(priority)?, number(weight)?, number(port)?, parse_name(target)?))
        }
        other => return Err(RecordError::Kind(other.to_owned())),
    };
    Ok((name.clone(), Parsed::Record(Box::new(Record::from_rdata(name, spec.ttl, data)))))
}

#[derive(Debug, Default)]
struct Node {
    records: Vec<(u32, Record)>,
    /// Owners that only say that the name exists, and those whose PODS (TTL) it carries.
    exists: Vec<u32>,
    pods: Vec<(u32, u32)>,
    /// Names below that were put in: an empty non-terminal exists while there are any.
    below: u32,
    /// There were records of several owners, which may say the same.
    shared: bool,
}

impl Node {
    fn unused(&self) -> bool {
        self.records.is_empty() && self.exists.is_empty() && self.pods.is_empty() && self.below == 0
    }

    fn leave(&mut self, owner: u32) {
        self.records.retain(|(whose, _)| *whose != owner);
        self.exists.retain(|whose| *whose != owner);
        self.pods.retain(|(whose, _)| *whose != owner);
    }
}

/// What the tables say about a name and a type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Records(Vec<Record>),
    /// The name exists but not with this type.
    NoData,
    NoName,
    /// Not a name of ours.
    Elsewhere,
}

/// One zone of which everything is known (the cluster domain), and single names outside it (reverse look-ups).
#[derive(Debug)]
pub struct Table {
    domain: Name,
    domain_key: Key,
    serial: u32,
    filled: bool,
    nodes: FxHashMap<Key, Node>,
    owners: FxHashMap<String, (u32, Vec<Key>)>,
    next_owner: u32,
    /// Domains that others answer for, also below ours.
    delegated: Vec<Key>,
    search: Search,
}

impl Table {
    pub fn new(domain: &str) -> Result<Self, RecordError> {
        let domain = parse_name(domain)?.to_lowercase();
        Ok(Self {
            domain_key: key(&domain),
            domain,
            serial: 1,
            filled: false,
            nodes: FxHashMap::default(),
            owners: FxHashMap::default(),
            next_owner: 0,
            delegated: Vec::new(),
            search: Search::default(),
        })
    }

    /// Replace all records of `owner`; none takes it out. Nothing is changed when one cannot be parsed.
    pub fn set(&mut self, owner: &str, records: &[RecordSpec]) -> Result<(), RecordError> {
        let parsed = records.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        self.filled = true;
        self.remove(owner);
        self.serial = self.serial.wrapping_add(1).max(1);
        if parsed.is_empty() {
            return Ok(());
        }
        self.next_owner = self.next_owner.wrapping_add(1);
        let number = self.next_owner;
        let mut keys = FxHashSet::default();
        for (name, parsed) in parsed {
            let key = key(&name);
            let node = self.nodes.entry(key.clone()).or_default();
            match parsed {
                Parsed::Record(record) => {
                    node.shared |= node.records.last().is_some_and(|(owner, _)| *owner != number);
                    node.records.push((number, *record));
                }
                Parsed::Exists => node.exists.push(number),
                Parsed::Pods(ttl) => node.pods.push((number, ttl)),
            }
            keys.insert(key);
        }
        for key in &keys {
            self.count_below(key, true);
        }
        self.owners.insert(owner.to_owned(), (number, keys.into_iter().collect()));
        Ok(())
    }

    fn remove(&mut self, owner: &str) {
        let Some((number, keys)) = self.owners.remove(owner) else { return };
        for key in &keys {
            self.count_below(key, false);
            if let Some(node) = self.nodes.get_mut(key) {
                node.leave(number);
                if node.unused() {
                    self.nodes.remove(key);
                }
            }
        }
    }

    fn count_below(&mut self, key: &[u8], more: bool) {
        let mut name = parent(key);
        while let Some(current) = name.filter(|current| !current.is_empty()) {
            if more {
                self.nodes.entry(current.into()).or_default().below += 1;
            } else if let Some(node) = self.nodes.get_mut(current) {
                node.below = node.below.saturating_sub(1);
                if node.unused() {
                    self.nodes.remove(current);
                }
            }
            name = parent(current);
        }
    }

    /// A name of the domain before anything was put in: nothing can be said about it, not even that it does not exist.
    pub(super) fn is_unknown_yet(&self, name: &Name) -> bool {
        !self.filled && is_below(&key(name), &self.domain_key)
    }

    pub fn len(&self) -> usize {
        self.nodes.values().map(|node| node.records.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn find(&self, name: &Name, kind: RecordType) -> Found {
        let key = key(name);
        let ours = is_below(&key, &self.domain_key);
        if key == self.domain_key && matches!(kind, RecordType::SOA | RecordType::ANY) {
            return Found::Records(vec![self.soa()]);
        }
        match self.nodes.get(&key) {
            Some(node) if ours || !node.records.is_empty() => {
                let fits = |record: &&Record| {
                    kind == RecordType::ANY
                        || record.record_type() == kind
                        || record.record_type() == RecordType::CNAME
                };
                let records: Vec<Record> =
                    node.records.iter().map(|(_, record)| record).filter(fits).cloned().collect();
                let records = if node.shared { unique(records) } else { records };
                if records.is_empty() { Found::NoData } else { Found::Records(records) }
            }
            _ if key == self.domain_key => Found::NoData,
            _ if !ours || self.is_delegated(&key) => Found::Elsewhere,
            _ => self.find_pod(name, &key, kind),
        }
    }

    /// Names below these domains that are not in the tables are others' to answer.
    pub(super) fn set_delegated(&mut self, domains: &[Name]) -> Result<(), RecordError> {
        let keys: Vec<_> = domains.iter().map(key).collect();
        if let Some(at) = keys.iter().position(|domain| is_below(&self.domain_key, domain)) {
            return Err(RecordError::Ours(domains[at].to_ascii()));
        }
        self.delegated = keys;
        Ok(())
    }

    fn is_delegated(&self, key: &[u8]) -> bool {
        self.delegated.iter().any(|domain| is_below(key, domain))
    }

    pub(super) fn domain(&self) -> &Name {
        &self.domain
    }

    pub(super) fn search(&self) -> &Search {
        &self.search
    }

    pub(super) fn search_mut(&mut self) -> &mut Search {
        &mut self.search
    }

    /// `10-1-2-3.namespace.pod.cluster.local` is 10.1.2.3, whether or not such a pod exists.
    fn find_pod(&self, name: &Name, key: &[u8], kind: RecordType) -> Found {
        let ttl = parent(key)
            .and_then(|parent| self.nodes.get(parent))
            .and_then(|node| node.pods.first())
            .map(|(_, ttl)| *ttl);
        let label = name.iter().next().and_then(|label| std::str::from_utf8(label).ok());
        let (Some(ttl), Some(address)) = (ttl, label.and_then(spelled_address)) else { return Found::NoName };
        let data = match (address, kind) {
            (IpAddr::V4(address), RecordType::A | RecordType::ANY) => RData::A(A(address)),
            (IpAddr::V6(address), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(address)),
            _ => return Found::NoData,
        };
        Found::Records(vec![Record::from_rdata(name.clone(), ttl, data)])
    }

    /// The record that goes with every negative answer.
    pub(super) fn soa(&self) -> Record {
        let below = |label: &str| {
            Name::from_ascii(label).and_then(|name| name.append_domain(&self.domain)).unwrap_or_default()
        };
        let data =
            SOA::new(below("ns.dns"), below("hostmaster"), self.serial, 7200, 1800, 86400, NEGATIVE_TTL);
        Record::from_rdata(self.domain.clone(), NEGATIVE_TTL, RData::SOA(data))
    }
}

/// The records without those that another owner has put in, too, in their order.
fn unique(records: Vec<Record>) -> Vec<Record> {
    let mut seen = FxHashSet::default();
    records.into_iter().filter(|record| seen.insert(record.data.clone())).collect()
}

fn spelled_address(label: &str) -> Option<IpAddr> {
    if let Ok(v4) = label.replace('-', ".").parse::<Ipv4Addr>() {
        return Some(v4.into());
    }
    label.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}
