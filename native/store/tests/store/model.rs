//! The store against a model that keeps everything it was ever told in plain maps.

use std::collections::BTreeMap;

use crate::asking::{Asked, LIMITS, other, write};
use bytes::Bytes;
use kubecore_store::{Answer, Entry, Event, Kind, Page, Read, Refusal, Work};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A write of a key, with the revision it has or a wrong one.
    Write {
        kind: Kind,
        key: u8,
        stale: bool,
        size: u16,
    },
    /// Compaction to a part (of 256) of the revisions.
    Compact(u8),
    /// Reads at a part of the revisions: a list from a key on, with a limit, and the events since.
    Read {
        at: u8,
        start: u8,
        limit: u8,
    },
    Reopen,
    /// The file as a crash leaves it is what is opened next.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![1 => Just(Kind::Create), 2 => Just(Kind::Update), 1 => Just(Kind::Delete)];
    prop_oneof![
        12 => (kind, 0..12u8, prop::bool::weighted(0.1), 0..3000u16)
            .prop_map(|(kind, key, stale, size)| Step::Write { kind, key, stale, size }),
        1 => any::<u8>().prop_map(Step::Compact),
        3 => (any::<u8>(), 0..12u8, 0..6u8).prop_map(|(at, start, limit)| Step::Read { at, start, limit }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default)]
struct Model {
    /// Everything that was written: the index is the revision less one.
    history: Vec<Event>,
    compacted: u64,
}

impl Model {
    fn revision(&self) -> u64 {
        self.history.len() as u64
    }

    fn part(&self, part: u8) -> u64 {
        self.revision() * u64::from(part) / 255
    }

    fn at(&self, revision: u64) -> BTreeMap<&str, (u64, &Bytes)> {
        let mut found = BTreeMap::new();
        for event in &self.history[..usize::try_from(revision).unwrap()] {
            if event.deleted {
                found.remove(&*event.key);
            } else {
                found.insert(&*event.key, (event.revision, &event.value));
            }
        }
        found
    }

    fn write(&mut self, kind: Kind, key: &str, expected: u64, text: &str) -> Answer {
        let actual = self.at(self.revision()).get(key).map_or(0, |found| found.0);
        let key = key.to_owned();
        let refusal = match kind {
            Kind::Create if actual != 0 => Some(Refusal::KeyExists { key: key.clone() }),
            Kind::Create => None,
            _ if actual == 0 => Some(Refusal::KeyMissing { key: key.clone() }),
            _ if actual != expected => Some(Refusal::Conflict { key: key.clone(), expected, actual }),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Answer::Refused(refusal);
        }
        let revision = self.revision() + 1;
        let value = Bytes::from(format!("<{revision}>{text}"));
        let deleted = kind == Kind::Delete;
        self.history.push(Event { deleted, key, revision, value: value.clone(), previous: actual });
        Answer::Stored { revision, value }
    }

    fn compact(&mut self, revision: u64) -> Answer {
        if revision <= self.compacted {
            return Answer::Refused(Refusal::Compacted { revision, compacted: self.compacted });
        }
        self.compacted = revision;
        Answer::Nothing
    }

    fn page(&self, at: u64, prefix: &str, start: &str, limit: usize) -> Answer {
        let at = if at == 0 { self.revision() } else { at };
        if at < self.compacted {
            return Answer::Refused(Refusal::Compacted { revision: at, compacted: self.compacted });
        }
        let found = self.at(at);
        let mut keys = found.iter().filter(|(key, _)| key.starts_with(prefix) && **key >= start);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let entries = keys.by_ref().take(limit).map(|(key, (revision, value))| Entry {
            key: (*key).to_owned(),
            revision: *revision,
            value: (*value).clone(),
        });
        let entries = entries.collect();
        Answer::Page(Page { revision: at, entries, next: keys.next().map(|(key, _)| (*key).to_owned()) })
    }

    fn events(&self, since: u64, limit: usize) -> Answer {
        if since < self.compacted {
            return Answer::Refused(Refusal::Compacted { revision: since, compacted: self.compacted });
        }
        let after = &self.history[usize::try_from(since).unwrap()..];
        let count = if limit == 0 { after.len() } else { limit.min(after.len()) };
        Answer::Events(after[..count].to_vec())
    }
}

fn key(number: u8) -> String {
    format!("/registry/{}/{number}", ["pods", "podtemplates"][usize::from(number % 2)])
}

fn told(asked: &Asked) -> Vec<Event> {
    asked.host.0.lock().published.iter().flat_map(|(_, events)| events.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_a_model_that_forgets_nothing(
        steps in prop::collection::vec(step(), 1..120),
        has_thread in any::<bool>(),
    ) {
        let open = if has_thread { Asked::open } else { Asked::open_threadless };
        let mut directory = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut asked = open(directory.path(), LIMITS);
        let mut since = 0;
        // Works are handed over one after another, and answered in batches as it happens.
        let mut waiting = Vec::new();
        for step in steps {
            let mut hand_over = |work, expected| waiting.push((asked.hand_over(work), expected));
            match step {
                Step::Write { kind, key: number, stale, size } => {
                    let (key, text) = (key(number), "x".repeat(usize::from(size)));
                    let found = model.at(model.revision()).get(&*key).map_or(0, |found| found.0);
                    let expected = if stale { found + 1 } else { found };
                    hand_over(write(kind, &key, &text, expected), model.write(kind, &key, expected, &text));
                }
                Step::Compact(part) => {
                    let revision = model.part(part);
                    hand_over(other(Work::Compact(revision)), model.compact(revision));
                }
                Step::Read { at, start, limit } => {
                    let (at, limit) = (model.part(at), usize::from(limit));
                    let (prefix, start) = ("/registry/pods/".to_owned(), key(start));
                    let page = model.page(at, &prefix, &start, limit);
                    hand_over(other(Work::Read(Read::List { prefix, start, limit, revision: at })), page);
                    hand_over(other(Work::Read(Read::Events { since: at, limit })), model.events(at, limit));
                }
                Step::Reopen | Step::Crash => {
                    for (answer, expected) in waiting.drain(..) {
                        prop_assert_eq!(answer.recv().unwrap(), expected);
                    }
                    prop_assert_eq!(&told(&asked)[..], &model.history[since..]);
                    since = model.history.len();
                    let left = tempfile::tempdir().unwrap();
                    // Nobody writes now: all that was asked for is answered.
                    std::fs::copy(directory.path().join("data.mdb"), left.path().join("data.mdb")).unwrap();
                    asked.close();
                    if matches!(step, Step::Crash) {
                        directory = left;
                    }
                    asked = open(directory.path(), LIMITS);
                    prop_assert_eq!(asked.store.revision(), model.revision());
                    prop_assert_eq!(asked.store.compacted(), model.compacted);
                }
            }
        }
        for (answer, expected) in waiting {
            prop_assert_eq!(answer.recv().unwrap(), expected);
        }
        prop_assert_eq!(&told(&asked)[..], &model.history[since..]);
        asked.close();
    }
}
