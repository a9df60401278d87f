//! Indexes by label and by selectable field, built when a list first could use one and kept up from then on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashMap;

use super::filter::{Field, Filter};
use super::object::Object;
use super::snapshot::Snapshot;

/// Indexes of one resource at most; the least used goes.
const INDEXES_MAX: usize = 8;
/// Terms of one filter that are looked up at most.
const LOOKUPS_MAX: usize = 3;
/// An index that leaves more than this part of all objects helps less than looking at each in its place.
const WORTH_PART: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexKey {
    Field(usize),
    Label(Box<str>),
}

impl IndexKey {
    fn value<'a>(&self, object: &'a Object) -> Option<&'a str> {
        match self {
            Self::Field(number) => Some(object.field(*number)),
            Self::Label(name) => object.label(name),
        }
    }
}

/// An index and the values in it that hold all a filter can select.
#[derive(Debug, PartialEq, Eq)]
pub struct Lookup {
    pub key: IndexKey,
    pub values: Vec<Box<str>>,
}

impl Lookup {
    /// The indexes that could serve `filter`: whatever it requires a value of.
    pub fn all(filter: &Filter) -> Vec<Self> {
        let fields = filter.fields().iter().filter_map(|term| match term.field {
            Field::Selectable(number) if !term.negated => {
                Some(Self { key: IndexKey::Field(number), values: vec![term.value.clone()] })
            }
            _ => None,
        });
        let labels = filter.labels().requirements().iter().filter_map(|requirement| {
            let values = requirement.required_values()?.to_vec();
            Some(Self { key: IndexKey::Label(requirement.key().into()), values })
        });
        fields.chain(labels).take(LOOKUPS_MAX).collect()
    }
}

struct Index {
    key: IndexKey,
    keys: FxHashMap<Box<str>, BTreeSet<Arc<str>>>,
    used: AtomicU64,
}

#[derive(Default)]
pub struct Indexes {
    built: Vec<Index>,
    uses: AtomicU64,
}

impl Indexes {
    pub fn clear(&mut self) {
        self.built.clear();
    }

    /// Whether there is an index for each.
    pub fn serve(&self, lookups: &[Lookup]) -> bool {
        lookups.iter().all(|lookup| self.get(&lookup.key).is_some())
    }

    fn get(&self, key: &IndexKey) -> Option<&Index> {
        self.built.iter().find(|index| index.key == *key)
    }

    /// Keys, in order, that the most telling of the lookups leaves of `total` objects; None when they leave most.
    pub fn narrow(&self, lookups: &[Lookup], total: usize) -> Option<Vec<Arc<str>>> {
        let known = lookups.iter().filter_map(|lookup| Some((self.get(&lookup.key)?, lookup)));
        let (count, index, lookup) = known
            .map(|(index, lookup)| (index.count(lookup), index, lookup))
            .min_by_key(|(count, ..)| *count)?;
        index.used.store(self.uses.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        if count > total / WORTH_PART {
            return None;
        }
        let mut found: Vec<_> = index.having(lookup).flatten().cloned().collect();
        if lookup.values.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        Some(found)
    }

    pub fn build(&mut self, key: &IndexKey, snapshot: &Snapshot) {
        if self.built.iter().any(|index| index.key == *key) {
            return;
        }
        if self.built.len() >= INDEXES_MAX {
            let least =
                self.built.iter().enumerate().min_by_key(|(_, index)| index.used.load(Ordering::Relaxed));
            if let Some((at, _)) = least {
                self.built.swap_remove(at);
            }
        }
        let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed) + 1);
        let mut index = Index { key: key.clone(), keys: FxHashMap::default(), used };
        snapshot.iter().for_each(|object| index.add(object));
        self.built.push(index);
    }

    pub fn update(&mut self, before: Option<&Object>, after: Option<&Object>) {
        for index in &mut self.built {
            let old = before.and_then(|object| index.key.value(object));
            let new = after.and_then(|object| index.key.value(object));
            if old == new {
                continue;
            }
            if let (Some(object), Some(_)) = (before, old) {
                index.remove(object);
            }
            if let (Some(object), Some(_)) = (after, new) {
                index.add(object);
            }
        }
    }
}

impl Index {
    fn having<'a>(&'a self, lookup: &'a Lookup) -> impl Iterator<Item = &'a BTreeSet<Arc<str>>> {
        lookup.values.iter().filter_map(|value| self.keys.get(value))
    }

    fn count(&self, lookup: &Lookup) -> usize {
        self.having(lookup).map(BTreeSet::len).sum()
    }

    fn add(&mut self, object: &Object) {
        let Some(value) = self.key.value(object) else { return };
        let key = Arc::clone(object.shared_key());
        match self.keys.get_mut(value) {
            Some(keys) => drop(keys.insert(key)),
            None => drop(self.keys.insert(value.into(), BTreeSet::from([key]))),
        }
    }

    fn remove(&mut self, object: &Object) {
        let Some(value) = self.key.value(object) else { return };
        if let Some(keys) = self.keys.get_mut(value) {
            keys.remove(object.key());
            if keys.is_empty() {
                self.keys.remove(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::LabelSelector;
    use crate::watch_cache::scan::Scanner;
    use bytes::Bytes;

    fn snapshot(count: usize) -> Snapshot {
        let object = |number: usize| {
            let (rare, group) = (if number == 7 { "yes" } else { "no" }, number % 100);
            let json = format!(r#"{{"metadata":{{"labels":{{"rare":"{rare}","group":"g{group}"}}}}}}"#);
            let scanner = Scanner::new(Vec::new());
            Arc::new(
                Object::new(format!("{number:04}").into(), 1, Bytes::from(json), &scanner).expect("valid"),
            )
        };
        Snapshot::sorted((0..count).map(object).collect())
    }

    fn narrowed(labels: &str) -> Option<Vec<String>> {
        let snapshot = snapshot(1000);
        let labels = LabelSelector::parse(labels).expect("valid");
        let lookups: Vec<Lookup> = labels
            .requirements()
            .iter()
            .filter_map(|one| {
                Some(Lookup {
                    key: IndexKey::Label(one.key().into()),
                    values: one.required_values()?.to_vec(),
                })
            })
            .collect();
        let mut indexes = Indexes::default();
        assert!(!indexes.serve(&lookups));
        lookups.iter().for_each(|lookup| indexes.build(&lookup.key, &snapshot));
        assert!(indexes.serve(&lookups));
        let keys = indexes.narrow(&lookups, snapshot.len())?;
        Some(keys.iter().map(|key| key.to_string()).collect())
    }

    #[test]
    fn the_most_telling_term_is_looked_up_whatever_the_order() {
        assert_eq!(narrowed("group=g7,rare=yes"), Some(vec!["0007".to_owned()]));
        assert_eq!(narrowed("rare=yes,group=g7"), Some(vec!["0007".to_owned()]));
    }

    #[test]
    fn several_values_give_their_objects_in_order() {
        let keys = narrowed("group in (g5,g3)").expect("few");
        assert_eq!((keys.len(), keys.is_sorted(), keys[0].as_str()), (20, true, "0003"));
    }

    #[test]
    fn a_term_that_most_objects_meet_is_not_worth_it() {
        assert_eq!(narrowed("rare=no"), None);
    }
}
