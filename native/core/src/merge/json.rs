//! JSON that is read to be compared and then forgotten: text is borrowed, objects are not hashed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::fields::edge_json;
use crate::schema::SchemaError;

/// What ownership looks at of a JSON value, whatever holds it.
pub(crate) trait Node: Sized + PartialEq {
    /// None unless it is an object.
    fn member(&self, name: &str) -> Option<&Self>;
    /// None of what is no object.
    fn members(&self) -> impl Iterator<Item = (&str, &Self)>;
    fn is_object(&self) -> bool;
    fn elements(&self) -> Option<&[Self]>;
    fn text(&self) -> Option<&str>;
    fn is_null(&self) -> bool;
    /// What is empty to Go, as JSON: null, false, 0, the empty text, an object without members.
    fn empty(&self) -> Option<&'static str>;
    /// As it stands in an edge of a field set ([`edge_json`]).
    fn edge(&self) -> String;
}

impl Node for Value {
    fn member(&self, name: &str) -> Option<&Self> {
        self.as_object()?.get(name)
    }

    fn members(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.as_object().into_iter().flatten().map(|(name, value)| (&**name, value))
    }

    fn is_object(&self) -> bool {
        self.is_object()
    }

    fn elements(&self) -> Option<&[Self]> {
        self.as_array().map(Vec::as_slice)
    }

    fn text(&self) -> Option<&str> {
        self.as_str()
    }

    fn is_null(&self) -> bool {
        self.is_null()
    }

    fn empty(&self) -> Option<&'static str> {
        Some(match self {
            Self::Null => "null",
            Self::Bool(false) => "false",
            Self::Number(number) if number.as_i64() == Some(0) => "0",
            Self::String(text) if text.is_empty() => "\"\"",
            Self::Object(members) if members.is_empty() => "{}",
            _ => return None,
        })
    }

    fn edge(&self) -> String {
        edge_json(self)
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Members<'a>),
}

impl<'a> Json<'a> {
    /// Parses JSON whose depth is known to be bounded: what the decoder has let through.
    pub fn parse(input: &'a [u8]) -> Result<Self, SchemaError> {
        let text = str::from_utf8(input).map_err(|error| SchemaError::syntax(error.to_string()))?;
        let mut parser = serde_json::Deserializer::from_str(text);
        parser.disable_recursion_limit();
        Self::deserialize(&mut parser).map_err(|error| SchemaError::syntax(error.to_string()))
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone().into_owned()),
            Self::List(elements) => elements.iter().map(Self::to_value).collect(),
            Self::Object(members) => Value::Object(
                members.iter().map(|(name, value)| (name.to_owned(), value.to_value())).collect(),
            ),
        }
    }
}

impl Node for Json<'_> {
    fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            _ => None,
        }
    }

    fn members(&self) -> impl Iterator<Item = (&str, &Self)> {
        let members = match self {
            Self::Object(members) => Some(members.iter()),
            _ => None,
        };
        members.into_iter().flatten()
    }

    fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::List(elements) => Some(elements),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn empty(&self) -> Option<&'static str> {
        Some(match self {
            Self::Null => "null",
            Self::Bool(false) => "false",
            Self::Number(number) if number.as_i64() == Some(0) => "0",
            Self::Text(text) if text.is_empty() => "\"\"",
            Self::Object(Members(members)) if members.is_empty() => "{}",
            _ => return None,
        })
    }

    fn edge(&self) -> String {
        edge_json(&self.to_value())
    }
}

/// The members of an object, each once: as they were written where they are few, else in order of their names.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Members<'a> {
    /// More than these are found by halving.
    const FEW: usize = 16;

    /// Of members with one name the last counts.
    pub fn of(mut members: Vec<(Cow<'a, str>, Json<'a>)>) -> Self {
        let repeats = |members: &[(Cow<'_, str>, Json<'_>)]| {
            members
                .iter()
                .enumerate()
                .any(|(at, (name, _))| members[..at].iter().any(|(other, _)| other == name))
        };
        if members.len() > Self::FEW || repeats(&members) {
            members.reverse();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            members.dedup_by(|(later, _), (earlier, _)| later == earlier);
        }
        Self(members)
    }

    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        let Self(members) = self;
        if members.len() <= Self::FEW {
            return members.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        }
        let at = members.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(&members[at].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

/// In whatever order.
impl PartialEq for Members<'_> {
    fn eq(&self, other: &Self) -> bool {
        let is_there = |(position, (name, value)): (usize, &(Cow<'_, str>, Json<'_>))| {
            let likely = &other.0[position];
            if likely.0 == *name {
                likely.1 == *value
            } else {
                other.get(name).is_some_and(|found| found == value)
            }
        };
        self.0.len() == other.0.len() && self.0.iter().enumerate().all(is_there)
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json<'de>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Json::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value()?));
        }
        Ok(Json::Object(Members::of(members)))
    }
}

/// The name of a member.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a member")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON", |float| float.is_finite()).prop_map(Value::from),
            "[a-c\\\\\"\u{e9}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 24, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z\"]{0,2}", inner, 0..24)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn text(value: &Value) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_json_reads(value in value()) {
            let json = text(&value);
            prop_assert_eq!(Json::parse(&json).unwrap().to_value(), value);
        }

        #[test]
        fn values_are_equal_when_serde_jsons_are(one in value(), other in value()) {
            let (a, b) = (text(&one), text(&other));
            prop_assert_eq!(Json::parse(&a).unwrap() == Json::parse(&b).unwrap(), one == other);
        }
    }

    #[test]
    fn members_are_the_same_in_any_order_and_the_last_of_a_name_counts() {
        let of = |count: usize| -> (String, String) {
            let members: Vec<String> = (0..count).map(|number| format!("\"m{number}\":{number}")).collect();
            let backwards: Vec<String> = members.iter().rev().cloned().collect();
            (format!("{{{}}}", members.join(",")), format!("{{{}}}", backwards.join(",")))
        };
        for count in [0, 1, 5, Members::FEW, Members::FEW + 1, 100] {
            let (forwards, backwards) = of(count);
            assert_eq!(
                Json::parse(forwards.as_bytes()).unwrap(),
                Json::parse(backwards.as_bytes()).unwrap(),
                "{count}"
            );
        }
        assert_eq!(
            Json::parse(br#"{"a":1,"b":2,"a":3}"#).unwrap(),
            Json::parse(br#"{"a":3,"b":2}"#).unwrap()
        );
        assert_ne!(Json::parse(br#"{"a":1}"#).unwrap(), Json::parse(br#"{"a":1.0}"#).unwrap());
    }
}
