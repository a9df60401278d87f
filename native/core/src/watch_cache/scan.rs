//! Reads what the cache needs to know of an object out of its JSON in one pass, skipping all the rest unparsed.

use smallvec::SmallVec;

use crate::selector::{Lookup, Pairs};

/// Start and end of a piece of the object's bytes.
pub type Span = (u32, u32);

/// A short string of an object: mostly a piece of its bytes, its own copy where the JSON escapes characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Span(Span),
    Owned(Box<str>),
}

impl Text {
    pub fn read<'a>(&'a self, json: &'a [u8]) -> &'a str {
        match self {
            Self::Owned(text) => text,
            Self::Span(span) => std::str::from_utf8(slice(json, *span)).unwrap_or_default(),
        }
    }
}

pub fn slice(json: &[u8], (start, end): Span) -> &[u8] {
    json.get(start as usize..end as usize).unwrap_or_default()
}

/// What the cache knows of an object besides its bytes.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The value of apiVersion with its quotes.
    pub api_version: Option<Span>,
    /// The whole metadata object.
    pub metadata: Option<Span>,
    /// metadata.resourceVersion without quotes.
    pub resource_version: Option<Span>,
    pub labels: Box<[(Text, Text)]>,
    /// Values of the selectable fields in the order they were declared.
    pub fields: Box<[Text]>,
}

/// An object's labels beside the bytes they are read from.
pub struct Labels<'a> {
    pub json: &'a [u8],
    pub pairs: &'a [(Text, Text)],
}

impl Lookup for Labels<'_> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(name, _)| name.read(self.json) == key)
            .map(|(_, value)| value.read(self.json))
    }
}

impl Pairs for Labels<'_> {
    fn all(&self, mut holds: impl FnMut(&str, &str) -> bool) -> bool {
        self.pairs.iter().all(|(key, value)| holds(key.read(self.json), value.read(self.json)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object as the API stores them: {problem} at byte {at}")]
pub struct ScanError {
    pub problem: &'static str,
    pub at: usize,
}

/// A selectable field: its label, where its value may be, and what it counts as when it is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    pub label: Box<str>,
    pointers: Vec<Box<str>>,
    default: Box<str>,
}

impl SelectableField {
    /// `pointer` is a JSON pointer, or several joined by "|" of which the first that holds something counts; a
    /// trailing "=value" is what the field is when none does, else it is empty.
    pub fn new(label: &str, pointer: &str) -> Self {
        let (pointers, default) = pointer.split_once('=').unwrap_or((pointer, ""));
        Self {
            label: label.into(),
            pointers: pointers.split('|').map(Into::into).collect(),
            default: default.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Nothing,
    ApiVersion,
    Metadata,
    ResourceVersion,
    Labels,
}

#[derive(Clone, Debug, Default)]
struct Node {
    children: Vec<(Box<[u8]>, Node)>,
    wanted: Wanted,
    /// The (field, alternative) whose value is here.
    values: Vec<(u16, u16)>,
}

impl Node {
    fn descend(&mut self, name: &str) -> &mut Node {
        let at =
            self.children.iter().position(|(known, _)| **known == *name.as_bytes()).unwrap_or_else(|| {
                self.children.push((name.as_bytes().into(), Node::default()));
                self.children.len() - 1
            });
        &mut self.children[at].1
    }

    fn child(&self, name: &[u8]) -> Option<&Node> {
        self.children.iter().find(|(known, _)| **known == *name).map(|(_, node)| node)
    }
}

/// The paths of a resource that are worth reading, compiled once.
#[derive(Clone, Debug)]
pub struct Scanner {
    root: Node,
    fields: Vec<SelectableField>,
}

impl Scanner {
    pub fn new(fields: Vec<SelectableField>) -> Self {
        let mut root = Node::default();
        root.descend("apiVersion").wanted = Wanted::ApiVersion;
        let metadata = root.descend("metadata");
        metadata.wanted = Wanted::Metadata;
        metadata.descend("resourceVersion").wanted = Wanted::ResourceVersion;
        metadata.descend("labels").wanted = Wanted::Labels;
        for (field, declared) in fields.iter().enumerate() {
            for (alternative, pointer) in declared.pointers.iter().enumerate() {
                let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
                let node = steps.fold(&mut root, |node, step| node.descend(&step));
                node.values.push((saturated(field), saturated(alternative)));
            }
        }
        Self { root, fields }
    }

    pub fn fields(&self) -> &[SelectableField] {
        &self.fields
    }

    /// One pass over `json`. What is skipped is only checked for balanced brackets and quotes.
    pub fn scan(&self, json: &[u8]) -> Result<Facts, ScanError> {
        if json.len() > u32::MAX as usize {
            return Err(ScanError { problem: "too large", at: json.len() });
        }
        let mut pass = Pass { json, at: 0, facts: Facts::default(), values: SmallVec::new() };
        pass.space();
        pass.walk(&self.root)?;
        pass.space();
        if pass.at != json.len() {
            return Err(pass.fail("something after the end of the object"));
        }
        let Pass { mut facts, values, .. } = pass;
        facts.fields = (0..self.fields.len()).map(|field| self.resolve(json, field, &values)).collect();
        Ok(facts)
    }

    fn resolve(&self, json: &[u8], field: usize, values: &[(u16, u16, Text)]) -> Text {
        values
            .iter()
            .filter(|(of, _, text)| usize::from(*of) == field && !text.read(json).is_empty())
            .min_by_key(|(_, alternative, _)| *alternative)
            .map_or_else(|| Text::Owned(self.fields[field].default.clone()), |(_, _, text)| text.clone())
    }
}

/// Appends the object without these of its members.
pub fn without_members(json: &[u8], unwanted: &[&str], out: &mut Vec<u8>) {
    let mut pass = Pass { json, at: 0, facts: Facts::default(), values: SmallVec::new() };
    let mut separator = b'{';
    pass.space();
    // What is stored has been scanned before.
    let _ = pass.members(|pass, (start, end)| {
        pass.skip()?;
        if !unwanted.iter().any(|name| name.as_bytes() == slice(json, (start, end))) {
            out.push(std::mem::replace(&mut separator, b','));
            out.extend_from_slice(&json[start as usize - 1..pass.at]);
        }
        Ok(())
    });
    out.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
}

fn saturated(value: usize) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

struct Pass<'a> {
    json: &'a [u8],
    at: usize,
    facts: Facts,
    values: SmallVec<[(u16, u16, Text); 8]>,
}

impl Pass<'_> {
    fn fail(&self, problem: &'static str) -> ScanError {
        ScanError { problem, at: self.at }
    }

    fn peek(&self) -> u8 {
        self.json.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), ScanError> {
        self.space();
        if self.peek() != byte {
            return Err(self.fail(problem));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Members of the object at hand, `each` being called at each value, which it must consume.
    fn members<F>(&mut self, mut each: F) -> Result<(), ScanError>
    where
        F: FnMut(&mut Self, Span) -> Result<(), ScanError>,
    {
        self.expect(b'{', "expected an object")?;
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != b'"' {
                return Err(self.fail("expected a member's name"));
            }
            let name = self.string()?;
            self.expect(b':', "expected ':'")?;
            each(self, name)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fail("expected ',' or '}'")),
            }
            self.space();
        }
    }

    fn walk(&mut self, node: &Node) -> Result<(), ScanError> {
        self.members(|pass, name| match node.child(slice(pass.json, name)) {
            Some(child) => pass.take(child),
            None => pass.skip(),
        })
    }

    fn take(&mut self, node: &Node) -> Result<(), ScanError> {
        let start = self.at;
        let is_object = self.peek() == b'{';
        if is_object && node.wanted == Wanted::Labels {
            self.labels()?;
        } else if is_object && !node.children.is_empty() {
            self.walk(node)?;
        } else {
            self.skip()?;
        }
        let span = (offset(start), offset(self.at));
        let is_string = self.json[start] == b'"';
        match node.wanted {
            Wanted::ApiVersion if is_string => self.facts.api_version = Some(span),
            Wanted::Metadata if is_object => self.facts.metadata = Some(span),
            Wanted::ResourceVersion if is_string => {
                self.facts.resource_version = Some((span.0 + 1, span.1 - 1))
            }
            _ => {}
        }
        if !node.values.is_empty() && !is_object && self.json[start] != b'[' {
            let text = if is_string { self.text((span.0 + 1, span.1 - 1)) } else { self.literal(span) };
            self.values
                .extend(node.values.iter().map(|(field, alternative)| (*field, *alternative, text.clone())));
        }
        Ok(())
    }

    fn labels(&mut self) -> Result<(), ScanError> {
        let mut labels: SmallVec<[(Text, Text); 8]> = SmallVec::new();
        self.members(|pass, name| {
            if pass.peek() != b'"' {
                return pass.skip();
            }
            let value = pass.string()?;
            labels.push((pass.text(name), pass.text(value)));
            Ok(())
        })?;
        self.facts.labels = labels.into_vec().into_boxed_slice();
        Ok(())
    }

    /// The content between quotes: its bytes, or decoded when something is escaped.
    fn text(&self, (start, end): Span) -> Text {
        let raw = slice(self.json, (start, end));
        if memchr::memchr(b'\\', raw).is_none() {
            return Text::Span((start, end));
        }
        let quoted = &self.json[start as usize - 1..=end as usize];
        Text::Owned(serde_json::from_slice::<String>(quoted).unwrap_or_default().into())
    }

    /// Numbers and booleans as they are written; null is nothing.
    fn literal(&self, span: Span) -> Text {
        if slice(self.json, span) == b"null" { Text::Owned("".into()) } else { Text::Span(span) }
    }

    /// The string at hand; returns what is between its quotes.
    fn string(&mut self) -> Result<Span, ScanError> {
        let start = self.at + 1;
        let mut from = start;
        loop {
            let Some(found) = quote_or_backslash(self.json, from) else {
                return Err(self.fail("a string without end"));
            };
            if self.json[found] == b'"' {
                self.at = found + 1;
                return Ok((offset(start), offset(found)));
            }
            from = found + 2;
        }
    }

    fn skip(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'{' | b'[' => self.skip_nested(),
            _ => {
                let start = self.at;
                while !matches!(self.peek(), 0 | b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') {
                    self.at += 1;
                }
                if self.at == start { Err(self.fail("expected a value")) } else { Ok(()) }
            }
        }
    }

    /// Without recursion: depth is the sender's to choose. Kinds of brackets are not told apart.
    fn skip_nested(&mut self) -> Result<(), ScanError> {
        let mut depth = 0usize;
        loop {
            let rest = self.json.get(self.at..).unwrap_or_default();
            let Some(found) = rest.iter().position(|byte| STRUCTURAL[usize::from(*byte)]) else {
                return Err(self.fail("brackets without end"));
            };
            self.at += found;
            match rest[found] {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                _ => depth -= 1,
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// Where the next of the two is. Most strings end within a few words, where calling memchr would cost more than looking.
fn quote_or_backslash(json: &[u8], mut from: usize) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    for _ in 0..8 {
        let Some(word) = json.get(from..).and_then(<[u8]>::first_chunk::<8>) else { break };
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        // A byte is zero where the top bit is borrowed into; the lowest such bit is always right.
        let zero = |value: u64| value.wrapping_sub(ONES) & !value & TOPS;
        let hits = zero(quote) | zero(backslash);
        if hits != 0 {
            return Some(from + hits.trailing_zeros() as usize / 8);
        }
        from += 8;
    }
    memchr::memchr2(b'"', b'\\', json.get(from..)?).map(|found| from + found)
}

fn offset(at: usize) -> u32 {
    // `scan` refuses what does not fit.
    at as u32
}

static STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 5 {
        table[b"\"{}[]"[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner() -> Scanner {
        Scanner::new(vec![
            SelectableField::new("spec.nodeName", "/spec/nodeName"),
            SelectableField::new("spec.unschedulable", "/spec/unschedulable=false"),
            SelectableField::new("source", "/source/component|/reportingComponent"),
        ])
    }

    fn field(json: &str, index: usize) -> String {
        scanner().scan(json.as_bytes()).expect("valid").fields[index].read(json.as_bytes()).to_owned()
    }

    #[test]
    fn labels_fields_and_positions_are_found_in_one_pass() {
        let json = concat!(
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{"app":"w\"eb","tier":"x"},"#,
            r#""annotations":{"labels":"{\"}"},"resourceVersion":"12"},"spec":{"nodeName":"n1","x":[{"nodeName":"no"}]}}"#
        );
        let facts = scanner().scan(json.as_bytes()).expect("valid");
        let labels = Labels { json: json.as_bytes(), pairs: &facts.labels };
        assert_eq!(labels.lookup("app"), Some("w\"eb"));
        assert_eq!(labels.lookup("tier"), Some("x"));
        assert_eq!(slice(json.as_bytes(), facts.resource_version.expect("there")), b"12");
        assert_eq!(slice(json.as_bytes(), facts.api_version.expect("there")), b"\"v1\"");
        assert_eq!(facts.fields[0].read(json.as_bytes()), "n1");
    }

    #[test]
    fn an_absent_field_is_empty_or_its_declared_default() {
        assert_eq!(field(r#"{"spec":{}}"#, 0), "");
        assert_eq!(field(r#"{"spec":{"nodeName":null}}"#, 0), "");
        assert_eq!(field(r#"{"spec":{}}"#, 1), "false");
        assert_eq!(field(r#"{"spec":{"unschedulable":true}}"#, 1), "true");
    }

    #[test]
    fn of_alternatives_the_first_that_holds_something_counts() {
        assert_eq!(field(r#"{"reportingComponent":"b","source":{"component":"a"}}"#, 2), "a");
        assert_eq!(field(r#"{"reportingComponent":"b","source":{"component":""}}"#, 2), "b");
    }

    #[test]
    fn what_is_no_object_is_refused_without_panic() {
        for bad in [
            "",
            "[]",
            "{",
            r#"{"a"}"#,
            r#"{"a":"}"#,
            r#"{"a":[}"#,
            r#"{"a":{}"#,
            "{} x",
            r#"{"metadata":"#,
            "\"",
            "{\"a\":\"\\",
        ] {
            assert!(scanner().scan(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn deep_nesting_is_skipped_without_recursion() {
        let json = format!(r#"{{"a":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(scanner().scan(json.as_bytes()).is_ok());
    }
}
