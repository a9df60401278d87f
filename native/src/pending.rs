//! The awaitable a write hands out, and coroutines that are run without a Task while they wait for nothing else.

use std::ptr;

use kubecore_store::{Answer, Entry, Event, Refusal};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};

const INTERFACE: &str = "kubecore.apiserver.storage.interface";

/// A result that comes later, on the loop's thread. It waits like an asyncio Future inside a Task; a coroutine that is
/// driven goes on at once when the write is durable, without a trip through the loop's queue.
#[pyclass(frozen, module = "kubecore._native")]
pub struct Pending {
    event_loop: Py<PyAny>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A Task's mark that it waits for this (`_asyncio_future_blocking`).
    blocking: bool,
    outcome: Option<Outcome>,
    driven: Option<Driven>,
    /// With the context each one is called in.
    callbacks: Vec<(Py<PyAny>, Option<Py<PyAny>>)>,
}

enum Outcome {
    /// Nobody has looked at it.
    Answer(Answer),
    Value(Py<PyAny>),
    Error(PyErr),
    Cancelled(PyErr),
}

impl Pending {
    pub fn new(event_loop: Py<PyAny>) -> Self {
        Self { event_loop, state: Mutex::default() }
    }

    fn end(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<bool> {
        let (driven, callbacks) = {
            let mut state = slf.get().state.lock();
            if state.outcome.is_some() {
                return Ok(false);
            }
            state.outcome = Some(outcome);
            (state.driven.take(), std::mem::take(&mut state.callbacks))
        };
        let driven = driven.map_or(Ok(()), |driven| driven.step(slf.py()));
        for (callback, context) in callbacks {
            Self::call_soon(slf, callback, context)?;
        }
        driven.map(|()| true)
    }

    /// Ends the wait; ignored when the waiter has given up.
    pub fn resolve(slf: &Bound<'_, Self>, answer: Answer) -> PyResult<()> {
        Self::end(slf, Outcome::Answer(answer)).map(|_| ())
    }

    /// The same, of a result that is Python's.
    pub fn settle(slf: &Bound<'_, Self>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
        Self::end(slf, result.map_or_else(Outcome::Error, Outcome::Value)).map(|_| ())
    }

    fn call_soon(slf: &Bound<'_, Self>, callback: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let keywords = PyDict::new(py);
        keywords.set_item("context", context)?;
        slf.get().event_loop.bind(py).call_method("call_soon", (callback, slf), Some(&keywords))?;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.state.lock().outcome.is_some()
    }
}

#[pymethods]
impl Pending {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Itself once, to be waited for, if it is not done; then the result.
    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        {
            let mut state = slf.get().state.lock();
            if state.outcome.is_none() {
                state.blocking = true;
                return Ok(slf.clone().unbind());
            }
        }
        // In a tuple of its own: the exception would take a tuple apart.
        let result = slf.get().result(slf.py())?;
        Err(PyStopIteration::new_err((result,)))
    }

    // --- what asyncio.Task asks of a future

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        self.state.lock().blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.state.lock().blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    fn done(&self) -> bool {
        self.is_done()
    }

    fn cancelled(&self) -> bool {
        matches!(self.state.lock().outcome, Some(Outcome::Cancelled(_)))
    }

    /// The waiter gives up; the write itself goes on.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
        static CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = slf.py();
        let class = CANCELLED.import(py, "asyncio", "CancelledError")?.clone();
        let error = msg.map_or_else(
            || PyErr::from_type(class.clone(), ()),
            |msg| PyErr::from_type(class.clone(), (msg.unbind(),)),
        );
        Self::end(slf, Outcome::Cancelled(error))
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut state = self.state.lock();
        match state.outcome.take() {
            None => Err(PyRuntimeError::new_err("the result is not there yet")),
            Some(Outcome::Answer(answer)) => {
                // The lock is not held while Python runs.
                drop(state);
                let made = python_value(py, answer);
                self.state.lock().outcome = Some(match &made {
                    Ok(value) => Outcome::Value(value.clone_ref(py)),
                    Err(error) => Outcome::Error(error.clone_ref(py)),
                });
                made
            }
            Some(Outcome::Value(value)) => {
                let result = value.clone_ref(py);
                state.outcome = Some(Outcome::Value(value));
                Ok(result)
            }
            Some(Outcome::Error(error)) => {
                let result = error.clone_ref(py);
                state.outcome = Some(Outcome::Error(error));
                Err(result)
            }
            Some(Outcome::Cancelled(error)) => {
                let result = error.clone_ref(py);
                state.outcome = Some(Outcome::Cancelled(error));
                Err(result)
            }
        }
    }

    /// What `result` raises, None when it does not.
    fn exception(&self, py: Python<'_>) -> Option<PyErr> {
        self.result(py).err()
    }

    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let mut state = slf.get().state.lock();
        if state.outcome.is_none() {
            state.callbacks.push((callback, context));
            return Ok(());
        }
        drop(state);
        Self::call_soon(slf, callback, context)
    }

    fn remove_done_callback(&self, py: Python<'_>, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        // Comparing may run Python: not under the lock.
        let known = std::mem::take(&mut self.state.lock().callbacks);
        let before = known.len();
        let mut kept = Vec::with_capacity(before);
        for (one, context) in known {
            if !one.bind(py).eq(callback)? {
                kept.push((one, context));
            }
        }
        let removed = before - kept.len();
        self.state.lock().callbacks.splice(0..0, kept);
        Ok(removed)
    }
}

/// A coroutine without a Task, and who takes it over when it waits for anything but the store.
struct Driven {
    coroutine: Py<PyAny>,
    /// Called with the coroutine and what it waits for.
    take_over: Py<PyAny>,
}

impl Driven {
    /// Runs the coroutine until it waits.
    fn step(self, py: Python<'_>) -> PyResult<()> {
        let mut yielded = ptr::null_mut();
        // SAFETY: living objects; the result is owned by the caller and null on an error, which is then set.
        let waiting = unsafe {
            let none = ffi::Py_None();
            match ffi::PyIter_Send(self.coroutine.as_ptr(), none, &raw mut yielded) {
                ffi::PySendResult::PYGEN_NEXT => Bound::from_owned_ptr(py, yielded),
                ffi::PySendResult::PYGEN_RETURN => {
                    drop(Bound::from_owned_ptr(py, yielded));
                    return Ok(());
                }
                ffi::PySendResult::PYGEN_ERROR => return Err(PyErr::fetch(py)),
            }
        };
        if let Ok(pending) = waiting.cast_exact::<Pending>() {
            let mut state = pending.get().state.lock();
            if state.outcome.is_none() && state.driven.is_none() {
                state.blocking = false;
                state.driven = Some(self);
                return Ok(());
            }
        }
        self.take_over.call1(py, (self.coroutine.clone_ref(py), waiting))?;
        Ok(())
    }
}

/// Runs a coroutine that returns nothing and raises nothing: without a Task while it waits only for the store. When it
/// waits for anything else, `take_over` is called with it and what it waits for.
#[pyfunction]
fn drive(py: Python<'_>, coroutine: Py<PyAny>, take_over: Py<PyAny>) -> PyResult<()> {
    Driven { coroutine, take_over }.step(py)
}

// --- answers as Python knows them

pub fn interface<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    cell.import(py, INTERFACE, name)
}

/// An instance of a NamedTuple, without its Python-side constructor.
fn named<'py>(class: &Bound<'py, PyType>, fields: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    static NEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    let new = NEW.get_or_try_init(py, || py.get_type::<PyTuple>().getattr("__new__").map(Bound::unbind))?;
    new.bind(py).call1((class, fields))
}

fn stored<'py>(py: Python<'py>, revision: u64, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static STORED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = interface(py, &STORED, "Stored")?;
    named(class, (revision, PyBytes::new(py, value)).into_pyobject(py)?)
}

pub fn python_event<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    static EVENT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = interface(py, &EVENT, "Event")?;
    let value = PyBytes::new(py, &event.value);
    let fields = (u8::from(event.deleted), &event.key, event.revision, value, event.previous);
    named(class, fields.into_pyobject(py)?)
}

fn python_value(py: Python<'_>, answer: Answer) -> PyResult<Py<PyAny>> {
    static PAGE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let value = match answer {
        Answer::Stored { revision, value } => stored(py, revision, &value)?,
        Answer::Nothing => return Ok(py.None()),
        Answer::Page(page) => {
            let items = PyList::empty(py);
            for Entry { key, revision, value } in page.entries {
                items.append((key, stored(py, revision, &value)?))?;
            }
            interface(py, &PAGE, "Page")?.call1((page.revision, items, page.next))?
        }
        Answer::Events(events) => {
            let found = PyList::empty(py);
            for event in &events {
                found.append(python_event(py, event)?)?;
            }
            found.into_any()
        }
        Answer::Refused(refusal) => return Err(storage_error(py, refusal)),
    };
    Ok(value.unbind())
}

fn storage_error(py: Python<'_>, refusal: Refusal) -> PyErr {
    static EXISTS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static MISSING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static CONFLICT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static COMPACTED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static UNMADE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static CLOSED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static FAILED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = match refusal {
        Refusal::KeyExists { key } => interface(py, &EXISTS, "KeyExists").map(|class| class.call1((key,))),
        Refusal::KeyMissing { key } => interface(py, &MISSING, "KeyMissing").map(|class| class.call1((key,))),
        Refusal::Conflict { key, expected, actual } => {
            interface(py, &CONFLICT, "RevisionConflict").map(|class| class.call1((key, expected, actual)))
        }
        Refusal::Compacted { revision, compacted } => {
            interface(py, &COMPACTED, "Compacted").map(|class| class.call1((revision, compacted)))
        }
        Refusal::Unmade { key } => interface(py, &UNMADE, "ValueUnmade").map(|class| class.call1((key,))),
        Refusal::Closed => {
            interface(py, &CLOSED, "StorageClosed").map(|class| class.call1(("the store is shutting down",)))
        }
        Refusal::Failed(text) => interface(py, &FAILED, "StorageError").map(|class| class.call1((text,))),
    };
    match made {
        Ok(Ok(error)) => PyErr::from_value(error),
        Ok(Err(error)) | Err(error) => error,
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(drive, module)?)?;
    module.add_class::<Pending>()
}
