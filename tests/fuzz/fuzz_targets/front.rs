//! Any bytes on a connection of HTTP/1.1 or HTTP/2, to any of the front's ports: each request is answered once, by no
//! failure of ours, with nothing that who asks may not read; and it all comes to an end.
//!
//! The first byte says where they go and how (`Plan`), the second how they are cut.
#![no_main]

#[path = "front/http1.rs"]
mod http1;
#[path = "front/http2.rs"]
mod http2;
#[path = "front/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use kubecore_front::connection::{Connection, serve};
use kubecore_front::lifespan::Phase;
use kubecore_front::server::Server;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, WriteHalf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use world::{CLOSED, Given, HANDLERS_TOKEN, OPEN, Port, TOKEN, handle};

/// Beyond the longest that a watch lasts unless its client says so, and whatever else waits for a client.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// What is left to do when nothing may go on.
const GRACE: Duration = Duration::from_secs(120);
const MOMENT: Duration = Duration::from_millis(1);
/// That bytes are cut in.
const MOST_PIECES: usize = 64;

/// Of a Status.
const FAILURE: &[u8] = br#""code":5"#;
/// Of one that says so of the resource version that was asked for, in whatever format.
const TOO_LARGE: &[u8] = b"ResourceVersionTooLarge";
const SHUTTING_DOWN: &[u8] = b"apiserver is shutting down.";
/// What begins the message of a get of a revision that is none, which fails in Kubernetes.
const MISREAD: &[u8] = b"resourceVersion: Invalid value: ";

/// How the bytes go to the server.
struct Plan {
    http2: bool,
    port: Port,
    /// What comes in between is done first.
    paused: bool,
    /// The client says that it is done; else it falls silent.
    closes: bool,
    pipe: usize,
    step: usize,
}

impl Plan {
    fn read(how: u8, step: u8, length: usize) -> Self {
        let is_set = |bit: u8| how & (1 << bit) != 0;
        let port = [Port::Insecure, Port::OfStrangers, Port::Secure, Port::Secure][usize::from(how >> 1 & 3)];
        let step = if step == 0 { usize::MAX } else { usize::from(step).max(length / MOST_PIECES) };
        let pipe = if is_set(5) { 1 << 10 } else { 64 << 10 };
        Self { http2: is_set(0), port, paused: is_set(3), closes: !is_set(4), pipe, step }
    }
}

struct World {
    runtime: Runtime,
    servers: [(Port, Arc<Server>); 3],
}

thread_local! {
    static WORLD: World = {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let servers = [Port::Insecure, Port::OfStrangers, Port::Secure]
            .map(|port| (port, world::server(port, runtime.handle().clone())));
        World { runtime, servers }
    };
}

/// What came of it.
struct Outcome {
    came: Vec<u8>,
    given: Vec<Given>,
    /// The server had to end for it to end.
    drained: bool,
}

/// The handlers' turn, until there is nothing to do but wait. Time passes only while that is so.
async fn settle(server: &Server, port: Port, given: &mut Vec<Given>) {
    loop {
        sleep(MOMENT).await;
        let (callbacks, requests) = server.drain(64);
        if callbacks.is_empty() && requests.is_empty() {
            return;
        }
        callbacks.into_iter().for_each(|callback| callback());
        given.extend(requests.into_iter().filter_map(|pending| handle(server, port, pending)));
    }
}

/// Whether it ends within that time.
async fn ends(task: &JoinHandle<()>, within: Duration, to: (&Server, Port), given: &mut Vec<Given>) -> bool {
    let until = Instant::now() + within;
    let mut pause = MOMENT;
    while !task.is_finished() {
        if Instant::now() > until {
            return false;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
        settle(to.0, to.1, given).await;
    }
    true
}

/// What the client says, in pieces. The half that says it is given back.
async fn say(
    mut writer: WriteHalf<DuplexStream>,
    all: Vec<u8>,
    step: usize,
    paused: bool,
) -> WriteHalf<DuplexStream> {
    for piece in all.chunks(step) {
        if writer.write_all(piece).await.is_err() {
            break;
        }
        if paused {
            sleep(MOMENT * 2).await;
        }
    }
    writer
}

async fn run(server: &Arc<Server>, plan: &Plan, said: &[u8]) -> Outcome {
    let (client, end) = tokio::io::duplex(plan.pipe);
    let (mut reader, writer) = tokio::io::split(client);
    let secure = plan.port != Port::Insecure;
    let connection = Connection::new(([127, 0, 0, 1], 1).into(), secure, None, plan.http2, Arc::default());
    let served = tokio::spawn(serve(server.clone(), end, connection.clone()));
    let preface = if plan.http2 { http2::PREFACE } else { &[] };
    let writing = tokio::spawn(say(writer, [preface, said].concat(), plan.step, plan.paused));
    let reading = tokio::spawn(async move {
        let mut came = Vec::new();
        let _ = reader.read_to_end(&mut came).await;
        came
    });
    let (mut given, to) = (Vec::new(), (&**server, plan.port));
    for _ in 0..4 * MOST_PIECES {
        settle(to.0, to.1, &mut given).await;
        if writing.is_finished() {
            break;
        }
    }
    settle(to.0, to.1, &mut given).await;
    // Else the server reads no more for now, and the client falls silent in the middle.
    if plan.closes && writing.is_finished() {
        let _ = writing.await.expect("a writer").shutdown().await;
    }
    let drained = !ends(&served, LONGEST, to, &mut given).await;
    if drained {
        // A watch that is to last for longer, or one behind another.
        server.phase.send_replace(Phase::Draining);
        assert!(ends(&served, GRACE, to, &mut given).await, "it does not end with the server");
        server.phase.send_replace(Phase::Serving);
    }
    served.await.expect("it ends by itself");
    // What is thrown away meanwhile, and what was switched, end soon after it.
    sleep(GRACE).await;
    settle(to.0, to.1, &mut given).await;
    assert!(!connection.activity.is_busy(), "a request is under way on a connection that has ended");
    assert_eq!(Arc::strong_count(&connection), 1, "something of it is left");
    assert_eq!(server.handoff.waiting(), 0);
    assert!(reading.is_finished(), "all has been said");
    Outcome { came: reading.await.expect("bytes"), given, drained }
}

fn times(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn times_misread(told: &[u8]) -> usize {
    let starts = (0..told.len()).filter(|start| told[*start..].starts_with(MISREAD));
    // In protobuf a message stands behind its tag and its length.
    let begins = |before: &[u8]| {
        before.ends_with(br#""message":""#) || before.iter().rev().take(3).any(|byte| *byte == 0x1a)
    };
    starts.filter(|start| begins(&told[..*start])).count()
}

/// How many failures are told that are answers: of what has not happened yet, for which it was waited in vain, of what is
/// no revision, and of a watch that the server's end leaves no time for.
fn rightly_failed(outcome: &Outcome, told: &[u8]) -> usize {
    let of_the_end = if outcome.drained { times(told, SHUTTING_DOWN) } else { 0 };
    times(told, TOO_LARGE) + times_misread(told) + of_the_end
}

/// Nobody reads what he may not, as far as that can be told of a whole connection; nor are we told of failures.
fn check_all(port: Port, outcome: &Outcome, told: &[u8]) {
    for told in [told, &outcome.came] {
        assert!(port == Port::Insecure || !has(told, CLOSED), "what nobody may read");
        assert!(port != Port::OfStrangers || !has(told, OPEN), "what no stranger may read");
    }
    let is_failure = times(told, FAILURE) > rightly_failed(outcome, told);
    assert!(!is_failure, "a failure: {}", String::from_utf8_lossy(told));
}

/// Whether the request could be somebody's who may read what is open.
fn may_read(port: Port, head: &[u8]) -> bool {
    let known = [TOKEN.as_bytes(), HANDLERS_TOKEN.as_bytes(), b"bearer.authorization"];
    port == Port::Insecure || known.iter().any(|known| has(head, known))
}

fn check_http1(port: Port, said: &[u8], outcome: &Outcome) {
    let (asked, is_refused) = http1::asked(said);
    let answers = http1::answers(&outcome.came, &asked);
    assert!(answers.len() <= asked.len() + usize::from(is_refused), "more answers than requests");
    for (number, answer) in answers.iter().enumerate() {
        let asked = asked.get(number);
        let is_failure = answer.status >= 500 && rightly_failed(outcome, answer.bytes) == 0;
        assert!(!is_failure, "{}", String::from_utf8_lossy(answer.bytes));
        assert!(answer.status != 101 || asked.is_some_and(|asked| asked.is_current), "switched for HTTP/1.0");
        let may = asked.is_some_and(|asked| may_read(port, asked.head));
        assert!(may || !(has(answer.bytes, OPEN) || has(answer.bytes, CLOSED)), "read without a token");
    }
    // Handlers are given what was sent, in the order in which it was.
    let mut left = asked.iter();
    for given in &outcome.given {
        let is_given = left.any(|asked| {
            asked.method == given.method && asked.body.as_ref().is_some_and(|body| *body == given.body)
        });
        assert!(is_given, "{} with {:?} was not sent", given.method, given.body);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [how, step, said @ ..] = bytes else { return };
    if [OPEN, CLOSED, FAILURE, TOO_LARGE, MISREAD, SHUTTING_DOWN].iter().any(|told| has(said, told)) {
        // It may well be told what it has said.
        return;
    }
    let plan = Plan::read(*how, *step, said.len());
    let outcome = WORLD.with(|world| {
        let (_, server) = world.servers.iter().find(|(port, _)| *port == plan.port).expect("a port");
        world.runtime.block_on(run(server, &plan, said))
    });
    if plan.http2 {
        let answered = http2::frames(&outcome.came);
        check_all(plan.port, &outcome, &http2::contents(&answered));
        http2::check(&answered);
        assert!(http2::heads(&answered) <= http2::heads(&http2::frames(said)), "more answers than requests");
    } else {
        check_all(plan.port, &outcome, &outcome.came);
        check_http1(plan.port, said, &outcome);
    }
});
