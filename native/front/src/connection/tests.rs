//! A connection of HTTP/1.1 from its client's end: over a pipe, with the handlers' part played here.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kubecore_core::authn::UserInfo;
use kubecore_core::clock::Clock;
use kubecore_core::rbac::PolicyStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::audit::{Events, Sink};
use crate::authn::{BoundKind, ObjectLookup};
use crate::handoff::{Handoff, Pending, Reply};
use crate::hands::Measure;
use crate::server::Limits;
use crate::stream::StreamState;
use crate::upgrade::UpgradeState;

mod farewells;

const ASK: &[u8] = b"GET /apis/somewhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ASK_RAW: &[u8] =
    b"GET /apis/somewhere HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n";
const BARE_400: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n";
/// Of the pipe: what the client has not read beyond that, hyper has to hold.
const PIPE: usize = 1 << 10;

struct Nothing;

impl ObjectLookup for Nothing {
    fn find(&self, _: BoundKind, _: &str) -> Option<(u64, Bytes)> {
        None
    }

    fn revision(&self, _: BoundKind, _: &str) -> Option<u64> {
        None
    }
}

struct Pair {
    server: Arc<Server>,
    client: DuplexStream,
}

impl Pair {
    fn new() -> Self {
        Self::of(Limits::default())
    }

    fn of(limits: Limits) -> Self {
        let handle = tokio::runtime::Handle::current();
        let policy = Arc::new(PolicyStore::new());
        Self::to(Server::new(limits, Clock::default(), Arc::new(Nothing), policy, handle).unwrap())
    }

    /// Another client of a server.
    fn to(server: Arc<Server>) -> Self {
        Self::over(server, false)
    }

    fn over(server: Arc<Server>, use_http2: bool) -> Self {
        let (client, end) = tokio::io::duplex(PIPE);
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), false, None, use_http2, Arc::default());
        tokio::spawn(serve(server.clone(), end, connection));
        Self { server, client }
    }

    /// The request that handlers get of what the client says.
    async fn ask(&mut self, said: &[u8]) -> Box<Pending> {
        self.client.write_all(said).await.unwrap();
        loop {
            if let Some(pending) = self.server.drain(1).1.pop() {
                return pending;
            }
            tokio::task::yield_now().await;
        }
    }

    /// What has come when it ends with `end`.
    async fn read_until(&mut self, end: &str) -> String {
        let mut came = Vec::new();
        while !came.ends_with(end.as_bytes()) {
            came.push(self.client.read_u8().await.unwrap());
        }
        String::from_utf8(came).unwrap()
    }
}

/// What a log has taken, and what of it is written.
#[derive(Default)]
struct Told {
    taken: AtomicUsize,
    written: AtomicUsize,
}

impl Sink for Told {
    fn take(&self, events: &Events) -> bool {
        self.taken.fetch_add(events.len(), Ordering::SeqCst);
        true
    }

    fn settle(&self) {
        self.written.store(self.taken.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn lost(&self) -> u64 {
        0
    }

    fn name(&self) -> &'static str {
        "told"
    }
}

#[tokio::test]
async fn handlers_get_no_request_that_the_audits_log_has_not_been_told_of() {
    let (mut pair, told) = (Pair::new(), Arc::new(Told::default()));
    let policy = serde_json::from_str(r#"{"rules":[{"level":"Metadata"}]}"#).unwrap();
    pair.server.audit.configure(policy, vec![told.clone()], false, Clock::default());
    let pending = pair.ask(ASK).await;
    assert_eq!([&told.taken, &told.written].map(|count| count.load(Ordering::SeqCst)), [1, 1]);
    drop(pending);
}

fn bare_400() -> Reply {
    Reply::Full { status: 400, headers: Vec::new(), body: Bytes::new() }
}

#[tokio::test]
async fn an_answer_that_looks_like_hypers_own_refusal_is_passed_on_and_the_connection_goes_on() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        let pending = pair.ask(ASK).await;
        assert!(pending.reply.send(bare_400()).is_ok());
        let answer = pair.read_until("\r\n\r\n").await;
        let (head, rest) = BARE_400.split_once("\r\n").unwrap();
        assert!(answer.starts_with(head) && answer.contains(rest), "{answer}");
    }
}

/// Clients of one server, each of which has asked; the requests that are in hand, and the others' in their order.
async fn crowd(limits: Limits, waiting: usize) -> (Vec<Pair>, Vec<Box<Pending>>) {
    let in_hand = limits.in_hand.usual;
    let mut pairs = vec![Pair::of(limits)];
    let mut taken = vec![pairs[0].ask(ASK).await];
    for number in 1..in_hand + waiting {
        let mut pair = Pair::to(pairs[0].server.clone());
        if number < in_hand {
            taken.push(pair.ask(ASK).await);
        } else {
            pair.client.write_all(ASK).await.unwrap();
        }
        pairs.push(pair);
    }
    while pairs[0].server.handoff.waiting() < waiting {
        tokio::task::yield_now().await;
    }
    (pairs, taken)
}

#[tokio::test]
async fn a_request_is_taken_when_one_of_those_in_hand_is_answered_or_its_client_has_gone() {
    let limits = Limits { in_hand: Measure::same(3, Duration::MAX), ..Limits::default() };
    let (mut pairs, mut taken) = crowd(limits, 2).await;
    let handoff = pairs[0].server.handoff.clone();
    assert!(handoff.drain(64).1.is_empty());
    assert!(taken.remove(0).reply.send(bare_400()).is_ok());
    pairs[0].read_until("\r\n\r\n").await;
    taken.extend(handoff.drain(64).1);
    assert_eq!((taken.len(), handoff.drain(64).1.len()), (3, 0));
    drop(pairs.remove(1));
    while handoff.waiting() > 0 {
        taken.extend(handoff.drain(64).1);
        tokio::task::yield_now().await;
    }
    assert_eq!(taken.len(), 4);
}

#[tokio::test]
async fn beside_somebody_who_asks_once_at_a_time_fewer_are_taken_of_a_crowd() {
    let in_hand = Measure { usual: 4, in_company: 2, patience: Duration::MAX };
    let (mut pairs, mut taken) = crowd(Limits { in_hand, ..Limits::default() }, 3).await;
    let handoff = pairs[0].server.handoff.clone();
    let mut other = Pair::new().ask(ASK).await;
    other.decisions.user = Some(Arc::new(UserInfo::new("other", &[])));
    assert!(handoff.push(other).is_ok());
    let mut come = Vec::new();
    for answered in 1..=3 {
        assert!(taken.remove(0).reply.send(bare_400()).is_ok());
        pairs.remove(0).read_until("\r\n\r\n").await;
        come.extend(handoff.drain(64).1);
        assert_eq!(come.len(), if answered < 3 { 0 } else { 1 });
    }
}

/// Until Python is told that there is something for it.
async fn told(handoff: &Handoff) {
    let told = async {
        while !handoff.is_readable() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("nobody is told");
}

#[tokio::test]
async fn those_in_hand_that_wait_for_somebody_else_keep_nobody_waiting() {
    // What took the only place was the last to look: since then nobody has let go of it, however long ago that was.
    let limits = Limits { in_hand: Measure::same(1, Duration::from_millis(1)), ..Limits::default() };
    let (pairs, mut taken) = crowd(limits, 0).await;
    let handoff = &pairs[0].server.handoff;
    let mut late = Pair::to(pairs[0].server.clone());
    late.client.write_all(ASK).await.unwrap();
    while taken.len() == 1 {
        told(handoff).await;
        taken.extend(handoff.drain(64).1);
    }
}

#[tokio::test]
async fn requests_whose_clients_have_gone_take_no_place() {
    let limits = Limits { in_hand: Measure::same(1, Duration::MAX), ..Limits::default() };
    let (mut pairs, mut taken) = crowd(limits, 3).await;
    let handoff = pairs[0].server.handoff.clone();
    pairs.truncate(1);
    let mut last = Pair::to(pairs[0].server.clone());
    last.client.write_all(ASK).await.unwrap();
    while handoff.waiting() < 4 {
        tokio::task::yield_now().await;
    }
    assert!(taken.remove(0).reply.send(bare_400()).is_ok());
    while taken.len() < 4 {
        told(&handoff).await;
        taken.extend(handoff.drain(64).1);
    }
    assert_eq!(taken.iter().map(|one| one.presence.is_gone()).collect::<Vec<_>>(), [true, true, true, false]);
}

#[tokio::test]
async fn what_hyper_refuses_after_an_answer_gets_a_status() {
    let mut pair = Pair::new();
    assert!(pair.ask(ASK).await.reply.send(bare_400()).is_ok());
    pair.read_until("\r\n\r\n").await;
    pair.client.write_all(b"NONSENSE\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    pair.client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(r#""message":"the request is no valid HTTP""#), "{answer}");
}

#[tokio::test]
async fn a_head_may_have_thousands_of_fields_and_no_more_than_that() {
    for (fields, is_answered) in [(MOST_FIELDS - 1, true), (MOST_FIELDS, false)] {
        let mut pair = Pair::new();
        let more: String = (0..fields).map(|number| format!("x-{number}: y\r\n")).collect();
        let head = format!("GET /apis/somewhere HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        if is_answered {
            let pending = pair.ask(head.as_bytes()).await;
            assert_eq!(pending.exchange.headers.len(), fields + 1);
            continue;
        }
        pair.client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        pair.client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn a_switched_connection_carries_what_looks_like_a_refusal() {
    let mut pair = Pair::new();
    let pending = pair.ask(ASK_RAW).await;
    let connection = UpgradeState::new(pair.server.handoff.clone());
    let reply = Reply::Upgrade { status: 101, headers: Vec::new(), serve: connection.clone().serve() };
    assert!(pending.reply.send(reply).is_ok());
    pair.read_until("\r\n\r\n").await;
    let said = format!("{BARE_400}\r\n");
    assert!(connection.outgoing.write(Bytes::from(said.clone())));
    assert_eq!(pair.read_until("\r\n\r\n").await, said);
}

/// One thread runs all: enough for hyper to take what it takes.
async fn turns() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slow_client_gets_all_of_a_refusal_after_it_has_asked_to_switch() {
    let (mut pair, body) = (Pair::new(), Bytes::from(vec![b'x'; PIPE * 3 / 4]));
    let refused = Reply::Full { status: 403, headers: Vec::new(), body };
    assert!(pair.ask(ASK_RAW).await.reply.send(refused).is_ok());
    turns().await;
    pair.client.write_all(b"NONSENSE\r\n\r\n").await.unwrap();
    turns().await;
    let mut came = String::new();
    pair.client.read_to_string(&mut came).await.unwrap();
    assert!(came.ends_with("\"code\":400}\n"), "{came}");
}

#[tokio::test]
async fn no_protocol_is_switched_in_http_1_0() {
    for (version, is_heeded) in [("1.0", false), ("1.1", true)] {
        let asked = format!(
            "GET /apis/somewhere HTTP/{version}\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
        );
        let pending = Pair::new().ask(asked.as_bytes()).await;
        assert_eq!(pending.exchange.wants_upgrade(), is_heeded, "HTTP/{version}");
    }
}

#[tokio::test]
async fn what_a_slow_client_has_not_read_waits_where_its_writer_sees_it() {
    const PIECE: usize = 60 << 10;
    let mut pair = Pair::new();
    let stream = StreamState::new(pair.server.handoff.clone());
    let reply = Reply::Stream { status: 200, headers: Vec::new(), stream: stream.clone() };
    assert!(pair.ask(ASK).await.reply.send(reply).is_ok());
    let mut written = 0;
    while stream.writable() {
        assert!(stream.write(Bytes::from(vec![b'x'; PIECE])));
        written += PIECE;
        turns().await;
    }
    let held = written - crate::stream::STREAM_CAPACITY;
    assert!(held < (128 << 10) + 2 * PIECE, "{held} bytes are held beyond what waits");
    stream.close();
    let answer = pair.read_until("\r\n0\r\n\r\n").await;
    assert_eq!(answer.bytes().filter(|byte| *byte == b'x').count(), written);
}

#[tokio::test]
async fn what_is_behind_a_body_is_not_answered_amid_the_answer_before_it() {
    // Nobody wants its body; and nobody is to send it who is told first whether it is wanted.
    for (expects, end) in [("", "0\r\n\r\n"), ("Expect: 100-continue\r\n", "2\r\n{}\r\n0\r\n\r\n")] {
        let mut pair = Pair::new();
        pair.server.health.set_ready(true);
        let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n";
        pair.client.write_all(format!("{head}{expects}\r\n").as_bytes()).await.unwrap();
        turns().await;
        pair.client.write_all(format!("{end}NONSENSE\r\n\r\n").as_bytes()).await.unwrap();
        turns().await;
        let mut came = String::new();
        pair.client.read_to_string(&mut came).await.unwrap();
        let (head, content) = came.split_once("\r\n\r\n").unwrap();
        let length: usize =
            head.rsplit_once("content-length: ").unwrap().1.lines().next().unwrap().parse().unwrap();
        assert!(length > 2 * PIPE, "{length}");
        assert!(!content[..length].contains("HTTP/1.1 400"), "{came}");
    }
}

#[tokio::test]
async fn heads_of_many_fields_are_answered_among_others_however_they_arrive() {
    for step in [1, 7, 100, 1 << 20] {
        let mut pair = Pair::new();
        for (fields, body) in [
            (3, ""),
            (5, "with\nlines\n\r\n"),
            (60, ""),
            (150, "and a body"),
            (2, ""),
            (1_900, "\n"),
            (3, ""),
        ] {
            let more: String = (0..fields).map(|number| format!("x-{number}: y\r\n")).collect();
            let length = body.len();
            let asked = format!(
                "POST /apis/somewhere HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {length}\r\n\r\n{body}"
            );
            for piece in asked.as_bytes().chunks(step) {
                pair.client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            let pending = pair.ask(b"").await;
            assert_eq!((pending.exchange.headers.len(), &pending.body[..]), (fields + 2, body.as_bytes()));
            assert!(pending.reply.send(bare_400()).is_ok());
            pair.read_until("\r\n\r\n").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_still_sends_what_nobody_wants_sees_the_answer_and_that_it_is_the_last() {
    let mut pair = Pair::new();
    let head = "GET /version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    pair.client.write_all(head.as_bytes()).await.unwrap();
    let answer = pair.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
    // It is not cut off for that.
    pair.client.write_all(&[b'x'; 10 * PIPE]).await.unwrap();
    let mut content = String::new();
    pair.client.read_to_string(&mut content).await.unwrap();
    assert_eq!(content, "{}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_goes_on_behind_a_body_that_nobody_wants() {
    let mut pair = Pair::new();
    for body in ["", "{}", "{}"] {
        let length = body.len();
        let asked =
            format!("GET /version HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        pair.client.write_all(asked.as_bytes()).await.unwrap();
        let answer = pair.read_until("\r\n\r\n{}").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
    }
}

/// A request of HTTP/2 for a path of so many bytes, in as many frames as it takes.
fn asked_over_http2(stream: u8, path: usize) -> Vec<u8> {
    // `:method`, `:scheme`, `:authority` and `:path`, whose length is written in three bytes.
    let left = path - 127;
    let length =
        [left & 0x7f | 0x80, left >> 7 & 0x7f | 0x80, left >> 14].map(|bits| u8::try_from(bits).unwrap());
    let mut block = b"\x82\x86\x01\x09localhost\x04\x7f".to_vec();
    block.extend(length);
    block.push(b'/');
    block.resize(block.len() + path - 1, b'x');
    let last = block.len().div_ceil(16_384) - 1;
    let frames = block.chunks(16_384).enumerate().map(|(number, piece)| {
        let length = u8::try_from(piece.len() >> 8).unwrap();
        let kind = if number == 0 { 1 } else { 9 };
        // The first ends the stream, the last one the head.
        let flags = u8::from(number == 0) | if number == last { 4 } else { 0 };
        let [_, low] = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[0, length, low, kind, flags, 0, 0, 0, stream], piece].concat()
    });
    frames.collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn a_uri_may_be_as_long_over_http2_as_it_may_be_over_http1_and_beyond_that_it_is_414() {
    let server = Pair::new().server;
    let mut pair = Pair::over(server, true);
    pair.client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let fitting = pair.ask(&asked_over_http2(1, 65_534)).await;
    assert_eq!(fitting.exchange.info.path().len(), 65_534);
    pair.client.write_all(&asked_over_http2(3, 65_535)).await.unwrap();
    let mut came = Vec::new();
    // No error, behind the answer.
    while !came.ends_with(b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\0") {
        came.push(pair.client.read_u8().await.unwrap());
    }
    let came = String::from_utf8_lossy(&came);
    assert!(
        came.contains("414") && came.contains("URI of the request is too long: limit is 65534"),
        "{came:?}"
    );
    pair.ask(&asked_over_http2(5, 200)).await;
}

#[tokio::test]
async fn whoever_offers_another_protocol_where_there_is_none_is_answered_in_this_one() {
    for (asked, status) in [
        ("GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", "200"),
        ("OPTIONS * HTTP/1.1\r\n", "200"),
    ] {
        let mut pair = Pair::new();
        pair.server.health.set_ready(true);
        pair.client.write_all(format!("{asked}Host: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let answer = pair.read_until("\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}
