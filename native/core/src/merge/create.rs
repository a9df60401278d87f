//! What is stored of a new object: a component of this process that tells a thousand events at once sends each as a
//! client would, and the rest is done where it is written.

use super::splice::with_members;
use super::track::{Outline, Update};
use super::versions::Elsewhere;
use crate::schema::{FieldValidation, KindId, Schemas};

/// The managedFields that were made last, and of what: events come many at once that differ in their values only.
#[derive(Default)]
pub struct LastOwned {
    of: Option<(KindId, String, String)>,
    skeleton: Vec<u8>,
    managed: Option<Vec<u8>>,
}

impl Schemas {
    /// `body`, strictly read and with its defaults, as the first there is of it, without resourceVersion, its members in
    /// the order in which they were sent: with `metadata` (canonical JSON of its members, which nobody owns) added and
    /// the managedFields that follow. None for a body that is refused: `decode` says why.
    pub fn created(
        &self,
        kind: KindId,
        body: &[u8],
        metadata: &[u8],
        update: Update<'_>,
        last: &mut LastOwned,
    ) -> Option<Vec<u8>> {
        let read = self.decode_json(kind, body, FieldValidation::Strict).ok()?.body;
        let (is_told, skeleton) = skeleton(&read);
        let of = (kind, update.manager.to_owned(), update.time.to_owned());
        if !is_told || last.of.as_ref() != Some(&of) || last.skeleton != skeleton {
            let outline = Outline::of(&read, None).ok()?;
            let managed = self.managed_between(kind, None, &outline, update, |_| Some(Elsewhere::default()));
            *last = LastOwned { of: Some(of), skeleton, managed: managed.ok()? };
        }
        let mut added = [b"{\"metadata\":", metadata].concat();
        if let Some(managed) = &last.managed {
            added.pop();
            if added.last() != Some(&b'{') {
                added.push(b',');
            }
            added.extend_from_slice(b"\"managedFields\":");
            added.extend_from_slice(managed);
            added.push(b'}');
        }
        added.push(b'}');
        with_members(&read, &added).ok()
    }
}

/// Canonical JSON without its values, and whether that says which fields there are: of lists their items do.
fn skeleton(json: &[u8]) -> (bool, Vec<u8>) {
    let mut found = Vec::with_capacity(json.len() / 2);
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let begin = at;
        at += 1;
        match byte {
            b'"' => {
                while let Some(&inner) = json.get(at) {
                    at += if inner == b'\\' { 2 } else { 1 };
                    if inner == b'"' {
                        break;
                    }
                }
                if json.get(at) == Some(&b':') {
                    found.extend_from_slice(&json[begin..at]);
                } else {
                    found.push(b'"');
                }
            }
            b'[' => return (false, found),
            b'{' | b'}' | b'n' => found.push(byte),
            _ => (),
        }
    }
    (true, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITIONS: &str = r##"{
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}}
            }
        },
        "io.k8s.api.core.v1.Thing": {
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
                "text": {"type": "string"}
            },
            "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Thing"}]
        }
    }"##;

    const TIME: &str = "2026-01-01T00:00:00Z";

    fn created(body: &str, metadata: &str) -> Option<String> {
        created_after(&mut LastOwned::default(), body, metadata, ("me", TIME))
    }

    fn created_after(
        last: &mut LastOwned,
        body: &str,
        metadata: &str,
        (manager, time): (&str, &str),
    ) -> Option<String> {
        let schemas = Schemas::compile(DEFINITIONS.as_bytes()).unwrap();
        let update = Update { manager, time, subresource: "" };
        let kind = schemas.kind("v1/Thing").unwrap();
        let made = schemas.created(kind, body.as_bytes(), metadata.as_bytes(), update, last);
        made.map(|made| String::from_utf8(made).unwrap())
    }

    #[test]
    fn who_owns_what_is_the_same_whatever_was_made_before() {
        let bodies = [
            r#"{"text":"a"}"#,
            r#"{"text":"b \\\" \",\"metadata\":{"}"#,
            r#"{"text":null}"#,
            r#"{"text":""}"#,
            r#"{"metadata":{"labels":{"a":"1"}}}"#,
            r#"{"metadata":{"labels":{"b":"1"}}}"#,
            r#"{"metadata":{"labels":{"a":"1","b":"1"}}}"#,
            r#"{"metadata":{"labels":{"a":"text"}}}"#,
            r#"{"metadata":{"labels":{}},"text":"x"}"#,
        ];
        let last = &mut LastOwned::default();
        for by in [("me", TIME), ("you", TIME), ("you", "2026-01-01T00:00:01Z")] {
            for before in bodies {
                for body in bodies {
                    created_after(last, before, "{}", by).unwrap();
                    let fresh = created_after(&mut LastOwned::default(), body, "{}", by);
                    assert_eq!(created_after(last, body, "{}", by), fresh, "{body} after {before}");
                }
            }
        }
    }

    #[test]
    fn what_is_sent_is_owned_and_what_is_added_is_not() {
        let made = created(
            r#"{"apiVersion":"v1","kind":"Thing","metadata":{"name":"x"},"text":"a"}"#,
            r#"{"uid":"1"}"#,
        )
        .unwrap();
        let owned = concat!(
            r#"{"manager":"me","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","#,
            r#""fieldsType":"FieldsV1","fieldsV1":{"f:text":{}}}"#
        );
        let metadata = format!(r#"{{"name":"x","uid":"1","managedFields":[{owned}]}}"#);
        assert_eq!(made, format!(r#"{{"apiVersion":"v1","kind":"Thing","metadata":{metadata},"text":"a"}}"#));
    }

    #[test]
    fn where_nothing_is_owned_there_are_no_books() {
        assert_eq!(
            created(r#"{"metadata":{"name":"x"}}"#, "{}").unwrap(),
            r#"{"metadata":{"name":"x"},"apiVersion":"v1","kind":"Thing"}"#
        );
    }

    #[test]
    fn of_what_is_refused_or_would_be_warned_of_nothing_is_made() {
        for body in [r#"{"text":5}"#, r#"{"text":"a","text":"b"}"#, r#"{"unknown":1}"#, "{"] {
            assert_eq!(created(body, "{}"), None, "{body}");
        }
    }
}
