//! Packets of UDP: each pair of a client and whom it asks has a socket outside, for as long as they talk.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::connecting::Origin;
use crate::connections::Task;
use crate::datagrams;
use crate::flow_socket::{FlowSocket, Heard, PACKET_BYTES};
use crate::wait;
use crate::way_out::flow_table::{FlowTable, Key, Used};
use crate::way_out::packets::{Packets, unreachable_by};
use crate::way_out::{Counters, WayOutOptions, is_inside, is_outside};

/// What the kernel keeps while we are busy.
const RECEIVE_BUFFER: usize = 1024 * 1024;

struct Flow {
    socket: FlowSocket,
    /// Bytes that were sent last.
    sent: AtomicU64,
    answered: AtomicBool,
    /// The client went on after an answer.
    talks: AtomicBool,
    task: Task,
}

impl Used for Flow {
    fn used(&self) -> u64 {
        self.socket.used()
    }

    fn talks(&self) -> bool {
        self.talks.load(Relaxed)
    }
}

pub(super) struct Flows {
    packets: Packets,
    /// A flow leaves it before its task ends: whoever finds one here may use it.
    known: Mutex<FlowTable<Flow>>,
    clock: Clock,
    options: WayOutOptions,
    counters: Arc<Counters>,
}

/// What all packets are led to.
pub(super) fn receiver(socket: Socket) -> io::Result<UdpSocket> {
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    datagrams::tell_targets(&socket, true)?;
    UdpSocket::from_std(socket.into())
}

impl Flows {
    pub(super) fn new(
        packets: Packets,
        clock: Clock,
        options: WayOutOptions,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let known = Mutex::new(FlowTable::new(options.most_flows, options.most_flows_of_one));
        Arc::new(Self { packets, known, clock, options, counters })
    }

    /// All that come, until it is dropped, and the flows with it. The receiver is nobody else's, so that it is gone then.
    pub(super) async fn receive(self: Arc<Self>, receiver: UdpSocket) {
        let (mut tasks, mut packet) = (JoinSet::new(), vec![0; PACKET_BYTES]);
        loop {
            let receive = || datagrams::receive(&receiver, &mut packet);
            let arrived = receiver.async_io(Interest::READABLE, receive).await;
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
            let sent = flow.socket.send(packet);
            // What is told then is of a packet before this one.
            if sent.as_ref().is_err_and(|error| unreachable_by(error).is_some()) {
                return flow.socket.send(packet);
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

    /// Errors: what connect(2) says; EAGAIN where there are too many, EPERM for a client that is no one's in there.
    fn flow(self: &Arc<Self>, key: Key, tasks: &mut JoinSet<()>) -> io::Result<Arc<Flow>> {
        let (mut known, now) = (self.known.lock(), wait::now(&self.clock));
        if let Some(flow) = known.get(&key) {
            if !self.patience(flow, now).is_zero() {
                flow.socket.use_now(now);
                return Ok(Arc::clone(flow));
            }
            // Its task is about to see it, too.
            flow.task.end();
            known.remove(&key);
        }
        if !is_inside(key.0.into()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if !is_outside(key.1.into()) {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        if let Some(gone) = known.make_room(*key.0.ip())? {
            gone.task.end();
        }
        let flow = Arc::new(Flow {
            socket: FlowSocket::connected(key.1.into(), &Origin::Own, now)?,
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
            match flow.socket.hear(&self.clock, rest).await {
                Some(Heard::Packet) => self.pass_one_back(key, &flow),
                Some(Heard::Error(error)) => self.tell(key, flow.sent.load(Relaxed) as usize, &error),
                None => {}
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
        flow.socket.rest(whole, now)
    }

    fn pass_one_back(&self, key: Key, flow: &Flow) {
        let answered = flow.socket.receive(&self.clock, |packet| {
            flow.answered.store(true, Relaxed);
            if self.packets.answer(key.0, key.1, packet).is_err() {
                self.counters.dropped.fetch_add(1, Relaxed);
            }
        });
        if let Err(error) = answered {
            self.tell(key, flow.sent.load(Relaxed) as usize, &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_still_has_flows_once_all_are_to_end_does_not_hold_the_port() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let address = socket.local_addr().unwrap();
            let (options, counters) = (WayOutOptions::default(), Arc::default());
            let flows = Flows::new(Packets::nowhere(), Clock::default(), options, counters);
            let receiving = tokio::spawn(Arc::clone(&flows).receive(receiver(socket.into()).unwrap()));
            tokio::task::yield_now().await;
            receiving.abort();
            assert!(receiving.await.unwrap_err().is_cancelled());
            std::net::UdpSocket::bind(address).unwrap();
            drop(flows);
        });
    }
}
