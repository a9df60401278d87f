//! What an expression can cost at most, told before it is ever evaluated.
//!
//! Semantics of cel-go `checker/cost.go`, of its list and set extensions, and of apiserver `pkg/cel/library/cost.go`. A
//! definition is refused for these numbers, so that they must be the same, odd ones included.

use std::sync::{Arc, LazyLock};

use rustc_hash::FxHashMap;

use super::ast::{ACCUMULATOR, Expr, Fold, Id, Kind, Literal, operators};
use super::check::Checked;
use super::declared::{Declared, Shape};
use super::estimate_calls;
use super::functions_declared::OverloadRef;
use super::types::Type;

pub(crate) const TRAVERSE: f64 = 0.1;
pub(crate) const PATTERN: f64 = 0.25;
pub(crate) const LIST_COST: u64 = 10;
pub(crate) const MAP_COST: u64 = 30;

/// The least and the most of a size or a cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    pub const ZERO: Range = Range::fixed(0);
    pub const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    pub const fn fixed(value: u64) -> Self {
        Self { min: value, max: value }
    }

    pub fn plus(self, other: Range) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub fn times(self, other: Range) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub fn scaled(self, factor: f64) -> Self {
        Self { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }

    pub fn union(self, other: Range) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Rounded up, without overflow.
fn scaled(value: u64, factor: f64) -> u64 {
    let value = value as f64;
    if value > 0.0 && factor > 0.0 && value > u64::MAX as f64 / factor {
        return u64::MAX;
    }
    let product = (value * factor).ceil();
    if product >= 18_446_744_073_709_551_616.0 { u64::MAX } else { product as u64 }
}

/// Sizes of the keys (or indices) and values of a list or map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(a: Option<Entries>, b: Option<Entries>) -> Option<Entries> {
        let (a, b) = (a?, b?);
        Some(Entries { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) })
    }
}

/// Where a value comes from, seen from the declared variable.
#[derive(Clone, Debug, Default)]
pub(crate) enum Path {
    /// From no variable.
    #[default]
    None,
    Declared(Arc<Declared>),
    /// From a variable, but of no declared type.
    Lost,
}

impl Path {
    pub fn size(&self) -> Option<Range> {
        match self {
            Self::Declared(declared) => Some(Range { min: 0, max: declared.max_elements }),
            _ => None,
        }
    }

    /// How long the elements of what is here are.
    pub fn element_size(&self) -> Option<Range> {
        match self {
            Self::Declared(declared) => Path::Declared(declared.element()?.clone()).size(),
            _ => None,
        }
    }
}

/// Upstream declares no bound for the length of keys, and takes that for none.
static MAP_KEY: LazyLock<Arc<Declared>> = LazyLock::new(|| Arc::new(Declared::new(Shape::String, 0, 2)));

/// An argument of a call.
pub(crate) struct Node<'e> {
    pub expr: &'e Expr,
    pub ty: &'e Type,
    pub path: Path,
    pub size: Option<Range>,
}

impl Node<'_> {
    pub fn size_or_unknown(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

/// What a call costs, and how long its result is.
pub(crate) struct CallCost {
    pub cost: Range,
    pub result: Option<Range>,
}

/// The cost of a checked expression over variables of the declared type.
pub(crate) fn estimate(checked: &Checked, root: &Arc<Declared>) -> Range {
    let mut estimator = Estimator {
        checked,
        root,
        paths: FxHashMap::default(),
        sizes: FxHashMap::default(),
        entries: FxHashMap::default(),
        locals: Vec::new(),
    };
    estimator.cost(&checked.expr)
}

struct Local<'e> {
    name: &'e str,
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'e> {
    checked: &'e Checked,
    root: &'e Arc<Declared>,
    paths: FxHashMap<Id, Path>,
    sizes: FxHashMap<Id, Range>,
    entries: FxHashMap<Id, Entries>,
    locals: Vec<Local<'e>>,
}

impl<'e> Estimator<'e> {
    fn local(&self, name: &str) -> Option<&Local<'e>> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    /// Upstream does not look where a path of one step begins, so that it always leads to the root.
    fn step(&self, path: &Path, next: impl FnOnce(&Arc<Declared>) -> Option<Arc<Declared>>) -> Path {
        match path {
            Path::None => Path::Declared(self.root.clone()),
            Path::Declared(declared) => next(declared).map_or(Path::Lost, Path::Declared),
            Path::Lost => Path::Lost,
        }
    }

    fn elements(&self, path: &Path) -> Path {
        self.step(path, |declared| declared.element().cloned())
    }

    fn keys(&self, path: &Path) -> Path {
        self.step(path, |declared| matches!(declared.shape, Shape::Map(_)).then(|| MAP_KEY.clone()))
    }

    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = literal_size(expr) {
            return Some(size);
        }
        if let Some(size) = self.path(expr).size() {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.checked.type_of(expr).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn set_size(&mut self, expr: &Expr, size: Option<Range>) {
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
    }

    fn entries(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }

    fn set_entries(&mut self, expr: &Expr, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.entries.insert(expr.id, entries);
        }
    }

    fn cost(&mut self, expr: &'e Expr) -> Range {
        match &expr.kind {
            Kind::Missing | Kind::Literal(_) | Kind::Struct { .. } => Range::ZERO,
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => Path::Declared(self.root.clone()),
                };
                self.paths.insert(expr.id, path);
                Range::fixed(1)
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, test: false } => {
                let mut sum = self.cost(operand);
                if matches!(self.checked.type_of(operand), Type::Map(_) | Type::Object(_) | Type::Named(_)) {
                    sum = sum.plus(Range::fixed(1));
                }
                let path = self.step(&self.path(operand), |declared| declared.field(field).cloned());
                self.paths.insert(expr.id, path);
                sum
            }
            Kind::Call { .. } => self.call(expr),
            Kind::List { elements, .. } => {
                let mut sum = Range::ZERO;
                let mut item = Range { min: if elements.is_empty() { 0 } else { u64::MAX }, max: 0 };
                for element in elements {
                    sum = sum.plus(self.cost(element));
                    item = item.union(self.size_or_unknown(element));
                }
                let entries = Entries { list: true, key: Range::fixed(1), value: item };
                self.set_entries(expr, Some(entries));
                sum.plus(Range::fixed(LIST_COST))
            }
            Kind::Map(parts) => {
                let mut sum = Range::ZERO;
                let nothing = Range { min: if parts.is_empty() { 0 } else { u64::MAX }, max: 0 };
                let (mut key, mut value) = (nothing, nothing);
                for part in parts {
                    sum = sum.plus(self.cost(&part.key)).plus(self.cost(&part.value));
                    key = key.union(self.size_or_unknown(&part.key));
                    value = value.union(self.size_or_unknown(&part.value));
                }
                self.set_entries(expr, Some(Entries { list: false, key, value }));
                sum.plus(Range::fixed(MAP_COST))
            }
            Kind::Fold(fold) if is_bind(fold) => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn bind(&mut self, expr: &'e Expr, fold: &'e Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_accu(fold);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        let size = self.size(&fold.result);
        self.set_size(expr, size);
        self.set_entries(expr, self.entries(&fold.result));
        sum
    }

    fn push_accu(&mut self, fold: &'e Fold) {
        let local = Local {
            name: &fold.accu,
            path: self.path(&fold.init),
            size: self.size(&fold.init),
            entries: self.entries(&fold.init),
        };
        self.locals.push(local);
    }

    fn push_loop_variables(&mut self, fold: &'e Fold) {
        let entries = self.entries(&fold.range);
        let list = match entries {
            Some(entries) => entries.list,
            None => matches!(self.checked.type_of(&fold.range), Type::List(_)),
        };
        let path = self.path(&fold.range);
        let key = Local {
            name: &fold.var,
            path: if list { self.step(&path, |_| None) } else { self.keys(&path) },
            size: entries.map(|entries| entries.key),
            entries: None,
        };
        let value = Local {
            name: fold.var2.as_deref().unwrap_or(&fold.var),
            path: self.elements(&path),
            size: entries.map(|entries| entries.value),
            entries: None,
        };
        match (&fold.var2, list) {
            (Some(_), _) => self.locals.extend([key, value]),
            (None, true) => self.locals.push(value),
            (None, false) => self.locals.push(key),
        }
    }

    fn fold(&mut self, expr: &'e Expr, fold: &'e Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_accu(fold);
        let before = self.locals.len();
        self.push_loop_variables(fold);
        let condition = self.cost(&fold.condition);
        let step = self.cost(&fold.step);
        self.locals.truncate(before);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        let times = self.size_or_unknown(&fold.range);
        sum = sum.plus(times.times(step.plus(condition)));
        match &fold.init.kind {
            Kind::Literal(_) => {
                let size = self.size(&fold.init);
                self.set_size(expr, size);
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.set_size(expr, Some(times));
                self.set_entries(expr, self.entries(&fold.step));
            }
            _ => {}
        }
        sum
    }

    fn node(&mut self, expr: &'e Expr) -> Node<'e> {
        let mut path = self.path(expr);
        if matches!(&expr.kind, Kind::Ident(name) if &**name == ACCUMULATOR) {
            path = Path::None;
        }
        let size = self.size(expr);
        Node { expr, ty: self.checked.type_of(expr), path, size }
    }

    fn call(&mut self, expr: &'e Expr) -> Range {
        let Kind::Call { function, target, args } = &expr.kind else { return Range::ZERO };
        if &**function == "dyn"
            && let [arg] = args.as_slice()
        {
            let cost = self.cost(arg).plus(Range::fixed(1));
            let size = self.size(arg);
            self.set_size(expr, size);
            self.set_entries(expr, self.entries(arg));
            return cost;
        }
        let costs: Vec<Range> = args.iter().map(|arg| self.cost(arg)).collect();
        let nodes: Vec<Node<'e>> = args.iter().map(|arg| self.node(arg)).collect();
        let overloads: Vec<OverloadRef> = self.checked.overloads(expr).to_vec();
        if overloads.is_empty() {
            return Range::ZERO;
        }
        let target_cost = target.as_ref().map_or(Range::ZERO, |target| self.cost(target));
        let target = target.as_ref().map(|target| self.node(target));
        let mut cost = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Range> = None;
        for overload in overloads {
            let one = self.overload(expr, function, overload, target.as_ref(), &nodes, &costs);
            cost = cost.union(one.cost);
            size = match (size, one.result) {
                (Some(known), Some(new)) => Some(known.union(new)),
                (known, new) => new.or(known),
            };
            if &**function == operators::INDEX
                && let (Some(Type::List(_) | Type::Map(_)), [container, ..]) =
                    (overload.args.first(), args.as_slice())
            {
                size = self.entries(container).map(|entries| entries.value);
                let path = self.elements(&self.path(container));
                self.paths.insert(expr.id, path);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        self.set_size(expr, size);
        target_cost.plus(cost)
    }

    fn overload(
        &mut self,
        expr: &'e Expr,
        function: &str,
        overload: OverloadRef,
        target: Option<&Node<'e>>,
        args: &[Node<'e>],
        costs: &[Range],
    ) -> CallCost {
        let all = costs.iter().fold(Range::ZERO, |sum, cost| sum.plus(*cost));
        if let Some(CallCost { cost, result }) = estimate_calls::library(function, overload, target, args) {
            return CallCost { cost: cost.plus(all), result };
        }
        match (function, args) {
            (operators::AND | operators::OR, [_, _]) => {
                let cost = Range { min: costs[0].min, max: costs[0].plus(costs[1]).max };
                CallCost { cost, result: None }
            }
            (operators::CONDITIONAL, [_, yes, no]) => {
                let size = yes.size_or_unknown().union(no.size_or_unknown());
                let entries = Entries::union(self.entries(yes.expr), self.entries(no.expr));
                self.set_entries(expr, entries);
                CallCost { cost: costs[0].plus(costs[1].union(costs[2])), result: Some(size) }
            }
            (operators::ADD, [left, right])
                if matches!(overload.args[0], Type::String | Type::Bytes | Type::List(_)) =>
            {
                let size = left.size_or_unknown().plus(right.size_or_unknown());
                let entries = Entries::union(self.entries(left.expr), self.entries(right.expr));
                self.set_entries(expr, entries);
                let own = match overload.args[0] {
                    Type::List(_) => Range::fixed(1),
                    _ => size.scaled(TRAVERSE),
                };
                CallCost { cost: own.plus(all), result: Some(size) }
            }
            _ => {
                let CallCost { cost, result } = estimate_calls::standard(function, overload, target, args);
                CallCost { cost: cost.plus(all), result }
            }
        }
    }
}

/// A name for a value, written as a loop that never runs.
pub(crate) fn is_bind(fold: &Fold) -> bool {
    matches!(&fold.range.kind, Kind::List { elements, .. } if elements.is_empty())
        && matches!(fold.condition.kind, Kind::Literal(Literal::Bool(false)))
}

fn literal_size(expr: &Expr) -> Option<Range> {
    let size = match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(Range::fixed(size as u64))
}
