//! Decoding of request bodies in any of the media types a client may send.

use std::borrow::Cow;

use super::decode::{Decoded, FieldValidation};
use super::error::Rejection;
use super::model::{KindId, Schemas};
use super::yaml;
use crate::protobuf;

impl Schemas {
    /// Decodes a body of the given Content-Type (JSON if it is empty) as `kind`.
    pub fn decode<'a>(
        &self,
        kind: KindId,
        body: &'a [u8],
        content_type: &str,
        validation: FieldValidation,
    ) -> Result<Decoded<'a>, Rejection> {
        match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "application/json" | "*/*" => self.decode_json(kind, body, validation),
            "application/yaml" => {
                let json = yaml::to_json(body).map_err(|problem| self.bad_yaml(kind, body, problem))?;
                let decoded = self.decode_json(kind, &json, validation)?;
                Ok(Decoded { body: Cow::Owned(decoded.body.into_owned()), warnings: decoded.warnings })
            }
            protobuf::CONTENT_TYPE => {
                let object = protobuf::decode(body)
                    .map_err(|fault| Rejection::bad_request(fault.to_string(), Vec::new()))?;
                let decoded = self.decode_json(kind, &object.json, validation)?;
                Ok(Decoded { body: Cow::Owned(decoded.body.into_owned()), warnings: decoded.warnings })
            }
            other => Err(Rejection::unsupported_media_type(other)),
        }
    }
}
