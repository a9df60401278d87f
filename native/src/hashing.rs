//! Hashes in names for kubecore.controllers.hashes.

use kubecore_core::go;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[pyfunction]
fn fnv1(data: &[u8]) -> u32 {
    go::fnv1(data)
}

#[pyfunction]
#[pyo3(signature = (template, collisions))]
fn template_hash(template: &[u8], collisions: Option<i32>) -> PyResult<u32> {
    Ok(go::template_hash(&read(template)?, collisions))
}

#[pyfunction]
fn printed_template(template: &[u8]) -> PyResult<String> {
    Ok(go::printed_template(&read(template)?))
}

fn read(template: &[u8]) -> PyResult<serde_json::Value> {
    serde_json::from_slice(template).map_err(|error| PyValueError::new_err(error.to_string()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fnv1, module)?)?;
    module.add_function(wrap_pyfunction!(template_hash, module)?)?;
    module.add_function(wrap_pyfunction!(printed_template, module)?)
}
