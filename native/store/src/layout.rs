//! Everything that is in the file, declared once: sub-databases, their keys and records, encode beside decode.
//!
//! ```text
//! current   key                → mod revision, create revision, value or nothing
//! log       revision           → type, time, previous revision, key, value
//! meta      name               → revision | compacted | indexed | format
//! ```
//!
//! A value is written once, into `log`. A record of `current` without a value (no value is empty) has that of its
//! revision's record there; it gets a value of its own when a compaction takes that record, and then the object is one
//! that has lasted. In format 1 each record of `current` had its value.
//!
//! `current` may lack what was written after `indexed` (0 where that is not there): such keys stand as the log has them.
//! In formats 1 and 2 it lacked nothing.
//!
//! Numbers are big-endian, so that byte order is numeric order. A record of `log` at or below `compacted` is no history
//! any more: it is the value a later record replaced, kept so that reads at a revision in the window find it.

use std::io::{self, Write};

pub const CURRENT: &str = "current";
pub const LOG: &str = "log";
pub const META: &str = "meta";

pub const META_REVISION: &[u8] = b"revision";
pub const META_COMPACTED: &[u8] = b"compacted";
pub const META_INDEXED: &[u8] = b"indexed";
pub const META_FORMAT: &[u8] = b"format";
pub const FORMAT: &str = "kubecore/3";
/// What are read, too, and become `FORMAT` when it is opened.
pub const FORMER: [&str; 2] = ["kubecore/1", "kubecore/2"];

/// LMDB's compiled-in limit; longer keys cannot be stored.
pub const MAX_KEY_BYTES: usize = 511;

/// Types of the records of `log`.
const PUT: u8 = 0;
const DELETE: u8 = 1;

pub fn number(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// The number at the beginning; 0 of what is too short to be one.
pub fn decode_number(raw: &[u8]) -> u64 {
    raw.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// A record of `current`. Its value is empty where that is the one in `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current<'a> {
    pub revision: u64,
    pub created: u64,
    pub value: &'a [u8],
}

impl<'a> Current<'a> {
    /// How many bytes `write` writes.
    pub fn length(&self) -> usize {
        16 + self.value.len()
    }

    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&number(self.revision))?;
        out.write_all(&number(self.created))?;
        out.write_all(self.value)
    }

    pub fn decode(raw: &'a [u8]) -> Option<Self> {
        let (revision, rest) = raw.split_at_checked(8)?;
        let (created, value) = rest.split_at_checked(8)?;
        Some(Self { revision: decode_number(revision), created: decode_number(created), value })
    }
}

/// A record of `log`; `time` is that of the commit in unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    pub deleted: bool,
    pub time: u64,
    pub previous: u64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Logged<'a> {
    /// In place of what `out` holds.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(if self.deleted { DELETE } else { PUT });
        out.extend_from_slice(&number(self.time));
        out.extend_from_slice(&number(self.previous));
        let length = u16::try_from(self.key.len()).expect("keys are at most MAX_KEY_BYTES long");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
    }

    pub fn decode(raw: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = raw.split_first()?;
        let (time, rest) = rest.split_at_checked(8)?;
        let (previous, rest) = rest.split_at_checked(8)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (key, value) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        Some(Self {
            deleted: kind == DELETE,
            time: decode_number(time),
            previous: decode_number(previous),
            key,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_decode_to_what_was_encoded(
            numbers: [u64; 2],
            deleted: bool,
            key in prop::collection::vec(any::<u8>(), 0..MAX_KEY_BYTES),
            value: Vec<u8>,
        ) {
            let mut out = Vec::new();
            let current = Current { revision: numbers[0], created: numbers[1], value: &value };
            current.write(&mut out).unwrap();
            prop_assert_eq!(out.len(), current.length());
            prop_assert_eq!(Current::decode(&out), Some(current));
            let logged = Logged { deleted, time: numbers[0], previous: numbers[1], key: &key, value: &value };
            logged.encode(&mut out);
            prop_assert_eq!(Logged::decode(&out), Some(logged));
            prop_assert_eq!(decode_number(&number(numbers[0])), numbers[0]);
        }

        #[test]
        fn torn_records_are_none(raw in prop::collection::vec(any::<u8>(), 0..16)) {
            prop_assert_eq!(Current::decode(&raw), None);
            prop_assert_eq!(Logged::decode(&raw), None);
        }
    }
}
