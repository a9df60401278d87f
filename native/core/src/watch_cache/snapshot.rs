//! The objects of one resource in order of their keys, in runs that snapshots share.
//!
//! A snapshot is taken by cloning an `Arc`. A later write copies the list of runs and the one run it changes, and
//! only while a snapshot holds them. Each run keeps its objects' bytes joined once a list has asked for them, so that
//! the next list hands over whole runs. How keys begin stands beside the objects: whoever looks for one would fetch each
//! that it passes, and its key, from memory otherwise.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::ResourceInfo;
use super::object::Object;
use super::transcode::{FormId, Transcoder};
use crate::status::Status;

/// A run splits when it would grow past this; 128 pods of 3.7 KB are half a megabyte to join again after a write.
const RUN_MAX: usize = 96;
const RUN_MIN: usize = RUN_MAX / 4;

/// How a key begins, with zeros behind a shorter one. Keys are in the order of their tags, and those of one tag in
/// their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tag([u8; 32]);

impl Tag {
    fn of(key: &str) -> Self {
        let mut tag = [0; 32];
        let length = key.len().min(tag.len());
        tag[..length].copy_from_slice(&key.as_bytes()[..length]);
        Self(tag)
    }

    /// Of tags in order, where those begin and end that are as this one.
    fn among(self, tags: &[Self]) -> (usize, usize) {
        let low = tags.partition_point(|tag| *tag < self);
        let equal = tags[low..].partition_point(|tag| *tag == self);
        (low, low + equal)
    }
}

#[derive(Default)]
pub struct Run {
    objects: Vec<Arc<Object>>,
    /// Of each object's key.
    tags: Vec<Tag>,
    joined: Mutex<SmallVec<[(FormId, Bytes); 1]>>,
}

impl Clone for Run {
    fn clone(&self) -> Self {
        // The clone is about to change: what was joined does not hold for it.
        Self { objects: self.objects.clone(), tags: self.tags.clone(), joined: Mutex::default() }
    }
}

impl Run {
    fn of(objects: Vec<Arc<Object>>) -> Self {
        let tags = objects.iter().map(|object| Tag::of(object.key())).collect();
        Self { objects, tags, joined: Mutex::default() }
    }

    pub fn objects(&self) -> &[Arc<Object>] {
        &self.objects
    }

    fn first_key(&self) -> &str {
        self.objects.first().map_or("", |object| object.key())
    }

    fn first_tag(&self) -> Tag {
        self.tags.first().copied().unwrap_or(Tag([0; 32]))
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        let (low, high) = Tag::of(key).among(&self.tags);
        let found = self.objects[low..high].binary_search_by(|object| object.key().cmp(key));
        found.map(|place| low + place).map_err(|place| low + place)
    }

    fn insert(&mut self, place: usize, object: Arc<Object>) {
        self.tags.insert(place, Tag::of(object.key()));
        self.objects.insert(place, object);
    }

    fn remove(&mut self, place: usize) {
        self.tags.remove(place);
        self.objects.remove(place);
    }

    fn split_off(&mut self, place: usize) -> Self {
        Self {
            objects: self.objects.split_off(place),
            tags: self.tags.split_off(place),
            joined: Mutex::default(),
        }
    }

    fn append(&mut self, next: &Self) {
        self.objects.extend(next.objects.iter().cloned());
        self.tags.extend_from_slice(&next.tags);
    }

    /// The list items of all objects, each with its separator in front.
    pub fn joined(&self, info: &ResourceInfo, transcoder: &dyn Transcoder) -> Result<Bytes, Status> {
        let form = transcoder.id();
        if let Some((_, bytes)) = self.joined.lock().iter().find(|(known, _)| *known == form) {
            return Ok(bytes.clone());
        }
        let mut out = Vec::with_capacity(self.objects.iter().map(|object| object.json().len() + 1).sum());
        for object in &self.objects {
            transcoder.append_item(info, object, &mut out)?;
        }
        let bytes = Bytes::from(out);
        let mut joined = self.joined.lock();
        if !joined.iter().any(|(known, _)| *known == form) {
            joined.push((form, bytes.clone()));
        }
        Ok(bytes)
    }
}

/// Where an object is: its run, and its place in the run. Ordered as the objects are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub run: usize,
    pub place: usize,
}

#[derive(Clone, Default)]
pub struct Snapshot {
    runs: Vec<Arc<Run>>,
    /// Of each run's first key.
    firsts: Vec<Tag>,
    len: usize,
}

impl Snapshot {
    /// From objects in order of their keys.
    pub fn sorted(objects: Vec<Arc<Object>>) -> Self {
        let len = objects.len();
        let fill = RUN_MAX * 2 / 3;
        let runs: Vec<_> = objects.chunks(fill).map(|chunk| Arc::new(Run::of(chunk.to_vec()))).collect();
        let firsts = runs.iter().map(|run| run.first_tag()).collect();
        Self { runs, firsts, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.runs.iter().flat_map(|run| run.objects.iter())
    }

    pub fn start(&self) -> Position {
        Position::default()
    }

    pub fn end(&self) -> Position {
        Position { run: self.runs.len(), place: 0 }
    }

    /// The first object whose key is not below `key`.
    pub fn lower_bound(&self, key: &str) -> Position {
        let run = self.runs_from(key);
        if run == 0 {
            return self.start();
        }
        let (Ok(place) | Err(place)) = self.runs[run - 1].find(key);
        self.normal(Position { run: run - 1, place })
    }

    /// The place after the last object whose key starts with `prefix`.
    pub fn prefix_end(&self, prefix: &str) -> Position {
        // Keys are UTF-8: no key continues `prefix` with anything above the largest character.
        self.lower_bound(&format!("{prefix}{}", char::MAX))
    }

    pub fn at(&self, position: Position) -> Option<&Arc<Object>> {
        self.runs.get(position.run)?.objects.get(position.place)
    }

    pub fn next(&self, position: Position) -> Position {
        self.normal(Position { place: position.place + 1, ..position })
    }

    /// `count` objects further, at most to the end.
    pub fn advance(&self, mut position: Position, mut count: usize) -> Position {
        while let Some(run) = self.runs.get(position.run) {
            let left = run.objects.len() - position.place;
            if count < left {
                return Position { place: position.place + count, ..position };
            }
            count -= left;
            position = Position { run: position.run + 1, place: 0 };
        }
        position
    }

    pub fn count(&self, from: Position, to: Position) -> usize {
        if from >= to {
            return 0;
        }
        let whole: usize = self.runs[from.run..to.run].iter().map(|run| run.objects.len()).sum();
        whole + to.place - from.place
    }

    fn normal(&self, position: Position) -> Position {
        match self.runs.get(position.run) {
            Some(run) if position.place >= run.objects.len() => Position { run: position.run + 1, place: 0 },
            _ => position,
        }
    }

    /// The run that holds `key` or would take it.
    fn run_for(&self, key: &str) -> usize {
        self.runs_from(key).saturating_sub(1)
    }

    /// How many runs begin with `key`, or before it.
    fn runs_from(&self, key: &str) -> usize {
        let (low, high) = Tag::of(key).among(&self.firsts);
        low + self.runs[low..high].partition_point(|run| run.first_key() <= key)
    }

    pub fn put(&mut self, object: Arc<Object>) {
        if self.runs.is_empty() {
            *self = Self::sorted(vec![object]);
            return;
        }
        let at = self.run_for(object.key());
        let last_run = at + 1 == self.runs.len();
        let run = writable(&mut self.runs[at]);
        match run.find(object.key()) {
            Ok(place) => run.objects[place] = object,
            Err(place) => {
                run.insert(place, object);
                self.firsts[at] = run.first_tag();
                self.len += 1;
                if run.objects.len() > RUN_MAX {
                    // Keys that only grow fill their runs: nothing will be inserted before the last one.
                    let appended = last_run && place + 1 == run.objects.len();
                    let cut = if appended { run.objects.len() - 1 } else { run.objects.len() / 2 };
                    let rest = run.split_off(cut);
                    self.firsts.insert(at + 1, rest.first_tag());
                    self.runs.insert(at + 1, Arc::new(rest));
                }
            }
        }
    }

    pub fn remove(&mut self, key: &str) {
        if self.runs.is_empty() {
            return;
        }
        let at = self.run_for(key);
        let Ok(place) = self.runs[at].find(key) else { return };
        let run = writable(&mut self.runs[at]);
        run.remove(place);
        self.firsts[at] = run.first_tag();
        self.len -= 1;
        let left = run.objects.len();
        if left == 0 {
            self.runs.remove(at);
            self.firsts.remove(at);
        } else if left < RUN_MIN {
            self.merge(at);
        }
    }

    /// Gives a short run's objects to a neighbour that has room.
    fn merge(&mut self, at: usize) {
        let room = |other: usize| self.runs.get(other).is_some_and(|run| run.objects.len() <= RUN_MAX / 2);
        let first = match at {
            _ if room(at + 1) => at,
            1.. if room(at - 1) => at - 1,
            _ => return,
        };
        let second = self.runs.remove(first + 1);
        self.firsts.remove(first + 1);
        writable(&mut self.runs[first]).append(&second);
    }
}

fn writable(run: &mut Arc<Run>) -> &mut Run {
    let run = Arc::make_mut(run);
    run.joined.get_mut().clear();
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch_cache::scan::Scanner;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn object(key: &str, revision: u64) -> Arc<Object> {
        let json = Bytes::from_static(br#"{"metadata":{}}"#);
        Arc::new(Object::new(key.into(), revision, json, &Scanner::new(Vec::new())).expect("valid"))
    }

    /// Some begin alike for longer than a tag is.
    fn numbered(number: u16) -> String {
        let namespace = ["", "short/", "a-namespace-with-quite-a-long-name/"][usize::from(number % 3)];
        format!("{namespace}k{number:03}")
    }

    fn keys(snapshot: &Snapshot) -> Vec<String> {
        snapshot.iter().map(|object| format!("{}@{}", object.key(), object.revision())).collect()
    }

    #[test]
    fn a_snapshot_does_not_see_later_writes() {
        let mut current =
            Arc::new(Snapshot::sorted((0..300).map(|n| object(&format!("k{n:03}"), 1)).collect()));
        let taken = Arc::clone(&current);
        let before = keys(&taken);
        let changing = Arc::make_mut(&mut current);
        changing.put(object("k100", 2));
        changing.put(object("k100a", 3));
        changing.remove("k200");
        assert_eq!(keys(&taken), before);
        assert_eq!(current.len(), 300);
    }

    proptest! {
        #[test]
        fn it_agrees_with_an_ordered_map(steps in prop::collection::vec((0u16..400, any::<bool>()), 0..1500), probe in 0u16..400) {
            let (mut model, mut snapshot) = (BTreeMap::new(), Snapshot::default());
            for (revision, (number, put)) in steps.into_iter().enumerate() {
                let key = numbered(number);
                if put {
                    snapshot.put(object(&key, revision as u64));
                    model.insert(key, revision);
                } else {
                    snapshot.remove(&key);
                    model.remove(&key);
                }
            }
            let expected: Vec<_> = model.iter().map(|(key, revision)| format!("{key}@{revision}")).collect();
            prop_assert_eq!(keys(&snapshot), expected);
            prop_assert_eq!(snapshot.len(), model.len());
            let probe = numbered(probe);
            let below = model.range(..probe.clone()).count();
            let position = snapshot.lower_bound(&probe);
            prop_assert_eq!(snapshot.count(snapshot.start(), position), below);
            prop_assert_eq!(snapshot.at(position).map(|o| o.key()), model.range(probe..).next().map(|(k, _)| k.as_str()));
            prop_assert_eq!(snapshot.advance(snapshot.start(), below), position);
        }
    }
}
