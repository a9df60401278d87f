//! Label and field selectors with Kubernetes' grammar, messages and matching.

mod condition;
mod field;
mod grammar;
mod label;
mod names;

#[cfg(test)]
mod tests;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, LabelSelectorSpec, Operator, Requirement, RequirementSpec};
pub use names::{
    dns_1035_label_problems, dns_label_problems, label_key_problems, label_value_problems, subdomain_problems,
};

/// A selector that cannot be read; the message is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// String pairs looked up by key: an object's labels, or its selectable fields.
pub trait Lookup {
    fn lookup(&self, key: &str) -> Option<&str>;
}

/// Labels: all pairs there are, each key once.
pub trait Pairs: Lookup {
    /// Whether `holds` is true of all pairs; it is asked of none behind one that it is false of.
    fn all(&self, holds: impl FnMut(&str, &str) -> bool) -> bool;
}

impl<K: AsRef<str>, V: AsRef<str>> Pairs for [(K, V)] {
    fn all(&self, mut holds: impl FnMut(&str, &str) -> bool) -> bool {
        self.iter().all(|(key, value)| holds(key.as_ref(), value.as_ref()))
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> Pairs for [(K, V); N] {
    fn all(&self, holds: impl FnMut(&str, &str) -> bool) -> bool {
        self.as_slice().all(holds)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Pairs for Vec<(K, V)> {
    fn all(&self, holds: impl FnMut(&str, &str) -> bool) -> bool {
        self.as_slice().all(holds)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Lookup for [(K, V)] {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| name.as_ref() == key).map(|(_, value)| value.as_ref())
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> Lookup for [(K, V); N] {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.as_slice().lookup(key)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Lookup for Vec<(K, V)> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.as_slice().lookup(key)
    }
}
