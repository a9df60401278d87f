//! Events as audit.k8s.io/v1 writes them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubecore_core::authn::UserInfo;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::Stage;

/// What is told of a Status.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResponseStatus {
    metadata: BTreeMap<(), ()>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    pub code: u16,
}

impl ResponseStatus {
    /// Our own code has failed.
    pub fn panicked(why: &str) -> Self {
        Self {
            status: "Failure".into(),
            message: format!("APIServer panic'd: {why}"),
            reason: "InternalError".into(),
            code: 500,
            ..Self::default()
        }
    }

    /// Nobody has said anything to a request, whose client has gone.
    pub fn closed_early() -> Self {
        Self {
            status: "Success".into(),
            message: "Connection closed early".into(),
            code: 200,
            ..Self::default()
        }
    }

    /// None where the JSON is no Status.
    pub fn read(body: &[u8]) -> Option<Self> {
        let read: Value = serde_json::from_slice(body).ok()?;
        if read.get("kind")?.as_str()? != "Status" || read.get("apiVersion")?.as_str()? != "v1" {
            return None;
        }
        let text = |name| read.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            status: text("status"),
            message: text("message"),
            reason: text("reason"),
            details: read.get("details").cloned(),
            code: read.get("code").and_then(Value::as_u64).and_then(|code| code.try_into().ok()).unwrap_or(0),
            ..Self::default()
        })
    }
}

#[derive(Serialize)]
pub(super) struct User<'e> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'e str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'e [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<&'e str, &'e [String]>,
}

impl<'e> User<'e> {
    pub fn of(user: &'e UserInfo) -> Self {
        Self {
            username: &user.username,
            uid: &user.uid,
            groups: &user.groups,
            extra: user.extra.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect(),
        }
    }
}

/// What an object says of itself that its request does not.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// What an annotation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Own(Cow<'static, str>),
    Shared(Arc<str>),
}

impl Note {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Own(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl From<&'static str> for Note {
    fn from(text: &'static str) -> Self {
        Self::Own(text.into())
    }
}

impl From<String> for Note {
    fn from(text: String) -> Self {
        Self::Own(text.into())
    }
}

impl From<Arc<str>> for Note {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

/// What is found out on the way.
#[derive(Default)]
pub struct Findings {
    /// Nobody has been told yet that the request came.
    pub is_held: bool,
    /// Nobody could be told of the arrival.
    pub is_rejected: bool,
    /// Our own code has failed.
    pub has_panicked: bool,
    is_over: bool,
    pub names: Option<Box<Names>>,
    pub impersonated: Option<Arc<UserInfo>>,
    /// What an answer says of itself; of most only the code is known.
    pub status: Option<Box<ResponseStatus>>,
    pub code: Option<u16>,
    pub request_object: Option<Box<RawValue>>,
    pub response_object: Option<Box<RawValue>>,
    /// In the order of their keys.
    annotations: Annotations,
}

/// Most requests have two: what RBAC says, and why.
pub type Annotations = SmallVec<[(Cow<'static, str>, Note); 2]>;

impl Findings {
    /// Which stage is told when this one is reached: nothing follows the end, and nothing comes before a failure's.
    pub fn reached(&mut self, stage: Stage) -> Option<Stage> {
        match stage {
            _ if self.is_over => None,
            Stage::ResponseComplete => {
                self.is_over = true;
                Some(if self.has_panicked { Stage::Panic } else { stage })
            }
            _ => (!self.has_panicked).then_some(stage),
        }
    }

    /// The end has been told, or who came was sent away.
    pub fn is_over(&self) -> bool {
        self.is_over || self.is_rejected
    }

    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    pub fn is_answered(&self) -> bool {
        self.status.is_some() || self.code.is_some() || self.response_object.is_some()
    }

    /// Of several values for one key the first one stays.
    pub fn annotate(&mut self, key: Cow<'static, str>, value: Note) {
        if let Err(place) = self.annotations.binary_search_by(|(other, _)| other.cmp(&key)) {
            self.annotations.insert(place, (key, value));
        }
    }
}

/// A stage and when it was reached. What has been found out by then is told but for that the request came, of which there
/// is nothing to find out.
#[derive(Clone, Copy)]
pub struct Reached {
    pub stage: Stage,
    pub at: Duration,
}

/// Without managedFields, of an object, the items of a list and the objects of a table's rows.
pub fn without_managed_fields(object: &RawValue) -> Option<Box<RawValue>> {
    if !object.get().contains("\"managedFields\"") {
        return None;
    }
    let mut read: Value = serde_json::from_str(object.get()).ok()?;
    strip(&mut read);
    for (list, inner) in [("items", None), ("rows", Some("object"))] {
        for item in read.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            match inner {
                None => strip(item),
                Some(inner) => {
                    if let Some(object) = item.get_mut(inner) {
                        strip(object);
                    }
                }
            }
        }
    }
    serde_json::value::to_raw_value(&read).ok()
}

fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_are_left_out_wherever_objects_are() {
        let given = r#"{"kind":"L","items":[{"metadata":{"name":"a","managedFields":[1]}}],"rows":[{"object":{"metadata":{"managedFields":[]}}}]}"#;
        let raw = RawValue::from_string(given.to_owned()).unwrap();
        let left = without_managed_fields(&raw).unwrap();
        assert_eq!(
            left.get(),
            r#"{"kind":"L","items":[{"metadata":{"name":"a"}}],"rows":[{"object":{"metadata":{}}}]}"#
        );
    }

    #[test]
    fn a_status_is_told_by_its_bounded_fields() {
        let read = ResponseStatus::read(
            br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"m","reason":"NotFound","details":{"name":"x"},"code":404}"#,
        )
        .unwrap();
        let told = serde_json::to_string(&read).unwrap();
        assert_eq!(
            told,
            r#"{"metadata":{},"status":"Failure","message":"m","reason":"NotFound","details":{"name":"x"},"code":404}"#
        );
        assert!(ResponseStatus::read(br#"{"kind":"Pod","apiVersion":"v1"}"#).is_none());
    }
}
