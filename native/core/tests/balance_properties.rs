//! Properties of the balancer under arbitrary sequences of changes and connections.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kubecore_core::balance::{
    Connection, DestinationSpec, Flow, Persistence, Protocol, SchedulerKind, ServiceKey, ServiceOptions,
    VirtualService,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Connect(u32),
    Close(usize),
    HalfClose(usize),
    Set(Vec<(u16, u32)>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u32>().prop_map(Step::Connect),
        3 => any::<usize>().prop_map(Step::Close),
        1 => any::<usize>().prop_map(Step::HalfClose),
        1 => prop::collection::vec((1u16..12, 0u32..6), 0..10).prop_map(Step::Set),
    ];
    prop::collection::vec(step, 1..120)
}

fn server(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn make(kind: SchedulerKind, persistence: Option<Persistence>) -> Arc<VirtualService> {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::from(([10, 96, 0, 1], 80)));
    let options = ServiceOptions { scheduler: kind, persistence, ..ServiceOptions::default() };
    Arc::new(VirtualService::new(key, options))
}

fn flow(client: u32) -> Flow {
    Flow::new(SocketAddr::new(IpAddr::V4(client.into()), 4000), IpAddr::from([10, 96, 0, 1]))
}

/// What IPVS's linear scan would pick, written the plain way: the first least by cross-multiplication.
fn scanned(service: &VirtualService, kind: SchedulerKind) -> Option<SocketAddr> {
    let destinations = service.destinations();
    let load = |index: usize| {
        let found = &destinations[index];
        match kind {
            SchedulerKind::ShortestExpectedDelay | SchedulerKind::NeverQueue => u64::from(found.active()) + 1,
            _ => u64::from(found.active()) * 256 + u64::from(found.inactive()),
        }
    };
    let weight = |index: usize| match kind {
        SchedulerKind::LeastConnection => 1,
        _ => u64::from(destinations[index].weight()),
    };
    let mut best: Option<usize> = None;
    for (index, found) in destinations.iter().enumerate().filter(|(_, found)| found.weight() > 0) {
        if kind == SchedulerKind::NeverQueue && found.active() == 0 {
            return Some(found.address());
        }
        if best.is_none_or(|least| load(least) * weight(index) > load(index) * weight(least)) {
            best = Some(index);
        }
    }
    best.map(|index| destinations[index].address())
}

fn run(
    service: &Arc<VirtualService>,
    steps: &[Step],
    mut check: impl FnMut(&Arc<VirtualService>, Option<&Connection>, u32),
) {
    let mut open: Vec<Connection> = Vec::new();
    for (now, step) in steps.iter().enumerate() {
        match step {
            Step::Connect(client) => {
                let connection = service.connect(&flow(*client), now as u64);
                check(service, connection.as_ref(), *client);
                open.extend(connection);
            }
            Step::Close(which) if !open.is_empty() => drop(open.swap_remove(which % open.len())),
            Step::HalfClose(which) if !open.is_empty() => {
                let index = which % open.len();
                open[index].closing();
            }
            Step::Set(wanted) => {
                let specs: Vec<_> =
                    wanted.iter().map(|&(port, weight)| DestinationSpec::new(server(port), weight)).collect();
                service.set_destinations(&specs);
            }
            Step::Close(_) | Step::HalfClose(_) => {}
        }
        let mut held: HashMap<*const _, u32> = HashMap::new();
        for connection in &open {
            *held.entry(Arc::as_ptr(connection.destination())).or_default() += 1;
        }
        for found in service.destinations() {
            let count = held.get(&Arc::as_ptr(&found)).copied().unwrap_or(0);
            assert_eq!(found.active() + found.inactive(), count, "counts are those of the open connections");
        }
    }
    drop(open);
    assert!(service.destinations().iter().all(|found| found.active() + found.inactive() == 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_scheduler_picks_a_destination_that_is_gone_or_drained(index in 0usize..12, steps in steps()) {
        let service = make(SchedulerKind::ALL[index], None);
        run(&service, &steps, |service, connection, _| {
            if let Some(connection) = connection {
                let picked = connection.destination();
                assert!(!picked.removed());
                assert!(picked.weight() > 0);
                assert!(service.destinations().iter().any(|found| Arc::ptr_eq(found, picked)));
            }
        });
    }

    #[test]
    fn the_least_loaded_is_the_one_a_linear_scan_finds(index in 0usize..4, steps in steps()) {
        let kind = [
            SchedulerKind::LeastConnection,
            SchedulerKind::WeightedLeastConnection,
            SchedulerKind::ShortestExpectedDelay,
            SchedulerKind::NeverQueue,
        ][index];
        let service = make(kind, None);
        run(&service, &steps, |service, _, client| {
            assert_eq!(service.pick(&flow(client), |found| found.address()), scanned(service, kind));
        });
    }

    #[test]
    fn rotations_and_hashes_with_any_destination_left_never_refuse(steps in steps()) {
        for kind in [SchedulerKind::RoundRobin, SchedulerKind::WeightedRoundRobin, SchedulerKind::Failover] {
            let service = make(kind, None);
            run(&service, &steps, |service, connection, _| {
                assert_eq!(connection.is_some(), service.serving());
            });
        }
    }

    #[test]
    fn a_persistent_client_is_moved_only_when_its_destination_goes(steps in steps()) {
        let service = make(SchedulerKind::RoundRobin, Some(Persistence::new(1_000_000)));
        let mut places: HashMap<u32, Arc<_>> = HashMap::new();
        run(&service, &steps, |_, connection, client| {
            let Some(connection) = connection else { return };
            let picked = connection.destination();
            if let Some(before) = places.insert(client, Arc::clone(picked)) {
                let before: Arc<kubecore_core::balance::Destination> = before;
                assert!(Arc::ptr_eq(&before, picked) || before.removed());
            }
        });
    }

    #[test]
    fn wrr_serves_in_proportion_over_a_whole_rotation(weights in prop::collection::vec(0u32..8, 1..8)) {
        let service = make(SchedulerKind::WeightedRoundRobin, None);
        let specs: Vec<_> = weights.iter().enumerate()
            .map(|(index, &weight)| DestinationSpec::new(server(index as u16 + 1), weight)).collect();
        service.set_destinations(&specs);
        let total: u32 = weights.iter().sum();
        let mut served: HashMap<u16, u32> = HashMap::new();
        // The rotation that was under way when the last was added comes first: let it end.
        for turn in 0..total * 3 {
            let picked = service.pick(&flow(turn), |found| found.address().port());
            if turn >= total {
                *served.entry(picked.unwrap()).or_default() += 1;
            }
        }
        for (index, &weight) in weights.iter().enumerate() {
            let count = served.get(&(index as u16 + 1)).copied().unwrap_or(0);
            prop_assert_eq!(count, weight * 2);
        }
    }
}

#[test]
fn counts_hold_under_many_threads() {
    for kind in [SchedulerKind::RoundRobin, SchedulerKind::LeastConnection, SchedulerKind::Maglev] {
        let service = make(kind, Some(Persistence::new(10)));
        let specs: Vec<_> = (1..9).map(|port| DestinationSpec::new(server(port), 1)).collect();
        service.set_destinations(&specs);
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                let (service, specs) = (&service, &specs);
                scope.spawn(move || {
                    for turn in 0..2000u32 {
                        if thread == 0 && turn % 50 == 0 {
                            service.set_destinations(&specs[(turn / 50 % 4) as usize..]);
                        }
                        let connection = service.connect(&flow(turn % 97 + thread * 1000), u64::from(turn));
                        connection.expect("there is always a destination").close(u64::from(turn));
                    }
                });
            }
        });
        service.set_destinations(&specs);
        assert!(service.destinations().iter().all(|found| found.active() == 0 && found.inactive() == 0));
    }
}
