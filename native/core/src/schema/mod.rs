//! The schema engine: types compiled from OpenAPI definitions, and a strict decoder driven by them.

pub mod canonical;
pub mod custom;
mod decode;
mod error;
mod escapes;
mod faults;
mod json_in_yaml;
mod libyaml;
mod model;
mod plain;
mod quantity;
mod refusal;
mod request;
mod scan;
mod spans;
pub(crate) mod time;
mod yaml;
mod yaml_scalars;

pub use decode::{Decoded, FieldValidation};
pub use error::{Kind as ErrorKind, Rejection, SchemaError};
pub(crate) use escapes::write_content;
pub use escapes::write_string;
pub use model::{CompileError, Field, KindId, ListKey, ListKind, Schemas, Shape, Struct, StructId, Type};
pub(crate) use quantity::nanos as quantity_nanos;
pub use scan::{MAX_DEPTH, json_object_fault, with_gos_numbers};
pub(crate) use scan::{check_json, repeated_fields};
pub(crate) use spans::member_spans;
pub(crate) use time::{civil_from_days, days_from_civil, parse_date, parse_local, parse_rfc3339};
pub(crate) use yaml::to_json_telling as yaml_to_json;
