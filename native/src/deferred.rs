//! `DeferredValue`: what a write stores, worked out by the store's writer on its own thread and without the GIL.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use kubecore_core::merge::{Amendment, Update, with_members};
use kubecore_core::schema::KindId;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::schema::Schemas;

/// As of `Amendment`: condition, its members that are given, members of the status, members of the metadata.
pub(crate) type Changes = (PyBackedBytes, PyBackedBytes, PyBackedBytes, PyBackedBytes);

/// Of which kind a value is, and whose it becomes: manager and time.
pub(crate) struct Owned {
    pub schemas: Py<Schemas>,
    pub kind: KindId,
    pub by: (String, String),
}

pub(crate) enum Making {
    /// What is stored, with these changes of its status.
    Amended { by: Owned, stored: PyBackedBytes, changes: Changes },
    /// What somebody sent, new, with more metadata.
    Created { by: Owned, body: PyBackedBytes, metadata: PyBackedBytes },
    /// What is stored, with these members of its members, which change hands with none.
    Merged { stored: PyBackedBytes, changes: PyBackedBytes },
}

/// What stored bytes begin with up to the resourceVersion, and go on with behind it.
type Parts = (Vec<u8>, Vec<u8>);

#[pyclass(frozen, module = "kubecore._native")]
pub(crate) struct DeferredValue {
    making: Making,
    opening: PyBackedBytes,
    parts: OnceLock<Option<Parts>>,
}

impl DeferredValue {
    /// `opening`: what canonical bytes of the kind begin with, up to the first member of the metadata.
    pub fn new(making: Making, opening: PyBackedBytes) -> Self {
        Self { making, opening, parts: OnceLock::new() }
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
        let body = match &self.making {
            Making::Amended { by, stored, changes: (condition, given, status, metadata) } => {
                let amendment = Amendment { condition, given, status, metadata };
                let Schemas { inner: schemas, .. } = by.schemas.get();
                schemas.amended(by.kind, stored, amendment, by.update("status")).ok()??
            }
            Making::Created { by, body, metadata } => {
                let Schemas { inner: schemas, last_owned } = by.schemas.get();
                schemas.created(by.kind, body, metadata, by.update(""), &mut last_owned.lock())?
            }
            Making::Merged { stored, changes } => with_members(stored, changes).ok()?,
        };
        let rest = body.strip_prefix(&self.opening[..])?;
        Some(([&self.opening[..], b"\"resourceVersion\":\""].concat(), [b"\",", rest].concat()))
    }
}

impl Owned {
    fn update<'a>(&'a self, subresource: &'a str) -> Update<'a> {
        let (manager, time) = &self.by;
        Update { manager, time, subresource }
    }
}

#[pymethods]
impl DeferredValue {
    #[staticmethod]
    #[pyo3(signature = (stored, changes, *, opening))]
    fn merged(stored: PyBackedBytes, changes: PyBackedBytes, opening: PyBackedBytes) -> Self {
        Self::new(Making::Merged { stored, changes }, opening)
    }

    fn render<'py>(&self, py: Python<'py>, revision: u64) -> PyResult<Bound<'py, PyBytes>> {
        let (head, tail) = self.made().ok_or_else(|| PyValueError::new_err("there is no such value"))?;
        Ok(PyBytes::new(py, &[head, revision.to_string().as_bytes(), tail].concat()))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DeferredValue>()
}
