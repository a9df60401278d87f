//! Continue tokens: base64url JSON `{v, rv, start}`, as k8s.io/apiserver `pkg/storage/continue.go`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::go::{decode_raw_base64_url, json_kind};
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

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

/// Why Go's `json` makes no token of it, in its words.
fn unlike(value: &Value) -> Option<String> {
    let given = json_kind(value)?;
    let Some(members) = value.as_object() else {
        return Some(format!("json: cannot unmarshal {given} into Go value of type storage.continueToken"));
    };
    members.iter().find_map(|(name, member)| {
        let (wanted, fits) = match name.as_str() {
            "v" | "start" => ("string", member.is_string()),
            "rv" => ("int64", member.is_i64()),
            _ => return None,
        };
        let mut given = json_kind(member).filter(|_| !fits)?.to_owned();
        if wanted == "int64" && member.is_number() {
            given = format!("number {member}");
        }
        let place = format!("Go struct field continueToken.{name} of type {wanted}");
        Some(format!("json: cannot unmarshal {given} into {place}"))
    })
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
        let data = decode_raw_base64_url(token).map_err(|at| {
            refuse(&format!("continue key is not valid: illegal base64 data at input byte {at}"))
        })?;
        check_json(&data)
            .map_err(|error| refuse(&format!("continue key is not valid: {}", error.message)))?;
        let wire: Value = serde_json::from_slice(&data)
            .map_err(|error| refuse(&format!("continue key is not valid: {error}")))?;
        if let Some(why) = unlike(&wire) {
            return Err(refuse(&format!("continue key is not valid: {why}")));
        }
        let wire: Wire = serde_json::from_value(wire).unwrap_or_default();
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
    fn what_is_wrong_with_a_token_is_told_as_upstream_does() {
        let told = |error: Status| {
            let prefix = "invalid continue token: continue key is not valid: ";
            error.message.strip_prefix(prefix).map(str::to_owned).unwrap_or(error.message)
        };
        for (token, why) in [
            ("%%%", "illegal base64 data at input byte 0"),
            ("ab=c", "illegal base64 data at input byte 2"),
            ("eyJ2IjoxfQ==", "illegal base64 data at input byte 10"),
            ("abcde", "illegal base64 data at input byte 4"),
        ] {
            assert_eq!(told(ContinueToken::decode(token).unwrap_err()), why, "{token}");
        }
        for (json, why) in [
            (r#""x""#, "json: cannot unmarshal string into Go value of type storage.continueToken"),
            (
                r#"{"v":1}"#,
                "json: cannot unmarshal number into Go struct field continueToken.v of type string",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":1.5}"#,
                "json: cannot unmarshal number 1.5 into Go struct field continueToken.rv of type int64",
            ),
            (
                r#"{"rv":"5"}"#,
                "json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
            ),
            ("null", "server does not recognize this encoded version "),
            (r#"{"v":"v2"}"#, "server does not recognize this encoded version v2"),
        ] {
            assert_eq!(told(decoded(json).unwrap_err()), why, "{json}");
        }
    }

    #[test]
    fn bits_left_over_do_not_count() {
        let token = ContinueToken { revision: Some(7), start: "default/webs".into() };
        let mut text = token.encode();
        assert_eq!(text.len() % 4, 2, "four bits are left over");
        let last = text.pop().map(|last| (last as u8 + 1) as char);
        text.extend(last);
        assert_eq!(ContinueToken::decode(&text), Ok(token));
    }

    #[test]
    fn foreign_tokens_are_refused() {
        assert!(ContinueToken::decode("%%%").is_err());
        assert!(decoded("{}").is_err());
        assert!(decoded(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#).is_err());
        assert!(decoded(r#"{"v":"meta.k8s.io/v1","rv":3}"#).is_err());
    }
}
