//! `_native.IdentityExpression`: expressions about claims, users and access reviews.

use kubecore_core::identities::{About, Expression, Outcome};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde_json::Value as Json;

#[pyclass(frozen, module = "kubecore._native")]
struct IdentityExpression {
    inner: Expression,
}

#[pymethods]
impl IdentityExpression {
    #[new]
    #[pyo3(signature = (about, source, *, condition))]
    fn new(py: Python<'_>, about: &str, source: &str, condition: bool) -> PyResult<Self> {
        let about = match about {
            "claims" => About::Claims,
            "user" => About::User,
            "request" => About::Review,
            other => return Err(PyRuntimeError::new_err(format!("no variable of expressions: {other}"))),
        };
        let compiled = py.detach(|| Expression::compile(about, source, condition));
        Ok(Self { inner: compiled.map_err(PyValueError::new_err)? })
    }

    fn selects(&self, field: &str) -> bool {
        self.inner.selects(field)
    }

    fn evaluate<'py>(&self, py: Python<'py>, value: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value: Json =
            serde_json::from_slice(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let outcome = py.detach(|| self.inner.evaluate(&value)).map_err(PyValueError::new_err)?;
        Ok(match outcome {
            Outcome::Bool(value) => Some(value.into_pyobject(py)?.to_owned().into_any()),
            Outcome::Text(text) => Some(text.into_pyobject(py)?.into_any()),
            Outcome::Texts(texts) => Some(texts.into_pyobject(py)?.into_any()),
            Outcome::Null => None,
            Outcome::Other => Some(py.NotImplemented().into_bound(py)),
        })
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<IdentityExpression>()
}
