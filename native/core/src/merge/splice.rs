//! Puts `metadata.managedFields` into an object's JSON without parsing the rest of it.

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

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(object: &str, managed: Option<&str>) -> String {
        String::from_utf8(managed_fields(object.as_bytes(), managed.map(str::as_bytes)).unwrap()).unwrap()
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
