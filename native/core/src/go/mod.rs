//! How Go's standard library prints and parses what clients see of it: values in messages, durations.

mod duration;
mod print;

pub(crate) use duration::parse_duration;
pub(crate) use print::{float, marshalled, quote, shown};
