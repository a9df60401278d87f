//! Connections: the kernel has taken one by the time it is known whether anybody takes it outside. Nobody does: it is
//! reset.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use kubecore_core::clock::Clock;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::connecting::{Origin, connect, keep_alive};
use crate::pump::{relay, reset};
use crate::tcp_port::rest_if_exhausted;
use crate::way_out::{Counters, is_outside};

/// All that come, until it is dropped, and they with it.
pub(super) async fn accept(listener: TcpListener, clock: Clock, most: usize, counters: Arc<Counters>) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = carried.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    counters.connections.fetch_add(1, Relaxed);
                    if carried.len() < most {
                        carried.spawn(serve(client, Arc::clone(&counters)));
                    } else {
                        refuse(&client, &counters);
                    }
                }
                Err(error) => rest_if_exhausted(&error, &clock).await,
            }
        }
    }
}

async fn serve(client: TcpStream, counters: Arc<Counters>) {
    match reach(&client).await {
        Ok(server) => {
            keep_alive(&server);
            relay(&client, &server).await;
        }
        Err(_) => refuse(&client, &counters),
    }
}

/// Whom the client wants, for as long as it waits.
async fn reach(client: &TcpStream) -> io::Result<TcpStream> {
    let target = client.local_addr()?;
    if !is_outside(target) {
        return Err(io::ErrorKind::NetworkUnreachable.into());
    }
    tokio::select! {
        biased;
        reached = connect(target, Origin::Own) => reached,
        _ = client.ready(Interest::ERROR) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

fn refuse(client: &TcpStream, counters: &Counters) {
    counters.refused.fetch_add(1, Relaxed);
    reset(client);
}
