//! Events as audit.k8s.io/v1 writes them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kubecore_core::authn::UserInfo;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Stage;

/// As long as a line is that tells no objects.
const USUAL_BYTES: usize = 1024;

/// What a request is about; empty fields are left out.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

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
    pub fn of_code(code: u16) -> Self {
        Self { code, ..Self::default() }
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
struct User<'e> {
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
    fn of(user: &'e UserInfo) -> Self {
        Self {
            username: &user.username,
            uid: &user.uid,
            groups: &user.groups,
            extra: user.extra.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect(),
        }
    }
}

/// What one stage tells comes in three parts, whose fields follow each other in the order of upstream's. This is the one
/// that all stages share.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts<'e> {
    #[serde(rename = "requestURI")]
    request_uri: &'e str,
    verb: &'e str,
    user: User<'e>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<User<'e>>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[String]>::is_empty")]
    source_ips: &'e [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<&'e ObjectReference>,
}

/// The part before it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Beginning<'e> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'e str,
    stage: &'static str,
}

/// The part after it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<&'e ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<&'e RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<&'e RawValue>,
    request_received_timestamp: &'e str,
    stage_timestamp: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'e BTreeMap<Cow<'static, str>, String>>,
}

/// What a request's head says.
pub struct Head {
    pub audit_id: String,
    pub uri: String,
    pub source_ips: Vec<String>,
    pub user_agent: String,
    pub received: Duration,
}

/// What does not change from stage to stage.
pub struct Request {
    pub head: Arc<Head>,
    pub verb: String,
    pub user: Option<Arc<UserInfo>>,
}

/// What is found out on the way.
#[derive(Default)]
pub struct Findings {
    /// Nobody has been told yet that the request came.
    pub is_held: bool,
    /// Nobody could be told of the arrival.
    pub is_rejected: bool,
    pub object_ref: Option<ObjectReference>,
    pub impersonated: Option<Arc<UserInfo>>,
    pub status: Option<ResponseStatus>,
    pub request_object: Option<Box<RawValue>>,
    pub response_object: Option<Box<RawValue>>,
    pub annotations: BTreeMap<Cow<'static, str>, String>,
}

/// A stage and when it was reached. What has been found out by then is told but for that the request came, of which there
/// is nothing to find out.
#[derive(Clone, Copy)]
pub struct Reached {
    pub stage: Stage,
    pub at: Duration,
}

/// A line of JSON for each stage.
pub fn lines(level: &'static str, reached: &[Reached], request: &Request, found: &Findings) -> Vec<Bytes> {
    let nobody = UserInfo::default();
    let head = &*request.head;
    let facts = Facts {
        request_uri: &head.uri,
        verb: &request.verb,
        user: User::of(request.user.as_deref().unwrap_or(&nobody)),
        impersonated_user: found.impersonated.as_deref().map(User::of),
        source_ips: &head.source_ips,
        user_agent: &head.user_agent,
        object_ref: found.object_ref.as_ref(),
    };
    let received = zulu(head.received);
    let mut out = Vec::with_capacity(USUAL_BYTES * reached.len());
    let (mut ends, mut shared) = (Vec::with_capacity(reached.len()), None);
    for Reached { stage, at } in reached.iter().copied() {
        let is_outcome = stage != Stage::RequestReceived;
        let beginning = Beginning {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id: &head.audit_id,
            stage: stage.name(),
        };
        let outcome = Outcome {
            response_status: found.status.as_ref().filter(|_| is_outcome),
            request_object: found.request_object.as_deref().filter(|_| is_outcome),
            response_object: found.response_object.as_deref().filter(|_| is_outcome),
            request_received_timestamp: &received,
            stage_timestamp: if at == head.received { &received } else { &zulu(at) },
            annotations: Some(&found.annotations).filter(|told| is_outcome && !told.is_empty()),
        };
        append(&mut out, &beginning);
        match shared.clone() {
            Some(range) => out.extend_from_within(range),
            None => shared = Some(go_on(&mut out, &facts)),
        }
        go_on(&mut out, &outcome);
        out.extend_from_slice(b"}\n");
        ends.push(out.len());
    }
    let mut left = Bytes::from(out);
    let mut cut = 0;
    ends.into_iter().map(|end| left.split_to(end - std::mem::replace(&mut cut, end))).collect()
}

/// An object without its end.
fn append(out: &mut Vec<u8>, object: &impl Serialize) {
    // Nothing in it can fail: strings, numbers, and objects that were read before.
    let _ = serde_json::to_writer(&mut *out, object);
    out.pop();
}

/// Members of the object before it, and where they stand.
fn go_on(out: &mut Vec<u8>, members: &impl Serialize) -> Range<usize> {
    let start = out.len();
    append(out, members);
    out[start] = b',';
    start..out.len()
}

fn zulu(unix: Duration) -> String {
    let mut out = date_and_time(unix, 6);
    out.push('Z');
    out
}

/// `2026-01-02T15:04:05.000000`, with so many digits of a second.
pub fn date_and_time(unix: Duration, digits: usize) -> String {
    let seconds = unix.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    let mut out = String::with_capacity(32);
    for (value, width, end) in
        [(year, 4, '-'), (month, 2, '-'), (day, 2, 'T'), (hour, 2, ':'), (minute, 2, ':'), (second, 2, '.')]
    {
        push_digits(&mut out, value, width);
        out.push(end);
    }
    let digits = digits.min(9) as u32;
    push_digits(&mut out, u64::from(unix.subsec_nanos()) / 10_u64.pow(9 - digits), digits);
    out
}

/// The last `width` digits, with zeros before them: several times as fast as formatting.
fn push_digits(out: &mut String, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(char::from(b'0' + (value / 10_u64.pow(place) % 10) as u8));
    }
}

/// The date of a day since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
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
    fn times_are_written_as_dates() {
        assert_eq!(date_and_time(Duration::ZERO, 6), "1970-01-01T00:00:00.000000");
        assert_eq!(date_and_time(Duration::new(951_782_400, 1_500), 6), "2000-02-29T00:00:00.000001");
        assert_eq!(date_and_time(Duration::from_millis(1_767_366_245_012), 3), "2026-01-02T15:04:05.012");
    }

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
