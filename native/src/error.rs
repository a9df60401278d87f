//! Rust's refusals as Python exceptions.

use kubecore_core::status::Status;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pyo3::create_exception!(
    kubecore._native,
    NativeStatus,
    PyException,
    "A Status from the Rust side: code, reason, message, and body, the whole object as JSON."
);

pub fn status_error(py: Python<'_>, status: &Status) -> PyErr {
    let error = NativeStatus::new_err(status.message.clone());
    let value = error.value(py);
    let filled = value
        .setattr("code", status.code)
        .and_then(|()| value.setattr("reason", status.reason))
        .and_then(|()| value.setattr("message", &status.message))
        .and_then(|()| value.setattr("body", PyBytes::new(py, &status.to_json())));
    filled.map_or_else(|failed| failed, |()| error)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("NativeStatus", module.py().get_type::<NativeStatus>())
}
