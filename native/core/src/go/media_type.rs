//! Which media type a Content-Type names, as Go's `mime.ParseMediaType` reads it.

use std::borrow::Cow;
use std::collections::HashMap;

/// The media type in lower case, without its parameters; None for what Go cannot read, be it because of a parameter.
pub fn media_type(text: &str) -> Option<String> {
    let (base, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
    let media = base.trim().to_lowercase();
    let (kind, below) = token(&media);
    let is_one = match below.strip_prefix('/').map(token) {
        None => below.is_empty(),
        Some((subtype, after)) => !subtype.is_empty() && after.is_empty(),
    };
    if kind.is_empty() || !is_one {
        return None;
    }
    let mut given = HashMap::new();
    while !rest.trim_start().is_empty() {
        let Some((name, value, after)) = parameter(rest) else {
            // A semicolon may be left over.
            return (rest.trim() == ";").then_some(media);
        };
        // Twice is once too many, unless it is the same.
        if given.insert(name, value.clone()).is_some_and(|before| before != value) {
            return None;
        }
        rest = after;
    }
    Some(media)
}

/// `; name=value`: its name, its value, and what follows.
fn parameter(text: &str) -> Option<(String, Cow<'_, str>, &str)> {
    let (name, rest) = token(text.trim_start().strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let (value, after) = match rest.strip_prefix('"') {
        Some(inside) => quoted(inside)?,
        None => {
            Some(token(rest)).filter(|(value, _)| !value.is_empty()).map(|(v, after)| (v.into(), after))?
        }
    };
    (!name.is_empty()).then(|| (name.to_lowercase(), value, after))
}

/// A quoted string, behind its opening quote. Only what could not stand there otherwise is escaped.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value.into(), &text[at + 1..])),
            '\r' | '\n' => return None,
            '\\' => match characters.next_if(|(_, next)| is_special(*next)) {
                Some((_, special)) => value.push(special),
                None => value.push('\\'),
            },
            _ => value.push(character),
        }
    }
    None
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|one: char| !one.is_ascii_graphic() || is_special(one));
    text.split_at(end.unwrap_or(text.len()))
}

/// Of RFC 2045.
fn is_special(character: char) -> bool {
    r#"()<>@,;:\"/[]?="#.contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_read_with_whatever_parameters_it_has() {
        for text in [
            "application/json",
            " Application/JSON ",
            "application/json;",
            "application/json; charset=utf-8",
            "application/json;a=b;A=b; c = d",
            r#"application/json; a="b;\"c" ; d=e;"#,
        ] {
            assert_eq!(media_type(text).as_deref(), Some("application/json"), "{text}");
        }
        assert_eq!(media_type("application").as_deref(), Some("application"));
    }

    #[test]
    fn what_is_no_media_type_or_has_a_parameter_that_is_none_is_not_read() {
        for text in [
            "",
            "/json",
            "application/",
            "application/json/x",
            "application/json x",
            "application/json;x",
            "application/json;;",
            "application/json;=x",
            "application/json;a=",
            "application/json;a=\"b",
            "application/json;a=b;a=c",
            "application/json;a=b c",
        ] {
            assert_eq!(media_type(text), None, "{text}");
        }
    }
}
