//! Evaluates programs within their budgets.
//!
//! Semantics of cel-go's interpreter. Every step is charged as upstream charges it; work and memory that upstream does
//! not charge for are bounded besides.

use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::ast::Literal;
use super::equality::equal;
use super::functions::Function;
use super::functions_declared::overloads;
use super::plan::{Op, Program, Variable, type_name};
use super::price::Price;
use super::scope::{Known, Scope};
use super::types::Type;
use super::value::{Key, List, Map, Order, OwnedMap, Text, Value};

/// What one evaluation may look at, in values, and may allocate, in bytes. Upstream's costs bound neither.
pub(crate) const MAX_WORK: u64 = 20_000_000;
const MAX_MEMORY: u64 = 64 << 20;
/// How much text counts as one value.
pub(super) const BYTES_A_STEP: u64 = 32;

pub(crate) const LIST_PRICE: u64 = 10;
pub(crate) const MAP_PRICE: u64 = 30;

/// Why there is no value.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// An error of the expression, which `&&` and `||` may absorb.
    Error(String),
    /// A budget is spent.
    Cancelled,
}

impl Failure {
    pub fn message(&self) -> &str {
        match self {
            Self::Error(message) => message,
            Self::Cancelled => "operation cancelled: actual cost limit exceeded",
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Error(message)
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::Error(message.to_owned())
    }
}

pub(crate) type Evaluated<'a> = Result<Value<'a>, Failure>;

pub(crate) const NO_SUCH_OVERLOAD: &str = "no such overload";

pub(crate) fn no_such_overload<'a>() -> Evaluated<'a> {
    Err(NO_SUCH_OVERLOAD.into())
}

/// The variables of an evaluation.
#[derive(Clone)]
pub(crate) struct Variables<'a> {
    pub current: Result<Value<'a>, String>,
    pub old: Option<Result<Value<'a>, String>>,
    /// What expressions of admission see instead.
    pub scope: Option<&'a Scope<'a>>,
}

impl Default for Variables<'_> {
    fn default() -> Self {
        Self { current: Ok(Value::Null), old: None, scope: None }
    }
}

/// One evaluation of one program.
pub(crate) struct Machine<'a> {
    program: &'a Program,
    pub(super) variables: &'a Variables<'a>,
    /// A variable may hold a failure, which is that of whoever looks at it.
    pub(super) locals: Vec<Evaluated<'a>>,
    constants: Vec<Option<Value<'a>>>,
    sets: Vec<Option<Rc<FxHashSet<Key>>>>,
    pub cost: u64,
    limits: Limits,
    work: u64,
    memory: u64,
    /// Constants are made for nothing.
    free: bool,
    pub(super) known: Known<'a>,
}

/// How far an evaluation may go: upstream's cost, and values looked at.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub cost: u64,
    pub work: u64,
}

/// What an evaluation came to, and what it took.
pub(crate) struct Outcome<'a> {
    pub value: Evaluated<'a>,
    pub cost: u64,
    pub work: u64,
}

pub(crate) fn evaluate<'a>(
    program: &'a Program,
    variables: &'a Variables<'a>,
    limits: Limits,
) -> Outcome<'a> {
    evaluate_with(program, variables, limits, &mut Known::default())
}

/// As `evaluate`, with what is known already of a policy's own variables.
pub(crate) fn evaluate_with<'a>(
    program: &'a Program,
    variables: &'a Variables<'a>,
    limits: Limits,
    known: &mut Known<'a>,
) -> Outcome<'a> {
    let mut machine = Machine::new(program, variables, limits);
    std::mem::swap(&mut machine.known, known);
    let value = machine.eval(&program.op);
    std::mem::swap(&mut machine.known, known);
    Outcome { value, cost: machine.cost, work: machine.work }
}

/// Computes all conversions of constants, whose faults are told before anything runs.
pub(crate) fn try_constants(program: &Program) -> Result<(), String> {
    let variables = Variables::default();
    let mut machine = Machine::new(program, &variables, Limits { cost: u64::MAX, work: MAX_WORK });
    for (index, op) in program.constants.iter().enumerate() {
        if matches!(op, Op::Call { .. }) {
            machine.constant(index).map_err(|failure| failure.message().to_owned())?;
        }
    }
    Ok(())
}

impl<'a> Machine<'a> {
    fn new(program: &'a Program, variables: &'a Variables<'a>, limits: Limits) -> Self {
        Self {
            program,
            variables,
            locals: vec![Ok(Value::Null); program.locals],
            constants: vec![None; program.constants.len()],
            sets: vec![None; program.constants.len()],
            cost: 0,
            limits,
            work: 0,
            memory: 0,
            free: false,
            known: Known::default(),
        }
    }

    pub(super) fn charge(&mut self, cost: u64) -> Result<(), Failure> {
        if self.free {
            return Ok(());
        }
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limits.cost { Err(Failure::Cancelled) } else { Ok(()) }
    }

    /// Something that is looked at.
    pub fn work(&mut self, steps: u64) -> Result<(), Failure> {
        self.work = self.work.saturating_add(steps);
        if self.work > self.limits.work { Err(Failure::Cancelled) } else { Ok(()) }
    }

    /// Something that is allocated.
    pub fn allocate(&mut self, bytes: usize) -> Result<(), Failure> {
        self.memory = self.memory.saturating_add(bytes as u64);
        self.work(bytes as u64 / 64)?;
        if self.memory > MAX_MEMORY { Err(Failure::Cancelled) } else { Ok(()) }
    }

    pub fn allocate_list(&mut self, elements: usize) -> Result<(), Failure> {
        self.allocate(elements.saturating_mul(size_of::<Value<'a>>()))
    }

    pub fn new_text(&mut self, text: String) -> Evaluated<'a> {
        self.allocate(text.len())?;
        Ok(Value::text(text))
    }

    pub fn new_list(&mut self, elements: Vec<Value<'a>>) -> Evaluated<'a> {
        self.allocate_list(elements.len())?;
        Ok(Value::list(elements))
    }

    pub(super) fn eval(&mut self, op: &'a Op) -> Evaluated<'a> {
        match op {
            Op::Literal(literal) => Ok(literal_value(literal)),
            Op::Constant(index) => self.constant(*index),
            Op::Type(name) => Ok(Value::Type((&**name).into())),
            Op::Variable { which, paid } => self.variable(*which, *paid),
            Op::Local { slot, paid } => {
                self.charge(u64::from(*paid))?;
                self.locals[*slot].clone()
            }
            Op::Attribute(inner) => {
                let value = self.eval(inner);
                if !matches!(value, Err(Failure::Cancelled)) {
                    self.charge(1)?;
                }
                value
            }
            Op::Composed { index, mode, paid } => self.composed(*index, *mode, *paid),
            Op::Select { operand, field, mode } => self.select(operand, field, *mode),
            Op::Index { operand, index, optional, paid } => self.index(operand, index, *optional, *paid),
            Op::And(sides) => self.logical(sides, false),
            Op::Or(sides) => self.logical(sides, true),
            Op::Conditional(parts) => match self.eval(&parts[0])? {
                Value::Bool(true) => self.eval(&parts[1]),
                Value::Bool(false) => self.eval(&parts[2]),
                _ => no_such_overload(),
            },
            Op::Equals { negated, sides, price } => self.equals(sides, *negated, *price),
            Op::Otherwise { optional, other, unwrap } => match self.eval(optional)? {
                Value::Optional(Some(value)) if *unwrap => Ok((*value).clone()),
                Value::Optional(Some(value)) => Ok(Value::Optional(Some(value))),
                Value::Optional(None) => self.eval(other),
                // What is no optional value at all is taken as it is.
                value => Ok(value),
            },
            Op::NotStrictlyFalse(inner) => {
                let value = self.eval(inner);
                self.charge(1)?;
                match value {
                    Err(Failure::Cancelled) => Err(Failure::Cancelled),
                    Ok(Value::Bool(value)) => Ok(Value::Bool(value)),
                    _ => Ok(Value::Bool(true)),
                }
            }
            Op::InConstants { value, constants } => {
                let value = self.eval(value)?;
                let set = self.set(*constants)?;
                Ok(Value::Bool(Key::of(&value).is_some_and(|key| set.contains(&key))))
            }
            Op::Call { function, name, args, price, together } => {
                self.call(*function, name, args, *price, *together)
            }
            Op::List { elements, optional } => self.list(elements, optional),
            Op::Map(entries) => self.map(entries),
            Op::Message { name, fields } => self.message(name, fields),
            Op::Fold(fold) => self.fold(fold),
        }
    }

    fn variable(&mut self, which: Variable, paid: bool) -> Evaluated<'a> {
        self.charge(u64::from(paid))?;
        let variable = match which {
            Variable::Current => Some(&self.variables.current),
            Variable::Old => self.variables.old.as_ref(),
            Variable::Named(at) => return self.named(at),
        };
        match variable {
            Some(Ok(value)) => Ok(value.clone()),
            Some(Err(message)) => Err(message.as_str().into()),
            None => Err("no such attribute(s): oldSelf".into()),
        }
    }

    fn equals(&mut self, sides: &'a [Op; 2], negated: bool, price: Price) -> Evaluated<'a> {
        let (args, failure) = self.arguments(sides, true)?;
        self.charge(price.before(&args))?;
        failure.map_or(Ok(()), Err)?;
        match equal(self, &args[0], &args[1]) {
            Ok(same) => Ok(Value::Bool(same != negated)),
            // What cannot be compared is not the same.
            Err(Failure::Error(_)) if negated => Ok(Value::Bool(true)),
            Err(failure) => Err(failure),
        }
    }

    fn call(
        &mut self,
        function: Function,
        name: &str,
        args: &'a [Op],
        price: Price,
        together: bool,
    ) -> Evaluated<'a> {
        let (values, failure) = self.arguments(args, together)?;
        self.charge(price.before(&values))?;
        // Upstream asks nothing for some functions that read a text from end to end.
        let read: u64 = values.iter().map(Value::bytes).sum();
        self.work(read / BYTES_A_STEP)?;
        let result = match failure {
            None => function(self, name, &values).map_err(|failure| signed(failure, name, &values)),
            Some(failure) => Err(failure),
        };
        match &result {
            Err(Failure::Cancelled) => {}
            Ok(value) => self.charge(price.after(value))?,
            Err(_) => self.charge(price.after(&Value::Null))?,
        }
        result
    }

    fn list(&mut self, elements: &'a [Op], optional: &[usize]) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for (at, element) in elements.iter().enumerate() {
            let value = self.eval(element);
            if matches!(value, Err(Failure::Error(_))) {
                self.charge(LIST_PRICE)?;
            }
            match value? {
                Value::Optional(inner) if optional.contains(&at) => {
                    values.extend(inner.map(|value| (*value).clone()));
                }
                _ if optional.contains(&at) => {
                    return Err("cannot initialize optional list element from non-optional value".into());
                }
                value => values.push(value),
            }
        }
        self.charge(LIST_PRICE)?;
        self.new_list(values)
    }

    /// The arguments of a call. `together`: all are evaluated, and the call is paid for, even if one fails; otherwise
    /// what follows the first that fails is not looked at.
    fn arguments(
        &mut self,
        args: &'a [Op],
        together: bool,
    ) -> Result<(Vec<Value<'a>>, Option<Failure>), Failure> {
        let mut values = Vec::with_capacity(args.len());
        let mut failure = None;
        for arg in args {
            match self.eval(arg) {
                Ok(value) => values.push(value),
                Err(Failure::Error(message)) if together => {
                    failure = failure.or(Some(Failure::Error(message)));
                    values.push(Value::Null);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok((values, failure))
    }

    fn constant(&mut self, index: usize) -> Evaluated<'a> {
        if let Some(value) = &self.constants[index] {
            return Ok(value.clone());
        }
        let program = self.program;
        let before = std::mem::replace(&mut self.free, true);
        let value = self.eval(&program.constants[index]);
        self.free = before;
        let value = value?;
        self.constants[index] = Some(value.clone());
        Ok(value)
    }

    fn set(&mut self, index: usize) -> Result<Rc<FxHashSet<Key>>, Failure> {
        if let Some(set) = &self.sets[index] {
            return Ok(set.clone());
        }
        let mut set = FxHashSet::default();
        if let Value::List(List::Owned { elements, .. }) = self.constant(index)? {
            set.extend(elements.iter().filter_map(Key::of));
        }
        let set = Rc::new(set);
        self.sets[index] = Some(set.clone());
        Ok(set)
    }

    /// `||` where `decisive` is true, else `&&`: an error counts only if the other side does not decide.
    fn logical(&mut self, sides: &'a [Op; 2], decisive: bool) -> Evaluated<'a> {
        let mut failure = None;
        for side in sides {
            match self.eval(side) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failure = failure.or(Some(Failure::from(NO_SUCH_OVERLOAD))),
                Err(Failure::Cancelled) => return Err(Failure::Cancelled),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn map(&mut self, entries: &'a [(Op, Op, bool)]) -> Evaluated<'a> {
        let mut map = OwnedMap::default();
        for (key_op, value_op, optional) in entries {
            let pair = self.eval(key_op).and_then(|name| Ok((name, self.eval(value_op)?)));
            if matches!(pair, Err(Failure::Error(_))) {
                self.charge(MAP_PRICE)?;
            }
            let (name, value) = pair?;
            let Some(key) = Key::of(&name) else {
                return Err(format!("unsupported key type: {}", name.type_name()).into());
            };
            match value {
                Value::Optional(None) if *optional => map.remove(&key),
                Value::Optional(Some(inner)) if *optional => {
                    map.insert(key, name, (*inner).clone());
                }
                _ if *optional => {
                    return Err("cannot initialize optional entry from non-optional value".into());
                }
                value => {
                    map.insert(key, name, value);
                }
            }
        }
        self.charge(MAP_PRICE)?;
        self.allocate_list(map.entries.len() * 3)?;
        Ok(Value::Map(Map::Owned(Rc::new(map))))
    }
}

/// Most functions tell what they were called with when that does not fit any of their declarations.
fn signed(failure: Failure, name: &str, args: &[Value<'_>]) -> Failure {
    let operator = |c: char| matches!(c, '_' | '@' | '!' | '-');
    let bare =
        name.starts_with(operator) || matches!(name, "contains" | "startsWith" | "endsWith" | "matches");
    if bare || !matches!(&failure, Failure::Error(message) if message == NO_SUCH_OVERLOAD) {
        return failure;
    }
    if name == "size" {
        return format!("{NO_SUCH_OVERLOAD}: size").into();
    }
    let takes = |wanted: &Type, arg: &Value<'_>| match wanted {
        Type::Dyn | Type::Param(_) => true,
        wanted => type_name(wanted) == arg.type_name(),
    };
    let fits = overloads(name).unwrap_or_default().iter().any(|overload| {
        overload.args.len() == args.len()
            && overload.args.iter().zip(args).all(|(wanted, arg)| takes(wanted, arg))
    });
    if fits {
        return failure;
    }
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    format!("{NO_SUCH_OVERLOAD}: {name}({})", types.join(", ")).into()
}

pub(crate) fn literal_value(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Borrowed(text)),
        Literal::Bytes(bytes) => Value::Bytes((&**bytes).into()),
    }
}

/// A list whose elements are known, of the same order as another.
pub(crate) fn list_like<'a>(elements: Vec<Value<'a>>, order: Order<'a>) -> Value<'a> {
    Value::List(List::Owned { elements: Rc::new(elements), order })
}
