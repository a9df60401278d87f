//! What is particular to the writer: batches, growth, history that goes by itself, failures.

use parking_lot::Mutex;

use crate::asking::{Asked, LIMITS, TestHost, UNMADE, create, other, write};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use kubecore_store::encryption::Encryption;
use kubecore_store::{Answer, Kind, Level, Limits, OpenError, Page, Refusal, Store, Work};

fn revision(answer: &Answer) -> u64 {
    match answer {
        Answer::Stored { revision, .. } => *revision,
        other => panic!("not stored: {other:?}"),
    }
}

fn failure(answer: Answer) -> String {
    match answer {
        Answer::Refused(Refusal::Failed(text)) => text,
        other => panic!("no failure: {other:?}"),
    }
}

fn page(answer: Answer) -> Page {
    match answer {
        Answer::Page(page) => page,
        other => panic!("no page: {other:?}"),
    }
}

#[test]
fn what_queues_up_during_a_commit_shares_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(directory.path(), Limits { sync: true, ..LIMITS });
    let (go_on, held) = channel();
    let held = Mutex::new(held);
    asked.host.0.lock().publishing = Some(Arc::new(move || {
        // Once; then the other end is gone.
        let _ = held.lock().recv();
        Ok(())
    }));
    let first = asked.hand_over(create("/first"));
    // It is committed, alone, and now being published.
    while asked.store.revision() == 0 {
        std::thread::yield_now();
    }
    let answers: Vec<_> = (0..3000).map(|n| asked.hand_over(create(&format!("/a/{n}")))).collect();
    drop::<Sender<()>>(go_on);
    assert_eq!(revision(&first.recv().unwrap()), 1);
    for (answer, expected) in answers.iter().zip(2..) {
        assert_eq!(revision(&answer.recv().unwrap()), expected);
    }
    assert_eq!(asked.host.0.lock().answered, [1, 1024, 1024, 952]);
    asked.close();
}

#[test]
fn a_value_that_cannot_be_worked_out_fails_its_own_write_only() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(directory.path(), LIMITS);
    let (work, _) = create("/unmade");
    let batch = asked.hand_over_all([create("/a"), (work, UNMADE.to_owned()), create("/b")]);
    let answers: Vec<_> = batch.iter().map(|answer| answer.recv().unwrap()).collect();
    assert_eq!((revision(&answers[0]), revision(&answers[2])), (1, 2));
    assert_eq!(answers[1], Answer::Refused(Refusal::Unmade { key: "/unmade".to_owned() }));
    asked.close();
}

#[test]
fn the_map_grows_under_a_batch_that_does_not_fit() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(directory.path(), LIMITS);
    let text = "x".repeat(1 << 20);
    let answers: Vec<_> =
        (0..100).map(|n| asked.hand_over(write(Kind::Create, &format!("/a/{n}"), &text, 0))).collect();
    for (answer, expected) in answers.iter().zip(1..) {
        assert_eq!(revision(&answer.recv().unwrap()), expected);
    }
    assert_eq!(page(asked.list("/a/", 0)).entries.len(), 100);
    assert!(
        asked
            .host
            .0
            .lock()
            .logged
            .iter()
            .any(|(level, text)| *level == Level::Info && text.contains("grown"))
    );
    asked.close();
}

#[test]
fn history_is_kept_by_count() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(
        directory.path(),
        Limits { max_events: 1000, min_events: 100, max_age: 1e9, sync: false, unindexed: 5 },
    );
    for n in 0..2600 {
        asked.ask(create(&format!("/a/{n}")));
    }
    while asked.store.compacted() < 1000 {
        asked.list("/none/", 0);
    }
    assert_eq!(page(asked.list("/a/", 0)).entries.len(), 2600);
    assert_eq!(*asked.host.0.lock().compacted, [asked.store.compacted()]);
    asked.close();
}

#[test]
fn history_goes_when_it_is_old() {
    let directory = tempfile::tempdir().unwrap();
    let limits =
        Limits { max_events: u64::MAX / 2, min_events: 100, max_age: 600.0, sync: false, unindexed: 5 };
    let asked = Asked::open(directory.path(), limits);
    for n in 0..1500 {
        asked.ask(create(&format!("/a/{n}")));
    }
    asked.list("/none/", 0);
    assert_eq!(asked.store.compacted(), 0);
    asked.host.0.lock().now = 601.0;
    for n in 0..1000 {
        asked.ask(create(&format!("/b/{n}")));
    }
    while asked.store.compacted() < 1400 {
        asked.list("/none/", 0);
    }
    asked.close();
}

#[test]
fn an_overlong_or_empty_key_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(directory.path(), LIMITS);
    let answers = asked.hand_over_all(["/a", &"x".repeat(600), "", "/b"].map(create));
    let mut answers = answers.iter().map(|answer| answer.recv().unwrap());
    let [first, long, empty, last] = std::array::from_fn(|_| answers.next().unwrap());
    assert_eq!((revision(&first), revision(&last)), (1, 2));
    assert!(failure(long).starts_with("key too long: xxx"));
    assert!(failure(empty).starts_with("storage failed: "));
    asked.close();
}

#[test]
fn a_store_whose_writes_cannot_be_published_takes_no_more() {
    for (publishing, told) in [
        ((|| Err("no room".to_owned())) as fn() -> Result<(), String>, "the watch cache failed: no room"),
        (|| panic!("lost"), "the watch cache failed: lost"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let asked = Asked::open(directory.path(), LIMITS);
        asked.host.0.lock().publishing = Some(Arc::new(publishing));
        assert_eq!(revision(&asked.ask(create("/a"))), 1);
        assert_eq!(failure(asked.ask(create("/b"))), told);
        assert_eq!(asked.store.failure().as_deref(), Some(told));
        assert_eq!(failure(asked.list("/", 0)), told);
        asked.close();
    }
}

#[test]
fn a_panic_answers_its_batch_and_is_the_end_of_the_stores_work() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(directory.path(), LIMITS);
    assert_eq!(revision(&asked.ask(create("/a"))), 1);
    asked.host.0.lock().stopped = true;
    let told = "internal error of the store: the clock has stopped";
    assert_eq!(failure(asked.ask(create("/b"))), told);
    asked.host.0.lock().stopped = false;
    assert_eq!(failure(asked.ask(create("/c"))), told);
    let logged = asked.host.0.lock().logged[0].clone();
    assert_eq!(logged, (Level::Error, format!("{told}: it takes no more work")));
    asked.close();
    let asked = Asked::open(directory.path(), LIMITS);
    assert_eq!(page(asked.list("/", 0)).entries.len(), 1);
    asked.close();
}

#[test]
fn a_closed_store_has_done_what_was_handed_over_and_refuses_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open(directory.path(), LIMITS);
    let before = asked.hand_over(create("/a"));
    let stop = asked.hand_over(other(Work::Stop));
    assert_eq!(revision(&before.recv().unwrap()), 1);
    assert_eq!(stop.recv().unwrap(), Answer::Nothing);
    asked.store.join();
    assert_eq!(asked.ask(create("/b")), Answer::Refused(Refusal::Closed));
}

#[test]
fn without_a_thread_all_is_done_and_answered_by_who_hands_it_over() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Asked::open_threadless(directory.path(), Limits { max_events: 100, ..LIMITS });
    let this = std::thread::current().id();
    asked.host.0.lock().publishing = Some(Arc::new(move || {
        assert_eq!(std::thread::current().id(), this);
        Ok(())
    }));
    for n in 0..3000 {
        let answers = asked.hand_over_all([create(&format!("/a/{n}")), create(&format!("/b/{n}"))]);
        assert_eq!(revision(&answers[1].try_recv().unwrap()), 2 * n + 2);
    }
    // Between what is asked for, history goes.
    assert!(asked.store.compacted() >= 4000);
    let last = asked.hand_over_all([create("/last"), other(Work::Stop)]);
    assert_eq!(revision(&last[0].try_recv().unwrap()), 6001);
    assert_eq!(last[1].try_recv().unwrap(), Answer::Nothing);
    assert_eq!(asked.ask(create("/late")), Answer::Refused(Refusal::Closed));
    asked.store.join();
    let again = Asked::open(directory.path(), LIMITS);
    assert_eq!(again.store.revision(), 6001);
    again.close();
}

#[test]
fn a_file_that_is_none_is_refused() {
    for content in [&b"not a database".repeat(1000)[..], &[0; 8192]] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("data.mdb"), content).unwrap();
        let opened = Store::open(directory.path(), LIMITS, Encryption::default(), TestHost::default(), true);
        assert!(matches!(opened.map(|_| ()), Err(OpenError::Unreadable(_))));
    }
}
