//! Server-side apply: a manager's whole intent is merged into the object, conflicts are found, and what the manager
//! alone owned and no longer wants goes.
//!
//! Semantics of structured-merge-diff `merge/update.go` (Apply) and apimachinery `pkg/util/managedfields`.

use serde_json::Value;

use super::compare::{Change, compare, strip_identity};
use super::conflict::Conflict;
use super::fields::FieldSet;
use super::ownership::{self, Entry, Operation};
use super::versions::{Convert, Elsewhere, Move};
use super::{PatchFailure, parse_value, refusing, sets, topology, wrapping};
use crate::go::marshalled;
use crate::schema::{
    FieldValidation, KindId, Rejection, SchemaError, Schemas, Type, with_gos_numbers, yaml_to_json,
};

/// Owns what an object had before anybody applied anything to it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// May take over what its own client-side apply has recorded.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes of all annotations of an object, names and values.
const MOST_ANNOTATED: usize = 256 << 10;

/// Who applies, when, through which subresource (empty for the object itself).
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    pub manager: &'a str,
    pub time: &'a str,
    pub subresource: &'a str,
    /// Take fields over from other managers instead of failing.
    pub force: bool,
    /// What cannot be set through this path, and so is nobody's through it.
    pub reset: &'a FieldSet,
    /// What becomes of keys that are given twice.
    pub validation: FieldValidation,
}

/// The object as it is to be stored, but for defaults.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    /// Canonical JSON without managedFields.
    pub body: Vec<u8>,
    /// The managedFields to go with it: a JSON array.
    pub managed: Vec<u8>,
    pub warnings: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyFailure {
    #[error(transparent)]
    Refused(#[from] PatchFailure),
    #[error("{}", super::conflict::message(.0))]
    Conflicts(Vec<Conflict>),
}

impl From<Rejection> for ApplyFailure {
    fn from(rejection: Rejection) -> Self {
        let Rejection { code, reason, message, .. } = rejection;
        Self::Refused(PatchFailure { code, reason, message, detail: String::new() })
    }
}

impl Schemas {
    /// Applies `config` (YAML or JSON) to the stored object, None where there is none yet. `convert`: where the kind is
    /// served in other versions too.
    pub fn apply(
        &self,
        kind: KindId,
        live: Option<&[u8]>,
        config: &[u8],
        apply: Apply<'_>,
        convert: Option<Convert<'_>>,
    ) -> Result<Applied, ApplyFailure> {
        let (config, repeated) = self.read_config(kind, config)?;
        let mut live_value = live.map_or_else(|| Ok(Value::Object(Default::default())), parse_object)?;
        let mut stored_entries = take_entries(&mut live_value);
        topology::reconcile(self, kind, stored_entries.iter_mut());
        let root = self.root_type(kind);
        let mut wanted =
            sets::of_value(self, &root, &config).map_err(|problem| untyped(self, kind, &config, &problem))?;
        wanted.subtract_recursively(apply.reset);
        let mut intent =
            Intent { schemas: self, kind, root, apply, convert, live: live_value, entries: stored_entries };
        if live.is_some() {
            intent.adopt_unmanaged()?;
        }
        let applied = intent.carry_out(&config, wanted)?;
        match apply.validation {
            FieldValidation::Strict if !repeated.is_empty() => {
                let told = repeated.join("\n  ");
                let why = format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {told}");
                Err(PatchFailure::bad_request(format!("error strict decoding YAML: {why}")).into())
            }
            FieldValidation::Warn => Ok(Applied { warnings: repeated, ..applied }),
            _ => Ok(applied),
        }
    }

    /// The configuration, and which of its keys are given twice.
    fn read_config(&self, kind: KindId, config: &[u8]) -> Result<(Value, Vec<String>), ApplyFailure> {
        let undecodable =
            |problem: String| PatchFailure::bad_request(format!("error decoding YAML: {problem}"));
        let (json, repeated) = yaml_to_json(config)
            .map_err(|problem| undecodable(format!("error converting YAML to JSON: {problem}")))?;
        let json = with_gos_numbers(&json).map_err(|error| undecodable(error.message))?;
        let value = match parse_value(&json).map_err(|error| undecodable(error.message))? {
            Value::Null => Value::Object(Default::default()),
            object @ Value::Object(_) => object,
            other => {
                let why = format!("while decoding JSON: {}", refusing::no_members(&other));
                return Err(undecodable(format!("error unmarshaling JSON: {why}")).into());
            }
        };
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        let (version, given) = (text("apiVersion"), text("kind"));
        if version != self.api_version(kind) || given != self.kind_name(kind) {
            let told = match version.matches('/').count() {
                0 => format!("/{version}, Kind={given}"),
                1 => format!("{version}, Kind={given}"),
                // Where the version cannot be read, nothing is known of the kind.
                _ => "/, Kind=".to_owned(),
            };
            return Err(PatchFailure::bad_request(format!("invalid object type: {told}")).into());
        }
        if value["metadata"]["managedFields"].is_array() {
            return Err(PatchFailure::bad_request("metadata.managedFields must be nil").into());
        }
        Ok((value, repeated))
    }
}

/// An apply under way.
struct Intent<'a> {
    schemas: &'a Schemas,
    kind: KindId,
    root: Type,
    apply: Apply<'a>,
    convert: Option<Convert<'a>>,
    /// The stored object without its managedFields.
    live: Value,
    entries: Vec<Entry>,
}

impl Intent<'_> {
    /// What nobody is known to own is the former time's, so that appliers cannot take it unnoticed.
    fn adopt_unmanaged(&mut self) -> Result<(), ApplyFailure> {
        if !self.entries.is_empty() {
            return Ok(());
        }
        let nothing = Value::Object(Default::default());
        let mut fields = compare(self.schemas, &self.root, &nothing, &self.live).written;
        // What this path cannot set is nobody's through it, now as before.
        fields.subtract_recursively(self.apply.reset);
        if !fields.is_empty() {
            self.entries.push(self.entry(BEFORE_FIRST_APPLY, Operation::Update, fields));
        }
        Ok(())
    }

    fn entry(&self, manager: &str, operation: Operation, fields: FieldSet) -> Entry {
        Entry {
            manager: manager.to_owned(),
            operation,
            api_version: self.schemas.api_version(self.kind).to_owned(),
            time: self.apply.time.to_owned(),
            subresource: self.apply.subresource.to_owned(),
            fields,
        }
    }

    fn carry_out(mut self, config: &Value, wanted: FieldSet) -> Result<Applied, ApplyFailure> {
        let mut mine = self.entry(self.apply.manager, Operation::Apply, wanted);
        let before =
            self.entries.iter().position(|entry| entry.same_manager(&mine)).map(|at| self.entries.remove(at));
        let merged =
            sets::merge(self.schemas, &self.root, Some(&self.live), Some(config)).unwrap_or_default();
        let (merged, emptied) = self.prune(merged, before.as_ref(), &mine);
        // Only now: what names the object keeps its metadata from being pruned.
        strip_identity(&mut mine.fields);
        // As upstream, values are compared as they are written: a quantity 1 is another than the "1" it is stored as,
        // and an empty map or a zero that will not be stored is one more field.
        let mut change = compare(self.schemas, &self.root, &self.live, &merged);
        change.written.subtract_recursively(self.apply.reset);
        change.removed.subtract_recursively(self.apply.reset);
        change.removed.subtract(&emptied);
        let elsewhere = self.elsewhere(&merged, &change).map_err(refusing::plain)?;
        self.entries.retain(|entry| !elsewhere.is_lost(&entry.api_version));
        let changed_others = self.settle_conflicts(&change, &elsewhere)?;
        let unchanged = alike(&merged, &self.live);
        let mut converted = merged;
        wrapping::wrap(self.schemas, &self.root, &mut converted);
        let text = converted.to_string();
        let decoded = self.schemas.decode_applied(self.kind, text.as_bytes());
        let body =
            decoded.map_err(|why| unconverted(self.schemas, self.kind, config, why))?.body.into_owned();
        let mut outcome = parse_object(&body)?;
        let (known, time) = before.map(|before| (before.fields, before.time)).unwrap_or_default();
        if unchanged || (outcome == self.live && !changed_others && mine.fields == known) {
            // Who changes nothing leaves no time, and a time alone is no change.
            mine.time = time;
        }
        self.entries.push(mine);
        self.entries.retain(|entry| !entry.fields.is_empty());
        let body = if self.apply.manager == KUBECTL && renew_last_applied(&mut outcome, config) {
            outcome.to_string().into_bytes()
        } else {
            body
        };
        Ok(Applied { body, managed: ownership::write(self.entries), warnings: Vec::new() })
    }

    /// Takes out what this manager owned before, does not want now, and nobody else owns. What is left empty by that
    /// is told, because its owners keep it, as they do upstream.
    fn prune(&self, merged: Value, before: Option<&Entry>, mine: &Entry) -> (Value, FieldSet) {
        let mut emptied = FieldSet::default();
        let Some(before) = before else { return (merged, emptied) };
        if let Some(given_up) = self.given_up_elsewhere(&merged, before, mine) {
            let rest = sets::remove(self.schemas, &self.root, merged, &given_up, &mut emptied);
            return (rest.unwrap_or_default(), emptied);
        }
        let mut owned = mine.fields.clone();
        for entry in &self.entries {
            owned.union(&entry.fields);
        }
        let known = sets::with_named_parents(self.schemas, &self.root, &before.fields);
        let mut given_up = known.clone();
        given_up.subtract(&sets::with_named_parents(self.schemas, &self.root, &owned));
        if given_up.is_empty() {
            return (merged, emptied);
        }
        // Nothing tells of lists in which nothing is: they stay where they are wanted, and a map that is left with
        // nothing else goes with what it held.
        let named = |value: &Value| sets::named_in(self.schemas, &self.root, value);
        let there = named(&merged);
        let given_up = given_up.intersection(&there);
        let rest = sets::remove(self.schemas, &self.root, merged.clone(), &given_up, &mut emptied);
        let rest = rest.unwrap_or_default();
        let mut gone = there;
        gone.subtract(&named(&rest));
        gone.subtract(&emptied);
        let gone = gone.intersection(&known);
        if gone == given_up {
            return (rest, emptied);
        }
        emptied = FieldSet::default();
        let rest = sets::remove(self.schemas, &self.root, merged, &gone, &mut emptied);
        (rest.unwrap_or_default(), emptied)
    }

    /// The same where the manager has moved on to another version, or others may own in their words what it gives up.
    fn given_up_elsewhere(&self, merged: &Value, before: &Entry, mine: &Entry) -> Option<FieldSet> {
        let convert = self.convert?;
        let spoken = &*mine.api_version;
        if before.api_version == spoken {
            let mut gone = sets::with_named_parents(self.schemas, &self.root, &before.fields);
            gone.subtract(&sets::with_named_parents(self.schemas, &self.root, &mine.fields));
            if gone.is_empty() || self.entries.iter().all(|entry| entry.api_version == spoken) {
                return None;
            }
        }
        let entries: Vec<&Entry> = self.entries.iter().chain([mine]).collect();
        let moved = Move { schemas: self.schemas, convert, spoken, before, entries: &entries };
        moved.given_up(merged.to_string().as_bytes())
    }

    /// What becomes of the object in the versions of other entries, which are asked only where it changes.
    fn elsewhere(&self, merged: &Value, change: &Change) -> Result<Elsewhere, String> {
        let spoken = self.schemas.api_version(self.kind);
        let mut foreign = self
            .entries
            .iter()
            .map(|entry| &*entry.api_version)
            .filter(|version| *version != spoken)
            .peekable();
        let changes = !change.written.is_empty() || !change.removed.is_empty();
        let Some(convert) = self.convert.filter(|_| changes && foreign.peek().is_some()) else {
            return Ok(Elsewhere::default());
        };
        let (old, new) = (self.live.to_string(), merged.to_string());
        let mut elsewhere = Elsewhere::of(self.schemas, convert, foreign, old.as_bytes(), new.as_bytes())?;
        elsewhere.subtract_recursively(self.apply.reset);
        Ok(elsewhere)
    }

    /// Other managers' fields that would change are conflicts, or are taken from them, as are those that go; says whether
    /// any are.
    fn settle_conflicts(&mut self, change: &Change, elsewhere: &Elsewhere) -> Result<bool, ApplyFailure> {
        let mut taken: Vec<(usize, FieldSet)> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let change = elsewhere.change(&entry.api_version).unwrap_or(change);
            let both = entry.fields.intersection(&change.written);
            if !both.is_empty() {
                taken.push((at, both));
            }
        }
        if !self.apply.force {
            let recorded = self.recorded_by_kubectl();
            let mut conflicts = Vec::new();
            for (at, fields) in &taken {
                let mut fields = fields.clone();
                fields.subtract(&recorded);
                let paths = fields.paths();
                conflicts.extend(paths.iter().map(|path| Conflict::new(&self.entries[*at], path)));
            }
            if !conflicts.is_empty() {
                conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
                return Err(ApplyFailure::Conflicts(conflicts));
            }
        }
        let mut any = !taken.is_empty();
        for (at, fields) in taken {
            self.entries[at].fields.subtract(&fields);
        }
        for entry in &mut self.entries {
            let change = elsewhere.change(&entry.api_version).unwrap_or(change);
            any |= !entry.fields.intersection(&change.removed).is_empty();
            entry.fields.subtract(&change.removed);
        }
        Ok(any)
    }

    /// The fields that kubectl's client-side apply has set and that still have those values: its server-side apply may
    /// take them over.
    fn recorded_by_kubectl(&self) -> FieldSet {
        let nothing = FieldSet::default();
        if self.apply.manager != KUBECTL {
            return nothing;
        }
        let Some(text) = self.live["metadata"]["annotations"][LAST_APPLIED].as_str() else { return nothing };
        let Ok(decoded) = self.schemas.decode_json(self.kind, text.as_bytes(), FieldValidation::Ignore)
        else {
            return nothing;
        };
        let Ok(recorded) = parse_value(&decoded.body) else { return nothing };
        let Ok(mut fields) = sets::of_value(self.schemas, &self.root, &recorded) else { return nothing };
        let change = compare(self.schemas, &self.root, &recorded, &self.live);
        fields.subtract(&change.written);
        fields.subtract(&change.removed);
        fields
    }
}

/// What kubectl's client-side apply would go by follows what its server-side apply has applied; says whether there is
/// such an annotation.
fn renew_last_applied(object: &mut Value, config: &Value) -> bool {
    let annotations = object.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else { return false };
    if !matches!(annotations.get(LAST_APPLIED), Some(Value::String(text)) if !text.is_empty()) {
        return false;
    }
    let mut config = config.clone();
    let given = config.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
    if let Some(given) = given.and_then(Value::as_object_mut) {
        given.shift_remove(LAST_APPLIED);
    }
    let others = annotations.iter().filter(|(name, _)| *name != LAST_APPLIED);
    let size = others.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum::<usize>();
    let text = marshalled(&config) + "\n";
    if size + LAST_APPLIED.len() + text.len() > MOST_ANNOTATED {
        annotations.shift_remove(LAST_APPLIED);
    } else {
        annotations.insert(LAST_APPLIED.to_owned(), Value::String(text));
    }
    true
}

fn parse_object(json: &[u8]) -> Result<Value, ApplyFailure> {
    let failed = |problem: String| PatchFailure::bad_request(format!("error decoding object: {problem}"));
    parse_value(json).map_err(|error| failed(error.message).into())
}

fn take_entries(object: &mut Value) -> Vec<Entry> {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    let managed = metadata.and_then(|metadata| metadata.remove("managedFields"));
    ownership::parse(managed.as_ref()).unwrap_or_default()
}

fn untyped(schemas: &Schemas, kind: KindId, config: &Value, problem: &str) -> ApplyFailure {
    let (object, _) = identity_of(schemas, kind, config);
    refusing::plain(format!("failed to create typed patch object ({object}): {problem}")).into()
}

/// The merged object is none of its kind: a value does not parse.
fn unconverted(schemas: &Schemas, kind: KindId, config: &Value, why: Rejection) -> ApplyFailure {
    if let Some(invalid) = why.errors.first().and_then(invalid_embedded) {
        return invalid.into();
    }
    let (object, versioned) = identity_of(schemas, kind, config);
    let Some((_, problem)) =
        why.message.split_once(&format!(" cannot be handled as a {}: ", schemas.kind_name(kind)))
    else {
        return why.into();
    };
    let by_json = if problem.starts_with("illegal base64") { "error decoding from json: " } else { "" };
    refusing::plain(format!(
        "failed to convert new object ({object}) to proper version: unable to convert unstructured object to \
         {versioned}: {by_json}{}",
        refusing::converted_by(&why, problem)
    ))
    .into()
}

/// Of metadata of a resource within a custom one: upstream finds it when it validates the object.
fn invalid_embedded(error: &SchemaError) -> Option<PatchFailure> {
    let problem = error.message.strip_prefix(&*error.field)?.strip_prefix(": ")?;
    if !problem.starts_with("Invalid value: ") {
        return None;
    }
    let (message, detail) = (problem.to_owned(), error.field.clone());
    Some(PatchFailure { code: 422, reason: "Invalid", message, detail })
}

/// As upstream names what is applied: with its kind, and the kind alone.
fn identity_of(schemas: &Schemas, kind: KindId, config: &Value) -> (String, String) {
    let text = |name: &str| config["metadata"][name].as_str().unwrap_or_default();
    let version = schemas.api_version(kind);
    let slash = if version.contains('/') { "" } else { "/" };
    let versioned = format!("{slash}{version}, Kind={}", schemas.kind_name(kind));
    (format!("{}/{}; {versioned}", text("namespace"), text("name")), versioned)
}

/// Whether the values are the same; a number is one however it is written.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value)| other.get(name).is_some_and(|other| alike(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}
