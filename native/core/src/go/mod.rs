//! How Go's standard library prints and parses what clients see of it: values in messages, durations.

mod duration;
mod print;

pub(crate) use duration::{duration_text, parse_duration};
pub(crate) use print::{float, float_with_exponent_from, marshalled, number, quote, shown};
