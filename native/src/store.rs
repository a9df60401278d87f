//! `Store`: the LMDB store on an event loop; see native/store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kubecore_core::clock::Clock as CoreClock;
use kubecore_store::{
    Answer, Event, Host, Kind, Level, Limits, OpenError, Read, Refusal, Store as Core, Template, Work, Write,
};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyType};

use crate::bell::Bell;
use crate::clock::Clock;
use crate::error::io_error;
use crate::feed::{Feed, Router};
use crate::gil::released;
use crate::pending::{Pending, interface, python_event};

type Answers = Vec<(Py<Pending>, Answer)>;

/// From the writer's thread to the loop's.
struct Outbox {
    bell: Bell,
    answers: Mutex<Vec<Answers>>,
    notices: Mutex<Vec<(Level, String)>>,
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
    type Ticket = Py<Pending>;

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
        self.outbox.bell.ring();
    }

    fn log(&mut self, level: Level, message: String) {
        self.outbox.notices.lock().push((level, message));
        self.outbox.bell.ring();
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct Store {
    core: Core<Py<Pending>>,
    outbox: Arc<Outbox>,
    event_loop: Py<PyAny>,
    closed: AtomicBool,
}

/// head and tail; the revision comes between them
type PyTemplate<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

impl Store {
    fn submit(&self, py: Python<'_>, work: Work) -> PyResult<Py<Pending>> {
        let pending = Py::new(py, Pending::new(self.event_loop.clone_ref(py)))?;
        self.outbox.unanswered.fetch_add(1, Ordering::AcqRel);
        let submitted = if self.closed.load(Ordering::Acquire) {
            Err((pending.clone_ref(py), Refusal::Closed))
        } else {
            self.core.submit(pending.clone_ref(py), work)
        };
        if let Err((ticket, refusal)) = submitted {
            self.outbox.unanswered.fetch_sub(1, Ordering::AcqRel);
            Pending::resolve(ticket.bind(py), refusal.into())?;
        }
        Ok(pending)
    }

    fn write(
        &self,
        py: Python<'_>,
        kind: Kind,
        key: String,
        (head, tail): PyTemplate<'_>,
        expected: u64,
    ) -> PyResult<Py<Pending>> {
        let value = Template::new(head.as_bytes(), tail.as_bytes());
        self.submit(py, Work::Write(Write { kind, key, value, expected }))
    }
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (directory, event_loop, sink, *, clock, max_events, min_events, max_age, sync))]
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
    ) -> PyResult<Self> {
        let sink = match sink.cast::<Feed>() {
            Ok(feed) => Sink::Feed(Arc::clone(&feed.get().router)),
            Err(_) => Sink::Python(sink.clone().unbind()),
        };
        let outbox = Arc::new(Outbox {
            bell: Bell::new().map_err(io_error)?,
            answers: Mutex::default(),
            notices: Mutex::default(),
            unanswered: AtomicUsize::new(0),
        });
        let host = LoopHost { outbox: Arc::clone(&outbox), sink, clock: clock.core.clone() };
        let limits = Limits { max_events, min_events, max_age, sync };
        let opened = released(py, || Core::open(&directory, limits, host))?;
        let core = opened.map_err(|error| unusable(py, &directory, error))?;
        Ok(Self { core, outbox, event_loop, closed: AtomicBool::new(false) })
    }

    fn create(&self, py: Python<'_>, key: String, value: PyTemplate<'_>) -> PyResult<Py<Pending>> {
        self.write(py, Kind::Create, key, value, 0)
    }

    #[pyo3(signature = (key, value, *, expected))]
    fn update(
        &self,
        py: Python<'_>,
        key: String,
        value: PyTemplate<'_>,
        expected: u64,
    ) -> PyResult<Py<Pending>> {
        self.write(py, Kind::Update, key, value, expected)
    }

    #[pyo3(signature = (key, last, *, expected))]
    fn delete(
        &self,
        py: Python<'_>,
        key: String,
        last: PyTemplate<'_>,
        expected: u64,
    ) -> PyResult<Py<Pending>> {
        self.write(py, Kind::Delete, key, last, expected)
    }

    fn get(&self, py: Python<'_>, key: String) -> PyResult<Py<Pending>> {
        self.submit(py, Work::Read(Read::Get { key }))
    }

    #[pyo3(signature = (prefix, *, start = "", limit = 0, revision = 0))]
    fn list(
        &self,
        py: Python<'_>,
        prefix: String,
        start: &str,
        limit: usize,
        revision: u64,
    ) -> PyResult<Py<Pending>> {
        self.submit(py, Work::Read(Read::List { prefix, start: start.to_owned(), limit, revision }))
    }

    #[pyo3(signature = (since, *, limit = 0))]
    fn events(&self, py: Python<'_>, since: u64, limit: usize) -> PyResult<Py<Pending>> {
        self.submit(py, Work::Read(Read::Events { since, limit }))
    }

    fn compact(&self, py: Python<'_>, revision: u64) -> PyResult<Py<Pending>> {
        self.submit(py, Work::Compact(revision))
    }

    /// Takes no more work; done when everything that was handed over is, and the file is closed.
    fn stop(&self, py: Python<'_>) -> PyResult<Py<Pending>> {
        let stopping = self.submit(py, Work::Stop)?;
        self.closed.store(true, Ordering::Release);
        Ok(stopping)
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
        let answered = std::mem::take(&mut *self.outbox.answers.lock());
        let notices = std::mem::take(&mut *self.outbox.notices.lock());
        let mut told: Vec<_> =
            notices.into_iter().map(|(level, message)| (logging_level(level), message, None)).collect();
        for (pending, answer) in answered.into_iter().flatten() {
            self.outbox.unanswered.fetch_sub(1, Ordering::AcqRel);
            // One waiter's failure must not cost the others their answers.
            if let Err(error) = Pending::resolve(pending.bind(py), answer) {
                let message = "the waiter of a write failed".to_owned();
                told.push((logging_level(Level::Error), message, Some(error)));
            }
        }
        told
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
