//! `TlsTunnel`: TLS with optional client certificates in front of the gRPC server, and what is asked through it.

use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kubecore_front::carried::Carried;
use kubecore_front::connection::{Busy, Connection};
use kubecore_front::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use kubecore_front::http::{Method, Request};
use kubecore_front::server::Server;
use kubecore_front::tunnel::Tunnel;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::answering::callback;
use crate::front::Front;
use crate::serving::ServingCertificate;

#[pyclass(frozen, module = "kubecore._native")]
pub struct TlsTunnel {
    tunnel: Tunnel,
    server: Arc<Server>,
}

#[pymethods]
impl TlsTunnel {
    #[new]
    #[pyo3(signature = (front, listener, certificate, *, upstream))]
    fn new(
        front: &Front,
        listener: RawFd,
        certificate: &ServingCertificate,
        upstream: PathBuf,
    ) -> PyResult<Self> {
        let config = certificate.server_config()?;
        let io_error = |error: std::io::Error| PyOSError::new_err((error.raw_os_error(), error.to_string()));
        let server = front.server.clone();
        // Python keeps its own descriptor and may close it whenever it likes.
        // SAFETY: the descriptor is open while this call lasts, because its owner makes the call.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) }.try_clone_to_owned().map_err(io_error)?;
        let tunnel = Tunnel::serve(server.clone(), listener.into(), config, upstream).map_err(io_error)?;
        Ok(Self { tunnel, server })
    }

    /// `peer` as gRPC names it: `unix-abstract:NAME`.
    fn call(&self, peer: &str) -> Option<TunnelCall> {
        let connection = self.tunnel.connection(peer.strip_prefix("unix-abstract:")?)?;
        Some(TunnelCall { server: self.server.clone(), busy: Busy::begin(&connection), connection })
    }

    fn close(&self) {
        self.tunnel.close();
    }
}

/// A call under way; its connection is busy while this lives.
#[pyclass(frozen, module = "kubecore._native")]
pub struct TunnelCall {
    server: Arc<Server>,
    connection: Arc<Connection>,
    #[expect(dead_code, reason = "held for its end")]
    busy: Busy,
}

#[pymethods]
impl TunnelCall {
    #[pyo3(signature = (method, target, headers, body, content_type, told, *, whole))]
    #[allow(clippy::too_many_arguments)] // what a request is
    fn ask(
        &self,
        py: Python<'_>,
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
        body: &[u8],
        content_type: &str,
        told: Py<PyAny>,
        whole: bool,
    ) -> PyResult<CarriedAnswer> {
        let invalid = |error: &dyn std::fmt::Display| PyValueError::new_err(error.to_string());
        let mut request = Request::new(Bytes::copy_from_slice(body));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|error| invalid(&error))?;
        *request.uri_mut() = target.parse().map_err(|error| invalid(&error))?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(&error))?;
            if self.server.heeds(&name) {
                let value = HeaderValue::try_from(value).map_err(|error| invalid(&error))?;
                request.headers_mut().append(name, value);
            }
        }
        if !body.is_empty() {
            let media = HeaderValue::from_str(content_type).map_err(|error| invalid(&error))?;
            request.headers_mut().insert(CONTENT_TYPE, media);
        }
        let (handoff, told) = (self.server.handoff.clone(), Arc::new(told));
        let told = Box::new(move || {
            let told = told.clone();
            handoff.call(Box::new(move || Python::attach(|py| callback(told.clone_ref(py)))()));
        });
        Ok(CarriedAnswer(py.detach(|| self.server.carry(&self.connection, request, whole, told))))
    }
}

/// Dropped before its end, it ends.
#[pyclass(frozen, module = "kubecore._native")]
pub struct CarriedAnswer(Arc<Carried>);

#[pymethods]
impl CarriedAnswer {
    #[getter]
    fn status(&self) -> u16 {
        self.0.status()
    }

    #[getter]
    fn retry_after(&self) -> u64 {
        self.0.retry_after()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.warnings().iter().map(|one| String::from_utf8_lossy(one.as_bytes()).into_owned()).collect()
    }

    fn take<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let pieces = self.0.take()?;
        Some(match pieces.as_slice() {
            [one] => PyBytes::new(py, one),
            many => PyBytes::new(py, &many.concat()),
        })
    }

    fn leave(&self) {
        self.0.leave();
    }
}

impl Drop for CarriedAnswer {
    fn drop(&mut self) {
        self.0.leave();
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TlsTunnel>()?;
    module.add_class::<TunnelCall>()?;
    module.add_class::<CarriedAnswer>()
}
