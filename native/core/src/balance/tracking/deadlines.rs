//! When to look at which connection: a list of keys for each second.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::key::FlowKey;

/// Seconds, rounded up: what is due in it is over by its end.
pub(super) fn second(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1000)
}

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    keys: Mutex<BTreeMap<u64, Vec<FlowKey>>>,
}

impl Deadlines {
    pub(super) fn file(&self, second: u64, key: FlowKey) {
        self.keys.lock().entry(second).or_default().push(key);
    }

    /// All that were filed for `last` or before, with their seconds; they are filed no longer.
    pub(super) fn due(&self, last: u64) -> Vec<(u64, Vec<FlowKey>)> {
        let mut keys = self.keys.lock();
        let later = keys.split_off(&(last + 1));
        std::mem::replace(&mut *keys, later).into_iter().collect()
    }
}
