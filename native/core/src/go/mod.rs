//! How Go prints and parses what clients see of it: values in messages, durations, URLs, hashes in names.

mod base64;
mod duration;
mod float;
mod media_type;
mod named;
mod netip;
mod pod_template;
mod print;
mod quantity_print;
mod url;

pub(crate) use base64::{decode_base64_url, decode_raw_base64_url};
pub use duration::{duration_text, parse_duration};
pub(crate) use float::parse_float;
pub use media_type::media_type;
pub(crate) use named::{Underlying, named_type, underlying};
pub(crate) use netip::parse_addr;
pub use pod_template::{fnv1, printed as printed_template, template_hash};
pub use print::quote;
pub(crate) use print::{float, json_float, json_kind, marshalled, marshalled_text, shown};
pub(crate) use url::Url;
pub use url::escaped;
