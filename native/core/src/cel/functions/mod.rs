//! The functions of the language, by name. Which overload is meant follows from the arguments, as values know what they
//! are.

mod arithmetic;
mod authorization;
mod conversions;
mod format;
mod kubernetes;
mod lists;
mod network;
mod optionals;
mod strings;
mod times;

pub(crate) use format::{Clause, interpolate};

use super::machine::{Evaluated, Failure, Machine, NO_SUCH_OVERLOAD, no_such_overload};
use super::value::{List, Text, Value};

/// A function: the machine it works for, the name it is called by, its arguments.
pub(crate) type Function = for<'a> fn(&mut Machine<'a>, &str, &[Value<'a>]) -> Evaluated<'a>;

/// The function of that name; one that fails where there is none.
pub(crate) fn function(name: &str, arguments: usize) -> Function {
    arithmetic::function(name)
        .or_else(|| conversions::function(name))
        .or_else(|| lists::function(name, arguments))
        .or_else(|| strings::function(name))
        .or_else(|| times::function(name))
        .or_else(|| optionals::function(name))
        .or_else(|| network::function(name))
        .or_else(|| kubernetes::function(name))
        .or_else(|| authorization::function(name))
        .unwrap_or(|_, name, _| Err(format!("no such overload: {name}").into()))
}

fn text<'v>(value: Option<&'v Value<'_>>) -> Result<&'v str, Failure> {
    match value {
        Some(Value::String(text)) => Ok(text.as_str()),
        _ => Err(NO_SUCH_OVERLOAD.into()),
    }
}

fn integer(value: Option<&Value<'_>>) -> Result<i64, Failure> {
    match value {
        Some(Value::Int(value)) => Ok(*value),
        _ => Err(NO_SUCH_OVERLOAD.into()),
    }
}

fn list<'v, 'a>(value: Option<&'v Value<'a>>) -> Result<&'v List<'a>, Failure> {
    match value {
        Some(Value::List(list)) => Ok(list),
        _ => Err(NO_SUCH_OVERLOAD.into()),
    }
}

fn texts<'a>(machine: &mut Machine<'a>, texts: Vec<String>) -> Evaluated<'a> {
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        values.push(machine.new_text(text)?);
    }
    machine.new_list(values)
}
