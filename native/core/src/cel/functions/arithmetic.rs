//! Operators on numbers, texts, lists and times.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::super::ast::operators;
use super::super::equality::{equal, identities, order, order_of};
use super::super::machine::list_like;
use super::super::value::{Key, Map, OwnedMap};
use super::{Evaluated, Failure, Function, List, Machine, Value, no_such_overload};
use crate::cel::value::Order;

const OVERFLOW: &str = "integer overflow";
const UNSIGNED_OVERFLOW: &str = "unsigned integer overflow";

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        operators::ADD => add,
        operators::SUBTRACT => subtract,
        operators::MULTIPLY => |_, _, args| match args {
            [Value::Int(a), Value::Int(b)] => checked(a.checked_mul(*b)),
            [Value::Uint(a), Value::Uint(b)] => checked_unsigned(a.checked_mul(*b)),
            [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
            _ => no_such_overload(),
        },
        operators::DIVIDE => |_, _, args| match args {
            [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
                Err("division by zero".into())
            }
            [Value::Int(a), Value::Int(b)] => checked(a.checked_div(*b)),
            [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a / b)),
            [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
            _ => no_such_overload(),
        },
        operators::MODULO => |_, _, args| match args {
            [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
                Err("modulus by zero".into())
            }
            [Value::Int(a), Value::Int(b)] => checked(a.checked_rem(*b)),
            [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a % b)),
            _ => no_such_overload(),
        },
        operators::NEGATE => |_, _, args| match args {
            [Value::Int(value)] => checked(value.checked_neg()),
            [Value::Double(value)] => Ok(Value::Double(-value)),
            _ => no_such_overload(),
        },
        operators::NOT => |_, _, args| match args {
            [Value::Bool(value)] => Ok(Value::Bool(!value)),
            _ => no_such_overload(),
        },
        operators::LESS => |_, _, args| compared(args, |order| order.is_lt()),
        operators::LESS_EQUALS => |_, _, args| compared(args, |order| order.is_le()),
        operators::GREATER => |_, _, args| compared(args, |order| order.is_gt()),
        operators::GREATER_EQUALS => |_, _, args| compared(args, |order| order.is_ge()),
        operators::IN => contains,
        operators::MAP_INSERT => insert,
        _ => return None,
    })
}

fn checked<'a>(value: Option<i64>) -> Evaluated<'a> {
    value.map(Value::Int).ok_or_else(|| OVERFLOW.into())
}

fn checked_unsigned<'a>(value: Option<u64>) -> Evaluated<'a> {
    value.map(Value::Uint).ok_or_else(|| UNSIGNED_OVERFLOW.into())
}

fn compared<'a>(args: &[Value<'a>], holds: fn(std::cmp::Ordering) -> bool) -> Evaluated<'a> {
    let [left, right] = args else { return no_such_overload() };
    match order_of(left, right)? {
        Some(order) => Ok(Value::Bool(holds(order))),
        None => no_such_overload(),
    }
}

pub(super) fn add<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => checked(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => checked_unsigned(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => machine.new_text(format!("{}{}", a.as_str(), b.as_str())),
        [Value::Bytes(a), Value::Bytes(b)] => {
            machine.allocate(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        [Value::Duration(a), Value::Duration(b)] => {
            a.checked_add(*b).map(Value::Duration).ok_or_else(|| OVERFLOW.into())
        }
        [Value::Duration(nanos), Value::Timestamp(time)]
        | [Value::Timestamp(time), Value::Duration(nanos)] => {
            Ok(Value::Timestamp(time.plus(i128::from(*nanos))?))
        }
        [Value::List(a), Value::List(b)] => concatenate(machine, a, b),
        _ => no_such_overload(),
    }
}

fn subtract<'a>(_: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => checked(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => checked_unsigned(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => {
            a.checked_sub(*b).map(Value::Duration).ok_or_else(|| OVERFLOW.into())
        }
        [Value::Timestamp(time), Value::Duration(nanos)] => {
            Ok(Value::Timestamp(time.plus(-i128::from(*nanos))?))
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => Ok(Value::Duration(a.since(*b)?)),
        _ => no_such_overload(),
    }
}

/// Sets are united, lists of type map are merged, other lists are joined.
fn concatenate<'a>(machine: &mut Machine<'a>, left: &List<'a>, right: &List<'a>) -> Evaluated<'a> {
    let order = order(left);
    let keys: &[Box<str>] = match order {
        Order::Plain => {
            let mut all = machine.elements(left)?;
            all.extend(machine.elements(right)?);
            return Ok(list_like(all, order));
        }
        Order::Set => &[],
        Order::Keyed(keys) => keys,
    };
    let mut all = machine.elements(left)?;
    let ours = identities(machine, left, keys)?;
    let mut places: FxHashMap<String, usize> =
        ours.into_iter().enumerate().map(|(at, identity)| (identity, at)).collect();
    for (at, identity) in identities(machine, right, keys)?.into_iter().enumerate() {
        let element = machine.at(right, at)?;
        match places.get(&identity) {
            Some(place) if order != Order::Set => all[*place] = element,
            Some(_) => {}
            None => {
                places.insert(identity, all.len());
                all.push(element);
            }
        }
    }
    Ok(list_like(all, order))
}

fn contains<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [value, Value::List(list)] => {
            let mut failure = None;
            for at in 0..list.len() {
                let element = machine.at(list, at)?;
                match equal(machine, &element, value) {
                    Ok(true) => return Ok(Value::Bool(true)),
                    Ok(false) => {}
                    Err(Failure::Cancelled) => return Err(Failure::Cancelled),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            failure.map_or(Ok(Value::Bool(false)), Err)
        }
        [key, Value::Map(map)] => {
            let found = match map {
                Map::Owned(owned) => Key::of(key).is_some_and(|key| owned.get(&key).is_some()),
                Map::Json { .. } | Map::Plain(_) => machine.element(&Value::Map(map.clone()), key)?.is_some(),
            };
            Ok(Value::Bool(found))
        }
        _ => no_such_overload(),
    }
}

fn insert<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let owned = |map: &Map<'a>| match map {
        Map::Owned(map) => Some(map.clone()),
        Map::Json { .. } | Map::Plain(_) => None,
    };
    let (Some(Value::Map(base)), more) = (args.first(), &args[1..]) else { return no_such_overload() };
    let mut map: Rc<OwnedMap<'a>> = owned(base).unwrap_or_default();
    machine.allocate_list(3 * map.entries.len())?;
    match more {
        [Value::Map(other)] => {
            let other = owned(other).unwrap_or_default();
            for (key, value) in &other.entries {
                machine.insert(Rc::make_mut(&mut map), key, value)?;
            }
        }
        [key, value] => machine.insert(Rc::make_mut(&mut map), key, value)?,
        _ => return no_such_overload(),
    }
    Ok(Value::Map(Map::Owned(map)))
}
