//! `_native.AdmissionExpressions`: expressions of admission policies and webhooks, checked but not evaluated.

use kubecore_core::admission::{self, Expressions, Purpose};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

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
        let purpose = match purpose {
            "condition" => Purpose::Condition,
            "validation" => Purpose::Validation,
            "message" => Purpose::Message,
            "annotation" => Purpose::AuditAnnotation,
            "apply" => Purpose::ApplyConfiguration,
            "patch" => Purpose::JsonPatch,
            other => return Err(PyValueError::new_err(format!("no purpose of expressions: {other}"))),
        };
        Ok(py.detach(|| self.inner.check(expression, purpose)).err())
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
    module.add_function(wrap_pyfunction!(check_device_selector, module)?)?;
    module.add_function(wrap_pyfunction!(is_cel_identifier, module)?)
}
