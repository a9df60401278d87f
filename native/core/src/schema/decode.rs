//! Decodes a JSON body as a kind: finds unknown and duplicate fields, refuses wrong types, gives canonical JSON.
//!
//! Canonical means: no spaces, no unknown fields, no nulls, no empty lists or maps in optional fields, no zero scalars
//! where Go leaves them out, zero values where Go always shows a field, quantities and times in canonical form. It is
//! what Kubernetes' own decode and encode make of a body.

use std::borrow::Cow;

use super::error::{Rejection, SchemaError};
use super::model::{Alternative, KindId, KindInfo, Schemas, Shape, Struct, StructId, Type};
use super::refusal::{strict_refusal, unrecognized};
use super::scan::{Cursor, Keys, Text, at_end};
use super::{canonical, custom::Nulls};

/// Upstream's decoder stops counting strict errors there.
pub(super) const MAX_STRICT_ERRORS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// An accepted body.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    pub body: Cow<'a, [u8]>,
    pub warnings: Vec<String>,
}

impl Schemas {
    /// Decodes JSON as `kind`. apiVersion and kind may be missing and are then added.
    pub fn decode_json<'a>(
        &self,
        kind: KindId,
        input: &'a [u8],
        validation: FieldValidation,
    ) -> Result<Decoded<'a>, Rejection> {
        let info = self.info(kind);
        if std::str::from_utf8(input).is_err() {
            return self.decode_lossily(kind, input, validation);
        }
        if let Some(node) = &info.structural {
            return self.decode_custom(info, node, input, validation, Nulls::Dropped);
        }
        let mut decoder = Decoder::new(self, input, info);
        let outcome = decoder.root(info.root);
        if let Err(error) = outcome {
            return Err(self.refuse(info, input, error));
        }
        if let Some(refusal) = self.wrong_kind(info, &decoder.api_version, &decoder.kind, input) {
            return Err(refusal);
        }
        let Decoder { cursor, strict, duplicates, .. } = decoder;
        let body = if duplicates { self.without_duplicates(info, input)? } else { cursor.finish() };
        match validation {
            FieldValidation::Strict if !strict.is_empty() => Err(strict_refusal(info, strict)),
            FieldValidation::Warn => Ok(Decoded { body, warnings: strict }),
            _ => Ok(Decoded { body, warnings: Vec::new() }),
        }
    }

    /// The last of duplicate members counts. Rare, so the body is simply parsed and decoded again.
    fn without_duplicates(&self, info: &KindInfo, input: &[u8]) -> Result<Cow<'static, [u8]>, Rejection> {
        let failed = |error: SchemaError| unrecognized(info, input, error);
        let value = crate::merge::parse_value(input).map_err(failed)?;
        let plain = value.to_string().into_bytes();
        let mut decoder = Decoder::new(self, &plain, info);
        decoder.root(info.root).map_err(|error| self.refuse(info, &plain, error))?;
        Ok(Cow::Owned(decoder.cursor.finish().into_owned()))
    }
}

pub(super) enum Step<'s, 'a> {
    Field(&'s str),
    Key(Text<'a>),
    Index(usize),
}

pub(super) struct Decoder<'s, 'a> {
    pub schemas: &'s Schemas,
    pub cursor: Cursor<'a>,
    pub expected: &'s KindInfo,
    pub api_version: String,
    pub kind: String,
    pub path: Vec<Step<'s, 'a>>,
    /// The struct whose field is being decoded, for error messages.
    pub owner: Option<StructId>,
    pub strict: Vec<String>,
    pub duplicates: bool,
    /// For custom kinds.
    pub nulls: Nulls,
}

pub(super) type Step1 = Result<(), SchemaError>;

/// Whether a field is written to the output.
#[derive(PartialEq)]
pub(super) enum Keep {
    Yes,
    No,
}

impl<'s, 'a> Decoder<'s, 'a> {
    pub fn new(schemas: &'s Schemas, input: &'a [u8], expected: &'s KindInfo) -> Self {
        Self {
            schemas,
            cursor: Cursor::new(input),
            expected,
            api_version: String::new(),
            kind: String::new(),
            path: Vec::with_capacity(16),
            owner: None,
            strict: Vec::new(),
            duplicates: false,
            nulls: Nulls::Dropped,
        }
    }

    fn root(&mut self, root: StructId) -> Step1 {
        self.cursor.skip_space();
        if self.cursor.peek() == Some(b'n') {
            let start = self.cursor.mark();
            self.cursor.literal("null")?;
            self.cursor.replace_since(start, b"{}");
            return at_end(&mut self.cursor);
        }
        if self.cursor.peek() != Some(b'{') {
            return Err(self.wrong_type(&Shape::Struct(root)));
        }
        self.structure(root)?;
        at_end(&mut self.cursor)
    }

    pub fn structure(&mut self, id: StructId) -> Step1 {
        let schemas = self.schemas;
        let structure = schemas.structure(id);
        let outer = self.owner.replace(id);
        let is_root = self.path.is_empty();
        self.cursor.enter()?;
        self.cursor.advance();
        self.members(structure, is_root)?;
        self.cursor.leave();
        self.owner = outer;
        Ok(())
    }

    fn members(&mut self, structure: &'s Struct, is_root: bool) -> Step1 {
        let mut seen = 0u64;
        let mut wrote_any = false;
        let mut missing = structure.always;
        self.cursor.skip_space();
        if self.cursor.peek() == Some(b'}') {
            return self.close(structure, missing, is_root, wrote_any);
        }
        // A dropped field goes together with the comma before it; if all before were dropped, so does the next comma.
        let mut comma = self.cursor.mark();
        loop {
            let name = self.cursor.string()?;
            self.cursor.skip_space();
            self.cursor.expect(b':', "after object key")?;
            self.cursor.skip_space();
            let keep = self.member(structure, name, &mut seen, &mut missing)?;
            if keep == Keep::No {
                self.cursor.drop_since(comma);
            } else {
                wrote_any = true;
            }
            self.cursor.skip_space();
            comma = self.cursor.mark();
            match self.cursor.peek() {
                Some(b',') => self.cursor.advance(),
                Some(b'}') => return self.close(structure, missing, is_root, wrote_any),
                _ => return Err(self.cursor.unexpected("after object key:value pair")),
            }
            if !wrote_any {
                self.cursor.drop_since(comma);
                comma = self.cursor.mark();
            }
            self.cursor.skip_space();
            if self.cursor.peek() != Some(b'"') {
                return Err(self.cursor.unexpected("looking for beginning of object key string"));
            }
        }
    }

    /// At the closing brace: what is always there gets its zero value, and the root apiVersion and kind, if the client
    /// left them out.
    fn close(&mut self, structure: &'s Struct, missing: u64, is_root: bool, mut wrote_any: bool) -> Step1 {
        if missing != 0 {
            self.cursor.insert(canonical::zeros(structure, missing, wrote_any).as_bytes());
            wrote_any = true;
        }
        if is_root {
            for (name, missing, value) in [
                ("apiVersion", self.api_version.is_empty(), &self.expected.api_version),
                ("kind", self.kind.is_empty(), &self.expected.kind),
            ] {
                if missing {
                    let comma = if wrote_any { "," } else { "" };
                    self.cursor.insert(format!("{comma}\"{name}\":\"{value}\"").as_bytes());
                    wrote_any = true;
                }
            }
        }
        self.cursor.advance();
        Ok(())
    }

    fn member(
        &mut self,
        structure: &'s Struct,
        name: Text<'a>,
        seen: &mut u64,
        missing: &mut u64,
    ) -> Result<Keep, SchemaError> {
        let Some(position) = structure.field_index(&name.decode()) else {
            self.fault("unknown", Step::Key(name));
            self.cursor.any_value()?;
            return Ok(Keep::No);
        };
        let field = &structure.fields[position];
        if *seen & (1 << position) != 0 {
            self.fault("duplicate", Step::Field(&field.name));
            self.duplicates = true;
        }
        *seen |= 1 << position;
        if self.cursor.peek() == Some(b'n') {
            self.cursor.literal("null")?;
            return Ok(Keep::No);
        }
        if self.path.is_empty() && (&*field.name == "apiVersion" || &*field.name == "kind") {
            return self.type_meta(&field.name);
        }
        self.path.push(Step::Field(&field.name));
        let keep = match field.ty.shape {
            Shape::List(_) | Shape::Map(_)
                if !field.required && field.always.is_none() && !field.keep_empty =>
            {
                self.collection(&field.ty)?
            }
            _ => {
                let start = self.cursor.mark();
                self.value(&field.ty)?;
                if field.omit_zero && is_zero(self.cursor.read_since(&start)) { Keep::No } else { Keep::Yes }
            }
        };
        if keep == Keep::Yes {
            *missing &= !(1 << position);
        }
        self.path.pop();
        Ok(keep)
    }

    pub fn type_meta(&mut self, name: &'s str) -> Result<Keep, SchemaError> {
        if self.cursor.peek() != Some(b'"') {
            self.path.push(Step::Field(name));
            return Err(self.wrong_type(&Shape::String));
        }
        let text = self.cursor.string()?.to_str().into_owned();
        let keep = if text.is_empty() { Keep::No } else { Keep::Yes };
        if name == "kind" {
            self.kind = text;
        } else {
            self.api_version = text;
        }
        Ok(keep)
    }

    /// A list or map that is left out when it is empty.
    fn collection(&mut self, ty: &'s Type) -> Result<Keep, SchemaError> {
        let empty = match (&ty.shape, self.cursor.peek()) {
            (Shape::List(item), Some(b'[')) => self.list(item)?,
            (Shape::Map(value), Some(b'{')) => self.map(value)?,
            _ => return Err(self.wrong_type(&ty.shape)),
        };
        Ok(if empty { Keep::No } else { Keep::Yes })
    }

    fn value(&mut self, ty: &'s Type) -> Step1 {
        if self.cursor.peek() == Some(b'n') {
            return self.null(&ty.shape);
        }
        match &ty.shape {
            Shape::String => match self.cursor.peek() {
                Some(b'"') => self.cursor.string().map(drop),
                _ => Err(self.wrong_type(&ty.shape)),
            },
            Shape::Bool => match self.cursor.peek() {
                Some(b't') => self.cursor.literal("true"),
                Some(b'f') => self.cursor.literal("false"),
                _ => Err(self.wrong_type(&ty.shape)),
            },
            Shape::Int32 | Shape::Int64 => self.integer(&ty.shape),
            Shape::Double => match self.cursor.peek() {
                Some(b'-' | b'0'..=b'9') => self.cursor.canonical_number(),
                _ => Err(self.wrong_type(&ty.shape)),
            },
            Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString => {
                self.formatted(&ty.shape)
            }
            // Kept as it came, or read as values and written anew.
            Shape::Any { object: true } => self.cursor.any_value(),
            Shape::Any { object: false } => self.cursor.canonical_value(),
            Shape::Struct(id) => match self.cursor.peek() {
                Some(b'{') => self.structure(*id),
                _ => Err(self.wrong_type(&ty.shape)),
            },
            Shape::List(item) => match self.cursor.peek() {
                Some(b'[') => self.list(item).map(drop),
                _ => Err(self.wrong_type(&ty.shape)),
            },
            Shape::Map(value) => match self.cursor.peek() {
                Some(b'{') => self.map(value).map(drop),
                _ => Err(self.wrong_type(&ty.shape)),
            },
            Shape::SchemaOr { schema, other } => self.schema_or(*schema, *other),
        }
    }

    /// A null element of a list or map is the zero value of its type.
    fn null(&mut self, shape: &Shape) -> Step1 {
        let start = self.cursor.mark();
        self.cursor.literal("null")?;
        let zero: &[u8] = match shape {
            Shape::Any { .. } | Shape::SchemaOr { .. } | Shape::Time | Shape::MicroTime => return Ok(()),
            Shape::String | Shape::Bytes => b"\"\"",
            Shape::Bool => b"false",
            Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => b"0",
            Shape::Quantity => b"\"0\"",
            Shape::Struct(id) => {
                let structure = self.schemas.structure(*id);
                let zero = format!("{{{}}}", canonical::zeros(structure, structure.always, false));
                self.cursor.replace_since(start, zero.as_bytes());
                return Ok(());
            }
            Shape::Map(_) => b"{}",
            Shape::List(_) => b"[]",
        };
        self.cursor.replace_since(start, zero);
        Ok(())
    }

    /// Says whether the list is empty.
    fn list(&mut self, item: &'s Type) -> Result<bool, SchemaError> {
        self.cursor.enter()?;
        self.cursor.advance();
        self.cursor.skip_space();
        if self.cursor.peek() == Some(b']') {
            self.cursor.advance();
            self.cursor.leave();
            return Ok(true);
        }
        for index in 0.. {
            self.path.push(Step::Index(index));
            self.value(item)?;
            self.path.pop();
            self.cursor.skip_space();
            match self.cursor.peek() {
                Some(b',') => self.cursor.advance(),
                Some(b']') => break,
                _ => return Err(self.cursor.unexpected("after array element")),
            }
            self.cursor.skip_space();
        }
        self.cursor.advance();
        self.cursor.leave();
        Ok(false)
    }

    /// Says whether the map is empty.
    fn map(&mut self, value: &'s Type) -> Result<bool, SchemaError> {
        self.cursor.enter()?;
        self.cursor.advance();
        self.cursor.skip_space();
        if self.cursor.peek() == Some(b'}') {
            self.cursor.advance();
            self.cursor.leave();
            return Ok(true);
        }
        let mut keys = Keys::default();
        loop {
            let key = self.cursor.string()?;
            if keys.repeats(key) {
                self.fault("duplicate", Step::Key(key));
                self.duplicates = true;
            }
            self.cursor.skip_space();
            self.cursor.expect(b':', "after object key")?;
            self.cursor.skip_space();
            self.path.push(Step::Key(key));
            self.value(value)?;
            self.path.pop();
            self.cursor.skip_space();
            match self.cursor.peek() {
                Some(b',') => self.cursor.advance(),
                Some(b'}') => break,
                _ => return Err(self.cursor.unexpected("after object key:value pair")),
            }
            self.cursor.skip_space();
        }
        self.cursor.advance();
        self.cursor.leave();
        Ok(false)
    }

    fn integer(&mut self, shape: &Shape) -> Step1 {
        if !matches!(self.cursor.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.wrong_type(shape));
        }
        let start = self.cursor.mark();
        let number = self.cursor.number()?;
        let parsed = std::str::from_utf8(number).ok().and_then(|text| text.parse::<i64>().ok());
        match parsed {
            Some(value) if matches!(shape, Shape::Int64) || i32::try_from(value).is_ok() => {
                if number == b"-0" {
                    self.cursor.replace_since(start, b"0");
                }
                Ok(())
            }
            _ => Err(self.mismatch(&format!("number {}", String::from_utf8_lossy(number)), shape)),
        }
    }

    /// Strings with a form of their own, brought into it.
    fn formatted(&mut self, shape: &Shape) -> Step1 {
        let start = self.cursor.mark();
        let problem = match self.cursor.peek() {
            Some(b'"') => {
                let text = self.cursor.string()?.to_str();
                match canonical::text(shape, &text) {
                    Ok(None) => return Ok(()),
                    Ok(Some(better)) => {
                        self.cursor.replace_since(start, format!("\"{better}\"").as_bytes());
                        return Ok(());
                    }
                    Err(problem) => problem,
                }
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = String::from_utf8_lossy(self.cursor.number()?);
                match shape {
                    Shape::IntOrString if number.parse::<i32>().is_ok() => return Ok(()),
                    Shape::IntOrString => {
                        return Err(self.own_mismatch(&format!("number {number}"), &Shape::Int32));
                    }
                    Shape::Quantity => match canonical::text(shape, &number) {
                        Ok(better) => {
                            let text = better.as_deref().unwrap_or(&number);
                            self.cursor.replace_since(start, format!("\"{text}\"").as_bytes());
                            return Ok(());
                        }
                        Err(problem) => problem,
                    },
                    Shape::Bytes => return Err(self.mismatch("number", shape)),
                    _ => return Err(self.own_mismatch("number", &Shape::String)),
                }
            }
            _ if *shape == Shape::Quantity => canonical::QUANTITY_FORM.to_owned(),
            _ if *shape == Shape::Bytes => return Err(self.wrong_type(shape)),
            _ => {
                let read_as = if *shape == Shape::IntOrString { Shape::Int32 } else { Shape::String };
                return Err(self.own_mismatch(self.found()?, &read_as));
            }
        };
        Err(SchemaError::typed(self.field_path(), problem))
    }

    /// Upstream decodes these by methods of their own, which are not strict: what is wrong below is not told.
    fn schema_or(&mut self, schema: StructId, other: Alternative) -> Step1 {
        match (self.cursor.peek(), other) {
            (Some(b'{'), _) => {
                let told = std::mem::take(&mut self.strict);
                self.structure(schema)?;
                self.strict = told;
                Ok(())
            }
            (Some(b't' | b'f'), _) | (_, Alternative::Schemas | Alternative::Strings) => {
                self.cursor.any_value()
            }
            _ => Err(SchemaError::typed(self.field_path(), "boolean or JSON schema expected")),
        }
    }
}

fn is_zero(scalar: &[u8]) -> bool {
    matches!(scalar, b"\"\"" | b"0" | b"-0" | b"false")
}
