//! Sets of field paths in the FieldsV1 format: who owns what of an object.
//!
//! Format of sigs.k8s.io/structured-merge-diff: a trie whose edges are `f:<name>`, `k:<keys as JSON>`, `v:<value as
//! JSON>` or `i:<index>`, and in which `.` marks a node that is itself in the set.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::go::{json_float, marshalled, marshalled_text};

/// An edge of the trie. The order of variants is the order in which FieldsV1 is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathElement {
    Field(Box<str>),
    /// The key fields of a list element, as canonical JSON.
    Key(Box<str>),
    /// An element of a set, as JSON.
    Value(Box<str>),
    Index(u64),
}

impl PathElement {
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// Numbers as Go writes them, so that `2.0` is `2`.
    pub fn value(value: &Value) -> Self {
        Self::Value(edge_json(value).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "f" => Self::Field(rest.into()),
            "k" if is_plain_key(rest) => Self::Key(rest.into()),
            "k" => {
                // Written anew, so that keys in another order or spacing are the same keys.
                let keys: std::collections::BTreeMap<String, Value> = serde_json::from_str(rest).ok()?;
                if keys.values().any(|value| value.is_object() || value.is_array()) {
                    return None;
                }
                Self::key(keys.iter().map(|(name, value)| (&**name, edge_json(value))))
            }
            "v" => Self::value(&serde_json::from_str(rest).ok()?),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    /// `{"containerPort":80,"protocol":"TCP"}`, of names in order with their values as [`edge_json`] has them.
    pub(crate) fn key<'n>(fields: impl Iterator<Item = (&'n str, String)>) -> Self {
        let fields: Vec<String> =
            fields.map(|(name, value)| format!("{}:{value}", marshalled_text(name))).collect();
        Self::Key(format!("{{{}}}", fields.join(",")).into())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (prefix, text): (_, &str) = match self {
            Self::Field(name) => (b"\"f:", name),
            Self::Key(keys) => (b"\"k:", keys),
            Self::Value(value) => (b"\"v:", value),
            Self::Index(index) => (b"\"i:", &index.to_string()),
        };
        out.extend_from_slice(prefix);
        crate::schema::write_content(text.as_bytes(), out);
        out.push(b'"');
    }
}

/// A value within an edge, as json-iterator writes it: an exponent has two digits, though json.Marshal has none of the
/// zeros before them.
pub(crate) fn edge_json(value: &Value) -> String {
    let Some(float) =
        value.as_number().filter(|number| !number.is_i64()).and_then(serde_json::Number::as_f64)
    else {
        return marshalled(value);
    };
    let text = json_float(float);
    match text.split_once("e-") {
        Some((digits, exponent)) if exponent.len() == 1 => format!("{digits}e-0{exponent}"),
        _ => text,
    }
}

/// A set of paths. Children are kept in order and none of them is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub member: bool,
    pub children: Vec<(PathElement, FieldSet)>,
}

impl FieldSet {
    pub fn leaf() -> Self {
        Self { member: true, children: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Adds a child that is not there yet; the order is restored by [`FieldSet::sort`].
    pub(crate) fn push(&mut self, element: impl FnOnce() -> PathElement, child: FieldSet) {
        if !child.is_empty() {
            self.children.push((element(), child));
        }
    }

    pub(crate) fn sort(&mut self) {
        if !self.children.is_sorted_by(|a, b| a.0 < b.0) {
            self.children.sort_by(|a, b| a.0.cmp(&b.0));
            self.children.dedup_by(|later, earlier| later.0 == earlier.0);
        }
    }

    pub fn child(&self, element: &PathElement) -> Option<&FieldSet> {
        self.position(element).ok().map(|at| &self.children[at].1)
    }

    fn position(&self, element: &PathElement) -> Result<usize, usize> {
        self.children.binary_search_by(|(other, _)| other.cmp(element))
    }

    pub fn has(&self, path: &[PathElement]) -> bool {
        match path.split_first() {
            None => self.member,
            Some((first, rest)) => self.child(first).is_some_and(|child| child.has(rest)),
        }
    }

    pub fn insert(&mut self, path: &[PathElement]) {
        match path.split_first() {
            None => self.member = true,
            Some((first, rest)) => {
                let at = self.position(first).unwrap_or_else(|at| {
                    self.children.insert(at, (first.clone(), FieldSet::default()));
                    at
                });
                self.children[at].1.insert(rest);
            }
        }
    }

    pub fn union(&mut self, other: &FieldSet) {
        self.member |= other.member;
        if self.children.is_empty() {
            self.children.clone_from(&other.children);
            return;
        }
        let mut missing = Vec::new();
        for (element, child) in &other.children {
            match self.position(element) {
                Ok(at) => self.children[at].1.union(child),
                Err(_) => missing.push((element.clone(), child.clone())),
            }
        }
        // All at once, here and below: to put one in or take one out moves those behind it.
        self.children.extend(missing);
        self.sort();
    }

    /// Takes the paths of `other` out.
    pub fn subtract(&mut self, other: &FieldSet) {
        if other.member {
            self.member = false;
        }
        for (element, child) in &other.children {
            if let Ok(at) = self.position(element) {
                self.children[at].1.subtract(child);
            }
        }
        self.children.retain(|(_, child)| !child.is_empty());
    }

    /// Takes the paths of `other` out together with everything below them.
    pub fn subtract_recursively(&mut self, other: &FieldSet) {
        if other.member {
            *self = FieldSet::default();
            return;
        }
        for (element, child) in &other.children {
            if let Ok(at) = self.position(element) {
                self.children[at].1.subtract_recursively(child);
            }
        }
        self.children.retain(|(_, child)| !child.is_empty());
    }

    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = FieldSet { member: self.member && other.member, children: Vec::new() };
        for (element, child) in &self.children {
            if let Some(counterpart) = other.child(element) {
                both.push(|| element.clone(), child.intersection(counterpart));
            }
        }
        both
    }

    /// Every path of the set, in upstream's order: those that end at a node come before those that go on from it.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut paths = Vec::new();
        if self.member {
            paths.push(Vec::new());
        }
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, at: &mut Vec<PathElement>, paths: &mut Vec<Vec<PathElement>>) {
        for (element, child) in &self.children {
            if child.member {
                paths.push(at.iter().chain([element]).cloned().collect());
            }
        }
        for (element, child) in &self.children {
            at.push(element.clone());
            child.collect(at, paths);
            at.pop();
        }
    }

    /// Reads a FieldsV1 value; None if it is none.
    pub fn parse(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }

    /// Writes FieldsV1.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (position, (element, child)) in self.children.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            element.write(out);
            out.push(b':');
            child.write_below(out);
        }
        out.push(b'}');
    }

    fn write_below(&self, out: &mut Vec<u8>) {
        if self.member && !self.children.is_empty() {
            out.extend_from_slice(b"{\".\":{},");
            let start = out.len();
            self.write(out);
            // The object just written opens with a brace of its own.
            out.remove(start);
        } else {
            self.write(out);
        }
    }
}

/// `{"name":"main"}`: one key whose value is a string without escapes, which is how it would be written anew.
fn is_plain_key(text: &str) -> bool {
    let mut parts = text.split('"');
    let mut next = || parts.next();
    let shape =
        [next() == Some("{"), next().is_some(), next() == Some(":"), next().is_some(), next() == Some("}")];
    shape == [true; 5] && next().is_none() && text.bytes().all(|byte| byte >= b' ' && byte != b'\\')
}

impl<'de> Deserialize<'de> for FieldSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Reading { below: false }.deserialize(deserializer)
    }
}

/// Reads a set: the whole of it, or what is below an edge, which is a member when nothing is.
struct Reading {
    below: bool,
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = FieldSet;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FieldSet, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = FieldSet;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a set of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldSet, A::Error> {
        let mut set = FieldSet::default();
        let mut bare = true;
        while let Some(edge) = map.next_key_seed(Edge)? {
            bare = false;
            match edge {
                Some(element) => {
                    let below = map.next_value_seed(Reading { below: true })?;
                    set.push(|| element, below);
                }
                None => {
                    map.next_value::<Nothing>()?;
                    set.member = true;
                }
            }
        }
        set.member |= bare && self.below;
        set.sort();
        Ok(set)
    }
}

/// An edge of the trie, or None for the `.` of a member.
struct Edge;

impl<'de> DeserializeSeed<'de> for Edge {
    type Value = Option<PathElement>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Edge {
    type Value = Option<PathElement>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an element of a path")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == "." {
            return Ok(None);
        }
        PathElement::parse(text).map(Some).ok_or_else(|| E::custom("no element of a path"))
    }
}

/// The object of a `.`, which says nothing.
struct Nothing;

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Nothing)
    }
}

impl<'de> Visitor<'de> for Nothing {
    type Value = Nothing;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Nothing, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::parse(&value).unwrap()
    }

    fn written(set: &FieldSet) -> Value {
        let mut out = Vec::new();
        set.write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn fields_v1_is_read_and_written() {
        let value = json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}},
            "f:finalizers": {"v:\"x\"": {}}, "f:list": {"i:0": {}}}});
        assert_eq!(written(&set(value.clone())), value);
    }

    #[test]
    fn paths_that_end_at_a_node_come_before_those_that_go_on() {
        let both = set(json!({"f:spec": {"f:a": {".": {}, "f:x": {}}, "f:b": {}}}));
        let paths = both.paths().iter().map(|path| path.len()).collect::<Vec<_>>();
        assert_eq!(paths, [2, 2, 3], "spec.a, spec.b, spec.a.x");
    }

    #[test]
    fn forged_sets_are_refused() {
        for value in [
            json!([]),
            json!({"x:spec": {}}),
            json!({"f:a": 1}),
            json!({"spec": {}}),
            json!({"k:{": {}}),
            json!({"i:-1": {}}),
            json!({"k:{\"a\":[]}": {}}),
        ] {
            assert_eq!(FieldSet::parse(&value), None, "{value}");
        }
    }

    #[test]
    fn keys_are_the_same_in_any_order_and_spacing() {
        let spaced = set(json!({"k:{\"protocol\": \"TCP\", \"containerPort\": 80}": {}}));
        assert_eq!(spaced, set(json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {}})));
        assert_eq!(set(json!({"k:{ \"name\":\"a\"}": {}})), set(json!({"k:{\"name\":\"a\"}": {}})));
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
        prop::collection::vec(path, 0..8).prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in paths {
                set.insert(&path.into_iter().map(PathElement::field).collect::<Vec<_>>());
            }
            set
        })
    }

    proptest! {
        #[test]
        fn set_laws_hold(a in any_set(), b in any_set()) {
            let mut union = a.clone();
            union.union(&b);
            let mut other = b.clone();
            other.union(&a);
            prop_assert_eq!(&union, &other);
            prop_assert_eq!(&union.intersection(&a), &a);
            let mut difference = union.clone();
            difference.subtract(&b);
            prop_assert!(difference.intersection(&b).is_empty());
            let mut rest = a.clone();
            rest.subtract(&b);
            prop_assert_eq!(difference, rest);
            prop_assert_eq!(set(written(&a)), a);
        }
    }
}
