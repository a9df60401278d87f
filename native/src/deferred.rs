//! `DeferredValue`: what a write stores, worked out by the store's writer on its own thread and without the GIL.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use kubecore_core::merge::{Amendment, Update};
use kubecore_core::schema::KindId;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::schema::Schemas;

/// As of `Amendment`: condition, its members that are given, members of the status, members of the metadata.
pub(crate) type Changes = (PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes);

pub(crate) enum Making {
    /// What is stored, with these changes of its status.
    Amended { stored: PyBackedBytes, changes: Changes },
    /// What somebody sent, new, with more metadata.
    Created { body: PyBackedBytes, metadata: PyBackedBytes },
}

/// What stored bytes begin with up to the resourceVersion, and go on with behind it.
type Parts = (Vec<u8>, Vec<u8>);

#[pyclass(frozen, module = "kubecore._native")]
pub(crate) struct DeferredValue {
    schemas: Py<Schemas>,
    kind: KindId,
    making: Making,
    /// Manager and time.
    by: (String, String),
    opening: PyBackedBytes,
    parts: OnceLock<Option<Parts>>,
}

impl DeferredValue {
    /// `opening`: what canonical bytes of the kind begin with, up to the first member of the metadata.
    pub fn new(
        schemas: Py<Schemas>,
        kind: KindId,
        making: Making,
        by: (String, String),
        opening: PyBackedBytes,
    ) -> Self {
        Self { schemas, kind, making, by, opening, parts: OnceLock::new() }
    }

    /// None where that cannot be, or is to change nothing.
    pub fn made(&self) -> Option<(&[u8], &[u8])> {
        let parts = self.parts.get_or_init(|| {
            // Nobody else's write is to suffer from it.
            catch_unwind(AssertUnwindSafe(|| self.make())).ok().flatten()
        });
        parts.as_ref().map(|(head, tail)| (&head[..], &tail[..]))
    }

    fn make(&self) -> Option<Parts> {
        let Schemas { inner: schemas, last_owned } = self.schemas.get();
        let (manager, time) = &self.by;
        let body = match &self.making {
            Making::Amended { stored, changes: (condition, given, status, metadata) } => {
                let amendment = Amendment { condition, given, status, metadata };
                let update = Update { manager, time, subresource: "status" };
                schemas.amended(self.kind, stored, amendment, update).ok()??
            }
            Making::Created { body, metadata } => {
                let update = Update { manager, time, subresource: "" };
                schemas.created(self.kind, body, metadata, update, &mut last_owned.lock())?
            }
        };
        let rest = body.strip_prefix(&self.opening[..])?;
        Some(([&self.opening[..], b"\"resourceVersion\":\""].concat(), [b"\",", rest].concat()))
    }
}

#[pymethods]
impl DeferredValue {
    fn render<'py>(&self, py: Python<'py>, revision: u64) -> PyResult<Bound<'py, PyBytes>> {
        let (head, tail) = self.made().ok_or_else(|| PyValueError::new_err("there is no such value"))?;
        Ok(PyBytes::new(py, &[head, revision.to_string().as_bytes(), tail].concat()))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DeferredValue>()
}
