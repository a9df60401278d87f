//! YAML bodies, turned into JSON before decoding, with the scalars of go-yaml v2 as upstream has them.
//!
//! Aliases are copied, so the output is bounded: a bomb of aliases ends with an error, not with the memory.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::escapes::write_string;
use super::json_in_yaml::reads_the_same;
use super::scan::MAX_DEPTH;
use super::spans::member_spans;
use crate::go::json_float;

/// JSON is at most a few times as long as YAML without aliases, and bodies are at most 3 MiB.
const MAX_OUTPUT: usize = 12 * 1024 * 1024;
const MOST_TOLD: usize = 100;

/// Converts the first document. Errors are worded for people.
pub(crate) fn to_json(input: &[u8]) -> Result<Vec<u8>, String> {
    to_json_telling(input).map(|(json, _)| json)
}

/// The same, with the keys that a mapping has twice: `line 4: key "a" already set in map`.
pub(crate) fn to_json_telling(input: &[u8]) -> Result<(Vec<u8>, Vec<String>), String> {
    if reads_the_same(input) {
        return Ok((input.to_vec(), Vec::new()));
    }
    let text = std::str::from_utf8(input).map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())?;
    let mut writer = Writer::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| format!("yaml: line {}: {}", error.marker().line(), error.info().to_owned()))?;
        let done = matches!(event, Event::DocumentEnd);
        writer.line = span.start.line();
        writer.event(event).map_err(|problem| format!("yaml: line {}: {problem}", span.start.line()))?;
        if done {
            break;
        }
    }
    if writer.out.is_empty() {
        writer.out.extend_from_slice(b"null");
    }
    Ok((writer.out, writer.repeated))
}

/// A collection being written.
struct Open {
    anchor: usize,
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
    anchors: HashMap<usize, Range<usize>>,
    /// Copies made of merged mappings, which are not part of `out` while they wait.
    waiting: usize,
    /// Of the event being written.
    line: usize,
    repeated: Vec<String>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let suffix = tag.as_ref().map(|tag| tag.suffix.as_str());
                let json = scalar(&text, style, suffix)?;
                self.value(anchor, &json, style == ScalarStyle::Plain)
            }
            Event::Alias(anchor) => {
                let Some(range) = self.anchors.get(&anchor).cloned() else {
                    return Err("an anchor contains itself".into());
                };
                let copy = self.out[range].to_vec();
                self.value(0, &copy, false)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, Collection::Sequence),
            Event::MappingStart(anchor, _) => self.begin(
                anchor,
                Collection::Mapping {
                    keys: HashSet::new(),
                    awaits_value: false,
                    merging: None,
                    merges: Vec::new(),
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    /// Writes what separates the next value from the one before. Err if a key is due instead.
    fn separate(&mut self) -> Result<(), String> {
        match self.open.last_mut() {
            None => Ok(()),
            Some(Open { kind: Collection::Mapping { awaits_value, .. }, .. }) => {
                if !std::mem::take(awaits_value) {
                    return Err("a mapping key must be a scalar".into());
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

    fn value(&mut self, anchor: usize, json: &[u8], plain: bool) -> Result<(), String> {
        if self.out.len() + self.waiting + json.len() > MAX_OUTPUT {
            return Err("document contains excessive aliasing".into());
        }
        if let Some(Open { kind: Collection::Mapping { awaits_value: false, .. }, .. }) = self.open.last() {
            return self.key(anchor, json, plain);
        }
        self.separate()?;
        let start = self.out.len();
        self.out.extend_from_slice(json);
        if anchor != 0 {
            self.anchors.insert(anchor, start..self.out.len());
        }
        self.finish_merge()
    }

    fn key(&mut self, anchor: usize, json: &[u8], plain: bool) -> Result<(), String> {
        let text: String = match json.first() {
            Some(b'"') => serde_json::from_slice(json).map_err(|error| error.to_string())?,
            Some(b'{' | b'[') | None => return Err("a mapping key must be a scalar".into()),
            // Numbers, booleans and null become strings.
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
        if anchor != 0 {
            self.anchors.insert(anchor, start..self.out.len());
        }
        self.out.push(b':');
        if keys.contains(&text) && self.repeated.len() < MOST_TOLD {
            self.repeated.push(format!("line {}: key {text:?} already set in map", self.line));
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

    fn begin(&mut self, anchor: usize, kind: Collection) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
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
        if open.anchor != 0 {
            self.anchors.insert(open.anchor, open.start..self.out.len());
        }
        self.finish_merge()
    }

    /// Adds the members of a mapping, or of a list of mappings, whose keys are not there yet.
    fn merge(&mut self, merged: &[u8], keys: &mut HashSet<String>, filled: &mut bool) -> Result<(), String> {
        const NO_MAP: &str = "map merge requires map or sequence of maps as the value";
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

fn scalar(text: &str, style: ScalarStyle, tag: Option<&str>) -> Result<Vec<u8>, String> {
    let mut quoted = Vec::new();
    write_string(text.as_bytes(), &mut quoted);
    let is_text = match tag {
        Some("str") | Some("binary") => true,
        Some("int") | Some("float") | Some("bool") | Some("null") => false,
        _ => style != ScalarStyle::Plain,
    };
    if is_text {
        return Ok(quoted);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(b"null".to_vec()),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(b"true".to_vec());
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(b"false".to_vec());
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan"
        | ".NaN" | ".NAN" => return Err(format!("{text} is no number of JSON")),
        _ => {}
    }
    Ok(number(text).unwrap_or(quoted))
}

/// Integers in any of go-yaml's bases, and decimal floats.
fn number(text: &str) -> Option<Vec<u8>> {
    let first = *text.as_bytes().first()?;
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return None;
    }
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
    };
    let radix = |prefix: &str, base| {
        digits.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, base).ok())
    };
    let octal = || {
        let is_octal = digits.len() > 1 && digits.starts_with('0');
        is_octal.then(|| u64::from_str_radix(digits, 8).ok()).flatten()
    };
    let is_decimal = digits == "0" || !digits.starts_with('0');
    let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let decimal = || (is_decimal && is_digits).then(|| digits.parse::<u64>().ok()).flatten();
    let integer =
        radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8)).or_else(octal).or_else(decimal);
    if let Some(value) = integer {
        let sign = if negative && value != 0 { "-" } else { "" };
        return Some(format!("{sign}{value}").into_bytes());
    }
    let is_float =
        digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value = plain.parse::<f64>().ok().filter(|value| is_float && value.is_finite())?;
    Some(json_float(value).into_bytes())
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
        for bad in ["a: [", "a: b: c", "{a: b", "? [x]\n: y", "a: *nowhere"] {
            assert!(to_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
