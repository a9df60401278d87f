//! Asking other resolvers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::reply_to;
use super::cache::{Cache, CacheKey};
use super::troubles::Troubles;
use crate::wait;

/// One resolver's time for an answer, and how often the list is gone through.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// One that has left so many queries in a row without an answer rests: a single name may take long.
const MISSES: u64 = 2;
/// For so long, in milliseconds, others are asked before one that rests; then a single query tries it.
const REST: u64 = 10_000;
/// Queries under way at a time; more are answered SERVFAIL at once.
const MAX_IN_FLIGHT: usize = 1024;
/// The option that says why (RFC 8914), and what it says: no reachable authority.
const EXTENDED_ERROR: u16 = 15;
const UNREACHABLE: u16 = 22;

struct Resolver {
    address: SocketAddr,
    /// Queries without an answer since the last one with.
    misses: AtomicU64,
    /// Until when it rests; 0: it does not.
    rests_until: AtomicU64,
}

impl Resolver {
    /// Whether it is to be asked in its turn. If it has rested, who asks this takes it on: others go elsewhere meanwhile.
    fn takes_turns(&self, now: u64) -> bool {
        let until = self.rests_until.load(Relaxed);
        let rested = || self.rests_until.compare_exchange(until, now + REST, Relaxed, Relaxed).is_ok();
        until == 0 || (now >= until && rested())
    }
}

pub(super) struct Upstream {
    clock: Clock,
    servers: Vec<Resolver>,
    cache: Mutex<Cache>,
    in_flight: Semaphore,
    troubles: Arc<Troubles>,
}

/// Why there is no answer that helps, for people.
enum Miss {
    Silent(String),
    Unhelpful(String),
}

impl Upstream {
    pub(super) fn new(clock: Clock, servers: Vec<SocketAddr>, troubles: Arc<Troubles>) -> Self {
        let resolver =
            |address| Resolver { address, misses: AtomicU64::new(0), rests_until: AtomicU64::new(0) };
        let servers = servers.into_iter().map(resolver).collect();
        Self { clock, servers, cache: Mutex::default(), in_flight: Semaphore::new(MAX_IN_FLIGHT), troubles }
    }

    pub(super) fn any(&self) -> bool {
        !self.servers.is_empty()
    }

    /// The answer to `query`, under its id and with its question. REFUSED when there is nobody to ask, SERVFAIL when
    /// nobody answers: who did not, and why, is told to whom EDNS is spoken with.
    pub(super) async fn ask(&self, query: &Message, udp: bool) -> Message {
        if self.servers.is_empty() {
            return reply_to(query, ResponseCode::Refused);
        }
        let key = CacheKey::of(query);
        let cached = key.as_ref().and_then(|key| self.cache.lock().get(key, self.clock.monotonic()));
        if let Some(reply) = cached {
            return under(query, reply);
        }
        let Ok(_permit) = self.in_flight.try_acquire() else {
            return reply_to(query, ResponseCode::ServFail);
        };
        let mut failures: Vec<String> = Vec::new();
        let order = self.order();
        for resolver in std::iter::repeat_n(&order, ROUNDS).flatten() {
            let server = resolver.address;
            match self.ask_one(server, query, udp).await {
                Ok(reply) => {
                    self.answered(resolver);
                    if let Some(key) = key {
                        self.cache.lock().put(key, &reply, self.clock.monotonic());
                    }
                    return under(query, reply);
                }
                Err(miss) => {
                    let why = match miss {
                        Miss::Silent(why) => {
                            self.failed(resolver, &why);
                            why
                        }
                        Miss::Unhelpful(why) => {
                            self.answered(resolver);
                            why
                        }
                    };
                    let told = format!("{server}: {why}");
                    if !failures.contains(&told) {
                        failures.push(told);
                    }
                }
            }
        }
        failed(query, &failures.join("; "))
    }

    /// Those that rest come last.
    fn order(&self) -> Vec<&Resolver> {
        let now = wait::now(&self.clock);
        let (mut order, resting): (Vec<_>, Vec<_>) =
            self.servers.iter().partition(|resolver| resolver.takes_turns(now));
        order.extend(resting);
        order
    }

    fn answered(&self, resolver: &Resolver) {
        resolver.misses.store(0, Relaxed);
        resolver.rests_until.store(0, Relaxed);
        self.troubles.answered(resolver.address);
    }

    fn failed(&self, resolver: &Resolver, why: &str) {
        if resolver.misses.fetch_add(1, Relaxed) + 1 >= MISSES {
            resolver.rests_until.store(wait::now(&self.clock) + REST, Relaxed);
        }
        self.troubles.failed(resolver.address, why);
    }

    async fn ask_one(&self, server: SocketAddr, query: &Message, udp: bool) -> Result<Message, Miss> {
        let asked = async { if udp { ask_udp(server, query).await } else { ask_tcp(server, query).await } };
        let Some(answered) = wait::timeout(&self.clock, PATIENCE, asked).await else {
            return Err(Miss::Silent(format!("no answer within {} s", PATIENCE.as_secs())));
        };
        let reply = answered.map_err(|error| Miss::Silent(error.to_string()))?;
        match reply.metadata.response_code {
            code @ (ResponseCode::ServFail | ResponseCode::Refused) => {
                Err(Miss::Unhelpful(format!("answers {code}")))
            }
            _ => Ok(reply),
        }
    }
}

fn failed(query: &Message, why: &str) -> Message {
    let mut reply = reply_to(query, ResponseCode::ServFail);
    if let Some(edns) = &mut reply.edns {
        let option = [&UNREACHABLE.to_be_bytes(), why.as_bytes()].concat();
        edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, option));
    }
    reply
}

/// The reply as one to `query`: its id, and its question in its letter case.
fn under(query: &Message, mut reply: Message) -> Message {
    reply.metadata.id = query.metadata.id;
    reply.metadata.recursion_available = true;
    reply.queries.clone_from(&query.queries);
    if query.edns.is_none() {
        reply.edns = None;
    }
    reply
}

/// The same question under an id nobody else knows; the socket's port is fresh, too.
fn disguise(query: &Message) -> io::Result<(u16, Vec<u8>)> {
    let mut asked = query.clone();
    asked.metadata.id = rand::random();
    asked.metadata.recursion_desired = true;
    Ok((asked.metadata.id, asked.to_vec().map_err(io::Error::other)?))
}

fn accept(wire: &[u8], id: u16, query: &Message) -> Option<Message> {
    let reply = Message::from_vec(wire).ok()?;
    let matches = reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == id
        && reply.queries == query.queries;
    matches.then_some(reply)
}

async fn ask_udp(server: SocketAddr, query: &Message) -> io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let (id, wire) = disguise(query)?;
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&wire).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        // Forged or late replies are passed over until the right one comes or time is up.
        let length = socket.recv(&mut buffer).await?;
        if let Some(reply) = accept(&buffer[..length], id, query) {
            return Ok(reply);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &Message) -> io::Result<Message> {
    let (id, wire) = disguise(query)?;
    let length = u16::try_from(wire.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&[&length.to_be_bytes()[..], &wire].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    accept(&buffer, id, query).ok_or_else(|| io::Error::other("the reply is not to this query"))
}
