//! JSON where YAML is allowed: most of what clients apply. It needs no YAML parser when it means the same in both.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Whether `input` is JSON that reads the same as YAML: no key twice, no number but whole ones (YAML writes others anew),
/// no escape by code point (a lone surrogate is no YAML).
pub(super) fn reads_the_same(input: &[u8]) -> bool {
    input.trim_ascii_start().first() == Some(&b'{')
        && memchr::memmem::find(input, br"\u").is_none()
        && serde_json::from_slice::<Same>(input).is_ok()
}

struct Same;

impl<'de> Deserialize<'de> for Same {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Same)
    }
}

impl<'de> Visitor<'de> for Same {
    type Value = Same;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON that is YAML, too")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Same, E> {
        Ok(Same)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Same, E> {
        Ok(Same)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Same, E> {
        Ok(Same)
    }

    fn visit_str<E>(self, _: &str) -> Result<Same, E> {
        Ok(Same)
    }

    fn visit_unit<E>(self) -> Result<Same, E> {
        Ok(Same)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Same, A::Error> {
        while items.next_element::<Same>()?.is_some() {}
        Ok(Same)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Same, A::Error> {
        let mut seen = HashSet::new();
        while let Some(Key(key)) = members.next_key::<Key<'de>>()? {
            if key == "<<" || !seen.insert(key) {
                return Err(A::Error::custom("not the same"));
            }
            members.next_value::<Same>()?;
        }
        Ok(Same)
    }
}

/// Borrowed where it can be.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_keys_texts_and_whole_numbers_reads_the_same() {
        assert!(reads_the_same(br#" {"a": [1, -2, "x\n", true, null, {}], "b": {"a": 1}}"#));
    }

    #[test]
    fn what_yaml_would_read_in_another_way_or_refuse_does_not() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":1.50}"#,
            r#"{"a":1e3}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"<<":{"a":1}}"#,
            r#"{"a":99999999999999999999}"#,
            "{a: 1}",
            "[1]",
            "",
            r#"{"a":1} {"b":2}"#,
        ] {
            assert!(!reads_the_same(text.as_bytes()), "{text}");
        }
    }
}
