//! Connections: the kernel has taken one by the time it is known whether anybody takes it outside. Nobody does: it is
//! reset.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::connecting::{Origin, connect, keep_alive};
use crate::pump::reset;
use crate::relays::Relays;
use crate::tcp_port::rest_if_exhausted;
use crate::wait;
use crate::way_out::{Counters, WayOutOptions, is_inside, is_outside};

pub(super) struct Connections {
    relays: Arc<Relays>,
    clock: Clock,
    options: WayOutOptions,
    counters: Arc<Counters>,
    /// How many each client has.
    of_clients: Mutex<FxHashMap<IpAddr, usize>>,
}

/// One of a client's, until it is dropped.
struct Place {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_clients = self.connections.of_clients.lock();
        if let Some(own) = of_clients.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                of_clients.remove(&self.client);
            }
        }
    }
}

impl Connections {
    pub(super) fn new(
        relays: Arc<Relays>,
        clock: Clock,
        options: WayOutOptions,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Self { relays, clock, options, counters, of_clients: Mutex::default() })
    }

    /// All that come, until it is dropped, and they with it.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut carried = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = carried.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => {
                        self.counters.connections.fetch_add(1, Relaxed);
                        let room = carried.len() < self.options.most_connections && is_inside(client);
                        match room.then(|| self.place(client.ip())).flatten() {
                            Some(place) => drop(carried.spawn(serve(stream, place))),
                            None => self.refuse(&stream),
                        }
                    }
                    Err(error) => rest_if_exhausted(&error, &self.clock).await,
                }
            }
        }
    }

    /// None: the client has as many as it may.
    fn place(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut of_clients = self.of_clients.lock();
        let own = of_clients.entry(client).or_default();
        if *own >= self.options.most_connections_of_one {
            return None;
        }
        *own += 1;
        Some(Place { connections: Arc::clone(self), client })
    }

    /// Whom the client wants, for as long as it waits.
    async fn reach(&self, client: &TcpStream) -> io::Result<Socket> {
        let target = client.local_addr()?;
        if !is_outside(target) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let connecting =
            wait::timeout(&self.clock, self.options.connect_timeout, connect(target, Origin::Own));
        tokio::select! {
            biased;
            reached = connecting => reached.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())),
            _ = client.ready(Interest::ERROR) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    fn refuse(&self, client: &TcpStream) {
        self.counters.refused.fetch_add(1, Relaxed);
        reset(client);
    }
}

async fn serve(client: TcpStream, place: Place) {
    match place.connections.reach(&client).await {
        Ok(server) => {
            keep_alive(&server);
            if let Ok(client) = client.into_std() {
                place.connections.relays.relay(client.into(), server).await;
            }
        }
        Err(_) => place.connections.refuse(&client),
    }
}
