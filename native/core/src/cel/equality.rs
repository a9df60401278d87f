//! Equality and order of values.
//!
//! Semantics of cel-go's types and of apiserver `pkg/cel/common/valuesunstructured.go`: lists of type set or map of a
//! schema are equal whatever the order of their elements.

use std::cmp::Ordering;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value as Json;

use super::json;
use super::machine::{BYTES_A_STEP, Failure, Machine, NO_SUCH_OVERLOAD};
use super::value::{Key, List, Map, Order, Text, Value};

/// What it takes to find a member, in values looked at.
const LOOKUP: u64 = 6;

/// Whether two values are the same; fails for what cannot be compared.
pub(crate) fn equal<'a>(
    machine: &mut Machine<'a>,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<bool, Failure> {
    machine.work(1)?;
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (a, b) if a.is_number() && b.is_number() => number_order(a, b) == Some(Ordering::Equal),
        (Value::String(a), Value::String(b)) => {
            let (a, b) = (a.as_str(), b.as_str());
            machine.work(a.len().min(b.len()) as u64 / BYTES_A_STEP)?;
            a == b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            machine.work(a.len().min(b.len()) as u64 / BYTES_A_STEP)?;
            a == b
        }
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::List(a), Value::List(b)) => lists_equal(machine, a, b)?,
        (Value::Map(a), Value::Map(b)) => maps_equal(machine, a, b)?,
        // Values of a schema do not know how they differ from what is none of theirs.
        (Value::List(List::Json { .. }), _) | (Value::Map(Map::Json { .. }), _) => {
            return Err(NO_SUCH_OVERLOAD.into());
        }
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(machine, a, b)?,
            (None, None) => true,
            _ => false,
        },
        (Value::Quantity(a), Value::Quantity(b)) => a.compare(*b).is_eq(),
        (Value::Url(a), Value::Url(b)) => a.text == b.text,
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a, bits), Value::Cidr(b, others)) => a == b && bits == others,
        (Value::Semver(a), Value::Semver(b)) => a.compare(b).is_eq(),
        (Value::Format(a), Value::Format(b)) => a == b,
        (
            Value::Quantity(_)
            | Value::Url(_)
            | Value::Ip(_)
            | Value::Cidr(..)
            | Value::Semver(_)
            | Value::Format(_),
            _,
        ) => return Err(NO_SUCH_OVERLOAD.into()),
        (Value::Opaque(a), Value::Opaque(b)) => {
            machine.work(weight(a))?;
            a == b
        }
        _ => false,
    })
}

fn weight(json: &Json) -> u64 {
    match json {
        Json::Array(elements) => 1 + elements.iter().map(weight).sum::<u64>(),
        Json::Object(members) => 1 + members.values().map(weight).sum::<u64>(),
        Json::String(text) => 1 + text.len() as u64 / 64,
        _ => 1,
    }
}

fn lists_equal<'a>(machine: &mut Machine<'a>, left: &List<'a>, right: &List<'a>) -> Result<bool, Failure> {
    if left.len() != right.len() {
        return Ok(false);
    }
    match order(left) {
        Order::Plain => {
            for at in 0..left.len() {
                machine.work(1)?;
                let (a, b) = (machine.at(left, at)?, machine.at(right, at)?);
                if !equal(machine, &a, &b)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Order::Set => {
            let ours: FxHashSet<String> = identities(machine, left, &[])?.into_iter().collect();
            Ok(identities(machine, right, &[])?.iter().all(|identity| ours.contains(identity)))
        }
        Order::Keyed(keys) => {
            let ours = identities(machine, left, keys)?;
            let ours: FxHashMap<String, usize> =
                ours.into_iter().enumerate().map(|(at, identity)| (identity, at)).collect();
            for (at, identity) in identities(machine, right, keys)?.into_iter().enumerate() {
                let Some(counterpart) = ours.get(&identity) else { return Ok(false) };
                let (a, b) = (machine.at(left, *counterpart)?, machine.at(right, at)?);
                if !equal(machine, &a, &b)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

pub(crate) fn order<'a>(list: &List<'a>) -> Order<'a> {
    match list {
        List::Json { order, .. } | List::Owned { order, .. } => *order,
        List::Plain(_) => Order::Plain,
    }
}

/// What elements are known by in a list of type set or map: themselves, or the values of their keys.
pub(crate) fn identities<'a>(
    machine: &mut Machine<'a>,
    list: &List<'a>,
    keys: &[Box<str>],
) -> Result<Vec<String>, Failure> {
    machine.allocate_list(list.len())?;
    let mut identities = Vec::with_capacity(list.len());
    for at in 0..list.len() {
        let element = machine.at(list, at)?;
        machine.work(1)?;
        identities.push(match (&element, keys) {
            (_, []) => identity(&element),
            (Value::Map(map), keys) => {
                let parts = keys.iter().map(|key| match map {
                    Map::Json { members, .. } | Map::Plain(members) => {
                        members.get(&**key).map(Json::to_string).unwrap_or_default()
                    }
                    Map::Owned(map) => map.get(&Key::String(key.clone())).map(identity).unwrap_or_default(),
                });
                parts.collect::<Vec<_>>().join("\0")
            }
            _ => identity(&element),
        });
    }
    Ok(identities)
}

fn identity(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => Json::from(text.as_str()).to_string(),
        Value::Int(value) => value.to_string(),
        other => format!("{}:{}", other.type_name(), super::show::plain(other)),
    }
}

fn maps_equal<'a>(machine: &mut Machine<'a>, left: &Map<'a>, right: &Map<'a>) -> Result<bool, Failure> {
    if left.len() != right.len() {
        return Ok(false);
    }
    match left {
        Map::Owned(map) => {
            for (name, value) in &map.entries {
                machine.work(LOOKUP)?;
                let Some(other) = machine.element(&Value::Map(right.clone()), name)? else {
                    return Ok(false);
                };
                if !equal(machine, value, &other)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Map::Plain(members) => {
            for (name, value) in *members {
                machine.work(LOOKUP)?;
                let key = Value::String(Text::Borrowed(name));
                let Some(other) = machine.element(&Value::Map(right.clone()), &key)? else {
                    return Ok(false);
                };
                if !equal(machine, &json::plain(value), &other)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Map::Json { members, node, resource } => {
            for key in json::keys(members, node, *resource) {
                machine.work(LOOKUP)?;
                let (Value::String(name), Value::Map(_)) = (&key, &Value::Map(right.clone())) else {
                    continue;
                };
                let ours = json::member(members, node, *resource, name.as_str()).transpose()?;
                let theirs = machine.element(&Value::Map(right.clone()), &key)?;
                match (ours, theirs) {
                    (Some(a), Some(b)) if equal(machine, &a, &b)? => {}
                    (None, None) => {}
                    _ => return Ok(false),
                }
            }
            Ok(match right {
                Map::Json { members: others, .. } => {
                    json::unknown_members_equal(members, others, node, *resource)
                }
                Map::Owned(_) | Map::Plain(_) => true,
            })
        }
    }
}

/// The order of two numbers of any types; None where one is not a number at all.
fn number_order(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    let integer = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (left, right) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), other) => double_order(*a, integer(other)?),
        (other, Value::Double(b)) => double_order(*b, integer(other)?).map(Ordering::reverse),
        (a, b) => Some(integer(a)?.cmp(&integer(b)?)),
    }
}

/// Upstream turns the integer into a double.
fn double_order(double: f64, integer: i128) -> Option<Ordering> {
    double.partial_cmp(&(integer as f64))
}

/// The order of two values; `Ok(None)` where one is no number.
pub(crate) fn order_of(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, Failure> {
    Ok(match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (a, b) if a.is_number() && b.is_number() => {
            return match number_order(a, b) {
                None => Err("NaN values cannot be ordered".into()),
                order => Ok(order),
            };
        }
        (Value::String(a), Value::String(b)) => Some(a.as_str().cmp(b.as_str())),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        _ => return Err(NO_SUCH_OVERLOAD.into()),
    })
}
