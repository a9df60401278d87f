//! Lines of what is asked again and again: as they were written before, but for the name of the request and its times.

use std::cell::RefCell;
use std::net::IpAddr;

use smallvec::SmallVec;

use super::dates::to_microseconds;
use super::event::{Annotations, Findings};
use super::events::Events;
use super::head::{Asked, Head};
use super::policy::{Level, Stage};
use super::rendering::{Places, Telling, write_anew};
use crate::recent::RecentlyAsked;

/// Bytes of lines that are kept.
const LONGEST_KEPT: usize = 4 << 10;
/// Of a request's name, as `new_id` makes them.
const ID_LONG: usize = 36;

/// What was told of a request, and all that it comes from besides who asks and what for.
struct Lines {
    level: Level,
    last: Stage,
    uri: Box<[u8]>,
    user_agent: Box<[u8]>,
    sources: Box<[IpAddr]>,
    code: Option<u16>,
    annotations: Annotations,
    text: Box<[u8]>,
    places: SmallVec<[Places; 2]>,
}

thread_local! {
    /// By what is told together: that it came and how it went, one of these, or the other.
    static LINES: RefCell<[RecentlyAsked<Lines>; 3]> = const { RefCell::new([const { RecentlyAsked::new() }; 3]) };
}

/// A line for each stage.
pub fn write_lines(out: &mut Events, told: &Telling<'_>) {
    let head = told.head;
    let (Some(user), Asked::Read(info), Some(last)) = (told.user, &head.asked, told.reached.last()) else {
        write_anew(out, told);
        return;
    };
    if !is_plain(told.found) || !is_usual(head.audit_id.as_bytes()) {
        write_anew(out, told);
        return;
    }
    LINES.with_borrow_mut(|tables| {
        let recent = &mut tables[match told.reached {
            [_, _, ..] => 0,
            _ if last.stage == Stage::RequestReceived => 1,
            _ => 2,
        }];
        if let Some(lines) = recent.get(user, info).filter(|lines| lines.are_of(told, last.stage)) {
            return lines.write(out, told);
        }
        let start = out.text.len();
        let places = write_anew(out, told);
        let text = &out.text[start..];
        if text.len() <= LONGEST_KEPT {
            recent.put(user, info, || Lines::new(told, last.stage, text, places));
        }
    });
}

/// Nothing has been found out but what `Lines` compares.
fn is_plain(found: &Findings) -> bool {
    found.impersonated.is_none()
        && found.names.is_none()
        && found.status.is_none()
        && found.request_object.is_none()
        && found.response_object.is_none()
}

/// It is as long as others, and JSON as it is.
fn is_usual(id: &[u8]) -> bool {
    let is_plain = |byte: u8| (byte > b' ') & (byte < 0x7f) & (byte != b'"') & (byte != b'\\');
    id.len() == ID_LONG && id.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

impl Lines {
    fn new(told: &Telling<'_>, last: Stage, text: &[u8], places: SmallVec<[Places; 2]>) -> Self {
        let Head { uri, user_agent, sources, .. } = told.head;
        Self {
            level: told.level,
            last,
            uri: uri.as_bytes().into(),
            user_agent: user_agent.as_bytes().into(),
            sources: sources.as_slice().into(),
            code: told.found.code,
            annotations: told.found.annotations().clone(),
            text: text.into(),
            places,
        }
    }

    fn are_of(&self, told: &Telling<'_>, last: Stage) -> bool {
        let Head { uri, user_agent, sources, .. } = told.head;
        (self.level, self.last, self.code) == (told.level, last, told.found.code)
            && *self.uri == *uri.as_bytes()
            && *self.user_agent == *user_agent.as_bytes()
            && *self.sources == *sources.as_slice()
            && self.annotations == *told.found.annotations()
    }

    fn write(&self, out: &mut Events, told: &Telling<'_>) {
        let (head, start) = (told.head, out.text.len());
        out.text.extend_from_slice(&self.text);
        let received = to_microseconds(head.received);
        for (places, reached) in self.places.iter().zip(told.reached) {
            let at = if reached.at == head.received { received } else { to_microseconds(reached.at) };
            let text = &mut out.text[start..];
            fill(text, places.id, head.audit_id.as_bytes());
            fill(text, places.received, &received);
            fill(text, places.reached, &at);
            out.end_at(start + places.end);
        }
    }
}

fn fill(text: &mut [u8], place: usize, with: &[u8]) {
    text[place..place + with.len()].copy_from_slice(with);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::Duration;

    use http::Method;
    use kubecore_core::authn::UserInfo;
    use proptest::prelude::*;

    use super::super::event::{Names, Reached, ResponseStatus};
    use super::super::{Sources, Text, new_id};
    use super::*;
    use crate::request_info::RequestInfo;

    /// Requests by the numbers of what differs in them.
    #[derive(Clone, Debug)]
    struct Case {
        user: usize,
        info: usize,
        uri: u8,
        agent: u8,
        source: u8,
        id: Option<u8>,
        stages: usize,
        level: usize,
        code: Option<u16>,
        annotations: u8,
        odd: u8,
        times: [u64; 2],
    }

    fn cases() -> impl Strategy<Value = Vec<Case>> {
        // What is plain comes oftener, so that much of it comes again.
        let seldom = |most: u8| prop_oneof![4 => Just(0), 1 => 1..=most];
        let what = (0..2usize, 0..2usize, seldom(1), seldom(2), seldom(2));
        let told = (prop_oneof![4 => Just(None), 1 => (0..4u8).prop_map(Some)], 0..4usize, 0..2usize);
        let found = (proptest::option::of(prop_oneof![3 => Just(200), 1 => Just(404)]), seldom(3), seldom(5));
        let times = prop::array::uniform2(0..4_000_000_000u64);
        let case =
            (what, told, found, times).prop_map(
                |((user, info, uri, agent, source), (id, stages, level), (code, annotations, odd), times)| {
                    Case { user, info, uri, agent, source, id, stages, level, code, annotations, odd, times }
                },
            );
        prop::collection::vec(case, 1..60)
    }

    struct World {
        users: [Arc<UserInfo>; 2],
        infos: [Arc<RequestInfo>; 2],
    }

    impl World {
        fn head(&self, case: &Case) -> Head {
            let uris = ["/api/v1/pods", "/api/v1/pods?pretty=\"\\"];
            let agents = [&b"agent"[..], b"caf\xc3\xa9", b"caf\xc3\xaa"];
            let header = |bytes| http::HeaderValue::from_bytes(bytes).unwrap();
            let id = match case.id {
                None => new_id(),
                // As long as ours, shorter, and such as JSON has to escape.
                Some(0) => header(&[b'x'; ID_LONG]),
                Some(1) => header(b"short"),
                Some(2) => header(&[b'"'; ID_LONG]),
                Some(_) => header(&[0xe9; ID_LONG]),
            };
            let source = Ipv4Addr::new(10, 0, 0, case.source).into();
            let through = [source, Ipv4Addr::LOCALHOST.into()];
            Head {
                audit_id: Text::Header(Some(id)),
                uri: Text::Own(uris[usize::from(case.uri)].into()),
                sources: if case.source == 2 {
                    Sources::Through(through.into())
                } else {
                    Sources::Direct(source)
                },
                user_agent: Text::Header(Some(header(agents[usize::from(case.agent)]))),
                asked: Asked::Read(self.infos[case.info].clone()),
                received: Duration::from_nanos(case.times[0]),
            }
        }

        fn findings(&self, case: &Case) -> Findings {
            let mut found = Findings::default();
            found.code = case.code;
            for number in 0..case.annotations {
                found.annotate(format!("key{number}").into(), format!("\"{}\"", case.annotations).into());
            }
            let object = || serde_json::value::to_raw_value(&1).ok();
            match case.odd {
                1 => found.impersonated = Some(self.users[0].clone()),
                2 => found.names = Some(Box::new(Names { uid: "u".into(), ..Names::default() })),
                3 => found.status = Some(Box::new(ResponseStatus::panicked("why"))),
                4 => found.request_object = object(),
                5 => found.response_object = object(),
                _ => {}
            }
            found
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_of_a_request_is_told_of_no_other(cases in cases()) {
            let info = |path| Arc::new(RequestInfo::parse(&Method::GET, path, "").unwrap());
            let world = World {
                users: ["jane", "joe"].map(|name| Arc::new(UserInfo::new(name, &[]))),
                infos: ["/api/v1/pods", "/api/v1/namespaces/a/pods/b"].map(info),
            };
            let (mut told, mut anew) = (Events::default(), Events::default());
            for case in cases {
                let [first, second] = case.times.map(Duration::from_nanos);
                let came = Reached { stage: Stage::RequestReceived, at: first };
                let ended = Reached { stage: Stage::ResponseComplete, at: first + second };
                let began = Reached { stage: Stage::ResponseStarted, ..ended };
                let reached: [&[Reached]; 4] = [&[came, ended], &[came], &[ended], &[began]];
                let (head, found) = (world.head(&case), world.findings(&case));
                let (level, user) = ([Level::Metadata, Level::Request][case.level], Some(&world.users[case.user]));
                let telling = Telling { level, reached: reached[case.stages], head: &head, user, found: &found };
                write_lines(&mut told, &telling);
                write_anew(&mut anew, &telling);
            }
            let texts = |events: &Events| {
                events.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect::<Vec<_>>()
            };
            prop_assert_eq!(texts(&told), texts(&anew));
        }
    }
}
