//! Names of properties as expressions write them: what is no identifier is escaped.
//!
//! Semantics of apiserver `pkg/cel/escaping.go`.

use std::borrow::Cow;

use super::parser::RESERVED;

/// Words with a meaning, beside those of `parser::RESERVED`.
const MEANT: [&str; 4] = ["true", "false", "null", "in"];

const ESCAPES: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

fn is_word(name: &str) -> bool {
    MEANT.contains(&name) || RESERVED.contains(&name)
}

/// Whether a variable can be named so.
pub(super) fn is_identifier(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !is_word(name)
}

/// The escaped form of one of the language's own words.
pub(super) fn reserved(name: &str) -> Option<String> {
    is_word(name).then(|| format!("__{name}__"))
}

/// None where a property cannot be named at all.
pub(crate) fn escape(name: &str) -> Option<Cow<'_, str>> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(escaped) = reserved(name) {
        return Some(escaped.into());
    }
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.contains("__") {
        return Some(name.into());
    }
    let mut escaped = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((plain, escape)) = ESCAPES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            escaped.push_str(escape);
            rest = &rest[plain.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            escaped.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(escaped.into())
}

/// None where no property is written so.
pub(crate) fn unescape(name: &str) -> Option<Cow<'_, str>> {
    if !name.contains("__") {
        return Some(name.into());
    }
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("__") {
        let inside = &rest[at + 2..];
        let word = &inside[..inside.find('_').unwrap_or(inside.len())];
        if word.is_empty() || !inside[word.len()..].starts_with("__") {
            plain.push_str(&rest[..at + 1]);
            rest = &rest[at + 1..];
            continue;
        }
        plain.push_str(&rest[..at]);
        let whole = &rest[at..at + word.len() + 4];
        match ESCAPES.iter().find(|(_, escape)| *escape == whole) {
            Some((original, _)) => plain.push_str(original),
            None if is_word(word) && whole.len() == name.len() => plain.push_str(word),
            None => return None,
        }
        rest = &rest[at + whole.len()..];
    }
    plain.push_str(rest);
    Some(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_letters_and_digits_and_no_words_of_the_language() {
        for (name, good) in [("a", true), ("_A9", true), ("self", true), ("", false), ("9a", false)] {
            assert_eq!(is_identifier(name), good, "{name}");
        }
        for name in ["in", "namespace", "ä", "a-b", "a.b"] {
            assert!(!is_identifier(name), "{name}");
        }
    }

    #[test]
    fn names_are_escaped_and_found_again() {
        for (name, escaped) in [
            ("a", "a"),
            ("a_b", "a_b"),
            ("_a", "_a"),
            ("namespace", "__namespace__"),
            ("a-b.c/d", "a__dash__b__dot__c__slash__d"),
            ("a__b", "a__underscores__b"),
            ("self", "self"),
            ("int", "int"),
        ] {
            assert_eq!(escape(name).unwrap(), escaped);
            assert_eq!(unescape(escaped).unwrap(), name);
        }
        for unnameable in ["", "1a", "a b", "$a", "ä"] {
            assert_eq!(escape(unnameable), None);
        }
        assert_eq!(unescape("__foo__"), None);
        assert_eq!(unescape("a__b").unwrap(), "a__b");
    }
}
