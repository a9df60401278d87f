//! Headers of answers, as Python gives them.

use kubecore_front::exchange::Exchange;
use kubecore_front::handoff::Headers;
use kubecore_front::http::{HeaderName, HeaderValue, header};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub fn header_list(content_type: Option<&str>, headers: &[(String, String)]) -> PyResult<Headers> {
    let value =
        |text: &str| HeaderValue::from_str(text).map_err(|_| PyValueError::new_err("bad header value"));
    let mut list = Vec::with_capacity(headers.len() + 2);
    if let Some(content_type) = content_type.filter(|content_type| !content_type.is_empty()) {
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

/// All that a request says besides its body and who sends it, as far as it decides how a write is done.
pub fn head_of(exchange: &Exchange) -> Vec<u8> {
    let said = |name: HeaderName| exchange.header(name).unwrap_or("");
    // No header and no query has a line's end in it, so that none can pass for another.
    let lines = [
        said(header::ACCEPT),
        said(header::CONTENT_TYPE),
        said(header::USER_AGENT),
        &exchange.query,
        exchange.method.as_str(),
        exchange.info.path(),
    ];
    lines.join("\n").into_bytes()
}
