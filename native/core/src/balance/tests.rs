use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::*;

fn server(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

fn service(kind: SchedulerKind, weights: &[(u16, u32)]) -> Arc<VirtualService> {
    service_with(ServiceOptions { scheduler: kind, ..ServiceOptions::default() }, weights)
}

fn service_with(options: ServiceOptions, weights: &[(u16, u32)]) -> Arc<VirtualService> {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::from(([10, 96, 0, 1], 80)));
    let service = Arc::new(VirtualService::new(key, options));
    service.set_destinations(&specs(weights));
    service
}

fn specs(weights: &[(u16, u32)]) -> Vec<DestinationSpec> {
    weights.iter().map(|&(number, weight)| DestinationSpec::new(server(number), weight)).collect()
}

fn flow(client: u32) -> Flow {
    Flow::new(SocketAddr::new(IpAddr::V4(client.into()), 40000), IpAddr::from([10, 96, 0, 1]))
}

/// Ports of the servers that the next `count` connections go to, all kept open.
fn sequence(service: &Arc<VirtualService>, count: u32) -> Vec<u16> {
    let connections: Vec<_> = (0..count).map(|client| service.connect(&flow(client), 0)).collect();
    let port = |connection: &Option<Connection>| {
        connection.as_ref().map_or(0, |connection| connection.destination().address().port())
    };
    connections.iter().map(port).collect()
}

mod round_robin {
    use super::*;

    #[test]
    fn the_destination_added_last_comes_first_as_in_the_kernel() {
        let service = service(SchedulerKind::RoundRobin, &[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(sequence(&service, 7), [3, 2, 1, 3, 2, 1, 3]);
    }

    #[test]
    fn the_rotation_goes_on_where_it_was_when_a_destination_is_added() {
        let service = service(SchedulerKind::RoundRobin, &[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(sequence(&service, 1), [3]);
        service.set_destinations(&specs(&[(1, 1), (2, 1), (3, 1), (4, 1)]));
        assert_eq!(sequence(&service, 4), [2, 1, 4, 3]);
    }

    #[test]
    fn the_rotation_goes_on_behind_a_destination_that_was_removed() {
        let service = service(SchedulerKind::RoundRobin, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
        assert_eq!(sequence(&service, 2), [4, 3]);
        service.set_destinations(&specs(&[(1, 1), (2, 1), (4, 1)]));
        assert_eq!(sequence(&service, 3), [2, 1, 4]);
    }

    #[test]
    fn weight_zero_drains() {
        let service = service(SchedulerKind::RoundRobin, &[(1, 1), (2, 0), (3, 1)]);
        assert_eq!(sequence(&service, 3), [3, 1, 3]);
        service.set_destinations(&specs(&[(1, 0), (2, 0), (3, 0)]));
        assert_eq!(sequence(&service, 1), [0]);
        assert!(!service.serving());
    }
}

mod weighted_round_robin {
    use super::*;

    #[test]
    fn passes_run_from_the_greatest_weight_down() {
        // The example of the LVS documentation: A=4, B=3, C=2 gives AABABCABC. Before it, the pass for level 1
        // that began when C was alone.
        let service = service(SchedulerKind::WeightedRoundRobin, &[(3, 2), (2, 3), (1, 4)]);
        assert_eq!(sequence(&service, 12), [1, 2, 3, 1, 1, 2, 1, 2, 3, 1, 2, 3]);
        assert_eq!(sequence(&service, 9), [1, 1, 2, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn weights_with_a_common_divisor_rotate_in_its_steps() {
        let service = service(SchedulerKind::WeightedRoundRobin, &[(2, 10), (1, 20)]);
        assert_eq!(sequence(&service, 6), [1, 2, 1, 1, 2, 1]);
    }

    #[test]
    fn the_level_is_kept_when_heavier_destinations_are_added_later() {
        let service = service(SchedulerKind::WeightedRoundRobin, &[(1, 1)]);
        service.set_destinations(&specs(&[(1, 1), (2, 3)]));
        assert_eq!(sequence(&service, 5), [2, 1, 2, 2, 2]);
    }

    #[test]
    fn levels_that_only_an_overloaded_destination_reaches_are_passed() {
        let service = service(SchedulerKind::WeightedRoundRobin, &[]);
        let heavy = DestinationSpec { upper_threshold: 1, ..DestinationSpec::new(server(1), 65535) };
        service.set_destinations(&[DestinationSpec::new(server(2), 1), heavy]);
        assert_eq!(sequence(&service, 4), [1, 2, 2, 2]);
    }
}

mod least {
    use super::*;

    #[test]
    fn lc_picks_the_fewest_connections_and_the_first_of_equals() {
        let service = service(SchedulerKind::LeastConnection, &[(1, 9), (2, 1), (3, 1)]);
        assert_eq!(sequence(&service, 5), [3, 2, 1, 3, 2]);
        assert_eq!(sequence(&service, 1), [3], "all connections have ended");
    }

    #[test]
    fn wlc_weighs_connections() {
        let service = service(SchedulerKind::WeightedLeastConnection, &[(2, 1), (1, 3)]);
        assert_eq!(sequence(&service, 8), [1, 2, 1, 1, 1, 2, 1, 1]);
    }

    #[test]
    fn sed_counts_the_connection_to_come() {
        let service = service(SchedulerKind::ShortestExpectedDelay, &[(2, 1), (1, 3)]);
        assert_eq!(sequence(&service, 5), [1, 1, 1, 2, 1]);
    }

    #[test]
    fn nq_prefers_an_idle_destination() {
        let service = service(SchedulerKind::NeverQueue, &[(2, 1), (1, 3)]);
        assert_eq!(sequence(&service, 5), [1, 2, 1, 1, 1]);
    }

    #[test]
    fn a_half_closed_connection_weighs_next_to_nothing() {
        let service = service(SchedulerKind::LeastConnection, &[(1, 1), (2, 1)]);
        let first = service.connect(&flow(1), 0).unwrap();
        let _second = service.connect(&flow(2), 0).unwrap();
        first.closing();
        first.closing();
        assert_eq!((first.destination().active(), first.destination().inactive()), (0, 1));
        assert_eq!(sequence(&service, 2), [2, 1]);
    }

    #[test]
    fn a_connection_that_is_over_is_in_no_count_whatever_is_told_of_it_later() {
        let service = service(SchedulerKind::LeastConnection, &[(1, 1)]);
        let connection = service.connect(&flow(1), 0).unwrap();
        let destination = Arc::clone(connection.destination());
        connection.set_active(false);
        connection.end(0);
        connection.set_active(true);
        connection.set_active(false);
        drop(connection);
        assert_eq!((destination.active(), destination.inactive()), (0, 0));
    }

    #[test]
    fn counts_survive_changes_of_other_destinations_and_a_removal_and_return() {
        let service = service(SchedulerKind::LeastConnection, &[(1, 1), (2, 1)]);
        let held: Vec<_> = (0..4).map(|client| service.connect(&flow(client), 0).unwrap()).collect();
        service.set_destinations(&specs(&[(1, 1), (3, 1)]));
        assert_eq!(sequence(&service, 3), [3, 3, 3]);
        service.set_destinations(&specs(&[(1, 1), (2, 1)]));
        let counts: Vec<_> = service.destinations().iter().map(|found| found.active()).collect();
        assert_eq!(counts, [2, 2]);
        drop(held);
        let counts: Vec<_> = service.destinations().iter().map(|found| found.active()).collect();
        assert_eq!(counts, [0, 0]);
    }
}

mod hashes {
    use super::*;

    #[test]
    fn sh_sends_a_client_to_the_bucket_of_its_address() {
        let service = service(SchedulerKind::SourceHash, &[(1, 1), (2, 1), (3, 1)]);
        for client in [0u32, 1, 0x0a00_0001, 0xffff_ffff] {
            let bucket = client.wrapping_mul(0x61C8_8647) >> 24;
            let expected = [3, 2, 1][bucket as usize % 3];
            assert_eq!(service.pick(&flow(client), |found| found.address().port()), Some(expected));
        }
    }

    #[test]
    fn sh_refuses_the_clients_of_a_drained_destination_unless_told_to_fall_back() {
        let weights = [(1, 1), (2, 1)];
        let mut options =
            ServiceOptions { scheduler: SchedulerKind::SourceHash, ..ServiceOptions::default() };
        let strict = service_with(options, &weights);
        let to_first: Vec<_> = (0..100).filter(|&client| ports(&strict, client) == Some(1)).collect();
        strict.set_destinations(&specs(&[(1, 0), (2, 1)]));
        assert!(to_first.iter().all(|&client| ports(&strict, client).is_none()));
        options.hash.fallback = true;
        strict.reconfigure(options);
        assert!((0..100).all(|client| ports(&strict, client) == Some(2)));
    }

    fn ports(service: &VirtualService, client: u32) -> Option<u16> {
        service.pick(&flow(client), |found| found.address().port())
    }

    #[test]
    fn sh_gives_heavier_destinations_more_buckets() {
        let service = service(SchedulerKind::SourceHash, &[(1, 1), (2, 3)]);
        let heavy = (0..10_000).filter(|&client| ports(&service, client) == Some(2)).count();
        assert!((7_000..8_000).contains(&heavy), "{heavy}");
    }

    #[test]
    fn dh_goes_by_the_target_address() {
        let service = service(SchedulerKind::DestinationHash, &[(1, 1), (2, 1), (3, 1)]);
        let mut flow = flow(1);
        let first = service.pick(&flow, |found| found.address());
        flow.source = SocketAddr::from(([1, 2, 3, 4], 5));
        assert_eq!(service.pick(&flow, |found| found.address()), first);
        let bucket = u32::from_be_bytes([10, 96, 0, 1]).wrapping_mul(0x61C8_8647) >> 24;
        assert_eq!(first, Some(server([3, 2, 1][bucket as usize % 3])));
    }

    #[test]
    fn mh_moves_few_clients_when_a_destination_goes() {
        let all: Vec<_> = (1..=10).map(|number| (number, 1)).collect();
        let service = service(SchedulerKind::Maglev, &all);
        let before: Vec<_> = (0..10_000).map(|client| ports(&service, client)).collect();
        service.set_destinations(&specs(&all[1..]));
        let after: Vec<_> = (0..10_000).map(|client| ports(&service, client)).collect();
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let gone = before.iter().filter(|port| **port == Some(1)).count();
        assert!(gone > 700 && moved < gone + 500, "{moved} of 10000 moved, {gone} had to");
    }

    #[test]
    fn mh_keeps_its_table_while_a_destination_drains() {
        let service = service(SchedulerKind::Maglev, &[(1, 1), (2, 1)]);
        let before: Vec<_> = (0..1000).map(|client| ports(&service, client)).collect();
        service.set_destinations(&specs(&[(1, 0), (2, 1)]));
        for (client, old) in before.iter().enumerate() {
            let expected = if *old == Some(1) { None } else { *old };
            assert_eq!(ports(&service, client as u32), expected);
        }
    }

    #[test]
    fn the_port_counts_when_asked_for() {
        let options = ServiceOptions {
            scheduler: SchedulerKind::Maglev,
            hash: HashOptions { port: true, fallback: false },
            ..ServiceOptions::default()
        };
        let service = service_with(options, &[(1, 1), (2, 1), (3, 1)]);
        let mut flow = flow(1);
        let ports: std::collections::HashSet<_> = (0..100)
            .map(|port| {
                flow.source.set_port(port);
                service.pick(&flow, |found| found.address())
            })
            .collect();
        assert_eq!(ports.len(), 3);
    }
}

mod others {
    use super::*;

    #[test]
    fn fo_sends_all_to_the_heaviest_that_is_there() {
        let service = service(SchedulerKind::Failover, &[(1, 3), (2, 5), (3, 1)]);
        assert_eq!(sequence(&service, 3), [2, 2, 2]);
        service.set_destinations(&specs(&[(1, 3), (3, 1)]));
        assert_eq!(sequence(&service, 2), [1, 1]);
    }

    #[test]
    fn ovf_spills_over_when_the_heaviest_has_more_connections_than_weight() {
        let service = service(SchedulerKind::Overflow, &[(1, 1), (2, 2)]);
        assert_eq!(sequence(&service, 6), [2, 2, 2, 1, 1, 0]);
    }

    #[test]
    fn lblc_keeps_a_target_until_its_destination_is_overloaded() {
        let service = service(SchedulerKind::LocalityLeastConnection, &[(1, 4), (2, 4)]);
        assert_eq!(sequence(&service, 8), [2, 2, 2, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn an_overloaded_destination_rests_until_it_is_below_its_lower_threshold() {
        let service = service(SchedulerKind::RoundRobin, &[(1, 1)]);
        let limited =
            DestinationSpec { upper_threshold: 2, lower_threshold: 1, ..DestinationSpec::new(server(2), 1) };
        service.set_destinations(&[DestinationSpec::new(server(1), 0), limited]);
        let first = service.connect(&flow(1), 0);
        let second = service.connect(&flow(2), 0);
        assert!(first.is_some() && second.is_some() && service.connect(&flow(3), 0).is_none());
        drop(first);
        assert!(service.connect(&flow(3), 0).is_none(), "one is not below one");
        drop(second);
        assert!(service.connect(&flow(3), 0).is_some());
    }

    #[test]
    fn a_retry_goes_elsewhere_and_ends_when_all_were_tried() {
        for kind in SchedulerKind::ALL {
            let service = service(kind, &[(1, 1), (2, 1), (3, 1)]);
            let mut tried = Vec::new();
            while let Some(connection) = service.connect_excluding(&flow(7), 0, &tried) {
                tried.push(connection.destination().address());
            }
            tried.sort();
            assert_eq!(tried, [server(1), server(2), server(3)], "{}", kind.as_str());
        }
    }

    #[test]
    fn names_parse_and_unknown_ones_are_refused_with_the_list() {
        for kind in SchedulerKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "random".parse::<SchedulerKind>().unwrap_err();
        assert!(error.contains("random") && error.contains("wlc"), "{error}");
    }
}

mod persistence {
    use super::*;

    fn persistent(prefix_v4: u8) -> Arc<VirtualService> {
        let persistence = Persistence { prefix_v4, ..Persistence::new(1000) };
        let options = ServiceOptions { persistence: Some(persistence), ..ServiceOptions::default() };
        service_with(options, &[(1, 1), (2, 1), (3, 1)])
    }

    fn port(service: &Arc<VirtualService>, client: u32, now: u64) -> u16 {
        let connection = service.connect(&flow(client), now).unwrap();
        let port = connection.destination().address().port();
        connection.close(now);
        port
    }

    #[test]
    fn a_client_leaves_a_destination_of_weight_0_only_where_it_is_told_to() {
        for (expire_quiescent, then) in [(false, 3), (true, 2)] {
            let persistence = Persistence { expire_quiescent, ..Persistence::new(1000) };
            let options = ServiceOptions { persistence: Some(persistence), ..ServiceOptions::default() };
            let service = service_with(options, &[(1, 1), (2, 1), (3, 1)]);
            let open = service.connect(&flow(1), 0).unwrap();
            service.set_destinations(&specs(&[(1, 1), (2, 1), (3, 0)]));
            assert_eq!(port(&service, 1, 1), then);
            assert!(!open.destination().removed());
            service.set_destinations(&specs(&[(1, 1), (2, 1), (3, 1)]));
            assert_eq!(port(&service, 1, 2), then, "where it has come to, it stays");
        }
    }

    #[test]
    fn a_client_stays_until_its_time_is_up() {
        let service = persistent(32);
        assert_eq!(port(&service, 1, 0), 3);
        assert_eq!(port(&service, 2, 0), 2);
        assert_eq!(port(&service, 1, 900), 3);
        assert_eq!(port(&service, 1, 1800), 3, "each use starts the time anew");
        assert_eq!(port(&service, 1, 2801), 1);
        assert_eq!(service.expire(10_000), 0);
    }

    #[test]
    fn a_client_with_an_open_connection_does_not_expire() {
        let service = persistent(32);
        let open = service.connect(&flow(1), 0).unwrap();
        assert_eq!(service.expire(5000), 1);
        assert_eq!(port(&service, 1, 5000), 3);
        open.close(5000);
        assert_eq!(service.expire(5999), 1);
        assert_eq!(service.expire(6000), 0);
    }

    #[test]
    fn a_client_of_a_removed_destination_is_moved() {
        let service = persistent(32);
        assert_eq!(port(&service, 1, 0), 3);
        service.set_destinations(&specs(&[(1, 1), (2, 1)]));
        assert_eq!(port(&service, 1, 1), 2);
        assert_eq!(port(&service, 1, 2), 2);
    }

    #[test]
    fn a_client_whose_destination_failed_is_moved_for_good() {
        let service = persistent(32);
        assert_eq!(port(&service, 1, 0), 3);
        let retry = service.connect_excluding(&flow(1), 1, &[server(3)]).unwrap();
        assert_eq!(retry.destination().address(), server(2));
        assert_eq!(port(&service, 1, 2), 2);
    }

    #[test]
    fn clients_of_one_network_go_together_under_a_mask() {
        let service = persistent(24);
        assert_eq!(port(&service, 0x0a00_0001, 0), 3);
        assert_eq!(port(&service, 0x0a00_00ff, 0), 3);
        assert_eq!(port(&service, 0x0a00_0101, 0), 2);
    }

    #[test]
    fn dead_clients_do_not_pile_up() {
        let service = persistent(32);
        for client in 0..20_000 {
            port(&service, client, u64::from(client) * 10);
        }
        assert!(service.expire(0) < 5_000);
    }
}

mod table {
    use super::*;

    #[test]
    fn services_are_found_changed_and_removed() {
        let balancer = Balancer::new();
        let keys: Vec<_> = (0..500)
            .map(|port| ServiceKey::new(Protocol::Udp, server(port)))
            .chain([ServiceKey::Mark(7)])
            .collect();
        for &key in &keys {
            balancer.put(key, ServiceOptions::default());
        }
        assert_eq!(balancer.len(), 501);
        let service = balancer.get(&keys[3]).unwrap();
        service.set_destinations(&specs(&[(1, 1)]));
        let options = ServiceOptions { scheduler: SchedulerKind::Maglev, ..ServiceOptions::default() };
        assert!(Arc::ptr_eq(&service, &balancer.put(keys[3], options)));
        assert_eq!(service.options(), options);
        assert_eq!(service.destinations().len(), 1);
        assert!(balancer.remove(&keys[3]).is_some() && balancer.remove(&keys[3]).is_none());
        assert!(!service.serving() && balancer.get(&keys[3]).is_none());
        assert_eq!(balancer.services().len(), 500);
    }

    #[test]
    fn an_observer_hears_of_changes_only() {
        let heard = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let service = service(SchedulerKind::RoundRobin, &[(1, 1)]);
        let count = Arc::clone(&heard);
        service.observe(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        service.set_destinations(&specs(&[(1, 1)]));
        service.set_destinations(&specs(&[(1, 2)]));
        service.set_destinations(&specs(&[(2, 2)]));
        assert_eq!(heard.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
