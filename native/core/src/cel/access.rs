//! Members and elements: how evaluation reaches into maps and lists.

use serde_json::Value as Json;

use super::json;
use super::machine::{Evaluated, Failure, Machine, NO_SUCH_OVERLOAD};
use super::plan::{Mode, Op};
use super::value::{Key, List, Map, Value};
use crate::go;
use crate::schema::custom::Node;

impl<'a> Machine<'a> {
    pub(super) fn select(&mut self, operand: &'a Op, field: &str, mode: Mode) -> Evaluated<'a> {
        let operand = self.eval(operand)?;
        let (target, was_optional) = match operand {
            Value::Optional(None) => {
                return Ok(if mode.tests() { Value::Bool(false) } else { Value::Optional(None) });
            }
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        let found = match &target {
            Value::Map(map) => self.member(map, field),
            _ => None,
        };
        let free = mode == Mode::TestForLess || (mode == Mode::Optional && found.is_none());
        self.charge(u64::from(!free))?;
        match (mode, found) {
            (Mode::Test | Mode::TestForLess, found) => Ok(Value::Bool(found.transpose()?.is_some())),
            (_, Some(Err(message))) => Err(message.into()),
            (Mode::Value, Some(Ok(value))) if !was_optional => Ok(value),
            (_, Some(Ok(value))) => Ok(Value::some(value)),
            (Mode::Value, None) if !was_optional => Err(format!("no such key: {field}").into()),
            (_, None) => Ok(Value::Optional(None)),
        }
    }

    /// A member by its name.
    fn member(&self, map: &Map<'a>, name: &str) -> Option<Result<Value<'a>, String>> {
        match map {
            Map::Json { members, node, resource } => json::member(members, node, *resource, name),
            Map::Plain(members) => members.get(name).map(|value| Ok(json::plain(value))),
            Map::Owned(owned) => owned.get(&Key::String(name.into())).cloned().map(Ok),
        }
    }

    pub(super) fn index(
        &mut self,
        operand: &'a Op,
        index: &'a Op,
        optional: bool,
        paid: bool,
    ) -> Evaluated<'a> {
        let operand = self.eval(operand)?;
        let index = self.eval(index)?;
        let (target, was_optional) = match operand {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        let found = self.element(&target, &index);
        if !matches!(found, Ok(None)) || !optional {
            self.charge(u64::from(paid))?;
        }
        match found? {
            Some(value) if was_optional || optional => Ok(Value::some(value)),
            Some(value) => Ok(value),
            None if was_optional || optional => Ok(Value::Optional(None)),
            None => Err(match target {
                Value::List(_) => format!("index out of bounds: {}", super::show::plain(&index)),
                _ => format!("no such key: {}", super::show::plain(&index)),
            }
            .into()),
        }
    }

    /// An element of a list or map; None where there is none.
    pub fn element(&mut self, target: &Value<'a>, index: &Value<'a>) -> Result<Option<Value<'a>>, Failure> {
        match target {
            Value::List(list) => {
                let at = match index {
                    Value::Int(at) => usize::try_from(*at).ok(),
                    Value::Uint(at) => usize::try_from(*at).ok(),
                    Value::Double(at) if at.fract() == 0.0 && at.abs() < 9e18 => {
                        usize::try_from(*at as i64).ok()
                    }
                    Value::Double(at) => {
                        return Err(format!("unsupported index value {} in list", go::float(*at)).into());
                    }
                    _ => return Err(format!("unsupported index type '{}' in list", index.type_name()).into()),
                };
                // Lists of an object take integers only.
                if matches!(list, List::Json { .. })
                    && !matches!(index, Value::Int(_))
                    && at.is_some_and(|at| at < list.len())
                {
                    return Err(format!("unsupported index: {}", super::show::plain(index)).into());
                }
                at.filter(|at| *at < list.len()).map(|at| self.at(list, at)).transpose()
            }
            Value::Map(Map::Json { members, node, resource }) => match index {
                Value::String(name) => Ok(json::member(members, node, *resource, name.as_str()).transpose()?),
                _ => Err(NO_SUCH_OVERLOAD.into()),
            },
            Value::Map(Map::Plain(members)) => Ok(match index {
                Value::String(name) => members.get(name.as_str()).map(json::plain),
                _ => None,
            }),
            Value::Map(Map::Owned(map)) => match Key::of(index) {
                Some(key) => Ok(map.get(&key).cloned()),
                None => Err(format!("unsupported key type: {}", index.type_name()).into()),
            },
            _ => Ok(None),
        }
    }

    /// The element of a list at a position that it has.
    pub fn at(&self, list: &List<'a>, at: usize) -> Evaluated<'a> {
        match list {
            List::Json { elements, items, .. } => json_element(&elements[at], items),
            List::Plain(elements) => Ok(json::plain(&elements[at])),
            List::Owned { elements, .. } => Ok(elements[at].clone()),
        }
    }

    /// All elements of a list.
    pub fn elements(&mut self, list: &List<'a>) -> Result<Vec<Value<'a>>, Failure> {
        self.allocate_list(list.len())?;
        (0..list.len()).map(|at| self.at(list, at)).collect()
    }
}

pub(crate) fn json_element<'a>(element: &'a Json, items: &'a Node) -> Evaluated<'a> {
    json::value_of(element, items, false).map_err(Failure::Error)
}
