use std::io::ErrorKind;

use kubecore_core::balance::{DestinationSpec, ServiceOptions, State};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A destination that takes nobody any more and refuses nobody: its queue is full.
struct Silent {
    listener: Socket,
    _first: std::net::TcpStream,
}

impl Silent {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&anywhere().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        Self { listener, _first: std::net::TcpStream::connect(address).unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

/// A forwarder whose clock stands still, and its one service.
struct Plane {
    forwarder: Forwarder,
    clock: Clock,
    service: Arc<VirtualService>,
    address: SocketAddr,
}

impl Plane {
    /// The last of the destinations is the first to be picked.
    fn new(destinations: &[SocketAddr], options: ForwarderOptions) -> Self {
        let (clock, balancer) = (Clock::starting_at(Duration::ZERO), Arc::new(Balancer::new()));
        let key = ServiceKey::new(Protocol::Tcp, SocketAddr::from(([10, 96, 0, 1], 80)));
        let service = balancer.put(key, ServiceOptions::default());
        let relays = Relays::start(1).unwrap();
        let (runtime, namespaces) = (Handle::current(), Arc::new(Namespaces::default()));
        let forwarder = Forwarder::new(runtime, relays, clock.clone(), options, balancer, namespaces);
        let address = forwarder.listen(&service, anywhere(), Access::default()).unwrap();
        let plane = Self { forwarder, clock, service, address };
        plane.lead_to(destinations);
        plane
    }

    fn lead_to(&self, destinations: &[SocketAddr]) {
        let specs: Vec<_> = destinations.iter().map(|&address| DestinationSpec::new(address, 1)).collect();
        self.service.set_destinations(&specs);
    }

    /// A client that has come and waits for a destination, which takes what the forwarder does as it is accepted.
    async fn waiting(&self, for_whom: &Silent) -> TcpStream {
        let door = TcpListener::bind(anywhere()).await.unwrap();
        let client = TcpStream::connect(door.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = door.accept().await.unwrap();
        let accepted = accepted.into_std().unwrap().into();
        {
            let listeners = self.forwarder.listeners.lock();
            let Some((_, Listener::Tcp(listener))) = listeners.values().next() else {
                panic!("not listened for")
            };
            listener.take(&mut listener.picker(), accepted, peer);
        }
        turns().await;
        let waits =
            |one: &ConnectionInfo| (one.state, one.destination) == (State::SynReceived, for_whom.address());
        assert!(self.forwarder.connections().iter().any(waits));
        client
    }

    fn counts(&self) -> (u64, u64, usize) {
        let ForwarderStatistics { refused, retried, open, .. } = self.forwarder.statistics();
        (refused, retried, open)
    }
}

/// Other tasks have theirs until none has anything to do.
async fn turns() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Whatever comes, comes soon.
async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("it does not come")
}

/// All that comes until the end.
async fn heard(client: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut heard = Vec::new();
    soon(client.read_to_end(&mut heard)).await.map_err(|error| error.kind())?;
    Ok(heard)
}

/// Says one word to the next one that comes.
async fn greet(good: &TcpListener) {
    let (mut stream, _) = soon(good.accept()).await.unwrap();
    stream.write_all(b"welcome").await.unwrap();
}

#[tokio::test]
async fn a_destination_that_is_silent_for_too_long_is_given_up_for_another() {
    let (silent, good) = (Silent::new(), TcpListener::bind(anywhere()).await.unwrap());
    let plane = Plane::new(&[good.local_addr().unwrap(), silent.address()], ForwarderOptions::default());
    let mut client = plane.waiting(&silent).await;
    plane.clock.advance(CONNECT_TIMEOUT - Duration::from_nanos(1));
    turns().await;
    assert_eq!(plane.counts(), (0, 0, 1));
    plane.clock.advance(Duration::from_nanos(1));
    greet(&good).await;
    assert_eq!(heard(&mut client).await.unwrap(), b"welcome");
    assert_eq!(plane.forwarder.statistics().retried, 1);
}

#[tokio::test]
async fn a_destination_that_is_removed_is_not_waited_for() {
    let (silent, good) = (Silent::new(), TcpListener::bind(anywhere()).await.unwrap());
    let plane = Plane::new(&[good.local_addr().unwrap(), silent.address()], ForwarderOptions::default());
    let mut client = plane.waiting(&silent).await;
    plane.lead_to(&[good.local_addr().unwrap()]);
    greet(&good).await;
    assert_eq!(heard(&mut client).await.unwrap(), b"welcome");
}

#[tokio::test]
async fn who_has_waited_for_as_many_as_may_be_waited_for_is_reset() {
    let (first, second, third) = (Silent::new(), Silent::new(), Silent::new());
    let options = ForwarderOptions { timeouts: 2, ..ForwarderOptions::default() };
    let plane = Plane::new(&[third.address(), second.address(), first.address()], options);
    let mut client = plane.waiting(&first).await;
    for _ in 0..2 {
        plane.clock.advance(CONNECT_TIMEOUT);
        turns().await;
    }
    assert_eq!(heard(&mut client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(plane.counts(), (1, 2, 0));
}

#[tokio::test]
async fn a_shutdown_ends_who_is_carried_and_who_waits() {
    let (silent, good) = (Silent::new(), TcpListener::bind(anywhere()).await.unwrap());
    let plane = Plane::new(&[good.local_addr().unwrap()], ForwarderOptions::default());
    let mut carried = TcpStream::connect(plane.address).await.unwrap();
    let (mut server, _) = soon(good.accept()).await.unwrap();
    server.write_all(b"w").await.unwrap();
    assert_eq!(soon(carried.read_u8()).await.unwrap(), b'w');
    plane.lead_to(&[silent.address()]);
    let mut waiting = plane.waiting(&silent).await;

    plane.forwarder.shutdown();
    for stream in [&mut carried, &mut server, &mut waiting] {
        assert_eq!(heard(stream).await.unwrap(), b"");
    }
    turns().await;
    assert_eq!((plane.forwarder.listening().len(), plane.counts()), (0, (0, 0, 0)));
    assert_eq!(plane.forwarder.connections(), []);
    let refused = TcpStream::connect(plane.address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn connections_of_a_service_that_is_closed_live_on() {
    let good = TcpListener::bind(anywhere()).await.unwrap();
    let plane = Plane::new(&[good.local_addr().unwrap()], ForwarderOptions::default());
    let mut client = TcpStream::connect(plane.address).await.unwrap();
    let (mut server, _) = soon(good.accept()).await.unwrap();
    assert!(plane.forwarder.close(&plane.service.key()));
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(heard(&mut server).await.unwrap(), b"hello");
    server.write_all(b"welcome").await.unwrap();
    drop(server);
    assert_eq!(heard(&mut client).await.unwrap(), b"welcome");
}
