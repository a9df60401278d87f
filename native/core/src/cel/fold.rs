//! Loops.
//!
//! Semantics of cel-go's `evalFold`: a failing step is the accumulator's value, and the loop goes on, so that a later
//! element can still decide `all` or `exists`.

use std::rc::Rc;

use super::ast::operators;
use super::json;
use super::machine::{Evaluated, Failure, Machine, NO_SUCH_OVERLOAD};
use super::plan::{FoldOp, Op};
use super::price::Price;
use super::value::{Key, List, Map, Order, OwnedMap, Text, Value};

/// The variables of one turn of the loop.
type Turn<'a> = (Evaluated<'a>, Option<Evaluated<'a>>);

impl<'a> Machine<'a> {
    pub(super) fn fold(&mut self, fold: &'a FoldOp) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        let mut range = Range::new(range, fold.var2.is_some())?;
        self.locals[fold.accu] = self.eval(&fold.init);
        while let Some((first, second)) = range.next(self) {
            self.work(1)?;
            self.locals[fold.var] = first;
            if let (Some(slot), Some(second)) = (fold.var2, second) {
                self.locals[slot] = second;
            }
            match self.eval(&fold.condition) {
                Ok(Value::Bool(false)) => break,
                Err(Failure::Cancelled) => return Err(Failure::Cancelled),
                _ => {}
            }
            let accu = self.step(fold);
            if let Err(Failure::Cancelled) = accu {
                return accu;
            }
            self.locals[fold.accu] = accu;
        }
        let result = self.eval(&fold.result);
        self.locals[fold.accu] = Ok(Value::Null);
        result
    }

    fn step(&mut self, fold: &'a FoldOp) -> Evaluated<'a> {
        match &fold.step {
            Op::Conditional(parts) if grows(&parts[1], fold) && is_accu(&parts[2], fold) => {
                match self.eval(&parts[0])? {
                    Value::Bool(true) => self.grow(&parts[1], fold),
                    Value::Bool(false) => self.take_accu(fold),
                    _ => Err(NO_SUCH_OVERLOAD.into()),
                }
            }
            step if grows(step, fold) => self.grow(step, fold),
            step => self.eval(step),
        }
    }

    fn take_accu(&mut self, fold: &FoldOp) -> Evaluated<'a> {
        std::mem::replace(&mut self.locals[fold.accu], Ok(Value::Null))
    }

    /// Adds to the accumulator in place, so that gathering n elements does not cost n copies.
    fn grow(&mut self, step: &'a Op, fold: &'a FoldOp) -> Evaluated<'a> {
        let Op::Call { args, price, function, name, .. } = step else { return Err(NO_SUCH_OVERLOAD.into()) };
        let paid = matches!(args[0], Op::Local { paid: true, .. });
        self.charge(u64::from(paid))?;
        let together = args.len() <= 2;
        if !together && self.locals[fold.accu].is_err() {
            return self.take_accu(fold);
        }
        let mut added = Vec::with_capacity(args.len());
        let mut failure = None;
        for arg in &args[1..] {
            match self.eval(arg) {
                Ok(value) => added.push(value),
                Err(Failure::Error(message)) if together => failure = Some(Failure::Error(message)),
                Err(failure) => return Err(failure),
            }
        }
        self.charge(if let Price::Fixed(cost) = price { *cost } else { 1 })?;
        let accu = self.take_accu(fold)?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        match (accu, added.as_slice()) {
            (Value::List(List::Owned { mut elements, order: Order::Plain }), [Value::List(more)]) => {
                let more = self.elements(more)?;
                Rc::make_mut(&mut elements).extend(more);
                Ok(Value::List(List::Owned { elements, order: Order::Plain }))
            }
            (Value::Map(Map::Owned(mut map)), [key, value]) => {
                self.insert(Rc::make_mut(&mut map), key, value)?;
                Ok(Value::Map(Map::Owned(map)))
            }
            (accu, added) => {
                let values: Vec<Value<'a>> = [accu].into_iter().chain(added.iter().cloned()).collect();
                function(self, name, &values)
            }
        }
    }

    pub(super) fn insert(
        &mut self,
        map: &mut OwnedMap<'a>,
        name: &Value<'a>,
        value: &Value<'a>,
    ) -> Result<(), Failure> {
        let Some(key) = Key::of(name) else {
            return Err(format!("unsupported key type: {}", name.type_name()).into());
        };
        if map.get(&key).is_some() {
            return Err(format!("insert failed: key {} already exists", super::show::plain(name)).into());
        }
        self.allocate_list(3)?;
        map.insert(key, name.clone(), value.clone());
        Ok(())
    }
}

/// What a loop runs over: elements or keys, or indices or keys with their values.
enum Range<'a> {
    List { list: List<'a>, next: usize, pairs: bool },
    Map { map: Rc<OwnedMap<'a>>, next: usize, pairs: bool },
    Members(Box<dyn Iterator<Item = Turn<'a>> + 'a>),
}

impl<'a> Range<'a> {
    fn new(range: Value<'a>, pairs: bool) -> Result<Self, Failure> {
        match range {
            Value::List(list) => Ok(Self::List { list, next: 0, pairs }),
            Value::Map(Map::Owned(map)) => Ok(Self::Map { map, next: 0, pairs }),
            Value::Map(Map::Plain(members)) => {
                Ok(Self::Members(Box::new(members.iter().map(move |(name, value)| {
                    (Ok(Value::String(Text::Borrowed(name))), pairs.then(|| Ok(json::plain(value))))
                }))))
            }
            Value::Map(Map::Json { members, node, resource }) => {
                Ok(Self::Members(Box::new(json::keys(members, node, resource).map(move |key| {
                    let value = match &key {
                        Value::String(name) if pairs => json::member(members, node, resource, name.as_str()),
                        _ => None,
                    };
                    (Ok(key), value.map(|value| value.map_err(Failure::Error)))
                }))))
            }
            other => {
                // Upstream tells the type that implements the value's.
                let implementation = match other {
                    Value::Null => "Null",
                    Value::Bool(_) => "Bool",
                    Value::Int(_) => "Int",
                    Value::Uint(_) => "Uint",
                    Value::Double(_) => "Double",
                    Value::String(_) => "String",
                    Value::Bytes(_) => "Bytes",
                    Value::Duration(_) => "Duration",
                    Value::Timestamp(_) => "Timestamp",
                    _ => "Type",
                };
                Err(format!("got 'types.{implementation}', expected iterable type").into())
            }
        }
    }

    fn next(&mut self, machine: &Machine<'a>) -> Option<Turn<'a>> {
        match self {
            Self::List { list, next, pairs } => {
                let at = *next;
                *next += 1;
                let value = (at < list.len()).then(|| machine.at(list, at))?;
                Some(if *pairs { (Ok(Value::Int(at as i64)), Some(value)) } else { (value, None) })
            }
            Self::Map { map, next, pairs } => {
                let (key, value) = map.entries.get(*next)?;
                *next += 1;
                Some((Ok(key.clone()), pairs.then(|| Ok(value.clone()))))
            }
            Self::Members(turns) => turns.next(),
        }
    }
}

fn is_accu(op: &Op, fold: &FoldOp) -> bool {
    matches!(op, Op::Local { slot, .. } if *slot == fold.accu)
}

/// A step that only adds to the accumulator.
fn grows(op: &Op, fold: &FoldOp) -> bool {
    match op {
        Op::Call { name, args, .. } => {
            matches!(&**name, operators::ADD | operators::MAP_INSERT)
                && args.first().is_some_and(|first| is_accu(first, fold))
        }
        _ => false,
    }
}
