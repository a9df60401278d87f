//! A cursor over JSON bytes that copies them to its output, except for what the decoder drops or replaces.
//!
//! Output is made lazily: while nothing was dropped or replaced, nothing is copied and the input is the output.

mod numbers;
mod repeats;

use std::borrow::Cow;

use super::error::{Kind, SchemaError};
use super::escapes::{unescape, write_string};
use super::plain::plain_prefix;

pub(crate) use numbers::check_float;
pub use numbers::with_gos_numbers;
pub(crate) use repeats::repeated_fields;

/// How deep bodies may nest. Kubernetes allows 10,000 levels; every parser behind this one has a lower limit.
pub const MAX_DEPTH: usize = 500;

pub(crate) struct Cursor<'a> {
    input: &'a [u8],
    pos: usize,
    output: Vec<u8>,
    /// Input before this is in `output`, or was dropped.
    settled: usize,
    depth: usize,
    /// Numbers of free JSON are written as Go writes the values they stand for.
    canonical_numbers: bool,
}

/// A position in the input together with the state of the output there.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pos: usize,
    written: usize,
    settled: usize,
}

/// A JSON string within the input: its bytes between the quotes, and whether they hold escapes.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub raw: &'a [u8],
    pub escaped: bool,
}

impl<'a> Text<'a> {
    pub fn decode(&self) -> Cow<'a, [u8]> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    /// Input was checked to be UTF-8, so nothing is lost here.
    pub fn to_str(self) -> Cow<'a, str> {
        match self.decode() {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

type Scan<T> = Result<T, SchemaError>;

impl<'a> Cursor<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, pos: 0, output: Vec::new(), settled: 0, depth: 0, canonical_numbers: false }
    }

    /// Everything decoded so far, as output. Call at the end.
    pub fn finish(mut self) -> Cow<'a, [u8]> {
        if self.settled == 0 {
            return Cow::Borrowed(&self.input[..self.pos]);
        }
        self.output.extend_from_slice(&self.input[self.settled..self.pos]);
        Cow::Owned(self.output)
    }

    fn settle(&mut self, upto: usize) {
        if upto > self.settled {
            if self.output.capacity() == 0 {
                self.output.reserve(self.input.len() + 64);
            }
            self.output.extend_from_slice(&self.input[self.settled..upto]);
            self.settled = upto;
        }
    }

    /// The current position, to come back to when what follows turns out to be unwanted.
    pub fn mark(&self) -> Mark {
        Mark { pos: self.pos, written: self.output.len(), settled: self.settled }
    }

    /// The input read since then.
    pub fn read_since(&self, mark: &Mark) -> &'a [u8] {
        &self.input[mark.pos..self.pos]
    }

    /// Leaves what lies between the mark and the current position out of the output.
    pub fn drop_since(&mut self, mark: Mark) {
        self.output.truncate(mark.written);
        self.settled = mark.settled;
        self.settle(mark.pos);
        self.settled = self.pos;
    }

    /// Puts `text` where the input since the mark would have been.
    pub fn replace_since(&mut self, mark: Mark, text: &[u8]) {
        self.drop_since(mark);
        self.output.extend_from_slice(text);
    }

    /// Adds `text` at the current position, which must not be the very start.
    pub fn insert(&mut self, text: &[u8]) {
        self.replace_since(self.mark(), text);
    }

    pub fn position(&self) -> usize {
        self.pos
    }

    /// The input of the value that begins at `start`, as far as it is one.
    pub fn value_at(&self, start: usize) -> &'a [u8] {
        let mut ahead = Cursor::new(&self.input[start..]);
        // What is wrong with it is told by who reads it in its place.
        let _ = ahead.any_value();
        &self.input[start..start + ahead.pos]
    }

    pub fn peek(&self) -> Option<u8> {
        self.input.get(self.pos).copied()
    }

    #[inline]
    pub fn skip_space(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.drop_space();
        }
    }

    #[cold]
    fn drop_space(&mut self) {
        let start = self.mark();
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
        if self.pos > start.pos {
            self.drop_since(start);
        }
    }

    pub fn advance(&mut self) {
        self.pos += 1;
    }

    pub fn enter(&mut self) -> Scan<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SchemaError::syntax("exceeded max depth"));
        }
        Ok(())
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    pub fn unexpected(&self, context: &str) -> SchemaError {
        match self.peek() {
            None => SchemaError::syntax("unexpected end of JSON input"),
            Some(byte) => SchemaError::syntax(format!("invalid character {} {context}", go_quote(byte))),
        }
    }

    pub fn expect(&mut self, byte: u8, context: &str) -> Scan<()> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(context));
        }
        self.pos += 1;
        Ok(())
    }

    /// A string at the current position, rewritten to its shortest escapes where it has others.
    pub fn string(&mut self) -> Scan<Text<'a>> {
        let start = self.mark();
        let (text, canonical) = self.scan_string()?;
        if !canonical {
            let mut rewritten = Vec::with_capacity(text.raw.len() + 2);
            write_string(&unescape(text.raw), &mut rewritten);
            self.replace_since(start, &rewritten);
        }
        Ok(text)
    }

    fn scan_string(&mut self) -> Scan<(Text<'a>, bool)> {
        self.expect(b'"', "looking for beginning of object key string")?;
        let start = self.pos;
        let (mut escaped, mut canonical) = (false, true);
        loop {
            self.pos += plain_prefix(&self.input[self.pos..]);
            let Some(&byte) = self.input.get(self.pos) else {
                return Err(SchemaError::syntax("unexpected end of JSON input"));
            };
            match byte {
                b'"' => {
                    let raw = &self.input[start..self.pos];
                    self.pos += 1;
                    return Ok((Text { raw, escaped }, canonical));
                }
                b'\\' => {
                    escaped = true;
                    canonical &= self.escape()?;
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    /// Steps over one escape; says whether it is the form that canonical JSON has.
    fn escape(&mut self) -> Scan<bool> {
        self.pos += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f') => {
                self.pos += 1;
                Ok(true)
            }
            Some(b'/') => {
                self.pos += 1;
                Ok(false)
            }
            Some(b'u') => {
                self.pos += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.unexpected("in \\u hexadecimal character escape"));
                    }
                    self.pos += 1;
                }
                Ok(false)
            }
            _ => Err(self.unexpected("in string escape code")),
        }
    }

    pub fn literal(&mut self, word: &'static str) -> Scan<()> {
        for &byte in word.as_bytes() {
            if self.peek() != Some(byte) {
                let context = format!("in literal {word} (expecting {:?})", char::from(byte));
                return Err(self.unexpected(&context));
            }
            self.pos += 1;
        }
        Ok(())
    }

    /// Any value, without its spaces. Numbers must fit a float, as Go demands of free JSON.
    pub fn any_value(&mut self) -> Scan<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => {
                self.enter()?;
                self.advance();
                self.any_members()?;
                self.leave();
                Ok(())
            }
            Some(b'[') => {
                self.enter()?;
                self.advance();
                self.any_elements()?;
                self.leave();
                Ok(())
            }
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') if self.canonical_numbers => self.canonical_number(),
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                if number.len() > 300 || number.iter().any(|byte| matches!(byte, b'e' | b'E')) {
                    check_float(number)?;
                }
                Ok(())
            }
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn any_members(&mut self) -> Scan<()> {
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.advance();
            return Ok(());
        }
        loop {
            self.string()?;
            self.skip_space();
            self.expect(b':', "after object key")?;
            self.skip_space();
            self.any_value()?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b'}') => {
                    self.advance();
                    return Ok(());
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
            self.skip_space();
        }
    }

    fn any_elements(&mut self) -> Scan<()> {
        self.skip_space();
        if self.peek() == Some(b']') {
            self.advance();
            return Ok(());
        }
        loop {
            self.any_value()?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b']') => {
                    self.advance();
                    return Ok(());
                }
                _ => return Err(self.unexpected("after array element")),
            }
            self.skip_space();
        }
    }
}

/// A byte as Go's scanner quotes it in messages.
fn go_quote(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".into(),
        b'"' => "'\"'".into(),
        b'\n' => "'\\n'".into(),
        b'\r' => "'\\r'".into(),
        b'\t' => "'\\t'".into(),
        0x20..=0x7e | 0x80.. => format!("'{}'", char::from(byte)),
        _ => format!("'\\x{byte:02x}'"),
    }
}

/// The keys of one map seen so far.
#[derive(Default)]
pub(super) struct Keys<'a> {
    few: Vec<Cow<'a, [u8]>>,
    many: Option<rustc_hash::FxHashSet<Cow<'a, [u8]>>>,
}

impl<'a> Keys<'a> {
    const FEW: usize = 16;

    pub fn repeats(&mut self, key: Text<'a>) -> bool {
        let key = key.decode();
        if let Some(many) = &mut self.many {
            return !many.insert(key);
        }
        if self.few.contains(&key) {
            return true;
        }
        self.few.push(key);
        if self.few.len() == Self::FEW {
            self.many = Some(self.few.drain(..).collect());
        }
        false
    }
}

/// Checks that a body is one JSON value of bounded depth, in UTF-8.
pub(crate) fn check_json(input: &[u8]) -> Result<(), SchemaError> {
    check_syntax(input)?;
    match std::str::from_utf8(input) {
        Ok(_) => Ok(()),
        Err(error) => Err(SchemaError::syntax(format!("invalid UTF-8 at byte {}", error.valid_up_to()))),
    }
}

/// The same for bytes that need be no UTF-8.
pub(crate) fn check_syntax(input: &[u8]) -> Result<(), SchemaError> {
    // Go looks at bytes, one after the other, and names one that does not belong there as a character.
    let text: Cow<'_, [u8]> = match std::str::from_utf8(input) {
        Ok(_) => input.into(),
        Err(_) => input.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes().into(),
    };
    let mut cursor = Cursor::new(&text);
    cursor.skip_space();
    let checked = cursor.any_value().and_then(|()| at_end(&mut cursor));
    checked.map_err(|problem| SchemaError { kind: Kind::Syntax, ..problem })
}

/// What Go says when this text is to become a map of anything; None when it can (null can, too).
pub fn json_object_fault(input: &[u8]) -> Option<String> {
    if let Err(fault) = check_json(input) {
        return Some(fault.message);
    }
    let found = match input.trim_ascii_start().first() {
        Some(b'{' | b'n') | None => return None,
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(_) => "number",
    };
    Some(format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"))
}

pub(super) fn at_end(cursor: &mut Cursor<'_>) -> Result<(), SchemaError> {
    cursor.skip_space();
    match cursor.peek() {
        None => Ok(()),
        Some(_) => Err(cursor.unexpected("after top-level value")),
    }
}
