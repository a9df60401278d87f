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
}

impl Field {
    pub fn read(self, object: &Object) -> &str {
        match self {
            Self::Name => object.name(),
            Self::Namespace => object.namespace(),
            Self::Selectable(number) => object.field(number),
        }
    }
}

#[derive(Clone, Debug)]
pub struct FieldTerm {
    pub field: Field,
    pub value: Box<str>,
    pub negated: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Filter {
    namespace: Option<Box<str>>,
    fields: Vec<FieldTerm>,
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
        Ok(Self { namespace, fields: terms, labels })
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
        self.fields.iter().find(|term| term.field == field && !term.negated).map(|term| &*term.value)
    }

    /// What cannot change in an object's life agrees: namespace and name.
    pub fn covers_key(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| object.namespace() == namespace)
            && self.fields.iter().all(|term| {
                matches!(term.field, Field::Selectable(_))
                    || (term.field.read(object) == &*term.value) != term.negated
            })
    }

    /// Fields and labels agree.
    pub fn selects(&self, object: &Object) -> bool {
        self.fields.iter().all(|term| (term.field.read(object) == &*term.value) != term.negated)
            && (self.labels.is_empty() || self.labels.matches(&object.labels()))
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.covers_key(object) && self.selects(object)
    }
}
