//! `ResponseStream` and `UpgradedConnection`: answers that go on after they have begun.

use std::sync::Arc;

use bytes::Bytes;
use kubecore_front::handoff::Callback;
use kubecore_front::stream::StreamState;
use kubecore_front::upgrade::UpgradeState;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A Python callable made into something that `drain` runs.
pub(crate) fn callback(callable: Py<PyAny>) -> Callback {
    Box::new(move || {
        Python::attach(|py| {
            if let Err(error) = callable.call0(py) {
                error.write_unraisable(py, Some(callable.bind(py)));
            }
        });
    })
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct ResponseStream {
    pub(crate) stream: Arc<StreamState>,
}

#[pymethods]
impl ResponseStream {
    fn write(&self, data: &[u8]) -> bool {
        self.stream.write(Bytes::copy_from_slice(data))
    }
    #[getter]
    fn writable(&self) -> bool {
        self.stream.writable()
    }
    #[getter]
    fn closed(&self) -> bool {
        self.stream.is_closed()
    }
    fn on_writable(&self, callback: Py<PyAny>) {
        self.stream.on_writable(self::callback(callback));
    }
    fn on_closed(&self, callback: Py<PyAny>) {
        self.stream.on_closed(self::callback(callback));
    }
    fn close(&self) {
        self.stream.close();
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        self.stream.abandon();
    }
}

#[pyclass(frozen, module = "kubecore._native")]
pub struct UpgradedConnection {
    pub(crate) connection: Arc<UpgradeState>,
}

#[pymethods]
impl UpgradedConnection {
    fn on_data(&self, callback: Py<PyAny>) -> PyResult<()> {
        let fresh = self.connection.on_data(Arc::new(move |piece: Bytes| {
            Python::attach(|py| {
                if let Err(error) = callback.call1(py, (PyBytes::new(py, &piece),)) {
                    error.write_unraisable(py, Some(callback.bind(py)));
                }
            });
        }));
        if fresh { Ok(()) } else { Err(PyRuntimeError::new_err("on_data was set before")) }
    }
    fn write(&self, data: &[u8]) -> bool {
        self.connection.outgoing.write(Bytes::copy_from_slice(data))
    }
    #[getter]
    fn writable(&self) -> bool {
        self.connection.outgoing.writable()
    }
    #[getter]
    fn closed(&self) -> bool {
        self.connection.outgoing.is_closed()
    }
    fn on_writable(&self, callback: Py<PyAny>) {
        self.connection.outgoing.on_writable(self::callback(callback));
    }
    fn on_closed(&self, callback: Py<PyAny>) {
        self.connection.outgoing.on_closed(self::callback(callback));
    }
    fn close(&self) {
        self.connection.outgoing.close();
    }
}

impl Drop for UpgradedConnection {
    fn drop(&mut self) {
        self.connection.outgoing.abandon();
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ResponseStream>()?;
    module.add_class::<UpgradedConnection>()
}
