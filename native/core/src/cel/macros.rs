//! Macros become folds while parsing.
//!
//! Those of cel-go's standard library, of optional values, of two-variable comprehensions, and `sortBy`.

use std::sync::Arc;

use super::ast::{ACCUMULATOR, Expr, Fold, Id, Kind, Literal, operators};
use super::growth::Growth;

/// A call, or what the macro of that name and number of arguments makes of it.
pub(super) fn expand(
    parser: &mut Growth,
    id: Id,
    name: &Arc<str>,
    target: Option<Expr>,
    args: Vec<Expr>,
) -> Expr {
    let mut maker = Maker { parser, id };
    match target {
        None if &**name == "has" && args.len() == 1 => maker.has(args),
        None => Expr { id, kind: Kind::Call { function: name.clone(), target: None, args } },
        Some(target) => maker.receiver(name, target, args),
    }
}

struct Maker<'p> {
    parser: &'p mut Growth,
    id: Id,
}

/// Which elements a quantifier asks to fit.
#[derive(Clone, Copy, PartialEq)]
enum Quantifier {
    All,
    Exists,
    ExistsOne,
}

impl Maker<'_> {
    fn receiver(&mut self, name: &Arc<str>, target: Expr, args: Vec<Expr>) -> Expr {
        let expanded = match (&**name, args.len()) {
            ("all", 2 | 3) => self.quantifier(Quantifier::All, target, args),
            ("exists", 2 | 3) => self.quantifier(Quantifier::Exists, target, args),
            ("exists_one", 2 | 3) | ("existsOne", 3) => self.quantifier(Quantifier::ExistsOne, target, args),
            ("map", 2 | 3) => self.map(target, args),
            ("filter", 2) => self.filter(target, args),
            ("transformList", 3 | 4) => self.transform_list(target, args),
            ("transformMap", 3 | 4) => self.transform_map(target, args, true),
            ("transformMapEntry", 3 | 4) => self.transform_map(target, args, false),
            ("optMap", 2) => self.optional_map(target, args, true),
            ("optFlatMap", 2) => self.optional_map(target, args, false),
            ("sortBy", 2) => self.sort_by(target, args),
            _ => {
                let call = Kind::Call { function: name.clone(), target: Some(Box::new(target)), args };
                return Expr { id: self.id, kind: call };
            }
        };
        expanded.unwrap_or_else(|(at, problem)| {
            self.parser.fault_at(at, problem);
            Expr { id: self.id, kind: Kind::Missing }
        })
    }

    fn make(&mut self, kind: Kind) -> Expr {
        self.parser.new_expr(self.id, kind)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.make(Kind::Literal(literal))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.make(Kind::Ident(name.into()))
    }

    fn accu(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.make(Kind::Call { function: function.into(), target: None, args })
    }

    fn member_call(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        self.make(Kind::Call { function: function.into(), target: Some(Box::new(target)), args })
    }

    fn list(&mut self, elements: Vec<Expr>) -> Expr {
        self.make(Kind::List { elements, optional: Vec::new() })
    }

    fn has(&mut self, mut args: Vec<Expr>) -> Expr {
        let arg = args.remove(0);
        if let Kind::Select { operand, field, test: false } = arg.kind {
            return self.make(Kind::Select { operand, field, test: true });
        }
        self.parser.fault_at(arg.id, "invalid argument to has() macro");
        Expr { id: self.id, kind: Kind::Missing }
    }

    /// One or two loop variables, and what is left of the arguments.
    fn variables(
        &mut self,
        args: Vec<Expr>,
        count: usize,
        problem: &'static str,
    ) -> Result<(Vec<Arc<str>>, Vec<Expr>), Problem> {
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut args = args.into_iter();
        for arg in args.by_ref().take(count) {
            let Kind::Ident(name) = &arg.kind else { return Err((arg.id, problem.into())) };
            if matches!(&**name, ACCUMULATOR | "__result__") {
                return Err((arg.id, "iteration variable overwrites accumulator variable".into()));
            }
            if names.contains(name) {
                return Err((arg.id, format!("duplicate variable name: {name}")));
            }
            names.push(name.clone());
        }
        Ok((names, args.collect()))
    }

    fn fold(&mut self, range: Expr, names: &[Arc<str>], parts: Parts) -> Expr {
        let fold = Fold {
            range,
            var: names[0].clone(),
            var2: names.get(1).cloned(),
            accu: ACCUMULATOR.into(),
            init: parts.init,
            condition: parts.condition,
            step: parts.step,
            result: parts.result,
        };
        self.make(Kind::Fold(Box::new(fold)))
    }

    fn quantifier(&mut self, which: Quantifier, target: Expr, args: Vec<Expr>) -> Expanded {
        let count = args.len() - 1;
        let (names, mut rest) = self.variables(args, count, "argument must be a simple name")?;
        let predicate = rest.remove(0);
        let parts = match which {
            Quantifier::All => {
                let init = self.literal(Literal::Bool(true));
                let accu = self.accu();
                let condition = self.call(operators::NOT_STRICTLY_FALSE, vec![accu]);
                let accu = self.accu();
                let step = self.call(operators::AND, vec![accu, predicate]);
                Parts { init, condition, step, result: self.accu() }
            }
            Quantifier::Exists => {
                let init = self.literal(Literal::Bool(false));
                let accu = self.accu();
                let not = self.call(operators::NOT, vec![accu]);
                let condition = self.call(operators::NOT_STRICTLY_FALSE, vec![not]);
                let accu = self.accu();
                let step = self.call(operators::OR, vec![accu, predicate]);
                Parts { init, condition, step, result: self.accu() }
            }
            Quantifier::ExistsOne => {
                let init = self.literal(Literal::Int(0));
                let condition = self.literal(Literal::Bool(true));
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                let more = self.call(operators::ADD, vec![accu, one]);
                let accu = self.accu();
                let step = self.call(operators::CONDITIONAL, vec![predicate, more, accu]);
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                let result = self.call(operators::EQUALS, vec![accu, one]);
                Parts { init, condition, step, result }
            }
        };
        Ok(self.fold(target, &names, parts))
    }

    /// A fold that gathers, only of what the filter lets through.
    fn gather(
        &mut self,
        target: Expr,
        names: &[Arc<str>],
        init: Expr,
        add: Expr,
        filter: Option<Expr>,
    ) -> Expr {
        let condition = self.literal(Literal::Bool(true));
        let step = match filter {
            Some(filter) => {
                let accu = self.accu();
                self.call(operators::CONDITIONAL, vec![filter, add, accu])
            }
            None => add,
        };
        let result = self.accu();
        self.fold(target, names, Parts { init, condition, step, result })
    }

    fn gather_list(&mut self, target: Expr, names: &[Arc<str>], element: Expr, filter: Option<Expr>) -> Expr {
        let init = self.list(Vec::new());
        let accu = self.accu();
        let list = self.list(vec![element]);
        let add = self.call(operators::ADD, vec![accu, list]);
        self.gather(target, names, init, add, filter)
    }

    fn map(&mut self, target: Expr, args: Vec<Expr>) -> Expanded {
        let (names, mut rest) = self.variables(args, 1, "argument is not an identifier")?;
        let transform = rest.pop();
        let transform = transform.unwrap_or_else(|| self.make(Kind::Missing));
        Ok(self.gather_list(target, &names, transform, rest.pop()))
    }

    fn filter(&mut self, target: Expr, args: Vec<Expr>) -> Expanded {
        let element = args[0].clone();
        let (names, mut rest) = self.variables(args, 1, "argument is not an identifier")?;
        Ok(self.gather_list(target, &names, element, rest.pop()))
    }

    fn transform_list(&mut self, target: Expr, args: Vec<Expr>) -> Expanded {
        let (names, mut rest) = self.variables(args, 2, "argument must be a simple name")?;
        let transform = rest.pop();
        let transform = transform.unwrap_or_else(|| self.make(Kind::Missing));
        Ok(self.gather_list(target, &names, transform, rest.pop()))
    }

    fn transform_map(&mut self, target: Expr, args: Vec<Expr>, keyed: bool) -> Expanded {
        let (names, mut rest) = self.variables(args, 2, "argument must be a simple name")?;
        let transform = rest.pop();
        let transform = transform.unwrap_or_else(|| self.make(Kind::Missing));
        let init = self.make(Kind::Map(Vec::new()));
        let mut parts = vec![self.accu()];
        if keyed {
            parts.push(self.ident(&names[0]));
        }
        parts.push(transform);
        let add = self.call(operators::MAP_INSERT, parts);
        Ok(self.gather(target, &names, init, add, rest.pop()))
    }

    /// A value under a name, for the extent of `result`.
    fn bind(&mut self, name: &Arc<str>, value: Expr, result: Expr) -> Expr {
        let range = self.list(Vec::new());
        let fold = Fold {
            range,
            var: "#unused".into(),
            var2: None,
            accu: name.clone(),
            init: value,
            condition: self.literal(Literal::Bool(false)),
            step: self.ident(name),
            result,
        };
        self.make(Kind::Fold(Box::new(fold)))
    }

    fn optional_map(&mut self, target: Expr, mut args: Vec<Expr>, wrap: bool) -> Expanded {
        let result = args.pop();
        let name = match args.first().map(|arg| (arg.id, &arg.kind)) {
            Some((_, Kind::Ident(name))) => name.clone(),
            other => {
                let at = other.map_or(self.id, |(id, _)| id);
                // cel-go words the error of optFlatMap so, too.
                return Err((at, "optMap() variable name must be a simple identifier".into()));
            }
        };
        let result = result.unwrap_or_else(|| self.make(Kind::Missing));
        let copy = self.parser.copy(&target);
        let has_value = self.member_call("hasValue", target, Vec::new());
        let value = self.member_call("value", copy, Vec::new());
        let mut bound = self.bind(&name, value, result);
        if wrap {
            bound = self.call("optional.of", vec![bound]);
        }
        let none = self.call("optional.none", Vec::new());
        Ok(self.call(operators::CONDITIONAL, vec![has_value, bound, none]))
    }

    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Expanded {
        if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            let problem =
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return Err((target.id, problem.into()));
        }
        let name: Arc<str> = "@__sortBy_input__".into();
        let input = self.ident(&name);
        let keys = self.map(input, args)?;
        let input = self.ident(&name);
        let sorted = self.member_call(operators::SORT_BY_KEYS, input, vec![keys]);
        Ok(self.bind(&name, target, sorted))
    }
}

struct Parts {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

type Problem = (Id, String);
type Expanded = Result<Expr, Problem>;
