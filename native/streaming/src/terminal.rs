//! The size of a terminal, as clients tell it: a stream of JSON objects `{"Width": 80, "Height": 24}`.

use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::BytesMut;
use serde::Deserialize;

/// What may wait for the rest of an object; a size takes some thirty bytes.
const LONGEST: usize = 4 * 1024;

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Size {
    #[serde(rename = "Width", alias = "width")]
    pub width: u16,
    #[serde(rename = "Height", alias = "height")]
    pub height: u16,
}

/// Puts sizes together from pieces that need not begin or end where an object does.
#[derive(Default)]
pub struct Sizes {
    waiting: BytesMut,
    broken: bool,
}

impl Sizes {
    /// The last whole size in what has come so far; what is no size ends the reading of sizes.
    pub fn feed(&mut self, piece: &[u8]) -> Option<Size> {
        if self.broken {
            return None;
        }
        self.waiting.extend_from_slice(piece);
        let mut objects = serde_json::Deserializer::from_slice(&self.waiting).into_iter::<Size>();
        let mut last = None;
        let mut read = 0;
        for object in &mut objects {
            match object {
                Ok(size) => last = Some(size),
                Err(error) => {
                    self.broken = !error.is_eof();
                    break;
                }
            }
            read = read.max(1);
        }
        let consumed = if last.is_some() { objects.byte_offset() } else { 0 };
        let _ = self.waiting.split_to(consumed.min(self.waiting.len()));
        self.broken |= self.waiting.len() > LONGEST;
        last
    }
}

/// TIOCSWINSZ; the processes in the terminal's foreground get SIGWINCH. A refusal changes nothing and is ignored.
pub fn resize(terminal: BorrowedFd<'_>, size: Size) {
    let window = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request reads one winsize.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const window) };
}

#[cfg(test)]
mod tests {
    use super::{Size, Sizes};

    #[test]
    fn sizes_are_read_wherever_the_pieces_end() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.feed(br#"{"Width":80,"Hei"#), None);
        assert_eq!(
            sizes.feed(br#"ght":24}{"Width":100,"Height":30}{"W"#),
            Some(Size { width: 100, height: 30 })
        );
        assert_eq!(sizes.feed(br#"idth":1,"Height":2}"#), Some(Size { width: 1, height: 2 }));
    }

    #[test]
    fn what_is_no_size_ends_the_reading_of_sizes() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.feed(b"nonsense"), None);
        assert_eq!(sizes.feed(br#"{"Width":1,"Height":2}"#), None);
    }
}
