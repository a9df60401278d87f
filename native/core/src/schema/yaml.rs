//! YAML bodies, turned into JSON before decoding, with the scalars of go-yaml v2 as upstream has them.
//!
//! go-yaml is a port of libyaml, and so is the parser that is used here: both take the same for YAML, and say the same of
//! what is none. Aliases are copied, so the output is bounded: a bomb of aliases ends with an error, not with the memory.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::escapes::write_string;
use super::json_in_yaml::reads_the_same;
use super::libyaml::{Event, Events};
use super::scan::MAX_DEPTH;
use super::spans::member_spans;
use super::yaml_scalars::scalar;
use crate::go::quote;

/// JSON is at most a few times as long as YAML without aliases, and bodies are at most 3 MiB.
const MAX_OUTPUT: usize = 12 * 1024 * 1024;
const MOST_TOLD: usize = 100;

/// Converts the first document. Errors are in the words of go-yaml and of sigs.k8s.io/yaml.
pub(crate) fn to_json(input: &[u8]) -> Result<Vec<u8>, String> {
    to_json_telling(input).map(|(json, _)| json)
}

/// The same, with the keys that a mapping has twice: `line 4: key "a" already set in map`.
pub(crate) fn to_json_telling(input: &[u8]) -> Result<(Vec<u8>, Vec<String>), String> {
    if reads_the_same(input) {
        return Ok((input.to_vec(), Vec::new()));
    }
    let mut events = Events::of(input);
    let mut writer = Writer::default();
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
            return Err("yaml: exceeded max depth".into());
        }
        if wrong.is_none() {
            writer.line = line;
            wrong = writer.event(event).err();
        }
    }
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if writer.out.is_empty() {
        writer.out.extend_from_slice(b"null");
    }
    Ok((writer.out, writer.repeated))
}

const NO_KEY: &str = "yaml: invalid map key";

/// A collection being written.
struct Open {
    anchor: Option<String>,
    start: usize,
    kind: Collection,
    /// Something was written into it, so a comma is due.
    filled: bool,
}

enum Collection {
    Sequence,
    Mapping {
        keys: HashSet<String>,
        /// A key was written and its value is awaited; for `<<`, where its value begins.
        awaits_value: bool,
        merging: Option<usize>,
        merges: Vec<Vec<u8>>,
    },
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    open: Vec<Open>,
    anchors: HashMap<String, Range<usize>>,
    /// Copies made of merged mappings, which are not part of `out` while they wait.
    waiting: usize,
    /// Of the event being written.
    line: u64,
    repeated: Vec<String>,
}

impl Writer {
    fn event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Scalar { anchor, tag, value, plain } => {
                let json = scalar(&value, plain, tag.as_deref())?;
                self.value(anchor, &json, plain)
            }
            Event::Alias(anchor) => {
                let Some(range) = self.anchors.get(&anchor).cloned() else {
                    let open = self.open.iter().any(|open| open.anchor.as_ref() == Some(&anchor));
                    return Err(if open {
                        format!("yaml: anchor '{anchor}' value contains itself")
                    } else {
                        format!("yaml: unknown anchor '{anchor}' referenced")
                    });
                };
                let copy = self.out[range].to_vec();
                self.value(None, &copy, false)
            }
            Event::Sequence(anchor) => self.begin(anchor, Collection::Sequence),
            Event::Mapping(anchor) => self.begin(
                anchor,
                Collection::Mapping {
                    keys: HashSet::new(),
                    awaits_value: false,
                    merging: None,
                    merges: Vec::new(),
                },
            ),
            Event::End => self.end(),
            _ => Ok(()),
        }
    }

    /// Writes what separates the next value from the one before. Err if a key is due instead.
    fn separate(&mut self) -> Result<(), String> {
        match self.open.last_mut() {
            None => Ok(()),
            Some(Open { kind: Collection::Mapping { awaits_value, .. }, .. }) => {
                if !std::mem::take(awaits_value) {
                    return Err(NO_KEY.into());
                }
                Ok(())
            }
            Some(open) => {
                if std::mem::replace(&mut open.filled, true) {
                    self.out.push(b',');
                }
                Ok(())
            }
        }
    }

    fn value(&mut self, anchor: Option<String>, json: &[u8], plain: bool) -> Result<(), String> {
        if self.out.len() + self.waiting + json.len() > MAX_OUTPUT {
            return Err("yaml: document contains excessive aliasing".into());
        }
        if let Some(Open { kind: Collection::Mapping { awaits_value: false, .. }, .. }) = self.open.last() {
            return self.key(anchor, json, plain);
        }
        self.separate()?;
        let start = self.out.len();
        self.out.extend_from_slice(json);
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, start..self.out.len());
        }
        self.finish_merge()
    }

    fn key(&mut self, anchor: Option<String>, json: &[u8], plain: bool) -> Result<(), String> {
        let text: String = match json.first() {
            Some(b'"') => serde_json::from_slice(json).map_err(|error| error.to_string())?,
            Some(b'{' | b'[') | None => return Err(NO_KEY.into()),
            Some(b'n') => return Err("unsupported map key of type: %!s(<nil>), key: <nil>".into()),
            // Numbers and booleans become strings.
            Some(_) => String::from_utf8_lossy(json).into_owned(),
        };
        let Some(Open { kind: Collection::Mapping { keys, awaits_value, merging, .. }, filled, .. }) =
            self.open.last_mut()
        else {
            return Err("a key outside of a mapping".into());
        };
        *awaits_value = true;
        if plain && text == "<<" {
            *merging = Some(self.out.len());
            return Ok(());
        }
        if std::mem::replace(filled, true) {
            self.out.push(b',');
        }
        let start = self.out.len();
        write_string(text.as_bytes(), &mut self.out);
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, start..self.out.len());
        }
        self.out.push(b':');
        if keys.contains(&text) && self.repeated.len() < MOST_TOLD {
            self.repeated.push(format!("line {}: key {} already set in map", self.line, quote(&text)));
        }
        keys.insert(text);
        Ok(())
    }

    /// The value of a `<<` key was just written: take it back and keep it for the end of its mapping.
    fn finish_merge(&mut self) -> Result<(), String> {
        let Some(Open { kind: Collection::Mapping { merging, merges, .. }, .. }) = self.open.last_mut()
        else {
            return Ok(());
        };
        let Some(start) = merging.take() else { return Ok(()) };
        let merged = self.out.split_off(start);
        // Anchors within are lost with it.
        self.anchors.retain(|_, range| range.end <= start);
        self.waiting += merged.len();
        merges.push(merged);
        Ok(())
    }

    fn begin(&mut self, anchor: Option<String>, kind: Collection) -> Result<(), String> {
        self.separate()?;
        let start = self.out.len();
        self.out.push(if matches!(kind, Collection::Sequence) { b'[' } else { b'{' });
        self.open.push(Open { anchor, start, kind, filled: false });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        match &mut open.kind {
            Collection::Sequence => self.out.push(b']'),
            Collection::Mapping { keys, merges, .. } => {
                for merged in std::mem::take(merges) {
                    self.waiting -= merged.len();
                    self.merge(&merged, keys, &mut open.filled)?;
                }
                self.out.push(b'}');
            }
        }
        if let Some(anchor) = open.anchor {
            self.anchors.insert(anchor, open.start..self.out.len());
        }
        self.finish_merge()
    }

    /// Adds the members of a mapping, or of a list of mappings, whose keys are not there yet.
    fn merge(&mut self, merged: &[u8], keys: &mut HashSet<String>, filled: &mut bool) -> Result<(), String> {
        const NO_MAP: &str = "yaml: map merge requires map or sequence of maps as the value";
        if merged.first() == Some(&b'[') {
            let elements: Vec<&serde_json::value::RawValue> =
                serde_json::from_slice(merged).map_err(|_| NO_MAP.to_owned())?;
            return elements
                .iter()
                .try_for_each(|element| self.merge(element.get().as_bytes(), keys, filled));
        }
        for member in member_spans(merged, None).map_err(|_| NO_MAP.to_owned())?.members {
            if keys.contains(&*member.name) {
                continue;
            }
            if std::mem::replace(filled, true) {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&merged[member.name_start..member.value.end]);
            keys.insert(member.name.into_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(yaml: &str) -> String {
        String::from_utf8(to_json(yaml.as_bytes()).unwrap()).unwrap()
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
    fn aliases_and_merge_keys_are_expanded() {
        assert_eq!(json("a: &x {b: 1}\nc: *x\n"), r#"{"a":{"b":1},"c":{"b":1}}"#);
        assert_eq!(
            json("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n"),
            r#"{"a":{"b":1,"c":2},"d":{"c":3,"b":1}}"#
        );
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
            ("a: !!int x", "cannot decode !!str `x` as a !!int"),
            ("a: !!bool 1", "cannot decode !!int `1` as a !!bool"),
            ("a: !!binary x", "!!binary value contains invalid base64 data"),
            ("[a]: !!int x\nb: [", "line 2: did not find expected node content"),
        ] {
            assert_eq!(to_json(bad.as_bytes()).unwrap_err(), format!("yaml: {told}"), "{bad}");
        }
    }
}
