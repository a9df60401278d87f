//! Tokens of the Common Expression Language.

use std::sync::Arc;

use super::ast::Literal;
use super::source::Faults;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(Arc<str>),
    /// A name in backquotes, which the language has and Kubernetes does not take.
    Quoted,
    Literal(Literal),
    /// The integer literal that is one only behind a minus.
    MostNegative,
    /// An integer literal that is none, whether with a minus or without.
    TooGreat,
    /// `in`, operators and brackets.
    Symbol(&'static str),
    End,
}

/// Longest first, so that `<=` is no `<`.
const SYMBOLS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ",", ".", "(", ")",
    "[", "]", "{", "}",
];

/// A token, the offset in characters where it begins, and its text.
#[derive(Clone, Debug)]
pub(crate) struct Spanned<'s> {
    pub token: Token,
    pub offset: u32,
    pub text: &'s str,
}

/// All tokens, the last of which is [`Token::End`]. What is no token is told and left out.
pub(crate) fn tokens<'s>(source: &'s str, faults: &mut Faults) -> Vec<Spanned<'s>> {
    let mut lexer = Lexer { rest: source, offset: 0, faults };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let (offset, before) = (lexer.offset, lexer.rest);
        let Some(token) = lexer.next() else { continue };
        let text = &before[..before.len() - lexer.rest.len()];
        let done = token == Token::End;
        tokens.push(Spanned { token, offset, text });
        if done {
            return tokens;
        }
    }
}

struct Lexer<'s, 'f> {
    rest: &'s str,
    offset: u32,
    faults: &'f mut Faults,
}

impl<'s> Lexer<'s, '_> {
    fn take(&mut self, bytes: usize) -> &'s str {
        let (head, rest) = self.rest.split_at(bytes);
        self.offset += head.chars().count() as u32;
        self.rest = rest;
        head
    }

    fn skip_space(&mut self) {
        loop {
            let blank = self
                .rest
                .find(|c: char| !matches!(c, '\t' | ' ' | '\r' | '\n' | '\x0c'))
                .unwrap_or(self.rest.len());
            self.take(blank);
            if !self.rest.starts_with("//") {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(end);
        }
    }

    /// None for what is no token.
    fn next(&mut self) -> Option<Token> {
        let Some(first) = self.rest.chars().next() else { return Some(Token::End) };
        if let Some(prefix) = string_prefix(self.rest) {
            return self.string(prefix);
        }
        if first.is_ascii_digit()
            || (first == '.' && self.rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            return Some(self.number());
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Some(self.word());
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol)) {
            self.take(symbol.len());
            return Some(Token::Symbol(symbol));
        }
        if first == '`' {
            let end = self.rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || "_.-/ ".contains(c)));
            return match end.filter(|end| *end > 0 && self.rest[1 + end..].starts_with('`')) {
                Some(end) => {
                    self.take(end + 2);
                    Some(Token::Quoted)
                }
                None => self.unknown(end.map_or(self.rest.len(), |end| end + 1)),
            };
        }
        // Half an operator is told with what follows it.
        self.unknown(if matches!(first, '=' | '&' | '|') { 1 } else { 0 })
    }

    /// Something that begins like a token for so many bytes, and then goes wrong.
    fn unknown(&mut self, begins: usize) -> Option<Token> {
        let wrong = self.rest[begins..].chars().next().map_or(0, char::len_utf8);
        let offset = self.offset;
        let text = self.take(begins + wrong);
        let text = text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
        self.faults.add(Some(offset), format!("Syntax error: token recognition error at: '{text}'"));
        None
    }

    fn word(&mut self) -> Token {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        match self.take(end.unwrap_or(self.rest.len())) {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Symbol("in"),
            name => Token::Ident(name.into()),
        }
    }

    fn number(&mut self) -> Token {
        let start = self.offset;
        let bytes = self.rest.as_bytes();
        if self.rest.starts_with("0x") && bytes.get(2).is_some_and(u8::is_ascii_hexdigit) {
            let digits = bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let text = self.take(2 + digits);
            return self.integer(start, &text[2..], 16);
        }
        let digits = |from: usize| {
            bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let mut length = digits(0);
        let mut float = false;
        if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
            length += 1 + digits(length + 1);
            float = true;
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(length + 1 + sign);
            if exponent > 0 {
                length += 1 + sign + exponent;
                float = true;
            }
        }
        let text = self.take(length);
        if !float {
            return self.integer(start, text, 10);
        }
        let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
        if value.is_none() {
            self.faults.add(Some(start), "invalid double literal".to_owned());
        }
        Token::Literal(Literal::Double(value.unwrap_or_default()))
    }

    fn integer(&mut self, start: u32, digits: &str, radix: u32) -> Token {
        let value = u64::from_str_radix(digits, radix);
        if self.rest.starts_with(['u', 'U']) {
            self.take(1);
            if value.is_err() {
                self.faults.add(Some(start), "invalid uint literal".to_owned());
            }
            return Token::Literal(Literal::Uint(value.unwrap_or_default()));
        }
        match value {
            Ok(value) if value <= i64::MAX as u64 => Token::Literal(Literal::Int(value as i64)),
            Ok(value) if value == 1 << 63 => Token::MostNegative,
            _ => Token::TooGreat,
        }
    }

    fn string(&mut self, prefix: Prefix) -> Option<Token> {
        let start = self.offset;
        let body = &self.rest[prefix.length..];
        let quotes = if body.starts_with("\"\"\"") || body.starts_with("'''") { 3 } else { 1 };
        let length = match end_of_string(&body[quotes..], &body[..quotes], prefix.raw) {
            Ok(length) => length,
            // What was taken for the beginning is a name, or an empty string, and then something else.
            Err(_) if prefix.length > 0 => return Some(self.word()),
            Err(_) if quotes == 3 => {
                self.take(2);
                return Some(Token::Literal(Literal::String("".into())));
            }
            Err(wrong) => return self.unknown(quotes + wrong),
        };
        let text = self.take(prefix.length + 2 * quotes + length);
        let inner = &text[prefix.length + quotes..][..length];
        let inner = inner.replace("\r\n", "\n").replace('\r', "\n");
        let bytes = if prefix.raw { Ok(inner.into_bytes()) } else { unescape(&inner, prefix.bytes) };
        let bytes = bytes.unwrap_or_else(|problem| {
            self.faults.add(Some(start), problem);
            Vec::new()
        });
        Some(Token::Literal(if prefix.bytes {
            Literal::Bytes(bytes.into())
        } else {
            Literal::String(String::from_utf8_lossy(&bytes).into())
        }))
    }
}

struct Prefix {
    length: usize,
    raw: bool,
    bytes: bool,
}

/// Of a string at the beginning of `text`, if there is one.
fn string_prefix(text: &str) -> Option<Prefix> {
    let bytes = text.as_bytes();
    let is = |at: usize, letter: u8| bytes.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&letter));
    let quoted = |at: usize| matches!(bytes.get(at), Some(b'"' | b'\''));
    let (length, raw, is_bytes) = if is(0, b'b') && is(1, b'r') {
        (2, true, true)
    } else if is(0, b'b') {
        (1, false, true)
    } else if is(0, b'r') {
        (1, true, false)
    } else {
        (0, false, false)
    };
    quoted(length).then_some(Prefix { length, raw, bytes: is_bytes })
}

/// The bytes up to the closing quote; an error where the string goes wrong.
fn end_of_string(text: &str, quote: &str, raw: bool) -> Result<usize, usize> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if text[at..].starts_with(quote) {
            return Ok(at);
        }
        if quote.len() == 1 && matches!(c, '\n' | '\r') {
            break;
        }
        at += c.len_utf8();
        if c == '\\' && !raw {
            at += escape_length(&text[at..]).map_err(|wrong| at + wrong)?;
        }
    }
    Err(at)
}

/// How long the escape is that `text` begins with, behind its backslash; an error where it goes wrong.
fn escape_length(text: &str) -> Result<usize, usize> {
    let bytes = text.as_bytes();
    let (digits, radix) = match bytes.first() {
        Some(b'x' | b'X') => (2, 16),
        Some(b'u') => (4, 16),
        Some(b'U') => (8, 16),
        Some(b'0'..=b'3') => (2, 8),
        Some(byte) if plain_escape(char::from(*byte)).is_some() => return Ok(1),
        _ => return Err(0),
    };
    let good = bytes[1..].iter().take(digits).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    if good == digits { Ok(1 + digits) } else { Err(1 + good) }
}

fn unescape(text: &str, is_bytes: bool) -> Result<Vec<u8>, String> {
    const UNABLE: &str = "unable to unescape string";
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().ok_or(UNABLE)?;
        rest = &rest[escape.len_utf8()..];
        let (digits, radix) = match escape {
            'x' | 'X' => (2, 16),
            'u' if !is_bytes => (4, 16),
            'U' if !is_bytes => (8, 16),
            '0'..='3' => (2, 8),
            _ => {
                out.push(plain_escape(escape).ok_or(UNABLE)?);
                continue;
            }
        };
        let octal = radix == 8;
        let fault = if octal { "unable to unescape octal sequence in string" } else { UNABLE };
        let text = rest.get(..digits).filter(|text| text.chars().all(|c| c.is_digit(radix))).ok_or(fault)?;
        let high = if octal { escape.to_digit(8).unwrap_or_default() * 64 } else { 0 };
        let code = high + u32::from_str_radix(text, radix).map_err(|_| fault)?;
        rest = &rest[digits..];
        if is_bytes {
            out.push(code as u8);
        } else {
            let c = char::from_u32(code).ok_or("invalid unicode code point")?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(out)
}

fn plain_escape(escape: char) -> Option<u8> {
    Some(match escape {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '\'' | '"' | '`' | '?' => escape as u8,
        _ => return None,
    })
}
