//! Answers that come from here and from no destination.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use crate::body::AnswerBody;
use crate::client::Busy;
use crate::record::Record;

/// Their content type.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// What they say.
pub fn text(status: StatusCode, why: &str) -> String {
    let reason = status.canonical_reason().unwrap_or("");
    match status {
        // Whoever asks in vain may know; why a destination failed is for the log.
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => format!("{} {reason}: {why}\n", status.as_u16()),
        _ => format!("{} {reason}\n", status.as_u16()),
    }
}

/// A short text. `close`: nothing more can be understood of the connection.
pub fn own(
    status: StatusCode,
    why: &str,
    close: bool,
    mut record: Record,
    busy: Busy,
) -> Response<AnswerBody> {
    record.status = status.as_u16();
    if !why.is_empty() {
        record.failed(why);
    }
    let text = text(status, why);
    let mut response = Response::new(AnswerBody::own(Bytes::from(text), Some(record), Some(busy)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    if close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
