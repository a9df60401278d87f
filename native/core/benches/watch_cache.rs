//! The watch cache: publishing, reading, LIST of 10,000 pods, and a burst to 1,000 watchers.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kubecore_core::clock::Clock;
use kubecore_core::selector::{FieldSelector, LabelSelector};
use kubecore_core::watch_cache::{
    Bounds, Change, Filter, Json, ListQuery, ResourceCache, ResourceInfo, Scanner, SelectableField, Start,
    WatchCache, WatchQuery, Watcher,
};

const PODS: usize = 10_000;
const WATCHERS: usize = 1_000;
const BURST: u64 = 100;

/// A pod of about `size` bytes with the shape of a real one.
fn pod(number: usize, size: usize) -> Bytes {
    let mut json = format!(
        concat!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"web-{0:05}","namespace":"default","#,
            r#""uid":"8c1b5cbe-6f0c-4d4b-9f83-{0:012}","resourceVersion":"{0}","creationTimestamp":"2026-11-24T00:00:00Z","#,
            r#""labels":{{"app":"web","pod-template-hash":"6d4cf56db6","tier":"t{1}"}},"managedFields":["#
        ),
        number,
        number % 100
    );
    let field = r#"{"manager":"kubelet","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:phase":{},"f:podIP":{}}}}"#;
    let rest = format!(
        r#"]}},"spec":{{"nodeName":"node-{:03}","containers":[{{"name":"c","image":"registry.example.com/web:1.0","ports":[{{"containerPort":8080,"protocol":"TCP"}}]}}]}},"status":{{"phase":"Running","podIP":"10.244.0.1"}}}}"#,
        number % 500
    );
    let mut first = true;
    while json.len() + rest.len() + field.len() < size {
        if !std::mem::take(&mut first) {
            json.push(',');
        }
        json.push_str(field);
    }
    json.push_str(&rest);
    Bytes::from(json)
}

fn fields() -> Vec<SelectableField> {
    [
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ]
    .map(|label| SelectableField::new(label, &format!("/{}", label.replace('.', "/"))))
    .into()
}

fn info() -> ResourceInfo {
    ResourceInfo {
        key: "pods".into(),
        group: String::new(),
        plural: "pods".into(),
        kind: "Pod".into(),
        list_kind: String::new(),
        custom: false,
        storage_version: "v1".into(),
        namespaced: true,
        versions: vec!["v1".into()],
        selectable_fields: fields(),
        empty: Vec::new(),
    }
}

struct Filled {
    cache: Arc<WatchCache>,
    pods: Arc<ResourceCache>,
    revision: u64,
}

impl Filled {
    fn new(objects: usize, size: usize) -> Self {
        let cache = WatchCache::new(Bounds::default(), Clock::system());
        let id = cache.register(info());
        let items = (0..objects).map(|n| (key(n), n as u64 + 1, pod(n, size))).collect();
        cache.load(id, items).expect("well-formed");
        cache.progress(objects as u64);
        let pods = cache.resource(id).expect("registered");
        Self { cache, pods, revision: objects as u64 }
    }

    fn change(&mut self, number: usize, object: Bytes) -> Change {
        self.revision += 1;
        Change { resource: self.pods.id(), deleted: false, key: key(number), revision: self.revision, object }
    }
}

fn key(number: usize) -> Arc<str> {
    format!("default/web-{number:05}").into()
}

fn scan(criterion: &mut Criterion) {
    let (scanner, object) = (Scanner::new(fields()), pod(7, 2048));
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Bytes(object.len() as u64));
    group.bench_function("pod of 2 KB", |bench| bench.iter(|| scanner.scan(black_box(&object))));
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish 2 KB into 10k");
    for batch in [1, 64] {
        let mut filled = Filled::new(PODS, 2048);
        let cache = Arc::clone(&filled.cache);
        let mut next = 0;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{batch} a batch"), |bench| {
            bench.iter_batched(
                || {
                    let changes = (0..batch).map(|_| {
                        next = (next + 7919) % PODS;
                        // The store has written the revision into the bytes already.
                        let object = pod(filled.revision as usize + 1, 2048);
                        filled.change(next, object)
                    });
                    changes.collect::<Vec<_>>()
                },
                |changes| {
                    let revision = changes.last().map_or(0, |change| change.revision);
                    cache.publish(revision, changes).expect("well-formed");
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let filled = Filled::new(PODS, 3700);
    criterion.bench_function("get among 10k", |bench| {
        bench.iter(|| filled.pods.get("default", black_box("web-07919")));
    });
    let selecting = |labels: &str, fields: &str| {
        let labels = LabelSelector::parse(labels).expect("valid");
        let fields = FieldSelector::parse(fields).expect("valid");
        let filter = Filter::new(filled.pods.info(), None, labels, &fields).expect("known");
        ListQuery { filter, ..ListQuery::default() }
    };
    let json = Json::stored();
    let queries = [
        ("list 10k", ListQuery::default()),
        ("list page of 500", ListQuery { limit: 500, ..ListQuery::default() }),
        ("list 20 of 10k by field", selecting("", "spec.nodeName=node-017")),
        ("list 100 of 10k by label", selecting("tier=t3", "")),
        ("list 10k by label that is no index's", selecting("tier!=t3", "")),
    ];
    for (name, query) in queries {
        criterion.bench_function(name, |bench| {
            bench.iter(|| filled.pods.list(&query, &json).expect("listed").length)
        });
    }
    let mut changing = Filled::new(PODS, 3700);
    let object = pod(7, 3700);
    criterion.bench_function("list 10k after a write", |bench| {
        bench.iter(|| {
            let change = changing.change(7, object.clone());
            changing.cache.publish(changing.revision, vec![change]).expect("well-formed");
            changing.pods.list(&ListQuery::default(), &json).expect("listed").length
        });
    });
}

/// Publishes a burst of 1 KB events in batches and lets every watcher take all of it.
fn burst(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1,000 watchers, 100 events of 1 KB");
    group.throughput(Throughput::Elements(BURST * WATCHERS as u64));
    group.sample_size(20);
    for batch in [1, 20] {
        let mut filled = Filled::new(1_000, 1024);
        let object = pod(7, 1024);
        let query = WatchQuery { start: Start::Now, ..WatchQuery::default() };
        let open = |_| filled.pods.watch(query.clone(), Arc::new(Json::stored())).expect("open");
        let mut watchers: Vec<Watcher> = (0..WATCHERS).map(open).collect();
        let mut context = Context::from_waker(Waker::noop());
        watchers.iter_mut().for_each(|watcher| assert!(watcher.poll_batch(&mut context, 1).is_pending()));
        group.bench_function(format!("published {batch} at a time"), |bench| {
            let cache = Arc::clone(&filled.cache);
            bench.iter_batched(
                || (0..BURST).map(|n| filled.change(n as usize, object.clone())).collect::<Vec<_>>(),
                |changes| {
                    for part in changes.chunks(batch) {
                        let revision = part.last().map_or(0, |change| change.revision);
                        cache.publish(revision, part.to_vec()).expect("well-formed");
                    }
                    let mut events = 0;
                    for watcher in &mut watchers {
                        while let Poll::Ready(Some(batch)) = watcher.poll_batch(&mut context, 256) {
                            events += batch.events;
                        }
                    }
                    assert_eq!(events as u64, BURST * WATCHERS as u64);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, scan, publish, read, burst);
criterion_main!(benches);
