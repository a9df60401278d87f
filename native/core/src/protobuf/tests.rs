use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::table::{Field, KINDS, Kind, MESSAGES, Message, Repeat, SCHEMA};
use super::{Envelope, decode, decode_message, encode, encode_as, knows};

fn object(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

/// As Go's JSON is meant: null says what absence says, except as an element.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Written by Go: tests/e2e/protobuf ("go run . vectors FOLDER").
fn vectors() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/protobuf_vectors");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    texts
        .map(|path| {
            let bytes = std::fs::read(path.with_extension("pb")).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap(), bytes)
        })
        .collect()
}

#[test]
fn what_go_wrote_is_read_as_its_json() {
    assert!(!vectors().is_empty());
    for (name, json, bytes) in vectors() {
        let decoded = decode(&bytes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(without_nulls(object(&decoded.json)), without_nulls(object(&json)), "{name}");
    }
}

#[test]
fn what_is_written_reads_as_what_go_wrote() {
    for (name, json, bytes) in vectors() {
        let written = encode(&json).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let read = |bytes: &[u8]| without_nulls(object(&decode(bytes).unwrap().json));
        assert_eq!(read(&written), read(&bytes), "{name}");
    }
}

#[test]
fn zeroes_of_fields_that_are_no_pointers_are_left_out() {
    // A name, a generateName and a generation that are there, and zero.
    let metadata: &[u8] = &[10, 6, 10, 0, 18, 0, 56, 0];
    let read = decode_message("v1", "ConfigMap", metadata).unwrap();
    assert_eq!(object(&read), json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}}));
}

#[test]
fn parts_of_a_message_are_one_and_unknown_fields_are_passed_over() {
    let parts: &[u8] = &[10, 3, 10, 1, b'a', 0xf8, 0x07, 5, 10, 3, 26, 1, b'b', 10, 3, 10, 1, b'c'];
    let read = object(&decode_message("v1", "ConfigMap", parts).unwrap());
    assert_eq!(read["metadata"], json!({"name": "c", "namespace": "b"}));
}

#[test]
fn numbers_may_come_packed() {
    // spec (2) . securityContext (14) . supplementalGroups (4)
    for groups in [&[34, 2, 1, 2][..], &[32, 1, 32, 2]] {
        let context = [&[114, groups.len() as u8][..], groups].concat();
        let pod = [&[18, context.len() as u8][..], &context].concat();
        let read = object(&decode_message("v1", "Pod", &pod).unwrap());
        assert_eq!(read["spec"]["securityContext"]["supplementalGroups"], json!([1, 2]));
    }
}

#[test]
fn text_that_is_no_utf8_shows_as_from_go() {
    let read = object(&decode_message("v1", "ConfigMap", &[10, 4, 10, 2, b'a', 0xff]).unwrap());
    assert_eq!(read["metadata"]["name"], "a\u{fffd}");
}

#[test]
fn faults_are_in_upstreams_words() {
    let prefix = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
    for (body, words) in [
        (&b""[..], "empty data"),
        (b"{}", prefix),
        (b"k8s", prefix),
        (b"k8s\0", "empty body"),
        (b"k8s\0\x0a", "unexpected EOF"),
        (b"k8s\0\x08\x01", "proto: wrong wireType = 0 for field TypeMeta"),
        (b"k8s\0\x0c", "proto: Unknown: wiretype end group for non-group"),
        (b"k8s\0\x02\x00", "proto: Unknown: illegal tag 0 (wire type 2)"),
        (b"k8s\0\x2f", "proto: illegal wireType 7"),
    ] {
        assert_eq!(Envelope::open(body).unwrap_err().to_string(), words, "{body:?}");
    }
    for (raw, words) in [
        (&[10u8, 2, 10, 5][..], "unexpected EOF"),
        (&[10, 2, 8, 5], "proto: wrong wireType = 0 for field Name"),
        (&[8, 1], "proto: wrong wireType = 0 for field ObjectMeta"),
        (
            &[10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            "proto: negative length found during unmarshaling",
        ),
        (&[128; 11], "proto: integer overflow"),
    ] {
        let fault = decode_message("v1", "ConfigMap", raw).unwrap_err();
        assert_eq!(fault.to_string(), words, "{raw:?}");
    }
    let fault = decode_message("v1", "Nothing", b"").unwrap_err();
    assert_eq!(fault.to_string(), r#"no kind "Nothing" is registered for version "v1""#);
}

#[test]
fn json_that_is_no_such_object_is_refused() {
    for json in [
        &br#"{"metadata":"x"}"#[..],
        br#"{"metadata":[]}"#,
        br#"{"data":{"a":1}}"#,
        br#"{"immutable":"yes"}"#,
        br#"{"binaryData":{"a":"%"}}"#,
        br#"{"metadata":{"creationTimestamp":"soon"}}"#,
        br#"{} {}"#,
        b"{",
        b"",
    ] {
        assert!(encode_as("v1", "ConfigMap", json).is_err(), "{}", String::from_utf8_lossy(json));
    }
    assert!(encode_as("example.com/v1", "Widget", b"{}").is_err());
    assert!(!knows("example.com/v1", "Widget"));
}

#[test]
fn options_are_kinds_of_every_version() {
    assert!(
        knows("apps/v1", "DeleteOptions")
            && knows("v1", "Status")
            && knows("meta.k8s.io/v1", "PartialObjectMetadata")
    );
    assert!(!knows("apps/v1", "Status"));
    let strange = decode_message("v\u{1}\"", "CreateOptions", b"").unwrap();
    assert_eq!(object(&strange)["apiVersion"], "v\u{1}\"");
}

#[test]
fn nesting_has_a_limit() {
    let mut schema = vec![];
    for _ in 0..600 {
        let mut length = vec![];
        super::wire::put_varint(&mut length, schema.len() as u64);
        // JSONSchemaProps.not
        schema = [&[0xe2, 0x01][..], &length, &schema].concat();
    }
    let mut out = vec![];
    let fault = super::decode::Decoder::new(&mut out).message(SCHEMA, &schema).unwrap_err();
    assert_eq!(fault.to_string(), "exceeded max depth");
}

// --- what comes out is what went in, for all kinds

fn text() -> BoxedStrategy<String> {
    prop_oneof!["[a-z]{1,8}", "\\PC{1,4}", Just("\"\\\n\u{1}".to_owned())].boxed()
}

fn names() -> BoxedStrategy<String> {
    "[a-z./-]{0,6}".boxed()
}

fn single(kind: Kind, zero: bool, depth: u32) -> BoxedStrategy<Value> {
    let least = i64::from(!zero);
    match kind {
        Kind::String if zero => prop_oneof![text(), Just(String::new())].prop_map(Value::from).boxed(),
        Kind::String => text().prop_map(Value::from).boxed(),
        Kind::Bytes => Just(json!("AAH/")).boxed(),
        Kind::Bool => {
            if zero { any::<bool>().boxed() } else { Just(true).boxed() }.prop_map(Value::from).boxed()
        }
        Kind::Int32 => {
            prop_oneof![least..=i64::from(i32::MAX), i64::from(i32::MIN)..0].prop_map(Value::from).boxed()
        }
        Kind::Int64 => prop_oneof![least..=i64::MAX, i64::MIN..0].prop_map(Value::from).boxed(),
        Kind::Double => (1..1_000_000i32).prop_map(|number| json!(f64::from(number) + 0.25)).boxed(),
        Kind::Message(_) => match kind.message() {
            Some(message) if depth > 0 => members(message, depth - 1).prop_map(Value::Object).boxed(),
            _ => Just(json!({})).boxed(),
        },
        Kind::Time => Just(json!("2026-11-25T20:39:21Z")).boxed(),
        Kind::MicroTime => Just(json!("1969-11-25T20:39:21.000123Z")).boxed(),
        Kind::Quantity => prop_oneof![Just(json!("0")), Just(json!("1500m"))].boxed(),
        Kind::IntOrString => {
            prop_oneof![any::<i32>().prop_map(Value::from), text().prop_map(Value::from)].boxed()
        }
        Kind::Json => prop_oneof![Just(json!({"f:a": {".": {}}})), Just(json!([1, null, "x"]))].boxed(),
        Kind::Extension => Just(json!({"a": {"b": [null]}})).boxed(),
        Kind::Strings => prop::collection::vec(text(), 0..3).prop_map(Value::from).boxed(),
        Kind::SchemaOrList => prop_oneof![
            prop::collection::vec(single(SCHEMA, false, 1.min(depth)), 1..3).prop_map(Value::from),
            single(SCHEMA, false, 1.min(depth))
        ]
        .boxed(),
        Kind::SchemaOrBool => {
            prop_oneof![any::<bool>().prop_map(Value::from), single(SCHEMA, false, 1.min(depth))].boxed()
        }
        Kind::SchemaOrStrings => prop_oneof![
            prop::collection::vec(text(), 1..3).prop_map(Value::from),
            single(SCHEMA, false, 1.min(depth))
        ]
        .boxed(),
    }
}

fn member(field: &'static Field, depth: u32) -> BoxedStrategy<Map<String, Value>> {
    let named = |value: Value| Map::from_iter([(field.json.to_owned(), value)]);
    match field.repeat {
        Repeat::Single => single(field.kind, field.keeps_zero, depth).prop_map(named).boxed(),
        Repeat::List => prop::collection::vec(single(field.kind, true, depth), 1..3)
            .prop_map(move |values| named(values.into()))
            .boxed(),
        Repeat::Map => prop::collection::btree_map(names(), single(field.kind, true, depth), 1..3)
            .prop_map(move |values: BTreeMap<_, _>| named(Value::Object(values.into_iter().collect())))
            .boxed(),
        Repeat::Inlined => match field.kind.message() {
            Some(message) => members(message, depth),
            None => Just(Map::new()).boxed(),
        },
    }
}

/// A few of a message's members, in any order.
fn members(message: &'static Message, depth: u32) -> BoxedStrategy<Map<String, Value>> {
    if message.fields.is_empty() {
        return Just(Map::new()).boxed();
    }
    let few =
        prop::collection::btree_map(0..message.fields.len(), any::<()>(), 0..5.min(message.fields.len() + 1));
    few.prop_flat_map(move |chosen| {
        chosen.into_keys().map(|position| member(&message.fields[position], depth)).collect::<Vec<_>>()
    })
    .prop_shuffle()
    .prop_map(|members| members.into_iter().flatten().collect())
    .boxed()
}

fn any_object() -> BoxedStrategy<(&'static str, &'static str, Map<String, Value>)> {
    (0..KINDS.len())
        .prop_flat_map(|number| {
            let ((api_version, kind), message) = KINDS[number];
            let members = members(&MESSAGES[usize::from(message)], 4);
            members.prop_map(move |members| (api_version, kind, members))
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kind_goes_there_and_back((api_version, kind, mut members) in any_object()) {
        members.insert("kind".into(), kind.into());
        members.insert("apiVersion".into(), api_version.into());
        let object = Value::Object(members);
        let bytes = encode(object.to_string().as_bytes()).unwrap();
        let decoded = decode(&bytes).unwrap();
        prop_assert_eq!((&*decoded.api_version, &*decoded.kind), (api_version, kind));
        prop_assert_eq!(serde_json::from_slice::<Value>(&decoded.json).unwrap(), object);
    }

    #[test]
    fn any_bytes_are_read_or_refused(number in 0..KINDS.len(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (api_version, kind) = KINDS[number].0;
        if let Ok(json) = decode_message(api_version, kind, &bytes) {
            prop_assert!(serde_json::from_slice::<Value>(&json).is_ok());
        }
        let _ = decode(&bytes);
        let _ = decode(&[&super::MAGIC[..], &bytes].concat());
    }

    #[test]
    fn damaged_objects_are_read_or_refused(
        (api_version, kind, members) in any_object(), damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)
    ) {
        let mut bytes = encode_as(api_version, kind, Value::Object(members).to_string().as_bytes()).unwrap();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(decoded) = decode(&bytes) {
            prop_assert!(serde_json::from_slice::<Value>(&decoded.json).is_ok());
        }
    }

    #[test]
    fn any_text_is_encoded_or_refused(number in 0..KINDS.len(), text in "\\PC{0,40}", members in 0..3) {
        let (api_version, kind) = KINDS[number].0;
        let _ = encode_as(api_version, kind, text.as_bytes());
        let _ = encode_as(api_version, kind, format!(r#"{{"metadata":{text},"spec":[{members}]}}"#).as_bytes());
    }
}
