//! Which objects a list or watch is about: a namespace, a name, labels and fields.

use super::ResourceInfo;
use super::object::Object;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::Status;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Name,
    Namespace,
    /// A selectable field of the resource, by its number.
    Selectable(usize),
    /// That no object has.
    Nothing,
}

impl Field {
    pub fn read(self, object: &Object) -> &str {
        match self {
            Self::Name => object.name(),
            Self::Namespace => object.namespace(),
            Self::Selectable(number) => object.field(number),
            Self::Nothing => "",
        }
    }
}

#[derive(Clone, Debug)]
pub struct FieldTerm {
    pub field: Field,
    pub value: Box<str>,
    pub negated: bool,
}

/// What all terms on one field come to: so that many of them cost an object one look-up.
#[derive(Clone, Debug)]
struct FieldRule {
    field: Field,
    wanted: Option<Box<str>>,
    /// Two values are wanted.
    impossible: bool,
    /// In order.
    denied: Vec<Box<str>>,
}

impl FieldRule {
    fn all(terms: &[FieldTerm]) -> Vec<Self> {
        let mut rules: Vec<Self> = Vec::new();
        for term in terms {
            let at = rules.iter().position(|rule| rule.field == term.field).unwrap_or_else(|| {
                rules.push(Self { field: term.field, wanted: None, impossible: false, denied: Vec::new() });
                rules.len() - 1
            });
            let rule = &mut rules[at];
            if term.negated {
                rule.denied.push(term.value.clone());
            } else {
                rule.impossible |= *rule.wanted.get_or_insert_with(|| term.value.clone()) != term.value;
            }
        }
        for rule in &mut rules {
            rule.denied.sort_unstable();
        }
        rules
    }

    fn holds(&self, object: &Object) -> bool {
        let value = self.field.read(object);
        !self.impossible
            && self.wanted.as_deref().is_none_or(|wanted| wanted == value)
            && self.denied.binary_search_by(|denied| (**denied).cmp(value)).is_err()
    }
}

#[derive(Clone, Debug, Default)]
pub struct Filter {
    namespace: Option<Box<str>>,
    fields: Vec<FieldTerm>,
    rules: Vec<FieldRule>,
    labels: LabelSelector,
}

impl Filter {
    /// `namespace` None: all of them. 400 for a field that the resource does not select by.
    pub fn new(
        info: &ResourceInfo,
        namespace: Option<&str>,
        labels: LabelSelector,
        fields: &FieldSelector,
    ) -> Result<Self, Status> {
        let mut terms = Vec::with_capacity(fields.requirements().len());
        for requirement in fields.requirements() {
            let field = info.field(&requirement.field)?;
            terms.push(FieldTerm { field, value: requirement.value.clone(), negated: requirement.negated });
        }
        let namespace = namespace.filter(|namespace| !namespace.is_empty()).map(Into::into);
        let rules = FieldRule::all(&terms);
        Ok(Self { namespace, fields: terms, rules, labels })
    }

    pub fn everything() -> Self {
        Self::default()
    }

    pub fn in_namespace(namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }

    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub fn fields(&self) -> &[FieldTerm] {
        &self.fields
    }

    pub fn labels(&self) -> &LabelSelector {
        &self.labels
    }

    pub fn is_everything(&self) -> bool {
        self.namespace.is_none() && !self.has_selectors()
    }

    pub fn has_selectors(&self) -> bool {
        !self.fields.is_empty() || !self.labels.is_empty()
    }

    /// What the keys of all objects meant start with.
    pub fn key_prefix(&self) -> String {
        self.namespace.as_ref().map_or_else(String::new, |namespace| format!("{namespace}/"))
    }

    /// The value a field must have.
    pub fn required(&self, field: Field) -> Option<&str> {
        self.rules.iter().find(|rule| rule.field == field)?.wanted.as_deref()
    }

    /// What cannot change in an object's life agrees: namespace and name.
    pub fn covers_key(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| object.namespace() == namespace)
            && self
                .rules
                .iter()
                .all(|rule| matches!(rule.field, Field::Selectable(_) | Field::Nothing) || rule.holds(object))
    }

    /// Fields and labels agree.
    pub fn selects(&self, object: &Object) -> bool {
        self.rules.iter().all(|rule| rule.holds(object))
            && (self.labels.is_empty() || self.labels.matches(&object.labels()))
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.covers_key(object) && self.selects(object)
    }
}
