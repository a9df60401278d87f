//! Puts `metadata.managedFields` into an object's JSON without parsing the rest of it.

use std::borrow::Cow;
use std::ops::Range;

use crate::schema::{SchemaError, member_spans};

/// Replaces, adds or (`None`) removes the managedFields of a canonical object.
pub(crate) fn managed_fields(object: &[u8], managed: Option<&[u8]>) -> Result<Vec<u8>, SchemaError> {
    let mut out = Vec::with_capacity(object.len() + managed.map_or(0, <[u8]>::len) + 40);
    let root = member_spans(object, Some("metadata"))?;
    let Some(metadata) = root.find("metadata") else {
        out.extend_from_slice(&object[..root.end]);
        if let Some(managed) = managed {
            let comma: &[u8] = if root.members.is_empty() { b"" } else { b"," };
            out.extend_from_slice(comma);
            out.extend_from_slice(b"\"metadata\":{\"managedFields\":");
            out.extend_from_slice(managed);
            out.push(b'}');
        }
        out.extend_from_slice(&object[root.end..]);
        return Ok(out);
    };
    let (start, end) = (metadata.value.start, metadata.value.end);
    let inner = member_spans(&object[start..end], None)?;
    out.extend_from_slice(&object[..start]);
    out.push(b'{');
    for member in &inner.members {
        if member.name != "managedFields" {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            out.extend_from_slice(&object[start + member.name_start..start + member.value.end]);
        }
    }
    if let Some(managed) = managed {
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(b"\"managedFields\":");
        out.extend_from_slice(managed);
    }
    out.push(b'}');
    out.extend_from_slice(&object[end..]);
    Ok(out)
}

/// An object with some members of its members replaced, added (behind the others) or, by null, taken out: `changes` is
/// an object of such objects. What is changed and not there is added, too; the rest is copied as it is.
pub fn with_members(object: &[u8], changes: &[u8]) -> Result<Vec<u8>, SchemaError> {
    let mut changes = Changes::of(changes)?;
    let root = member_spans(object, None)?;
    let mut out = Vec::with_capacity(object.len() + 512);
    out.push(b'{');
    for member in &root.members {
        open_member(&mut out, &object[member.name_start..member.value.start]);
        let value = &object[member.value.clone()];
        match changes.take(&member.name) {
            Some(inner) if value.starts_with(b"{") => write_changed(&mut out, value, inner)?,
            Some(inner) => write_changed(&mut out, b"{}", inner)?,
            None => out.extend_from_slice(value),
        }
    }
    for (name, inner) in changes.left() {
        let mut added = Vec::new();
        write_changed(&mut added, b"{}", inner)?;
        if added != b"{}" {
            open_member(&mut out, name);
            out.extend_from_slice(&added);
        }
    }
    out.push(b'}');
    Ok(out)
}

/// A member to be merged: its name as it is called and as it is written (with its colon), and its value.
struct Change<'a> {
    name: Cow<'a, str>,
    written: &'a [u8],
    value: &'a [u8],
}

/// The members of a JSON object that is to be merged into another; None for those that are.
struct Changes<'a>(Vec<Option<Change<'a>>>);

impl<'a> Changes<'a> {
    fn of(json: &'a [u8]) -> Result<Self, SchemaError> {
        let members = member_spans(json, None)?.members.into_iter().map(|member| {
            let written = &json[member.name_start..member.value.start];
            Some(Change { name: member.name, written, value: &json[member.value] })
        });
        Ok(Self(members.collect()))
    }

    /// The change of a member, if there is one; it is not left any more.
    fn take(&mut self, name: &str) -> Option<&'a [u8]> {
        let is_wanted =
            |change: &&mut Option<Change<'_>>| change.as_ref().is_some_and(|one| one.name == name);
        self.0.iter_mut().find(is_wanted).and_then(Option::take).map(|change| change.value)
    }

    fn left(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0.into_iter().flatten().map(|change| (change.written, change.value))
    }
}

/// An object with these members in the place of its own, or behind them. Null is a value like others.
pub(super) fn with_replaced(object: &[u8], members: &[u8]) -> Result<Vec<u8>, SchemaError> {
    let mut changes = Changes::of(members)?;
    let mut out = Vec::with_capacity(object.len() + members.len());
    out.push(b'{');
    for member in &member_spans(object, None)?.members {
        open_member(&mut out, &object[member.name_start..member.value.start]);
        let value = changes.take(&member.name).unwrap_or(&object[member.value.clone()]);
        out.extend_from_slice(value);
    }
    for (name, value) in changes.left() {
        open_member(&mut out, name);
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Ok(out)
}

pub(super) fn write_changed(out: &mut Vec<u8>, object: &[u8], changes: &[u8]) -> Result<(), SchemaError> {
    let mut changes = Changes::of(changes)?;
    out.push(b'{');
    for member in &member_spans(object, None)?.members {
        let value = changes.take(&member.name).unwrap_or(&object[member.value.clone()]);
        if value != b"null" {
            open_member(out, &object[member.name_start..member.value.start]);
            out.extend_from_slice(value);
        }
    }
    for (name, value) in changes.left().filter(|(_, value)| *value != b"null") {
        open_member(out, name);
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Ok(())
}

/// `name`: with its quotes and colon.
fn open_member(out: &mut Vec<u8>, name: &[u8]) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(name);
}

/// An object's JSON, and its managedFields.
pub struct Apart<'a> {
    pub rest: Cow<'a, [u8]>,
    pub managed: Option<&'a [u8]>,
}

/// An object without its managedFields, of whose other members only those called in `only` are kept (None: all), and
/// those managedFields: what is large, and often nothing to whoever reads the object.
pub fn apart<'a>(object: &'a [u8], only: Option<&[&str]>) -> Result<Apart<'a>, SchemaError> {
    let root = member_spans(object, only.is_none().then_some("metadata"))?;
    let mut managed = None;
    let mut kept: Vec<Range<usize>> = Vec::new();
    // What is copied begins with the first member that follows.
    let mut from = 0;
    for member in &root.members {
        if only.is_some_and(|names| !names.contains(&&*member.name)) {
            kept.push(from..member.name_start);
            from = member.value.end;
        } else if member.name == "metadata" && object[member.value.start] == b'{' {
            let start = member.value.start;
            let inner = member_spans(&object[member.value.clone()], None)?;
            if let Some(found) = inner.find("managedFields") {
                managed = Some(&object[start + found.value.start..start + found.value.end]);
                kept.push(from..start + found.name_start);
                from = start + found.value.end;
            }
        }
    }
    if kept.is_empty() {
        return Ok(Apart { rest: Cow::Borrowed(object), managed });
    }
    kept.push(from..object.len());
    let mut out = Vec::with_capacity(object.len());
    for part in kept {
        let mut part = &object[part];
        // Of the commas around what is left out only one may stay, and none at a brace.
        if out.last().is_none_or(|last| matches!(last, b'{' | b',')) {
            part = part.strip_prefix(b",").unwrap_or(part);
        }
        if out.last() == Some(&b',') && part.starts_with(b"}") {
            out.pop();
        }
        out.extend_from_slice(part);
    }
    Ok(Apart { rest: Cow::Owned(out), managed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(object: &str, managed: Option<&str>) -> String {
        String::from_utf8(managed_fields(object.as_bytes(), managed.map(str::as_bytes)).unwrap()).unwrap()
    }

    fn apart_of(object: &str, only: Option<&[&str]>) -> (String, Option<String>) {
        let Apart { rest, managed } = apart(object.as_bytes(), only).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&rest), managed.map(text))
    }

    #[test]
    fn managed_fields_are_taken_apart_from_the_object() {
        for (metadata, rest) in [
            (r#"{"managedFields":[2],"name":"x"}"#, r#"{"name":"x"}"#),
            (r#"{"name":"x","managedFields":[2]}"#, r#"{"name":"x"}"#),
            (r#"{"name":"x","managedFields":[2],"uid":"u"}"#, r#"{"name":"x","uid":"u"}"#),
            (r#"{"managedFields":[2]}"#, "{}"),
        ] {
            let object = format!(r#"{{"kind":"A","metadata":{metadata},"spec":{{}}}}"#);
            let expected = format!(r#"{{"kind":"A","metadata":{rest},"spec":{{}}}}"#);
            assert_eq!(apart_of(&object, None), (expected, Some("[2]".to_owned())));
        }
        assert_eq!(apart_of(r#"{"metadata":{"a":1}}"#, None), (r#"{"metadata":{"a":1}}"#.to_owned(), None));
        assert_eq!(apart_of("{}", None), ("{}".to_owned(), None));
    }

    #[test]
    fn of_the_members_only_those_asked_for_are_kept() {
        let object =
            r#"{"kind":"A","metadata":{"managedFields":[2],"name":"x"},"spec":{"a":1},"status":{"b":2}}"#;
        for (only, rest) in [
            (&["metadata", "status"][..], r#"{"metadata":{"name":"x"},"status":{"b":2}}"#),
            (&["metadata"], r#"{"metadata":{"name":"x"}}"#),
            (&["kind", "metadata"], r#"{"kind":"A","metadata":{"name":"x"}}"#),
            (&["status"], r#"{"status":{"b":2}}"#),
            (&[], "{}"),
        ] {
            assert_eq!(apart_of(object, Some(only)).0, rest);
        }
    }

    #[test]
    fn members_of_members_are_replaced_added_and_taken_out() {
        let object =
            r#"{"kind":"A","metadata":{"version":"1","name":"x","labels":{"a":"b"}},"spec":{"c":[{}]}}"#;
        for (changes, expected) in [
            ("{}", object),
            (r#"{"spec":{},"status":{}}"#, object),
            (
                r#"{"metadata":{"version":null,"labels":{"d":"e"}},"spec":{"node":"n"},"status":{"f":1,"g":null}}"#,
                r#"{"kind":"A","metadata":{"name":"x","labels":{"d":"e"}},"spec":{"c":[{}],"node":"n"},"status":{"f":1}}"#,
            ),
            (r#"{"spec":{"c":null}}"#, &object.replace(r#""c":[{}]"#, "")),
        ] {
            let made = with_members(object.as_bytes(), changes.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(made).unwrap(), expected, "{changes}");
        }
        assert!(with_members(object.as_bytes(), b"[]").is_err());
        assert!(with_members(object.as_bytes(), br#"{"spec":1}"#).is_err());
    }

    #[test]
    fn managed_fields_are_added_replaced_and_removed() {
        assert_eq!(spliced(r#"{}"#, Some("[1]")), r#"{"metadata":{"managedFields":[1]}}"#);
        assert_eq!(spliced(r#"{"a":1}"#, Some("[1]")), r#"{"a":1,"metadata":{"managedFields":[1]}}"#);
        assert_eq!(spliced(r#"{"metadata":{}}"#, Some("[1]")), r#"{"metadata":{"managedFields":[1]}}"#);
        assert_eq!(
            spliced(r#"{"metadata":{"managedFields":[2],"name":"x"},"b":{}}"#, Some("[1]")),
            r#"{"metadata":{"name":"x","managedFields":[1]},"b":{}}"#
        );
        assert_eq!(spliced(r#"{"metadata":{"a":1,"managedFields":[2]}}"#, None), r#"{"metadata":{"a":1}}"#);
    }
}
