//! `Flow`: what flow control is told to put in force.

use std::sync::Arc;

use kubecore_flow::Objects;
use kubecore_front::server::Server;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

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
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Flow>()
}
