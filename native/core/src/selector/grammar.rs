//! The grammar of label selectors in query parameters: k8s.io/apimachinery `pkg/labels/selector.go`.
//!
//! ```text
//! selector    = requirement *("," requirement)
//! requirement = ["!"] KEY | KEY ("=" | "==" | "!=" | ">" | "<") [VALUE] | KEY ("in" | "notin") "(" [VALUE *("," [VALUE])] ")"
//! ```
//! "in" and "notin" are ordinary words where a key or value is expected.

use std::collections::BTreeSet;

use super::SelectorError;
use super::label::{Operator, Requirement};
use super::names::label_key_problems;
use crate::go::quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Comma,
    Not,
    Operator(Operator),
    Word,
    Unknown,
    End,
}

struct Item {
    token: Token,
    text: String,
}

pub fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { items: scan(text), position: 0 };
    parser.selector().map_err(SelectorError)
}

/// Splits the text into words and symbols; whitespace separates and is dropped.
fn scan(text: &str) -> Vec<Item> {
    let bytes = text.as_bytes();
    let (mut items, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        // A NUL ends the text, as it does upstream.
        match bytes[at] {
            0 => break,
            byte if is_space(byte) => at += 1,
            byte if is_symbol(byte) => {
                let (item, end) = scan_symbol(text, at);
                items.push(item);
                at = end;
            }
            _ => {
                let word = |byte: u8| byte != 0 && !is_symbol(byte) && !is_space(byte);
                let end = bytes[at..]
                    .iter()
                    .position(|byte| !word(*byte))
                    .map_or(bytes.len(), |length| at + length);
                items.push(scan_word(&text[at..end]));
                at = end;
            }
        }
    }
    items.push(Item { token: Token::End, text: String::new() });
    items
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_symbol(byte: u8) -> bool {
    matches!(byte, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn scan_word(word: &str) -> Item {
    let token = match word {
        "in" => Token::Operator(Operator::In),
        "notin" => Token::Operator(Operator::NotIn),
        _ => Token::Word,
    };
    Item { token, text: word.to_owned() }
}

/// The longest run of symbol characters that grows from one known symbol into the next ("!" into "!=").
fn scan_symbol(text: &str, start: usize) -> (Item, usize) {
    let bytes = text.as_bytes();
    let (mut end, mut known) = (start, None);
    while end < bytes.len() && is_symbol(bytes[end]) {
        match symbol(&text[start..=end]) {
            Some(token) => known = Some(token),
            None if known.is_some() => break,
            None => {}
        }
        end += 1;
    }
    let literal = text[start..end].to_owned();
    match known {
        Some(token) => (Item { token, text: literal }, end),
        None => {
            (Item { token: Token::Unknown, text: format!("error expected: keyword found '{literal}'") }, end)
        }
    }
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        "(" => Token::Open,
        ")" => Token::Close,
        "," => Token::Comma,
        "!" => Token::Not,
        "=" => Token::Operator(Operator::Equals),
        "==" => Token::Operator(Operator::DoubleEquals),
        "!=" => Token::Operator(Operator::NotEquals),
        ">" => Token::Operator(Operator::GreaterThan),
        "<" => Token::Operator(Operator::LessThan),
        _ => return None,
    })
}

struct Parser {
    items: Vec<Item>,
    position: usize,
}

impl Parser {
    /// The token at hand; the two operators that are words count as words.
    fn peek(&self) -> (Token, &str) {
        let item = &self.items[self.position.min(self.items.len() - 1)];
        match item.token {
            Token::Operator(Operator::In | Operator::NotIn) => (Token::Word, &item.text),
            token => (token, &item.text),
        }
    }

    fn take(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let taken = (token, text.to_owned());
        self.position += 1;
        taken
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Word | Token::Not, _) => {
                    let requirement = self
                        .requirement()
                        .map_err(|error| format!("unable to parse requirement: {error}"))?;
                    requirements.push(requirement);
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => {
                    return Err(format!("found '{text}', expected: !, identifier, or 'end of string'"));
                }
            }
            match self.take() {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => {
                    if let (token, text) = self.peek()
                        && !matches!(token, Token::Word | Token::Not)
                    {
                        return Err(format!("found '{text}', expected: identifier after ','"));
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.take();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.take();
        }
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let problems = label_key_problems(&key);
        if !problems.is_empty() {
            return Err(format!("<nil>: Invalid value: {}: {}", quote(&key), problems.join("; ")));
        }
        let alone = matches!(self.peek().0, Token::End | Token::Comma);
        let (operator, values) = match (negated, alone) {
            (true, _) => (Operator::DoesNotExist, BTreeSet::new()),
            (false, true) => (Operator::Exists, BTreeSet::new()),
            (false, false) => {
                let operator = self.operator()?;
                let values = match operator {
                    Operator::In | Operator::NotIn => self.values()?,
                    _ => BTreeSet::from([self.exact_value()?]),
                };
                (operator, values)
            }
        };
        Requirement::new(&key, operator, values).map_err(|error| error.0)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let item = &self.items[self.position.min(self.items.len() - 1)];
        self.position += 1;
        match item.token {
            Token::Operator(operator) => Ok(operator),
            _ => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", item.text)),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        match self.take() {
            (Token::Open, _) => {}
            (_, text) => return Err(format!("found '{text}' expected: '('")),
        }
        match self.peek() {
            (Token::Word | Token::Comma, text) => {
                let first = text.to_owned();
                let values = self.value_list()?;
                match self.take() {
                    (Token::Close, _) => Ok(values),
                    _ => Err(format!("found '{first}', expected: ')'")),
                }
            }
            (Token::Close, _) => {
                self.position += 1;
                Ok(BTreeSet::from([String::new()]))
            }
            (_, text) => Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    /// Words between commas; nothing between two of them is the empty value.
    fn value_list(&mut self) -> Result<BTreeSet<String>, String> {
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                (Token::Word, text) => {
                    values.insert(text);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.take() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }
}
