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
    /// The index that serves `filter`; fields go first, they tell objects apart better than labels do.
    pub fn for_filter(filter: &Filter) -> Option<Self> {
        let field = filter.fields().iter().find_map(|term| match term.field {
            Field::Selectable(number) if !term.negated => {
                Some((IndexKey::Field(number), vec![term.value.clone()]))
            }
            _ => None,
        });
        let label = || {
            let requirements = filter.labels().requirements().iter();
            let mut usable =
                requirements.filter_map(|requirement| Some((requirement, requirement.required_values()?)));
            usable
                .next()
                .map(|(requirement, values)| (IndexKey::Label(requirement.key().into()), values.to_vec()))
        };
        field.or_else(label).map(|(key, values)| Self { key, values })
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

    /// Keys, in order, of the objects that may be selected; None when the index is not there yet.
    pub fn find(&self, lookup: &Lookup) -> Option<Vec<Arc<str>>> {
        let index = self.built.iter().find(|index| index.key == lookup.key)?;
        index.used.store(self.uses.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let mut found: Vec<_> =
            lookup.values.iter().filter_map(|value| index.keys.get(value)).flatten().cloned().collect();
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
