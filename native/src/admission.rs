//! `_native.AdmissionExpressions` checks the expressions of admission policies and webhooks, `AdmissionRules` judges
//! requests by them.

use std::sync::Arc;

use kubecore_core::admission::{
    self, Decision, Expressions, Found, Inputs, Judge, Purpose, Question, Rules, Typed,
};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use serde_json::Value as Json;

use crate::schema::Schemas;

#[pyclass(module = "kubecore._native")]
struct AdmissionExpressions {
    inner: Expressions,
}

#[pymethods]
impl AdmissionExpressions {
    #[new]
    #[pyo3(signature = (*, params, composed))]
    fn new(params: bool, composed: bool) -> Self {
        Self { inner: Expressions::new(params, composed) }
    }

    fn define(&mut self, py: Python<'_>, name: &str, expression: &str) -> Option<String> {
        py.detach(|| self.inner.define(name, expression)).err()
    }

    fn check(&self, py: Python<'_>, expression: &str, purpose: &str) -> PyResult<Option<String>> {
        let purpose = parse_purpose(purpose)?;
        Ok(py.detach(|| self.inner.check(expression, purpose)).err())
    }
}

fn parse_purpose(purpose: &str) -> PyResult<Purpose> {
    Ok(match purpose {
        "condition" => Purpose::Condition,
        "validation" => Purpose::Validation,
        "message" => Purpose::Message,
        "annotation" => Purpose::AuditAnnotation,
        "apply" => Purpose::ApplyConfiguration,
        "patch" => Purpose::JsonPatch,
        other => return Err(PyValueError::new_err(format!("no purpose of expressions: {other}"))),
    })
}

/// A namespace as expressions see it, parsed once for many requests.
#[pyclass(frozen, module = "kubecore._native")]
struct AdmissionNamespace(Arc<Json>);

#[pymethods]
impl AdmissionNamespace {
    #[new]
    fn new(body: &[u8]) -> PyResult<Self> {
        Ok(Self(Arc::new(parsed(Some(body))?)))
    }
}

/// The objects of one request, parsed once.
#[pyclass(frozen, module = "kubecore._native")]
struct AdmissionInputs {
    inner: Inputs,
}

#[pymethods]
impl AdmissionInputs {
    #[new]
    #[pyo3(signature = (*, object, old, request, namespace))]
    fn new(
        object: Option<&[u8]>,
        old: Option<&[u8]>,
        request: &[u8],
        namespace: Option<&AdmissionNamespace>,
    ) -> PyResult<Self> {
        let inner = Inputs {
            object: parsed(object)?,
            old: parsed(old)?,
            request: parsed(Some(request))?,
            namespace: namespace.map(|namespace| Arc::clone(&namespace.0)).unwrap_or_default(),
        };
        Ok(Self { inner })
    }
}

fn parsed(body: Option<&[u8]>) -> PyResult<Json> {
    let Some(body) = body else { return Ok(Json::Null) };
    serde_json::from_slice(body).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Asks a Python callable, in a thread that may not hold the interpreter.
struct Asking {
    judge: Py<PyAny>,
}

impl Judge for Asking {
    fn decide(&self, question: &Question) -> Decision {
        let answered: PyResult<(bool, String, Option<String>)> = Python::attach(|py| {
            let what = (
                &question.verb,
                question.path.as_deref(),
                &question.group,
                &question.resource,
                &question.subresource,
                &question.namespace,
                &question.name,
                &question.field_selector,
                &question.label_selector,
            );
            self.judge.call1(py, (question.account.as_ref(), what))?.extract(py)
        });
        match answered {
            Ok((allowed, reason, error)) => Decision { allowed, reason, error },
            Err(error) => Decision { error: Some(error.to_string()), ..Decision::default() },
        }
    }
}

#[pyclass(frozen, module = "kubecore._native")]
struct AdmissionRules {
    inner: Rules,
}

#[pymethods]
impl AdmissionRules {
    #[new]
    #[pyo3(signature = (expressions, *, params, variables = None))]
    fn new(
        py: Python<'_>,
        expressions: Vec<(String, String)>,
        params: bool,
        variables: Option<Vec<(String, String)>>,
    ) -> PyResult<Self> {
        let expressions = expressions
            .into_iter()
            .map(|(purpose, source)| Ok((parse_purpose(&purpose)?, source)))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(Self { inner: py.detach(|| Rules::compile(params, variables.as_deref(), &expressions)) })
    }

    #[getter]
    fn faults(&self) -> Vec<&str> {
        self.inner.faults().collect()
    }

    #[pyo3(signature = (inputs, judge, *, budget, params = None, only = None))]
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, AdmissionInputs>,
        judge: Py<PyAny>,
        budget: u64,
        params: Option<&[u8]>,
        only: Option<Vec<usize>>,
    ) -> PyResult<(Bound<'py, PyList>, u64)> {
        let params = parsed(params)?;
        let (inputs, judge) = (&inputs.get().inner, Asking { judge });
        let verdict = py.detach(|| self.inner.evaluate(inputs, &params, &judge, budget, only.as_deref()));
        let found = verdict.found.map_err(PyValueError::new_err)?;
        let told = found.into_iter().map(|found| told(py, found)).collect::<PyResult<Vec<_>>>()?;
        Ok((PyList::new(py, told)?, verdict.remaining))
    }

    #[pyo3(signature = (inputs, judge, *, budget, only))]
    fn hold(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, AdmissionInputs>,
        judge: Py<PyAny>,
        budget: u64,
        only: Vec<usize>,
    ) -> bool {
        let (inputs, judge) = (&inputs.get().inner, Asking { judge });
        let verdict = py.detach(|| self.inner.evaluate(inputs, &Json::Null, &judge, budget, Some(&only)));
        verdict.found.is_ok_and(|found| found.iter().all(|one| *one == Found::Bool(true)))
    }
}

/// The value, and what went wrong.
fn told(py: Python<'_>, found: Found) -> PyResult<(Py<PyAny>, Option<String>)> {
    Ok(match found {
        Found::Bool(value) => (value.into_pyobject(py)?.to_owned().into_any().unbind(), None),
        Found::Null => (py.None(), None),
        Found::Text(text) => (text.into_pyobject(py)?.into_any().unbind(), None),
        Found::Json(json) => (PyBytes::new(py, json.to_string().as_bytes()).into_any().unbind(), None),
        Found::Error(why) => (py.None(), Some(why)),
    })
}

/// The type of a kind's objects, as expressions see them.
#[pyclass(frozen, module = "kubecore._native")]
struct AdmissionType {
    inner: Typed,
}

#[pymethods]
impl AdmissionType {
    #[staticmethod]
    fn of_kind(py: Python<'_>, schemas: &Bound<'_, Schemas>, kind: &str) -> PyResult<Self> {
        let schemas = &schemas.get().inner;
        let kind =
            schemas.kind(kind).ok_or_else(|| PyKeyError::new_err(format!("no schema of kind {kind}")))?;
        Ok(Self { inner: py.detach(|| Typed::of_kind(schemas, kind)) })
    }

    #[staticmethod]
    fn of_schema(py: Python<'_>, schema: &[u8], name: &str) -> PyResult<Self> {
        let typed = py.detach(|| Typed::of_schema(schema, name)).map_err(PyValueError::new_err)?;
        Ok(Self { inner: typed })
    }

    #[pyo3(signature = (expressions, *, variables, params = None))]
    fn faults(
        &self,
        py: Python<'_>,
        expressions: Vec<String>,
        variables: Vec<(String, String)>,
        params: Option<&Bound<'_, AdmissionType>>,
    ) -> Vec<Option<String>> {
        let params = params.map(|params| params.get().inner.clone());
        py.detach(|| admission::faults(&self.inner, params.as_ref(), &variables, &expressions))
    }
}

#[pyfunction]
fn check_device_selector(py: Python<'_>, expression: &str) -> Option<String> {
    py.detach(|| admission::check_device_selector(expression)).err()
}

#[pyfunction]
fn is_cel_identifier(name: &str) -> bool {
    admission::is_identifier(name)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AdmissionExpressions>()?;
    module.add_class::<AdmissionNamespace>()?;
    module.add_class::<AdmissionInputs>()?;
    module.add_class::<AdmissionRules>()?;
    module.add_class::<AdmissionType>()?;
    module.add_function(wrap_pyfunction!(check_device_selector, module)?)?;
    module.add_function(wrap_pyfunction!(is_cel_identifier, module)?)
}
