//! What `Front.route` makes of its arguments.

use std::sync::Arc;

use kubecore_core::watch_cache::{Json, Pruned, ResourceInfo, Transcoder};
use kubecore_front::http::HeaderValue;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::custom::CustomSchema;

/// The JSON of a served version, pruned by its schema if there is one.
pub fn json(
    info: &ResourceInfo,
    plural: &str,
    version: &str,
    schema: Option<&CustomSchema>,
) -> PyResult<Arc<dyn Transcoder>> {
    let json = Json::version(info, version)
        .ok_or_else(|| PyValueError::new_err(format!("{plural} is not served in {version:?}")))?;
    Ok(match schema {
        None => Arc::new(json),
        Some(schema) => Arc::new(Pruned::new(json, Arc::clone(&schema.inner))),
    })
}

pub fn warning(text: &str) -> PyResult<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| PyValueError::new_err("bad header value"))
}
