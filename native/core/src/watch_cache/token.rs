//! Continue tokens: base64url JSON `{v, rv, start}`, as k8s.io/apiserver `pkg/storage/continue.go`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::go::decode_base64_url;
use crate::schema::check_json;
use crate::status::Status;

const VERSION: &str = "meta.k8s.io/v1";

/// Where a list in pages goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinueToken {
    /// The revision all pages show; None: whatever is newest, inconsistent with the pages before.
    pub revision: Option<u64>,
    /// The key, relative to the list's prefix, that the page starts at.
    pub start: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

impl ContinueToken {
    pub fn encode(&self) -> String {
        let rv = self.revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
        let wire = Wire { v: VERSION.to_owned(), rv, start: self.start.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// 400 for what this server cannot have made, a start that would leave the prefix above all.
    pub fn decode(token: &str) -> Result<Self, Status> {
        let refuse = |why: &str| Status::bad_request(format!("invalid continue token: {why}"));
        let data = URL_SAFE_NO_PAD.decode(token).map_err(|_| {
            let at = decode_base64_url(token).err().unwrap_or_default();
            refuse(&format!("continue key is not valid: illegal base64 data at input byte {at}"))
        })?;
        check_json(&data)
            .map_err(|error| refuse(&format!("continue key is not valid: {}", error.message)))?;
        let wire: Wire = serde_json::from_slice(&data)
            .map_err(|error| refuse(&format!("continue key is not valid: {error}")))?;
        if wire.v != VERSION {
            let why = "continue key is not valid: server does not recognize this encoded version";
            return Err(refuse(&format!("{why} {}", wire.v)));
        }
        let revision = match wire.rv {
            0 => {
                let why = "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
                return Err(refuse(why));
            }
            newest if newest < 0 => None,
            revision => Some(revision.unsigned_abs()),
        };
        if wire.start.is_empty() {
            return Err(refuse(
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
            ));
        }
        let start = wire.start.strip_prefix('/').unwrap_or(&wire.start);
        if start.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(refuse(&format!("continue key is not valid: {}", wire.start)));
        }
        Ok(Self { revision, start: start.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &str) -> Result<ContinueToken, Status> {
        ContinueToken::decode(&URL_SAFE_NO_PAD.encode(json))
    }

    #[test]
    fn a_token_survives_its_encoding() {
        for revision in [Some(7), None] {
            let token = ContinueToken { revision, start: "default/web\0".into() };
            assert_eq!(ContinueToken::decode(&token.encode()), Ok(token));
        }
    }

    #[test]
    fn a_start_that_climbs_out_of_its_prefix_is_refused() {
        for start in ["../secrets/a", "a/../../b", "/", "a//b", "a/./b", "a/"] {
            let error =
                decoded(&format!(r#"{{"v":"meta.k8s.io/v1","rv":1,"start":"{start}"}}"#)).expect_err(start);
            assert_eq!(error.code, 400);
        }
    }

    #[test]
    fn foreign_tokens_are_refused() {
        assert!(ContinueToken::decode("%%%").is_err());
        assert!(decoded("{}").is_err());
        assert!(decoded(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#).is_err());
        assert!(decoded(r#"{"v":"meta.k8s.io/v1","rv":3}"#).is_err());
    }
}
