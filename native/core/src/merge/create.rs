//! What is stored of a new object: a component of this process that tells a thousand events at once sends each as a
//! client would, and the rest is done where it is written.

use super::splice::with_members;
use super::track::{Outline, Update};
use super::versions::Elsewhere;
use crate::schema::{FieldValidation, KindId, Schemas};

impl Schemas {
    /// `body`, strictly read and with its defaults, as the first there is of it, without resourceVersion, its members in
    /// the order in which they were sent: with `metadata` (canonical JSON of its members, which nobody owns) added and the managedFields that follow. None for
    /// a body that is refused: `decode` says why.
    pub fn created(&self, kind: KindId, body: &[u8], metadata: &[u8], update: Update<'_>) -> Option<Vec<u8>> {
        let read = self.decode_json(kind, body, FieldValidation::Strict).ok()?.body;
        let outline = Outline::of(&read, None).ok()?;
        let managed =
            self.managed_between(kind, None, &outline, update, |_| Some(Elsewhere::default())).ok()?;
        let mut added = [b"{\"metadata\":", metadata].concat();
        if let Some(managed) = managed {
            added.pop();
            if added.last() != Some(&b'{') {
                added.push(b',');
            }
            added.extend_from_slice(b"\"managedFields\":");
            added.extend_from_slice(&managed);
            added.push(b'}');
        }
        added.push(b'}');
        with_members(&read, &added).ok()
    }
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

    fn created(body: &str, metadata: &str) -> Option<String> {
        let schemas = Schemas::compile(DEFINITIONS.as_bytes()).unwrap();
        let update = Update { manager: "me", time: "2026-01-01T00:00:00Z", subresource: "" };
        let made =
            schemas.created(schemas.kind("v1/Thing").unwrap(), body.as_bytes(), metadata.as_bytes(), update);
        made.map(|made| String::from_utf8(made).unwrap())
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
