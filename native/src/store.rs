//! `Store`: the LMDB store on an event loop; see native/store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kubecore_core::clock::Clock as CoreClock;
use kubecore_store::encryption::{Encryption, Kind as Provider};
use kubecore_store::{
    Answer, Event, Host, Kind, Level, Limits, OpenError, Read, Refusal, Store as Core, Ticket, Work, Write,
};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};

use crate::bell::Bell;
use crate::clock::Clock;
use crate::deferred::DeferredValue;
use crate::error::io_error;
use crate::feed::{Feed, Router};
use crate::gil::released;
use crate::pending::{Pending, interface, python_event};

/// Work handed over in one turn of the event loop stays together, up to so much: the writer begins with that while the
/// loop goes on. Commits are far dearer than what is in them.
const BURST: usize = 64;
/// So often what is answered at once may ask for more that is, before the loop goes on.
const ROUNDS: usize = 16;
/// Keys whose place in the index may wait: so many at a time share its pages some six to one among 50,000. Each is some
/// 150 bytes, and read again, with its object, when the store is opened after a crash.
const UNINDEXED: usize = 8192;

/// Who waits, and a write's value. Its objects go back to the loop's thread with the answer, where they may be dropped.
struct Waiting {
    pending: Py<Pending>,
    value: Option<Value>,
}

enum Value {
    /// head and tail; the revision comes between them
    Template(PyBackedBytes, PyBackedBytes),
    Deferred(Py<DeferredValue>),
}

impl<'py> FromPyObject<'_, 'py> for Value {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(deferred) = given.cast_exact::<DeferredValue>() {
            return Ok(Self::Deferred(deferred.to_owned().unbind()));
        }
        given.extract().map(|(head, tail)| Self::Template(head, tail))
    }
}

impl Ticket for Waiting {
    fn value(&self) -> Option<(&[u8], &[u8])> {
        match &self.value {
            None => Some((b"", b"")),
            Some(Value::Template(head, tail)) => Some((head, tail)),
            Some(Value::Deferred(value)) => value.get().made(),
        }
    }
}

/// A prefix of keys, and providers in order: kind, and keys with their secrets.
type PyRule = (String, Vec<(String, Vec<(String, Vec<u8>)>)>);

fn sealing(rules: Vec<PyRule>) -> PyResult<Encryption> {
    let wrong = |why: String| PyValueError::new_err(why);
    let mut made = Vec::new();
    for (prefix, providers) in rules {
        let mut known = Vec::new();
        for (kind, keys) in providers {
            let kind = Provider::named(&kind).ok_or_else(|| wrong(format!("no provider {kind}")))?;
            known.push((kind, keys));
        }
        made.push((prefix, known));
    }
    Encryption::new(made).map_err(wrong)
}

type Answers = Vec<(Waiting, Answer)>;

/// From the writer's thread to the loop's.
struct Outbox {
    bell: Bell,
    answers: Mutex<Vec<Answers>>,
    notices: Mutex<Vec<(Level, String)>>,
    /// Of waiters that were answered without a `drain`.
    failures: Mutex<Vec<PyErr>>,
    /// Work that was handed over and not answered on the loop.
    unanswered: AtomicUsize,
}

/// Where committed writes go.
enum Sink {
    Feed(Arc<Router>),
    /// Anything with EventSink's methods; called with the GIL.
    Python(Py<PyAny>),
}

struct LoopHost {
    outbox: Arc<Outbox>,
    sink: Sink,
    clock: CoreClock,
    /// It is called on the writer's, and not on the loop's, which looks for answers by itself.
    own_thread: bool,
}

impl LoopHost {
    /// Calls a sink in Python; what it raises, in words.
    fn call(sink: &Py<PyAny>, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>) -> Result<(), String> {
        let called = Python::try_attach(|py| {
            call(sink.bind(py)).map_err(|error| {
                error.value(py).str().map_or_else(|_| error.to_string(), |text| text.to_string())
            })
        });
        called.unwrap_or_else(|| Err("Python has ended".to_owned()))
    }
}

impl Host for LoopHost {
    type Ticket = Waiting;

    fn now(&self) -> f64 {
        self.clock.unix().as_secs_f64()
    }

    fn publish(&mut self, revision: u64, events: &[Event]) -> Result<(), String> {
        match &self.sink {
            Sink::Feed(router) => router.publish(revision, events),
            Sink::Python(sink) => Self::call(sink, |sink| {
                let list = PyList::empty(sink.py());
                for event in events {
                    list.append(python_event(sink.py(), event)?)?;
                }
                sink.call_method1("publish", (revision, list)).map(|_| ())
            }),
        }
    }

    fn compacted(&mut self, revision: u64) {
        let told = match &self.sink {
            Sink::Feed(router) => {
                router.compacted(revision);
                Ok(())
            }
            Sink::Python(sink) => {
                Self::call(sink, |sink| sink.call_method1("compacted", (revision,)).map(|_| ()))
            }
        };
        if let Err(error) = told {
            self.log(Level::Error, format!("telling of a compaction failed: {error}"));
        }
    }

    fn answer(&mut self, answers: Answers) {
        self.outbox.answers.lock().push(answers);
        if self.own_thread {
            self.outbox.bell.ring();
        }
    }

    fn log(&mut self, level: Level, message: String) {
        self.outbox.notices.lock().push((level, message));
        self.outbox.bell.ring();
    }
}

/// What was handed over in this turn of the loop.
#[derive(Default)]
struct Burst {
    work: Vec<(Waiting, Work)>,
    /// Somebody will call `hand_over`.
    awaited: bool,
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Store {
    core: Core<Waiting>,
    outbox: Arc<Outbox>,
    event_loop: Py<PyAny>,
    burst: Mutex<Burst>,
    closed: AtomicBool,
    own_thread: bool,
}

impl Store {
    fn submit(slf: &Bound<'_, Self>, work: Work, value: Option<Value>) -> PyResult<Py<Pending>> {
        let (py, store) = (slf.py(), slf.get());
        let pending = Py::new(py, Pending::new(store.event_loop.clone_ref(py)))?;
        let waiting = Waiting { pending: pending.clone_ref(py), value };
        if store.closed.load(Ordering::Acquire) {
            Pending::resolve(pending.bind(py), Refusal::Closed.into())?;
            return Ok(pending);
        }
        store.outbox.unanswered.fetch_add(1, Ordering::AcqRel);
        let (full, first) = {
            let mut burst = store.burst.lock();
            burst.work.push((waiting, work));
            (burst.work.len() >= BURST, !std::mem::replace(&mut burst.awaited, true))
        };
        if first {
            store.event_loop.bind(py).call_method1("call_soon", (slf.getattr("hand_over")?,))?;
        }
        if full {
            store.send(py)?;
            store.ring_if_answered();
        }
        Ok(pending)
    }

    /// Gives the writer what there is.
    fn send(&self, py: Python<'_>) -> PyResult<()> {
        let work = std::mem::take(&mut self.burst.lock().work);
        if work.is_empty() {
            return Ok(());
        }
        let sent =
            if self.own_thread { self.core.submit(work) } else { released(py, || self.core.submit(work))? };
        if let Err((refused, refusal)) = sent {
            for (waiting, _) in refused {
                self.outbox.unanswered.fetch_sub(1, Ordering::AcqRel);
                Pending::resolve(waiting.pending.bind(py), refusal.clone().into())?;
            }
        }
        Ok(())
    }

    /// Where the writer has no thread that rings: for answers that are to wait for the loop's next turn.
    fn ring_if_answered(&self) {
        if !self.own_thread && !self.outbox.answers.lock().is_empty() {
            self.outbox.bell.ring();
        }
    }

    /// Answers what is done. One waiter's failure must not cost the others their answers.
    fn answer(&self, py: Python<'_>) {
        let answered = std::mem::take(&mut *self.outbox.answers.lock());
        for (waiting, answer) in answered.into_iter().flatten() {
            self.outbox.unanswered.fetch_sub(1, Ordering::AcqRel);
            if let Err(error) = Pending::resolve(waiting.pending.bind(py), answer) {
                self.failed(error);
            }
        }
    }

    fn failed(&self, error: PyErr) {
        self.outbox.failures.lock().push(error);
        self.outbox.bell.ring();
    }

    fn write(
        slf: &Bound<'_, Self>,
        kind: Kind,
        key: String,
        value: Value,
        expected: u64,
    ) -> PyResult<Py<Pending>> {
        Self::submit(slf, Work::Write(Write { kind, key, expected }), Some(value))
    }
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (directory, event_loop, sink, *, clock, max_events, min_events, max_age, sync, encryption, own_thread = true))]
    #[allow(clippy::too_many_arguments)] // limits, by their names
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        event_loop: Py<PyAny>,
        sink: &Bound<'_, PyAny>,
        clock: &Clock,
        max_events: u64,
        min_events: u64,
        max_age: f64,
        sync: bool,
        encryption: Vec<PyRule>,
        own_thread: bool,
    ) -> PyResult<Self> {
        let sink = match sink.cast::<Feed>() {
            Ok(feed) => Sink::Feed(Arc::clone(&feed.get().router)),
            Err(_) => Sink::Python(sink.clone().unbind()),
        };
        let outbox = Arc::new(Outbox {
            bell: Bell::new().map_err(io_error)?,
            answers: Mutex::default(),
            notices: Mutex::default(),
            failures: Mutex::default(),
            unanswered: AtomicUsize::new(0),
        });
        let host = LoopHost { outbox: Arc::clone(&outbox), sink, clock: clock.core.clone(), own_thread };
        let limits = Limits { max_events, min_events, max_age, sync, unindexed: UNINDEXED };
        let encryption = sealing(encryption)?;
        let opened = released(py, || Core::open(&directory, limits, encryption, host, own_thread))?;
        let core = opened.map_err(|error| unusable(py, &directory, error))?;
        let (burst, closed) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { core, outbox, event_loop, burst, closed, own_thread })
    }

    fn create(slf: &Bound<'_, Self>, key: String, value: Value) -> PyResult<Py<Pending>> {
        Self::write(slf, Kind::Create, key, value, 0)
    }

    #[pyo3(signature = (key, value, *, expected))]
    fn update(slf: &Bound<'_, Self>, key: String, value: Value, expected: u64) -> PyResult<Py<Pending>> {
        Self::write(slf, Kind::Update, key, value, expected)
    }

    #[pyo3(signature = (key, last, *, expected))]
    fn delete(slf: &Bound<'_, Self>, key: String, last: Value, expected: u64) -> PyResult<Py<Pending>> {
        Self::write(slf, Kind::Delete, key, last, expected)
    }

    fn get(slf: &Bound<'_, Self>, key: String) -> PyResult<Py<Pending>> {
        Self::submit(slf, Work::Read(Read::Get { key }), None)
    }

    #[pyo3(signature = (prefix, *, start = "", limit = 0, revision = 0))]
    fn list(
        slf: &Bound<'_, Self>,
        prefix: String,
        start: &str,
        limit: usize,
        revision: u64,
    ) -> PyResult<Py<Pending>> {
        let start = start.to_owned();
        Self::submit(slf, Work::Read(Read::List { prefix, start, limit, revision }), None)
    }

    #[pyo3(signature = (since, *, limit = 0))]
    fn events(slf: &Bound<'_, Self>, since: u64, limit: usize) -> PyResult<Py<Pending>> {
        Self::submit(slf, Work::Read(Read::Events { since, limit }), None)
    }

    fn compact(slf: &Bound<'_, Self>, revision: u64) -> PyResult<Py<Pending>> {
        Self::submit(slf, Work::Compact(revision), None)
    }

    /// Values are sealed so from now on, also those that are there.
    fn encrypt(slf: &Bound<'_, Self>, encryption: Vec<PyRule>) -> PyResult<Py<Pending>> {
        Self::submit(slf, Work::Encrypt(Arc::new(sealing(encryption)?)), None)
    }

    /// Takes no more work; done when everything that was handed over is, and the file is closed.
    fn stop(slf: &Bound<'_, Self>) -> PyResult<Py<Pending>> {
        let stopping = Self::submit(slf, Work::Stop, None)?;
        slf.get().closed.store(true, Ordering::Release);
        slf.get().send(slf.py())?;
        slf.get().ring_if_answered();
        Ok(stopping)
    }

    /// Work from now on waits for `hand_over`, not for the loop's next turn.
    fn hold(&self) {
        self.burst.lock().awaited = true;
    }

    /// The writer begins with what it was asked for; where it has no thread, it is done and answered when this returns.
    fn hand_over(&self, py: Python<'_>) -> PyResult<()> {
        self.burst.lock().awaited = false;
        self.send(py)?;
        for _ in 0..ROUNDS {
            if self.own_thread || self.outbox.answers.lock().is_empty() {
                return Ok(());
            }
            // Who is answered often writes more.
            self.hold();
            self.answer(py);
            self.burst.lock().awaited = false;
            self.send(py)?;
        }
        self.ring_if_answered();
        Ok(())
    }

    /// Waits for the writer's end, after `stop`.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        released(py, || self.core.join())
    }

    /// Readable when there is something to `drain`.
    fn fileno(&self) -> i32 {
        self.outbox.bell.fileno()
    }

    /// Answers what is done, and gives what is to be logged: level, message, exception.
    fn drain(&self, py: Python<'_>) -> Vec<(u8, String, Option<PyErr>)> {
        self.outbox.bell.clear();
        // Who is answered often writes more.
        self.hold();
        self.answer(py);
        if let Err(error) = self.hand_over(py) {
            self.failed(error);
        }
        let notices = std::mem::take(&mut *self.outbox.notices.lock());
        let failures = std::mem::take(&mut *self.outbox.failures.lock());
        let told = notices.into_iter().map(|(level, message)| (logging_level(level), message, None));
        let failed = "the waiter of a write failed";
        let failed =
            failures.into_iter().map(|error| (logging_level(Level::Error), failed.to_owned(), Some(error)));
        told.chain(failed).collect()
    }

    /// Whether work was handed over that was not answered yet.
    fn busy(&self) -> bool {
        self.outbox.unanswered.load(Ordering::Acquire) > 0
    }

    #[getter]
    fn revision(&self) -> u64 {
        self.core.revision()
    }

    #[getter]
    fn compacted(&self) -> u64 {
        self.core.compacted()
    }

    /// Why the store takes no more work, None while it does.
    #[getter]
    fn failure(&self) -> Option<String> {
        self.core.failure()
    }
}

/// As in Python's logging.
fn logging_level(level: Level) -> u8 {
    match level {
        Level::Info => 20,
        Level::Error => 40,
    }
}

fn unusable(py: Python<'_>, directory: &Path, error: OpenError) -> PyErr {
    static ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let place = directory.display();
    let text = match error {
        OpenError::NoRoom => {
            format!("no space left on the file system of {place}: make room there, or choose another place")
        }
        OpenError::Unreadable(why) => format!("{place} is damaged or not a kubecore data directory: {why}"),
        OpenError::Sealed(why) => format!("what is encrypted in {place} cannot be read: {why}"),
        OpenError::Unmarked => format!("{place} holds a database without kubecore's format mark"),
        OpenError::Format { found, known } => {
            format!("{place} is of format '{found}', this kubecore reads '{known}'")
        }
    };
    match interface(py, &ERROR, "DataDirError") {
        Ok(class) => PyErr::from_type(class.clone(), (text,)),
        Err(error) => error,
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Store>()
}
