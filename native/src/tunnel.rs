//! `TlsTunnel`: TLS with optional client certificates in front of the gRPC server.

use std::os::fd::{BorrowedFd, RawFd};
use std::path::PathBuf;

use kubecore_front::tunnel::Tunnel;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::serving::ServingCertificate;

#[pyclass(frozen, module = "kubecore._native")]
pub struct TlsTunnel {
    tunnel: Tunnel,
}

#[pymethods]
impl TlsTunnel {
    #[new]
    #[pyo3(signature = (listener, certificate, *, upstream))]
    fn new(listener: RawFd, certificate: &ServingCertificate, upstream: PathBuf) -> PyResult<Self> {
        let config = certificate.server_config()?;
        let io_error = |error: std::io::Error| PyOSError::new_err((error.raw_os_error(), error.to_string()));
        let runtime = kubecore_front::runtime().map_err(io_error)?;
        // Python keeps its own descriptor and may close it whenever it likes.
        // SAFETY: the descriptor is open while this call lasts, because its owner makes the call.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) }.try_clone_to_owned().map_err(io_error)?;
        let tunnel = Tunnel::serve(listener.into(), config, upstream, &runtime).map_err(io_error)?;
        Ok(Self { tunnel })
    }

    /// `peer` as gRPC names it: `unix-abstract:NAME`.
    fn certificate<'py>(&self, py: Python<'py>, peer: &str) -> Option<Bound<'py, PyBytes>> {
        let name = peer.strip_prefix("unix-abstract:")?;
        self.tunnel.certificate(name).map(|certificate| PyBytes::new(py, &certificate))
    }

    fn close(&self) {
        self.tunnel.close();
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TlsTunnel>()
}
