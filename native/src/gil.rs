//! Crossing into Rust: the GIL released, panics turned into exceptions.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Runs `work` without the GIL. A panic becomes a RuntimeError: PyO3's own PanicException is no Exception and would
/// end the event loop.
pub fn released<T, F>(py: Python<'_>, work: F) -> PyResult<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    py.detach(|| catch_unwind(AssertUnwindSafe(work))).map_err(|panic| {
        let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
        PyRuntimeError::new_err(format!("internal error: {}", message.as_deref().unwrap_or("panic")))
    })
}
