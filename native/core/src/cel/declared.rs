//! The types of variables: what a schema says of values, as far as expressions and the estimate of their cost care.
//!
//! Semantics of apiserver `pkg/cel/types.go`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::escape::reserved;
use super::types::Type;

#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Declared>),
    /// Keys are strings.
    Map(Arc<Declared>),
    /// Fields by their names as expressions write them.
    Object(BTreeMap<Box<str>, Arc<Declared>>),
    /// An object with whatever fields.
    Open,
    /// One of Kubernetes' types.
    Named(&'static str),
}

static DYN: LazyLock<Arc<Declared>> = LazyLock::new(|| Arc::new(Declared::new(Shape::Dyn, 0, 0)));

/// A declared type and the bounds of its values.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    /// Of objects, lists and maps: where in the schema it is. Two objects of one name are of one type.
    pub name: Box<str>,
    pub shape: Shape,
    /// The most elements, entries, characters or bytes that a value can have.
    pub max_elements: u64,
    /// The least bytes that a value takes in JSON.
    pub min_size: u64,
}

impl Declared {
    pub fn new(shape: Shape, max_elements: u64, min_size: u64) -> Self {
        Self { name: "".into(), shape, max_elements, min_size }
    }

    pub fn ty(self: &Arc<Self>) -> Type {
        match &self.shape {
            Shape::Dyn => Type::Dyn,
            Shape::Null => Type::Null,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Uint => Type::Uint,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Duration => Type::Duration,
            Shape::Timestamp => Type::Timestamp,
            Shape::List(item) => Type::list(item.ty()),
            Shape::Map(value) => Type::map(Type::String, value.ty()),
            Shape::Object(_) | Shape::Open => Type::Object(self.clone()),
            Shape::Named(name) => Type::Named(name),
        }
    }

    pub fn field(&self, name: &str) -> Option<&Arc<Declared>> {
        match &self.shape {
            Shape::Object(fields) => fields.get(name),
            Shape::Open => Some(&DYN),
            _ => None,
        }
    }

    /// As `field`; fields that are named like the language's own words can be selected by their plain names, too.
    pub fn selected(&self, name: &str) -> Option<&Arc<Declared>> {
        self.field(name).or_else(|| self.field(&reserved(name)?))
    }

    /// Of a list's items or a map's values.
    pub fn element(&self) -> Option<&Arc<Declared>> {
        match &self.shape {
            Shape::List(item) | Shape::Map(item) => Some(item),
            _ => None,
        }
    }
}
