//! Sockets, and what is shared between them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record};
use kubecore_core::clock::Clock;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use socket2::Type;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::answer::{Asker, Outcome, Resolved, answer, encode, limit, resolve};
use super::forwarding::Forwarding;
use super::table::{RecordError, RecordSpec, Table, parse_name};
use super::troubles::Troubles;
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
    pub forwarding: DnsForwarding,
}

/// Who is asked for names that are not in the tables.
#[derive(Clone, Debug, Default)]
pub struct DnsForwarding {
    pub upstreams: Vec<SocketAddr>,
    /// Domains with resolvers of their own; also domains below the cluster's.
    pub stubs: Vec<(String, Vec<SocketAddr>)>,
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
    forwarding: Forwarding,
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
            forwarding: Forwarding::new(clock.clone()),
            clock,
            tcp_clients: Semaphore::new(MAX_TCP_CLIENTS),
            queries: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
        };
        let server = Self { shared: Arc::new(shared), listeners: Mutex::default() };
        server.set_forwarding(options.forwarding)?;
        Ok(server)
    }

    /// Which resolvers do not answer.
    pub fn troubles(&self) -> &Arc<Troubles> {
        &self.shared.forwarding.troubles
    }

    /// Replace all records of each owner; an owner without records is taken out. Readers see all of it or nothing.
    pub fn set_records(&self, changes: &[(String, Vec<RecordSpec>)]) -> Result<(), RecordError> {
        let mut table = self.shared.table.write();
        changes.iter().try_for_each(|(owner, records)| table.set(owner, records))
    }

    /// Nothing is changed when a stub domain is no name, or the cluster's own domain or one above it.
    pub fn set_forwarding(&self, forwarding: DnsForwarding) -> Result<(), RecordError> {
        let stub = |(domain, servers): (String, _)| Ok((parse_name(&domain)?, servers));
        let stubs = forwarding.stubs.into_iter().map(stub).collect::<Result<Vec<_>, RecordError>>()?;
        let domains: Vec<_> = stubs.iter().map(|(domain, _)| domain.clone()).collect();
        self.shared.table.write().set_delegated(&domains)?;
        self.shared.forwarding.set(forwarding.upstreams, stubs);
        Ok(())
    }

    /// Domains that clients look in after the cluster's, for [`Self::set_clients`].
    pub fn set_search(&self, domains: &[String]) -> Result<(), RecordError> {
        let domains = domains.iter().map(|domain| parse_name(domain)).collect::<Result<_, _>>()?;
        self.shared.table.write().search_mut().set_host(domains);
        Ok(())
    }

    /// Clients whose search path is gone through here, each with the domain it begins with; None forgets a client.
    pub fn set_clients(&self, clients: &[(IpAddr, Option<String>)]) -> Result<(), RecordError> {
        let mut table = self.shared.table.write();
        for (address, first) in clients {
            let first = first.as_deref().map(parse_name).transpose()?;
            table.search_mut().set_client(*address, first);
        }
        Ok(())
    }

    /// Answer on UDP and TCP at `address`; port 0 picks one that is free for both. `ahead`: no link needs to have the
    /// address yet. Errors are those of bind(2).
    pub fn listen(&self, address: SocketAddr, ahead: bool) -> io::Result<SocketAddr> {
        let mut tries = 0;
        let (udp, tcp, bound) = loop {
            tries += 1;
            let (udp, bound) = binding::bind(address, Type::DGRAM, ahead)?;
            match binding::bind(bound, Type::STREAM, ahead) {
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
        self.shared.table.read().answer(query, true)
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
    fn consider(&self, query: &[u8], udp: bool, client: IpAddr) -> Outcome {
        self.queries.fetch_add(1, Relaxed);
        let asker = Asker { address: Some(client), recursive: self.forwarding.any() };
        answer(&self.table.read(), query, udp, asker)
    }

    /// What is left of an outcome after the tables: other resolvers' part of it.
    async fn complete(&self, outcome: Outcome, udp: bool) -> Option<Vec<u8>> {
        match outcome {
            Outcome::Drop => None,
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward(query) => {
                let reply = self.forward(&query, udp).await;
                encode(&reply, limit(&query, udp))
            }
            Outcome::Follow { reply, target, limit } => {
                encode(&self.follow(*reply, target, udp).await, limit)
            }
            Outcome::Search { reply, names, limit } => encode(&self.search(*reply, names, udp).await, limit),
        }
    }

    async fn forward(&self, query: &Message, udp: bool) -> Message {
        self.forwarded.fetch_add(1, Relaxed);
        let root = Name::root();
        let upstream = self.forwarding.of(query.queries.first().map_or(&root, Query::name));
        upstream.ask(query, udp).await
    }

    /// For a query of our own: what does not fit into a datagram is asked for once more by TCP, which the client could
    /// only do for the name that it has asked for. Where that fails, the client hears that there is more.
    async fn forward_for(&self, query: &Message, udp: bool) -> Message {
        let found = self.forward(query, udp).await;
        if !(udp && found.metadata.truncation) {
            return found;
        }
        let whole = self.forward(query, false).await;
        if whole.metadata.response_code == ResponseCode::ServFail { found } else { whole }
    }

    /// The first of `names` that exists, with an alias to it from the name that was asked for; `missing` when none does.
    async fn search(&self, missing: Message, names: Vec<Name>, udp: bool) -> Message {
        let Some(question) = missing.queries.first().cloned() else { return missing };
        for name in names {
            let asked = Query::query(name.clone(), question.query_type());
            let mut reply = missing.clone();
            reply.metadata.response_code = ResponseCode::NoError;
            reply.authorities.clear();
            let resolved = resolve(&self.table.read(), &asked, &mut reply);
            match resolved {
                Resolved::Done => {}
                Resolved::Leads(target) => reply = self.follow(reply, target, udp).await,
                Resolved::Elsewhere if self.forwarding.any() => {
                    let found = self.forward_for(&plain(asked), udp).await;
                    reply.metadata.truncation = found.metadata.truncation;
                    reply.metadata.response_code = found.metadata.response_code;
                    reply.metadata.authoritative = false;
                    reply.add_answers(found.answers);
                    reply.add_authorities(found.authorities);
                }
                Resolved::Elsewhere => continue,
            }
            if reply.metadata.response_code != ResponseCode::NXDomain {
                let ttl = reply.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
                let alias = RData::CNAME(CNAME(name));
                reply.answers.insert(0, Record::from_rdata(question.name().clone(), ttl, alias));
                return reply;
            }
        }
        missing
    }

    async fn follow(&self, mut reply: Message, target: Name, udp: bool) -> Message {
        let Some(kind) = reply.queries.first().map(Query::query_type) else { return reply };
        let found = self.forward_for(&plain(Query::query(target, kind)), udp).await;
        // An alias whose target does not exist or cannot be resolved is still an answer.
        if found.metadata.response_code == ResponseCode::NoError {
            reply.metadata.truncation = found.metadata.truncation;
            reply.add_answers(found.answers);
        }
        reply
    }
}

/// A query of our own for one question.
fn plain(question: Query) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(question);
    query
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut packet = vec![0; 65_535];
    loop {
        // An error here is a client's port that was unreachable; the socket stays good.
        let Ok((length, client)) = socket.recv_from(&mut packet).await else { continue };
        match shared.consider(&packet[..length], true, client.ip()) {
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
            Ok((stream, client)) => {
                let shared = Arc::clone(&shared);
                shared.runtime.clone().spawn(async move {
                    if let Ok(_permit) = shared.tcp_clients.try_acquire() {
                        let _ = converse(stream, client.ip(), &shared).await;
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
async fn converse(mut stream: TcpStream, client: IpAddr, shared: &Shared) -> io::Result<()> {
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
        let outcome = shared.consider(&query, false, client);
        let Some(reply) = shared.complete(outcome, false).await else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await?;
    }
}
