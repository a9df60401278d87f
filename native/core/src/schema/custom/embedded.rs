//! Resources within objects (`x-kubernetes-embedded-resource`): what they must have, as every resource must.
//!
//! Semantics and wording of apiextensions-apiserver `pkg/apiserver/schema/objectmeta/validation.go` and of apimachinery
//! `pkg/api/validation/objectmeta.go`.

use serde_json::{Map, Value};

use super::Node;
use super::fault::Fault;
use super::path::Path;
use crate::selector::{
    dns_1035_label_problems, dns_label_problems, label_key_problems, label_value_problems,
};

const MOST_ANNOTATION_BYTES: usize = 256 << 10;
const MOST_SUBRESOURCE_BYTES: usize = 256;
const MOST_MANAGER_BYTES: usize = 128;
const CONFLICTING_FINALIZERS: [&str; 2] = ["foregroundDeletion", "orphan"];

/// Adds the faults of all resources within `value`.
pub(super) fn check(node: &Node, value: &Value, at: &Path<'_>, faults: &mut Vec<Fault>) {
    if !node.below.embedded {
        return;
    }
    match value {
        Value::Object(members) => {
            if node.embedded_resource {
                resource(members, &at.bracketed(), faults);
            }
            for (name, value) in members {
                if let Some(property) = node.property(name.as_bytes()) {
                    check(property, value, &at.field(name), faults);
                } else if let Some(values) = node.additional_schema() {
                    check(values, value, &at.key(name), faults);
                }
            }
        }
        Value::Array(elements) => {
            let Some(items) = node.items.as_deref() else { return };
            for (index, element) in elements.iter().enumerate() {
                check(items, element, &at.index(index), faults);
            }
        }
        _ => {}
    }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn resource(members: &Map<String, Value>, path: &str, faults: &mut Vec<Fault>) {
    for name in ["apiVersion", "kind"] {
        let field = child(path, name);
        let Some(value) = members.get(name) else {
            faults.push(Fault::required(&field, ""));
            continue;
        };
        let problem = match value.as_str() {
            None => Some("must be a string".to_owned()),
            Some("") => Some("must not be empty".to_owned()),
            Some(version) if name == "apiVersion" => (version.matches('/').count() > 1)
                .then(|| format!("unexpected GroupVersion string: {version}")),
            Some(kind) => {
                let problems = dns_1035_label_problems(&kind.to_lowercase());
                (!problems.is_empty()).then(|| {
                    format!("may have mixed case, but should otherwise match: {}", problems.join(","))
                })
            }
        };
        if let Some(problem) = problem {
            faults.push(Fault::invalid(&field, value, &problem));
        }
    }
    if let Some(Value::Object(metadata)) = members.get("metadata") {
        Metadata { members: metadata, path: child(path, "metadata"), faults }.check();
    }
}

struct Metadata<'m> {
    members: &'m Map<String, Value>,
    path: String,
    faults: &'m mut Vec<Fault>,
}

impl Metadata<'_> {
    fn text(&self, name: &str) -> &str {
        self.members.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn invalid(&mut self, name: &str, value: &str, problems: Vec<String>) {
        let field = child(&self.path, name);
        self.faults.extend(problems.into_iter().map(|problem| Fault::invalid_text(&field, value, &problem)));
    }

    fn check(&mut self) {
        for (name, prefix) in [("generateName", true), ("name", false)] {
            let value = self.text(name).to_owned();
            self.invalid(name, &value, path_segment_problems(&value, prefix));
        }
        let namespace = self.text("namespace").to_owned();
        if !namespace.is_empty() {
            self.invalid("namespace", &namespace, dns_label_problems(&namespace));
        }
        if let Some(generation) = self.members.get("generation").filter(|value| value.as_i64() < Some(0)) {
            let problem = "must be greater than or equal to 0";
            self.faults.push(Fault::invalid(&child(&self.path, "generation"), generation, problem));
        }
        for (key, value) in self.texts("labels") {
            self.invalid("labels", &key, label_key_problems(&key));
            self.invalid("labels", &value, label_value_problems(&value));
        }
        let annotations = self.texts("annotations");
        for (key, _) in &annotations {
            self.invalid("annotations", key, label_key_problems(&key.to_lowercase()));
        }
        if annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
            > MOST_ANNOTATION_BYTES
        {
            let most = MOST_ANNOTATION_BYTES as i64;
            self.faults.push(Fault::too_long(&child(&self.path, "annotations"), most));
        }
        self.owners();
        self.finalizers();
        self.managers();
    }

    fn texts(&self, name: &str) -> Vec<(String, String)> {
        let members = self.members.get(name).and_then(Value::as_object).into_iter().flatten();
        members.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
    }

    fn list(&self, name: &str) -> Vec<Value> {
        self.members.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    }

    fn owners(&mut self) {
        let field = child(&self.path, "ownerReferences");
        let mut controller: Option<String> = None;
        let owners = self.list("ownerReferences");
        for owner in &owners {
            let text = |name: &str| owner[name].as_str().unwrap_or_default();
            let version = text("apiVersion").rsplit('/').next().unwrap_or_default();
            let empty = [
                ("apiVersion", version, "version must not be empty"),
                ("kind", text("kind"), "must not be empty"),
                ("name", text("name"), "must not be empty"),
                ("uid", text("uid"), "must not be empty"),
            ];
            for (name, value, problem) in empty {
                if value.is_empty() {
                    self.faults.push(Fault::invalid_text(&child(&field, name), text(name), problem));
                }
            }
            if text("apiVersion") == "v1" && text("kind") == "Event" {
                let problem = "/v1, Kind=Event is disallowed from being an owner";
                self.faults.push(Fault::invalid(&field, owner, problem));
            }
            if owner["controller"] == true {
                let name = format!("{}/{}", text("kind"), text("name"));
                match &controller {
                    Some(first) => {
                        let problem = format!(
                            "Only one reference can have Controller set to true. Found \"true\" in references for \
                             {first} and {name}"
                        );
                        self.faults.push(Fault::invalid(&field, &Value::from(owners.clone()), &problem));
                    }
                    None => controller = Some(name),
                }
            }
        }
    }

    fn finalizers(&mut self) {
        let finalizers = self.list("finalizers");
        let names: Vec<&str> = finalizers.iter().filter_map(Value::as_str).collect();
        for name in &names {
            self.invalid("finalizers", name, label_key_problems(name));
        }
        if CONFLICTING_FINALIZERS.iter().all(|finalizer| names.contains(finalizer)) {
            let problem = "finalizer orphan and foregroundDeletion cannot be both set";
            let field = child(&self.path, "finalizers");
            self.faults.push(Fault::invalid(&field, &Value::from(finalizers.clone()), problem));
        }
    }

    fn managers(&mut self) {
        for (index, entry) in self.list("managedFields").iter().enumerate() {
            let field = format!("{}[{index}]", child(&self.path, "managedFields"));
            let text = |name: &str| entry[name].as_str().unwrap_or_default();
            if !matches!(text("operation"), "Apply" | "Update") {
                let problem = "must be `Apply` or `Update`";
                self.faults.push(Fault::invalid_text(
                    &child(&field, "operation"),
                    text("operation"),
                    problem,
                ));
            }
            if !matches!(text("fieldsType"), "" | "FieldsV1") {
                let problem = "must be `FieldsV1`";
                self.faults.push(Fault::invalid_text(
                    &child(&field, "fieldsType"),
                    text("fieldsType"),
                    problem,
                ));
            }
            if text("manager").len() > MOST_MANAGER_BYTES {
                self.faults.push(Fault::too_long(&child(&field, "manager"), MOST_MANAGER_BYTES as i64));
            }
            if text("subresource").len() > MOST_SUBRESOURCE_BYTES {
                let most = MOST_SUBRESOURCE_BYTES as i64;
                self.faults.push(Fault::too_long(&child(&field, "subresource"), most));
            }
        }
    }
}

/// What a name that becomes part of a path may not have.
fn path_segment_problems(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let illegal = ["/", "%"].into_iter().filter(|part| name.contains(part));
    illegal.map(|part| format!("may not contain '{part}'")).collect()
}
