//! Headers of answers, as Python gives them.

use kubecore_front::handoff::Headers;
use kubecore_front::http::{HeaderName, HeaderValue, header};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub fn header_list(content_type: Option<&str>, headers: &[(String, String)]) -> PyResult<Headers> {
    let value =
        |text: &str| HeaderValue::from_str(text).map_err(|_| PyValueError::new_err("bad header value"));
    let mut list = Vec::with_capacity(headers.len() + 2);
    if let Some(content_type) = content_type {
        let json = content_type == "application/json";
        let typed = if json { HeaderValue::from_static("application/json") } else { value(content_type)? };
        list.push((header::CONTENT_TYPE, typed));
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("cache-control")) {
            list.push((header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private")));
        }
    }
    for (name, text) in headers {
        let name =
            HeaderName::try_from(name.as_str()).map_err(|_| PyValueError::new_err("bad header name"))?;
        list.push((name, value(text)?));
    }
    Ok(list)
}
