//! Integers too great for their field: upstream converts the outcome of a strategic merge as Go converts integers, which
//! keeps their lowest bits.

use serde_json::Value;

use crate::schema::{Schemas, Shape, Type};

pub(super) fn wrap(schemas: &Schemas, ty: &Type, value: &mut Value) {
    match (&ty.shape, value) {
        (Shape::Int32, Value::Number(number)) => {
            if let Some(whole) = number.as_i64() {
                let [a, b, c, d, ..] = whole.to_le_bytes();
                *number = i32::from_le_bytes([a, b, c, d]).into();
            }
        }
        (Shape::Struct(id), Value::Object(members)) => {
            let declared = schemas.structure(*id);
            for (name, member) in members {
                if let Some(field) = declared.field(name) {
                    wrap(schemas, &field.ty, member);
                }
            }
        }
        (Shape::Map(inner), Value::Object(members)) => {
            members.values_mut().for_each(|member| wrap(schemas, inner, member));
        }
        (Shape::List(item), Value::Array(elements)) => {
            elements.iter_mut().for_each(|element| wrap(schemas, item, element));
        }
        _ => {}
    }
}
