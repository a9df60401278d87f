//! Objects that are served in several versions: who owns a field says so in the words of the version it was written
//! through, and what a write changes is judged in those.
//!
//! Semantics of structured-merge-diff `merge/update.go` (`Updater.update`, `prune`).

use std::sync::Arc;

use super::compare::{Change, compare};
use super::fields::FieldSet;
use super::ownership::Entry;
use super::{parse_value, sets};
use crate::schema::{KindId, Schemas};

/// An object as another version has it.
pub struct Converted {
    /// The engine that knows that version, None for the one that is asked.
    pub foreign: Option<Arc<dyn AsRef<Schemas> + Send + Sync>>,
    pub kind: KindId,
    pub body: Vec<u8>,
}

impl Converted {
    fn engine<'s>(&'s self, own: &'s Schemas) -> &'s Schemas {
        self.foreign.as_deref().map_or(own, AsRef::as_ref)
    }

    /// What is wrong with it where a schema of its own says what it may hold: conversion need not prune.
    fn check(&self) -> Result<(), String> {
        let Some(foreign) = &self.foreign else { return Ok(()) };
        let schemas = foreign.as_ref().as_ref();
        let value = parse_value(&self.body).map_err(|error| error.message)?;
        sets::of_value(schemas, &schemas.root_type(self.kind), &value).map(|_| ())
    }

    /// What is otherwise in `new`, which is of the same version.
    fn difference(&self, own: &Schemas, new: &[u8]) -> Option<Change> {
        let (old, new) = (parse_value(&self.body).ok()?, parse_value(new).ok()?);
        let schemas = self.engine(own);
        Some(compare(schemas, &schemas.root_type(self.kind), &old, &new))
    }

    fn named(&self, own: &Schemas, fields: &FieldSet) -> FieldSet {
        let schemas = self.engine(own);
        sets::with_named_parents(schemas, &schemas.root_type(self.kind), fields)
    }

    fn without(&self, own: &Schemas, gone: &FieldSet) -> Option<Vec<u8>> {
        let (schemas, value) = (self.engine(own), parse_value(&self.body).ok()?);
        let rest =
            sets::remove(schemas, &schemas.root_type(self.kind), value, gone, &mut FieldSet::default())?;
        Some(rest.to_string().into_bytes())
    }
}

/// An object of one version in another one; None for a version that is not served.
pub type Convert<'a> = &'a (dyn Fn(&[u8], &str) -> Option<Converted> + Sync);

/// What a write changes, in the words of other versions than the one it came through.
#[derive(Default)]
pub(super) struct Elsewhere {
    changes: Vec<(String, Option<Change>)>,
}

impl Elsewhere {
    /// `versions`: those that entries speak of. Err says what keeps the object from being one of such a version.
    pub fn of<'e>(
        schemas: &Schemas,
        convert: Convert<'_>,
        versions: impl Iterator<Item = &'e str>,
        old: &[u8],
        new: &[u8],
    ) -> Result<Self, String> {
        let mut changes: Vec<(String, Option<Change>)> = Vec::new();
        for version in versions {
            if changes.iter().any(|(known, _)| known == version) {
                continue;
            }
            let (old, new) = (convert(old, version), convert(new, version));
            if let Some(old) = &old {
                old.check()?;
            }
            if let Some(new) = &new {
                new.check().map_err(|problem| format!("failed to convert new object: {problem}"))?;
            }
            let change = old.zip(new).and_then(|(old, new)| old.difference(schemas, &new.body));
            changes.push((version.to_owned(), change));
        }
        Ok(Self { changes })
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

/// An apply where the manager's last one, or what others own, speaks of another version.
pub(super) struct Move<'a> {
    pub schemas: &'a Schemas,
    pub convert: Convert<'a>,
    /// The version that is spoken now.
    pub spoken: &'a str,
    /// What the manager has owned.
    pub before: &'a Entry,
    /// What all own, the manager now.
    pub entries: &'a [&'a Entry],
}

impl Move<'_> {
    /// What goes of `merged`, since the manager wants it no more and nobody else does, in whichever version. It is found
    /// as upstream finds it, there and back: what conversion fills in stays.
    pub fn given_up(&self, merged: &[u8]) -> Option<FieldSet> {
        let last = &*self.before.api_version;
        let there = (self.convert)(merged, last)?;
        let here = (self.convert)(&there.body, self.spoken)?;
        let known = there.named(self.schemas, &self.before.fields);
        let mut gone = known.clone();
        gone.subtract(&there.named(self.schemas, &self.owned(last)));
        let mut rest = there.without(self.schemas, &gone)?;
        let mut full = there.body.clone();
        for version in self.further_versions() {
            let (Some(whole), Some(left)) = ((self.convert)(&full, version), (self.convert)(&rest, version))
            else {
                continue;
            };
            let gone = whole.difference(self.schemas, &left.body)?.removed;
            let mut gone = whole.named(self.schemas, &gone);
            gone.subtract(&whole.named(self.schemas, &self.owned(version)));
            rest = whole.without(self.schemas, &gone)?;
            full = whole.body;
        }
        let left = (self.convert)(&rest, last)?;
        let gone = there.difference(self.schemas, &left.body)?.removed.intersection(&known);
        let rest = there.without(self.schemas, &gone)?;
        let rest = (self.convert)(&rest, self.spoken)?;
        Some(here.difference(self.schemas, &rest.body)?.removed)
    }

    /// Those that entries speak of, but for the manager's last one.
    fn further_versions(&self) -> Vec<&str> {
        let mut versions: Vec<&str> = self.entries.iter().map(|entry| &*entry.api_version).collect();
        versions.retain(|version| *version != self.before.api_version);
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    fn owned(&self, api_version: &str) -> FieldSet {
        let mut owned = FieldSet::default();
        for entry in self.entries.iter().filter(|entry| entry.api_version == api_version) {
            owned.union(&entry.fields);
        }
        owned
    }
}
