//! The nodes that parsing and macros make, and the faults found on the way.

use super::ast::{Entry, Expr, Field, Id, Kind};
use super::source::{Faults, Positions};

/// Copies of copies are where expressions explode: no expression has more nodes.
const MAX_NODES: usize = 200_000;

/// What parsing makes: nodes, and faults.
pub(crate) struct Growth {
    exploded: bool,
    pub positions: Positions,
    pub faults: Faults,
}

impl Growth {
    pub fn new(faults: Faults) -> Self {
        Self { exploded: false, positions: Positions::default(), faults }
    }

    pub fn at(&mut self, offset: u32, kind: Kind) -> Expr {
        Expr { id: self.positions.new_id(offset), kind }
    }

    pub fn new_expr(&mut self, like: Id, kind: Kind) -> Expr {
        let offset = self.positions.offset(like);
        Expr { id: self.positions.new_id(offset), kind }
    }

    pub fn fault_at(&mut self, id: Id, message: impl Into<String>) {
        let offset = self.positions.offset(id);
        self.faults.add(Some(offset), message.into());
    }

    /// The same expression with names of its own for all its nodes.
    pub fn copy(&mut self, expr: &Expr) -> Expr {
        if self.positions.count() > MAX_NODES {
            if !self.exploded {
                self.faults.add(None, "expression is too large once its macros are expanded".to_owned());
            }
            self.exploded = true;
            return self.new_expr(expr.id, Kind::Missing);
        }
        let kind = match &expr.kind {
            Kind::Missing | Kind::Literal(_) | Kind::Ident(_) => expr.kind.clone(),
            Kind::Select { operand, field, test } => {
                Kind::Select { operand: Box::new(self.copy(operand)), field: field.clone(), test: *test }
            }
            Kind::Call { function, target, args } => Kind::Call {
                function: function.clone(),
                target: target.as_ref().map(|target| Box::new(self.copy(target))),
                args: args.iter().map(|arg| self.copy(arg)).collect(),
            },
            Kind::List { elements, optional } => Kind::List {
                elements: elements.iter().map(|element| self.copy(element)).collect(),
                optional: optional.clone(),
            },
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|entry| Entry {
                        key: self.copy(&entry.key),
                        value: self.copy(&entry.value),
                        optional: entry.optional,
                    })
                    .collect(),
            ),
            Kind::Struct { name, fields } => Kind::Struct {
                name: name.clone(),
                fields: fields
                    .iter()
                    .map(|field| Field { value: self.copy(&field.value), ..field.clone() })
                    .collect(),
            },
            Kind::Fold(fold) => {
                let mut copy = fold.clone();
                for part in
                    [&mut copy.range, &mut copy.init, &mut copy.condition, &mut copy.step, &mut copy.result]
                {
                    *part = self.copy(part);
                }
                Kind::Fold(copy)
            }
        };
        self.new_expr(expr.id, kind)
    }
}
