//! The difference of two objects as sets of fields: what a write has added, changed or removed.
//!
//! Semantics of structured-merge-diff `typed/compare.go`.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::fields::{FieldSet, PathElement};
use super::json::Node;
use super::repeated;
use crate::go::marshalled_text;
use crate::schema::{ListKey, ListKind, Schemas, Shape, Type};

/// The difference of two objects as field sets.
#[derive(Default)]
pub(crate) struct Change {
    /// Added or modified.
    pub written: FieldSet,
    pub removed: FieldSet,
}

pub(crate) fn compare<N: Node>(schemas: &Schemas, ty: &Type, old: &N, new: &N) -> Change {
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

type Side<'v, N> = Option<&'v N>;

/// Where a value is as Go has it: a structure within a structure is there even when nothing is in it.
#[derive(Clone, Copy)]
struct Present {
    old: bool,
    new: bool,
}

impl Present {
    fn of<N>(old: Side<'_, N>, new: Side<'_, N>) -> Self {
        Self { old: old.is_some(), new: new.is_some() }
    }
}

impl Comparer<'_> {
    fn value<N: Node>(&self, ty: &Type, old: Side<'_, N>, new: Side<'_, N>, present: Present) -> Change {
        let mut change = match (&ty.shape, old, new) {
            _ if ty.atomic => leaf(old, new),
            (Shape::Struct(_) | Shape::Map(_) | Shape::SchemaOr { .. } | Shape::Any { .. }, _, _)
                if is_map(old, new) =>
            {
                self.members(ty, old, new, present)
            }
            (Shape::Any { .. }, Some(was), Some(is))
                if was.is_object() != is.is_object() && self.schemas.is_custom() =>
            {
                self.exchanged(ty, was, is, present)
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

    /// Free JSON that was an object, or has become one: all of it is another, and what that object holds goes or comes.
    fn exchanged<N: Node>(&self, ty: &Type, was: &N, is: &N, present: Present) -> Change {
        let mut change = if was.is_object() {
            self.members(ty, Some(was), None, present)
        } else {
            self.members(ty, None, Some(is), present)
        };
        change.removed.member = false;
        change.written.member = true;
        change
    }

    fn members<N: Node>(&self, ty: &Type, old: Side<'_, N>, new: Side<'_, N>, present: Present) -> Change {
        let is_bare = |side: Side<'_, N>| side.is_none_or(|object| object.members().next().is_none());
        if is_bare(old) && is_bare(new) {
            return leaf(old, new);
        }
        let mut change = Change::default();
        let free = Type::free();
        let structure = match &ty.shape {
            Shape::Struct(id) | Shape::SchemaOr { schema: id, .. } => Some(self.schemas.structure(*id)),
            _ => None,
        };
        let mut visit = |name: &str, was: Side<'_, N>, is: Side<'_, N>| {
            if was == is {
                return;
            }
            let field = structure.and_then(|structure| structure.field(name));
            // What an empty object shows nobody has written.
            let shown = field.and_then(|field| field.always.as_deref());
            if was.is_none() && present.old && shown.is_some() && shown == is.and_then(Node::empty) {
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
        for (name, is) in new.into_iter().flat_map(Node::members) {
            visit(name, old.and_then(|old| old.member(name)), Some(is));
        }
        for (name, was) in old.into_iter().flat_map(Node::members) {
            if new.is_none_or(|new| new.member(name).is_none()) {
                visit(name, Some(was), None);
            }
        }
        change.written.sort();
        change.removed.sort();
        change
    }

    fn keyed_elements<N: Node>(
        &self,
        item: &Type,
        keys: &[ListKey],
        old: Side<'_, N>,
        new: Side<'_, N>,
    ) -> Change {
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
                let below = self.value(item, Some(*element), None, Present { old: true, new: false });
                change.removed.push(|| key.clone(), below.removed);
            }
        }
        change.written.sort();
        change.removed.sort();
        change
    }
}

/// One that is null is an empty one.
fn is_map<N: Node>(old: Side<'_, N>, new: Side<'_, N>) -> bool {
    let sides = || [old, new].into_iter().flatten();
    sides().any(Node::is_object) && sides().all(|side| side.is_object() || side.is_null())
}

/// One that is null is an empty one.
fn is_list<N: Node>(old: Side<'_, N>, new: Side<'_, N>) -> bool {
    let sides = || [old, new].into_iter().flatten();
    let is_array = |side: &N| side.elements().is_some();
    sides().any(is_array) && sides().all(|side| is_array(side) || side.is_null())
}

fn leaf<N: Node>(old: Side<'_, N>, new: Side<'_, N>) -> Change {
    let mut change = Change::default();
    if old != new {
        change.written.member = new.is_some();
        change.removed.member = new.is_none();
    }
    change
}

fn keyed<'v, N: Node>(keys: &[ListKey], list: Side<'v, N>) -> Vec<(PathElement, &'v N)> {
    keyed_by(list, |element| key_of(keys, element))
}

/// Finds elements by their keys. Lists are short most often, and looked through then.
enum ByKey<'e, 'v, N> {
    Few(&'e [(PathElement, &'v N)]),
    Many(FxHashMap<&'e PathElement, &'v N>),
}

impl<'e, 'v, N> ByKey<'e, 'v, N> {
    const FEW: usize = 16;

    fn of(elements: &'e [(PathElement, &'v N)]) -> Self {
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
    fn lacks_some_of(&self, elements: &[(PathElement, &'v N)]) -> bool {
        match self {
            Self::Few(few) => {
                few.iter().enumerate().any(|(at, (key, _))| few[..at].iter().any(|(other, _)| other == key))
            }
            Self::Many(by_key) => by_key.len() < elements.len(),
        }
    }

    /// The first of those with this key.
    fn first(&self, key: &PathElement) -> Option<&'v N> {
        match self {
            Self::Few(elements) => {
                elements.iter().find(|(other, _)| other == key).map(|(_, element)| *element)
            }
            Self::Many(by_key) => by_key.get(key).copied(),
        }
    }
}

/// `{"containerPort":80,"protocol":"TCP"}`, keys in order of their names.
pub(super) fn key_of<N: Node>(keys: &[ListKey], element: &N) -> PathElement {
    let mut keys: SmallVec<[&ListKey; 4]> = keys.iter().collect();
    keys.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut text = String::with_capacity(64);
    text.push('{');
    for ListKey { name, default } in keys {
        let given = element.member(name);
        if given.is_none() && default.is_none() {
            continue;
        }
        if text.len() > 1 {
            text.push(',');
        }
        push_text(&mut text, name);
        text.push(':');
        match (given, default) {
            (Some(value), _) => match value.text() {
                Some(value) => push_text(&mut text, value),
                None => text.push_str(&value.edge()),
            },
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

fn set_elements<N: Node>(old: Side<'_, N>, new: Side<'_, N>) -> Change {
    let of_value = |element: &N| PathElement::Value(element.edge().into());
    repeated::compare(&keyed_by(old, of_value), &keyed_by(new, of_value), leaf)
}

fn keyed_by<'v, N: Node>(list: Side<'v, N>, key: impl Fn(&N) -> PathElement) -> Vec<(PathElement, &'v N)> {
    list.and_then(Node::elements).into_iter().flatten().map(|element| (key(element), element)).collect()
}
