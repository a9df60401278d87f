//! One resource's part of the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

use super::filter::Field;
use super::history::{Event, History, NewEvent, Previous};
use super::index::Indexes;
use super::object::Object;
use super::scan::{Scanner, SelectableField};
use super::snapshot::Snapshot;
use super::transcode::{STORED, Transcoder};
use super::waiters::Waiters;
use crate::clock::Clock;
use crate::go::quote;
use crate::status::Status;

pub type ResourceId = u32;

/// What a resource is called and how it is stored.
#[derive(Clone, Debug)]
pub struct ResourceInfo {
    /// The group resource: "deployments.apps", "pods".
    pub key: String,
    pub group: String,
    pub plural: String,
    pub kind: String,
    /// Empty: the kind and "List".
    pub list_kind: String,
    /// Defined by a CustomResourceDefinition.
    pub custom: bool,
    /// The version objects are stored in, without the group.
    pub storage_version: String,
    pub namespaced: bool,
    /// Served versions, without the group.
    pub versions: Vec<String>,
    pub selectable_fields: Vec<SelectableField>,
    /// By API version, what an empty object has beside its metadata, as it goes on after that: `,"spec":{}`.
    pub empty: Vec<(String, Bytes)>,
}

impl ResourceInfo {
    /// The end of an empty object of a version ("apps/v1"); nothing where that is not known.
    pub fn empty(&self, api_version: &str) -> &[u8] {
        self.empty.iter().find(|(version, _)| version == api_version).map_or(b"", |(_, members)| members)
    }

    /// "apps/v1", or "v1" for the core group.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    pub fn list_kind(&self) -> String {
        if self.list_kind.is_empty() { format!("{}List", self.kind) } else { self.list_kind.clone() }
    }

    /// The field of that label; 400 naming it when the resource cannot be selected by it.
    pub fn field(&self, label: &str) -> Result<Field, Status> {
        let known = self.known_label(label);
        match label {
            "metadata.name" => return Ok(Field::Name),
            // Upstream takes the label and knows no such field of pods.
            "status.podIPs" if self.key == "pods" => return Ok(Field::Nothing),
            "metadata.namespace" if self.namespaced || self.has_plain_labels() => {
                return Ok(Field::Namespace);
            }
            _ => {}
        }
        let number = self.selectable_fields.iter().position(|field| &*field.label == known);
        number.map(Field::Selectable).ok_or_else(|| Status::bad_request(self.unknown_label(label)))
    }

    /// A label under the name that objects are stored by: pods had another one in old versions.
    fn known_label<'l>(&self, label: &'l str) -> &'l str {
        match (&*self.key, label) {
            ("pods", "spec.host") => "spec.nodeName",
            _ => label,
        }
    }

    /// Upstream gives such kinds no label conversion of their own: the common one takes namespaces even of kinds that
    /// have none (apimachinery pkg/runtime/conversion.go, DefaultMetaV1FieldSelectorConversion).
    fn has_plain_labels(&self) -> bool {
        self.selectable_fields.is_empty() && !self.custom
    }

    /// What is said of a label by which the kind cannot be selected; upstream's conversions have each their own words.
    fn unknown_label(&self, label: &str) -> String {
        if self.has_plain_labels() {
            let label = quote(label);
            return format!(
                r#"{label} is not a known field selector: only "metadata.name", "metadata.namespace""#
            );
        }
        match &*self.key {
            "jobs.batch" => format!("field label {} not supported for Job", quote(label)),
            "resourceslices.resource.k8s.io" => {
                let version = self.api_version(&self.storage_version);
                format!("field label not supported for {version}, Kind={}: {label}", self.kind)
            }
            _ => format!("field label not supported: {label}"),
        }
    }
}

/// How many lists have been read from a cache, and of how many objects.
#[derive(Default)]
pub struct Reads {
    lists: AtomicU64,
    fetched: AtomicU64,
    returned: AtomicU64,
}

impl Reads {
    pub(super) fn count(&self, fetched: usize, returned: usize) {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.fetched.fetch_add(fetched as u64, Ordering::Relaxed);
        self.returned.fetch_add(returned as u64, Ordering::Relaxed);
    }

    pub fn lists(&self) -> u64 {
        self.lists.load(Ordering::Relaxed)
    }

    /// Objects that were looked at.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Of these, those that were told.
    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }
}

pub struct ResourceCache {
    id: ResourceId,
    info: ResourceInfo,
    scanner: Scanner,
    /// By which events grow old.
    clock: Clock,
    /// The whole cache's revision: everything up to it is in.
    global: Arc<AtomicU64>,
    pub(super) state: RwLock<State>,
    /// Locked only while `state` is.
    pub(super) waiters: Mutex<Waiters>,
    /// Open watches; frames are made ahead only when there are some.
    pub(super) watchers: AtomicUsize,
    /// What lists have read.
    pub reads: Reads,
    removed: std::sync::atomic::AtomicBool,
}

pub(super) struct State {
    pub snapshot: Arc<Snapshot>,
    by_key: FxHashMap<Arc<str>, Arc<Object>>,
    pub history: History,
    pub indexes: Indexes,
    /// Of the last event.
    pub revision: u64,
    /// How many there have been since the start.
    events: u64,
    pub compacted: u64,
    /// Loaded, and nobody has said yet at what revision.
    unsettled: bool,
}

/// A change of the log; `previous` None: what was there before is not known.
pub(super) struct Past {
    pub deleted: bool,
    pub object: Arc<Object>,
    pub previous: Option<Previous>,
}

impl State {
    /// Nobody can go on from, or read at, a revision before this.
    pub fn oldest(&self) -> u64 {
        self.history.lost().max(self.compacted)
    }

    pub fn get(&self, key: &str) -> Option<&Arc<Object>> {
        self.by_key.get(key)
    }

    fn settle(&mut self, revision: u64) {
        if std::mem::take(&mut self.unsettled) {
            self.history.forget_to(revision);
        }
    }
}

impl ResourceCache {
    pub(super) fn new(
        id: ResourceId,
        info: ResourceInfo,
        global: Arc<AtomicU64>,
        history: History,
        clock: Clock,
    ) -> Self {
        let scanner = Scanner::new(info.selectable_fields.clone());
        let state = State {
            snapshot: Arc::default(),
            by_key: FxHashMap::default(),
            history,
            indexes: Indexes::default(),
            revision: 0,
            events: 0,
            compacted: 0,
            unsettled: false,
        };
        Self {
            id,
            info,
            scanner,
            clock,
            global,
            state: RwLock::new(state),
            waiters: Mutex::default(),
            watchers: AtomicUsize::new(0),
            reads: Reads::default(),
            removed: false.into(),
        }
    }

    /// How many events have come since the start.
    pub fn events(&self) -> u64 {
        self.state.read().events
    }

    pub fn id(&self) -> ResourceId {
        self.id
    }

    pub fn info(&self) -> &ResourceInfo {
        &self.info
    }

    pub fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    /// No longer served: a deleted custom resource.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// The revision a read that begins now can claim: the state looked at afterwards holds all up to it.
    pub(super) fn global_revision(&self) -> u64 {
        self.global.load(Ordering::Acquire)
    }

    /// The revision that is reached: a read that asks for a later one asks for the future.
    pub fn reached(&self) -> u64 {
        let global = self.global_revision();
        global.max(self.state.read().revision)
    }

    /// `namespace` is empty for what lives outside of namespaces.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        if namespace.is_empty() {
            return self.get_by_key(name);
        }
        self.get_by_key(&[namespace, "/", name].concat())
    }

    pub fn get_by_key(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().get(key).cloned()
    }

    /// Of the object with that key.
    pub fn revision_of(&self, key: &str) -> Option<u64> {
        self.state.read().get(key).map(|object| object.revision())
    }

    /// The object as a client of that form reads it.
    pub fn render(&self, object: &Object, transcoder: &dyn Transcoder) -> Result<Bytes, Status> {
        if transcoder.id() == STORED {
            return Ok(object.json().clone());
        }
        object.cached(transcoder.id(), || transcoder.object(&self.info, object))
    }

    /// All objects as of one moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.read().snapshot)
    }

    /// The revision of the last change, 0 when there was none since the start.
    pub fn changed(&self) -> u64 {
        self.state.read().revision
    }

    pub fn len(&self) -> usize {
        self.state.read().snapshot.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Objects in the namespace, counted without looking at them.
    pub fn count_in(&self, namespace: &str) -> usize {
        let snapshot = self.snapshot();
        let prefix = format!("{namespace}/");
        snapshot.count(snapshot.lower_bound(&prefix), snapshot.prefix_end(&prefix))
    }

    /// Replaces everything; history begins anew when it is next told a revision.
    pub(super) fn load(&self, mut objects: Vec<Arc<Object>>) {
        objects.sort_by(|a, b| a.key().cmp(b.key()));
        let newest = objects.iter().map(|object| object.revision()).max().unwrap_or(0);
        let by_key =
            objects.iter().map(|object| (Arc::clone(object.shared_key()), Arc::clone(object))).collect();
        let snapshot = Arc::new(Snapshot::sorted(objects));
        let mut woken = Vec::new();
        {
            let mut state = self.state.write();
            let lost = newest.max(self.global_revision());
            state.snapshot = snapshot;
            state.by_key = by_key;
            state.indexes.clear();
            state.history.clear(lost);
            state.revision = state.revision.max(newest);
            state.unsettled = true;
            self.waiters.lock().everybody(state.history.end(), &mut woken);
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Puts prepared changes in place, in order; returns their events and who waits for them.
    pub(super) fn apply(&self, changes: Vec<(bool, Arc<Object>)>, woken: &mut Vec<Waker>) -> Vec<Arc<Event>> {
        let framed = self.watchers.load(Ordering::Acquire) > 0;
        let mut events = Vec::with_capacity(changes.len());
        let now = self.clock.monotonic();
        let mut guard = self.state.write();
        let state = &mut *guard;
        let mut waiters = self.waiters.lock();
        if let Some((_, first)) = changes.first() {
            state.settle(first.revision().saturating_sub(1));
        }
        // Copies the list of runs only while a reader holds the snapshot.
        let snapshot = Arc::make_mut(&mut state.snapshot);
        for (deleted, object) in changes {
            let previous = if deleted {
                snapshot.remove(object.key());
                state.by_key.remove(object.key())
            } else {
                snapshot.put(Arc::clone(&object));
                state.by_key.insert(Arc::clone(object.shared_key()), Arc::clone(&object))
            };
            state.indexes.update(previous.as_deref(), (!deleted).then_some(&*object));
            state.revision = object.revision();
            let previous = previous.map_or(Previous::Absent, Previous::Known);
            let event = state.history.push(NewEvent { deleted, object, previous }, framed, Some(now));
            waiters.concerned(&event, state.history.end() - 1, woken);
            events.push(event);
        }
        state.events += events.len() as u64;
        events
    }

    /// Events of the past, for the history alone; `since`: there are no others after that revision.
    pub(super) fn replay(&self, changes: Vec<Past>, since: u64) {
        let mut state = self.state.write();
        if std::mem::take(&mut state.unsettled) {
            state.history.clear(0);
            state.history.reaches_back_to(since);
        }
        let mut last: FxHashMap<Arc<str>, Previous> = FxHashMap::default();
        for event in state.history.since(0) {
            last.insert(
                Arc::clone(event.object().shared_key()),
                after(event.change().is_deletion(), event.object()),
            );
        }
        for Past { deleted, object, previous } in changes {
            let key = Arc::clone(object.shared_key());
            let known = last.insert(key, after(deleted, &object));
            let previous = known.or(previous).unwrap_or(Previous::Unknown);
            state.revision = state.revision.max(object.revision());
            state.history.push(NewEvent { deleted, object, previous }, false, None);
        }
    }

    pub(super) fn history_bytes(&self) -> usize {
        self.state.read().history.bytes()
    }

    /// Forgets its oldest events until all histories fit together, or its own has `least` bytes.
    pub(super) fn make_room(&self, least: usize) {
        self.state.write().history.make_room(least);
    }

    pub(super) fn progress(&self, revision: u64) {
        if self.state.read().unsettled {
            self.state.write().settle(revision);
        }
    }

    pub(super) fn compacted(&self, revision: u64) {
        let mut state = self.state.write();
        state.compacted = state.compacted.max(revision);
    }

    /// Ends all watches.
    pub(super) fn remove(&self) {
        let mut woken = Vec::new();
        {
            let state = self.state.write();
            self.removed.store(true, Ordering::Release);
            self.waiters.lock().everybody(state.history.end(), &mut woken);
        }
        woken.into_iter().for_each(Waker::wake);
    }
}

fn after(deleted: bool, object: &Arc<Object>) -> Previous {
    if deleted { Previous::Absent } else { Previous::Known(Arc::clone(object)) }
}
