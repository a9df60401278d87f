//! The variables that expressions of admission see, and those that a policy defines itself.
//!
//! Semantics of apiserver `pkg/admission/plugin/cel` (activation.go, composition.go): a policy's own variable is worked
//! out when it is first looked at, within limits of its own, and what that takes is counted apart.

use std::rc::Rc;
use std::sync::Arc;

use super::authority::Judge;
use super::machine::{self, Evaluated, Failure, Limits, MAX_WORK, Machine};
use super::plan::{Mode, Op, Program};
use super::value::{Key, Map, OwnedMap, Value};
use crate::go;

/// What an expression may cost by itself.
pub(crate) const CALL_LIMIT: u64 = 1_000_000;
/// What making an object costs.
const MESSAGE_PRICE: u64 = 40;

/// What is told of why a variable fails is longer by one variable at most.
const MOST_TOLD: usize = 2048;
/// How much of the stack variables that need each other may take. (Upstream's grows; there can be as many as fit into
/// a policy of 3 MiB, each in an expression that is nested 250 levels deep.)
const MOST_STACK: usize = 1 << 20;
const TOO_DEEP: &str = "the variables that it needs are nested too deeply";

/// Names of what there always is, in the order of `Scope::values`.
pub(crate) const NAMES: [&str; 7] = [
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "params",
    "authorizer",
    "authorizer.requestResource",
];

/// A variable of a policy.
#[derive(Debug)]
pub(crate) struct Composed {
    pub name: Box<str>,
    /// Or why it is none.
    pub program: Result<Program, String>,
}

pub(crate) struct Scope<'a> {
    pub values: [Value<'a>; NAMES.len()],
    pub variables: &'a [Composed],
    pub judge: &'a dyn Judge,
}

/// What a policy's own variables have come to, and what that has cost since it was last asked for.
#[derive(Default)]
pub(crate) struct Known<'a> {
    values: Vec<Option<Evaluated<'a>>>,
    pub spent: u64,
    /// Where the stack was when the first variable was looked at.
    bottom: Option<usize>,
}

impl Known<'_> {
    #[inline(never)]
    fn nests_too_deeply(&mut self) -> bool {
        let here = 0_u8;
        let here = std::ptr::from_ref(&here).addr();
        self.bottom.get_or_insert(here).abs_diff(here) > MOST_STACK
    }
}

impl<'a> Machine<'a> {
    pub fn scope(&self) -> Result<&'a Scope<'a>, Failure> {
        self.variables.scope.ok_or_else(|| "no such attribute(s)".into())
    }

    pub(super) fn named(&self, at: usize) -> Evaluated<'a> {
        self.scope()?.values.get(at).cloned().ok_or_else(|| "no such attribute(s)".into())
    }

    pub(super) fn composed(&mut self, index: usize, mode: Mode, paid: bool) -> Evaluated<'a> {
        self.charge(u64::from(paid))?;
        if mode.tests() {
            self.charge(1)?;
            return Ok(Value::Bool(true));
        }
        let value = self.variable_of_policy(index);
        self.charge(1)?;
        if mode == Mode::Optional { value.map(Value::some) } else { value }
    }

    fn variable_of_policy(&mut self, index: usize) -> Evaluated<'a> {
        let scope = self.scope()?;
        if let Some(Some(known)) = self.known.values.get(index) {
            return known.clone();
        }
        let variable = &scope.variables[index];
        let failed = |what: &str, why: &str| {
            // Of a chain of variables that fail because the first does, not all are told.
            Failure::Error(if why.len() > MOST_TOLD {
                why.to_owned()
            } else {
                format!("composited variable {} fails to {what}: {why}", go::quote(&variable.name))
            })
        };
        let value = match &variable.program {
            Err(why) => Err(failed("compile", why)),
            Ok(_) if self.known.nests_too_deeply() => Err(failed("evaluate", TOO_DEEP)),
            Ok(program) => {
                let limits = Limits { cost: CALL_LIMIT, work: MAX_WORK };
                let outcome = machine::evaluate_with(program, self.variables, limits, &mut self.known);
                self.known.spent = self.known.spent.saturating_add(outcome.cost);
                outcome.value.map_err(|failure| failed("evaluate", failure.message()))
            }
        };
        self.known.values.resize(scope.variables.len(), None);
        self.known.values[index] = Some(value.clone());
        value
    }

    pub(super) fn message(&mut self, name: &Arc<str>, fields: &'a [(Arc<str>, Op, bool)]) -> Evaluated<'a> {
        let mut made = OwnedMap::default();
        made.message = Some(name.clone());
        for (field, op, optional) in fields {
            let mut value = self.eval(op)?;
            if *optional {
                match value {
                    Value::Optional(None) => continue,
                    Value::Optional(Some(inner)) => value = (*inner).clone(),
                    _ => return Err("cannot initialize optional entry from non-optional value".into()),
                }
            }
            made.insert(Key::String((&**field).into()), Value::text(&**field), value);
        }
        self.charge(MESSAGE_PRICE)?;
        self.allocate_list(made.entries.len() * 3)?;
        Ok(Value::Map(Map::Owned(Rc::new(made))))
    }
}
