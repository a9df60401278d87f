//! Bodies of answers on their way: taken out of a destination's framing and put into one of our own, so that nothing of
//! the former reaches a client. Pure.

use std::io::Write;

/// What a chunk's extensions, or an answer's trailers, may come to. Both are dropped.
const MOST_IGNORED: u32 = 16 << 10;

/// Where an answer's body ends (RFC 9112, 6.3).
#[derive(Debug)]
pub enum Content {
    None,
    /// Bytes to come.
    Length(u64),
    Chunked(Chunks),
    /// With the connection.
    UntilClose,
}

/// What has been made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many belong to the body.
    pub consumed: usize,
    /// How many of them are content.
    pub content: usize,
    pub done: bool,
}

impl Content {
    /// Puts what `bytes` bring into `out`, in the framing for the client.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Taken, &'static str> {
        match self {
            Self::None => Ok(Taken { consumed: 0, content: 0, done: true }),
            Self::Length(left) => {
                let consumed = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(&bytes[..consumed]);
                *left -= consumed as u64;
                Ok(Taken { consumed, content: consumed, done: *left == 0 })
            }
            Self::Chunked(chunks) => {
                let taken = chunks.take(bytes, out)?;
                if taken.done {
                    out.extend_from_slice(LAST_CHUNK);
                }
                Ok(taken)
            }
            Self::UntilClose => {
                write_chunk(bytes, out);
                Ok(Taken { consumed: bytes.len(), content: bytes.len(), done: false })
            }
        }
    }

    /// `length` bytes of a body of known length were passed on as they are.
    pub fn skip(&mut self, length: usize) -> Result<Taken, &'static str> {
        let Self::Length(left) = self else { return Err("the answer's body has no length") };
        *left = left.saturating_sub(length as u64);
        Ok(Taken { consumed: length, content: length, done: *left == 0 })
    }

    /// The destination has closed its connection: was that the end?
    pub fn closed(&self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Self::UntilClose => {
                out.extend_from_slice(LAST_CHUNK);
                Ok(())
            }
            _ => Err("the answer broke off"),
        }
    }

    /// Is it told to the client in chunks?
    pub fn is_chunked(&self) -> bool {
        matches!(self, Self::Chunked(_) | Self::UntilClose)
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An empty one would be the last.
fn write_chunk(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    // Into memory: cannot fail.
    let _ = write!(out, "{:x}\r\n", bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Reads the chunked coding (RFC 9112, 7.1) strictly: lines end in CRLF, and nothing stands in them that is not allowed.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// Of the chunk's size; then bytes of it that are still to come.
    left: u64,
    digits: u32,
    ignored: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a line after the last chunk.
    Trailer,
    TrailerRest,
    TrailerEnd,
    LastEnd,
    Done,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Taken, &'static str> {
        let (mut at, mut content) = (0, 0);
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                write_chunk(&bytes[at..at + part], out);
                at += part;
                content += part;
                self.left -= part as u64;
                if self.left == 0 {
                    self.state = State::DataReturn;
                }
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(Taken { consumed: at, content, done: self.state == State::Done })
    }

    /// Any byte that is not of a chunk's data.
    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        let next = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => return self.digit(byte),
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';' | b' ' | b'\t') if self.digits > 0 => State::Extension,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.left > 0 { State::Data } else { State::Trailer }
            }
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::LastEnd,
            (State::TrailerRest, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastEnd, b'\n') => State::Done,
            (State::Extension, _) => self.ignore(byte, State::Extension)?,
            (State::Trailer | State::TrailerRest, _) => self.ignore(byte, State::TrailerRest)?,
            _ => return Err("the answer's chunks are malformed"),
        };
        Ok(next)
    }

    fn digit(&mut self, byte: u8) -> Result<State, &'static str> {
        self.digits += 1;
        if self.digits > 15 {
            return Err("a chunk of the answer is too large");
        }
        let digit = (byte as char).to_digit(16).unwrap_or(0);
        self.left = self.left * 16 + u64::from(digit);
        Ok(State::Size)
    }

    fn ignore(&mut self, byte: u8, state: State) -> Result<State, &'static str> {
        self.ignored += 1;
        if self.ignored > MOST_IGNORED {
            return Err("the answer's trailers or chunk extensions are too long");
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            Ok(state)
        } else {
            Err("the answer's chunks are malformed")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that came out, and what of the input was left.
    fn through(
        mut content: Content,
        input: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, usize, bool), &'static str> {
        let (mut out, mut consumed) = (Vec::new(), 0);
        for piece in input.chunks(step.max(1)) {
            let taken = content.take(piece, &mut out)?;
            consumed += taken.consumed;
            if taken.done {
                return Ok((out, consumed, true));
            }
        }
        Ok((out, consumed, false))
    }

    fn decoded(chunked: &[u8]) -> Vec<u8> {
        let mut rest = chunked;
        let mut content = Vec::new();
        loop {
            let line = rest.windows(2).position(|pair| pair == b"\r\n").expect("line");
            let size =
                usize::from_str_radix(std::str::from_utf8(&rest[..line]).expect("text"), 16).expect("hex");
            rest = &rest[line + 2..];
            content.extend_from_slice(&rest[..size]);
            assert_eq!(&rest[size..size + 2], b"\r\n");
            rest = &rest[size + 2..];
            if size == 0 {
                assert!(rest.is_empty());
                return content;
            }
        }
    }

    fn chunked() -> Content {
        Content::Chunked(Chunks::default())
    }

    #[test]
    fn a_length_takes_its_bytes_and_leaves_the_rest() {
        let (out, consumed, done) = through(Content::Length(3), b"abcdef", 2).expect("taken");
        assert_eq!((out.as_slice(), consumed, done), (&b"abc"[..], 3, true));
    }

    #[test]
    fn extensions_and_trailers_are_dropped() {
        let input =
            b"3;a=\"b\"\r\nabc\r\n0A \r\n0123456789\r\n0\r\nContent-Length: 7\r\nX: y\r\n\r\nHTTP/1.1";
        for step in [1, 2, 7, input.len()] {
            let (out, consumed, done) = through(chunked(), input, step).expect("taken");
            assert_eq!(decoded(&out), b"abc0123456789");
            assert_eq!((consumed, done), (input.len() - "HTTP/1.1".len(), true));
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for input in [
            &b"\r\n"[..],
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"-3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3;a\nb\r\nabc\r\n",
            b"3;a\r\rabc\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n\rX",
            b"1000000000000000\r\n",
        ] {
            assert!(through(chunked(), input, 1).is_err(), "{}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn what_ends_with_the_connection_is_told_in_chunks() {
        let mut content = Content::UntilClose;
        let mut out = Vec::new();
        content.take(b"abc", &mut out).expect("taken");
        content.take(b"", &mut out).expect("taken");
        content.closed(&mut out).expect("an end");
        assert_eq!(decoded(&out), b"abc");
        assert!(Content::Length(1).closed(&mut out).is_err());
        assert!(chunked().closed(&mut out).is_err());
    }

    proptest! {
        #[test]
        fn chunks_carry_the_same_however_they_arrive(parts: Vec<Vec<u8>>, step in 1usize..40) {
            let mut input = Vec::new();
            parts.iter().for_each(|part| write_chunk(part, &mut input));
            input.extend_from_slice(LAST_CHUNK);
            let (out, consumed, done) = through(chunked(), &input, step).expect("well formed");
            prop_assert_eq!(decoded(&out), parts.concat());
            prop_assert_eq!((consumed, done), (input.len(), true));
        }
    }
}
