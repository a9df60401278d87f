//! The Common Expression Language as Kubernetes has it: rules of custom kinds are parsed, type-checked, priced, and
//! evaluated within a budget of time and memory.
//!
//! Language, wording and costs are those of cel-go 0.26 with the libraries of apiserver v1.35. Two budgets hold: the
//! cost that upstream counts, so that the same rules pass, and one of work and memory, because that cost bounds neither.

mod access;
pub mod admission;
#[cfg(test)]
mod any_input;
mod ast;
mod authority;
mod check;
pub(crate) mod declared;
mod equality;
mod escape;
mod estimate;
mod estimate_calls;
mod fold;
mod formats;
mod functions;
mod functions_declared;
mod growth;
pub mod identities;
pub(crate) mod json;
mod lexer;
mod literals;
mod machine;
mod macros;
mod messages;
mod parser;
mod patches;
mod plan;
mod price;
mod quantity;
mod rules;
mod scope;
mod semver;
mod show;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod time;
mod typed;
mod types;
mod value;

use std::sync::Arc;

use declared::Declared;
pub(crate) use escape::escape;
pub(crate) use machine::{Failure, Limits, MAX_WORK, Outcome, Variables};
use plan::Program;
use types::Type;
pub(crate) use value::Value;

/// The variables of rules: the value under examination, and what it was.
const CURRENT: &str = "self";
const OLD: &str = "oldSelf";

/// What an expression must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Bool,
    String,
}

/// An expression ready to be evaluated.
#[derive(Debug)]
pub(crate) struct Expression {
    program: Program,
    /// The most that it can cost by estimate.
    pub cost: u64,
    /// Whether it looks at the old value.
    pub uses_old: bool,
}

/// Why an expression is none.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What is wrong with it, and where.
    Issues(String),
    /// It does not come to what is wanted.
    Type,
    /// A constant of it cannot be computed.
    Constant(String),
}

/// Compiles an expression over values of the declared type. `optional_old`: the old value is an optional one.
pub(crate) fn compile(
    source: &str,
    declared: &Arc<Declared>,
    optional_old: bool,
    wanted: Wanted,
) -> Result<Expression, Refusal> {
    let ty = declared.ty();
    let old = if optional_old { Type::optional(ty.clone()) } else { ty.clone() };
    let issues = |faults: source::Faults| Refusal::Issues(faults.show(source));
    let parsed = parser::parse(source).map_err(issues)?;
    let checked = check::check(parsed, &[(CURRENT, ty), (OLD, old)]).map_err(issues)?;
    let faults = literals::check(&checked);
    if !faults.is_empty() {
        return Err(issues(faults));
    }
    match (&checked.ty, wanted) {
        (Type::Bool, Wanted::Bool) | (Type::String, Wanted::String) => {}
        _ => return Err(Refusal::Type),
    }
    let program = plan::plan(&checked, plan::Names::Old(OLD));
    machine::try_constants(&program).map_err(Refusal::Constant)?;
    literals::search_patterns(&checked.expr).map_err(Refusal::Constant)?;
    let cost = estimate::estimate(&checked, declared).max;
    Ok(Expression { cost, uses_old: program.uses_old, program })
}

impl Expression {
    pub fn evaluate<'a>(&'a self, variables: &'a Variables<'a>, limits: Limits) -> Outcome<'a> {
        machine::evaluate(&self.program, variables, limits)
    }
}
