//! `fieldPath` of rules and other paths of definitions: JSON paths of fields and keys only.
//!
//! Semantics and wording of `ValidFieldPath` of apiextensions-apiserver `pkg/apiserver/schema/cel/validation.go`.

use super::Node;
use super::node::Additional;

/// A path as faults tell it, and the schema of what it leads to.
pub(super) struct Found<'n> {
    pub path: String,
    pub node: &'n Node,
}

const NO_FIELD: &str = "does not refer to a valid field";
const END: &str = "unexpected end of JSON path";

/// Follows a path like `.spec['a.b'].c` through a schema.
pub(super) fn parse<'n>(path: &str, node: &'n Node) -> Result<Found<'n>, String> {
    let mut found = Found { path: String::new(), node };
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

impl Found<'_> {
    fn step(&mut self, name: &str) -> Result<(), String> {
        if !self.node.properties.is_empty() {
            self.node = self.node.property(name.as_bytes()).ok_or(NO_FIELD)?;
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(name);
            return Ok(());
        }
        match &self.node.additional {
            Additional::Schema(values) => {
                self.node = values;
                self.path.push_str(&format!("[{name}]"));
                Ok(())
            }
            _ => Err(NO_FIELD.to_owned()),
        }
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
