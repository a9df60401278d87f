//! Events as lines of JSON, members in the order of upstream's.
//!
//! Written by hand where every request comes by, and what is the same for many requests (who asks, the second it is) is
//! made once. Of what is asked again and again not even that is written anew (`recalled`).

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use kubecore_core::authn::UserInfo;
use rustc_hash::FxHashMap;
use serde::Serialize;
use smallvec::SmallVec;

use super::dates::to_microseconds;
use super::event::{Findings, Names, Reached, User};
use super::events::Events;
use super::head::Head;
use super::policy::{Level, Stage};

/// Users whose JSON a thread keeps, and how long it may be.
const USERS_KEPT: usize = 256;
const LONGEST_KEPT: usize = 4 << 10;

/// What there is to tell, and when it came to that.
pub struct Telling<'t> {
    pub level: Level,
    pub reached: &'t [Reached],
    pub head: &'t Head,
    pub user: Option<&'t Arc<UserInfo>>,
    pub found: &'t Findings,
}

/// Where the name of a request and its times stand in a line, and where that ends.
#[derive(Clone, Copy)]
pub struct Places {
    pub id: usize,
    pub received: usize,
    pub reached: usize,
    pub end: usize,
}

/// A line for each stage, and where it has what is told of no other request.
pub fn write_anew(out: &mut Events, told: &Telling<'_>) -> SmallVec<[Places; 2]> {
    let Telling { level, reached, head, found, .. } = told;
    let (start, mut facts) = (out.text.len(), None);
    let mut places = SmallVec::new();
    for Reached { stage, at } in reached.iter().copied() {
        let id = write_beginning(&mut out.text, *level, stage, head) - start;
        write_once(&mut out.text, &mut facts, |text| write_facts(text, told));
        let is_outcome = stage != Stage::RequestReceived;
        if is_outcome {
            write_outcome(&mut out.text, found);
        }
        out.text.extend_from_slice(b",\"requestReceivedTimestamp\":\"");
        let received = out.text.len() - start;
        out.text.extend_from_slice(&to_microseconds(head.received));
        out.text.extend_from_slice(b"Z\",\"stageTimestamp\":\"");
        let reached = out.text.len() - start;
        out.text.extend_from_slice(&to_microseconds(at));
        out.text.extend_from_slice(b"Z\"");
        if is_outcome {
            write_annotations(&mut out.text, found);
        }
        out.text.extend_from_slice(b"}\n");
        out.end();
        places.push(Places { id, received, reached, end: out.text.len() - start });
    }
    places
}

/// What is the same in all lines is copied from the first, where it is `there`.
fn write_once(text: &mut Vec<u8>, there: &mut Option<Range<usize>>, write: impl FnOnce(&mut Vec<u8>)) {
    if let Some(range) = there.clone() {
        return text.extend_from_within(range);
    }
    let start = text.len();
    write(text);
    *there = Some(start..text.len());
}

/// Where the request's name is.
fn write_beginning(out: &mut Vec<u8>, level: Level, stage: Stage, head: &Head) -> usize {
    out.extend_from_slice(b"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"");
    out.extend_from_slice(level.name().as_bytes());
    out.extend_from_slice(b"\",\"auditID\":");
    let id = out.len() + 1;
    write_text(out, head.audit_id.as_str());
    out.extend_from_slice(b",\"stage\":\"");
    out.extend_from_slice(stage.name().as_bytes());
    out.push(b'"');
    id
}

/// What all stages tell.
fn write_facts(out: &mut Vec<u8>, told: &Telling<'_>) {
    let Telling { head, user, found, .. } = told;
    let asked = head.asked.attributes();
    out.extend_from_slice(b",\"requestURI\":");
    write_text(out, head.uri.as_str());
    out.extend_from_slice(b",\"verb\":");
    write_text(out, asked.verb);
    out.extend_from_slice(b",\"user\":");
    match user {
        Some(user) => write_user(out, user),
        None => out.extend_from_slice(b"{}"),
    }
    if let Some(user) = &found.impersonated {
        out.extend_from_slice(b",\"impersonatedUser\":");
        write_user(out, user);
    }
    write_sources(out, head.sources.as_slice());
    write_member(out, ",\"userAgent\":", head.user_agent.as_str());
    if !asked.is_resource {
        return;
    }
    let nameless = Names::default();
    let names = found.names.as_deref().unwrap_or(&nameless);
    let own_or = |own, told| if str::is_empty(own) { told } else { own };
    out.extend_from_slice(b",\"objectRef\":{");
    let start = out.len();
    for (name, value) in [
        (",\"resource\":", asked.resource),
        (",\"namespace\":", own_or(asked.namespace, names.namespace.as_str())),
        (",\"name\":", own_or(asked.name, names.name.as_str())),
        (",\"uid\":", &names.uid),
        (",\"apiGroup\":", asked.group),
        (",\"apiVersion\":", asked.version),
        (",\"resourceVersion\":", &names.resource_version),
        (",\"subresource\":", asked.subresource),
    ] {
        // The first one has no comma before it.
        write_member(out, if out.len() == start { &name[1..] } else { name }, value);
    }
    out.push(b'}');
}

fn write_outcome(out: &mut Vec<u8>, found: &Findings) {
    if let Some(status) = &found.status {
        out.extend_from_slice(b",\"responseStatus\":");
        write_json(out, status);
    } else if let Some(code) = found.code {
        out.extend_from_slice(b",\"responseStatus\":{\"metadata\":{},\"code\":");
        write_number(out, code);
        out.push(b'}');
    }
    for (name, object) in
        [(",\"requestObject\":", &found.request_object), (",\"responseObject\":", &found.response_object)]
    {
        if let Some(object) = object {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(object.get().as_bytes());
        }
    }
}

fn write_annotations(out: &mut Vec<u8>, found: &Findings) {
    let annotations = found.annotations();
    if annotations.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"annotations\":");
    for (number, (key, value)) in annotations.iter().enumerate() {
        out.push(if number == 0 { b'{' } else { b',' });
        write_text(out, key);
        out.push(b':');
        write_text(out, value.as_str());
    }
    out.push(b'}');
}

/// Users by where they are in memory, which is theirs as long as they are kept; and how they are told.
type ToldUsers = FxHashMap<*const UserInfo, (Arc<UserInfo>, Box<[u8]>)>;

thread_local! {
    static USERS: RefCell<ToldUsers> = RefCell::default();
    static SPECIAL: RefCell<(String, Vec<u8>)> = const { RefCell::new((String::new(), Vec::new())) };
}

/// A token's or a connection's user is the same object from request to request.
fn write_user(out: &mut Vec<u8>, user: &Arc<UserInfo>) {
    USERS.with_borrow_mut(|kept| {
        if let Some((_, json)) = kept.get(&Arc::as_ptr(user)) {
            out.extend_from_slice(json);
            return;
        }
        let start = out.len();
        write_json(out, &User::of(user));
        if out.len() - start > LONGEST_KEPT {
            return;
        }
        if kept.len() >= USERS_KEPT {
            kept.clear();
        }
        kept.insert(Arc::as_ptr(user), (user.clone(), out[start..].into()));
    });
}

fn write_sources(out: &mut Vec<u8>, sources: &[IpAddr]) {
    for (number, source) in sources.iter().enumerate() {
        out.extend_from_slice(if number == 0 { b",\"sourceIPs\":[\"" } else { b",\"" });
        match source {
            IpAddr::V4(address) => {
                for (place, part) in address.octets().into_iter().enumerate() {
                    if place > 0 {
                        out.push(b'.');
                    }
                    write_number(out, part.into());
                }
            }
            // Nothing that is written to memory fails.
            IpAddr::V6(address) => drop(write!(out, "{address}")),
        }
        out.push(b'"');
    }
    if !sources.is_empty() {
        out.push(b']');
    }
}

/// Left out where it is empty.
fn write_member(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        out.extend_from_slice(name.as_bytes());
        write_text(out, value);
    }
}

/// In quotes.
fn write_text(out: &mut Vec<u8>, text: &str) {
    // Without a branch, so that many bytes are looked at together.
    let is_special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    if text.bytes().fold(false, |found, byte| found | is_special(byte)) {
        write_special(out, text);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// The text of this kind that was written last, and how: RBAC's reason is the same from request to request.
fn write_special(out: &mut Vec<u8>, text: &str) {
    SPECIAL.with_borrow_mut(|(last, json)| {
        if last == text {
            return out.extend_from_slice(json);
        }
        let start = out.len();
        write_json(out, text);
        if out.len() - start <= LONGEST_KEPT {
            last.clear();
            last.push_str(text);
            json.clear();
            json.extend_from_slice(&out[start..]);
        }
    });
}

fn write_number(out: &mut Vec<u8>, number: u16) {
    let mut place = 10_000;
    while place > 1 && number < place {
        place /= 10;
    }
    while place > 0 {
        out.push(b'0' + (number / place % 10) as u8);
        place /= 10;
    }
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Nothing in it can fail: strings, numbers, and objects that were read before.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_are_a_list() {
        let sources = [Ipv4Addr::new(10, 0, 200, 35).into(), Ipv6Addr::LOCALHOST.into()];
        assert_eq!(written(|out| write_sources(out, &sources)), r#","sourceIPs":["10.0.200.35","::1"]"#);
        assert_eq!(written(|out| write_sources(out, &[])), "");
    }

    #[test]
    fn who_asks_is_told_each_time_as_he_is() {
        let (jane, other) = (UserInfo::new("jane", &["a"]), UserInfo::new("jane", &["b"]));
        let users: Vec<Arc<UserInfo>> = [jane.clone(), other, jane].map(Arc::new).into();
        for user in users.iter().chain((0..USERS_KEPT).map(|_| &users[1])).chain(&users) {
            let told = written(|out| write_user(out, user));
            assert_eq!(told, serde_json::to_string(&User::of(user)).unwrap());
        }
    }

    #[test]
    fn more_users_than_are_kept_are_told_as_well() {
        let users: Vec<Arc<UserInfo>> =
            (0..USERS_KEPT * 2).map(|number| Arc::new(UserInfo::new(format!("u{number}"), &[]))).collect();
        for user in users.iter().chain(&users) {
            assert_eq!(
                written(|out| write_user(out, user)),
                format!("{{\"username\":\"{}\"}}", user.username)
            );
        }
    }

    #[test]
    fn text_with_quotes_is_written_each_time_as_it_is() {
        for text in ["\"a\"", "\"a\"", "\"b\"", "\"a\"", "", "\"a\\"] {
            assert_eq!(written(|out| write_text(out, text)), serde_json::to_string(text).unwrap());
        }
    }

    proptest! {
        #[test]
        fn text_is_written_as_json_has_it(text in "\\PC*|[\\x00-\\x7f]*") {
            prop_assert_eq!(written(|out| write_text(out, &text)), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn numbers_are_written_in_digits(number: u16) {
            prop_assert_eq!(written(|out| write_number(out, number)), number.to_string());
        }
    }
}
