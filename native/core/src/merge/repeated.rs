//! Lists that have a key more than once, though they should not: those elements are owned together.
//!
//! Semantics of structured-merge-diff `typed/compare.go` (visitListItems).

use rustc_hash::FxHashMap;

use super::compare::Change;
use super::fields::{FieldSet, PathElement};

/// Elements of a list in order, with their keys.
type Keyed<'v, N> = [(PathElement, &'v N)];

/// `one_by_one` compares two elements of a key, where there is one of them on each side at most.
pub(super) fn compare<N: PartialEq>(
    before: &Keyed<'_, N>,
    after: &Keyed<'_, N>,
    one_by_one: impl Fn(Option<&N>, Option<&N>) -> Change,
) -> Change {
    let (was, is) = (by_key(before), by_key(after));
    let mut change = Change::default();
    for key in was.keys().chain(is.keys().filter(|key| !was.contains_key(**key))) {
        let (old, new) = (elements(&was, key), elements(&is, key));
        let below = match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => one_by_one(old.first().copied(), new.first().copied()),
            (0 | 1, _) => Change {
                written: FieldSet::leaf(),
                removed: old
                    .first()
                    .map_or_else(FieldSet::default, |one| one_by_one(Some(one), None).removed),
            },
            (_, 0 | 1) => Change {
                written: new
                    .first()
                    .map_or_else(FieldSet::default, |one| one_by_one(None, Some(one)).written),
                removed: FieldSet::leaf(),
            },
            _ if old == new => Change::default(),
            _ => Change { written: FieldSet::leaf(), removed: FieldSet::default() },
        };
        change.written.push(|| (*key).clone(), below.written);
        change.removed.push(|| (*key).clone(), below.removed);
    }
    change.written.sort();
    change.removed.sort();
    change
}

type ByKey<'k, 'v, N> = FxHashMap<&'k PathElement, Vec<&'v N>>;

fn by_key<'k, 'v, N>(list: &'k Keyed<'v, N>) -> ByKey<'k, 'v, N> {
    let mut found = ByKey::default();
    for (key, element) in list {
        found.entry(key).or_default().push(*element);
    }
    found
}

fn elements<'m, 'v, N>(map: &'m ByKey<'_, 'v, N>, key: &PathElement) -> &'m [&'v N] {
    map.get(key).map_or(&[], Vec::as_slice)
}
