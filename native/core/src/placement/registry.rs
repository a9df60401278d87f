//! Values that are kept once however many share them, each under a small number, until nobody does.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

pub type Id = u32;

struct Entry<K, S> {
    key: Arc<K>,
    state: S,
    users: u32,
}

/// Invariant: `ids` names exactly the entries that are there; each has at least one user.
pub struct Registry<K, S> {
    ids: FxHashMap<Arc<K>, Id>,
    entries: Vec<Option<Entry<K, S>>>,
    free: Vec<Id>,
}

impl<K, S> Default for Registry<K, S> {
    fn default() -> Self {
        Self { ids: FxHashMap::default(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<K: Eq + Hash, S> Registry<K, S> {
    /// One user more; whether the entry is new. `make` is called for a new one.
    pub fn acquire(&mut self, key: K, make: impl FnOnce(&K) -> S) -> (Id, bool) {
        if let Some(&id) = self.ids.get(&key) {
            self.retain(id);
            return (id, false);
        }
        let state = make(&key);
        let key = Arc::new(key);
        let entry = Some(Entry { key: Arc::clone(&key), state, users: 1 });
        let id = if let Some(id) = self.free.pop() {
            self.entries[id as usize] = entry;
            id
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as Id
        };
        self.ids.insert(key, id);
        (id, true)
    }

    pub fn retain(&mut self, id: Id) {
        self.entry_mut(id).users += 1;
    }

    /// One user less; the entry, which is gone now, if that was the last one.
    pub fn release(&mut self, id: Id) -> Option<(Arc<K>, S)> {
        let entry = self.entry_mut(id);
        entry.users -= 1;
        if entry.users > 0 {
            return None;
        }
        let entry = self.entries[id as usize].take()?;
        self.ids.remove(&entry.key);
        self.free.push(id);
        Some((entry.key, entry.state))
    }

    pub fn key(&self, id: Id) -> &K {
        &self.entry(id).key
    }

    pub fn iter(&self) -> impl Iterator<Item = (Id, &K, &S)> {
        self.entries.iter().enumerate().filter_map(|(id, entry)| {
            let entry = entry.as_ref()?;
            Some((id as Id, &*entry.key, &entry.state))
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &K, &mut S)> {
        self.entries.iter_mut().enumerate().filter_map(|(id, entry)| {
            let entry = entry.as_mut()?;
            Some((id as Id, &*entry.key, &mut entry.state))
        })
    }

    fn entry(&self, id: Id) -> &Entry<K, S> {
        self.entries[id as usize].as_ref().expect("an id is used by nobody whose entry is gone")
    }

    fn entry_mut(&mut self, id: Id) -> &mut Entry<K, S> {
        self.entries[id as usize].as_mut().expect("an id is used by nobody whose entry is gone")
    }
}

impl<K: Eq + Hash, S> std::ops::Index<Id> for Registry<K, S> {
    type Output = S;

    fn index(&self, id: Id) -> &S {
        &self.entry(id).state
    }
}

impl<K: Eq + Hash, S> std::ops::IndexMut<Id> for Registry<K, S> {
    fn index_mut(&mut self, id: Id) -> &mut S {
        &mut self.entry_mut(id).state
    }
}
