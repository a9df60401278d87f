//! `OutgoingCalls`: requests of ours to other servers, whose answers come back to the event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kubecore_front::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use kubecore_front::http::{HeaderMap, Request};
use kubecore_outgoing::{Answer, Client, Origin, Problem, RESET, Stage};
use parking_lot::Mutex;
use pyo3::create_exception;
use pyo3::exceptions::{PyConnectionError, PyConnectionResetError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustc_hash::FxHashMap;
use tokio::time::timeout;

use crate::bell::Bell;
use crate::error::io_error;
use crate::pending::Pending;
use crate::streaming::BackendTls;

create_exception!(kubecore._native, UnfinishedAnswer, PyConnectionError);

/// Connections to other servers, which are kept: with TLS all of them by the same.
#[pyclass(frozen, module = "kubecore._native")]
pub struct OutgoingClient(Arc<Client>);

#[pymethods]
impl OutgoingClient {
    #[new]
    fn new(tls: Option<&BackendTls>) -> Self {
        Self(Arc::new(Client::new(tls.map(|tls| Arc::clone(&tls.0)))))
    }

    fn keeps(&self, name: String, port: u16) -> bool {
        self.0.keeps(&(name, port))
    }
}

enum Outcome {
    Answer(Answer),
    /// Nothing was sent: there is no connection, and nobody has said where to.
    Unsent,
    Failed(Problem),
    Late,
}

struct Outbox {
    bell: Bell,
    ended: Mutex<Vec<(u64, Outcome)>>,
}

/// A call, of whose end the loop hears in any case.
struct Call {
    outbox: Arc<Outbox>,
    number: u64,
    outcome: Option<Outcome>,
}

impl Call {
    fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Outcome::Failed(Problem::of("internal error")));
        self.outbox.ended.lock().push((self.number, outcome));
        self.outbox.bell.ring();
    }
}

/// On the loop's thread, but for the outbox.
#[pyclass(frozen, module = "kubecore._native")]
pub struct OutgoingCalls {
    event_loop: Py<PyAny>,
    outbox: Arc<Outbox>,
    numbers: AtomicU64,
    /// Who waits, by the number of the call.
    waiting: Mutex<FxHashMap<u64, Py<Pending>>>,
}

impl OutgoingCalls {
    fn settle(&self, py: Python<'_>, number: u64, result: PyResult<Py<PyAny>>) -> PyResult<()> {
        let pending = self.waiting.lock().remove(&number);
        pending.map_or(Ok(()), |pending| Pending::settle(pending.bind(py), result))
    }
}

#[pymethods]
impl OutgoingCalls {
    #[new]
    fn new(event_loop: Py<PyAny>) -> PyResult<Self> {
        let outbox = Outbox { bell: Bell::new().map_err(io_error)?, ended: Mutex::default() };
        let (numbers, waiting) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { event_loop, outbox: Arc::new(outbox), numbers, waiting })
    }

    fn fileno(&self) -> i32 {
        self.outbox.bell.fileno()
    }

    #[pyo3(signature = (client, name, port, target, headers, body, *, place, seconds, largest))]
    #[allow(clippy::too_many_arguments)] // where, what, and how long
    fn post(
        &self,
        py: Python<'_>,
        client: &OutgoingClient,
        name: String,
        port: u16,
        target: &str,
        headers: Vec<(String, String)>,
        body: &[u8],
        place: Option<(String, u16)>,
        seconds: f64,
        largest: usize,
    ) -> PyResult<Py<Pending>> {
        let request = request(target, &headers, body)?;
        let patience =
            Duration::try_from_secs_f64(seconds).map_err(|_| PyValueError::new_err("not a duration"))?;
        let runtime = kubecore_front::runtime().map_err(io_error)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let pending = Py::new(py, Pending::new(self.event_loop.clone_ref(py)))?;
        self.waiting.lock().insert(number, pending.clone_ref(py));
        let client = Arc::clone(&client.0);
        let call = Call { outbox: Arc::clone(&self.outbox), number, outcome: None };
        runtime.spawn(async move {
            let origin: Origin = (name, port);
            call.end(match timeout(patience, client.ask(origin, place, request, largest)).await {
                Ok(Ok(Some(answer))) => Outcome::Answer(answer),
                Ok(Ok(None)) => Outcome::Unsent,
                Ok(Err(problem)) => Outcome::Failed(problem),
                Err(_) => Outcome::Late,
            });
        });
        Ok(pending)
    }

    fn drain(&self, py: Python<'_>) -> Vec<PyErr> {
        self.outbox.bell.clear();
        let ended = std::mem::take(&mut *self.outbox.ended.lock());
        let settled = ended.into_iter().map(|(number, outcome)| {
            let result = python_result(py, outcome);
            self.settle(py, number, result)
        });
        settled.filter_map(Result::err).collect()
    }

    fn close(&self, py: Python<'_>) -> Vec<PyErr> {
        let numbers: Vec<u64> = self.waiting.lock().keys().copied().collect();
        let settled = numbers.into_iter().map(|number| {
            self.settle(py, number, Err(PyConnectionError::new_err("the API server is shutting down")))
        });
        settled.filter_map(Result::err).collect()
    }
}

/// Raises ValueError for what cannot be sent.
fn request(
    target: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> PyResult<Request<http_body_util::Full<Bytes>>> {
    let mut request = Request::post(target).body(Bytes::copy_from_slice(body).into());
    let made = request.as_mut().map_err(|error| PyValueError::new_err(error.to_string()))?;
    for (name, value) in headers {
        let known = HeaderName::try_from(name)
            .map_err(|_| PyValueError::new_err(format!("net/http: invalid header field name {name:?}")))?;
        let value = HeaderValue::try_from(value).map_err(|_| {
            PyValueError::new_err(format!("net/http: invalid header field value for {name:?}"))
        })?;
        made.headers_mut().append(known, value);
    }
    debug_assert!(made.headers().contains_key(HOST));
    request.map_err(|error| PyValueError::new_err(error.to_string()))
}

fn python_result(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    match outcome {
        Outcome::Answer(Answer { status, headers, body }) => {
            let told = (
                status.as_u16(),
                text(&headers, &CONTENT_TYPE),
                text(&headers, &RETRY_AFTER),
                PyBytes::new(py, &body),
            );
            Ok(told.into_pyobject(py)?.into_any().unbind())
        }
        Outcome::Unsent => Ok(py.None()),
        Outcome::Failed(Problem { text, stage: Stage::Reading }) => Err(UnfinishedAnswer::new_err(text)),
        Outcome::Failed(Problem { text, .. }) if text == RESET => Err(PyConnectionResetError::new_err(text)),
        Outcome::Failed(Problem { text, .. }) => Err(PyConnectionError::new_err(text)),
        Outcome::Late => Err(PyTimeoutError::new_err("context deadline exceeded")),
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("UnfinishedAnswer", module.py().get_type::<UnfinishedAnswer>())?;
    module.add_class::<OutgoingClient>()?;
    module.add_class::<OutgoingCalls>()
}
