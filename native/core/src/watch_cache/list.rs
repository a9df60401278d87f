//! Lists: consistent, in pages, at the newest or an older revision.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::filter::{Field, Filter};
use super::index::Lookup;
use super::object::Object;
use super::resource::{ResourceCache, State};
use super::snapshot::{Position, Run, Snapshot};
use super::token::ContinueToken;
use super::transcode::{ListMeta, Transcoder};
use crate::status::Status;

/// Below this many objects looking at each is cheaper than an index.
const INDEX_FROM: usize = 256;
/// Items that are no whole run are copied together into segments of about this size.
const SEGMENT: usize = 256 << 10;

const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";
const CONTINUE_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// At what revision a list is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest; what the cache holds is the newest.
    #[default]
    Latest,
    NotOlderThan(u64),
    Exact(u64),
    Continue(ContinueToken),
}

#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    pub filter: Filter,
    /// Items at most; 0: all.
    pub limit: usize,
    pub at: At,
}

enum Part {
    Run(Arc<Run>),
    Objects(Vec<Arc<Object>>),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Run(run) => run.objects().len(),
            Self::Objects(objects) => objects.len(),
        }
    }
}

/// Objects of one list or page, not yet rendered.
pub struct Page {
    pub meta: ListMeta,
    parts: Vec<Part>,
}

/// A rendered list: the segments, one after the other, are the body.
#[derive(Clone, Debug)]
pub struct List {
    pub meta: ListMeta,
    pub segments: Vec<Bytes>,
    /// Bytes of all segments.
    pub length: usize,
}

impl Page {
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.parts.iter().flat_map(|part| match part {
            Part::Run(run) => run.objects().iter(),
            Part::Objects(objects) => objects.iter(),
        })
    }

    pub fn render(&self, resource: &ResourceCache, transcoder: &dyn Transcoder) -> Result<List, Status> {
        let info = resource.info();
        let mut segments = vec![Bytes::new()];
        for part in &self.parts {
            match part {
                Part::Run(run) => segments.push(run.joined(info, transcoder)?),
                Part::Objects(objects) => {
                    for some in by_size(objects) {
                        let mut out =
                            Vec::with_capacity(some.iter().map(|object| object.json().len() + 1).sum());
                        for object in some {
                            transcoder.append_item(info, object, &mut out)?;
                        }
                        segments.push(Bytes::from(out));
                    }
                }
            }
        }
        segments.retain(|segment| !segment.is_empty());
        if let Some(first) = segments.first_mut() {
            *first = first.slice(transcoder.separator_length()..);
        }
        let items: usize = segments.iter().map(Bytes::len).sum();
        let (head, tail) = transcoder.list_frame(info, &self.meta, items);
        let length = head.len() + items + tail.len();
        segments.insert(0, head);
        segments.push(tail);
        Ok(List { meta: self.meta.clone(), segments, length })
    }
}

/// Stretches of objects that make about a segment each.
fn by_size(objects: &[Arc<Object>]) -> impl Iterator<Item = &[Arc<Object>]> {
    let mut left = objects;
    std::iter::from_fn(move || {
        let mut size = 0;
        let within = left.iter().take_while(|object| {
            let fits = size < SEGMENT;
            size += object.json().len() + 1;
            fits
        });
        let (some, rest) = left.split_at(within.count());
        left = rest;
        Some(some).filter(|some| !some.is_empty())
    })
}

/// What a list chooses from: a snapshot, and for an older revision what was different then.
struct View {
    base: Arc<Snapshot>,
    then: BTreeMap<Arc<str>, Option<Arc<Object>>>,
    /// All that an index or a name leaves to look at.
    candidates: Option<Vec<Arc<Object>>>,
    revision: u64,
}

impl ResourceCache {
    pub fn list(&self, query: &ListQuery, transcoder: &dyn Transcoder) -> Result<List, Status> {
        self.page(query)?.render(self, transcoder)
    }

    /// 400, 410 Expired (with a token to go on with inconsistently, for a continued list) or 504 for the future.
    pub fn page(&self, query: &ListQuery) -> Result<Page, Status> {
        let prefix = query.filter.key_prefix();
        let start = match &query.at {
            At::Continue(token) => format!("{prefix}{}", token.start),
            _ => prefix.clone(),
        };
        let view = self.view(query)?;
        let plain = !query.filter.has_selectors();
        let mut looked_at = 0;
        let (parts, next, remaining) = if plain && view.then.is_empty() {
            take_runs(&view.base, &prefix, &start, query.limit)
        } else {
            let taking = (&query.filter, &*prefix, &*start, query.limit);
            let (objects, next, left) = take_objects(&view, taking, &mut looked_at);
            (vec![Part::Objects(objects)], next, left)
        };
        let returned = parts.iter().map(Part::len).sum();
        self.reads.count(looked_at.max(returned), returned);
        let continue_token = next.map(|last| {
            let start = format!("{}\0", &last[prefix.len().min(last.len())..]);
            ContinueToken { revision: Some(view.revision), start }.encode()
        });
        let remaining = remaining.filter(|_| continue_token.is_some() && plain);
        Ok(Page { meta: ListMeta { revision: view.revision, continue_token, remaining }, parts })
    }

    fn view(&self, query: &ListQuery) -> Result<View, Status> {
        let lookups = Lookup::all(&query.filter);
        // Before the state: what is then looked at holds at least everything up to it.
        let global = self.global_revision();
        let mut state = self.state.read();
        let mut newest = global.max(state.revision);
        let asked = match &query.at {
            At::Latest => None,
            At::NotOlderThan(revision) | At::Exact(revision) => Some(*revision),
            At::Continue(token) => token.revision,
        };
        if let Some(asked) = asked.filter(|asked| *asked > newest) {
            return Err(Status::too_large_resource_version(asked, newest));
        }
        if let Some(revision) = older(&query.at, newest) {
            return then(&state, revision, &query.at);
        }
        let mut candidates = named(&state, &query.filter);
        if candidates.is_none() && state.snapshot.len() >= INDEX_FROM && !lookups.is_empty() {
            if !state.indexes.serve(&lookups) {
                drop(state);
                let mut writable = self.state.write();
                let snapshot = Arc::clone(&writable.snapshot);
                lookups.iter().for_each(|lookup| writable.indexes.build(&lookup.key, &snapshot));
                drop(writable);
                let global = self.global_revision();
                state = self.state.read();
                newest = global.max(state.revision);
                if let Some(revision) = older(&query.at, newest) {
                    return then(&state, revision, &query.at);
                }
            }
            let keys = state.indexes.narrow(&lookups, state.snapshot.len());
            candidates = keys.map(|keys| keys.iter().filter_map(|key| state.get(key).cloned()).collect());
        }
        let base = Arc::clone(&state.snapshot);
        Ok(View { base, then: BTreeMap::new(), candidates, revision: newest })
    }
}

/// The revision to read at when it is not the newest.
fn older(at: &At, newest: u64) -> Option<u64> {
    match at {
        At::Exact(revision) => Some(*revision).filter(|revision| *revision != newest),
        At::Continue(token) => token.revision.filter(|revision| *revision < newest),
        At::Latest | At::NotOlderThan(_) => None,
    }
}

/// The state as it was: what the events since have changed is undone.
fn then(state: &State, revision: u64, at: &At) -> Result<View, Status> {
    if revision < state.oldest().max(state.history.fixed()) {
        return Err(match at {
            At::Continue(token) => {
                let fresh = ContinueToken { revision: None, start: token.start.clone() };
                Status::expired(CONTINUE_TOO_OLD).with_continue(fresh.encode())
            }
            _ => Status::expired(TOO_OLD),
        });
    }
    let mut then = BTreeMap::new();
    for event in state.history.since(state.history.after(revision)) {
        let key = event.object().shared_key();
        if !then.contains_key(key) {
            let before = match event.previous() {
                super::history::Previous::Known(previous) => Some(Arc::clone(previous)),
                _ => None,
            };
            then.insert(Arc::clone(key), before);
        }
    }
    Ok(View { base: Arc::clone(&state.snapshot), then, candidates: None, revision })
}

/// The one object a filter by name can select.
fn named(state: &State, filter: &Filter) -> Option<Vec<Arc<Object>>> {
    let name = filter.required(Field::Name)?;
    let namespace = filter.namespace().or_else(|| filter.required(Field::Namespace));
    let object = match namespace {
        Some(namespace) => state.get(&format!("{namespace}/{name}")),
        // In all namespaces there may be several of that name.
        None if state.snapshot.iter().next().is_some_and(|any| !any.namespace().is_empty()) => return None,
        None => state.get(name),
    };
    Some(object.cloned().into_iter().collect())
}

type Taken<T> = (T, Option<String>, Option<usize>);

/// Whole runs where possible; also the last key when something follows, and how much.
fn take_runs(base: &Arc<Snapshot>, prefix: &str, start: &str, limit: usize) -> Taken<Vec<Part>> {
    let from = base.lower_bound(start);
    let all = if prefix.is_empty() { base.end() } else { base.prefix_end(prefix) };
    let to = if limit == 0 { all } else { base.advance(from, limit).min(all) };
    let mut parts = Vec::new();
    let mut at = from;
    let mut last = None;
    while at < to {
        let Some(run) = base.runs().get(at.run) else { break };
        let end = if at.run < to.run { run.objects().len() } else { to.place };
        if at.place == 0 && end == run.objects().len() {
            parts.push(Part::Run(Arc::clone(run)));
        } else {
            parts.push(Part::Objects(run.objects()[at.place..end].to_vec()));
        }
        last = run.objects().get(end.saturating_sub(1));
        at = if end == run.objects().len() { Position { run: at.run + 1, place: 0 } } else { to };
    }
    let left = base.count(to, all);
    let next = last.filter(|_| left > 0).map(|object| object.key().to_owned());
    (parts, next, Some(left))
}

/// `looked_at`: how many have been, those that do not match among them.
fn take_objects(
    view: &View,
    (filter, prefix, start, limit): (&Filter, &str, &str, usize),
    looked_at: &mut usize,
) -> Taken<Vec<Arc<Object>>> {
    let candidates = match &view.candidates {
        Some(candidates) => Box::new(candidates.iter().filter(|object| object.key() >= start).cloned())
            as Box<dyn Iterator<Item = Arc<Object>>>,
        None => Box::new(Merged::new(view, start)),
    };
    let within = candidates.take_while(|object| prefix.is_empty() || object.key() < ends(prefix).as_str());
    let mut matching = within.inspect(|_| *looked_at += 1).filter(|object| filter.matches(object));
    if limit == 0 {
        return (matching.collect(), None, None);
    }
    let objects: Vec<_> = matching.by_ref().take(limit).collect();
    if filter.has_selectors() {
        let more = matching.next().is_some();
        let next = objects.last().filter(|_| more).map(|object| object.key().to_owned());
        return (objects, next, None);
    }
    let left = matching.count();
    let next = objects.last().filter(|_| left > 0).map(|object| object.key().to_owned());
    (objects, next, Some(left))
}

/// No key that starts with the prefix is as large as this.
fn ends(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// The objects of a view in order: those of the snapshot, except where it was different then.
struct Merged<'a> {
    view: &'a View,
    at: Position,
    then: std::iter::Peekable<std::collections::btree_map::Range<'a, Arc<str>, Option<Arc<Object>>>>,
}

impl<'a> Merged<'a> {
    fn new(view: &'a View, start: &str) -> Self {
        let then = view.then.range::<str, _>((Bound::Included(start), Bound::Unbounded)).peekable();
        Self { view, at: view.base.lower_bound(start), then }
    }
}

impl Iterator for Merged<'_> {
    type Item = Arc<Object>;

    fn next(&mut self) -> Option<Arc<Object>> {
        loop {
            let current = self.view.base.at(self.at);
            let Some((key, before)) = self.then.peek() else {
                let object = current?;
                self.at = self.view.base.next(self.at);
                return Some(Arc::clone(object));
            };
            match current {
                Some(object) if object.key() < &***key => {
                    self.at = self.view.base.next(self.at);
                    return Some(Arc::clone(object));
                }
                Some(object) if object.key() == &***key => self.at = self.view.base.next(self.at),
                _ => {}
            }
            let before = (*before).clone();
            self.then.next();
            if before.is_some() {
                return before;
            }
        }
    }
}
