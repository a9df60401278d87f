//! `ServingCertificate`: what listeners show, replaced while they serve.

use std::sync::Arc;

use kubecore_tls::{ServerConfig, ServingCertificate as Core, TlsError, server_config};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[pyclass(frozen, module = "kubecore._native")]
pub struct ServingCertificate {
    core: Arc<Core>,
}

fn value_error(error: TlsError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymethods]
impl ServingCertificate {
    #[new]
    fn new(certificate_pem: &[u8], key_pem: &[u8]) -> PyResult<Self> {
        let core = Core::new(certificate_pem, key_pem).map_err(value_error)?;
        Ok(Self { core: Arc::new(core) })
    }

    fn replace(&self, certificate_pem: &[u8], key_pem: &[u8]) -> PyResult<()> {
        self.core.replace(certificate_pem, key_pem).map_err(value_error)
    }
}

impl ServingCertificate {
    pub(crate) fn server_config(&self) -> PyResult<ServerConfig> {
        server_config(self.core.clone()).map_err(value_error)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ServingCertificate>()
}
