//! Where the members of an object lie in JSON that has been through the decoder: values are stepped over, not judged.

use std::borrow::Cow;
use std::ops::Range;

use super::error::SchemaError;
use super::plain::plain_prefix;
use super::scan::Text;

/// Where the members of one object lie in its JSON.
pub(crate) struct Members<'a> {
    pub members: Vec<Member<'a>>,
    /// The position of the closing brace, or after the last member asked for.
    pub end: usize,
}

pub(crate) struct Member<'a> {
    pub name: Cow<'a, str>,
    pub name_start: usize,
    pub value: Range<usize>,
}

impl Members<'_> {
    pub fn find(&self, name: &str) -> Option<&Member<'_>> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// The members of the object that `input` is, up to the one called `last` (all when there is none such). Fails for what
/// is no object, or ends too early; what else is wrong within a value is not seen.
pub(crate) fn member_spans<'a>(input: &'a [u8], last: Option<&str>) -> Result<Members<'a>, SchemaError> {
    let mut steps = Steps { input, pos: 0 };
    steps.space();
    steps.expect(b'{', "looking for beginning of value")?;
    steps.space();
    let mut members = Vec::with_capacity(8);
    while steps.peek() != Some(b'}') {
        let name_start = steps.pos;
        steps.expect(b'"', "looking for beginning of object key string")?;
        let name = steps.text()?.to_str();
        steps.space();
        steps.expect(b':', "after object key")?;
        steps.space();
        let start = steps.pos;
        steps.value()?;
        let found = last == Some(&*name);
        members.push(Member { name, name_start, value: start..steps.pos });
        if found {
            break;
        }
        steps.space();
        if steps.peek() == Some(b',') {
            steps.pos += 1;
            steps.space();
        }
    }
    Ok(Members { members, end: steps.pos })
}

struct Steps<'a> {
    input: &'a [u8],
    pos: usize,
}

impl<'a> Steps<'a> {
    fn peek(&self) -> Option<u8> {
        self.input.get(self.pos).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
    }

    fn expect(&mut self, byte: u8, context: &str) -> Result<(), SchemaError> {
        match self.peek() {
            Some(found) if found == byte => {
                self.pos += 1;
                Ok(())
            }
            Some(_) => Err(SchemaError::syntax(format!("invalid character {context}"))),
            None => Err(too_early()),
        }
    }

    /// A string, behind its opening quote.
    fn text(&mut self) -> Result<Text<'a>, SchemaError> {
        let start = self.pos;
        let mut escaped = false;
        loop {
            self.pos += plain_prefix(self.input.get(self.pos..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    let raw = &self.input[start..self.pos];
                    self.pos += 1;
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.pos += 2;
                }
                Some(_) => return Err(SchemaError::syntax("invalid character in string literal")),
                None => return Err(too_early()),
            }
        }
    }

    fn value(&mut self) -> Result<(), SchemaError> {
        let start = self.pos;
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.pos += 1;
                    self.text()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.pos += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.pos += 1;
                }
                b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => break,
                _ => {
                    self.pos += 1;
                    continue;
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
        if depth > 0 || self.peek().is_none() && start == self.pos {
            return Err(too_early());
        }
        if start == self.pos {
            return Err(SchemaError::syntax("invalid character looking for beginning of value"));
        }
        Ok(())
    }
}

fn too_early() -> SchemaError {
    SchemaError::syntax("unexpected end of JSON input")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn spans(input: &str) -> Option<Vec<(String, &str)>> {
        let members = member_spans(input.as_bytes(), None).ok()?.members;
        Some(members.into_iter().map(|one| (one.name.into_owned(), &input[one.value])).collect())
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn members_are_where_a_parser_finds_them(
            object in prop::collection::btree_map(".*", any_json(), 0..6),
            pretty: bool,
        ) {
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            let found = spans(&text).unwrap();
            let read: Vec<(String, Value)> =
                found.into_iter().map(|(name, json)| (name, serde_json::from_str(json).unwrap())).collect();
            prop_assert_eq!(read, object.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn what_ends_too_early_is_refused_and_nothing_panics(object in any_json(), cut in 1_usize..64) {
            let text = serde_json::to_string(&object).unwrap();
            let kept = &text.as_bytes()[..text.len().saturating_sub(cut)];
            prop_assert!(member_spans(kept, None).is_err());
        }
    }

    #[test]
    fn the_rest_behind_the_last_member_asked_for_is_not_looked_at() {
        let found = member_spans(br#"{"a":1,"b":{"c":2},"d":"#, Some("b")).unwrap();
        assert_eq!((found.members.len(), found.end), (2, 18));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in
            ["", "[]", "1", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":"b}"#, r#"{"a":[1}"#, "{\"a\u{1}\":1}"]
        {
            assert_eq!(spans(text), None, "{text}");
        }
    }
}
