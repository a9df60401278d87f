//! The wire format: tags, varints, lengths. Faults are worded as by the code that Go generates for Kubernetes' types.

use super::Fault;

pub const VARINT: u8 = 0;
pub const FIXED64: u8 = 1;
pub const LENGTH: u8 = 2;
const GROUP: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// One field as it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Passed over: groups and 32 bits, which Kubernetes does not use.
    Other(u8),
}

impl Value<'_> {
    pub fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => VARINT,
            Self::Fixed64(_) => FIXED64,
            Self::Bytes(_) => LENGTH,
            Self::Other(wire_type) => wire_type,
        }
    }
}

/// The fields of a message's bytes.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Field number and value; None at the end. `message` is named in faults.
    pub fn field(&mut self, message: &str) -> Result<Option<(u32, Value<'a>)>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire_type = (tag & 7) as u8;
        // Go takes the lower half of the number for the field's.
        let number = (tag >> 3) as u32;
        if wire_type == GROUP_END {
            return Err(Fault::new(format!("proto: {message}: wiretype end group for non-group")));
        }
        if number == 0 || number > i32::MAX as u32 {
            let number = number as i32;
            return Err(Fault::new(format!("proto: {message}: illegal tag {number} (wire type {tag})")));
        }
        Ok(Some((number, self.value(wire_type)?)))
    }

    fn value(&mut self, wire_type: u8) -> Result<Value<'a>, Fault> {
        Ok(match wire_type {
            VARINT => Value::Varint(self.varint()?),
            FIXED64 => {
                let bytes = self.take(8)?;
                Value::Fixed64(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
            }
            LENGTH => {
                let length = self.varint()?;
                let length = i64::try_from(length)
                    .map_err(|_| Fault::new("proto: negative length found during unmarshaling"))?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            GROUP => {
                self.skip_group()?;
                Value::Other(GROUP)
            }
            FIXED32 => {
                self.take(4)?;
                Value::Other(FIXED32)
            }
            other => return Err(Fault::new(format!("proto: illegal wireType {other}"))),
        })
    }

    fn skip_group(&mut self) -> Result<(), Fault> {
        let mut depth = 1usize;
        while depth > 0 {
            match (self.varint()? & 7) as u8 {
                GROUP => depth += 1,
                GROUP_END => depth -= 1,
                wire_type => drop(self.value(wire_type)?),
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(Fault::cut_short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or_else(Fault::cut_short)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::new("proto: integer overflow"))
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn varint_length(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

pub fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, LENGTH);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, VARINT);
    put_varint(out, value);
}

/// A field with what `fill` writes, its length in front. Most messages are short: room for one byte is left, and what
/// was written moved when it needs more.
pub fn put_nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, number, LENGTH);
    out.push(0);
    let start = out.len();
    fill(out)?;
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return Ok(());
    }
    let more = varint_length(length) - 1;
    out.resize(out.len() + more, 0);
    out.copy_within(start..start + length, start + more);
    let mut rest = length;
    for byte in &mut out[start - 1..start + more] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[start + more - 1] &= 0x7f;
    Ok(())
}
