//! Conversions between types.

use super::super::show;
use super::super::time::{OVERFLOW as TIME_OVERFLOW, Timestamp};
use super::{Evaluated, Function, Machine, Text, Value, no_such_overload};
use crate::go;

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "bool" => to_bool,
        "bytes" => |machine, _, args| match args {
            [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
            [Value::String(text)] => {
                machine.allocate(text.as_str().len())?;
                Ok(Value::Bytes(text.as_str().as_bytes().into()))
            }
            _ => no_such_overload(),
        },
        "double" => to_double,
        "duration" => to_duration,
        "dyn" => |_, _, args| args.first().cloned().ok_or_else(|| "no such overload".into()),
        "int" => to_int,
        "string" => to_string,
        "timestamp" => to_timestamp,
        "type" => |_, _, args| match args {
            [value] => Ok(Value::Type(value.type_name().into())),
            _ => no_such_overload(),
        },
        "uint" => to_uint,
        _ => return None,
    })
}

fn failed<'a>(from: &str, to: &str) -> Evaluated<'a> {
    Err(format!("type conversion error from '{from}' to '{to}'").into())
}

fn to_bool<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [Value::String(text)] => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => failed("string", "bool"),
        },
        _ => no_such_overload(),
    }
}

fn to_int<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    const OVERFLOW: &str = "integer overflow";
    match args {
        [Value::Int(value)] => Ok(Value::Int(*value)),
        [Value::Uint(value)] => i64::try_from(*value).map(Value::Int).map_err(|_| OVERFLOW.into()),
        [Value::Double(value)] => {
            // The bounds themselves are excluded: they are not told from what lies beyond them.
            let fits = value.is_finite() && *value > i64::MIN as f64 && *value < i64::MAX as f64;
            if fits { Ok(Value::Int(*value as i64)) } else { Err(OVERFLOW.into()) }
        }
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(time)] => Ok(Value::Int(time.seconds)),
        [Value::String(text)] => match text.as_str().parse() {
            Ok(value) => Ok(Value::Int(value)),
            Err(_) => failed("string", "int"),
        },
        _ => no_such_overload(),
    }
}

fn to_uint<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    const OVERFLOW: &str = "unsigned integer overflow";
    match args {
        [Value::Uint(value)] => Ok(Value::Uint(*value)),
        [Value::Int(value)] => u64::try_from(*value).map(Value::Uint).map_err(|_| OVERFLOW.into()),
        [Value::Double(value)] => {
            let fits = value.is_finite() && *value >= 0.0 && *value < u64::MAX as f64;
            if fits { Ok(Value::Uint(*value as u64)) } else { Err(OVERFLOW.into()) }
        }
        [Value::String(text)] => match text.as_str().strip_prefix('+') {
            None => match text.as_str().parse() {
                Ok(value) => Ok(Value::Uint(value)),
                Err(_) => failed("string", "uint"),
            },
            Some(_) => failed("string", "uint"),
        },
        _ => no_such_overload(),
    }
}

fn to_double<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Double(value)] => Ok(Value::Double(*value)),
        [Value::Int(value)] => Ok(Value::Double(*value as f64)),
        [Value::Uint(value)] => Ok(Value::Double(*value as f64)),
        [Value::String(text)] => match go::parse_float(text.as_str()) {
            Some(value) => Ok(Value::Double(value)),
            None => failed("string", "double"),
        },
        _ => no_such_overload(),
    }
}

fn to_duration<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::Int(_)] => failed("int", "google.protobuf.Duration"),
        [Value::String(text)] => match go::parse_duration(text.as_str()) {
            Ok(nanos) => Ok(Value::Duration(nanos)),
            Err(_) => failed("string", "google.protobuf.Duration"),
        },
        _ => no_such_overload(),
    }
}

fn to_timestamp<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Timestamp(time)] => Ok(Value::Timestamp(*time)),
        [Value::Int(seconds)] => match Timestamp::new(*seconds, 0) {
            Ok(time) => Ok(Value::Timestamp(time)),
            Err(_) => Err(TIME_OVERFLOW.into()),
        },
        [Value::String(text)] => match Timestamp::parse(text.as_str()) {
            Some(time) => Ok(Value::Timestamp(time?)),
            None => failed("string", "google.protobuf.Timestamp"),
        },
        _ => no_such_overload(),
    }
}

fn to_string<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let [value] = args else { return no_such_overload() };
    let text = match value {
        Value::String(_) => return Ok(value.clone()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err("invalid UTF-8 in bytes, cannot convert to string".into()),
        },
        Value::Double(value) => go::float(*value),
        Value::Duration(nanos) => show::duration(*nanos),
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Timestamp(_)
        | Value::Ip(_)
        | Value::Cidr(..) => show::plain(value),
        _ => return no_such_overload(),
    };
    if text.is_empty() {
        return Ok(Value::String(Text::Borrowed("")));
    }
    machine.new_text(text)
}
