//! Keeps `managedFields` through updates: who changed a field last by a non-apply request owns it.
//!
//! Semantics of structured-merge-diff `merge/update.go` and apimachinery `pkg/util/managedfields`: what an update adds
//! or changes passes to its manager, what it removes is owned by nobody, everything else stays, times too.

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::fields::{FieldSet, PathElement, edge_json};
use super::ownership::{self, Entry, Held, Operation};
use super::repeated;
use super::{parse_checked, splice};
use crate::go::marshalled_text;
use crate::schema::{KindId, ListKey, ListKind, SchemaError, Schemas, Shape, Type, member_spans};

/// More update managers than this are merged, oldest first, into one named `ancient-changes`.
const MAX_UPDATE_MANAGERS: usize = 10;
const ANCIENT_CHANGES: &str = "ancient-changes";

/// Who updates, when, and through which subresource (empty for the object itself).
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    pub manager: &'a str,
    pub time: &'a str,
    pub subresource: &'a str,
}

impl Schemas {
    /// Returns `new` with its managedFields brought up to date. `old` is the stored object, None on create. Both have
    /// been through the decoder.
    pub fn track_update(
        &self,
        kind: KindId,
        old: Option<&[u8]>,
        new: &[u8],
        update: Update<'_>,
    ) -> Result<Vec<u8>, SchemaError> {
        let managed = self.managed_after(kind, old, new, update)?;
        splice::managed_fields(new, managed.as_deref())
    }

    /// The managedFields of `new`, as JSON; None when nobody owns anything.
    pub fn managed_after(
        &self,
        kind: KindId,
        old: Option<&[u8]>,
        new: &[u8],
        update: Update<'_>,
    ) -> Result<Option<Vec<u8>>, SchemaError> {
        let parts = (update.subresource == "status").then_some(&OF_STATUS[..]);
        let before = old.map(|old| Outline::of(old, parts)).transpose()?.unwrap_or_default();
        let after = Outline::of(new, parts)?;
        let entries = current_entries(before.managed, after.managed, update.subresource);
        if old.is_some() && entries.is_empty() {
            // Whose ownership was forgotten is not tracked again before somebody applies.
            return Ok(None);
        }
        let (before, after) = (before.without(&after)?, after.without(&before)?);
        let change = compare(self, &self.root_type(kind), &before, &after);
        let Some(mut entries) = concerned(entries, &change, update) else { return Ok(None) };
        for Held { entry, .. } in &mut entries {
            entry.fields.subtract(&change.written);
            entry.fields.subtract(&change.removed);
        }
        if !change.written.is_empty() {
            let entry = Entry {
                manager: update.manager.to_owned(),
                operation: Operation::Update,
                api_version: self.api_version(kind).to_owned(),
                time: update.time.to_owned(),
                subresource: update.subresource.to_owned(),
                fields: change.written,
            };
            match entries.iter_mut().find(|other| other.entry.same_manager(&entry)) {
                Some(Held { entry: other, .. }) => {
                    other.fields.union(&entry.fields);
                    other.time = entry.time;
                }
                None => entries.push(entry.into()),
            }
        }
        entries.retain(|held| !held.is_empty());
        let entries = cap_update_managers(entries);
        Ok((!entries.is_empty()).then(|| ownership::write_held(entries)))
    }
}

/// What a write of the status can change, and what says of which object it is: the rest is not compared, and need not be
/// there.
const OF_STATUS: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// A client may send managedFields along; what it sends counts, unless it sends none or nonsense, or writes through a
/// subresource.
fn current_entries<'a>(old: Option<&'a [u8]>, new: Option<&[u8]>, subresource: &str) -> Vec<Held<'a>> {
    if ownership::is_reset(new) {
        return Vec::new();
    }
    let sent = if subresource.is_empty() { ownership::parse_json(new) } else { None };
    match sent {
        Some(sent) => sent.into_iter().map(Held::from).collect(),
        None => ownership::parse_heads(old).unwrap_or_default(),
    }
}

/// The entries, with the fields read of those that the change can have to do with; None where those are forged.
fn concerned<'a>(entries: Vec<Held<'a>>, change: &Change, update: Update<'_>) -> Option<Vec<Held<'a>>> {
    let members: Vec<&PathElement> =
        change.written.children.iter().chain(&change.removed.children).map(|(member, _)| member).collect();
    let read = entries.into_iter().map(|held| {
        let is_own = held.entry.manager == update.manager && held.entry.subresource == update.subresource;
        let is_concerned = is_own || members.iter().any(|member| held.may_own(member));
        if is_concerned { held.read() } else { Some(held) }
    });
    read.collect()
}

type JsonMember<'a> = (Cow<'a, str>, &'a [u8]);

/// An object whose members, and those of its metadata, are still JSON: most are the same before and after an update,
/// and what is the same to the byte need not be read to be compared.
#[derive(Default)]
struct Outline<'a> {
    members: Vec<JsonMember<'a>>,
    metadata: Option<Vec<JsonMember<'a>>>,
    managed: Option<&'a [u8]>,
}

impl<'a> Outline<'a> {
    /// `parts`: the members that count, None for all.
    fn of(object: &'a [u8], parts: Option<&[&str]>) -> Result<Self, SchemaError> {
        let mut outline = Self { members: json_members(object)?, ..Self::default() };
        if let Some(parts) = parts {
            outline.members.retain(|(name, _)| parts.contains(&&**name));
        }
        let is_metadata = |(name, json): &JsonMember<'_>| name == "metadata" && json.starts_with(b"{");
        if let Some(at) = outline.members.iter().position(is_metadata) {
            let mut metadata = json_members(outline.members.swap_remove(at).1)?;
            let managed = metadata.iter().position(|(name, _)| name == "managedFields");
            outline.managed = managed.map(|at| metadata.swap_remove(at).1);
            outline.metadata = Some(metadata);
        }
        Ok(outline)
    }

    /// What `other` has not, or has otherwise.
    fn without(&self, other: &Self) -> Result<Value, SchemaError> {
        let mut members = differing(&self.members, &other.members)?;
        if let Some(metadata) = &self.metadata {
            let others = other.metadata.as_deref().unwrap_or_default();
            members.insert("metadata".to_owned(), Value::Object(differing(metadata, others)?));
        }
        Ok(Value::Object(members))
    }
}

fn json_members(object: &[u8]) -> Result<Vec<JsonMember<'_>>, SchemaError> {
    let spans = member_spans(object, None)?.members;
    Ok(spans.into_iter().map(|member| (member.name, &object[member.value])).collect())
}

fn differing(of: &[JsonMember<'_>], other: &[JsonMember<'_>]) -> Result<Map<String, Value>, SchemaError> {
    // A dozen at most.
    let differ = of.iter().filter(|member| !other.contains(member));
    differ.map(|(name, json)| Ok((name.clone().into_owned(), parse_checked(json)?))).collect()
}

fn cap_update_managers(entries: Vec<Held<'_>>) -> Vec<Held<'_>> {
    let is_update = |held: &Held<'_>| held.entry.operation == Operation::Update;
    let count = entries.iter().filter(|held| is_update(held)).count();
    if count <= MAX_UPDATE_MANAGERS {
        return entries;
    }
    let (updates, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_update);
    let mut updates: Vec<Entry> = updates.into_iter().filter_map(Held::read).map(|held| held.entry).collect();
    updates.sort_by(|a, b| a.time.cmp(&b.time));
    let mut buckets: Vec<Entry> = Vec::new();
    let mut rest = updates.into_iter();
    let mut left = count;
    for entry in rest.by_ref() {
        match buckets.iter_mut().find(|bucket| bucket.api_version == entry.api_version) {
            Some(bucket) => {
                bucket.fields.union(&entry.fields);
                bucket.time = entry.time;
                bucket.manager = ANCIENT_CHANGES.to_owned();
                bucket.subresource.clear();
                left -= 1;
            }
            None => buckets.push(entry),
        }
        if left <= MAX_UPDATE_MANAGERS {
            break;
        }
    }
    entries.extend(buckets.into_iter().chain(rest).map(Held::from));
    entries
}

/// The difference of two objects as field sets.
#[derive(Default)]
pub(crate) struct Change {
    /// Added or modified.
    pub written: FieldSet,
    pub removed: FieldSet,
}

pub(crate) fn compare(schemas: &Schemas, ty: &Type, old: &Value, new: &Value) -> Change {
    let mut change = Comparer { schemas }.value(ty, Some(old), Some(new), Present { old: true, new: true });
    for set in [&mut change.written, &mut change.removed] {
        strip_identity(set);
    }
    change
}

/// Nobody owns what names an object or what only the server sets.
pub(crate) fn strip_identity(set: &mut FieldSet) {
    const UNOWNED: [&str; 8] = [
        "clusterName",
        "creationTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "uid",
    ];
    let is =
        |element: &PathElement, name: &str| matches!(element, PathElement::Field(field) if &**field == name);
    set.member = false;
    set.children.retain_mut(|(element, child)| {
        if is(element, "metadata") {
            child.member = false;
            child
                .children
                .retain(|(inner, _)| !is(inner, "selfLink") && !UNOWNED.iter().any(|name| is(inner, name)));
            return !child.is_empty();
        }
        !is(element, "apiVersion") && !is(element, "kind")
    });
}

struct Comparer<'s> {
    schemas: &'s Schemas,
}

type Side<'v> = Option<&'v Value>;

/// Where a value is as Go has it: a structure within a structure is there even when nothing is in it.
#[derive(Clone, Copy)]
struct Present {
    old: bool,
    new: bool,
}

impl Present {
    fn of(old: Side<'_>, new: Side<'_>) -> Self {
        Self { old: old.is_some(), new: new.is_some() }
    }
}

impl Comparer<'_> {
    fn value(&self, ty: &Type, old: Side<'_>, new: Side<'_>, present: Present) -> Change {
        let mut change = match (&ty.shape, old, new) {
            _ if ty.atomic => leaf(old, new),
            (Shape::Struct(_) | Shape::Map(_) | Shape::SchemaOr { .. } | Shape::Any { .. }, _, _)
                if is_map(old, new) =>
            {
                self.members(ty, old, new, present)
            }
            (Shape::List(item), _, _) if is_list(old, new) => match &ty.list {
                ListKind::Atomic => leaf(old, new),
                ListKind::Set => set_elements(old, new),
                ListKind::Map(keys) => self.keyed_elements(item, keys, old, new),
            },
            _ => leaf(old, new),
        };
        change.written.member |= old.is_none() && new.is_some();
        change.removed.member |= new.is_none() && old.is_some();
        change
    }

    fn members(&self, ty: &Type, old: Side<'_>, new: Side<'_>, present: Present) -> Change {
        let empty = serde_json::Map::new();
        let before = old.and_then(Value::as_object).unwrap_or(&empty);
        let after = new.and_then(Value::as_object).unwrap_or(&empty);
        if before.is_empty() && after.is_empty() {
            return leaf(old, new);
        }
        let mut change = Change::default();
        let free = Type::free();
        let structure = match &ty.shape {
            Shape::Struct(id) | Shape::SchemaOr { schema: id, .. } => Some(self.schemas.structure(*id)),
            _ => None,
        };
        let mut visit = |name: &str, was: Side<'_>, is: Side<'_>| {
            if was == is {
                return;
            }
            let field = structure.and_then(|structure| structure.field(name));
            if was.is_none() && present.old && is.zip(field).is_some_and(|(is, field)| field.shows(is)) {
                return;
            }
            let inner = match (&ty.shape, field) {
                (_, Some(field)) => &field.ty,
                (Shape::Map(value), None) => value,
                _ => &free,
            };
            let always = field.is_some_and(|field| field.always_present);
            let there = Present {
                old: was.is_some() || always && present.old,
                new: is.is_some() || always && present.new,
            };
            let mut below = self.value(inner, was, is, there);
            if always {
                below.written.member &= !there.old;
                below.removed.member &= !there.new;
            }
            change.written.push(|| PathElement::field(name), below.written);
            change.removed.push(|| PathElement::field(name), below.removed);
        };
        for (name, is) in after {
            visit(name, before.get(name), Some(is));
        }
        for (name, was) in before {
            if !after.contains_key(name) {
                visit(name, Some(was), None);
            }
        }
        change.written.sort();
        change.removed.sort();
        change
    }

    fn keyed_elements(&self, item: &Type, keys: &[ListKey], old: Side<'_>, new: Side<'_>) -> Change {
        let (before, after) = (keyed(keys, old), keyed(keys, new));
        let (had, has) = (ByKey::of(&before), ByKey::of(&after));
        if had.lacks_some_of(&before) || has.lacks_some_of(&after) {
            return repeated::compare(&before, &after, |old, new| {
                self.value(item, old, new, Present::of(old, new))
            });
        }
        let mut change = Change::default();
        for (key, element) in &after {
            let was = had.first(key);
            if was == Some(element) {
                continue;
            }
            let below = self.value(item, was, Some(element), Present::of(was, Some(element)));
            change.written.push(|| key.clone(), below.written);
            change.removed.push(|| key.clone(), below.removed);
        }
        for (key, element) in &before {
            if has.first(key).is_none() {
                let below = self.value(item, Some(element), None, Present { old: true, new: false });
                change.removed.push(|| key.clone(), below.removed);
            }
        }
        change.written.sort();
        change.removed.sort();
        change
    }
}

fn is_map(old: Side<'_>, new: Side<'_>) -> bool {
    [old, new].into_iter().flatten().all(Value::is_object)
}

/// One that is null is an empty one.
fn is_list(old: Side<'_>, new: Side<'_>) -> bool {
    let sides = || [old, new].into_iter().flatten();
    sides().any(Value::is_array) && sides().all(|side| side.is_array() || side.is_null())
}

fn leaf(old: Side<'_>, new: Side<'_>) -> Change {
    let mut change = Change::default();
    if old != new {
        change.written.member = new.is_some();
        change.removed.member = new.is_none();
    }
    change
}

pub(crate) fn keyed<'v>(keys: &[ListKey], list: Side<'v>) -> Vec<(PathElement, &'v Value)> {
    keyed_by(list, |element| key_of(keys, element))
}

/// Finds elements by their keys. Lists are short most often, and looked through then.
enum ByKey<'e, 'v> {
    Few(&'e [(PathElement, &'v Value)]),
    Many(FxHashMap<&'e PathElement, &'v Value>),
}

impl<'e, 'v> ByKey<'e, 'v> {
    const FEW: usize = 16;

    fn of(elements: &'e [(PathElement, &'v Value)]) -> Self {
        if elements.len() <= Self::FEW {
            return Self::Few(elements);
        }
        let mut by_key = FxHashMap::default();
        for (key, element) in elements {
            by_key.entry(key).or_insert(*element);
        }
        Self::Many(by_key)
    }

    /// Whether two elements have one key.
    fn lacks_some_of(&self, elements: &[(PathElement, &'v Value)]) -> bool {
        match self {
            Self::Few(few) => {
                few.iter().enumerate().any(|(at, (key, _))| few[..at].iter().any(|(other, _)| other == key))
            }
            Self::Many(by_key) => by_key.len() < elements.len(),
        }
    }

    /// The first of those with this key.
    fn first(&self, key: &PathElement) -> Option<&'v Value> {
        match self {
            Self::Few(elements) => {
                elements.iter().find(|(other, _)| other == key).map(|(_, element)| *element)
            }
            Self::Many(by_key) => by_key.get(key).copied(),
        }
    }
}

/// `{"containerPort":80,"protocol":"TCP"}`, keys in order of their names.
pub(crate) fn key_of(keys: &[ListKey], element: &Value) -> PathElement {
    let mut keys: SmallVec<[&ListKey; 4]> = keys.iter().collect();
    keys.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut text = String::with_capacity(64);
    text.push('{');
    for ListKey { name, default } in keys {
        let given = element.get(&**name);
        if given.is_none() && default.is_none() {
            continue;
        }
        if text.len() > 1 {
            text.push(',');
        }
        push_text(&mut text, name);
        text.push(':');
        match (given, default) {
            (Some(Value::String(value)), _) => push_text(&mut text, value),
            (Some(value), _) => text.push_str(&edge_json(value)),
            (None, Some(default)) => text.push_str(default),
            (None, None) => {}
        }
    }
    text.push('}');
    PathElement::Key(text.into())
}

/// As Go marshals it.
fn push_text(out: &mut String, text: &str) {
    let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&marshalled_text(text));
    }
}

fn set_elements(old: Side<'_>, new: Side<'_>) -> Change {
    let elements = |side| -> Vec<(PathElement, &Value)> { keyed_by(side, PathElement::value) };
    repeated::compare(&elements(old), &elements(new), leaf)
}

fn keyed_by<'v>(list: Side<'v>, key: impl Fn(&Value) -> PathElement) -> Vec<(PathElement, &'v Value)> {
    list.and_then(Value::as_array).into_iter().flatten().map(|element| (key(element), element)).collect()
}
