//! How custom objects are merged and owned: the types of server-side apply, made of a structural schema.
//!
//! Semantics of kube-openapi `schemaconv/openapi.go`, applied to the OpenAPI that is published for the kind.

use serde_json::Value;

use super::Node;
use super::decode::OBJECT_META;
use super::node::{Additional, JsonType, ListType, MapType};
use crate::schema::model::{Field, ListKey, ListKind, Shape, Struct, StructId, Type};

/// Adds the structs of `node` to `structs`, which begin with those of metadata, and returns the root's.
pub(super) fn root(node: &Node, kind: &str, structs: &mut Vec<Struct>) -> StructId {
    let mut compiler = Compiler { structs };
    let open = node.preserve_unknown || node.properties.is_empty();
    compiler.structure(node, kind, open, node.preserve_unknown, true)
}

struct Compiler<'a> {
    structs: &'a mut Vec<Struct>,
}

impl Compiler<'_> {
    /// `open`: what a schema above says of unknown fields holds below it, too.
    fn ty(&mut self, node: &Node, open: bool) -> Type {
        let open = open || node.preserve_unknown;
        let shape = match node.ty {
            _ if node.int_or_string => Shape::IntOrString,
            Some(JsonType::Object) => self.object(node, open),
            Some(JsonType::Array) => {
                let item = node.items.as_deref().map_or_else(Type::free, |items| self.ty(items, open));
                Shape::List(Box::new(item))
            }
            Some(JsonType::String) => Shape::String,
            Some(JsonType::Integer) => Shape::Int64,
            Some(JsonType::Number) => Shape::Double,
            Some(JsonType::Boolean) => Shape::Bool,
            None if node.properties.is_empty() => Shape::Any { object: false },
            None => self.object(node, open),
        };
        let mut ty = Type::plain(shape);
        ty.atomic = node.map_type == MapType::Atomic;
        ty.list = match node.list_type {
            ListType::Set => ListKind::Set,
            ListType::Map => {
                ListKind::Map(node.list_map_keys.iter().map(|key| list_key(node, key)).collect())
            }
            ListType::Undefined | ListType::Atomic => ListKind::Atomic,
        };
        ty
    }

    fn object(&mut self, node: &Node, open: bool) -> Shape {
        match &node.additional {
            Additional::Schema(schema) => Shape::Map(Box::new(self.ty(schema, open))),
            Additional::Allowed => Shape::Map(Box::new(Type::free())),
            Additional::Undefined | Additional::Forbidden => {
                if node.properties.is_empty() && !node.embedded_resource {
                    return Shape::Map(Box::new(Type::free()));
                }
                let unknown = open || node.properties.is_empty();
                Shape::Struct(self.structure(node, "", unknown, open, node.embedded_resource))
            }
        }
    }

    fn structure(&mut self, node: &Node, name: &str, unknown: bool, open: bool, resource: bool) -> StructId {
        let mut fields = Vec::with_capacity(node.properties.len() + 3);
        let mut field = |name: &str, ty| {
            fields.push(Field {
                name: name.into(),
                required: false,
                always_present: false,
                ty,
                omit_zero: false,
                keep_empty: false,
                always: None,
            });
        };
        for (name, property) in &node.properties {
            if !(resource && matches!(&**name, "apiVersion" | "kind" | "metadata")) {
                let ty = self.ty(property, open);
                field(name, ty);
            }
        }
        if resource {
            field("apiVersion", Type::plain(Shape::String));
            field("kind", Type::plain(Shape::String));
            field("metadata", Type::plain(Shape::Struct(OBJECT_META)));
        }
        self.structs.push(Struct::custom(name, fields, unknown));
        self.structs.len() as StructId - 1
    }
}

fn list_key(list: &Node, key: &str) -> ListKey {
    let property = list.items.as_deref().and_then(|items| items.property(key.as_bytes()));
    let default = property.and_then(|property| property.default.as_deref()).map(Value::to_string);
    ListKey { name: key.into(), default: default.map(Into::into) }
}
