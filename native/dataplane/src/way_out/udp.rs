//! Packets of UDP: each pair of a client and whom it asks has a socket outside, for as long as they talk.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::connecting::{Origin, connected};
use crate::connections::Task;
use crate::datagrams;
use crate::udp::PACKET_BYTES;
use crate::wait;
use crate::way_out::packets::{HEADER, Packets, unreachable_by};
use crate::way_out::{Counters, WayOutOptions, is_outside};

/// What the kernel keeps while we are busy.
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// Who asks, and whom.
type Key = (SocketAddrV4, SocketAddrV4);

struct Flow {
    socket: UdpSocket,
    /// Milliseconds of the clock.
    used: AtomicU64,
    /// Bytes that were sent last.
    sent: AtomicU64,
    answered: AtomicBool,
    /// The client went on after an answer.
    talks: AtomicBool,
    task: Task,
}

pub(super) struct Flows {
    receiver: UdpSocket,
    packets: Packets,
    /// A flow leaves it before its task ends: whoever finds one here may use it.
    known: Mutex<FxHashMap<Key, Arc<Flow>>>,
    clock: Clock,
    options: WayOutOptions,
    counters: Arc<Counters>,
}

thread_local! {
    /// With room for the header that goes before.
    static PACKET: RefCell<Box<[u8]>> = RefCell::new(vec![0; HEADER + PACKET_BYTES].into_boxed_slice());
}

impl Flows {
    pub(super) fn new(
        receiver: Socket,
        packets: Packets,
        clock: Clock,
        options: WayOutOptions,
        counters: Arc<Counters>,
    ) -> io::Result<Arc<Self>> {
        let _ = receiver.set_recv_buffer_size(RECEIVE_BUFFER);
        datagrams::tell_targets(&receiver, true)?;
        let receiver = UdpSocket::from_std(receiver.into())?;
        Ok(Arc::new(Self { receiver, packets, known: Mutex::default(), clock, options, counters }))
    }

    /// All that come, until it is dropped, and the flows with it.
    pub(super) async fn receive(self: Arc<Self>) {
        let (mut tasks, mut packet) = (JoinSet::new(), vec![0; PACKET_BYTES]);
        loop {
            let receive = || datagrams::receive(&self.receiver, &mut packet);
            let arrived = self.receiver.async_io(Interest::READABLE, receive).await;
            while tasks.try_join_next().is_some() {}
            if let Ok(arrived) = arrived
                && let (SocketAddr::V4(client), Some(SocketAddr::V4(target))) =
                    (arrived.client, arrived.target)
            {
                self.carry((client, target), &packet[..arrived.length], &mut tasks);
            }
        }
    }

    fn carry(self: &Arc<Self>, key: Key, packet: &[u8], tasks: &mut JoinSet<()>) {
        let sent = self.flow(key, tasks).and_then(|flow| {
            flow.sent.store(packet.len() as u64, Relaxed);
            if flow.answered.load(Relaxed) {
                flow.talks.store(true, Relaxed);
            }
            // A new socket is not known yet to be ready.
            let socket = SockRef::from(&flow.socket);
            let sent = socket.send(packet);
            // What is told then is of a packet before this one.
            if sent.as_ref().is_err_and(|error| unreachable_by(error).is_some()) {
                return socket.send(packet);
            }
            sent
        });
        if let Err(error) = sent {
            self.counters.dropped.fetch_add(1, Relaxed);
            self.tell(key, packet.len(), &error);
        }
    }

    /// That it leads nowhere, if that is what it is.
    fn tell(&self, (client, target): Key, length: usize, error: &io::Error) {
        if let Some(why) = unreachable_by(error) {
            let _ = self.packets.refuse(client, target, length, why);
        }
    }

    /// Errors: what connect(2) says; EAGAIN where there are too many.
    fn flow(self: &Arc<Self>, key: Key, tasks: &mut JoinSet<()>) -> io::Result<Arc<Flow>> {
        let (mut known, now) = (self.known.lock(), wait::now(&self.clock));
        if let Some(flow) = known.get(&key) {
            if !self.patience(flow, now).is_zero() {
                flow.used.store(now, Relaxed);
                return Ok(Arc::clone(flow));
            }
            // Its task is about to see it, too.
            flow.task.end();
            known.remove(&key);
        }
        if !is_outside(key.1.into()) {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        if known.len() >= self.options.most_flows && !forget_one(&mut known) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let flow = Arc::new(Flow {
            socket: connected(key.1.into(), &Origin::Own)?,
            used: AtomicU64::new(now),
            sent: AtomicU64::new(0),
            answered: AtomicBool::new(false),
            talks: AtomicBool::new(false),
            task: Task::default(),
        });
        self.counters.flows.fetch_add(1, Relaxed);
        known.insert(key, Arc::clone(&flow));
        flow.task.began(tasks.spawn(Arc::clone(self).pass_back(key, Arc::clone(&flow))));
        Ok(flow)
    }

    /// Answers, until the flow is quiet for too long.
    async fn pass_back(self: Arc<Self>, key: Key, flow: Arc<Flow>) {
        while let Some(rest) = self.rest(&key, &flow) {
            let ready = flow.socket.ready(Interest::READABLE | Interest::ERROR);
            let Some(Ok(ready)) = wait::timeout(&self.clock, rest, ready).await else { continue };
            if ready.is_error() {
                self.tell_error(key, &flow);
            }
            if ready.is_readable() {
                self.pass_one_back(key, &flow);
            }
        }
    }

    /// For how long the flow may stay quiet from now on; None: it has been for too long, and is forgotten.
    fn rest(&self, key: &Key, flow: &Flow) -> Option<Duration> {
        let mut known = self.known.lock();
        let rest = self.patience(flow, wait::now(&self.clock));
        if !known.get(key).is_some_and(|own| std::ptr::eq(&raw const **own, flow)) {
            return None; // another one was kept instead
        }
        if rest.is_zero() {
            known.remove(key);
            return None;
        }
        Some(rest)
    }

    fn patience(&self, flow: &Flow, now: u64) -> Duration {
        let WayOutOptions { udp_timeout, udp_stream_timeout, .. } = self.options;
        let whole = if flow.talks.load(Relaxed) { udp_stream_timeout } else { udp_timeout };
        whole.saturating_sub(Duration::from_millis(now.saturating_sub(flow.used.load(Relaxed))))
    }

    fn pass_one_back(&self, key: Key, flow: &Flow) {
        PACKET.with_borrow_mut(|packet| {
            let Ok(length) = flow.socket.try_recv(&mut packet[HEADER..]) else { return };
            flow.used.store(wait::now(&self.clock), Relaxed);
            flow.answered.store(true, Relaxed);
            if self.packets.answer(key.0, key.1, &mut packet[..HEADER + length]).is_err() {
                self.counters.dropped.fetch_add(1, Relaxed);
            }
        });
    }

    /// What the network outside has said of a packet.
    fn tell_error(&self, key: Key, flow: &Flow) {
        let socket = SockRef::from(&flow.socket);
        let taken = || socket.take_error()?.ok_or_else(|| io::ErrorKind::WouldBlock.into());
        if let Ok(error) = flow.socket.try_io(Interest::ERROR, taken) {
            self.tell(key, flow.sent.load(Relaxed) as usize, &error);
        }
    }
}

/// The one that was quiet for longest of those that were but asked. False: there is none.
fn forget_one(known: &mut FxHashMap<Key, Arc<Flow>>) -> bool {
    let quiet = known.iter().filter(|(_, flow)| !flow.talks.load(Relaxed));
    let oldest = quiet.min_by_key(|(_, flow)| flow.used.load(Relaxed)).map(|(key, _)| *key);
    let found = oldest.and_then(|key| known.remove(&key));
    if let Some(flow) = &found {
        flow.task.end();
    }
    found.is_some()
}
