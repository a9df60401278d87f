//! Sockets, and what is shared between them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::Name;
use kubecore_core::clock::Clock;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use socket2::Type;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::answer::{Outcome, answer, encode, limit};
use super::table::{RecordError, RecordSpec, Table};
use super::upstream::Upstream;
use crate::{binding, wait};

const BACKLOG: i32 = 256;
/// A TCP client that says nothing for this long is dismissed (RFC 7766, section 6.2.3).
const TCP_IDLE: Duration = Duration::from_secs(10);
const MAX_TCP_CLIENTS: usize = 256;
/// How long a listener rests when the process has run out of descriptors.
const EXHAUSTED_REST: Duration = Duration::from_millis(20);
const PORT_TRIES: usize = 16;

#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// The cluster domain, "cluster.local": all its names are ours.
    pub domain: String,
    /// Resolvers for all other names.
    pub upstreams: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsStatistics {
    pub queries: u64,
    /// Queries handed to upstream resolvers or their cache.
    pub forwarded: u64,
    /// Records in the tables.
    pub records: usize,
}

struct Shared {
    runtime: Handle,
    clock: Clock,
    table: RwLock<Table>,
    upstream: Upstream,
    tcp_clients: Semaphore,
    queries: AtomicU64,
    forwarded: AtomicU64,
}

/// Answers DNS queries on any number of addresses.
pub struct DnsServer {
    shared: Arc<Shared>,
    listeners: Mutex<FxHashMap<SocketAddr, [AbortHandle; 2]>>,
}

impl DnsServer {
    pub fn new(runtime: Handle, clock: Clock, options: DnsOptions) -> Result<Self, RecordError> {
        let shared = Shared {
            runtime,
            table: RwLock::new(Table::new(&options.domain)?),
            upstream: Upstream::new(clock.clone(), options.upstreams),
            clock,
            tcp_clients: Semaphore::new(MAX_TCP_CLIENTS),
            queries: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared), listeners: Mutex::default() })
    }

    /// Replace all records of each owner; an owner without records is taken out. Readers see all of it or nothing.
    pub fn set_records(&self, changes: &[(String, Vec<RecordSpec>)]) -> Result<(), RecordError> {
        let mut table = self.shared.table.write();
        changes.iter().try_for_each(|(owner, records)| table.set(owner, records))
    }

    pub fn set_upstreams(&self, servers: Vec<SocketAddr>) {
        self.shared.upstream.set_servers(servers);
    }

    /// Answer on UDP and TCP at `address`; port 0 picks one that is free for both. `ahead`: no link needs to have the
    /// address yet. Errors are those of bind(2).
    pub fn listen(&self, address: SocketAddr, ahead: bool) -> io::Result<SocketAddr> {
        let bind = if ahead { binding::bind_ahead } else { binding::bind };
        let mut tries = 0;
        let (udp, tcp, bound) = loop {
            tries += 1;
            let (udp, bound) = bind(address, Type::DGRAM)?;
            match bind(bound, Type::STREAM) {
                Ok((tcp, _)) => break (udp, tcp, bound),
                Err(error) if address.port() != 0 || tries == PORT_TRIES => return Err(error),
                Err(_) => {}
            }
        };
        tcp.listen(BACKLOG)?;
        let _context = self.shared.runtime.enter();
        let udp = UdpSocket::from_std(udp.into())?;
        let tcp = TcpListener::from_std(tcp.into())?;
        let tasks = [
            self.shared.runtime.spawn(serve_udp(Arc::new(udp), Arc::clone(&self.shared))).abort_handle(),
            self.shared.runtime.spawn(serve_tcp(tcp, Arc::clone(&self.shared))).abort_handle(),
        ];
        self.listeners.lock().insert(bound, tasks);
        Ok(bound)
    }

    pub fn close(&self, address: SocketAddr) -> bool {
        let tasks = self.listeners.lock().remove(&address);
        tasks.iter().flatten().for_each(AbortHandle::abort);
        tasks.is_some()
    }

    pub fn shutdown(&self) {
        let listeners: Vec<_> = self.listeners.lock().drain().collect();
        listeners.iter().flat_map(|(_, tasks)| tasks).for_each(AbortHandle::abort);
    }

    pub fn listening(&self) -> Vec<SocketAddr> {
        self.listeners.lock().keys().copied().collect()
    }

    /// The answer from the tables alone; None when the query is not ours or no query at all.
    pub fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        match answer(&self.shared.table.read(), query, true, false) {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Drop | Outcome::Forward(_) | Outcome::Follow { .. } => None,
        }
    }

    pub fn statistics(&self) -> DnsStatistics {
        DnsStatistics {
            queries: self.shared.queries.load(Relaxed),
            forwarded: self.shared.forwarded.load(Relaxed),
            records: self.shared.table.read().len(),
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn consider(&self, query: &[u8], udp: bool) -> Outcome {
        self.queries.fetch_add(1, Relaxed);
        answer(&self.table.read(), query, udp, self.upstream.any())
    }

    /// What is left of an outcome after the tables: other resolvers' part of it.
    async fn complete(&self, outcome: Outcome, udp: bool) -> Option<Vec<u8>> {
        match outcome {
            Outcome::Drop => None,
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward(query) => {
                self.forwarded.fetch_add(1, Relaxed);
                let reply = self.upstream.ask(&query, udp).await;
                encode(&reply, limit(&query, udp))
            }
            Outcome::Follow { reply, target, limit } => {
                self.forwarded.fetch_add(1, Relaxed);
                encode(&self.follow(*reply, target, udp).await, limit)
            }
        }
    }

    async fn follow(&self, mut reply: Message, target: Name, udp: bool) -> Message {
        let Some(kind) = reply.queries.first().map(Query::query_type) else { return reply };
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(target, kind));
        let found = self.upstream.ask(&query, udp).await;
        // An alias whose target does not exist or cannot be resolved is still an answer.
        if found.metadata.response_code == ResponseCode::NoError {
            reply.add_answers(found.answers);
        }
        reply
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut packet = vec![0; 65_535];
    loop {
        // An error here is a client's port that was unreachable; the socket stays good.
        let Ok((length, client)) = socket.recv_from(&mut packet).await else { continue };
        match shared.consider(&packet[..length], true) {
            Outcome::Drop => {}
            Outcome::Reply(reply) => {
                let _ = socket.send_to(&reply, client).await;
            }
            outcome => {
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                shared.runtime.clone().spawn(async move {
                    if let Some(reply) = shared.complete(outcome, true).await {
                        let _ = socket.send_to(&reply, client).await;
                    }
                });
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                shared.runtime.clone().spawn(async move {
                    if let Ok(_permit) = shared.tcp_clients.try_acquire() {
                        let _ = converse(stream, &shared).await;
                    }
                });
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                wait::sleep(&shared.clock, EXHAUSTED_REST).await;
            }
            Err(_) => {}
        }
    }
}

/// Queries of one client, one after the other, until it leaves or falls silent.
async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut query = Vec::new();
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            query.resize(usize::from(length), 0);
            stream.read_exact(&mut query).await
        };
        match wait::timeout(&shared.clock, TCP_IDLE, read).await {
            Some(read) => read?,
            None => return Ok(()),
        };
        let outcome = shared.consider(&query, false);
        let Some(reply) = shared.complete(outcome, false).await else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await?;
    }
}
