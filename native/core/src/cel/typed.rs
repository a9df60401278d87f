//! Types of the objects that policies judge, and what is wrong with a policy's expressions over objects of them.
//!
//! Semantics of apiserver `pkg/admission/plugin/policy/validating/typechecking.go`: what comes out is told in a policy's
//! status, and changes nothing of what the policy does.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::admission::{Expressions, Purpose};
use super::declared::{Declared, Shape};
use super::escape;
use crate::schema::custom::{self, Node};
use crate::schema::{self, KindId, Schemas, StructId, Type};

/// The type of a kind's objects.
#[derive(Clone, Debug)]
pub struct Typed(pub(super) Arc<Declared>);

impl Typed {
    pub fn of_kind(schemas: &Schemas, kind: KindId) -> Self {
        Self(of_type(schemas, &schemas.root_type(kind), &mut Vec::new()))
    }

    /// Of a definition's schema, as JSON. Fails for what is none.
    pub fn of_schema(schema: &[u8], name: &str) -> Result<Self, String> {
        let schema: Json = serde_json::from_slice(schema).map_err(|error| error.to_string())?;
        let node = Node::compile(&schema).map_err(|error| error.to_string())?;
        Ok(Self(custom::declared(&node, true, name).unwrap_or_else(|| plain(Shape::Dyn))))
    }
}

fn plain(shape: Shape) -> Arc<Declared> {
    Arc::new(Declared::new(shape, 0, 0))
}

/// `within`: the structs that this is part of. One that is part of itself is any value there.
fn of_type(schemas: &Schemas, ty: &Type, within: &mut Vec<StructId>) -> Arc<Declared> {
    let shape = match &ty.shape {
        schema::Shape::String | schema::Shape::Quantity => Shape::String,
        schema::Shape::Bool => Shape::Bool,
        schema::Shape::Int32 | schema::Shape::Int64 => Shape::Int,
        schema::Shape::Double => Shape::Double,
        schema::Shape::Bytes => Shape::Bytes,
        schema::Shape::Time | schema::Shape::MicroTime => Shape::Timestamp,
        schema::Shape::List(item) => Shape::List(of_type(schemas, item, within)),
        schema::Shape::Map(value) => Shape::Map(of_type(schemas, value, within)),
        schema::Shape::Struct(id) if !within.contains(id) => return of_struct(schemas, *id, within),
        _ => Shape::Dyn,
    };
    plain(shape)
}

fn of_struct(schemas: &Schemas, id: StructId, within: &mut Vec<StructId>) -> Arc<Declared> {
    let structure = schemas.structure(id);
    within.push(id);
    let mut fields = BTreeMap::new();
    for field in &structure.fields {
        if let Some(name) = escape::escape(&field.name) {
            fields.insert(Box::from(&*name), of_type(schemas, &field.ty, within));
        }
    }
    within.pop();
    Arc::new(Declared { name: structure.definition.clone(), ..Declared::new(Shape::Object(fields), 0, 0) })
}

/// What is wrong with each of the expressions, in their order, given a policy's variables.
pub fn faults(
    object: &Typed,
    params: Option<&Typed>,
    variables: &[(String, String)],
    expressions: &[String],
) -> Vec<Option<String>> {
    let mut known = Expressions::typed(object, params);
    for (name, source) in variables {
        let _ = known.define(name, source);
    }
    expressions.iter().map(|source| known.fault(source, Purpose::Validation)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_are_held_to_the_types_of_objects() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer"}}}}});
        let widget = Typed::of_schema(schema.to_string().as_bytes(), "Widget").unwrap();
        let variables = [("size".to_owned(), "object.spec.size".to_owned())];
        let found = faults(
            &widget,
            Some(&widget),
            &variables,
            &[
                "variables.size < 3".into(),
                "object.spec.color == ''".into(),
                "params.spec.size == 'x'".into(),
            ],
        );
        assert_eq!(found[0], None);
        assert!(found[1].as_ref().unwrap().contains("undefined field 'color'"));
        assert!(found[1].as_ref().unwrap().starts_with("ERROR: <input>:1:12: "));
        assert!(found[2].as_ref().unwrap().contains("no matching overload"));
    }
}
