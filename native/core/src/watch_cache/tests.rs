//! Behaviour of the cache as a whole; what Python sees of it is specified in tests/native/test_watch_cache.py.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::clock::Clock;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::Status;

struct Fixture {
    cache: Arc<WatchCache>,
    pods: Arc<ResourceCache>,
    revision: u64,
}

pub(super) fn pod_info() -> ResourceInfo {
    ResourceInfo {
        key: "pods".into(),
        group: String::new(),
        plural: "pods".into(),
        kind: "Pod".into(),
        list_kind: String::new(),
        custom: false,
        storage_version: "v1".into(),
        namespaced: true,
        versions: vec!["v1".into(), "v1beta1".into()],
        selectable_fields: vec![SelectableField::new("spec.nodeName", "/spec/nodeName")],
        empty: Vec::new(),
    }
}

impl Fixture {
    fn new() -> Self {
        Self::keeping(Bounds::events(1024), Clock::system())
    }

    fn keeping(history: Bounds, clock: Clock) -> Self {
        let cache = WatchCache::new(history, clock);
        let id = cache.register(pod_info());
        let pods = cache.resource(id).expect("registered");
        Self { cache, pods, revision: 0 }
    }

    fn change(&mut self, name: &str, node: &str, label: &str, deleted: bool) -> Change {
        self.revision += 1;
        let json = format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","labels":{{"l":"{label}"}}}},"spec":{{"nodeName":"{node}"}}}}"#
        );
        Change {
            resource: self.pods.id(),
            deleted,
            key: format!("default/{name}").into(),
            revision: self.revision,
            object: json.into(),
        }
    }

    fn put(&mut self, name: &str, node: &str, label: &str) {
        let change = self.change(name, node, label, false);
        self.cache.publish(self.revision, vec![change]).expect("published");
    }

    fn filter(&self, labels: &str, fields: &str) -> Filter {
        let labels = LabelSelector::parse(labels).expect("valid");
        Filter::new(self.pods.info(), None, labels, &FieldSelector::parse(fields).expect("valid"))
            .expect("known")
    }

    /// Whether a watch can go on from `revision`.
    fn goes_on_from(&self, revision: u64) -> bool {
        goes_on_from(&self.pods, revision)
    }

    fn watch(&self, filter: Filter, transcoder: impl Transcoder + 'static) -> Watcher {
        let query = WatchQuery { filter, start: Start::Now, bookmarks: false };
        self.pods.watch(query, Arc::new(transcoder)).expect("open")
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(watcher: &mut Watcher, counter: &Arc<Counter>) -> Option<Batch> {
    let waker = Waker::from(Arc::clone(counter));
    match watcher.poll_batch(&mut Context::from_waker(&waker), 1000) {
        Poll::Ready(batch) => Some(batch.expect("not ended")),
        Poll::Pending => None,
    }
}

fn goes_on_from(resource: &Arc<ResourceCache>, revision: u64) -> bool {
    let query = WatchQuery { filter: Filter::everything(), start: Start::After(revision), bookmarks: false };
    let mut watcher = resource.watch(query, Arc::new(Json::stored())).expect("open");
    poll(&mut watcher, &Arc::default()).is_none_or(|batch| !text(&batch).contains(r#""code":410"#))
}

fn text(batch: &Batch) -> String {
    String::from_utf8(batch.frames.concat()).expect("JSON is UTF-8")
}

#[test]
fn frames_are_made_once_and_leave_in_one_piece() {
    let mut fixture = Fixture::new();
    let counter = Arc::default();
    let (mut one, mut other) = (
        fixture.watch(Filter::everything(), Json::stored()),
        fixture.watch(Filter::everything(), Json::stored()),
    );
    for number in 0..5 {
        fixture.put(&format!("p{number}"), "", "");
    }
    let (one, other) =
        (poll(&mut one, &counter).expect("events"), poll(&mut other, &counter).expect("events"));
    assert_eq!((one.events, one.frames.len()), (5, 1));
    assert_eq!(one.frames[0].as_ptr(), other.frames[0].as_ptr());
    assert_eq!(text(&one).matches(r#"{"type":"ADDED","object":{"kind":"Pod""#).count(), 5);
    assert!(text(&one).ends_with("}}}\n"));
}

#[test]
fn a_burst_wakes_a_waiting_watcher_once() {
    let mut fixture = Fixture::new();
    let counter = Arc::default();
    let mut watcher = fixture.watch(Filter::everything(), Json::stored());
    assert!(poll(&mut watcher, &counter).is_none());
    for number in 0..50 {
        fixture.put(&format!("p{number}"), "", "");
    }
    assert_eq!(counter.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(&mut watcher, &counter).expect("events").events, 50);
}

#[test]
fn an_event_wakes_only_those_whom_it_may_concern() {
    let mut fixture = Fixture::new();
    let (here, there) = (Arc::default(), Arc::default());
    let mut on_n1 = fixture.watch(fixture.filter("", "spec.nodeName=n1"), Json::stored());
    let mut on_n2 = fixture.watch(fixture.filter("", "spec.nodeName=n2"), Json::stored());
    assert!(poll(&mut on_n1, &here).is_none() && poll(&mut on_n2, &there).is_none());
    fixture.put("a", "n1", "");
    assert_eq!((here.0.load(Ordering::SeqCst), there.0.load(Ordering::SeqCst)), (1, 0));
    assert!(poll(&mut on_n1, &here).is_some());
    assert!(poll(&mut on_n1, &here).is_none());
    fixture.put("a", "n2", "");
    assert_eq!((here.0.load(Ordering::SeqCst), there.0.load(Ordering::SeqCst)), (2, 1));
    assert!(text(&poll(&mut on_n1, &here).expect("left")).starts_with(r#"{"type":"DELETED""#));
    assert!(text(&poll(&mut on_n2, &there).expect("came")).starts_with(r#"{"type":"ADDED""#));
}

#[test]
fn a_watcher_dropped_while_it_waits_leaves_nothing_behind() {
    let mut fixture = Fixture::new();
    let counter = Arc::<Counter>::default();
    let mut watcher = fixture.watch(fixture.filter("", "spec.nodeName=n1"), Json::stored());
    assert!(poll(&mut watcher, &counter).is_none());
    drop(watcher);
    fixture.put("a", "n1", "");
    assert_eq!(counter.0.load(Ordering::SeqCst), 0);
    assert_eq!(Arc::strong_count(&counter), 1);
}

#[test]
fn whole_runs_are_joined_once_for_all_lists() {
    let mut fixture = Fixture::new();
    for number in 0..1000 {
        fixture.put(&format!("p{number:04}"), "", "");
    }
    let list = |fixture: &Fixture| fixture.pods.list(&ListQuery::default(), &Json::stored()).expect("listed");
    let (first, second) = (list(&fixture), list(&fixture));
    assert_eq!(first.segments.len(), second.segments.len());
    assert!(first.segments.len() < 30);
    let same = first.segments.iter().zip(&second.segments).filter(|(a, b)| a.as_ptr() == b.as_ptr()).count();
    assert_eq!(same, first.segments.len() - 1); // all but the head
    assert_eq!(first.length, first.segments.concat().len());
    fixture.put("p0500", "", "changed");
    let third = list(&fixture);
    let kept =
        third.segments.iter().filter(|s| second.segments.iter().any(|t| s.as_ptr() == t.as_ptr())).count();
    assert_eq!(kept, third.segments.len() - 2); // head and one run
    assert!(serde_json::from_slice::<serde_json::Value>(&third.segments.concat()).is_ok());
}

#[test]
fn watches_are_rendered_in_the_version_and_form_asked_for() {
    let mut fixture = Fixture::new();
    let counter = Arc::default();
    let json = Json::version(fixture.pods.info(), "v1beta1").expect("served");
    let mut beta = fixture.watch(Filter::everything(), json);
    let mut partial = fixture.watch(Filter::everything(), PartialMetadata);
    assert!(Json::version(fixture.pods.info(), "v2").is_none());
    fixture.put("a", "", "x");
    assert!(text(&poll(&mut beta, &counter).expect("event")).contains(r#""apiVersion":"v1beta1""#));
    let expected = concat!(
        r#"{"type":"ADDED","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","#,
        r#""metadata":{"resourceVersion":"1","name":"a","labels":{"l":"x"}}}}"#,
        "\n"
    );
    assert_eq!(text(&poll(&mut partial, &counter).expect("event")), expected);
}

#[test]
fn a_transcoder_that_fails_ends_the_watch_with_an_error_event() {
    struct Failing;
    impl Transcoder for Failing {
        fn id(&self) -> FormId {
            FOREIGN
        }
        fn object(&self, _: &ResourceInfo, _: &Object) -> Result<Bytes, Status> {
            Err(Status::internal("no such form"))
        }
        fn append_item(&self, _: &ResourceInfo, _: &Object, _: &mut Vec<u8>) -> Result<(), Status> {
            Err(Status::internal("no such form"))
        }
        fn separator_length(&self) -> usize {
            0
        }
        fn list_frame(&self, _: &ResourceInfo, _: &ListMeta, _: usize) -> (Bytes, Bytes) {
            (Bytes::new(), Bytes::new())
        }
        fn frame(&self, event: EventType, object: &[u8]) -> Bytes {
            json_frame(event, object)
        }
        fn bookmark(&self, _: &ResourceInfo, _: u64, _: bool) -> Bytes {
            Bytes::new()
        }
    }
    let mut fixture = Fixture::new();
    let mut watcher = fixture.watch(Filter::everything(), Failing);
    fixture.put("a", "", "");
    let told = text(&poll(&mut watcher, &Arc::default()).expect("told"));
    assert!(
        told.starts_with(r#"{"type":"ERROR","object":{"kind":"Status""#) && told.contains("InternalError")
    );
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(watcher.poll_batch(&mut context, 10), Poll::Ready(None)));
    assert!(fixture.pods.list(&ListQuery::default(), &Failing).is_err());
}

#[test]
fn observers_are_told_before_publish_returns() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);
    impl Observer for Seen {
        fn published(&self, resource: &Arc<ResourceCache>, events: &[Arc<Event>]) {
            for event in events {
                // What is told is there already.
                let stored = resource.get("default", event.object().name()).is_some();
                self.0.lock().push(format!("{} {} {stored}", event.change().name(), event.object().key()));
            }
        }
        fn loaded(&self, resource: &Arc<ResourceCache>) {
            self.0.lock().push(format!("loaded {}", resource.info().key));
        }
    }
    let mut fixture = Fixture::new();
    let seen = Arc::new(Seen::default());
    fixture.cache.observe(Arc::clone(&seen) as Arc<dyn Observer>);
    fixture.put("a", "", "");
    let gone = fixture.change("a", "", "", true);
    fixture.cache.publish(fixture.revision, vec![gone]).expect("published");
    assert_eq!(*seen.0.lock(), ["loaded pods", "ADDED default/a true", "DELETED default/a false"]);
}

#[test]
fn what_was_replayed_and_cannot_be_undone_is_not_read_at_older_revisions() {
    let mut fixture = Fixture::new();
    let (one, two) = (fixture.change("a", "", "1", false), fixture.change("b", "", "1", false));
    fixture.cache.load(fixture.pods.id(), vec![(one.key.clone(), 1, one.object.clone())]).expect("loaded");
    fixture.cache.replay(vec![(one, None), (two, None)]).expect("replayed");
    fixture.cache.progress(2);
    let read = |at| fixture.pods.page(&ListQuery { at: At::Exact(at), ..ListQuery::default() }).map(|_| ());
    assert_eq!(read(1).expect_err("unknown").code, 410);
    assert!(read(2).is_ok());
}

#[test]
fn items_of_typed_lists_are_without_kind_and_api_version_wherever_these_stand() {
    let mut fixture = Fixture::new();
    let stored = [
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"kinds":{"kind":"x"}}"#,
        r#"{"kind":"Pod","metadata":{"name":"b"},"spec":[1, 2],"apiVersion":"v1"}"#,
        r#"{"metadata":{"name":"c"}}"#,
    ];
    for json in stored {
        fixture.revision += 1;
        let (resource, revision) = (fixture.pods.id(), fixture.revision);
        let key = Arc::from(format!("default/{revision}"));
        let change = Change { resource, deleted: false, key, revision, object: json.into() };
        fixture.cache.publish(revision, vec![change]).expect("published");
    }
    let list = fixture.pods.list(&ListQuery::default(), &Json::stored()).expect("a list");
    let text = String::from_utf8(list.segments.concat()).expect("JSON is UTF-8");
    let items = text.split_once(r#""items":"#).expect("items").1;
    let expected = concat!(
        r#"[{"metadata":{"resourceVersion":"1","name":"a"},"kinds":{"kind":"x"}},"#,
        r#"{"metadata":{"resourceVersion":"2","name":"b"},"spec":[1, 2]},"#,
        r#"{"metadata":{"resourceVersion":"3","name":"c"}}]}"#,
        "\n"
    );
    assert_eq!(items, expected);
}

#[test]
fn a_watch_tells_all_that_happened_before_its_resource_went() {
    let mut fixture = Fixture::new();
    let counter = Arc::default();
    let mut waiting = fixture.watch(Filter::everything(), Json::stored());
    assert!(poll(&mut waiting, &counter).is_none());
    let mut late = fixture.watch(Filter::everything(), Json::stored());
    fixture.put("a", "", "");
    fixture.cache.unregister(fixture.pods.id());
    let waker = Waker::from(Arc::clone(&counter));
    for watcher in [&mut waiting, &mut late] {
        assert!(text(&poll(watcher, &counter).expect("an event")).contains("ADDED"));
        let ended = watcher.poll_batch(&mut Context::from_waker(&waker), 1000);
        assert!(matches!(ended, Poll::Ready(None)));
    }
}

fn bounds(least: usize, events: usize, recent_events: usize) -> Bounds {
    Bounds { least, events, recent_events, ..Bounds::default() }
}

#[test]
fn recent_events_stay_beyond_what_is_kept_of_old_ones() {
    let clock = Clock::starting_at(Duration::ZERO);
    let mut fixture = Fixture::keeping(bounds(1, 2, 10), clock.clone());
    (0..5).for_each(|_| fixture.put("a", "", ""));
    clock.advance(Duration::from_secs(74));
    fixture.put("a", "", "");
    assert!(fixture.goes_on_from(1), "a watch misses nothing of the last 75 seconds");
    clock.advance(Duration::from_secs(1));
    fixture.put("a", "", "");
    assert!(!fixture.goes_on_from(4));
    assert!(fixture.goes_on_from(5), "two are kept however old they are");
}

#[test]
fn there_is_an_end_to_the_number_of_recent_events() {
    let mut fixture = Fixture::keeping(bounds(1, 2, 4), Clock::starting_at(Duration::ZERO));
    (0..6).for_each(|_| fixture.put("a", "", ""));
    assert!(!fixture.goes_on_from(1));
    assert!(fixture.goes_on_from(2));
}

#[test]
fn the_newest_events_stay_however_large_and_old_they_are() {
    let clock = Clock::starting_at(Duration::ZERO);
    let tight = Bounds { bytes: 1, recent_bytes: 1, ..bounds(3, 100, 100) };
    let mut fixture = Fixture::keeping(tight, clock.clone());
    (0..6).for_each(|_| fixture.put("a", "", ""));
    assert!(!fixture.goes_on_from(2));
    assert!(fixture.goes_on_from(3));
    clock.advance(Duration::from_secs(1_000));
    fixture.put("a", "", "");
    assert!(fixture.goes_on_from(4));
}

#[test]
fn large_events_stay_while_they_are_recent() {
    let clock = Clock::starting_at(Duration::ZERO);
    let small = Bounds { bytes: 1, recent_bytes: 1 << 20, ..bounds(1, 100, 100) };
    let mut fixture = Fixture::keeping(small, clock.clone());
    (0..6).for_each(|_| fixture.put("a", "", ""));
    assert!(fixture.goes_on_from(0));
    clock.advance(Duration::from_secs(75));
    fixture.put("a", "", "");
    assert!(!fixture.goes_on_from(5));
    assert!(fixture.goes_on_from(6));
}

#[test]
fn many_events_that_have_grown_old_go_by_and_by() {
    let clock = Clock::starting_at(Duration::ZERO);
    let mut fixture = Fixture::keeping(bounds(1, 2, 1000), clock.clone());
    (0..100).for_each(|_| fixture.put("a", "", ""));
    clock.advance(Duration::from_secs(75));
    fixture.put("a", "", "");
    assert!(fixture.goes_on_from(32), "one write does not wait for a hundred to go");
    (0..3).for_each(|_| fixture.put("a", "", ""));
    assert!(!fixture.goes_on_from(99));
    assert!(fixture.goes_on_from(100), "those since then are recent");
}

#[test]
fn all_histories_together_have_an_end_and_the_largest_gives_way() {
    // An event has a hundred bytes and some. All are recent, and among the least that are kept of a resource.
    let together = Bounds { all_bytes: 2_000, ..bounds(100, 100, 100) };
    let mut fixture = Fixture::keeping(together, Clock::starting_at(Duration::ZERO));
    let id = fixture.cache.register(ResourceInfo { key: "others".into(), ..pod_info() });
    let others = fixture.cache.resource(id).expect("registered");
    let put_other = |fixture: &mut Fixture| {
        let change = Change { resource: id, ..fixture.change("o", "", "", false) };
        fixture.cache.publish(fixture.revision, vec![change]).expect("published");
    };
    put_other(&mut fixture);
    (0..50).for_each(|_| fixture.put("a", "", ""));
    assert!(goes_on_from(&others, 0), "who has little keeps it");
    assert!(!fixture.goes_on_from(30));
    assert!(fixture.goes_on_from(45));
    (0..50).for_each(|_| put_other(&mut fixture));
    assert!(!goes_on_from(&others, 80));
    assert!(goes_on_from(&others, 96) && fixture.goes_on_from(46), "they share");
    fixture.cache.unregister(id);
    drop(others);
    (0..10).for_each(|_| fixture.put("a", "", ""));
    assert!(fixture.goes_on_from(100), "what is gone takes no room");
}
