//! `_native.Schemas`: the schema engine, and the exceptions it raises.

use std::borrow::Cow;
use std::sync::OnceLock;

use kubecore_core::merge::{
    self, Apply, ApplyFailure, Conflict, Convert, Converted, FieldSet, LastOwned, PatchFailure, PatchType,
    Patched, PathElement, Update, conflict_message,
};
use kubecore_core::schema::{self as engine, FieldValidation, KindId, Rejection};
use parking_lot::Mutex;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyBytes;

use crate::deferred::{Changes, DeferredValue, Making, Owned};

create_exception!(_native, SchemaError, PyException);
create_exception!(_native, PatchError, PyException);

/// An accepted body: canonical JSON and what to warn the client of.
#[pyclass(frozen, module = "kubecore._native")]
pub(crate) struct Decoded {
    #[pyo3(get)]
    body: Py<PyBytes>,
    #[pyo3(get)]
    warnings: Vec<String>,
}

/// An object after server-side apply, and who owns what of it.
#[pyclass(frozen, module = "kubecore._native")]
pub(crate) struct Applied {
    #[pyo3(get)]
    body: Py<PyBytes>,
    #[pyo3(get)]
    managed: Py<PyBytes>,
    #[pyo3(get)]
    warnings: Vec<String>,
}

#[pyclass(frozen, module = "kubecore._native")]
pub(crate) struct Schemas {
    pub inner: engine::Schemas,
    /// Of what was created where it is stored.
    pub last_owned: Mutex<LastOwned>,
}

impl Decoded {
    pub fn new(py: Python<'_>, decoded: engine::Decoded<'_>, input: &Bound<'_, PyBytes>) -> Self {
        let given = input.as_bytes();
        // Nothing changed: the caller's own bytes are the answer.
        let untouched = decoded.body.as_ptr() == given.as_ptr() && decoded.body.len() == given.len();
        let body = if untouched { input.clone().unbind() } else { PyBytes::new(py, &decoded.body).unbind() };
        Self { body, warnings: decoded.warnings }
    }

    pub fn patched(py: Python<'_>, patched: Patched) -> Self {
        Self { body: PyBytes::new(py, &patched.body).unbind(), warnings: patched.warnings }
    }
}

impl Applied {
    pub fn new(py: Python<'_>, outcome: Result<merge::Applied, ApplyFailure>) -> PyResult<Self> {
        let applied = outcome.map_err(|failure| match failure {
            ApplyFailure::Refused(failure) => refused(py, &failure),
            ApplyFailure::Conflicts(conflicts) => conflicting(py, &conflicts),
        })?;
        Ok(Self {
            body: PyBytes::new(py, &applied.body).unbind(),
            managed: PyBytes::new(py, &applied.managed).unbind(),
            warnings: applied.warnings,
        })
    }
}

#[pymethods]
impl Schemas {
    #[new]
    fn new(py: Python<'_>, definitions: &[u8]) -> PyResult<Self> {
        let compiled = py.detach(|| engine::Schemas::compile(definitions));
        let inner = compiled.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { inner, last_owned: Mutex::default() })
    }

    /// Whether bodies of this kind can be decoded.
    fn has(&self, kind: &str) -> bool {
        self.inner.kind(kind).is_some()
    }

    #[pyo3(signature = (kind, body, content_type = "application/json", field_validation = ""))]
    fn decode(
        &self,
        py: Python<'_>,
        kind: &str,
        body: &Bound<'_, PyBytes>,
        content_type: &str,
        field_validation: &str,
    ) -> PyResult<Decoded> {
        let kind = self.kind(kind)?;
        let validation = parse_validation(field_validation)?;
        let decoded = self
            .inner
            .decode(kind, body.as_bytes(), content_type, validation)
            .map_err(|rejection| rejected(py, &rejection))?;
        Ok(Decoded::new(py, decoded, body))
    }

    fn patch<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        current: &[u8],
        patch: &[u8],
        patch_type: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let kind = self.kind(kind)?;
        let patch_type = parse_patch_type(py, patch_type)?;
        let patched = py.detach(|| self.inner.apply_patch(kind, current, patch, patch_type));
        Ok(PyBytes::new(py, &patched.map_err(|failure| refused(py, &failure))?))
    }

    #[pyo3(signature = (kind, current, patch, patch_type, field_validation = ""))]
    fn patch_decode(
        &self,
        py: Python<'_>,
        kind: &str,
        current: &[u8],
        patch: &[u8],
        patch_type: &str,
        field_validation: &str,
    ) -> PyResult<Decoded> {
        let kind = self.kind(kind)?;
        let patch_type = parse_patch_type(py, patch_type)?;
        let validation = parse_validation(field_validation)?;
        let patched = py
            .detach(|| self.inner.patch(kind, current, patch, patch_type, validation))
            .map_err(|failure| refused(py, &failure))?;
        Ok(Decoded::patched(py, patched))
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (kind, old, new, *, manager, operation = "Update", time, subresource = ""))]
    fn track<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        old: Option<&[u8]>,
        new: &[u8],
        manager: &str,
        operation: &str,
        time: &str,
        subresource: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        only_updates(operation)?;
        let kind = self.kind(kind)?;
        let update = Update { manager, time, subresource };
        let tracked = self.inner.track_update(kind, old, new, update);
        let tracked = tracked.map_err(|error| PyValueError::new_err(error.message))?;
        Ok(PyBytes::new(py, &tracked))
    }

    /// What `track` would put into `new`: its managedFields.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (kind, old, new, *, manager, time, subresource = "", convert = None))]
    fn managed<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        old: Option<&[u8]>,
        new: &[u8],
        manager: &str,
        time: &str,
        subresource: &str,
        convert: Option<Py<PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let kind = self.kind(kind)?;
        let update = Update { manager, time, subresource };
        let managed =
            self.converting(convert, |convert| self.inner.managed_after(kind, old, new, update, convert))?;
        let managed = managed.map_err(|error| PyValueError::new_err(error.message))?;
        Ok(managed.map(|managed| PyBytes::new(py, &managed)))
    }

    #[pyo3(signature = (kind, stored, changes, *, by, opening))]
    fn amended(
        slf: Py<Self>,
        kind: &str,
        stored: PyBackedBytes,
        changes: Changes,
        by: (String, String),
        opening: PyBackedBytes,
    ) -> PyResult<DeferredValue> {
        let kind = slf.get().kind(kind)?;
        let by = Owned { schemas: slf, kind, by };
        Ok(DeferredValue::new(Making::Amended { by, stored, changes }, opening))
    }

    #[pyo3(signature = (kind, body, metadata, *, by, opening))]
    fn created(
        slf: Py<Self>,
        kind: &str,
        body: PyBackedBytes,
        metadata: PyBackedBytes,
        by: (String, String),
        opening: PyBackedBytes,
    ) -> PyResult<DeferredValue> {
        let kind = slf.get().kind(kind)?;
        let by = Owned { schemas: slf, kind, by };
        Ok(DeferredValue::new(Making::Created { by, body, metadata }, opening))
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (kind, live, config, *, manager, time, subresource = "", force = false, reset = Vec::new(),
        field_validation = "", convert = None))]
    fn apply(
        &self,
        py: Python<'_>,
        kind: &str,
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
        let kind = self.kind(kind)?;
        let reset = field_set(&reset);
        let validation = parse_validation(field_validation)?;
        let apply = Apply { manager, time, subresource, force, reset: &reset, validation };
        let outcome = py.detach(|| {
            self.converting(convert, |convert| self.inner.apply(kind, live, config, apply, convert))
        })?;
        Applied::new(py, outcome)
    }

    fn configure<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        live: &[u8],
        config: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let kind = self.kind(kind)?;
        let configured = py.detach(|| self.inner.configure(kind, live, config));
        Ok(PyBytes::new(py, &configured.map_err(PyValueError::new_err)?))
    }
}

pub(crate) fn only_updates(operation: &str) -> PyResult<()> {
    if operation == "Update" {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("operation {operation:?} is not tracked, only Update is")))
}

/// `["spec", "metadata.labels"]`
pub(crate) fn field_set(paths: &[String]) -> FieldSet {
    let mut set = FieldSet::default();
    for path in paths {
        let elements: Vec<PathElement> = path.split('.').map(PathElement::field).collect();
        set.insert(&elements);
    }
    set
}

fn conflicting(py: Python<'_>, conflicts: &[Conflict]) -> PyErr {
    let message = conflict_message(conflicts);
    let raised = status_error(py, PatchError::new_err(message.clone()), 409, "Conflict", &message);
    let causes: Vec<(String, &str)> = conflicts
        .iter()
        .map(|conflict| (format!("conflict with {}", conflict.manager), conflict.field.as_str()))
        .collect();
    with(py, raised, "conflicts", causes)
}

impl Schemas {
    /// Does `work` with Python's conversion between versions, if there is one; raises what that raises.
    fn converting<T>(
        &self,
        convert: Option<Py<PyAny>>,
        work: impl FnOnce(Option<Convert<'_>>) -> T,
    ) -> PyResult<T> {
        let Some(convert) = convert else { return Ok(work(None)) };
        let read = |answer: Bound<'_, PyAny>| {
            let (kind, body): (PyBackedStr, PyBackedBytes) = answer.extract()?;
            Ok(Converted { foreign: None, kind: self.kind(&kind)?, body: body.to_vec() })
        };
        asking(&convert, read, work)
    }

    fn kind(&self, name: &str) -> PyResult<KindId> {
        self.inner.kind(name).ok_or_else(|| PyKeyError::new_err(format!("no schema of kind {name}")))
    }
}

/// Does `work` with a conversion that Python does and `read` understands; raises what that raises.
pub(crate) fn asking<T>(
    convert: &Py<PyAny>,
    read: impl Fn(Bound<'_, PyAny>) -> PyResult<Converted> + Sync,
    work: impl FnOnce(Option<Convert<'_>>) -> T,
) -> PyResult<T> {
    let failure: OnceLock<PyErr> = OnceLock::new();
    let converted = |object: &[u8], version: &str| {
        if failure.get().is_some() {
            return None;
        }
        let made = Python::attach(|py| {
            let answer = convert.bind(py).call1((PyBytes::new(py, object), version))?;
            if answer.is_none() { Ok(None) } else { read(answer).map(Some) }
        });
        made.unwrap_or_else(|error| {
            let _ = failure.set(error);
            None
        })
    };
    let done = work(Some(&converted));
    failure.into_inner().map_or(Ok(done), Err)
}

pub(crate) fn parse_validation(text: &str) -> PyResult<FieldValidation> {
    match text {
        "Ignore" => Ok(FieldValidation::Ignore),
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(PyValueError::new_err(format!("{other:?} is not Ignore, Warn or Strict"))),
    }
}

fn parse_patch_type(py: Python<'_>, content_type: &str) -> PyResult<PatchType> {
    const ACCEPTED: &str =
        "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";
    PatchType::from_content_type(content_type).ok_or_else(|| unaccepted_patch(py, content_type, ACCEPTED))
}

pub(crate) fn unaccepted_patch(py: Python<'_>, content_type: &str, accepted: &str) -> PyErr {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted} (got \
         {content_type:?})"
    );
    status_error(py, PatchError::new_err(message.clone()), 415, "UnsupportedMediaType", &message)
}

pub(crate) fn rejected(py: Python<'_>, rejection: &Rejection) -> PyErr {
    let errors: Vec<(&str, &str, &str)> = rejection
        .errors
        .iter()
        .map(|error| (error.kind.as_str(), error.field.as_str(), error.message.as_str()))
        .collect();
    let raised = SchemaError::new_err(rejection.message.clone());
    let raised = status_error(py, raised, rejection.code, rejection.reason, &rejection.message);
    with(py, raised, "errors", errors)
}

pub(crate) fn refused(py: Python<'_>, failure: &PatchFailure) -> PyErr {
    let raised = PatchError::new_err(failure.message.clone());
    let raised = status_error(py, raised, failure.code, failure.reason, &failure.message);
    with(py, raised, "detail", failure.detail.as_str())
}

fn status_error(py: Python<'_>, error: PyErr, code: u16, reason: &str, message: &str) -> PyErr {
    let error = with(py, error, "code", code);
    let error = with(py, error, "reason", reason);
    with(py, error, "message", message)
}

/// Sets an attribute of an exception; should that fail, its failure is raised instead.
fn with<'py>(py: Python<'py>, error: PyErr, name: &str, value: impl IntoPyObject<'py>) -> PyErr {
    match error.value(py).setattr(name, value) {
        Ok(()) => error,
        Err(failure) => failure,
    }
}

/// What Go says of a text that is to be a JSON object or null; None when it is one.
#[pyfunction]
fn json_object_fault(text: &[u8]) -> Option<String> {
    engine::json_object_fault(text)
}

/// JSON with its numbers as Go writes them; `json` itself where they are.
#[pyfunction]
fn with_gos_numbers<'py>(py: Python<'py>, json: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyBytes>> {
    let written = engine::with_gos_numbers(json.as_bytes());
    match written.map_err(|error| PyValueError::new_err(error.message))? {
        Cow::Borrowed(_) => Ok(json.clone()),
        Cow::Owned(written) => Ok(PyBytes::new(py, &written)),
    }
}

/// (a canonical object without its managedFields, those managedFields); `only`: the other members that are kept.
#[pyfunction]
#[pyo3(signature = (object, only = None))]
fn apart<'py>(
    py: Python<'py>,
    object: Bound<'py, PyBytes>,
    only: Option<Vec<PyBackedStr>>,
) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>)> {
    let only: Option<Vec<&str>> = only.as_ref().map(|names| names.iter().map(|name| &**name).collect());
    let apart = merge::apart(object.as_bytes(), only.as_deref())
        .map_err(|error| PyValueError::new_err(error.message))?;
    let managed = apart.managed.map(|managed| PyBytes::new(py, managed));
    let rest = match apart.rest {
        Cow::Borrowed(_) => object.clone(),
        Cow::Owned(rest) => PyBytes::new(py, &rest),
    };
    Ok((rest, managed))
}

#[pyfunction]
fn media_type(content_type: &str) -> Option<String> {
    kubecore_core::go::media_type(content_type)
}

#[pyfunction]
fn with_members<'py>(py: Python<'py>, object: &[u8], changes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let made = merge::with_members(object, changes).map_err(|error| PyValueError::new_err(error.message))?;
    Ok(PyBytes::new(py, &made))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(apart, module)?)?;
    module.add_function(wrap_pyfunction!(with_members, module)?)?;
    module.add_function(wrap_pyfunction!(json_object_fault, module)?)?;
    module.add_function(wrap_pyfunction!(media_type, module)?)?;
    module.add_function(wrap_pyfunction!(with_gos_numbers, module)?)?;
    module.add_class::<Schemas>()?;
    module.add_class::<Decoded>()?;
    module.add_class::<Applied>()?;
    module.add("SchemaError", module.py().get_type::<SchemaError>())?;
    module.add("PatchError", module.py().get_type::<PatchError>())
}
