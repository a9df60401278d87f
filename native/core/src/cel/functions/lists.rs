//! Lists: Kubernetes' list library, cel-go's list (version 3) and set extensions, `size`.

use std::cmp::Ordering;

use super::super::ast::operators;
use super::super::equality::{equal, order_of};
use super::{
    Evaluated, Failure, Function, List, Machine, Value, arithmetic, integer, list, no_such_overload,
};

pub(super) fn function(name: &str, arguments: usize) -> Option<Function> {
    Some(match name {
        "size" => |_, _, args| match args {
            [Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_)] => {
                Ok(Value::Int(args[0].size() as i64))
            }
            _ => no_such_overload(),
        },
        "isSorted" => is_sorted,
        "sum" => sum,
        "min" => |machine, _, args| extreme(machine, "min", args, Ordering::Greater),
        "max" => |machine, _, args| extreme(machine, "max", args, Ordering::Less),
        "first" => |machine, _, args| end(machine, args, false),
        "last" => |machine, _, args| end(machine, args, true),
        "slice" => slice,
        "flatten" => flatten,
        "lists.range" => range,
        "reverse" => |machine, _, args| {
            let mut elements = machine.elements(list(args.first())?)?;
            elements.reverse();
            Ok(Value::list(elements))
        },
        "distinct" => distinct,
        "sort" if arguments == 1 => {
            |machine, _, args| sort(machine, list(args.first())?, list(args.first())?)
        }
        operators::SORT_BY_KEYS => |machine, _, args| sort(machine, list(args.first())?, list(args.get(1))?),
        "sets.contains" => |machine, _, args| {
            let (all, some) = (list(args.first())?, list(args.get(1))?);
            Ok(Value::Bool(includes(machine, all, some)?))
        },
        "sets.equivalent" => |machine, _, args| {
            let (a, b) = (list(args.first())?, list(args.get(1))?);
            Ok(Value::Bool(includes(machine, a, b)? && includes(machine, b, a)?))
        },
        "sets.intersects" => |machine, _, args| {
            let (a, b) = (list(args.first())?, list(args.get(1))?);
            for at in 0..a.len() {
                let element = machine.at(a, at)?;
                if place(machine, b, &element, false)?.is_some() {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        },
        _ => return None,
    })
}

fn is_sorted<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let list = list(args.first())?;
    for at in 1..list.len() {
        let pair = (machine.at(list, at - 1)?, machine.at(list, at)?);
        machine.work(1)?;
        if order_of(&pair.0, &pair.1)? == Some(Ordering::Greater) {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

/// Of an empty list, zero of a type that is not known any more: that of integers.
fn sum<'a>(machine: &mut Machine<'a>, name: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let list = list(args.first())?;
    let mut total = None;
    for at in 0..list.len() {
        machine.work(1)?;
        let next = machine.at(list, at)?;
        total = Some(match total {
            None => next,
            Some(total) => arithmetic::add(machine, name, &[total, next])?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(
    machine: &mut Machine<'a>,
    name: &str,
    args: &[Value<'a>],
    replaced: Ordering,
) -> Evaluated<'a> {
    let list = list(args.first())?;
    let mut best: Option<Value<'a>> = None;
    for at in 0..list.len() {
        machine.work(1)?;
        let next = machine.at(list, at)?;
        best = match best {
            Some(best) if order_of(&best, &next)? != Some(replaced) => Some(best),
            _ => Some(next),
        };
    }
    best.ok_or_else(|| format!("{name} called on empty list").into())
}

/// Where in a list a value is; from the end, the last place.
fn place<'a>(
    machine: &mut Machine<'a>,
    list: &List<'a>,
    value: &Value<'a>,
    from_end: bool,
) -> Result<Option<usize>, Failure> {
    for step in 0..list.len() {
        let at = if from_end { list.len() - 1 - step } else { step };
        let element = machine.at(list, at)?;
        match equal(machine, &element, value) {
            Ok(true) => return Ok(Some(at)),
            Err(Failure::Cancelled) => return Err(Failure::Cancelled),
            _ => {}
        }
    }
    Ok(None)
}

/// `indexOf` and `lastIndexOf` of lists.
pub(super) fn position<'a>(machine: &mut Machine<'a>, name: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let Some(value) = args.get(1) else { return no_such_overload() };
    let found = place(machine, list(args.first())?, value, name == "lastIndexOf")?;
    Ok(Value::Int(found.map_or(-1, |at| at as i64)))
}

fn end<'a>(machine: &mut Machine<'a>, args: &[Value<'a>], last: bool) -> Evaluated<'a> {
    let list = list(args.first())?;
    match list.len() {
        0 => Ok(Value::Optional(None)),
        length => Ok(Value::some(machine.at(list, if last { length - 1 } else { 0 })?)),
    }
}

fn slice<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let (list, start, end) = (list(args.first())?, integer(args.get(1))?, integer(args.get(2))?);
    let problem = if start < 0 || end < 0 {
        "negative indexes not supported".to_owned()
    } else if start > end {
        "start index must be less than or equal to end index".to_owned()
    } else if (list.len() as i64) < end {
        format!("list is length {}", list.len())
    } else {
        machine.allocate_list((end - start) as usize)?;
        let part: Result<Vec<Value<'a>>, Failure> =
            (start as usize..end as usize).map(|at| machine.at(list, at)).collect();
        return Ok(Value::list(part?));
    };
    Err(format!("cannot slice({start}, {end}), {problem}").into())
}

fn flatten<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let depth = args.get(1).map_or(Ok(1), |depth| integer(Some(depth)))?;
    if depth < 0 {
        return Err("level must be non-negative".into());
    }
    let mut flat = Vec::new();
    flatten_into(machine, list(args.first())?, depth, &mut flat)?;
    Ok(Value::list(flat))
}

fn flatten_into<'a>(
    machine: &mut Machine<'a>,
    list: &List<'a>,
    depth: i64,
    flat: &mut Vec<Value<'a>>,
) -> Result<(), Failure> {
    for at in 0..list.len() {
        match machine.at(list, at)? {
            Value::List(inner) if depth > 0 => flatten_into(machine, &inner, depth - 1, flat)?,
            element => {
                machine.allocate_list(1)?;
                flat.push(element);
            }
        }
    }
    Ok(())
}

fn range<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let count = integer(args.first())?.max(0);
    machine.allocate_list(usize::try_from(count).unwrap_or(usize::MAX))?;
    Ok(Value::list((0..count).map(Value::Int).collect()))
}

fn distinct<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let mut unique: Vec<Value<'a>> = Vec::new();
    for value in machine.elements(list(args.first())?)? {
        let mut seen = false;
        for other in &unique {
            match equal(machine, &value, other) {
                Ok(true) => {
                    seen = true;
                    break;
                }
                Err(Failure::Cancelled) => return Err(Failure::Cancelled),
                _ => {}
            }
        }
        if !seen {
            unique.push(value);
        }
    }
    Ok(Value::list(unique))
}

fn sort<'a>(machine: &mut Machine<'a>, list: &List<'a>, keys: &List<'a>) -> Evaluated<'a> {
    if list.len() != keys.len() {
        return Err(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            list.len(),
            keys.len()
        )
        .into());
    }
    let elements = machine.elements(list)?;
    let keys = machine.elements(keys)?;
    if let Some(first) = keys.first() {
        order_of(first, first).map_err(|_| Failure::from("list elements must be comparable"))?;
        // What is no number has no place among numbers.
        if keys.iter().any(|key| matches!(key, Value::Double(key) if key.is_nan())) {
            return Err("NaN values cannot be ordered".into());
        }
        if keys.iter().any(|key| key.type_name() != first.type_name()) {
            return Err("list elements must have the same type".into());
        }
    }
    machine.work(keys.len() as u64 * u64::from(keys.len().max(2).ilog2() + 1))?;
    let mut places: Vec<usize> = (0..keys.len()).collect();
    places.sort_by(|a, b| order_of(&keys[*a], &keys[*b]).ok().flatten().unwrap_or(Ordering::Equal));
    Ok(Value::list(places.into_iter().map(|at| elements[at].clone()).collect()))
}

fn includes<'a>(machine: &mut Machine<'a>, all: &List<'a>, some: &List<'a>) -> Result<bool, Failure> {
    for at in 0..some.len() {
        let element = machine.at(some, at)?;
        if place(machine, all, &element, false)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
