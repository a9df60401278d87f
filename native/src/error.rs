//! Rust's refusals as Python exceptions.

use std::io;

use kubecore_core::status::Status;
use pyo3::exceptions::{PyException, PyOSError, PyValueError};
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

pub fn io_error(error: io::Error) -> PyErr {
    match error.kind() {
        io::ErrorKind::InvalidInput => PyValueError::new_err(error.to_string()),
        _ => match error.raw_os_error() {
            Some(code) => PyOSError::new_err((code, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        },
    }
}
