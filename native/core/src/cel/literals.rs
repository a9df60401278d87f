//! Faults of literals that types do not show: durations, times, patterns, format strings, lists of mixed types.
//!
//! Semantics of cel-go `cel/validator.go` and of the validator in its `ext/formatting.go`.

use super::ast::{Expr, Id, Kind, Literal};
use super::check::Checked;
use super::functions::{Clause, interpolate};
use super::plan::type_name;
use super::source::Faults;
use super::time::Timestamp;
use super::types::Type;
use crate::{go, re2};

pub(crate) fn check(checked: &Checked) -> Faults {
    let mut literals = Literals { checked, faults: Faults::default() };
    literals.walk(&checked.expr, false);
    literals.faults
}

/// Patterns that are searched for are read before the expression runs.
pub(crate) fn search_patterns(expr: &Expr) -> Result<(), String> {
    if let Kind::Call { function, args, .. } = &expr.kind
        && matches!(&**function, "find" | "findAll")
        && let Some(pattern) = args.first().and_then(Expr::string_literal)
    {
        re2::check(pattern)?;
    }
    expr.parts().into_iter().try_for_each(search_patterns)
}

struct Literals<'c> {
    checked: &'c Checked,
    faults: Faults,
}

/// A fault of a format string, and the argument it is about.
struct Misfit {
    at: Option<Id>,
    message: String,
}

impl From<String> for Misfit {
    fn from(message: String) -> Self {
        Self { at: None, message }
    }
}

impl Literals<'_> {
    fn fault(&mut self, at: Id, message: String) {
        self.faults.add(Some(self.checked.positions.offset(at)), message);
    }

    fn walk(&mut self, expr: &Expr, formatted: bool) {
        let mut formatted = formatted;
        match &expr.kind {
            Kind::Call { function, target, args } => {
                self.argument(function, args);
                if &**function == "format" {
                    formatted = true;
                    self.format(expr, target.as_deref(), args);
                }
            }
            Kind::List { elements, optional } if !formatted => self.list(elements, optional),
            Kind::Map(entries) if !formatted => {
                let keys: Vec<(&Expr, bool)> = entries.iter().map(|entry| (&entry.key, false)).collect();
                let values: Vec<(&Expr, bool)> =
                    entries.iter().map(|entry| (&entry.value, entry.optional)).collect();
                self.alike(&keys, false);
                self.alike(&values, false);
            }
            _ => {}
        }
        for part in expr.parts() {
            self.walk(part, formatted);
        }
    }

    /// A literal that a function cannot make anything of.
    fn argument(&mut self, function: &str, args: &[Expr]) {
        let Some(first) = args.first() else { return };
        let Kind::Literal(literal) = &first.kind else { return };
        let good = match (function, literal) {
            ("duration", Literal::String(text)) => go::parse_duration(text).is_ok(),
            ("timestamp", Literal::String(text)) => Timestamp::parse(text).is_some_and(|time| time.is_ok()),
            ("timestamp", Literal::Int(seconds)) => Timestamp::new(*seconds, 0).is_ok(),
            ("matches", Literal::String(pattern)) => re2::check(pattern).is_ok(),
            _ => true,
        };
        if !good {
            self.fault(first.id, format!("invalid {function} argument"));
        }
    }

    fn list(&mut self, elements: &[Expr], optional: &[usize]) {
        let elements: Vec<(&Expr, bool)> =
            elements.iter().enumerate().map(|(at, element)| (element, optional.contains(&at))).collect();
        self.alike(&elements, true);
    }

    /// All must be of the type that the first is of.
    fn alike(&mut self, expressions: &[(&Expr, bool)], once: bool) {
        let ty = |(expr, optional): &(&Expr, bool)| match (self.checked.type_of(expr), optional) {
            (Type::Optional(inner), true) => (**inner).clone(),
            (ty, _) => ty.clone(),
        };
        let Some(first) = expressions.first().map(ty) else { return };
        let mut misfits = Vec::new();
        for expression in &expressions[1..] {
            let found = ty(expression);
            if !first.is_equivalent(&found) {
                let message = format!("expected type '{}' but found '{}'", first.shown(), found.shown());
                misfits.push((expression.0.id, message));
                if once {
                    break;
                }
            }
        }
        for (id, message) in misfits {
            self.fault(id, message);
        }
    }

    fn format(&mut self, expr: &Expr, target: Option<&Expr>, args: &[Expr]) {
        let Some(pattern) = target.and_then(Expr::string_literal) else { return };
        let Some(Kind::List { elements, .. }) = args.first().map(|list| &list.kind) else { return };
        let mut used = 0;
        let outcome = interpolate(pattern, &mut |piece| {
            let Some((at, clause)) = piece.clause() else { return Ok(()) };
            used = at + 1;
            let Some(argument) = elements.get(at) else {
                return Err(Misfit::from(format!("index {at} out of range")));
            };
            self.fits(&clause?, argument)
        });
        match outcome {
            Err(misfit) => self.fault(misfit.at.unwrap_or(expr.id), misfit.message),
            Ok(()) if elements.len() > used => {
                let given = elements.len();
                let message =
                    format!("too many arguments supplied to string.format (expected {used}, got {given})");
                self.fault(expr.id, message);
            }
            Ok(()) => {}
        }
    }

    fn fits(&self, clause: &Clause, argument: &Expr) -> Result<(), Misfit> {
        let misfit = match clause.verb {
            's' => self.unprintable(argument),
            verb => Some(argument).filter(|argument| !takes(verb, self.checked.type_of(argument))),
        };
        match misfit {
            None => Ok(()),
            Some(misfit) => {
                let given = type_name(self.checked.type_of(misfit));
                Err(Misfit {
                    at: Some(misfit.id),
                    message: format!("error during formatting: {}", clause.misused(&given)),
                })
            }
        }
    }

    /// The first part of a literal that has no text.
    fn unprintable<'e>(&self, expr: &'e Expr) -> Option<&'e Expr> {
        let printable = !matches!(
            self.checked.type_of(expr),
            Type::Object(_) | Type::Named(_) | Type::Optional(_) | Type::Error | Type::Param(_)
        );
        if !printable {
            return Some(expr);
        }
        match &expr.kind {
            Kind::List { .. } | Kind::Map(_) => {
                expr.parts().into_iter().find_map(|part| self.unprintable(part))
            }
            _ => None,
        }
    }
}

fn takes(verb: char, ty: &Type) -> bool {
    match (verb, ty) {
        (_, Type::Dyn) => true,
        ('f' | 'e', ty) => matches!(ty, Type::Double | Type::String),
        (_, Type::Int | Type::Uint) => true,
        ('b', Type::Bool) | ('x' | 'X', Type::String | Type::Bytes) => true,
        _ => false,
    }
}
