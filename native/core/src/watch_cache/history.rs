//! The latest events of one resource, oldest first, each with its frames made once for all watchers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::ResourceInfo;
use super::arena::{Arena, Piece};
use super::filter::Filter;
use super::object::Object;
use super::scan::Scanner;
use super::transcode::{EventType, FormId, JSON_FRAME_TAIL, STORED, Transcoder};
use crate::status::Status;

/// Old events forgotten for each new one, at most: a hundred thousand that grew old together hold up no write.
const EVICTED_AT_ONCE: usize = 32;

/// What an object was before an event.
#[derive(Clone, Debug)]
pub enum Previous {
    Absent,
    Known(Arc<Object>),
    /// Compacted away before a restart.
    Unknown,
}

pub struct Event {
    revision: u64,
    /// When it no longer counts as recent, by the cache's clock.
    recent_until: Duration,
    change: EventType,
    object: Arc<Object>,
    previous: Previous,
    /// The frame in stored JSON, made at once while somebody watches.
    piece: Option<Piece>,
    frames: Mutex<SmallVec<[(FormId, EventType, Bytes); 1]>>,
    left: OnceLock<Arc<Object>>,
}

impl Event {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// As those see it who see every object.
    pub fn change(&self) -> EventType {
        self.change
    }

    /// As it is now; for a deletion as it was last, with the deletion's revision.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    pub fn previous(&self) -> &Previous {
        &self.previous
    }

    pub(super) fn piece(&self) -> Option<&Piece> {
        self.piece.as_ref()
    }

    /// What a watch with `filter` is told: an object that stops matching is DELETED to it, one that starts is ADDED.
    pub fn seen_through(&self, filter: &Filter) -> Option<EventType> {
        if filter.is_everything() {
            return Some(self.change);
        }
        if !filter.covers_key(&self.object) {
            return None;
        }
        let now = self.change != EventType::Deleted && filter.selects(&self.object);
        let before = match &self.previous {
            Previous::Absent => false,
            Previous::Known(previous) => filter.selects(previous),
            // A deletion too many does no harm to a client; one too few would.
            Previous::Unknown => true,
        };
        match (before, now) {
            (true, true) => Some(EventType::Modified),
            (false, true) => Some(EventType::Added),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// The object to show with an event of type `seen`: one that left a watcher's sight is shown as it was when it
    /// last matched, at this event's revision.
    pub fn shown(&self, seen: EventType, scanner: &Scanner) -> Arc<Object> {
        let Previous::Known(previous) = &self.previous else { return Arc::clone(&self.object) };
        if seen != EventType::Deleted || self.change == EventType::Deleted {
            return Arc::clone(&self.object);
        }
        let last = self.left.get_or_init(|| {
            let json = previous.at_revision(self.revision);
            let last = Object::new(Arc::clone(previous.shared_key()), self.revision, json, scanner);
            last.map_or_else(|_| Arc::clone(previous), Arc::new)
        });
        Arc::clone(last)
    }

    /// The frame of the event seen as `seen`, made once per form.
    pub fn frame(
        &self,
        seen: EventType,
        info: &ResourceInfo,
        scanner: &Scanner,
        transcoder: &dyn Transcoder,
    ) -> Result<Bytes, Status> {
        let form = transcoder.id();
        if form == STORED
            && seen == self.change
            && let Some(piece) = &self.piece
        {
            return Ok(piece.clone().into_bytes());
        }
        let found = |frames: &[(FormId, EventType, Bytes)]| {
            frames.iter().find(|(id, of, _)| (*id, *of) == (form, seen)).map(|(_, _, frame)| frame.clone())
        };
        if let Some(frame) = found(&self.frames.lock()) {
            return Ok(frame);
        }
        let object = transcoder.object(info, &self.shown(seen, scanner))?;
        let frame = transcoder.frame(seen, &object);
        let mut frames = self.frames.lock();
        if let Some(frame) = found(&frames) {
            return Ok(frame);
        }
        frames.push((form, seen, frame.clone()));
        Ok(frame)
    }
}

/// A change about to be recorded.
pub struct NewEvent {
    pub deleted: bool,
    pub object: Arc<Object>,
    pub previous: Previous,
}

/// How much of the past is kept, as upstream's watch cache does (apiserver pkg/storage/cacher, `watch_cache.go`): the
/// `least` newest events always, others while they are recent. Within the first bounds that are not recent stay, too.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Kept whatever they weigh.
    pub least: usize,
    /// How long an event is recent.
    pub recent: Duration,
    pub events: usize,
    pub recent_events: usize,
    /// Of objects and frames.
    pub bytes: usize,
    /// Upstream has no such bound, and runs out of memory instead.
    pub recent_bytes: usize,
    /// Of all resources together, whose oldest events go even where they are among the `least`, or recent.
    pub all_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            least: 100,
            recent: Duration::from_secs(75),
            events: 8192,
            recent_events: 100 << 10,
            bytes: 64 << 20,
            recent_bytes: 512 << 20,
            all_bytes: 1 << 30,
        }
    }
}

impl Bounds {
    /// So many events, however old.
    pub fn events(events: usize) -> Self {
        let events = events.max(1);
        Self { least: events.min(100), events, recent_events: events, ..Self::default() }
    }
}

/// Events by number (they count up without gaps) and by revision. The front is forgotten when there are too many.
pub struct History {
    events: VecDeque<Arc<Event>>,
    first: u64,
    /// The newest revision of which an event may be missing: nobody can go on from before it.
    lost: u64,
    /// The newest revision whose event cannot be undone.
    fixed: u64,
    bounds: Bounds,
    bytes: usize,
    /// Of all histories of the cache.
    all_bytes: Arc<AtomicUsize>,
    arena: Arena,
}

impl History {
    pub fn new(bounds: Bounds, all_bytes: Arc<AtomicUsize>, lost: u64) -> Self {
        let (events, arena) = (VecDeque::new(), Arena::new());
        Self { events, first: 0, lost, fixed: lost, bounds, bytes: 0, all_bytes, arena }
    }

    /// Starts over: nothing before `lost` is known.
    pub fn clear(&mut self, lost: u64) {
        self.first += self.events.len() as u64;
        self.events.clear();
        self.all_bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
        self.forget_to(lost);
    }

    /// Says that everything since `lost` is here, for a history refilled from a log.
    pub fn reaches_back_to(&mut self, lost: u64) {
        (self.lost, self.fixed) = (lost, lost);
    }

    pub fn forget_to(&mut self, revision: u64) {
        self.lost = self.lost.max(revision);
        self.fixed = self.fixed.max(revision);
    }

    /// `now`: by the cache's clock; None for what a log tells of the past.
    pub fn push(&mut self, new: NewEvent, framed: bool, now: Option<Duration>) -> Arc<Event> {
        let change = match (&new.previous, new.deleted) {
            (_, true) => EventType::Deleted,
            (Previous::Absent, false) => EventType::Added,
            (_, false) => EventType::Modified,
        };
        let revision = new.object.revision();
        if matches!(new.previous, Previous::Unknown) {
            self.fixed = self.fixed.max(revision);
        }
        let json = new.object.json();
        let piece = framed.then(|| self.arena.append(&[change.json_head(), json, JSON_FRAME_TAIL]));
        let event = Arc::new(Event {
            revision,
            recent_until: now.map_or(Duration::ZERO, |now| now + self.bounds.recent),
            change,
            object: new.object,
            previous: new.previous,
            piece,
            frames: Mutex::default(),
            left: OnceLock::new(),
        });
        self.bytes += cost(&event);
        self.all_bytes.fetch_add(cost(&event), Ordering::Relaxed);
        self.events.push_back(Arc::clone(&event));
        for _ in 0..EVICTED_AT_ONCE {
            if !self.is_crowded(now.unwrap_or_default()) {
                break;
            }
            self.evict();
        }
        event
    }

    fn is_crowded(&self, now: Duration) -> bool {
        let Bounds { least, events, recent_events, bytes, recent_bytes, .. } = self.bounds;
        let recent = self.events.front().is_some_and(|oldest| now < oldest.recent_until);
        let (events, bytes) = if recent { (recent_events, recent_bytes) } else { (events, bytes) };
        self.events.len() > least && (self.events.len() > events || self.bytes > bytes)
    }

    /// Forgets its oldest events until all histories fit together, or these have no more than `least` bytes.
    pub fn make_room(&mut self, least: usize) {
        while self.bytes > least && self.all_bytes.load(Ordering::Relaxed) > self.bounds.all_bytes {
            self.evict();
        }
    }

    fn evict(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.first += 1;
            self.bytes -= cost(&event);
            self.all_bytes.fetch_sub(cost(&event), Ordering::Relaxed);
            self.lost = self.lost.max(event.revision);
            self.fixed = self.fixed.max(event.revision);
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    /// The number the next event will have.
    pub fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }

    pub fn fixed(&self) -> u64 {
        self.fixed
    }

    /// The number of the first event after `revision`.
    pub fn after(&self, revision: u64) -> u64 {
        self.first + self.events.partition_point(|event| event.revision <= revision) as u64
    }

    /// Events from number `from` on; those forgotten are left out.
    pub fn since(&self, from: u64) -> impl Iterator<Item = &Arc<Event>> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.events.range(skip.min(self.events.len())..)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What stands in the snapshot, too, makes up for what an event was before, which is not counted.
fn cost(event: &Event) -> usize {
    event.piece.as_ref().map_or(0, Piece::len) + event.object.json().len()
}
