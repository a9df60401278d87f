//! Objects between JSON and Kubernetes' protobuf.

use kubecore_core::protobuf;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// An object's JSON in its protobuf envelope.
#[pyfunction]
fn protobuf_encode<'py>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let encoded = py.detach(|| protobuf::encode(json));
    Ok(PyBytes::new(py, &encoded.map_err(|fault| PyValueError::new_err(fault.to_string()))?))
}

/// An enveloped object as JSON.
#[pyfunction]
fn protobuf_decode<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let decoded = py.detach(|| protobuf::decode(body));
    let decoded = decoded.map_err(|fault| PyValueError::new_err(fault.to_string()))?;
    Ok(PyBytes::new(py, &decoded.json))
}

/// Whether a kind has a protobuf form.
#[pyfunction]
fn protobuf_knows(api_version: &str, kind: &str) -> bool {
    protobuf::knows(api_version, kind)
}

/// A frame of a watch around an enveloped object.
#[pyfunction]
fn protobuf_frame<'py>(py: Python<'py>, event_type: &str, object: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &protobuf::frame(event_type, object))
}

/// A document of OpenAPI v3, given as JSON.
#[pyfunction]
fn protobuf_openapi_v3<'py>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let encoded = py.detach(|| protobuf::encode_openapi_v3(json));
    Ok(PyBytes::new(py, &encoded.map_err(|fault| PyValueError::new_err(fault.to_string()))?))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(protobuf_encode, module)?)?;
    module.add_function(wrap_pyfunction!(protobuf_decode, module)?)?;
    module.add_function(wrap_pyfunction!(protobuf_frame, module)?)?;
    module.add_function(wrap_pyfunction!(protobuf_knows, module)?)?;
    module.add_function(wrap_pyfunction!(protobuf_openapi_v3, module)?)
}
