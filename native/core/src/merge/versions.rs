//! Objects that are served in several versions: who owns a field says so in the words of the version it was written
//! through, and what a write changes is judged in those.
//!
//! Semantics of structured-merge-diff `merge/update.go` (`Updater.update`, `prune`).

use super::compare::{Change, compare};
use super::fields::FieldSet;
use super::ownership::Entry;
use super::{parse_value, sets};
use crate::schema::{KindId, Schemas};

/// An object of one version in another one, and the kind it is there; None for a version that is not served.
pub type Convert<'a> = &'a (dyn Fn(&[u8], &str) -> Option<(KindId, Vec<u8>)> + Sync);

/// What a write changes, in the words of other versions than the one it came through.
#[derive(Default)]
pub(super) struct Elsewhere {
    changes: Vec<(String, Option<Change>)>,
}

impl Elsewhere {
    /// `versions`: those that entries speak of.
    pub fn of<'e>(
        schemas: &Schemas,
        convert: Convert<'_>,
        versions: impl Iterator<Item = &'e str>,
        old: &[u8],
        new: &[u8],
    ) -> Self {
        let mut changes: Vec<(String, Option<Change>)> = Vec::new();
        for version in versions {
            if changes.iter().any(|(known, _)| known == version) {
                continue;
            }
            let both = convert(old, version).zip(convert(new, version));
            let change = both.and_then(|((kind, old), (_, new))| difference(schemas, kind, &old, &new));
            changes.push((version.to_owned(), change));
        }
        Self { changes }
    }

    /// None where it is as in the version of the write.
    pub fn change(&self, api_version: &str) -> Option<&Change> {
        self.known(api_version).and_then(Option::as_ref)
    }

    /// Whether nothing can be said in this version: as upstream, its entries are forgotten.
    pub fn is_lost(&self, api_version: &str) -> bool {
        self.known(api_version).is_some_and(Option::is_none)
    }

    fn known(&self, api_version: &str) -> Option<&Option<Change>> {
        self.changes.iter().find(|(version, _)| version == api_version).map(|(_, change)| change)
    }

    pub fn subtract_recursively(&mut self, reset: &FieldSet) {
        for change in self.changes.iter_mut().filter_map(|(_, change)| change.as_mut()) {
            change.written.subtract_recursively(reset);
            change.removed.subtract_recursively(reset);
        }
    }
}

fn difference(schemas: &Schemas, kind: KindId, old: &[u8], new: &[u8]) -> Option<Change> {
    let (old, new) = (parse_value(old).ok()?, parse_value(new).ok()?);
    Some(compare(schemas, &schemas.root_type(kind), &old, &new))
}

/// An apply in another version than the manager's last one.
pub(super) struct Move<'a> {
    pub schemas: &'a Schemas,
    pub convert: Convert<'a>,
    /// The version that is spoken now.
    pub spoken: (&'a str, KindId),
    /// What the manager has owned.
    pub before: &'a Entry,
    /// What all own, the manager now.
    pub entries: &'a [&'a Entry],
}

impl Move<'_> {
    /// What goes of `merged`, since the manager wants it no more and nobody else does. It is found as upstream finds it,
    /// there and back: what conversion fills in stays.
    pub fn given_up(&self, merged: &[u8]) -> Option<FieldSet> {
        let (kind, there) = (self.convert)(merged, &self.before.api_version)?;
        let (_, here) = (self.convert)(&there, self.spoken.0)?;
        let last = self.named(kind, &self.before.fields);
        let mut gone = last.clone();
        gone.subtract(&self.named(kind, &self.owned(&self.before.api_version)));
        let gone = self.gone_here(&there, kind, &gone, &here)?;
        let mut gone = self.named(self.spoken.1, &gone);
        gone.subtract(&self.named(self.spoken.1, &self.owned(self.spoken.0)));
        let left = without(self.schemas, self.spoken.1, &here, &gone)?;
        let (_, left) = (self.convert)(&left, &self.before.api_version)?;
        let gone = difference(self.schemas, kind, &there, &left)?.removed.intersection(&last);
        self.gone_here(&there, kind, &gone, &here)
    }

    /// What is not here any more, when `gone` is taken out there.
    fn gone_here(&self, there: &[u8], kind: KindId, gone: &FieldSet, here: &[u8]) -> Option<FieldSet> {
        let rest = without(self.schemas, kind, there, gone)?;
        let (_, rest) = (self.convert)(&rest, self.spoken.0)?;
        Some(difference(self.schemas, self.spoken.1, here, &rest)?.removed)
    }

    fn named(&self, kind: KindId, fields: &FieldSet) -> FieldSet {
        sets::with_named_parents(self.schemas, &self.schemas.root_type(kind), fields)
    }

    fn owned(&self, api_version: &str) -> FieldSet {
        let mut owned = FieldSet::default();
        for entry in self.entries.iter().filter(|entry| entry.api_version == api_version) {
            owned.union(&entry.fields);
        }
        owned
    }
}

fn without(schemas: &Schemas, kind: KindId, object: &[u8], gone: &FieldSet) -> Option<Vec<u8>> {
    let value = parse_value(object).ok()?;
    let rest = sets::remove(schemas, &schemas.root_type(kind), value, gone, &mut FieldSet::default())?;
    Some(rest.to_string().into_bytes())
}
