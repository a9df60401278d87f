//! A carried connection counts as one whose packets are seen, also when it is closed: the same picks, at all times.

use std::net::SocketAddr;
use std::sync::Arc;

use kubecore_core::balance::{
    Balancer, Carried, DestinationSpec, Direction, Flow, FlowKey, Packet, Protocol, SchedulerKind, Segment,
    ServiceKey, ServiceOptions, State, Verdict,
};
use proptest::prelude::*;

use Direction::{FromClient, ToClient};

#[derive(Clone, Copy, Debug)]
enum Ending {
    ByClient,
    ByServer,
    Reset,
}

#[derive(Clone, Debug)]
enum Step {
    Open {
        udp: bool,
    },
    /// The server does not want it.
    Refused,
    HalfClose(usize),
    Close(usize, Ending),
    /// Port, weight and upper threshold of each.
    Set(Vec<(u16, u32, u32)>),
    Pass {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ending = prop_oneof![Just(Ending::ByClient), Just(Ending::ByServer), Just(Ending::Reset)];
    let limit = prop_oneof![3 => Just(0), 1 => 1u32..6];
    let step = prop_oneof![
        8 => any::<bool>().prop_map(|udp| Step::Open { udp }),
        1 => Just(Step::Refused),
        1 => any::<usize>().prop_map(Step::HalfClose),
        6 => (any::<usize>(), ending).prop_map(|(which, ending)| Step::Close(which, ending)),
        1 => prop::collection::vec((1u16..6, 0u32..4, limit), 0..5).prop_map(Step::Set),
        2 => (1u64..150).prop_map(|seconds| Step::Pass { seconds }),
    ];
    prop::collection::vec(step, 1..150)
}

fn target() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 80))
}

struct Open {
    protocol: Protocol,
    client: SocketAddr,
    carried: Carried,
    last: u64,
}

/// The same connections twice: of one balancer they are carried, the other sees their packets.
struct Both {
    carrying: Arc<Balancer>,
    seeing: Balancer,
    open: Vec<Open>,
    clients: u16,
    now: u64,
}

impl Both {
    fn new(scheduler: SchedulerKind) -> Self {
        let (carrying, seeing) = (Arc::new(Balancer::new()), Balancer::new());
        let options = ServiceOptions { scheduler, ..ServiceOptions::default() };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            carrying.put(ServiceKey::new(protocol, target()), options);
            seeing.put(ServiceKey::new(protocol, target()), options);
        }
        Self { carrying, seeing, open: Vec::new(), clients: 0, now: 0 }
    }

    fn see(&self, protocol: Protocol, client: SocketAddr, direction: Direction, segment: Segment) -> Verdict {
        let packet = Packet { protocol, client, target: target(), mark: 0, direction, segment, bytes: 1 };
        self.seeing.forward(&packet, self.now)
    }

    /// Returns whether a destination was found.
    fn open(&mut self, protocol: Protocol) -> bool {
        self.clients += 1;
        let client = SocketAddr::from(([10, 0, 1, 1], self.clients));
        let service = self.carrying.get(&ServiceKey::new(protocol, target())).unwrap();
        let connection = service.connect(&Flow::new(client, target().ip()), self.now);
        let picked = connection.as_ref().map(|connection| connection.destination().address());
        let verdict = self.see(protocol, client, FromClient, Segment::Syn);
        assert_eq!(verdict, picked.map_or(Verdict::Refuse, Verdict::Carry), "both pick the same");
        let Some(connection) = connection else { return false };
        let state = if protocol == Protocol::Tcp { State::SynReceived } else { State::Untracked };
        let key = FlowKey::new(protocol, client, target());
        let carried = self.carrying.carry(key, connection, state, Arc::new(()), self.now);
        self.open.push(Open { protocol, client, carried, last: self.now });
        true
    }

    fn establish(&self) {
        let Some(Open { protocol: Protocol::Tcp, client, carried, .. }) = self.open.last() else { return };
        self.see(Protocol::Tcp, *client, ToClient, Segment::Syn);
        self.see(Protocol::Tcp, *client, FromClient, Segment::Data);
        carried.set_state(State::Established);
    }

    fn close(&mut self, which: usize, ending: Ending) {
        let Open { protocol, client, carried, last } = self.open.swap_remove(which);
        if protocol == Protocol::Udp {
            carried.close_idle(self.now, last);
            return;
        }
        let (directions, segment, state) = match ending {
            Ending::ByClient => (vec![FromClient, ToClient], Segment::Finish, State::TimeWait),
            Ending::ByServer => (vec![ToClient, FromClient], Segment::Finish, State::TimeWait),
            Ending::Reset => (vec![ToClient], Segment::Reset, State::Close),
        };
        for direction in directions {
            self.see(protocol, client, direction, segment);
        }
        carried.set_state(state);
        carried.close(self.now);
    }

    fn half_close(&self, which: usize) {
        let Open { protocol, client, carried, .. } = &self.open[which];
        if *protocol == Protocol::Tcp {
            self.see(*protocol, *client, FromClient, Segment::Finish);
            carried.set_state(State::CloseWait);
        }
    }

    /// What is taken out has no open connections, but closed ones that may still count when it is back.
    fn set(&mut self, wanted: &[(u16, u32, u32)]) {
        let stays = |address: SocketAddr| wanted.iter().any(|(port, ..)| *port == address.port());
        while let Some(which) = self.open.iter().position(|open| !stays(open.carried.destination())) {
            self.close(which, Ending::ByServer);
        }
        let present = self.carrying.services()[0].destinations();
        let spec = |&(port, weight, upper_threshold): &(u16, u32, u32)| {
            let address = SocketAddr::from(([10, 0, 0, 1], port));
            // Whether mh still knows of one that is back and drained depends on when memory is freed.
            let drains = present.iter().any(|found| found.address() == address);
            let plain = DestinationSpec::new(address, if drains { weight } else { weight.max(1) });
            DestinationSpec { upper_threshold, ..plain }
        };
        let specs: Vec<_> = wanted.iter().map(spec).collect();
        for service in [self.carrying.services(), self.seeing.services()].concat() {
            service.set_destinations(&specs);
        }
    }

    /// Packets of what is open come often enough that it is remembered.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds * 1000;
        while self.now < end {
            self.now = end.min(self.now + 50_000);
            for open in &mut self.open {
                open.last = self.now;
            }
            for Open { protocol, client, .. } in &self.open {
                self.see(*protocol, *client, FromClient, Segment::Data);
            }
            self.seeing.expire(self.now);
        }
    }

    fn run(&mut self, step: &Step) {
        let some = self.open.len().max(1);
        match step {
            Step::Open { udp } => {
                if self.open(if *udp { Protocol::Udp } else { Protocol::Tcp }) {
                    self.establish();
                }
            }
            Step::Refused => {
                if self.open(Protocol::Tcp) {
                    self.close(self.open.len() - 1, Ending::Reset);
                }
            }
            Step::HalfClose(which) if !self.open.is_empty() => self.half_close(which % some),
            Step::Close(which, ending) if !self.open.is_empty() => self.close(which % some, *ending),
            Step::HalfClose(_) | Step::Close(..) => {}
            Step::Set(wanted) => self.set(wanted),
            Step::Pass { seconds } => self.pass(*seconds),
        }
    }

    fn assert_same(&self) {
        let counts = |balancer: &Balancer| -> Vec<_> {
            let services = balancer.services();
            services.iter().for_each(|service| service.age(self.now));
            let destinations = services.iter().flat_map(|service| service.destinations());
            destinations
                .map(|found| (found.address(), found.active(), found.inactive(), found.overloaded()))
                .collect()
        };
        assert_eq!(counts(&self.carrying), counts(&self.seeing));
        assert_eq!(self.carrying.tracked().len(), self.open.len(), "nothing is kept of a closed connection");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn carried_and_tracked_connections_count_alike(index in 0usize..12, steps in steps()) {
        let mut both = Both::new(SchedulerKind::ALL[index]);
        both.set(&[(1, 1, 0), (2, 1, 0), (3, 2, 0)]);
        for step in &steps {
            both.run(step);
            both.assert_same();
        }
        both.set(&[]);
        both.pass(301);
        both.set(&[(1, 1, 0), (2, 1, 0), (3, 2, 0)]);
        both.assert_same();
        let services = both.carrying.services();
        let mut all = services.iter().flat_map(|service| service.destinations());
        prop_assert!(all.all(|found| (found.active(), found.inactive()) == (0, 0)));
    }
}

#[test]
fn connections_made_one_after_the_other_are_spread() {
    for kind in [SchedulerKind::LeastConnection, SchedulerKind::WeightedLeastConnection] {
        let mut both = Both::new(kind);
        both.set(&[(1, 1, 0), (2, 1, 0)]);
        let next = |both: &mut Both| {
            assert!(both.open(Protocol::Tcp));
            let port = both.open[0].carried.destination().port();
            both.establish();
            both.close(0, Ending::ByClient);
            port
        };
        let ports: Vec<_> = (0..8).map(|_| next(&mut both)).collect();
        assert_eq!(ports, [2, 1, 2, 1, 2, 1, 2, 1]);
        both.pass(120);
        assert_eq!([next(&mut both), next(&mut both)], [2, 1], "from here on as if there had been none");
    }
}

#[test]
fn no_count_is_lost_when_many_threads_open_close_and_change() {
    let balancer = Arc::new(Balancer::new());
    let options =
        ServiceOptions { scheduler: SchedulerKind::WeightedLeastConnection, ..ServiceOptions::default() };
    let service = balancer.put(ServiceKey::new(Protocol::Tcp, target()), options);
    let specs: Vec<_> =
        (1..9).map(|port| DestinationSpec::new(SocketAddr::from(([10, 0, 0, 1], port)), 1)).collect();
    service.set_destinations(&specs);
    std::thread::scope(|scope| {
        for thread in 0..4u16 {
            let (balancer, service, specs) = (&balancer, &service, &specs);
            scope.spawn(move || {
                for turn in 0..4000u64 {
                    let (client, now) =
                        (SocketAddr::from(([10, 0, 1, thread as u8], turn as u16)), turn * 100);
                    if thread == 0 && turn % 100 == 0 {
                        service.set_destinations(&specs[turn as usize / 100 % 4..]);
                    }
                    let connection = service.connect(&Flow::new(client, target().ip()), now);
                    let connection = connection.expect("there is always a destination");
                    let key = FlowKey::new(Protocol::Tcp, client, target());
                    let carried = balancer.carry(key, connection, State::Established, Arc::new(()), now);
                    carried.set_state(if turn % 3 == 0 { State::Close } else { State::TimeWait });
                    carried.close(now);
                }
            });
        }
    });
    service.set_destinations(&specs);
    let counted = service.destinations().iter().map(|found| found.inactive()).sum::<u32>();
    assert!(counted >= 4 * 800, "those of the last 120 seconds count, {counted}");
    service.age(400_000 + 120_000);
    assert!(service.destinations().iter().all(|found| (found.active(), found.inactive()) == (0, 0)));
}
