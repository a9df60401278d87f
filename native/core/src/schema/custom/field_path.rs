//! `fieldPath` of rules and other paths of definitions: JSON paths of fields and keys only.
//!
//! Semantics and wording of `ValidFieldPath` of apiextensions-apiserver `pkg/apiserver/schema/cel/validation.go`.

use super::Node;
use super::node::Additional;

/// A schema that paths lead through, compiled or as written.
pub(super) trait Traversed: Copy {
    fn has_properties(self) -> bool;
    fn property(self, name: &str) -> Option<Self>;
    /// Whether it says anything of undeclared properties, and their schema.
    fn additional(self) -> Option<Option<Self>>;
}

/// A path as faults tell it, and the schema of what it leads to; None for values of no schema.
pub(super) struct Found<S> {
    pub path: String,
    schema: Option<S>,
}

const NO_FIELD: &str = "does not refer to a valid field";
const END: &str = "unexpected end of JSON path";

/// Follows a path like `.spec['a.b'].c` through a schema.
pub(super) fn parse<S: Traversed>(path: &str, schema: S) -> Result<Found<S>, String> {
    let mut found = Found { path: String::new(), schema: Some(schema) };
    let mut rest = path;
    while !rest.is_empty() {
        match token(&mut rest) {
            "[" => {
                let quoted = expect(&mut rest)?;
                let name = unquoted(quoted)?;
                found.step(&name)?;
                match expect(&mut rest)? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => {
                let name = expect(&mut rest)?;
                found.step(name)?;
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl Traversed for &Node {
    fn has_properties(self) -> bool {
        !self.properties.is_empty()
    }

    fn property(self, name: &str) -> Option<Self> {
        Node::property(self, name.as_bytes())
    }

    fn additional(self) -> Option<Option<Self>> {
        match &self.additional {
            Additional::Undefined => None,
            _ => Some(self.additional_schema()),
        }
    }
}

impl<S: Traversed> Found<S> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        let schema = self.schema.ok_or(NO_FIELD)?;
        if schema.has_properties() {
            self.schema = Some(schema.property(name).ok_or(NO_FIELD)?);
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            return Ok(());
        }
        self.schema = schema.additional().ok_or(NO_FIELD)?;
        self.path.push_str(&format!("[{name}]"));
        Ok(())
    }
}

/// The next of `.`, `[`, `]`, a quoted name and what lies between.
fn token<'p>(rest: &mut &'p str) -> &'p str {
    let bytes = rest.as_bytes();
    let end = match bytes {
        [b'.' | b'[' | b']', ..] => 1,
        [b'\'', ..] => {
            let close = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
            close.map_or(bytes.len(), |at| at + 1)
        }
        _ => bytes.iter().position(|byte| matches!(byte, b'.' | b'[' | b']')).unwrap_or(bytes.len()),
    };
    let (token, after) = rest.split_at(end);
    *rest = after;
    token
}

fn expect<'p>(rest: &mut &'p str) -> Result<&'p str, String> {
    if rest.is_empty() { Err(END.to_owned()) } else { Ok(token(rest)) }
}

fn unquoted(token: &str) -> Result<String, String> {
    let inner = token
        .strip_prefix('\'')
        .and_then(|token| token.strip_suffix('\''))
        .ok_or_else(|| format!("expected single quoted string but got {token}"))?;
    let mut name = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            name.push(c);
            continue;
        }
        name.push(match characters.next() {
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some(c @ ('\'' | '\\')) => c,
            Some(other) => return Err(format!("invalid string literal: invalid escape char \\{other}")),
            None => '\\',
        });
    }
    Ok(name)
}
