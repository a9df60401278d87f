//! lb-pick: one pick among 100 destinations, for each scheduler; and the whole of a counted connection.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use kubecore_core::balance::{
    DestinationSpec, Flow, Protocol, SchedulerKind, ServiceKey, ServiceOptions, VirtualService,
};

const DESTINATIONS: u16 = 100;

fn service(scheduler: SchedulerKind) -> Arc<VirtualService> {
    let key = ServiceKey::new(Protocol::Tcp, SocketAddr::from(([10, 96, 0, 1], 80)));
    let options = ServiceOptions { scheduler, ..ServiceOptions::default() };
    let service = Arc::new(VirtualService::new(key, options));
    let spec = |port| DestinationSpec::new(SocketAddr::from(([10, 0, 0, 1], port)), u32::from(port % 5) + 1);
    service.set_destinations(&(1..=DESTINATIONS).map(spec).collect::<Vec<_>>());
    service
}

fn flow(client: u32) -> Flow {
    Flow::new(SocketAddr::new(IpAddr::V4(client.into()), 4000), IpAddr::from([10, 96, 0, 1]))
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lb_pick");
    for kind in &SchedulerKind::ALL {
        let service = service(*kind);
        let _open: Vec<_> = (0..1000).filter_map(|client| service.connect(&flow(client), 0)).collect();
        let mut client = 0u32;
        group.bench_function(kind.as_str(), |bencher| {
            bencher.iter(|| {
                client = client.wrapping_add(0x9E37_79B9);
                service.pick(black_box(&flow(client)), |destination| destination.address().port())
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
    group.finish();
}

criterion_group!(benches, picks, connections);
criterion_main!(benches);
