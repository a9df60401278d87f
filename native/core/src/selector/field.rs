//! Field selectors: `field=value`, `field==value`, `field!=value`, joined by commas; backslash escapes `\`, `,` and `=`.
//! Follows k8s.io/apimachinery `pkg/fields/selector.go`.

use std::fmt;

use super::{Lookup, SelectorError};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldRequirement {
    pub field: Box<str>,
    pub value: Box<str>,
    /// The field must not have the value.
    pub negated: bool,
}

/// Requirements that must all hold. None of them: everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn of(requirements: Vec<FieldRequirement>) -> Self {
        Self { requirements }
    }

    /// Reads the query parameter form; errors in upstream's words.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let Some((field, negated, value)) = split_term(term) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            let value = unescape(value)?.into_boxed_str();
            requirements.push(FieldRequirement { field: field.into(), value, negated });
        }
        Ok(Self { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// A field that is absent counts as empty.
    pub fn matches<F: Lookup + ?Sized>(&self, fields: &F) -> bool {
        self.requirements
            .iter()
            .all(|term| (fields.lookup(&term.field).unwrap_or_default() == &*term.value) != term.negated)
    }
}

/// At commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// At the first operator: (field, negated, escaped value).
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.match_indices(['!', '=']) {
        let rest = &term[at..];
        if let Some(value) = rest.strip_prefix("!=") {
            return Some((&term[..at], true, value));
        }
        if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
            return Some((&term[..at], false, value));
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    if !text.contains(['\\', ',', '=']) {
        return Ok(text.to_owned());
    }
    let (mut value, mut characters) = (String::with_capacity(text.len()), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                let code = u32::from(character);
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {code}"
                )));
            }
            _ => value.push(character),
        }
    }
    Ok(value)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.negated { "!=" } else { "=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(formatter, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}
