//! `Flow`: what flow control is told to put in force, and seats of requests that come another way.

use std::sync::Arc;

use kubecore_flow::Objects;
use kubecore_front::flow::{Admission, Seat};
use kubecore_front::http::Method;
use kubecore_front::request_info::RequestInfo;
use kubecore_front::server::Server;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::answering::callback;
use crate::rbac::UserInfo;

#[pyclass(frozen, module = "kubecore._native")]
pub struct Flow(pub Arc<Server>);

#[pymethods]
impl Flow {
    fn configure(&self, py: Python<'_>, objects: &[u8]) -> PyResult<()> {
        let objects: Objects =
            serde_json::from_slice(objects).map_err(|error| PyValueError::new_err(error.to_string()))?;
        py.detach(|| self.0.flow.configure(self.0.clock.monotonic(), objects));
        Ok(())
    }

    /// None where nobody limits the request. `decided` is called, on the loop's thread, once a seat that is waited for
    /// is there or the wait has been too long.
    fn enter(
        &self,
        user: &UserInfo,
        method: &str,
        path: &str,
        query: &str,
        decided: Py<PyAny>,
    ) -> PyResult<Option<FlowSeat>> {
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|e| PyValueError::new_err(e.to_string()))?;
        let info = RequestInfo::parse(&method, path, query)
            .map_err(|_| PyValueError::new_err("the request path is not valid"))?;
        let info = Arc::new(info);
        let outcome = Arc::new(Mutex::new(Outcome::Waiting));
        let waiting = match self.0.seat_for(&user.0, &info, query) {
            Admission::Free => return Ok(None),
            Admission::Seated(seat) => {
                *outcome.lock() = Outcome::Seated(seat);
                None
            }
            Admission::Refused(refusal) => {
                *outcome.lock() = Outcome::Refused(refusal.seconds);
                None
            }
            Admission::Waiting(wait) => {
                let (outcome, handoff, decided) =
                    (outcome.clone(), self.0.handoff.clone(), callback(decided));
                Some(self.0.handle().spawn(async move {
                    *outcome.lock() = match wait.seated().await {
                        Ok(seat) => Outcome::Seated(seat),
                        Err(refusal) => Outcome::Refused(refusal.seconds),
                    };
                    handoff.call(decided);
                }))
            }
        };
        Ok(Some(FlowSeat { outcome, waiting: waiting.map(|task| task.abort_handle()) }))
    }
}

enum Outcome {
    Waiting,
    Seated(Seat),
    Refused(u64),
    Left,
}

/// The seat of a request that did not come through the listener, or its place in a queue.
#[pyclass(frozen, module = "kubecore._native")]
pub struct FlowSeat {
    outcome: Arc<Mutex<Outcome>>,
    waiting: Option<AbortHandle>,
}

#[pymethods]
impl FlowSeat {
    #[getter]
    fn is_waiting(&self) -> bool {
        matches!(*self.outcome.lock(), Outcome::Waiting)
    }

    #[getter]
    fn retry_after(&self) -> u64 {
        match *self.outcome.lock() {
            Outcome::Refused(seconds) => seconds,
            _ => 0,
        }
    }

    fn free(&self) {
        if let Some(waiting) = &self.waiting {
            waiting.abort();
        }
        let left = std::mem::replace(&mut *self.outcome.lock(), Outcome::Left);
        if let Outcome::Seated(seat) = left {
            seat.free();
        }
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Flow>()?;
    module.add_class::<FlowSeat>()
}
