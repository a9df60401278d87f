//! Lists that a strategic merge patch merges: elements are found by what they are, and put in order, in the time of the
//! lists' length.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// What tells an element from others: the value of its merge key, or all of it.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'v> {
    Missing,
    Text(&'v str),
    Json(String),
}

impl<'v> Identity<'v> {
    fn of(element: &'v Value, key: Option<&str>) -> Self {
        match key.map_or(Some(element), |key| element.get(key)) {
            None => Self::Missing,
            Some(Value::String(text)) => Self::Text(text),
            Some(other) => Self::Json(other.to_string()),
        }
    }
}

/// Where in a list the first of those with an identity is.
struct Places<'v> {
    key: Option<&'v str>,
    first: HashMap<Identity<'v>, usize>,
}

impl<'v> Places<'v> {
    fn of(list: &'v [Value], key: Option<&'v str>) -> Self {
        let mut first = HashMap::with_capacity(list.len());
        for (place, element) in list.iter().enumerate() {
            first.entry(Identity::of(element, key)).or_insert(place);
        }
        Self { key, first }
    }

    fn get(&self, element: &Value) -> Option<usize> {
        self.first.get(&Identity::of(element, self.key)).copied()
    }
}

/// A merged list of scalars has every element once, old ones first.
pub(super) fn union(before: Vec<Value>, changes: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::with_capacity(before.len() + changes.len());
    let distinct = |element: &Value| seen.insert(element.to_string());
    before.into_iter().chain(changes).filter(distinct).collect()
}

pub(super) fn remove_all(elements: &mut Vec<Value>, unwanted: &[Value]) {
    let unwanted = Places::of(unwanted, None);
    elements.retain(|element| unwanted.get(element).is_none());
}

/// The elements named in `order` take that order. Others keep their places of `before` among them as well as they can:
/// each goes before the first ordered element that it preceded in `before`.
pub(super) fn ordered(
    merged: Vec<Value>,
    before: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let (place, former) = (Places::of(order, key), Places::of(before, key));
    let mut list = Vec::with_capacity(merged.len());
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|element| place.get(element).is_some());
    named.sort_by_cached_key(|element| place.get(element));
    others.sort_by_cached_key(|element| former.get(element).unwrap_or(usize::MAX));
    let mut named = named.into_iter().peekable();
    for other in others {
        let rank = former.get(&other);
        let follows = |element: &Value| matches!((rank, former.get(element)), (Some(a), Some(b)) if a < b);
        while let Some(element) = named.next_if(|element| !follows(element)) {
            list.push(element);
        }
        list.push(other);
    }
    list.extend(named);
    list
}

/// A list whose elements are found by the value of their merge key; one may stand there several times.
pub(super) struct KeyedList<'k> {
    key: &'k str,
    slots: Vec<Option<Value>>,
    places: HashMap<String, Vec<usize>>,
}

impl<'k> KeyedList<'k> {
    pub(super) fn new(key: &'k str, elements: Vec<Value>) -> Self {
        let mut made = Self { key, slots: Vec::with_capacity(elements.len()), places: HashMap::new() };
        elements.into_iter().for_each(|element| made.push(element));
        made
    }

    /// The first with that value.
    pub(super) fn find(&mut self, value: &Value) -> Option<&mut Value> {
        let place = *self.places.get(&value.to_string())?.first()?;
        self.slots[place].as_mut()
    }

    pub(super) fn push(&mut self, element: Value) {
        if let Some(value) = element.get(self.key) {
            self.places.entry(value.to_string()).or_default().push(self.slots.len());
        }
        self.slots.push(Some(element));
    }

    /// All with that value.
    pub(super) fn remove(&mut self, value: &Value) {
        for place in self.places.remove(&value.to_string()).unwrap_or_default() {
            self.slots[place] = None;
        }
    }

    pub(super) fn into_elements(self) -> Vec<Value> {
        self.slots.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As it is said, each element beside each.
    fn plainly_ordered(
        merged: Vec<Value>,
        before: &[Value],
        order: &[Value],
        key: Option<&str>,
    ) -> Vec<Value> {
        let identity = |element: &Value| key.map_or(Some(element.clone()), |key| element.get(key).cloned());
        let place = |list: &[Value], element: &Value| {
            list.iter().position(|other| identity(other) == identity(element))
        };
        let (mut named, mut others): (Vec<Value>, Vec<Value>) =
            merged.into_iter().partition(|element| place(order, element).is_some());
        named.sort_by_key(|element| place(order, element));
        others.sort_by_key(|element| place(before, element).unwrap_or(usize::MAX));
        let mut from = 0;
        for other in others {
            let rank = place(before, &other);
            let follows =
                |element: &Value| matches!((rank, place(before, element)), (Some(a), Some(b)) if a < b);
            let at = named[from..].iter().position(follows).map_or(named.len(), |offset| from + offset);
            named.insert(at, other);
            from = at + 1;
        }
        named
    }

    fn elements() -> impl Strategy<Value = Vec<Value>> {
        let one = prop_oneof![
            (0..6_u8).prop_map(|n| json!({"k": format!("{n}"), "v": n})),
            (0..6_u8).prop_map(|n| json!({"k": n})),
            Just(json!({"v": 1})),
            (0..3_u8).prop_map(Value::from),
        ];
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn elements_stand_where_the_plain_way_puts_them(
            merged in elements(), before in elements(), order in elements(), keyed in any::<bool>()
        ) {
            let key = keyed.then_some("k");
            prop_assert_eq!(
                ordered(merged.clone(), &before, &order, key), plainly_ordered(merged, &before, &order, key)
            );
        }
    }

    #[test]
    fn a_list_of_many_elements_is_merged_in_the_time_of_its_length() {
        let names: Vec<Value> = (0..50_000).map(|n| json!(n.to_string())).collect();
        let reversed: Vec<Value> = names.iter().rev().cloned().collect();
        assert_eq!(union(names.clone(), reversed.clone()), names);
        assert_eq!(ordered(names.clone(), &names, &reversed, None), reversed);
        let mut left = names.clone();
        remove_all(&mut left, &reversed);
        assert_eq!(left, Vec::<Value>::new());
        let mut keyed = KeyedList::new("k", names.iter().map(|name| json!({"k": name})).collect());
        for name in &reversed[1..] {
            assert!(keyed.find(name).is_some());
            keyed.remove(name);
        }
        assert_eq!(keyed.into_elements(), [json!({"k": "49999"})]);
    }
}
