//! Label selectors: requirements over an object's labels, all of which must hold.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::Deserialize;
use smallvec::SmallVec;

use super::condition::Conditions;
use super::names::{label_key_problems, label_value_problems};
use super::{Lookup, Pairs, SelectorError, grammar};
use crate::go::quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

type Values = SmallVec<[Box<str>; 1]>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    values: Values,
    /// The number of `>` and `<`.
    bound: i64,
}

/// Requirements that must all hold. None of them: everything is selected.
#[derive(Clone, Debug, Default)]
pub struct LabelSelector {
    requirements: Box<[Requirement]>,
    /// Made of the requirements.
    conditions: Conditions,
    /// Selects nothing whatever the labels: an absent metav1.LabelSelector.
    nothing: bool,
}

/// The object form, metav1.LabelSelector.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelectorSpec {
    pub match_labels: std::collections::BTreeMap<String, String>,
    pub match_expressions: Vec<RequirementSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RequirementSpec {
    pub key: String,
    pub operator: String,
    pub values: Vec<String>,
}

impl Requirement {
    /// Checks key, operator and values as labels.NewRequirement does.
    pub fn new<I>(key: &str, operator: Operator, values: I) -> Result<Self, SelectorError>
    where
        I: IntoIterator<Item = String>,
    {
        let values: Values = values.into_iter().map(String::into_boxed_str).collect();
        let mut problems = Vec::new();
        if let Some(problem) = joined(label_key_problems(key)) {
            problems.push(format!("key: Invalid value: {}: {problem}", quote(key)));
        }
        if let Some(problem) = count_problem(operator, values.len()) {
            problems.push(format!("values: Invalid value: {}: {problem}", listed(&values)));
        }
        let ordered = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        let mut bound = 0;
        for (index, value) in values.iter().enumerate() {
            match value.parse() {
                Ok(number) => bound = number,
                Err(_) if ordered => problems.push(format!(
                    "values[{index}]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
                    quote(value)
                )),
                Err(_) => {}
            }
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(problem) = joined(label_value_problems(value)) {
                problems.push(format!("values[{index}][{key}]: Invalid value: {}: {problem}", quote(value)));
            }
        }
        match problems.as_slice() {
            [] => Ok(Self { key: key.into(), operator, values, bound: if ordered { bound } else { 0 } }),
            [one] => Err(SelectorError(one.clone())),
            many => Err(SelectorError(format!("[{}]", many.join(", ")))),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The number of `>` and `<`.
    pub(super) fn bound(&self) -> i64 {
        self.bound
    }

    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(AsRef::as_ref)
    }

    /// The values, one of which the label must have; None when the label may have others.
    pub fn required_values(&self) -> Option<&[Box<str>]> {
        matches!(self.operator, Operator::Equals | Operator::DoubleEquals | Operator::In)
            .then_some(&self.values[..])
    }

    pub fn matches<L: Lookup + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.lookup(&self.key);
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(|v| self.has(v)),
            Operator::NotEquals | Operator::NotIn => value.is_none_or(|v| !self.has(v)),
            Operator::GreaterThan => {
                value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > self.bound)
            }
            Operator::LessThan => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < self.bound),
        }
    }

    fn has(&self, value: &str) -> bool {
        self.values.iter().any(|known| &**known == value)
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// Reads the query parameter form, `a=b,c in (d,e),!f`; errors in the words of labels.Parse.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        grammar::parse(text).map(Self::of)
    }

    pub fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        let conditions = Conditions::of(&requirements);
        Self { requirements: requirements.into(), conditions, nothing: false }
    }

    /// None selects nothing, an empty object everything.
    pub fn from_spec(spec: Option<&LabelSelectorSpec>) -> Result<Self, SelectorError> {
        let Some(spec) = spec else { return Ok(Self::nothing()) };
        let mut requirements = Vec::with_capacity(spec.match_labels.len() + spec.match_expressions.len());
        for (key, value) in &spec.match_labels {
            requirements.push(Requirement::new(key, Operator::Equals, [value.clone()])?);
        }
        for expression in &spec.match_expressions {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        quote(other)
                    )));
                }
            };
            requirements.push(Requirement::new(
                &expression.key,
                operator,
                expression.values.iter().cloned(),
            )?);
        }
        Ok(Self::of(requirements))
    }

    /// Selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    pub fn matches<L: Pairs + ?Sized>(&self, labels: &L) -> bool {
        !self.nothing && self.conditions.hold(labels)
    }
}

impl PartialEq for LabelSelector {
    fn eq(&self, other: &Self) -> bool {
        (&self.requirements, self.nothing) == (&other.requirements, other.nothing)
    }
}

impl Eq for LabelSelector {}

impl Hash for LabelSelector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.requirements, self.nothing).hash(state);
    }
}

fn count_problem(operator: Operator, count: usize) -> Option<&'static str> {
    match operator {
        Operator::In | Operator::NotIn if count == 0 => {
            Some("for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if count != 1 => {
            Some("exact-match compatibility requires one single value")
        }
        Operator::Exists | Operator::DoesNotExist if count != 0 => {
            Some("values set must be empty for exists and does not exist")
        }
        Operator::GreaterThan | Operator::LessThan if count != 1 => {
            Some("for 'Gt', 'Lt' operators, exactly one value is required")
        }
        _ => None,
    }
}

fn joined(problems: Vec<String>) -> Option<String> {
    if problems.is_empty() { None } else { Some(problems.join("; ")) }
}

fn listed(values: &Values) -> String {
    let quoted = values.iter().map(|value| quote(value)).collect::<Vec<_>>();
    format!("[{}]", quoted.join(","))
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort();
        let values = values.join(",");
        match self.operator {
            Operator::Exists => write!(formatter, "{}", self.key),
            Operator::DoesNotExist => write!(formatter, "!{}", self.key),
            Operator::Equals => write!(formatter, "{}={values}", self.key),
            Operator::DoubleEquals => write!(formatter, "{}=={values}", self.key),
            Operator::NotEquals => write!(formatter, "{}!={values}", self.key),
            Operator::GreaterThan => write!(formatter, "{}>{values}", self.key),
            Operator::LessThan => write!(formatter, "{}<{values}", self.key),
            Operator::In => write!(formatter, "{} in ({values})", self.key),
            Operator::NotIn => write!(formatter, "{} notin ({values})", self.key),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                formatter.write_str(",")?;
            }
            write!(formatter, "{requirement}")?;
        }
        Ok(())
    }
}
