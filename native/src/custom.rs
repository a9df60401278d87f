//! `_native.CustomSchema`: the schema engine for the kinds of CustomResourceDefinitions.

use std::sync::Arc;

use kubecore_core::merge::{Apply, Convert, Converted, PatchType, Update};
use kubecore_core::schema::custom::{self, Fault, KIND, timing};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::schema::{
    Applied, Decoded, Schemas, asking, field_set, only_updates, parse_validation, refused, rejected,
    unaccepted_patch,
};

/// (reason, field, message)
type FaultTuple = (&'static str, String, String);

#[pyclass(frozen, module = "kubecore._native")]
pub struct CustomSchema {
    pub inner: Arc<custom::CustomSchema>,
}

#[pymethods]
impl CustomSchema {
    #[new]
    #[pyo3(signature = (schema, *, api_version, kind, builtin))]
    fn new(
        py: Python<'_>,
        schema: &[u8],
        api_version: &str,
        kind: &str,
        builtin: &Bound<'_, Schemas>,
    ) -> PyResult<Self> {
        let builtin = &builtin.get().inner;
        let compiled = py.detach(|| custom::CustomSchema::compile(schema, api_version, kind, builtin));
        Ok(Self { inner: Arc::new(compiled.map_err(unusable)?) })
    }

    #[staticmethod]
    #[pyo3(signature = (schema, *, path, status = false, stored = Vec::new(), unchanged = false))]
    fn check(
        py: Python<'_>,
        schema: &[u8],
        path: &str,
        status: bool,
        stored: Vec<PyBackedBytes>,
        unchanged: bool,
    ) -> PyResult<Vec<FaultTuple>> {
        let stored: Vec<&[u8]> = stored.iter().map(|schema| &**schema).collect();
        let definition = custom::Definition { path, status, stored: &stored, unchanged };
        let faults = py.detach(|| custom::check(schema, definition));
        Ok(told(faults.map_err(unusable)?))
    }

    #[pyo3(signature = (body, content_type = "application/json", field_validation = ""))]
    fn decode(
        &self,
        py: Python<'_>,
        body: &Bound<'_, PyBytes>,
        content_type: &str,
        field_validation: &str,
    ) -> PyResult<Decoded> {
        let validation = parse_validation(field_validation)?;
        let decoded = self
            .inner
            .decode(body.as_bytes(), content_type, validation)
            .map_err(|rejection| rejected(py, &rejection))?;
        Ok(Decoded::new(py, decoded, body))
    }

    fn prune<'py>(&self, py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let pruned = py.detach(|| self.inner.prune(body)).map_err(unusable)?;
        Ok(PyBytes::new(py, &pruned))
    }

    fn default<'py>(&self, py: Python<'py>, body: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyBytes>> {
        let given = body.as_bytes();
        let defaulted = py.detach(|| self.inner.with_defaults(given)).map_err(unusable)?;
        Ok(defaulted.map_or_else(|| body.clone(), |defaulted| PyBytes::new(py, &defaulted)))
    }

    #[pyo3(signature = (body, old = None, *, subresource = "", unruled = false))]
    fn validate(
        &self,
        py: Python<'_>,
        body: &[u8],
        old: Option<&[u8]>,
        subresource: &str,
        unruled: bool,
    ) -> PyResult<(Vec<FaultTuple>, Vec<FaultTuple>, Vec<FaultTuple>)> {
        let verdict = py.detach(|| self.inner.validate(body, old, subresource, unruled)).map_err(unusable)?;
        Ok((told(verdict.schema), told(verdict.further), told(verdict.forgiven)))
    }

    fn patch<'py>(
        &self,
        py: Python<'py>,
        current: &[u8],
        patch: &[u8],
        patch_type: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let patch_type = parse_patch_type(py, patch_type)?;
        let patched = py.detach(|| self.inner.schemas().apply_patch(KIND, current, patch, patch_type));
        Ok(PyBytes::new(py, &patched.map_err(|failure| refused(py, &failure))?))
    }

    #[pyo3(signature = (current, patch, patch_type, field_validation = ""))]
    fn patch_decode(
        &self,
        py: Python<'_>,
        current: &[u8],
        patch: &[u8],
        patch_type: &str,
        field_validation: &str,
    ) -> PyResult<Decoded> {
        let patch_type = parse_patch_type(py, patch_type)?;
        let validation = parse_validation(field_validation)?;
        let patched = py
            .detach(|| self.inner.schemas().patch(KIND, current, patch, patch_type, validation))
            .map_err(|failure| refused(py, &failure))?;
        Ok(Decoded::patched(py, patched))
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (old, new, *, manager, operation = "Update", time, subresource = ""))]
    fn track<'py>(
        &self,
        py: Python<'py>,
        old: Option<&[u8]>,
        new: &[u8],
        manager: &str,
        operation: &str,
        time: &str,
        subresource: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        only_updates(operation)?;
        let update = Update { manager, time, subresource };
        let tracked = py.detach(|| self.inner.schemas().track_update(KIND, old, new, update));
        Ok(PyBytes::new(py, &tracked.map_err(|error| PyValueError::new_err(error.message))?))
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (old, new, *, manager, time, subresource = "", convert = None))]
    fn managed<'py>(
        &self,
        py: Python<'py>,
        old: Option<&[u8]>,
        new: &[u8],
        manager: &str,
        time: &str,
        subresource: &str,
        convert: Option<Py<PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let update = Update { manager, time, subresource };
        let schemas = self.inner.schemas();
        let managed = py.detach(|| {
            converting(convert, |convert| schemas.managed_after(KIND, old, new, update, convert))
        })?;
        let managed = managed.map_err(|error| PyValueError::new_err(error.message))?;
        Ok(managed.map(|managed| PyBytes::new(py, &managed)))
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (live, config, *, manager, time, subresource = "", force = false, reset = Vec::new(),
        field_validation = "", convert = None))]
    fn apply(
        &self,
        py: Python<'_>,
        live: Option<&[u8]>,
        config: &[u8],
        manager: &str,
        time: &str,
        subresource: &str,
        force: bool,
        reset: Vec<String>,
        field_validation: &str,
        convert: Option<Py<PyAny>>,
    ) -> PyResult<Applied> {
        let reset = field_set(&reset);
        let validation = parse_validation(field_validation)?;
        let apply = Apply { manager, time, subresource, force, reset: &reset, validation };
        let schemas = self.inner.schemas();
        let outcome =
            py.detach(|| converting(convert, |convert| schemas.apply(KIND, live, config, apply, convert)))?;
        Applied::new(py, outcome)
    }

    fn configure<'py>(&self, py: Python<'py>, live: &[u8], config: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let configured = py.detach(|| self.inner.schemas().configure(KIND, live, config));
        Ok(PyBytes::new(py, &configured.map_err(PyValueError::new_err)?))
    }
}

/// Does `work` with Python's conversion between versions of the definition, if there is one; raises what that raises.
fn converting<T>(convert: Option<Py<PyAny>>, work: impl FnOnce(Option<Convert<'_>>) -> T) -> PyResult<T> {
    let Some(convert) = convert else { return Ok(work(None)) };
    let read = |answer: Bound<'_, PyAny>| {
        let (schema, body): (PyRef<'_, CustomSchema>, PyBackedBytes) = answer.extract()?;
        Ok(Converted { foreign: Some(schema.inner.clone()), kind: KIND, body: body.to_vec() })
    };
    asking(&convert, read, work)
}

/// Strategic merge patch needs Go structs, which custom kinds have not.
fn parse_patch_type(py: Python<'_>, content_type: &str) -> PyResult<PatchType> {
    const ACCEPTED: &str =
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    match PatchType::from_content_type(content_type) {
        Some(patch_type) if patch_type != PatchType::Strategic => Ok(patch_type),
        _ => Err(unaccepted_patch(py, content_type, ACCEPTED)),
    }
}

fn unusable(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn told(faults: Vec<Fault>) -> Vec<FaultTuple> {
    faults.into_iter().map(|fault| (fault.reason.as_str(), fault.field, fault.message)).collect()
}

/// Upper bounds in seconds, then what was compiled and what was evaluated in this process.
type CelTimes = ([f64; timing::BOUNDS.len()], (Vec<u64>, f64), (Vec<u64>, f64));

#[pyfunction]
fn cel_times() -> CelTimes {
    (timing::BOUNDS, timing::COMPILATIONS.told(), timing::EVALUATIONS.told())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cel_times, module)?)?;
    module.add_class::<CustomSchema>()
}
