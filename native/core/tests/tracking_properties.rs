//! Properties of the connection table under arbitrary packets, changes and time.

use std::collections::HashMap;
use std::net::SocketAddr;

use kubecore_core::balance::{
    Balancer, DestinationSpec, Direction, Packet, Protocol, SchedulerKind, Segment, ServiceKey,
    ServiceOptions, Verdict,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Packet { client: u16, udp: bool, reply: bool, segment: Segment },
    Set(Vec<u16>),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let segment = prop_oneof![
        3 => Just(Segment::Syn), 3 => Just(Segment::Data), 1 => Just(Segment::Finish), 1 => Just(Segment::Reset),
    ];
    let packet = (0u16..12, any::<bool>(), any::<bool>(), segment)
        .prop_map(|(client, udp, reply, segment)| Step::Packet { client, udp, reply, segment });
    let step = prop_oneof![
        12 => packet,
        1 => prop::collection::vec(1u16..6, 0..5).prop_map(Step::Set),
        1 => (1u64..400_000).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..200)
}

fn target() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 80))
}

fn balancer(scheduler: SchedulerKind) -> Balancer {
    let balancer = Balancer::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        balancer.put(
            ServiceKey::new(protocol, target()),
            ServiceOptions { scheduler, ..ServiceOptions::default() },
        );
    }
    set(&balancer, &[1, 2, 3]);
    balancer
}

fn set(balancer: &Balancer, ports: &[u16]) {
    let spec = |port: &u16| DestinationSpec::new(SocketAddr::from(([10, 0, 0, 1], *port)), 1);
    for service in balancer.services() {
        service.set_destinations(&ports.iter().map(spec).collect::<Vec<_>>());
    }
}

/// The counts of all destinations that are in their service are those of the tracked connections.
fn assert_counted(balancer: &Balancer) {
    let mut tracked: HashMap<(Protocol, SocketAddr), (u32, u32)> = HashMap::new();
    for found in balancer.tracked() {
        let counts = tracked.entry((found.protocol, found.destination)).or_default();
        if found.state.is_active() { counts.0 += 1 } else { counts.1 += 1 }
    }
    for service in balancer.services() {
        let ServiceKey::Address { protocol, .. } = service.key() else { continue };
        for found in service.destinations() {
            let counts = tracked.get(&(protocol, found.address())).copied().unwrap_or_default();
            assert_eq!((found.active(), found.inactive()), counts);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn counts_are_those_of_the_connections_and_none_moves_while_it_lives(index in 0usize..12, steps in steps()) {
        let balancer = balancer(SchedulerKind::ALL[index]);
        let mut now = 0;
        let mut present = vec![1, 2, 3];
        for step in &steps {
            match step {
                Step::Packet { client, udp, reply, segment } => {
                    let protocol = if *udp { Protocol::Udp } else { Protocol::Tcp };
                    let client = SocketAddr::from(([10, 0, 1, 1], *client));
                    let before = balancer.tracked().into_iter()
                        .find(|found| (found.protocol, found.client) == (protocol, client) && found.expires > now);
                    let direction = if *reply { Direction::ToClient } else { Direction::FromClient };
                    let packet = Packet {
                        protocol, client, target: target(), mark: 0, direction, segment: *segment, bytes: 1,
                    };
                    let verdict = balancer.forward(&packet, now);
                    if let Some(before) = before {
                        let there = present.contains(&before.destination.port());
                        let expected = if there { Verdict::Carry(before.destination) } else { Verdict::Drop };
                        prop_assert_eq!(verdict, expected);
                    } else if let Verdict::Carry(destination) = verdict {
                        prop_assert!(present.contains(&destination.port()));
                    }
                }
                Step::Set(ports) => {
                    set(&balancer, ports);
                    present.clone_from(ports);
                }
                Step::Pass(time) => {
                    now += time;
                    let left = balancer.expire(now);
                    prop_assert_eq!(left, balancer.tracked().len());
                    prop_assert!(balancer.tracked().iter().all(|found| found.expires > now));
                }
            }
            assert_counted(&balancer);
        }
        balancer.expire(now + 1_000_000);
        prop_assert!(balancer.tracked().is_empty());
        assert_counted(&balancer);
    }
}

#[test]
fn counts_hold_when_many_threads_send_and_expire() {
    let balancer = balancer(SchedulerKind::LeastConnection);
    std::thread::scope(|scope| {
        for thread in 0..4u16 {
            let balancer = &balancer;
            scope.spawn(move || {
                for turn in 0..4000u64 {
                    let segment =
                        [Segment::Syn, Segment::Data, Segment::Finish, Segment::Reset][turn as usize % 4];
                    let packet = Packet {
                        protocol: if turn % 3 == 0 { Protocol::Udp } else { Protocol::Tcp },
                        client: SocketAddr::from(([10, 0, 1, 1], (turn / 7 % 50) as u16)),
                        target: target(),
                        mark: 0,
                        direction: Direction::FromClient,
                        segment,
                        bytes: 1,
                    };
                    balancer.forward(&packet, turn * 100);
                    match (thread, turn % 100) {
                        (0, 0) => drop(balancer.expire(turn * 100)),
                        (1, 0) => set(balancer, &[1, 2, 3][turn as usize / 100 % 3..]),
                        _ => {}
                    }
                }
            });
        }
    });
    set(&balancer, &[1, 2, 3]);
    balancer.expire(1_000_000_000);
    assert!(balancer.tracked().is_empty());
    assert_counted(&balancer);
}
