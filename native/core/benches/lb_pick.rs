//! lb-pick: one pick among 100 destinations, for each scheduler; the whole of a counted connection; a look-up among a
//! million tracked ones.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use kubecore_core::balance::{
    Balancer, DestinationSpec, Direction, Flow, Packet, Persistence, Protocol, SchedulerKind, Segment,
    ServiceKey, ServiceOptions, VirtualService,
};

const DESTINATIONS: u16 = 100;

fn service(scheduler: SchedulerKind) -> Arc<VirtualService> {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::from(([10, 96, 0, 1], 80)));
    let options = ServiceOptions { scheduler, ..ServiceOptions::default() };
    let service = Arc::new(VirtualService::new(key, options));
    service.set_destinations(&specs());
    service
}

fn specs() -> Vec<DestinationSpec> {
    let spec = |port| DestinationSpec::new(SocketAddr::from(([10, 0, 0, 1], port)), u32::from(port % 5) + 1);
    (1..=DESTINATIONS).map(spec).collect()
}

fn flow(client: u32) -> Flow {
    Flow::new(SocketAddr::new(IpAddr::V4(client.into()), 4000), IpAddr::from([10, 96, 0, 1]))
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lb_pick");
    for kind in &SchedulerKind::ALL {
        let service = service(*kind);
        let _open: Vec<_> = (0..1000).filter_map(|client| service.connect(&flow(client), 0)).collect();
        let (mut client, mut picker) = (0u32, service.picker());
        group.bench_function(kind.as_str(), |bencher| {
            bencher.iter(|| {
                client = client.wrapping_add(0x9E37_79B9);
                picker.pick(black_box(&flow(client)), |destination| destination.address().port())
            });
        });
    }
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lb_connect_and_close");
    for kind in &SchedulerKind::ALL {
        let service = service(*kind);
        let _open: Vec<_> = (0..1000).filter_map(|client| service.connect(&flow(client), 0)).collect();
        let mut client = 0u32;
        group.bench_function(kind.as_str(), |bencher| {
            bencher.iter(|| {
                client = client.wrapping_add(0x9E37_79B9);
                drop(service.connect(black_box(&flow(client)), 0));
            });
        });
    }
    let options =
        ServiceOptions { persistence: Some(Persistence::new(10_800_000)), ..ServiceOptions::default() };
    let service = service(SchedulerKind::RoundRobin);
    service.reconfigure(options);
    let mut client = 0u32;
    group.bench_function("affinity", |bencher| {
        bencher.iter(|| {
            client = (client + 1) % 10_000;
            drop(service.connect(black_box(&flow(client)), 0));
        });
    });
    group.finish();
}

/// A million tracked connections: a look-up that finds one of them at random.
fn tracked(criterion: &mut Criterion) {
    const FLOWS: u32 = 1_000_000;
    let balancer = Balancer::new();
    let target = SocketAddr::from(([10, 96, 0, 1], 80));
    let service = balancer.put(ServiceKey::new(Protocol::Tcp, target), ServiceOptions::default());
    service.set_destinations(&specs());
    let client =
        |number: u32| SocketAddr::from((Ipv4Addr::from(0x0b00_0000 + number / 16), (number % 16) as u16));
    let before = resident_bytes();
    for number in 0..FLOWS {
        let packet = Packet {
            protocol: Protocol::Tcp,
            client: client(number),
            target,
            mark: 0,
            direction: Direction::FromClient,
            segment: Segment::Syn,
            bytes: 40,
        };
        balancer.forward(&packet, 0);
    }
    println!("lb_flows: {} bytes a flow", (resident_bytes() - before) / u64::from(FLOWS));
    let mut dice = 0u32;
    let mut at_random = || {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        client(((u64::from(dice) * u64::from(FLOWS)) >> 32) as u32)
    };
    let asked: Vec<SocketAddr> = (0..FLOWS).map(|_| at_random()).collect();
    let mut asked = asked.iter().cycle();
    let mut group = criterion.benchmark_group("lb_flows");
    group.bench_function("look_up", |bencher| {
        bencher.iter(|| balancer.tracked_destination(Protocol::Tcp, *black_box(asked.next()?), target));
    });
    group.finish();
}

/// From /proc, in pages of 4096 bytes.
fn resident_bytes() -> u64 {
    let found = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    found.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

criterion_group!(benches, picks, connections, tracked);
criterion_main!(benches);
