//! Watches: cursors over a resource's history that their owners pull from.
//!
//! A watcher that has seen all waits in `Waiters`; one that falls so far behind that its next event is forgotten is
//! told 410 Expired and ends. Nobody waits for a watcher.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::arena::Piece;
use super::filter::Filter;
use super::history::Event;
use super::object::Object;
use super::resource::{ResourceCache, State};
use super::snapshot::{Position, Snapshot};
use super::transcode::{EventType, Json, STORED, Transcoder};
use super::waiters::{Ticket, Trigger};
use crate::status::Status;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// What there is, as ADDED events, then what happens. `bookmark`: tell where the first part ends. `not_older_than`
    /// 0 asks for nothing.
    State { not_older_than: u64, bookmark: bool },
    /// What happens from now on.
    #[default]
    Now,
    /// What happened after the revision, and what happens.
    After(u64),
}

#[derive(Clone, Debug, Default)]
pub struct WatchQuery {
    pub filter: Filter,
    pub start: Start,
    /// The client understands BOOKMARK events.
    pub bookmarks: bool,
}

/// Frames ready to send; events that follow each other may share one.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub frames: Vec<Bytes>,
    pub events: usize,
    pub bytes: usize,
}

impl Batch {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }
}

/// One event, its object in stored JSON; for those in the same process.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub event: EventType,
    pub revision: u64,
    pub object: Bytes,
}

enum Item {
    /// Frames of events as everybody sees them, in one piece.
    Frames(Piece),
    Event(Arc<Event>, EventType),
    Initial(Arc<Object>),
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
    Error(Status),
}

struct Initial {
    snapshot: Arc<Snapshot>,
    at: Position,
    revision: u64,
    bookmark: bool,
}

pub struct Watcher {
    resource: Arc<ResourceCache>,
    transcoder: Arc<dyn Transcoder>,
    filter: Filter,
    trigger: Option<Trigger>,
    bookmarks: bool,
    initial: Option<Initial>,
    /// The number of the next event to look at.
    cursor: u64,
    /// Events up to this revision are not for this watch.
    after: u64,
    /// The newest revision the client has been told.
    told: u64,
    ticket: Option<Arc<Ticket>>,
    /// Why the watch ends, before that has been told.
    error: Option<Status>,
    ended: bool,
    framed: bool,
}

impl ResourceCache {
    /// Opens a watch. What refuses it after the client has been answered comes as an ERROR event (410 when the start
    /// has been compacted, 504 when it is a state of the future).
    pub fn watch(
        self: &Arc<Self>,
        query: WatchQuery,
        transcoder: Arc<dyn Transcoder>,
    ) -> Result<Watcher, Status> {
        self.open(query, transcoder, true)
    }

    /// A watch within the process, read by `poll_deliveries`: its objects are stored JSON, no frames are made for it.
    pub fn subscribe(self: &Arc<Self>, query: WatchQuery) -> Result<Watcher, Status> {
        self.open(query, Arc::new(Json::stored()), false)
    }

    fn open(
        self: &Arc<Self>,
        query: WatchQuery,
        transcoder: Arc<dyn Transcoder>,
        framed: bool,
    ) -> Result<Watcher, Status> {
        let global = self.global_revision();
        let trigger = Trigger::for_filter(&query.filter);
        // Counted before the state is looked at: from then on events come framed.
        self.watchers.fetch_add(usize::from(framed), Ordering::AcqRel);
        let mut watcher = Watcher {
            resource: Arc::clone(self),
            transcoder,
            trigger,
            filter: query.filter,
            bookmarks: query.bookmarks,
            initial: None,
            cursor: 0,
            after: 0,
            told: 0,
            ticket: None,
            error: None,
            ended: false,
            framed,
        };
        let state = self.state.read();
        let newest = global.max(state.revision);
        watcher.cursor = state.history.end();
        match query.start {
            Start::Now => watcher.told = newest,
            Start::State { not_older_than, bookmark } => {
                if not_older_than > newest {
                    watcher.error = Some(Status::too_large_resource_version(not_older_than, newest));
                }
                let snapshot = Arc::clone(&state.snapshot);
                let at = snapshot.lower_bound(&watcher.filter.key_prefix());
                watcher.initial = Some(Initial { snapshot, at, revision: newest, bookmark });
            }
            Start::After(revision) => {
                let oldest = state.oldest();
                if revision < oldest {
                    watcher.error = Some(too_old(revision, oldest));
                }
                watcher.cursor = state.history.after(revision);
                (watcher.after, watcher.told) = (revision, revision);
            }
        }
        drop(state);
        Ok(watcher)
    }
}

fn too_old(revision: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {revision} ({oldest})"))
}

impl Watcher {
    /// Waits until there is something to send, at most `max` events. None: the watch has ended.
    pub async fn next_batch(&mut self, max: usize) -> Option<Batch> {
        poll_fn(|context| self.poll_batch(context, max)).await
    }

    pub fn poll_batch(&mut self, context: &mut Context<'_>, max: usize) -> Poll<Option<Batch>> {
        let mut items = Vec::new();
        let Poll::Ready(events) = self.poll_items(context, max, &mut items) else { return Poll::Pending };
        if items.is_empty() {
            return Poll::Ready(None);
        }
        let mut batch = Batch { frames: Vec::with_capacity(items.len()), events, bytes: 0 };
        for item in items {
            match self.render(item) {
                Ok(frame) => batch.push(frame),
                Err(status) => {
                    self.ended = true;
                    batch.push(self.transcoder.frame(EventType::Error, &self.transcoder.status(&status)));
                    break;
                }
            }
        }
        Poll::Ready(Some(batch))
    }

    /// As `poll_batch`, event by event; of a watch opened by `subscribe`.
    pub fn poll_deliveries(&mut self, context: &mut Context<'_>, max: usize) -> Poll<Option<Vec<Delivery>>> {
        let mut items = Vec::new();
        if self.poll_items(context, max, &mut items).is_pending() {
            return Poll::Pending;
        }
        let deliveries: Vec<_> = items.into_iter().filter_map(|item| self.deliver(item)).collect();
        Poll::Ready(Some(deliveries).filter(|deliveries| !deliveries.is_empty()))
    }

    /// A BOOKMARK frame, when the client wants them, has been told everything and has something new to learn by it.
    pub fn bookmark(&mut self) -> Option<Bytes> {
        let revision = self.progress()?;
        self.render(Item::Bookmark { revision, initial_events_end: false }).ok()
    }

    pub fn bookmark_delivery(&mut self) -> Option<Delivery> {
        let revision = self.progress()?;
        self.deliver(Item::Bookmark { revision, initial_events_end: false })
    }

    pub fn resource(&self) -> &Arc<ResourceCache> {
        &self.resource
    }

    fn progress(&mut self) -> Option<u64> {
        if !self.bookmarks || self.ended || self.error.is_some() || self.initial.is_some() {
            return None;
        }
        let global = self.resource.global_revision();
        let state = self.resource.state.read();
        let waiting = self.ticket.as_ref().is_some_and(|ticket| ticket.resume().is_none());
        let revision = global.max(state.revision);
        if (!waiting && self.cursor != state.history.end()) || revision <= self.told {
            return None;
        }
        drop(state);
        self.told = revision;
        Some(revision)
    }

    /// Ready without items: ended. Else the number of events in them.
    fn poll_items(&mut self, context: &mut Context<'_>, max: usize, items: &mut Vec<Item>) -> Poll<usize> {
        if self.ended {
            return Poll::Ready(0);
        }
        if let Some(status) = self.error.take() {
            return self.fail(status, items);
        }
        if self.initial.is_some() {
            let count = self.take_initial(max.max(1), items);
            if !items.is_empty() {
                return Poll::Ready(count);
            }
        }
        let resource = Arc::clone(&self.resource);
        let state = resource.state.read();
        let removed = resource.is_removed();
        if let Some(ticket) = &self.ticket {
            match ticket.resume() {
                Some(at) => (self.cursor, self.ticket) = (self.cursor.max(at), None),
                None if removed => (self.cursor, self.ticket) = (state.history.end(), None),
                None => {
                    // Nothing has happened for this watch; it may be another task that asks now.
                    self.cursor = state.history.end();
                    resource.waiters.lock().rewake(self.trigger.as_ref(), ticket, context.waker());
                    return Poll::Pending;
                }
            }
        }
        if self.cursor < state.history.first() {
            let oldest = state.oldest();
            drop(state);
            return self.fail(too_old(self.told, oldest), items);
        }
        let count = self.take_events(&state, max.max(1), items);
        if items.is_empty() {
            if removed {
                // What happened until then has been told.
                self.ended = true;
                return Poll::Ready(0);
            }
            self.ticket = Some(resource.waiters.lock().wait(self.trigger.as_ref(), context.waker()));
            return Poll::Pending;
        }
        Poll::Ready(count)
    }

    fn fail(&mut self, status: Status, items: &mut Vec<Item>) -> Poll<usize> {
        self.ended = true;
        items.push(Item::Error(status));
        Poll::Ready(1)
    }

    /// Up to `max` objects of the state, and the bookmark that closes it.
    fn take_initial(&mut self, max: usize, items: &mut Vec<Item>) -> usize {
        let Some(initial) = &mut self.initial else { return 0 };
        let prefix = self.filter.key_prefix();
        while items.len() < max {
            let object = initial.snapshot.at(initial.at).filter(|object| object.key().starts_with(&prefix));
            let Some(object) = object else {
                self.told = initial.revision;
                if initial.bookmark && self.bookmarks {
                    items.push(Item::Bookmark { revision: initial.revision, initial_events_end: true });
                }
                self.initial = None;
                break;
            };
            if self.filter.matches(object) {
                items.push(Item::Initial(Arc::clone(object)));
            }
            initial.at = initial.snapshot.next(initial.at);
        }
        items.len()
    }

    /// Up to `max` events from the cursor on.
    fn take_events(&mut self, state: &State, max: usize, items: &mut Vec<Item>) -> usize {
        let everything = self.filter.is_everything();
        let stored = self.framed && self.transcoder.id() == STORED;
        let mut count = 0;
        for event in state.history.since(self.cursor) {
            if count == max {
                break;
            }
            self.cursor += 1;
            if event.revision() <= self.after {
                continue;
            }
            let seen = if everything { Some(event.change()) } else { event.seen_through(&self.filter) };
            let Some(seen) = seen else { continue };
            count += 1;
            self.told = event.revision();
            let Some(piece) = event.piece().filter(|_| stored && seen == event.change()) else {
                items.push(Item::Event(Arc::clone(event), seen));
                continue;
            };
            let joined = match items.last_mut() {
                Some(Item::Frames(run)) => run.extend(piece),
                _ => false,
            };
            if !joined {
                items.push(Item::Frames(piece.clone()));
            }
        }
        count
    }

    fn render(&self, item: Item) -> Result<Bytes, Status> {
        let (info, transcoder) = (self.resource.info(), &*self.transcoder);
        match item {
            Item::Frames(piece) => Ok(piece.into_bytes()),
            Item::Event(event, seen) => event.frame(seen, info, self.resource.scanner(), transcoder),
            Item::Initial(object) => {
                Ok(transcoder.frame(EventType::Added, &self.resource.render(&object, transcoder)?))
            }
            Item::Bookmark { revision, initial_events_end } => {
                let object = transcoder.bookmark(info, revision, initial_events_end);
                Ok(transcoder.frame(EventType::Bookmark, &object))
            }
            Item::Error(status) => Ok(transcoder.frame(EventType::Error, &transcoder.status(&status))),
        }
    }

    fn deliver(&self, item: Item) -> Option<Delivery> {
        Some(match item {
            // `subscribe` asks for none.
            Item::Frames(_) => return None,
            Item::Event(event, seen) => {
                let object = event.shown(seen, self.resource.scanner());
                Delivery { event: seen, revision: event.revision(), object: object.json().clone() }
            }
            Item::Initial(object) => Delivery {
                event: EventType::Added,
                revision: object.revision(),
                object: object.json().clone(),
            },
            Item::Bookmark { revision, initial_events_end } => {
                let object = self.transcoder.bookmark(self.resource.info(), revision, initial_events_end);
                Delivery { event: EventType::Bookmark, revision, object }
            }
            Item::Error(status) => Delivery {
                event: EventType::Error,
                revision: self.told,
                object: Bytes::from(status.to_json()),
            },
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.resource.watchers.fetch_sub(usize::from(self.framed), Ordering::AcqRel);
        if let Some(ticket) = &self.ticket {
            let _state = self.resource.state.read();
            self.resource.waiters.lock().leave(self.trigger.as_ref(), ticket);
        }
    }
}
