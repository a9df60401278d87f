//! Keeps `managedFields` through updates: who changed a field last by a non-apply request owns it.
//!
//! Semantics of structured-merge-diff `merge/update.go` and apimachinery `pkg/util/managedfields`: what an update adds
//! or changes passes to its manager, what it removes is owned by nobody, everything else stays, times too.

use std::borrow::Cow;

use super::compare::{Change, compare};
use super::fields::PathElement;
use super::json::{Json, Members};
use super::ownership::{self, Entry, Held, Operation};
use super::splice;
use super::topology;
use super::versions::{Convert, Elsewhere};
use crate::schema::{KindId, SchemaError, Schemas, member_spans};

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
        let managed = self.managed_after(kind, old, new, update, None)?;
        splice::managed_fields(new, managed.as_deref())
    }

    /// The managedFields of `new`, as JSON; None when nobody owns anything. `convert`: where the kind is served in other
    /// versions too.
    pub fn managed_after(
        &self,
        kind: KindId,
        old: Option<&[u8]>,
        new: &[u8],
        update: Update<'_>,
        convert: Option<Convert<'_>>,
    ) -> Result<Option<Vec<u8>>, SchemaError> {
        let parts = (update.subresource == "status").then_some(&OF_STATUS[..]);
        let before = old.map(|old| Outline::of(old, parts)).transpose()?;
        let after = Outline::of(new, parts)?;
        self.managed_between(kind, before.as_ref(), &after, update, |entries| {
            let (Some(convert), Some(old)) = (convert, old) else { return Some(Elsewhere::default()) };
            let spoken = self.api_version(kind);
            let versions = entries.iter().map(|held| &*held.entry.api_version);
            let versions = versions.filter(|version| *version != spoken);
            Elsewhere::of(self, convert, versions, old, new).ok()
        })
    }

    /// `elsewhere`: what the change is in other versions; None if that cannot be told.
    pub(super) fn managed_between(
        &self,
        kind: KindId,
        before: Option<&Outline<'_>>,
        after: &Outline<'_>,
        update: Update<'_>,
        elsewhere: impl FnOnce(&[Held<'_>]) -> Option<Elsewhere>,
    ) -> Result<Option<Vec<u8>>, SchemaError> {
        let nothing = Outline::default();
        let is_new = before.is_none();
        let before = before.unwrap_or(&nothing);
        let entries = current_entries(before.managed, after.managed, update.subresource);
        if !is_new && entries.is_empty() {
            // Whose ownership was forgotten is not tracked again before somebody applies.
            return Ok(None);
        }
        let (before, after) = (before.without(after)?, after.without(before)?);
        let change = compare(self, &self.root_type(kind), &before, &after);
        let changes = !change.written.is_empty() || !change.removed.is_empty();
        let elsewhere = if changes { elsewhere(&entries) } else { Some(Elsewhere::default()) };
        // Upstream rather has nobody own anything than refuse the update.
        let Some(elsewhere) = elsewhere else { return Ok(None) };
        let entries =
            entries.into_iter().filter(|held| !elsewhere.is_lost(&held.entry.api_version)).collect();
        let Some(mut entries) = concerned(entries, &change, &elsewhere, update) else { return Ok(None) };
        // Those that are unread yet are brought up to the schema once they are concerned.
        topology::reconcile(self, kind, entries.iter_mut().map(|held| &mut held.entry));
        for Held { entry, .. } in &mut entries {
            let change = elsewhere.change(&entry.api_version).unwrap_or(&change);
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
pub(super) const OF_STATUS: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

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
fn concerned<'a>(
    entries: Vec<Held<'a>>,
    change: &Change,
    elsewhere: &Elsewhere,
    update: Update<'_>,
) -> Option<Vec<Held<'a>>> {
    let members: Vec<&PathElement> =
        change.written.children.iter().chain(&change.removed.children).map(|(member, _)| member).collect();
    let read = entries.into_iter().map(|held| {
        let is_own = held.entry.manager == update.manager && held.entry.subresource == update.subresource;
        let is_foreign = elsewhere.change(&held.entry.api_version).is_some();
        let is_concerned = is_own || is_foreign || members.iter().any(|member| held.may_own(member));
        if is_concerned { held.read() } else { Some(held) }
    });
    read.collect()
}

type JsonMember<'a> = (Cow<'a, str>, &'a [u8]);

/// An object whose members, and those of its metadata, are still JSON: most are the same before and after an update,
/// and what is the same to the byte need not be read to be compared.
#[derive(Clone, Default)]
pub(super) struct Outline<'a> {
    members: Vec<JsonMember<'a>>,
    metadata: Option<Vec<JsonMember<'a>>>,
    managed: Option<&'a [u8]>,
}

impl<'a> Outline<'a> {
    /// `parts`: the members that count, None for all.
    pub fn of(object: &'a [u8], parts: Option<&[&str]>) -> Result<Self, SchemaError> {
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

    pub fn member(&self, name: &str) -> Option<&'a [u8]> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, json)| *json)
    }

    /// The object with another value of one member, which is not its metadata.
    pub fn with(&self, name: &'a str, json: &'a [u8]) -> Self {
        let mut other = self.clone();
        match other.members.iter_mut().find(|(member, _)| member == name) {
            Some((_, value)) => *value = json,
            None => other.members.push((Cow::Borrowed(name), json)),
        }
        other
    }

    /// What `other` has not, or has otherwise.
    fn without(&self, other: &Self) -> Result<Json<'a>, SchemaError> {
        let mut members = differing(&self.members, &other.members)?;
        if let Some(metadata) = &self.metadata {
            let others = other.metadata.as_deref().unwrap_or_default();
            let metadata = Members::of(differing(metadata, others)?);
            members.push((Cow::Borrowed("metadata"), Json::Object(metadata)));
        }
        Ok(Json::Object(Members::of(members)))
    }
}

fn json_members(object: &[u8]) -> Result<Vec<JsonMember<'_>>, SchemaError> {
    let spans = member_spans(object, None)?.members;
    Ok(spans.into_iter().map(|member| (member.name, &object[member.value])).collect())
}

fn differing<'a>(
    of: &[JsonMember<'a>],
    other: &[JsonMember<'_>],
) -> Result<Vec<(Cow<'a, str>, Json<'a>)>, SchemaError> {
    // A dozen at most.
    let differ = of.iter().filter(|member| !other.contains(member));
    differ.map(|(name, json)| Ok((name.clone(), Json::parse(json)?))).collect()
}

fn cap_update_managers(entries: Vec<Held<'_>>) -> Vec<Held<'_>> {
    let is_update = |held: &Held<'_>| held.entry.operation == Operation::Update;
    let count = entries.iter().filter(|held| is_update(held)).count();
    if count <= MAX_UPDATE_MANAGERS {
        return entries;
    }
    let (updates, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_update);
    let mut updates: Vec<Entry> = updates.into_iter().filter_map(Held::read).map(|held| held.entry).collect();
    updates.sort_by_cached_key(|entry| (entry.time.clone(), entry.identity()));
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
