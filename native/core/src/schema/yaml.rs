//! YAML bodies, turned into JSON before decoding, with the scalars of go-yaml v2 as upstream has them.
//!
//! go-yaml is a port of libyaml, and so is the parser that is used here: both take the same for YAML, and say the same of
//! what is none. As upstream, a document becomes values first, and these JSON with its keys in order: of keys that are
//! there twice the last counts, and what is merged (`<<`) counts where it stands. What an alias names is there once, and
//! copied when it is written; the output is bounded: a bomb of aliases ends with an error, not with the memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

use super::escapes::write_string;
use super::json_in_yaml::reads_the_same;
use super::libyaml::{Event, Events};
use super::scan::MAX_DEPTH;
use super::yaml_scalars::scalar;
use crate::go::quote;

/// JSON is at most a few times as long as YAML without aliases, and bodies are at most 3 MiB.
const MAX_OUTPUT: usize = 12 * 1024 * 1024;
const MOST_TOLD: usize = 100;

/// Converts the first document; tells which keys a mapping has twice: `line 4: key "a" already set in map`. Errors are in
/// the words of go-yaml and of sigs.k8s.io/yaml.
pub(crate) fn to_json_telling(input: &[u8]) -> Result<(Vec<u8>, Vec<String>), String> {
    if reads_the_same(input) {
        return Ok((input.to_vec(), Vec::new()));
    }
    let mut events = Events::of(input);
    let mut document = Document::default();
    // go-yaml parses the whole document before it makes something of it: what is no YAML is told first.
    let (mut wrong, mut depth) = (None, 0);
    loop {
        let (event, line) = events.next().map_err(|fault| format!("yaml: {fault}"))?;
        match event {
            Event::Done => break,
            Event::Sequence(_) | Event::Mapping(_) => depth += 1,
            Event::End => depth -= 1,
            _ => {}
        }
        // Each token is held against all that is open.
        if depth > MAX_DEPTH {
            return Err(TOO_DEEP.into());
        }
        if wrong.is_none() {
            document.line = line;
            wrong = document.event(event).err();
        }
    }
    match wrong {
        Some(wrong) => Err(wrong),
        None => Ok((document.json(), document.repeated)),
    }
}

const TOO_DEEP: &str = "yaml: exceeded max depth";
const TOO_MUCH: &str = "yaml: document contains excessive aliasing";
const NO_KEY: &str = "yaml: invalid map key";
const NO_MAP: &str = "yaml: map merge requires map or sequence of maps as the value";

/// A value, and what it takes to write it.
struct Node {
    value: Value,
    /// Bytes of its JSON, if nothing is escaped.
    size: usize,
    depth: usize,
}

enum Value {
    /// JSON, in the document's text.
    Scalar(Range<usize>),
    Sequence(Vec<NodeId>),
    Mapping(Members),
}

type NodeId = usize;
type Members = BTreeMap<Key, Member>;

/// To Go, 1 and "1" are two keys, though they are one in JSON.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    text: Rc<str>,
    is_text: bool,
}

#[derive(Clone, Copy)]
struct Member {
    value: NodeId,
    line: u64,
}

/// A collection whose end has not come.
struct Open {
    anchor: Option<String>,
    line: u64,
    collection: Collection,
}

enum Collection {
    Sequence(Vec<NodeId>),
    Mapping(Members, Awaited),
}

enum Awaited {
    Key,
    ValueOf(Key),
    Merged,
}

#[derive(Default)]
struct Document {
    nodes: Vec<Node>,
    text: Vec<u8>,
    root: Option<NodeId>,
    open: Vec<Open>,
    anchors: HashMap<String, NodeId>,
    /// Bytes of JSON that were merged: bounded as what is written, since it may be merged and never written.
    merged: usize,
    /// Of the event at hand.
    line: u64,
    repeated: Vec<String>,
}

impl Document {
    fn event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Scalar { anchor, tag, value, plain } => {
                let json = scalar(&value, plain, tag.as_deref())?;
                if self.awaits_key() && plain && value == "<<" {
                    return self.await_next(Awaited::Merged);
                }
                let start = self.text.len();
                self.text.extend_from_slice(&json);
                let node = self.add(Value::Scalar(start..self.text.len()))?;
                self.place(node, anchor, self.line, false)
            }
            Event::Alias(anchor) => {
                let Some(&node) = self.anchors.get(&anchor) else {
                    let open = self.open.iter().any(|open| open.anchor.as_ref() == Some(&anchor));
                    return Err(if open {
                        format!("yaml: anchor '{anchor}' value contains itself")
                    } else {
                        format!("yaml: unknown anchor '{anchor}' referenced")
                    });
                };
                self.place(node, None, self.line, true)
            }
            Event::Sequence(anchor) => self.begin(anchor, Collection::Sequence(Vec::new())),
            Event::Mapping(anchor) => self.begin(anchor, Collection::Mapping(Members::new(), Awaited::Key)),
            Event::End => {
                let Some(Open { anchor, line, collection }) = self.open.pop() else { return Ok(()) };
                let node = self.add(match collection {
                    Collection::Sequence(items) => Value::Sequence(items),
                    Collection::Mapping(members, _) => Value::Mapping(members),
                })?;
                self.place(node, anchor, line, false)
            }
            _ => Ok(()),
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { collection: Collection::Mapping(_, Awaited::Key), .. }))
    }

    fn await_next(&mut self, next: Awaited) -> Result<(), String> {
        match self.open.last_mut() {
            Some(Open { collection: Collection::Mapping(_, awaited), .. }) => *awaited = next,
            _ => return Err(NO_KEY.into()),
        }
        Ok(())
    }

    fn begin(&mut self, anchor: Option<String>, collection: Collection) -> Result<(), String> {
        if self.awaits_key() {
            return Err(NO_KEY.into());
        }
        self.open.push(Open { anchor, line: self.line, collection });
        Ok(())
    }

    /// A value that is whole.
    fn add(&mut self, value: Value) -> Result<NodeId, String> {
        let of = |node: NodeId| (self.nodes[node].size, self.nodes[node].depth);
        let (size, depth) = match &value {
            Value::Scalar(json) => (json.len(), 0),
            Value::Sequence(items) => enclosing(items.iter().map(|item| of(*item))),
            Value::Mapping(members) => enclosing(members.iter().map(|(key, member)| {
                let (size, depth) = of(member.value);
                (size + key.text.len() + 3, depth)
            })),
        };
        if size > MAX_OUTPUT {
            return Err(TOO_MUCH.into());
        }
        // Aliases may be nested deeper than what is written.
        if depth > MAX_DEPTH {
            return Err(TOO_DEEP.into());
        }
        self.nodes.push(Node { value, size, depth });
        Ok(self.nodes.len() - 1)
    }

    /// Puts a value, or what an alias names, where one is due.
    fn place(
        &mut self,
        node: NodeId,
        anchor: Option<String>,
        line: u64,
        is_alias: bool,
    ) -> Result<(), String> {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, node);
        }
        if self.awaits_key() {
            let key = self.key(node)?;
            return self.await_next(Awaited::ValueOf(key));
        }
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => self.root = Some(node),
            Some(Collection::Sequence(items)) => items.push(node),
            Some(Collection::Mapping(members, awaited)) => match std::mem::replace(awaited, Awaited::Key) {
                Awaited::ValueOf(key) => {
                    set(members, &mut self.repeated, key, Member { value: node, line });
                }
                _ => return self.merge(node, is_alias),
            },
        }
        Ok(())
    }

    /// Numbers and booleans become texts.
    fn key(&self, node: NodeId) -> Result<Key, String> {
        let Value::Scalar(json) = &self.nodes[node].value else { return Err(NO_KEY.into()) };
        let json = &self.text[json.clone()];
        let text = match json.first() {
            Some(b'"') => serde_json::from_slice::<String>(json).map_err(|error| error.to_string())?,
            Some(b'n') => return Err("unsupported map key of type: %!s(<nil>), key: <nil>".into()),
            _ => String::from_utf8_lossy(json).into_owned(),
        };
        Ok(Key { text: text.into(), is_text: json.first() == Some(&b'"') })
    }

    /// Adds the members of a mapping, or of several of which the first has the last word, to the one that is open.
    fn merge(&mut self, node: NodeId, is_alias: bool) -> Result<(), String> {
        let sources = match &self.nodes[node].value {
            Value::Sequence(items) if !is_alias => items.iter().rev().copied().collect(),
            _ => vec![node],
        };
        let Self { nodes, open, merged, repeated, .. } = self;
        let Some(Open { collection: Collection::Mapping(members, _), .. }) = open.last_mut() else {
            return Ok(());
        };
        for source in sources {
            let Value::Mapping(given) = &nodes[source].value else { return Err(NO_MAP.into()) };
            *merged += nodes[source].size;
            if *merged > MAX_OUTPUT {
                return Err(TOO_MUCH.into());
            }
            for (key, member) in given {
                set(members, repeated, key.clone(), *member);
            }
        }
        Ok(())
    }

    fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.root.map_or(4, |root| self.nodes[root].size));
        match self.root {
            Some(root) => self.write(root, &mut out),
            None => out.extend_from_slice(b"null"),
        }
        out
    }

    fn write(&self, node: NodeId, out: &mut Vec<u8>) {
        match &self.nodes[node].value {
            Value::Scalar(json) => out.extend_from_slice(&self.text[json.clone()]),
            Value::Sequence(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.write(*item, out);
                }
                out.push(b']');
            }
            Value::Mapping(members) => {
                out.push(b'{');
                let mut rest = members.iter().peekable();
                let mut filled = false;
                while let Some((key, member)) = rest.next() {
                    // Which of 1 and "1" counts is left to chance upstream.
                    if rest.peek().is_some_and(|(next, _)| next.text == key.text) {
                        continue;
                    }
                    if std::mem::replace(&mut filled, true) {
                        out.push(b',');
                    }
                    write_string(key.text.as_bytes(), out);
                    out.push(b':');
                    self.write(member.value, out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Size and depth of a collection of such parts, each with its comma.
fn enclosing(parts: impl Iterator<Item = (usize, usize)>) -> (usize, usize) {
    parts.fold((2, 1), |(size, depth), (part, below)| (size + part + 1, depth.max(below + 1)))
}

fn set(members: &mut Members, repeated: &mut Vec<String>, key: Key, member: Member) {
    let shown = if key.is_text { quote(&key.text) } else { key.text.to_string() };
    if members.insert(key, member).is_some() && repeated.len() < MOST_TOLD {
        repeated.push(format!("line {}: key {shown} already set in map", member.line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(yaml: &str) -> String {
        String::from_utf8(to_json(yaml.as_bytes()).unwrap()).unwrap()
    }

    fn to_json(yaml: &[u8]) -> Result<Vec<u8>, String> {
        to_json_telling(yaml).map(|(json, _)| json)
    }

    #[test]
    fn mappings_sequences_and_scalars_become_json() {
        assert_eq!(
            json("a: 1\nb: [x, 'y', 1.5, true, ~]\nc:\n- d: \"e\\n\"\n  f: |\n    two\n    lines\n"),
            r#"{"a":1,"b":["x","y",1.5,true,null],"c":[{"d":"e\n","f":"two\nlines\n"}]}"#
        );
        assert_eq!(json(""), "null");
        assert_eq!(json("1: a\ntrue: b\n"), r#"{"1":"a","true":"b"}"#);
    }

    #[test]
    fn scalars_are_those_of_go_yaml() {
        for (yaml, expected) in [
            ("yes", "true"),
            ("off", "false"),
            ("0x1F", "31"),
            ("0b11", "3"),
            ("0B11", "3"),
            ("-0X1f", "-31"),
            ("0O17", "15"),
            ("0b", "\"0b\""),
            ("010", "8"),
            ("-5", "-5"),
            ("1_000", "1000"),
            ("1e3", "1000"),
            ("1.2.3", "\"1.2.3\""),
            ("2020-01-01", "\"2020-01-01\""),
            ("!!str 5", "\"5\""),
            ("'5'", "\"5\""),
            ("+1", "1"),
            ("-", "[null]"),
            (".5", "0.5"),
            ("09", "9"),
        ] {
            assert_eq!(json(yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn what_go_yaml_takes_for_yaml_is_taken() {
        for (yaml, expected) in [
            ("a: \"b\nc\"", r#"{"a":"b c"}"#),
            ("a: !!float 5\nb: !!binary YQ==\nc: !own 5\nd: !!int '5'", r#"{"a":5,"b":"a","c":"5","d":5}"#),
            ("a: !!timestamp 2001-01-01\nb: !!str ~", r#"{"a":"2001-01-01","b":"~"}"#),
            ("--- |\n x", r#""x""#),
            ("a: |2-\n  x\nb: >\n\n x\n\n\n y", r#"{"a":"x","b":"\nx\n\ny"}"#),
            ("a: b\n---\n[", r#"{"a":"b"}"#),
        ] {
            assert_eq!(json(yaml), expected, "{yaml}");
        }
        assert_eq!(to_json(b"a: .inf").unwrap_err(), "json: unsupported value: +Inf");
    }

    #[test]
    fn keys_are_in_order_and_of_those_that_repeat_the_last_counts() {
        for (yaml, expected, told) in [
            ("b: 1\na: {d: 1, c: 2}\n", r#"{"a":{"c":2,"d":1},"b":1}"#, ""),
            ("a: 1\nb: 2\na:\n  c: x\n", r#"{"a":{"c":"x"},"b":2}"#, r#"line 4: key "a" already set in map"#),
            ("1: x\n1: z\n", r#"{"1":"z"}"#, "line 2: key 1 already set in map"),
            // Go has both, and writes one of them.
            ("1: x\n'1': z\n", r#"{"1":"z"}"#, ""),
        ] {
            let (json, repeated) = to_json_telling(yaml.as_bytes()).unwrap();
            assert_eq!(
                (String::from_utf8(json).unwrap(), repeated.join("; ")),
                (expected.into(), told.into())
            );
        }
    }

    #[test]
    fn aliases_and_merge_keys_are_expanded() {
        assert_eq!(json("a: &x {b: 1}\nc: *x\n"), r#"{"a":{"b":1},"c":{"b":1}}"#);
        for (mapping, expected) in [
            ("<<: *x\n  c: 3\n", r#"{"b":1,"c":3}"#),
            ("c: 3\n  <<: *x\n", r#"{"b":1,"c":2}"#),
            ("<<: [*z, *x]\n", r#"{"b":4,"c":2}"#),
            ("<<: {b: *x}\n  '<<': z\n", r#"{"<<":"z","b":{"b":1,"c":2}}"#),
        ] {
            let yaml = format!("a: &x {{b: 1, c: 2}}\nz: &z {{b: 4}}\nd:\n  {mapping}");
            let whole = format!(r#"{{"a":{{"b":1,"c":2}},"d":{expected},"z":{{"b":4}}}}"#);
            assert_eq!(json(&yaml), whole, "{mapping}");
        }
    }

    #[test]
    fn what_is_merged_again_and_again_is_bounded_as_what_is_written() {
        let many: String = (0..1000).map(|number| format!("key{number}: {number}, ")).collect();
        let merging = "- {<<: *x, <<: *x, <<: *x, <<: *x}\n".repeat(1000);
        let yaml = format!("- &x {{{many}}}\n{merging}");
        assert!(to_json(yaml.as_bytes()).unwrap_err().contains("excessive aliasing"));
    }

    #[test]
    fn aliases_cannot_nest_deeper_than_what_is_written_may() {
        let mut yaml = String::from("- &a0 []\n");
        for level in 1..600 {
            yaml += &format!("- &a{level} [*a{}]\n", level - 1);
        }
        assert_eq!(to_json(yaml.as_bytes()).unwrap_err(), "yaml: exceeded max depth");
    }

    #[test]
    fn bombs_nests_and_bad_syntax_are_errors() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
        }
        assert!(to_json(bomb.as_bytes()).unwrap_err().contains("excessive aliasing"));
        let deep = "[".repeat(10_000);
        assert!(to_json(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_yaml_is_told_in_the_words_of_go_yaml() {
        for (bad, told) in [
            ("a: [", "line 1: did not find expected node content"),
            ("a: b: c", "mapping values are not allowed in this context"),
            ("a: 1\nb: c: d", "line 2: mapping values are not allowed in this context"),
            ("{a: b", "line 1: did not find expected ',' or '}'"),
            ("a: 1\n\tb: 2", "line 2: found a tab character that violates indentation"),
            ("a: 'x", "found unexpected end of stream"),
            ("a: *nowhere", "unknown anchor 'nowhere' referenced"),
            ("a: \"\\q\"", "found unknown escape character"),
            ("a: \u{1}", "control characters are not allowed"),
            ("%FOO x\n---\na: b", "found unknown directive name"),
            ("%YAML 1.2\n---\na: b", "found incompatible YAML document"),
            ("# c\n%YAML 2.0\n---\na: b", "line 1: found incompatible YAML document"),
            (": a", "did not find expected key"),
            ("a: &x [*x]", "anchor 'x' value contains itself"),
            ("<<: 1", "map merge requires map or sequence of maps as the value"),
            ("a: &x [{}]\nb: {<<: *x}", "map merge requires map or sequence of maps as the value"),
            ("a: !!int x", "cannot decode !!str `x` as a !!int"),
            ("a: !!bool 1", "cannot decode !!int `1` as a !!bool"),
            ("a: !!binary x", "!!binary value contains invalid base64 data"),
            ("[a]: !!int x\nb: [", "line 2: did not find expected node content"),
        ] {
            assert_eq!(to_json(bad.as_bytes()).unwrap_err(), format!("yaml: {told}"), "{bad}");
        }
    }
}
