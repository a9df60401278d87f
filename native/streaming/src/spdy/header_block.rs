//! Header blocks: names and values with their lengths, deflated in one stream for each direction of a connection.

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::SpdyError;

/// What both sides' deflate streams know from the start (Draft 3.1, 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// An inflated block; ours are some hundred bytes.
const LARGEST: usize = 64 * 1024;

/// Lower case names; several values of a name are joined by a null byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value of a lower case name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(own, _)| own == name)?;
        value.split('\0').next()
    }

    fn parse(mut block: Bytes) -> Option<Self> {
        let count = block.try_get_u32().ok()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = text(&mut block)?.to_ascii_lowercase();
            headers.push((name, text(&mut block)?));
        }
        Some(Self(headers))
    }

    fn write(&self) -> Vec<u8> {
        let mut block = Vec::new();
        let number = |block: &mut Vec<u8>, value: usize| {
            block.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
        };
        number(&mut block, self.0.len());
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            number(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
        block
    }
}

fn text(block: &mut Bytes) -> Option<String> {
    let length = usize::try_from(block.try_get_u32().ok()?).ok()?;
    if length > block.len() {
        return None;
    }
    Some(String::from_utf8_lossy(&block.split_to(length)).into_owned())
}

pub(super) struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Inflater {
    /// Blocks must come in the order they were sent in.
    pub fn headers(&mut self, mut deflated: &[u8]) -> Result<Headers, SpdyError> {
        let mut block = Vec::with_capacity(4 * 1024);
        loop {
            let before = self.0.total_in();
            match self.0.decompress_vec(deflated, &mut block, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| SpdyError::HeaderBlock)?;
                }
                Err(_) => return Err(SpdyError::HeaderBlock),
            }
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            deflated = deflated.get(read..).unwrap_or_default();
            if block.len() == block.capacity() {
                if block.len() >= LARGEST {
                    return Err(SpdyError::HeaderBlock);
                }
                block.reserve(block.len());
            } else if deflated.is_empty() {
                break;
            } else if read == 0 {
                return Err(SpdyError::HeaderBlock);
            }
        }
        Headers::parse(block.into()).ok_or(SpdyError::HeaderBlock)
    }
}

pub(super) struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::best(), true);
        // Refused only in the middle of a stream.
        let _ = compress.set_dictionary(DICTIONARY);
        Self(compress)
    }
}

impl Deflater {
    pub fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let block = headers.write();
        let mut rest = block.as_slice();
        let mut deflated = Vec::with_capacity(block.len() + 64);
        loop {
            let before = self.0.total_in();
            let _ = self.0.compress_vec(rest, &mut deflated, FlushCompress::Sync);
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(read..).unwrap_or_default();
            if rest.is_empty() && deflated.len() < deflated.capacity() {
                return deflated;
            }
            deflated.reserve(deflated.len() + 64);
        }
    }
}
