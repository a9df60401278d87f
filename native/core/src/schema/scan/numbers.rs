//! Numbers: as they stand, and as Go writes what it has read them as.

use std::borrow::Cow;

use super::{Cursor, Scan};
use crate::go::json_float;
use crate::schema::SchemaError;

impl<'a> Cursor<'a> {
    /// A number at the current position, as written.
    pub fn number(&mut self) -> Scan<&'a [u8]> {
        let start = self.pos;
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        match self.peek() {
            Some(b'0') => self.pos += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.pos += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.pos += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(&self.input[start..self.pos])
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.pos += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Scan<()> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected(context));
        }
        self.digits();
        Ok(())
    }

    /// Any value, its numbers as Go writes them that has read the value into an interface: `2.0` is `2`.
    pub fn canonical_value(&mut self) -> Scan<()> {
        self.canonical_numbers = true;
        let read = self.any_value();
        self.canonical_numbers = false;
        read
    }

    /// A number: an integer of 64 bits, else a float in Go's form of it.
    pub fn canonical_number(&mut self) -> Scan<()> {
        let start = self.mark();
        let number = self.number()?;
        let is_integer = number.len() < 19 && number.iter().all(u8::is_ascii_digit);
        if is_integer {
            return Ok(());
        }
        let text = String::from_utf8_lossy(number);
        let written = match text.parse::<i64>() {
            Ok(integer) => integer.to_string(),
            Err(_) => match check_float(number)? {
                // A zero that is read anew has no sign.
                0.0 => "0".into(),
                float => json_float(float),
            },
        };
        if written != text {
            self.replace_since(start, written.as_bytes());
        }
        Ok(())
    }
}

/// JSON with its numbers as Go writes them that has read them into interfaces: integers of 64 bits, else floats.
pub fn with_gos_numbers(json: &[u8]) -> Result<Cow<'_, [u8]>, SchemaError> {
    let mut cursor = Cursor::new(json);
    cursor.skip_space();
    cursor.canonical_value()?;
    Ok(cursor.finish())
}

pub(crate) fn check_float(number: &[u8]) -> Result<f64, SchemaError> {
    let text = String::from_utf8_lossy(number);
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(SchemaError::typed(
            "",
            format!("json: cannot unmarshal number {text} into Go value of type float64"),
        )),
    }
}
