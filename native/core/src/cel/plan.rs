//! A checked expression made ready for evaluation: names resolved to places, calls to functions and their prices.
//!
//! What a step costs follows from how cel-go plans it: names with selections behind them are one attribute, constants
//! are folded, and both are not paid for where cel-go does not see them.

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Expr, Fold, Kind, Literal, operators};
use super::check::{Checked, Meaning};
use super::functions::{Function, function};
use super::price::Price;
use super::types::Type;

/// What holds the variables of a policy.
pub(crate) const VARIABLES: &str = "variables";

/// Which variable of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Variable {
    Current,
    Old,
    /// One of several, by its place in their scope.
    Named(usize),
}

#[derive(Debug)]
pub(crate) enum Op {
    Literal(Literal),
    /// Made once per evaluation, for nothing: an index into the constants of the program.
    Constant(usize),
    Type(Arc<str>),
    /// `paid`: it is looked up by itself.
    Variable {
        which: Variable,
        paid: bool,
    },
    Local {
        slot: usize,
        paid: bool,
    },
    /// A step that is paid for though it does nothing: the beginning of an attribute that is no name.
    Attribute(Box<Op>),
    Select {
        operand: Box<Op>,
        field: Arc<str>,
        mode: Mode,
    },
    /// A variable that the policy defines, worked out when it is first looked at.
    Composed {
        index: usize,
        mode: Mode,
        paid: bool,
    },
    Index {
        operand: Box<Op>,
        index: Box<Op>,
        optional: bool,
        paid: bool,
    },
    And(Box<[Op; 2]>),
    Or(Box<[Op; 2]>),
    Conditional(Box<[Op; 3]>),
    Equals {
        negated: bool,
        sides: Box<[Op; 2]>,
        price: Price,
    },
    /// `or` and `orValue`: the second is looked at only if the first is nothing.
    Otherwise {
        optional: Box<Op>,
        other: Box<Op>,
        unwrap: bool,
    },
    NotStrictlyFalse(Box<Op>),
    /// Membership in a list of constants.
    InConstants {
        value: Box<Op>,
        constants: usize,
    },
    /// `together`: all arguments are evaluated even if one fails.
    Call {
        function: Function,
        name: Arc<str>,
        args: Vec<Op>,
        price: Price,
        together: bool,
    },
    List {
        elements: Vec<Op>,
        optional: Vec<usize>,
    },
    Map(Vec<(Op, Op, bool)>),
    /// An object that a patch is made of; fields with whether they are optional.
    Message {
        name: Arc<str>,
        fields: Vec<(Arc<str>, Op, bool)>,
    },
    Fold(Box<FoldOp>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Value,
    Test,
    TestForLess,
    Optional,
}

impl Mode {
    /// Only whether there is a value is of interest.
    pub fn tests(self) -> bool {
        matches!(self, Self::Test | Self::TestForLess)
    }
}

#[derive(Debug)]
pub(crate) struct FoldOp {
    pub range: Op,
    /// Where the accumulator and the loop variables are.
    pub accu: usize,
    pub var: usize,
    pub var2: Option<usize>,
    pub init: Op,
    pub condition: Op,
    pub step: Op,
    pub result: Op,
}

/// A program: what to do, and the constants it uses.
#[derive(Debug)]
pub(crate) struct Program {
    pub op: Op,
    pub constants: Vec<Op>,
    /// The most local variables at any time.
    pub locals: usize,
    pub uses_old: bool,
}

/// What the variables of an expression are called.
#[derive(Clone, Copy)]
pub(crate) enum Names<'n> {
    /// The old value so; every other variable is the current one.
    Old(&'n str),
    /// So, in the order of their scope, and the policy's own.
    Scope(&'n [&'n str], &'n Own),
}

/// Where a policy's own variables are by their names: the later ones hide those before them.
pub(crate) type Own = HashMap<Box<str>, usize>;

pub(crate) fn plan(checked: &Checked, names: Names<'_>) -> Program {
    let mut planner =
        Planner { checked, names, constants: Vec::new(), scopes: Vec::new(), locals: 0, uses_old: false };
    let op = planner.whole(&checked.expr);
    Program { op, constants: planner.constants, locals: planner.locals, uses_old: planner.uses_old }
}

struct Planner<'c> {
    checked: &'c Checked,
    names: Names<'c>,
    constants: Vec<Op>,
    scopes: Vec<(Arc<str>, usize)>,
    locals: usize,
    uses_old: bool,
}

/// What begins an attribute, which decides what is paid for it.
#[derive(Clone, Copy, PartialEq)]
enum Root {
    Name,
    Conditional,
    Other,
}

impl Planner<'_> {
    /// An expression that is evaluated by itself.
    fn whole(&mut self, expr: &Expr) -> Op {
        self.expr(expr, true)
    }

    fn is_attribute(&self, expr: &Expr) -> bool {
        match &expr.kind {
            Kind::Ident(_) => !matches!(self.checked.meanings.get(&expr.id), Some(Meaning::Type(_))),
            Kind::Select { .. } => true,
            Kind::Call { function, .. } => matches!(
                &**function,
                operators::INDEX
                    | operators::OPTIONAL_INDEX
                    | operators::OPTIONAL_SELECT
                    | operators::CONDITIONAL
            ),
            _ => false,
        }
    }

    fn root(&self, expr: &Expr) -> Root {
        match &expr.kind {
            Kind::Ident(_) if self.is_attribute(expr) => Root::Name,
            Kind::Select { operand, .. } => self.root(operand),
            Kind::Call { function, args, .. } => match (&**function, args.first()) {
                (
                    operators::INDEX | operators::OPTIONAL_INDEX | operators::OPTIONAL_SELECT,
                    Some(operand),
                ) => self.root(operand),
                (operators::CONDITIONAL, _) => Root::Conditional,
                _ => Root::Other,
            },
            _ => Root::Other,
        }
    }

    /// `paid`: the attribute that this may be is looked up by itself, and not as part of another step.
    fn expr(&mut self, expr: &Expr, paid: bool) -> Op {
        match &expr.kind {
            Kind::Missing => Op::Literal(Literal::Null),
            Kind::Struct { name, fields } => {
                let fields =
                    fields.iter().map(|field| (field.name.clone(), self.whole(&field.value), field.optional));
                Op::Message { name: name.clone(), fields: fields.collect() }
            }
            Kind::Literal(literal) => Op::Literal(literal.clone()),
            Kind::Ident(name) => self.ident(expr, name, paid),
            Kind::Select { operand, field, test } => {
                if let Some(index) = self.composed(operand, field) {
                    let mode = if *test { Mode::Test } else { Mode::Value };
                    return Op::Composed { index, mode, paid: paid && !test };
                }
                // A test of presence is not paid for, only the way to it.
                let operand = self.operand(operand, paid && !test);
                let mode = match test {
                    // Upstream gives back what it never took.
                    true if self.root(expr) == Root::Conditional => Mode::TestForLess,
                    true => Mode::Test,
                    false => Mode::Value,
                };
                Op::Select { operand, field: field.clone(), mode }
            }
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args, paid),
            Kind::List { elements, optional } => {
                let elements: Vec<Op> = elements.iter().map(|element| self.whole(element)).collect();
                let constant = elements.iter().all(is_constant);
                self.folded(Op::List { elements, optional: optional.clone() }, constant)
            }
            Kind::Map(entries) => {
                let parts: Vec<(Op, Op, bool)> = entries
                    .iter()
                    .map(|entry| (self.whole(&entry.key), self.whole(&entry.value), entry.optional))
                    .collect();
                let constant = parts.iter().all(|(key, value, _)| is_constant(key) && is_constant(value));
                self.folded(Op::Map(parts), constant)
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn folded(&mut self, op: Op, constant: bool) -> Op {
        if !constant {
            return op;
        }
        self.constants.push(op);
        Op::Constant(self.constants.len() - 1)
    }

    fn ident(&mut self, expr: &Expr, name: &Arc<str>, paid: bool) -> Op {
        if let Some(Meaning::Type(ty)) = self.checked.meanings.get(&expr.id) {
            return Op::Type(type_name(ty).into());
        }
        let which = match self.names {
            Names::Old(old) if **name == *old => Variable::Old,
            Names::Old(_) => Variable::Current,
            Names::Scope(names, _) => {
                Variable::Named(names.iter().position(|known| **known == **name).unwrap_or(usize::MAX))
            }
        };
        // Upstream goes by the name alone.
        self.uses_old |= which == Variable::Old;
        if let Some((_, slot)) = self.scopes.iter().rev().find(|(known, _)| known == name) {
            return Op::Local { slot: *slot, paid };
        }
        Op::Variable { which, paid }
    }

    /// Which of the policy's own variables a selection means.
    fn composed(&self, operand: &Expr, field: &str) -> Option<usize> {
        let (Kind::Ident(name), Names::Scope(_, own)) = (&operand.kind, self.names) else { return None };
        if &**name != VARIABLES || self.scopes.iter().any(|(known, _)| &**known == VARIABLES) {
            return None;
        }
        own.get(field).copied()
    }

    /// What a selection or an index is made on.
    fn operand(&mut self, expr: &Expr, paid: bool) -> Box<Op> {
        let op = if self.is_attribute(expr) {
            self.expr(expr, paid)
        } else {
            let op = self.whole(expr);
            if paid && self.root(expr) == Root::Other { Op::Attribute(Box::new(op)) } else { op }
        };
        Box::new(op)
    }

    fn call(&mut self, expr: &Expr, name: &Arc<str>, target: Option<&Expr>, args: &[Expr], paid: bool) -> Op {
        match (&**name, args) {
            (operators::AND, [left, right]) => Op::And(Box::new([self.whole(left), self.whole(right)])),
            (operators::OR, [left, right]) => Op::Or(Box::new([self.whole(left), self.whole(right)])),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                // Branches are parts of the attribute that the whole is.
                let branches = [self.whole(condition), self.expr(yes, false), self.expr(no, false)];
                Op::Conditional(Box::new(branches))
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
                let negated = &**name == operators::NOT_EQUALS;
                let price = Price::of(name, None);
                Op::Equals { negated, sides: Box::new([self.whole(left), self.whole(right)]), price }
            }
            (operators::INDEX | operators::OPTIONAL_INDEX, [operand, index]) => {
                self.index(operand, index, &**name == operators::OPTIONAL_INDEX, paid)
            }
            (operators::OPTIONAL_SELECT, [operand, field]) => {
                let field = field.string_literal().cloned().unwrap_or_else(|| "".into());
                if let Some(index) = self.composed(operand, &field) {
                    return Op::Composed { index, mode: Mode::Optional, paid };
                }
                Op::Select { operand: self.operand(operand, paid), field, mode: Mode::Optional }
            }
            (operators::NOT_STRICTLY_FALSE, [value]) => Op::NotStrictlyFalse(Box::new(self.whole(value))),
            ("or" | "orValue", [other]) => {
                let optional = target.map(|target| self.whole(target));
                Op::Otherwise {
                    optional: Box::new(optional.unwrap_or(Op::Literal(Literal::Null))),
                    other: Box::new(self.whole(other)),
                    unwrap: &**name == "orValue",
                }
            }
            _ => self.plain_call(expr, name, target, args),
        }
    }

    fn index(&mut self, operand: &Expr, index: &Expr, optional: bool, paid: bool) -> Op {
        let operand = self.operand(operand, paid);
        // An attribute that is an index is paid for by itself, unless the index is optional; everything else is when it
        // is used.
        let attribute = self.is_attribute(index) && self.root(index) != Root::Other;
        let by_itself = attribute && !optional;
        let index = Box::new(self.expr(index, !attribute || by_itself));
        Op::Index { operand, index, optional, paid: !by_itself }
    }

    fn plain_call(&mut self, expr: &Expr, name: &Arc<str>, target: Option<&Expr>, args: &[Expr]) -> Op {
        let planned: Vec<Op> = target.into_iter().chain(args).map(|arg| self.whole(arg)).collect();
        let overloads = self.checked.overloads(expr);
        let only = match overloads {
            [only] => Some(*only),
            _ => None,
        };
        if &**name == operators::IN
            && only.is_some_and(|overload| matches!(overload.args[1], Type::List(_)))
            && let [_, Op::Constant(constants)] = planned.as_slice()
            && self.is_set(*constants)
        {
            let constants = *constants;
            let value = planned.into_iter().next().unwrap_or(Op::Literal(Literal::Null));
            return Op::InConstants { value: Box::new(value), constants };
        }
        let conversion = matches!(
            &**name,
            "bool"
                | "bytes"
                | "double"
                | "duration"
                | "dyn"
                | "int"
                | "string"
                | "timestamp"
                | "type"
                | "uint"
        );
        let constant = conversion && planned.len() == 1 && planned.iter().all(is_constant);
        // A search for a constant pattern is another kind of step.
        let searches = matches!(&**name, "matches" | "find" | "findAll")
            && planned.get(1).is_some_and(|pattern| matches!(pattern, Op::Literal(Literal::String(_))));
        let call = Op::Call {
            together: planned.len() <= 2 && !searches,
            function: function(name, planned.len()),
            name: name.clone(),
            args: planned,
            price: Price::of(name, only),
        };
        self.folded(call, constant)
    }

    /// Whether a constant list can be made a set: its elements are all plain keys.
    fn is_set(&self, constants: usize) -> bool {
        match &self.constants[constants] {
            Op::List { elements, optional } => {
                optional.is_empty()
                    && elements.iter().all(|element| {
                        matches!(
                            element,
                            Op::Literal(
                                Literal::Bool(_)
                                    | Literal::Int(_)
                                    | Literal::Uint(_)
                                    | Literal::Double(_)
                                    | Literal::String(_)
                            )
                        )
                    })
            }
            _ => false,
        }
    }

    fn fold(&mut self, fold: &Fold) -> Op {
        let init = self.whole(&fold.init);
        let range = self.whole(&fold.range);
        let depth = self.scopes.len();
        let slot = |planner: &mut Self, name: &Arc<str>| {
            let at = planner.scopes.len();
            planner.scopes.push((name.clone(), at));
            planner.locals = planner.locals.max(at + 1);
            at
        };
        let accu = slot(self, &fold.accu);
        let var = slot(self, &fold.var);
        let var2 = fold.var2.as_ref().map(|name| slot(self, name));
        let condition = self.whole(&fold.condition);
        let step = self.whole(&fold.step);
        // The result sees the accumulator only.
        self.scopes.truncate(depth + 1);
        let result = self.whole(&fold.result);
        self.scopes.truncate(depth);
        Op::Fold(Box::new(FoldOp { range, accu, var, var2, init, condition, step, result }))
    }
}

fn is_constant(op: &Op) -> bool {
    matches!(op, Op::Literal(_) | Op::Constant(_) | Op::Type(_))
}

/// As values of type `type` print it.
pub(crate) fn type_name(ty: &Type) -> String {
    match ty {
        Type::List(_) => "list".into(),
        Type::Map(_) => "map".into(),
        Type::Optional(_) => "optional_type".into(),
        Type::Meta(_) => "type".into(),
        Type::Null => "null_type".into(),
        Type::Duration => "google.protobuf.Duration".into(),
        Type::Timestamp => "google.protobuf.Timestamp".into(),
        other => other.shown(),
    }
}
