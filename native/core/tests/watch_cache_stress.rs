//! Writers publish while a hundred watchers and a paging lister look on: each sees every revision once and in order.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use kubecore_core::clock::Clock;
use kubecore_core::watch_cache::{
    At, Bounds, Change, ContinueToken, Filter, Json, ListQuery, ResourceCache, ResourceInfo, Start,
    WatchCache, WatchQuery,
};
use parking_lot::Mutex;

const WRITERS: usize = 4;
const WATCHERS: usize = 100;
const WRITES: u64 = 4_000;
const KEYS: u64 = 700;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn info() -> ResourceInfo {
    ResourceInfo {
        key: "configmaps".into(),
        group: String::new(),
        plural: "configmaps".into(),
        kind: "ConfigMap".into(),
        list_kind: String::new(),
        custom: false,
        storage_version: "v1".into(),
        namespaced: true,
        versions: vec!["v1".into()],
        selectable_fields: Vec::new(),
        empty: Vec::new(),
    }
}

/// Writers take turns at the revision, as the store's writer thread would order them.
fn write(cache: &WatchCache, resource: u32, turn: &Mutex<u64>, seed: u64) {
    loop {
        let mut revision = turn.lock();
        if *revision >= WRITES {
            return;
        }
        let mut changes = Vec::new();
        for _ in 0..(seed % 5 + 1).min(WRITES - *revision) {
            *revision += 1;
            let number = *revision * 7919 % KEYS;
            let json =
                format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"c{number}"}}}}"#);
            changes.push(Change {
                resource,
                deleted: revision.is_multiple_of(11) && *revision > KEYS,
                key: format!("ns{}/c{number}", number % 3).into(),
                revision: *revision,
                object: json.into(),
            });
        }
        cache.publish(*revision, changes).expect("well-formed");
    }
}

/// Reads frames until the last revision; returns the revisions in order of arrival.
fn watch(resource: &Arc<ResourceCache>, namespace: Option<&str>, framed: bool) -> Vec<u64> {
    let filter = namespace.map_or_else(Filter::everything, Filter::in_namespace);
    let query = WatchQuery { filter, start: Start::After(0), bookmarks: false };
    let mut seen = Vec::new();
    if framed {
        let mut watcher = resource.watch(query, Arc::new(Json::stored())).expect("open");
        while !last_seen(&seen, namespace) {
            let batch = block_on(watcher.next_batch(64)).expect("not ended");
            let text = batch.frames.concat();
            let before = seen.len();
            seen.extend(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(revision_of));
            assert_eq!(seen.len() - before, batch.events);
        }
        return seen;
    }
    let mut watcher = resource.subscribe(query).expect("open");
    while !last_seen(&seen, namespace) {
        let deliveries = block_on(std::future::poll_fn(|context| watcher.poll_deliveries(context, 64)));
        seen.extend(deliveries.expect("not ended").iter().map(|delivery| delivery.revision));
    }
    seen
}

fn in_namespace(revision: u64, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| namespace == format!("ns{}", revision * 7919 % KEYS % 3))
}

fn last_seen(seen: &[u64], namespace: Option<&str>) -> bool {
    let last = (1..=WRITES).rev().find(|revision| in_namespace(*revision, namespace));
    seen.last().copied() == last
}

fn revision_of(frame: &[u8]) -> u64 {
    let frame: serde_json::Value = serde_json::from_slice(frame).expect("a frame is JSON");
    assert_ne!(frame["type"], "ERROR", "{frame}");
    frame["object"]["metadata"]["resourceVersion"].as_str().expect("string").parse().expect("number")
}

/// Pages through again and again; every set of pages must be exactly the state at its revision.
fn list(resource: &ResourceCache, done: &AtomicBool) -> usize {
    let mut rounds = 0;
    while !done.load(Ordering::Acquire) || rounds == 0 {
        let mut query = ListQuery { limit: 50, ..ListQuery::default() };
        let mut listed = Vec::new();
        let mut revision = None;
        loop {
            let page = resource.page(&query).expect("history is long enough");
            assert_eq!(*revision.get_or_insert(page.meta.revision), page.meta.revision);
            listed.extend(page.objects().map(|object| (object.key().to_owned(), object.revision())));
            let Some(token) = page.meta.continue_token else { break };
            query.at = At::Continue(ContinueToken::decode(&token).expect("our own"));
        }
        assert_eq!(listed, state_at(revision.expect("a page")), "at {revision:?}");
        rounds += 1;
    }
    rounds
}

fn state_at(revision: u64) -> Vec<(String, u64)> {
    let mut state = HashMap::new();
    for at in 1..=revision {
        let number = at * 7919 % KEYS;
        let key = format!("ns{}/c{number}", number % 3);
        if at.is_multiple_of(11) && at > KEYS {
            state.remove(&key);
        } else {
            state.insert(key, at);
        }
    }
    let mut state: Vec<_> = state.into_iter().collect();
    state.sort();
    state
}

#[test]
fn every_watcher_sees_every_revision_once_and_in_order_and_every_list_is_consistent() {
    let cache = WatchCache::new(Bounds::events(WRITES as usize), Clock::system());
    let id = cache.register(info());
    let resource = cache.resource(id).expect("registered");
    let (turn, done) = (Mutex::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|number| {
                let resource = &resource;
                let namespace = (number % 4 == 3).then_some("ns1");
                let watcher =
                    scope.spawn(move || watch(resource, namespace, number % 2 == 0 || number % 4 == 3));
                (namespace, watcher)
            })
            .collect();
        let lister = scope.spawn(|| list(&resource, &done));
        let writers: Vec<_> = (0..WRITERS)
            .map(|seed| {
                let (cache, turn) = (&cache, &turn);
                scope.spawn(move || write(cache, id, turn, seed as u64))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("wrote"));
        done.store(true, Ordering::Release);
        for (namespace, watcher) in watchers {
            let expected: Vec<u64> =
                (1..=WRITES).filter(|revision| in_namespace(*revision, namespace)).collect();
            assert_eq!(watcher.join().expect("watched"), expected);
        }
        assert!(lister.join().expect("listed") > 0);
    });
}
