//! Sets a condition in an object's status, in the stored bytes: a component of this process that sets one tells a
//! thousand others of it, and the rest of the object is neither read nor written anew.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::splice::{with_members, with_replaced, write_changed};
use super::track::{OF_STATUS, Outline, Update};
use super::versions::Elsewhere;
use crate::schema::{KindId, SchemaError, Schemas};

/// What is to be different, all of it canonical JSON.
#[derive(Clone, Copy, Debug)]
pub struct Amendment<'a> {
    /// The condition as it is where there is none of its type.
    pub condition: &'a [u8],
    /// Its members that are set in the one of its type that is there.
    pub given: &'a [u8],
    /// Members of the status; null takes one out.
    pub status: &'a [u8],
    /// Likewise of the metadata, which nobody owns. That of its own is no change.
    pub metadata: &'a [u8],
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
}

fn kind_of(condition: &[u8]) -> Option<&str> {
    serde_json::from_slice::<Typed<'_>>(condition).ok()?.kind.map(RawValue::get)
}

fn malformed(error: serde_json::Error) -> SchemaError {
    SchemaError::syntax(error.to_string())
}

impl Schemas {
    /// `stored` with that and the managedFields that follow, without resourceVersion; None where the status stays what
    /// it is. Only of kinds that are served in one version.
    pub fn amended(
        &self,
        kind: KindId,
        stored: &[u8],
        amendment: Amendment<'_>,
        update: Update<'_>,
    ) -> Result<Option<Vec<u8>>, SchemaError> {
        let before = Outline::of(stored, Some(&OF_STATUS))?;
        let status = before.member("status").filter(|json| json.starts_with(b"{")).unwrap_or(b"{}");
        let conditions = conditions(Outline::of(status, None)?.member("conditions"), amendment)?;
        let mut changes = Vec::with_capacity(conditions.len() + amendment.status.len() + 16);
        changes.extend_from_slice(b"{\"conditions\":");
        changes.extend_from_slice(&conditions);
        push_members(&mut changes, amendment.status);
        changes.push(b'}');
        let mut after = Vec::with_capacity(status.len() + changes.len());
        write_changed(&mut after, status, &changes)?;
        if after == status {
            return Ok(None);
        }
        let outline = before.with("status", &after);
        let managed =
            self.managed_between(kind, Some(&before), &outline, update, |_| Some(Elsewhere::default()))?;
        let mut all = Vec::with_capacity(changes.len() + managed.as_ref().map_or(0, Vec::len) + 128);
        all.extend_from_slice(b"{\"metadata\":{\"resourceVersion\":null,\"managedFields\":");
        all.extend_from_slice(managed.as_deref().unwrap_or(b"null"));
        push_members(&mut all, amendment.metadata);
        all.extend_from_slice(b"},\"status\":");
        all.extend_from_slice(&changes);
        all.push(b'}');
        with_members(stored, &all).map(Some)
    }
}

/// Behind others that are there.
fn push_members(out: &mut Vec<u8>, object: &[u8]) {
    if object.len() > b"{}".len() {
        out.push(b',');
        out.extend_from_slice(&object[1..object.len() - 1]);
    }
}

/// With the condition in the place of the one of its type, of which stays what is not given, or as the last one.
fn conditions(before: Option<&[u8]>, amendment: Amendment<'_>) -> Result<Vec<u8>, SchemaError> {
    let before: Option<Vec<&RawValue>> =
        serde_json::from_slice(before.unwrap_or(b"[]")).map_err(malformed)?;
    let wanted = kind_of(amendment.condition);
    let mut out = vec![b'['];
    let mut is_there = false;
    for one in before.unwrap_or_default() {
        let json = one.get().as_bytes();
        if out.len() > 1 {
            out.push(b',');
        }
        if !is_there && kind_of(json) == wanted {
            is_there = true;
            out.extend_from_slice(&with_replaced(json, amendment.given)?);
        } else {
            out.extend_from_slice(json);
        }
    }
    if !is_there {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(amendment.condition);
    }
    out.push(b']');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: &str) -> String {
        let amendment = Amendment {
            condition: br#"{"lastProbeTime":null,"type":"Ready","status":"True"}"#,
            given: br#"{"type":"Ready","status":"True"}"#,
            status: b"{}",
            metadata: b"{}",
        };
        String::from_utf8(conditions(Some(before.as_bytes()), amendment).unwrap()).unwrap()
    }

    #[test]
    fn a_condition_takes_the_place_of_the_first_of_its_type_or_is_the_last() {
        let added = r#"{"lastProbeTime":null,"type":"Ready","status":"True"}"#;
        for (before, expected) in [
            ("null", format!("[{added}]")),
            ("[]", format!("[{added}]")),
            (r#"[{"type":"Other"},{}]"#, format!(r#"[{{"type":"Other"}},{{}},{added}]"#)),
        ] {
            assert_eq!(after(before), expected);
        }
        assert_eq!(
            after(r#"[{"lastProbeTime":null,"type":"Ready","reason":"x"},{"type":"Ready"}]"#),
            r#"[{"lastProbeTime":null,"type":"Ready","reason":"x","status":"True"},{"type":"Ready"}]"#
        );
    }
}
