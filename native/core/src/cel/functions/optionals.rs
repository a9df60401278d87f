//! Optional values.

use super::{Evaluated, Function, Machine, Value, list, no_such_overload};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "optional.none" => |_, _, _| Ok(Value::Optional(None)),
        "optional.of" => |_, _, args| match args {
            [value] => Ok(Value::some(value.clone())),
            _ => no_such_overload(),
        },
        "optional.ofNonZeroValue" => |_, _, args| match args {
            [value] if value.is_zero() => Ok(Value::Optional(None)),
            [value] => Ok(Value::some(value.clone())),
            _ => no_such_overload(),
        },
        "hasValue" => |_, _, args| match args {
            [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
            _ => no_such_overload(),
        },
        "value" => |_, _, args| match args {
            [Value::Optional(Some(value))] => Ok((**value).clone()),
            [Value::Optional(None)] => Err("optional.none() dereference".into()),
            _ => no_such_overload(),
        },
        "optional.unwrap" | "unwrapOpt" => unwrap,
        _ => return None,
    })
}

fn unwrap<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let mut values = Vec::new();
    for element in machine.elements(list(args.first())?)? {
        match element {
            Value::Optional(Some(value)) => values.push((*value).clone()),
            Value::Optional(None) => {}
            other => {
                return Err(format!("value {} is not optional", super::super::show::plain(&other)).into());
            }
        }
    }
    Ok(Value::list(values))
}
