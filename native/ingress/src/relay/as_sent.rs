//! The relay's reading and writing without connections, for fuzz targets.

pub use super::request::MOST_HEADERS as MOST_OF_A_REQUEST;
use super::request::{self, Judged};
pub use super::response::MOST_HEADERS as MOST_OF_AN_ANSWER;
use super::{end_head, response};
use crate::headers::Forwarded;

/// What a destination gets of a client's `bytes`, and how many of them that takes; None where they are not for the relay.
pub fn request(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let forwarded = Forwarded::new(([10, 0, 0, 7], 55).into(), 80, false);
    let judged = request::judge(bytes, |plain| {
        let mut out = Vec::new();
        plain.write(&forwarded, &mut out);
        (out, plain.length)
    });
    if let Judged::Plain(made) = judged { Some(made) } else { None }
}

/// What a client gets of a destination's `bytes` when `step` of the body come at a time; None where they are no answer,
/// or not a whole one.
pub fn answer(bytes: &[u8], to_head: bool, step: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let head = response::read(bytes, to_head, &mut out).ok()??;
    if head.status < 200 {
        return None;
    }
    let mut content = head.content;
    end_head(false, &mut out);
    for piece in bytes[head.length..].chunks(step.max(1)) {
        if content.take(piece, &mut out).ok()?.done {
            return Some(out);
        }
    }
    match content.take(b"", &mut out) {
        Ok(taken) if taken.done => {}
        _ => content.closed(&mut out).ok()?,
    }
    Some(out)
}
