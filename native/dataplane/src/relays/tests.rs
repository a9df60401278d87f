use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use kubecore_core::balance::State;
use rustix::event::{PollFd, PollFlags};

use super::*;

/// Nothing here takes as long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Timespec = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };

/// Two ends of a connection, the second one as a relay has it.
fn pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    outside.set_write_timeout(Some(PATIENCE)).unwrap();
    let (inside, _) = listener.accept().unwrap();
    inside.set_nonblocking(true).unwrap();
    (outside, inside.into())
}

/// What a relay tells of itself, with what goes on elsewhere.
enum Said {
    Entered(State),
    Ended(Outcome, Option<Box<(Socket, Pump)>>),
}

struct Listening(Sender<Said>);

impl Carries for Listening {
    fn passed(&self, _: u64, _: u64) {}

    fn enter(&self, state: State) {
        self.0.send(Said::Entered(state)).unwrap();
    }

    fn introduced(&self) -> u64 {
        0
    }

    fn ended(self: Box<Self>, client: Socket, server: Socket, pump: Pump, outcome: Outcome) {
        drop(server);
        let goes_on = (outcome != Outcome::Over).then(|| Box::new((client, pump)));
        self.0.send(Said::Ended(outcome, goes_on)).unwrap();
    }
}

/// A connection that is carried, from outside.
struct Carried {
    client: TcpStream,
    server: TcpStream,
    place: Place,
    said: Receiver<Said>,
}

impl Carried {
    fn by(relays: &Relays) -> Self {
        Self::with(relays, Pump::settled())
    }

    fn with(relays: &Relays, pump: Pump) -> Self {
        let ((client, from), (server, to)) = (pair(), pair());
        let (sender, said) = mpsc::channel();
        let place = relays.add(from, to, pump, Box::new(Listening(sender))).unwrap();
        Self { client, server, place, said }
    }

    /// The states it went through until it ended, and how that was.
    fn end(&self) -> (Vec<State>, Outcome) {
        let mut states = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE).unwrap() {
                Said::Entered(state) if states.last() == Some(&state) => {}
                Said::Entered(state) => states.push(state),
                Said::Ended(outcome, ..) => return (states, outcome),
            }
        }
    }

    fn carries(&mut self, word: &[u8]) -> bool {
        let mut heard = vec![0; word.len()];
        self.client.write_all(word).unwrap();
        self.server.read_exact(&mut heard).unwrap();
        heard == word
    }
}

/// All that comes until the end.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    heard
}

fn is_reset(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

/// Relays whose one thread is the test's: it does what is ready when it is told to.
struct Driven {
    relays: Relays,
    goes_on: Vec<Place>,
}

impl Driven {
    fn new() -> Self {
        let carrying = Arc::new(Carrying::new(0).unwrap());
        Self { relays: Relays { threads: vec![carrying], next: AtomicUsize::new(0) }, goes_on: Vec::new() }
    }

    /// False: there is nothing to be done.
    fn round(&mut self) -> bool {
        self.relays.threads[0].round(&mut self.goes_on, Some(&AT_ONCE))
    }

    /// Whatever comes until there is something to receive.
    fn drive_until_readable(&mut self, stream: &TcpStream) {
        loop {
            while self.round() {}
            let mut asked = [
                PollFd::new(stream, PollFlags::IN),
                PollFd::new(&self.relays.threads[0].epoll, PollFlags::IN),
            ];
            assert_ne!(rustix::event::poll(&mut asked, Some(&LONG)).unwrap(), 0, "nothing comes any more");
            if !asked[0].revents().is_empty() {
                return;
            }
        }
    }
}

mod places {
    use super::*;

    fn entry() -> Entry {
        Entry::Door(Arc::new(Gate::new().0))
    }

    #[test]
    fn who_has_the_key_of_one_that_has_gone_is_at_another_place() {
        let mut entries = Entries::default();
        let gone = entries.put(0, entry());
        entries.remove(gone).unwrap();
        let here = entries.put(0, entry());
        assert_eq!(here.key, gone.key);
        assert!(entries.get(gone).is_none() && entries.remove(gone).is_none());
        assert!(entries.get(here).is_some());
    }

    #[test]
    fn generations_begin_anew_behind_the_last_one_that_epoll_can_say() {
        let mut entries = Entries { last_generation: (u32::MAX >> 1) - 1, ..Entries::default() };
        let places = [entries.put(0, entry()), entries.put(0, entry())];
        assert_eq!(places.map(|place| place.generation), [u32::MAX >> 1, 0]);
    }

    #[test]
    fn what_epoll_says_is_the_place_and_the_side() {
        for generation in [0, 1, u32::MAX >> 1] {
            for key in [0, 1, u32::MAX] {
                let place = Place { of: 3, key, generation };
                for server in [false, true] {
                    let said = place.token(server).u64();
                    assert_eq!(Place::of_token(3, said), (place, server));
                }
            }
        }
    }

    #[test]
    fn a_late_event_of_a_connection_that_was_removed_is_not_for_the_next_one() {
        let mut driven = Driven::new();
        let gone = Carried::by(&driven.relays);
        driven.relays.remove(gone.place);
        let mut here = Carried::by(&driven.relays);
        assert_eq!(here.place.key, gone.place.key);
        here.client.write_all(b"still here").unwrap();
        let late = |_: &mut End, _: &mut End| panic!("told of another one's event");
        driven.relays.threads[0].turn(gone.place, &mut driven.goes_on, late);
        driven.drive_until_readable(&here.server);
        let mut heard = [0; 10];
        here.server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still here");
    }
}

mod carrying {
    use super::*;

    #[test]
    fn a_client_that_has_finished_still_hears_the_answer() {
        let mut carried = Carried::by(&Relays::start(1).unwrap());
        carried.client.write_all(b"all of the question").unwrap();
        carried.client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut carried.server), b"all of the question");
        let answer = vec![7; 1_000_000];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                carried.server.write_all(&answer).unwrap();
                carried.server.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(rest(&mut carried.client), answer);
        });
        assert_eq!(carried.end(), (vec![State::CloseWait, State::TimeWait], Outcome::Over));
    }

    #[test]
    fn a_server_that_has_finished_still_hears_the_client() {
        let mut carried = Carried::by(&Relays::start(1).unwrap());
        carried.server.write_all(b"goodbye").unwrap();
        carried.server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut carried.client), b"goodbye");
        assert!(carried.carries(b"one thing more"));
        carried.client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut carried.server), b"");
        assert_eq!(carried.end(), (vec![State::FinWait, State::TimeWait], Outcome::Over));
    }

    #[test]
    fn a_reset_of_one_side_is_one_of_the_other() {
        let mut carried = Carried::by(&Relays::start(1).unwrap());
        assert!(carried.carries(b"hello"));
        reset(&carried.client);
        carried.client = pair().0;
        assert!(is_reset(&mut carried.server));
        assert_eq!(carried.end(), (vec![State::Close], Outcome::Over));
    }

    #[test]
    fn what_goes_wrong_with_one_connection_is_not_the_end_of_others() {
        let relays = Relays::start(1).unwrap();
        let mut unlucky = Carried::by(&relays);
        let mut other = Carried::by(&relays);
        // Who cannot be told of an end panics.
        drop(std::mem::replace(&mut unlucky.said, mpsc::channel().1));
        unlucky.client.shutdown(Shutdown::Both).unwrap();
        assert_eq!(rest(&mut unlucky.server), b"");
        unlucky.server.shutdown(Shutdown::Both).unwrap();
        assert!(other.carries(b"hello"));
        assert!(Carried::by(&relays).carries(b"hello"));
    }

    #[test]
    fn each_thread_takes_its_part_and_carries_it() {
        let relays = Relays::start(2).unwrap();
        let mut all: Vec<_> = (0..4).map(|_| Carried::by(&relays)).collect();
        assert_eq!(all.iter().map(|one| one.place.of).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert!(all.iter_mut().all(|one| one.carries(b"hello")));
    }
}

mod pressure {
    use super::*;

    const OFFERED: usize = 64 << 20;

    fn pattern(from: usize, count: usize) -> Vec<u8> {
        (from..from + count).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_reader_that_is_slow_slows_its_writer_and_misses_nothing() {
        let mut driven = Driven::new();
        let Carried { mut client, mut server, said: _said, .. } = Carried::by(&driven.relays);
        client.set_nonblocking(true).unwrap();
        let mut taken = 0;
        loop {
            match client.write(&pattern(taken, 100_000)) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !driven.round() {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
            assert!(taken < OFFERED, "what nobody reads is taken without end");
        }
        client.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::with_capacity(taken);
        loop {
            driven.drive_until_readable(&server);
            let mut piece = vec![0; 300_000];
            let count = server.read(&mut piece).unwrap();
            if count == 0 {
                break;
            }
            heard.extend_from_slice(&piece[..count]);
        }
        assert!(heard == pattern(0, taken));
    }
}

mod other_servers {
    use super::*;

    /// A relay's server whose peer has reset the connection before it heard anything.
    fn resets_at_once() -> Socket {
        let (outside, inside) = pair();
        reset(&outside);
        drop(outside);
        inside
    }

    #[test]
    fn what_a_server_took_nothing_of_is_said_to_the_next_one() {
        let relays = Relays::start(1).unwrap();
        let (mut client, from) = pair();
        client.write_all(b"hello").unwrap();
        let (sender, said) = mpsc::channel();
        let listening = || Box::new(Listening(sender.clone()));
        let first = relays.add(from, resets_at_once(), Pump::new(), listening()).unwrap();
        let Said::Entered(State::Close) = said.recv_timeout(PATIENCE).unwrap() else { panic!() };
        let Said::Ended(Outcome::Refused, Some(goes_on)) = said.recv_timeout(PATIENCE).unwrap() else {
            panic!()
        };
        let (from, mut pump) = *goes_on;
        pump.begin_again();
        let (mut server, to) = pair();
        let second = relays.add(from, to, pump, listening()).unwrap();
        assert_ne!(second, first);
        let mut heard = [0; 5];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        server.write_all(b"welcome").unwrap();
        server.shutdown(Shutdown::Both).unwrap();
        assert_eq!(rest(&mut client), b"welcome");
    }

    #[test]
    fn a_server_that_says_nothing_and_finishes_has_declined_until_the_connection_is_settled() {
        let relays = Relays::start(1).unwrap();
        let open = Carried::with(&relays, Pump::new());
        open.server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(open.end(), (vec![State::FinWait], Outcome::Declined));

        let mut settled = Carried::with(&relays, Pump::new());
        relays.settle(settled.place);
        settled.server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut settled.client), b"");
        assert!(settled.carries(b"hello"));
    }
}

mod ends {
    use super::*;

    #[test]
    fn of_a_connection_that_is_removed_both_sides_are_closed_and_nothing_more_is_told() {
        let relays = Relays::start(1).unwrap();
        let mut carried = Carried::by(&relays);
        assert!(carried.carries(b"hello"));
        relays.remove(carried.place);
        assert_eq!(rest(&mut carried.client), b"");
        assert_eq!(rest(&mut carried.server), b"");
        assert!(matches!(carried.said.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected)));
        relays.remove(carried.place);
    }

    #[test]
    fn one_may_be_removed_while_it_is_carried() {
        let relays = Relays::start(1).unwrap();
        for _ in 0..50 {
            let Carried { mut client, mut server, place, said: _said } = Carried::by(&relays);
            let writing = std::thread::spawn(move || while client.write_all(&[7; 65536]).is_ok() {});
            server.read_exact(&mut [0; 1]).unwrap();
            relays.remove(place);
            while server.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {}
            writing.join().unwrap();
        }
        assert!(relays.threads[0].entries.lock().all.is_empty());
    }

    #[tokio::test]
    async fn a_relay_lasts_until_both_have_finished() {
        let relays = Relays::start(1).unwrap();
        let ((client, from), (mut server, to)) = (pair(), pair());
        let relayed = tokio::spawn(async move { relays.relay(from, to).await });
        client.shutdown(Shutdown::Write).unwrap();
        tokio::task::spawn_blocking(move || rest(&mut server)).await.unwrap();
        relayed.await.unwrap();
    }

    #[tokio::test]
    async fn a_relay_that_nobody_waits_for_any_more_is_closed() {
        let relays = Relays::start(1).unwrap();
        let ((mut client, from), (mut server, to)) = (pair(), pair());
        let relayed = tokio::spawn(async move { relays.relay(from, to).await });
        client.write_all(b"x").unwrap();
        let server = tokio::task::spawn_blocking(move || {
            server.read_exact(&mut [0]).unwrap();
            server
        });
        let mut server = server.await.unwrap();
        relayed.abort();
        assert!(relayed.await.unwrap_err().is_cancelled());
        assert_eq!((rest(&mut client), rest(&mut server)), (Vec::new(), Vec::new()));
    }
}

/// Lets in who comes, and tells who that was.
struct Gate {
    socket: Socket,
    came: Sender<SocketAddr>,
}

impl Gate {
    fn new() -> (Self, Receiver<SocketAddr>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (came, who) = mpsc::channel();
        (Self { socket: listener.into(), came }, who)
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }
}

impl Door for Gate {
    fn socket(&self) -> &Socket {
        &self.socket
    }

    fn take_one(&self, _: Place) {
        let (_, peer) = self.socket.accept().unwrap();
        self.came.send(peer.as_socket().unwrap()).unwrap();
    }
}

mod doors {
    use super::*;

    fn came(who: &Receiver<SocketAddr>, client: &TcpStream) -> bool {
        who.recv_timeout(PATIENCE).unwrap() == client.local_addr().unwrap()
    }

    #[test]
    fn all_who_come_at_once_are_let_in() {
        let (relays, (gate, who)) = (Relays::start(1).unwrap(), Gate::new());
        let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(gate.address()).unwrap()).collect();
        relays.open(Arc::new(gate)).unwrap();
        assert!(clients.iter().all(|client| came(&who, client)));
    }

    #[test]
    fn who_comes_to_a_door_that_is_shut_waits_until_it_opens_again() {
        let (mut driven, (gate, who)) = (Driven::new(), Gate::new());
        let address = gate.address();
        let place = driven.relays.open(Arc::new(gate)).unwrap();
        driven.relays.set_open(place, false);
        let client = TcpStream::connect(address).unwrap();
        while driven.round() {}
        assert!(who.try_recv().is_err());
        driven.relays.set_open(place, true);
        assert!(driven.round());
        assert!(came(&who, &client));
    }

    #[test]
    fn a_door_that_is_removed_is_not_listened_to() {
        let (mut driven, (gate, who)) = (Driven::new(), Gate::new());
        let (address, gate) = (gate.address(), Arc::new(gate));
        let place = driven.relays.open(gate.clone()).unwrap();
        driven.relays.remove(place);
        let _waits = TcpStream::connect(address).unwrap();
        assert!(!driven.round());
        // Where its event had been told already:
        driven.relays.threads[0].turn(place, &mut driven.goes_on, |_, _| {});
        assert!(who.try_recv().is_err());
    }
}
