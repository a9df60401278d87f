//! Decoding of request bodies in any of the media types a client may send.

use std::borrow::Cow;

use super::decode::{Decoded, FieldValidation};
use super::error::Rejection;
use super::model::{KindId, Schemas};
use super::refusal::{strict_refusal, summarize};
use super::scan::check_syntax;
use super::yaml;
use crate::go::media_type;
use crate::protobuf::{self, Envelope};

const JSON: &str = "application/json";

impl Schemas {
    /// Decodes a body of the given Content-Type (JSON if it is empty) as `kind`.
    pub fn decode<'a>(
        &self,
        kind: KindId,
        body: &'a [u8],
        content_type: &str,
        validation: FieldValidation,
    ) -> Result<Decoded<'a>, Rejection> {
        if content_type.is_empty() || content_type == JSON {
            return self.decode_json(kind, body, validation);
        }
        match media_type(content_type).as_deref() {
            Some(JSON) => self.decode_json(kind, body, validation),
            Some("application/yaml") => self.decode_yaml(kind, body, validation),
            Some(protobuf::CONTENT_TYPE) => self.decode_protobuf(kind, body, validation),
            _ => Err(Rejection::unsupported_media_type()),
        }
    }

    /// Keys that are there twice are told in go-yaml's words, and before all else.
    fn decode_yaml(
        &self,
        kind: KindId,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded<'static>, Rejection> {
        let info = self.info(kind);
        if info.structural.is_some() && body.is_empty() {
            return Err(self.bad_yaml(kind, body, "Object 'Kind' is missing in ''".into()));
        }
        let (json, repeated) =
            yaml::to_json_telling(body).map_err(|problem| self.bad_yaml(kind, body, problem))?;
        if repeated.is_empty() || validation == FieldValidation::Ignore {
            return Ok(self.decode_json(kind, &json, validation)?.into_owned());
        }
        let mut decoded = self.decode_json(kind, &json, FieldValidation::Warn)?.into_owned();
        if validation == FieldValidation::Strict {
            let told = format!("yaml: unmarshal errors:\n  {}", repeated.join("\n  "));
            return Err(strict_refusal(info, [vec![told], decoded.warnings].concat()));
        }
        decoded.warnings.splice(..0, repeated);
        Ok(decoded)
    }

    /// What is no UTF-8, as Go reads it: with other characters in its texts.
    pub(super) fn decode_lossily(
        &self,
        kind: KindId,
        input: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded<'static>, Rejection> {
        let info = self.info(kind);
        if let Some(fault) = check_syntax(input).err().filter(|_| info.structural.is_none()) {
            return Err(self.refuse(info, input, fault));
        }
        let text = String::from_utf8_lossy(input);
        Ok(self.decode_json(kind, text.as_bytes(), validation)?.into_owned())
    }

    /// An enveloped object; what the envelope does not say of its kind is taken to be as expected.
    fn decode_protobuf(
        &self,
        kind: KindId,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded<'static>, Rejection> {
        let info = self.info(kind);
        if !protobuf::knows(&info.api_version, &info.kind) {
            return Err(Rejection::unsupported_media_type());
        }
        let refuse = |message: String| Rejection::bad_request(message, Vec::new());
        let envelope = Envelope::open(body).map_err(|fault| {
            let shown = summarize(body);
            refuse(format!(
                "the object provided is unrecognized (must be of type {}): {fault} ({shown})",
                info.kind
            ))
        })?;
        if !envelope.kind.is_empty() || !envelope.api_version.is_empty() {
            // Refuses other kinds, in the words it has for them.
            let claimed = serde_json::json!({"apiVersion": envelope.api_version, "kind": envelope.kind});
            self.decode_json(kind, claimed.to_string().as_bytes(), FieldValidation::Ignore)?;
        }
        let json =
            protobuf::decode_message(&info.api_version, &info.kind, envelope.raw).map_err(|fault| {
                let (name, version) = (&info.kind, &info.version);
                refuse(format!("{name} in version {version:?} cannot be handled as a {name}: {fault}"))
            })?;
        Ok(self.decode_json(kind, &json, validation)?.into_owned())
    }
}

impl Decoded<'_> {
    /// The same, of bytes of its own.
    pub(super) fn into_owned(self) -> Decoded<'static> {
        Decoded { body: Cow::Owned(self.body.into_owned()), warnings: self.warnings }
    }
}
