//! How Go's standard library prints and parses what clients see of it: values in messages, durations, URLs.

mod base64;
mod duration;
mod float;
mod netip;
mod print;
mod url;

pub(crate) use base64::decode_base64_url;
pub(crate) use duration::{duration_text, parse_duration};
pub(crate) use float::parse_float;
pub(crate) use netip::parse_addr;
pub(crate) use print::{float, json_float, marshalled, quote, shown};
pub(crate) use url::Url;
