//! Decodes bodies of custom kinds: unknown fields are pruned and told, metadata is decoded as ObjectMeta. Types are not
//! checked here but when the object is validated.
//!
//! Semantics of apiextensions-apiserver `schema/pruning`, `schema/objectmeta/coerce.go` and `defaulting/prunenulls.go`.

use super::Node;
use crate::schema::decode::{Decoder, Keep, Step, Step1};
use crate::schema::error::{Kind, Rejection, SchemaError};
use crate::schema::model::{KindInfo, Schemas, Shape, StructId};
use crate::schema::refusal::{
    claimed_kind, handled_as, no_type_meta, strict_refusal, unrecognizable, unrecognized,
};
use crate::schema::scan::{Keys, Text, at_end};
use crate::schema::{Decoded, FieldValidation, KindId};

/// Where the structs of a custom kind have ObjectMeta.
pub(super) const OBJECT_META: StructId = 0;

/// What becomes of nulls where a custom kind's schema allows none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::schema) enum Nulls {
    Dropped,
    Kept,
}

/// How what a schema does not know is treated.
#[derive(Clone, Copy, PartialEq)]
enum Unknown {
    Prune,
    Keep,
}

impl Schemas {
    /// Decodes what a server-side apply has made of a stored object, unknown fields dropped. A custom kind's nulls are
    /// kept, so that they are refused where the schema allows none: upstream, this does not pass the decoder.
    pub(crate) fn decode_applied<'a>(&self, kind: KindId, input: &'a [u8]) -> Result<Decoded<'a>, Rejection> {
        let info = self.info(kind);
        match &info.structural {
            Some(node) => self.decode_custom(info, node, input, FieldValidation::Ignore, Nulls::Kept),
            None => self.decode_json(kind, input, FieldValidation::Ignore),
        }
    }

    /// Decodes what a patch has made of a stored object. A custom one may say that it is of another version, which is
    /// told when it is validated.
    pub(crate) fn decode_patched<'a>(
        &self,
        kind: KindId,
        input: &'a [u8],
        validation: FieldValidation,
    ) -> Result<Decoded<'a>, Rejection> {
        let info = self.info(kind);
        if let Some(node) = &info.structural {
            let (version, given) = claimed_kind(input);
            if !version.is_empty() && !given.is_empty() && version != *info.api_version {
                // Its metadata is to be metadata all the same.
                if let Err(error) = Decoder::new(self, input, info).custom_root(node, &mut Pruned::default())
                {
                    return Err(self.refuse_custom(info, input, error));
                }
                return Ok(Decoded { body: input.into(), warnings: Vec::new() });
            }
        }
        self.decode_json(kind, input, validation)
    }

    /// Decodes JSON as the custom kind `info`, whose schema is `node`.
    pub(in crate::schema) fn decode_custom<'a>(
        &self,
        info: &KindInfo,
        node: &Node,
        input: &'a [u8],
        validation: FieldValidation,
        nulls: Nulls,
    ) -> Result<Decoded<'a>, Rejection> {
        if input.trim_ascii() == b"null" {
            return Err(no_object(info, input, validation));
        }
        let mut decoder = Decoder::new(self, input, info);
        decoder.nulls = nulls;
        let mut pruned = Pruned::default();
        if let Err(error) = decoder.custom_root(node, &mut pruned) {
            return Err(self.refuse_custom(info, input, error));
        }
        if let Some(refusal) = missing_or_wrong_identity(info, &decoder, input, validation) {
            return Err(refusal);
        }
        if decoder.duplicates {
            pruned.duplicates.append(&mut decoder.strict);
        }
        if decoder.kind != *info.kind {
            // Of another kind nothing is known; that it is one is told when it is validated.
            pruned = Pruned { duplicates: pruned.duplicates, ..Pruned::default() };
        }
        let body = if decoder.duplicates {
            self.last_of_duplicates(info, node, input)?.into()
        } else {
            decoder.cursor.finish()
        };
        let strict = pruned.told();
        match validation {
            FieldValidation::Strict if !strict.is_empty() => Err(strict_refusal(info, strict)),
            FieldValidation::Warn => Ok(Decoded { body, warnings: strict }),
            _ => Ok(Decoded { body, warnings: Vec::new() }),
        }
    }

    fn last_of_duplicates(&self, info: &KindInfo, node: &Node, input: &[u8]) -> Result<Vec<u8>, Rejection> {
        let value =
            crate::merge::parse_value(input).map_err(|error| self.refuse_custom(info, input, error))?;
        let plain = value.to_string().into_bytes();
        let mut decoder = Decoder::new(self, &plain, info);
        decoder
            .custom_root(node, &mut Pruned::default())
            .map_err(|error| self.refuse_custom(info, &plain, error))?;
        Ok(decoder.cursor.finish().into_owned())
    }

    fn refuse_custom(&self, info: &KindInfo, input: &[u8], error: SchemaError) -> Rejection {
        if error.kind == Kind::Syntax {
            return unrecognized(info, input, error);
        }
        if let Some(problem) = no_type_meta(input) {
            return unrecognized(info, input, SchemaError::syntax(problem));
        }
        Rejection::bad_request(handled_as(info, &error.message), vec![error])
    }
}

/// Go reads null into an empty object, of no kind.
fn no_object(info: &KindInfo, input: &[u8], validation: FieldValidation) -> Rejection {
    Rejection::bad_request(no_kind(info, input, validation), Vec::new())
}

fn no_kind(info: &KindInfo, input: &[u8], validation: FieldValidation) -> String {
    let problem = format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(input));
    match validation {
        FieldValidation::Ignore => handled_as(info, &problem),
        _ => unrecognizable(info, input, &problem),
    }
}

/// The apiVersion must be the expected one; another kind is told when the object is validated.
fn missing_or_wrong_identity(
    info: &KindInfo,
    decoder: &Decoder<'_, '_>,
    input: &[u8],
    validation: FieldValidation,
) -> Option<Rejection> {
    let message = if decoder.kind.is_empty() {
        no_kind(info, input, validation)
    } else if decoder.api_version != *info.api_version {
        format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            decoder.api_version, info.api_version
        )
    } else {
        return None;
    };
    Some(Rejection::bad_request(message, Vec::new()))
}

/// What will be told of a body, in the order in which upstream tells it.
#[derive(Default)]
struct Pruned {
    duplicates: Vec<String>,
    /// Below the object's own metadata.
    metadata: Vec<String>,
    unknown: Vec<String>,
    /// Below the metadata of embedded resources.
    embedded: Vec<String>,
}

impl Pruned {
    const MOST: usize = 100;

    fn told(self) -> Vec<String> {
        let mut told = self.duplicates;
        for mut list in [self.metadata, self.unknown, self.embedded] {
            list.sort();
            told.append(&mut list);
        }
        told.truncate(Self::MOST);
        told
    }
}

impl<'s, 'a> Decoder<'s, 'a> {
    fn custom_root(&mut self, node: &'s Node, pruned: &mut Pruned) -> Step1 {
        self.cursor.skip_space();
        if self.cursor.peek() != Some(b'{') {
            return Err(self.wrong_type(&Shape::Map(Box::new(crate::schema::Type::free()))));
        }
        self.custom_object(Some(node), Unknown::Prune, true, pruned)?;
        at_end(&mut self.cursor)
    }

    fn custom_value(&mut self, node: Option<&'s Node>, unknown: Unknown, pruned: &mut Pruned) -> Step1 {
        match self.cursor.peek() {
            Some(b'{') => {
                let embedded = node.is_some_and(|node| node.embedded_resource);
                self.custom_object(node, unknown, embedded, pruned)
            }
            Some(b'[') => self.custom_list(node, unknown, pruned),
            _ => self.cursor.any_value(),
        }
    }

    fn custom_list(&mut self, node: Option<&'s Node>, unknown: Unknown, pruned: &mut Pruned) -> Step1 {
        let unknown = effective(node, unknown);
        let items = node.and_then(|node| node.items.as_deref());
        self.cursor.enter()?;
        self.cursor.advance();
        self.cursor.skip_space();
        if self.cursor.peek() != Some(b']') {
            for index in 0.. {
                self.path.push(Step::Index(index));
                self.custom_value(items, unknown, pruned)?;
                self.path.pop();
                self.cursor.skip_space();
                match self.cursor.peek() {
                    Some(b',') => self.cursor.advance(),
                    Some(b']') => break,
                    _ => return Err(self.cursor.unexpected("after array element")),
                }
                self.cursor.skip_space();
            }
        }
        self.cursor.advance();
        self.cursor.leave();
        Ok(())
    }

    fn custom_object(
        &mut self,
        node: Option<&'s Node>,
        unknown: Unknown,
        resource: bool,
        pruned: &mut Pruned,
    ) -> Step1 {
        let unknown = effective(node, unknown);
        self.cursor.enter()?;
        self.cursor.advance();
        self.cursor.skip_space();
        let mut comma = self.cursor.mark();
        let mut wrote_any = false;
        let mut keys = Keys::default();
        if self.cursor.peek() == Some(b'}') {
            self.cursor.advance();
            self.cursor.leave();
            return Ok(());
        }
        loop {
            let name = self.cursor.string()?;
            if keys.repeats(name) {
                self.duplicates = true;
                self.fault("duplicate", Step::Key(name));
            }
            self.cursor.skip_space();
            self.cursor.expect(b':', "after object key")?;
            self.cursor.skip_space();
            match self.custom_member(node, name, unknown, resource, pruned)? {
                Keep::Yes => wrote_any = true,
                Keep::No => self.cursor.drop_since(comma),
            }
            self.cursor.skip_space();
            comma = self.cursor.mark();
            match self.cursor.peek() {
                Some(b',') => self.cursor.advance(),
                Some(b'}') => break,
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
        self.cursor.advance();
        self.cursor.leave();
        Ok(())
    }

    fn custom_member(
        &mut self,
        node: Option<&'s Node>,
        name: Text<'a>,
        unknown: Unknown,
        resource: bool,
        pruned: &mut Pruned,
    ) -> Result<Keep, SchemaError> {
        let key = name.decode();
        if resource && matches!(&*key, b"apiVersion" | b"kind" | b"metadata") {
            return self.identity(name, &key, pruned);
        }
        let declared = node.and_then(|node| node.property(&key));
        let additional =
            node.is_some_and(|node| !matches!(node.additional, super::node::Additional::Undefined));
        let member = declared.or_else(|| node.and_then(Node::additional_schema));
        let drops_null = |member: &Node| {
            let is_kept = member.default.is_some() || !member.refuses_null();
            !is_kept && (self.nulls == Nulls::Dropped || member.is_untyped())
        };
        if self.cursor.peek() == Some(b'n') && member.is_some_and(drops_null) {
            self.cursor.literal("null")?;
            return Ok(Keep::No);
        }
        self.path.push(Step::Key(name));
        let keep = if declared.is_some() || additional {
            self.custom_value(member, Unknown::Prune, pruned)?;
            Keep::Yes
        } else if unknown == Unknown::Keep {
            self.custom_value(None, Unknown::Keep, pruned)?;
            Keep::Yes
        } else {
            if pruned.unknown.len() < Pruned::MOST {
                pruned.unknown.push(format!("unknown field \"{}\"", self.strict_path()));
            }
            self.custom_value(None, Unknown::Keep, pruned)?;
            Keep::No
        };
        self.path.pop();
        Ok(keep)
    }

    /// apiVersion, kind and metadata of the object or of a resource embedded in it.
    fn identity(&mut self, name: Text<'a>, key: &[u8], pruned: &mut Pruned) -> Result<Keep, SchemaError> {
        let is_root = self.path.is_empty();
        if key != b"metadata" {
            if is_root {
                return self.type_meta(if key == b"kind" { "kind" } else { "apiVersion" });
            }
            self.path.push(Step::Key(name));
            if self.cursor.peek() != Some(b'"') {
                return Err(self.invalid_here(self.cursor.position(), "must be a string"));
            }
            self.cursor.string()?;
            self.path.pop();
            return Ok(Keep::Yes);
        }
        if self.cursor.peek() == Some(b'n') {
            self.cursor.literal("null")?;
            return Ok(Keep::No);
        }
        self.path.push(Step::Key(name));
        let told = std::mem::take(&mut self.strict);
        let depth = self.path.len();
        if self.cursor.peek() != Some(b'{') {
            let error = self.wrong_type(&Shape::Struct(OBJECT_META));
            let here = self.cursor.position();
            return Err(if is_root { error } else { self.invalid_here(here, &error.message) });
        }
        let start = self.cursor.position();
        if let Err(error) = self.structure(OBJECT_META) {
            self.path.truncate(depth);
            let own = is_root || error.kind == Kind::Syntax;
            return Err(if own { error } else { self.invalid_here(start, &error.message) });
        }
        let found = std::mem::replace(&mut self.strict, told);
        for fault in found {
            if fault.starts_with("duplicate") {
                self.strict.push(fault);
            } else if is_root {
                pruned.metadata.push(fault);
            } else if pruned.embedded.len() < Pruned::MOST {
                pruned.embedded.push(fault);
            }
        }
        self.path.pop();
        Ok(Keep::Yes)
    }

    /// The value that begins at `start` and belongs to the current path is wrong.
    fn invalid_here(&self, start: usize, problem: &str) -> SchemaError {
        let path = self.strict_path();
        let given = self.cursor.value_at(start);
        // As Go writes what it has read: keys in order, and no spaces.
        let shown = match serde_json::from_slice::<serde_json::Value>(given) {
            Ok(mut value) => {
                value.sort_all_objects();
                value.to_string()
            }
            Err(_) => String::from_utf8_lossy(given).into_owned(),
        };
        SchemaError::typed(path.clone(), format!("{path}: Invalid value: {shown}: {problem}"))
    }
}

/// A schema that preserves unknown fields does so for the lists within it too.
fn effective(node: Option<&Node>, inherited: Unknown) -> Unknown {
    if node.is_some_and(|node| node.preserve_unknown) { Unknown::Keep } else { inherited }
}
