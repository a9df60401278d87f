//! `application/vnd.kubernetes.protobuf`: objects between JSON and protobuf, both ways, by one table.
//!
//! On the wire an object is a message in a `runtime.Unknown` behind four bytes of magic; upstream
//! k8s.io/apimachinery `pkg/runtime/serializer/protobuf`.

mod decode;
mod encode;
mod envelope;
mod openapi;
mod special;
mod table;
#[cfg(test)]
mod tests;
mod transcoder;
mod wire;

pub use decode::{Decoded, decode, decode_message};
pub use encode::{encode, encode_as};
pub use envelope::{CONTENT_TYPE, Envelope, MAGIC, STREAM_CONTENT_TYPE};
pub use openapi::encode_openapi_v3;
pub use table::through_embedded;
pub use transcoder::{Protobuf, ProtobufMetadata, frame, status_body};

/// Whether objects of the kind have a protobuf form.
pub fn knows(api_version: &str, kind: &str) -> bool {
    table::message_of(api_version, kind).is_some()
}

/// Why bytes are no such message, or JSON no such object; worded as by upstream where it has words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    fn cut_short() -> Self {
        Self::new("unexpected EOF")
    }
}
