//! What the services of a node share, where the kernel leads who comes for them: a listener and a receiver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use kubecore_core::balance::Protocol;
use socket2::{Socket, Type};

use crate::binding;
use crate::forwarder::Shared;
use crate::one_listener::OneListener;
use crate::one_receiver::OneReceiver;
use crate::steering::Steering;

#[derive(Debug)]
pub(crate) struct OneEntrance {
    pub(crate) listener: Arc<OneListener>,
    pub(crate) receiver: Arc<OneReceiver>,
}

impl OneEntrance {
    /// In the calling thread's network namespace; open until `close`. Errors: see [`Steering::new`].
    pub(crate) fn new(shared: &Arc<Shared>) -> io::Result<Self> {
        let (streams, packets) = (sockets(Type::STREAM)?, sockets(Type::DGRAM)?);
        streams.iter().try_for_each(OneListener::listen)?;
        let all = streams.iter().map(|one| (Protocol::Tcp, one));
        let steering =
            Steering::new(&all.chain(packets.iter().map(|one| (Protocol::Udp, one))).collect::<Vec<_>>())?;
        let steering = Arc::new(steering);
        Ok(Self {
            listener: OneListener::new(Arc::clone(shared), Arc::clone(&steering), streams)?,
            receiver: OneReceiver::new(&shared.runtime, steering, packets)?,
        })
    }

    pub(crate) fn close(&self) {
        self.listener.close();
        self.receiver.close();
    }
}

/// One of each family, that of IPv4 first; a host may be without IPv6.
fn sockets(kind: Type) -> io::Result<Vec<Socket>> {
    let four = binding::bind((Ipv4Addr::LOCALHOST, 0).into(), kind, false)?.0;
    let six = binding::bind((Ipv6Addr::LOCALHOST, 0).into(), kind, false).ok();
    Ok(std::iter::once(four).chain(six.map(|(socket, _)| socket)).collect())
}

/// What stands for all addresses with this port.
pub(crate) fn everywhere(address: SocketAddr) -> SocketAddr {
    let all: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(all, address.port())
}
