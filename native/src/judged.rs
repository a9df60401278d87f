//! `Judged`: who asked and whether they might, counted where Python has found it out.

use std::sync::Arc;

use kubecore_front::judged::{Authentication, Authorization};
use kubecore_front::server::Server;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::dataplane::seconds as duration;
use crate::rbac::UserInfo;

#[pyclass(frozen, module = "kubecore._native")]
pub struct Judged(pub Arc<Server>);

#[pymethods]
impl Judged {
    fn asking(&self) {
        self.0.authenticator.tokens.fetching();
    }

    fn known(&self, user: &UserInfo, seconds: f64) -> PyResult<()> {
        let took = duration(seconds)?;
        self.0.judged.known(&user.0, took);
        self.0.authenticator.tokens.fetched(true, took);
        Ok(())
    }

    fn unknown(&self, seconds: f64) -> PyResult<()> {
        let took = duration(seconds)?;
        self.0.judged.unknown(Authentication::Error, took);
        self.0.authenticator.tokens.fetched(false, took);
        Ok(())
    }

    fn authorized(&self, decision: &str, seconds: f64) -> PyResult<()> {
        let how = Authorization::named(decision)
            .ok_or_else(|| PyValueError::new_err(format!("no decision {decision:?}")))?;
        self.0.judged.authorized(how, duration(seconds)?);
        Ok(())
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Judged>()
}
