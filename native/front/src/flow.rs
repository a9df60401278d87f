//! Priority and fairness in the chain: a request takes its seats, waits for them, or is sent away.
//!
//! Source: apiserver `pkg/server/filters/priority-and-fairness.go`. Who gets a seat is decided in `native/flow`.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response};
use kubecore_core::authn::UserInfo;
use kubecore_core::go::parse_duration;
use kubecore_core::rbac::Attributes;
use kubecore_core::watch_cache::ResourceCache;
use kubecore_flow::work::{self, Estimate, Listing, Stored};
use kubecore_flow::{Admitted, Asked, Class, Cost, Schema, Start, Watching};
use tokio::sync::oneshot;

use crate::answering::AUDIT_ID;
use crate::audit::{date_and_time, lasts};
use crate::body::Body;
use crate::exchange::{Exchange, attributes_of};
use crate::inflight;
use crate::metrics::Gauge;
use crate::query::Query;
use crate::recent::RecentlyAsked;
use crate::request_info::{RequestInfo, is_true};
use crate::server::Server;
use crate::status::put_usual;
use crate::watch_body::sleep;

const FLOW_SCHEMA: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// How long an answer may take where the client does not say; of that a quarter may be spent waiting for a seat.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Objects that are looked at to tell how large those of a resource are.
const SAMPLES: usize = 8;

/// Who asks for what.
pub struct Asker {
    user: Arc<UserInfo>,
    info: Arc<RequestInfo>,
}

impl Asked for Asker {
    fn user(&self) -> &UserInfo {
        &self.user
    }

    fn attributes(&self) -> Attributes<'_> {
        attributes_of(&self.info)
    }

    fn is_watch(&self) -> bool {
        self.info.verb() == "watch"
    }
}

pub type Flow = kubecore_flow::Flow<Asker>;

thread_local! {
    static CLASSES: RefCell<RecentlyAsked<Class<Asker>>> = const { RefCell::new(RecentlyAsked::new()) };
}

/// A request's seats, which are free again when the last one drops this, or says so before.
#[derive(Clone)]
pub struct Seat(Arc<Taken>);

struct Taken {
    server: Arc<Server>,
    schema: Arc<Schema<Asker>>,
    key: usize,
    is_free: AtomicBool,
    /// Counts a watch as such for as long as its body lives, which is longer than it has a seat.
    _watching: Option<Watching>,
}

impl Seat {
    /// Only the first call counts.
    pub fn free(&self) {
        self.0.free();
    }

    fn tell(&self, headers: &mut HeaderMap) {
        tell(&self.0.schema, headers);
    }

    /// The usual ones of an answer in JSON, and what is told of the seat.
    pub(crate) fn headers(&self) -> HeaderMap {
        headers_of(&self.0.schema)
    }
}

impl Taken {
    fn free(&self) {
        if self.is_free.swap(true, Ordering::Relaxed) {
            return;
        }
        let (server, level, key) = (&self.server, &self.schema.level, self.key);
        if let Some(lingers) = level.finish(server.clock.monotonic(), key) {
            let (clock, level) = (server.clock.clone(), level.clone());
            let wait = sleep(&clock, lingers);
            server.handle().spawn(async move {
                wait.await;
                level.vacate(clock.monotonic(), key);
            });
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.free();
    }
}

fn tell(schema: &Schema<Asker>, headers: &mut HeaderMap) {
    // As in those that were put together once: to look is cheaper than to put them there again. (A server that answers in
    // our stead may have told of its own.)
    let told = [(&FLOW_SCHEMA, &schema.uid), (&PRIORITY_LEVEL, &schema.level_uid)];
    if headers.iter().take(told.len()).eq(told) {
        return;
    }
    headers.insert(FLOW_SCHEMA, schema.uid.clone());
    headers.insert(PRIORITY_LEVEL, schema.level_uid.clone());
}

/// Copied from what was put together once, since most of what a header costs is to find its place among others.
fn headers_of(schema: &Schema<Asker>) -> HeaderMap {
    let made = schema.headers.get_or_init(|| {
        let mut headers = HeaderMap::new();
        tell(schema, &mut headers);
        put_usual(&mut headers);
        // Every answer has one in the end, for which it need not grow then.
        headers.insert(AUDIT_ID, HeaderValue::from_static(""));
        headers
    });
    made.clone()
}

/// Whether a request may go on.
pub enum Admission {
    /// Nobody limits it.
    Free,
    Seated(Seat),
    Waiting(Wait),
    Refused(Refusal),
}

/// A request in its queue. Dropped, because the client has gone, it leaves.
pub struct Wait {
    server: Arc<Server>,
    schema: Arc<Schema<Asker>>,
    key: usize,
    seated: oneshot::Receiver<()>,
    watching: Option<Watching>,
    /// By the clock.
    until: Duration,
    is_over: bool,
    _queued: Gauge,
}

impl Wait {
    /// A seat, or none for a request that has waited too long.
    pub async fn seated(mut self) -> Result<Seat, Refusal> {
        let clock = self.server.clock.clone();
        let patience = sleep(&clock, self.until.saturating_sub(clock.monotonic()));
        // Time may have passed before the wait for it began.
        let is_late = clock.monotonic() >= self.until;
        let server = self.server.clone();
        tokio::select! {
            biased;
            _ = &mut self.seated => {}
            () = server.keep_up() => {}
            () = async { if !is_late { patience.await } } => {
                let now = clock.monotonic();
                if let Some(seconds) = self.schema.level.leave(now, self.key, true) {
                    self.is_over = true;
                    return Err(Refusal { schema: self.schema.clone(), seconds });
                }
            }
        }
        self.is_over = true;
        Ok(self.server.taken(self.schema.clone(), self.key, self.watching.take()))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let now = self.server.clock.monotonic();
        if self.schema.level.leave(now, self.key, false).is_none() {
            // It was given a seat at this very moment.
            drop(self.server.taken(self.schema.clone(), self.key, None));
        }
    }
}

/// Of a request that there is no room for.
pub struct Refusal {
    schema: Arc<Schema<Asker>>,
    /// When it may come again.
    pub seconds: u64,
}

impl Refusal {
    pub(crate) fn answer(&self) -> Response<Body> {
        let mut response = inflight::too_many(self.seconds);
        tell(&self.schema, response.headers_mut());
        response
    }
}

impl Server {
    /// Seats for a request of that user, except where it lasts for as long as somebody wants it to. `now`: it has just come
    /// to that.
    pub fn seat_for(
        self: &Arc<Self>,
        now: Instant,
        user: &Arc<UserInfo>,
        info: &Arc<RequestInfo>,
        query: &str,
    ) -> Admission {
        let is_watch = info.verb() == "watch";
        if !self.flow.is_on() || (!is_watch && lasts(info)) {
            return Admission::Free;
        }
        let now = self.clock.monotonic_at(now);
        let Some(Admitted { schema, start }) = self.admitted(now, user, info, query) else {
            return Admission::Free;
        };
        let watching = || is_watch.then(|| self.flow.watches.open(&attributes_of(info)));
        match start {
            Start::Seated(key) => Admission::Seated(self.taken(schema, key, watching())),
            Start::Waiting(key, seated) => Admission::Waiting(Wait {
                server: self.clone(),
                key,
                seated,
                watching: watching(),
                until: now + longest_wait(query),
                schema,
                is_over: false,
                _queued: self.metrics.in_queue(info.verb()),
            }),
            Start::Rejected(seconds) => Admission::Refused(Refusal { schema, seconds }),
        }
    }

    /// None while nothing is in force.
    fn admitted(
        &self,
        now: Duration,
        user: &Arc<UserInfo>,
        info: &Arc<RequestInfo>,
        query: &str,
    ) -> Option<Admitted<Asker>> {
        let admit = |class: &Class<Asker>| {
            // Something else may be in force by now.
            self.flow.schema_of(class)?;
            let asker = Asker { user: user.clone(), info: info.clone() };
            Some(self.flow.admit(now, asker, class, |asker, most| self.cost(asker, query, most)))
        };
        if let Some(admitted) = CLASSES.with_borrow(|recent| recent.get(user, info).and_then(admit)) {
            return Some(admitted);
        }
        loop {
            let class = self.flow.classify(user, &attributes_of(info))?;
            if let Some(admitted) = admit(&class) {
                CLASSES.with_borrow_mut(|recent| recent.put(user, info, || class));
                return Some(admitted);
            }
        }
    }

    /// The request goes on once it has its seats; None: it may.
    pub(crate) async fn take_seat(
        self: &Arc<Self>,
        exchange: &Exchange,
        user: &Arc<UserInfo>,
    ) -> Option<Response<Body>> {
        let began = Instant::now();
        let seated = match self.seat_for(began, user, &exchange.info, &exchange.query) {
            Admission::Free => return None,
            Admission::Seated(seat) => Ok(seat),
            Admission::Waiting(wait) => {
                let seated = wait.seated().await;
                exchange.apart.add(began.elapsed());
                seated
            }
            Admission::Refused(refusal) => Err(refusal),
        };
        self.judged.seated(began.elapsed());
        seated.map(|seat| exchange.late_seat.get_or_init(|| seat)).map_err(|refusal| refusal.answer()).err()
    }

    /// While somebody waits, seats are shared out period by period. Never ends.
    async fn keep_up(&self) {
        loop {
            sleep(&self.clock, kubecore_flow::PERIOD).await;
            self.flow.keep_up(self.clock.monotonic());
        }
    }

    fn taken(self: &Arc<Self>, schema: Arc<Schema<Asker>>, key: usize, watching: Option<Watching>) -> Seat {
        Seat(Arc::new(Taken {
            server: self.clone(),
            schema,
            key,
            is_free: AtomicBool::new(false),
            _watching: watching,
        }))
    }

    /// What a request is thought to cost, at most `most` seats where that is not 0.
    fn cost(&self, asker: &Asker, query: &str, most: u32) -> Cost {
        let info = &asker.info;
        let one = Cost { estimate: Estimate::ONE, watchers: None };
        match info.verb() {
            "list" | "watch" if info.is_resource() => {
                let query = Query::new(query);
                if info.verb() == "watch" && !begins_with_a_list(query) {
                    return one;
                }
                let Some(cache) = self.routes.cache(info.group(), info.resource()) else { return one };
                let estimate = work::list(&listing(info, query), stored(&cache), most);
                Cost { estimate, watchers: None }
            }
            // What makes a token is no news to who watches service accounts.
            "create" if info.resource() == "serviceaccounts" && info.subresource() == "token" => one,
            "create" | "update" | "patch" | "delete" if info.is_resource() => {
                let watchers = self.flow.watches.interested_in(&asker.attributes());
                Cost { estimate: work::write(watchers, most), watchers: Some(watchers) }
            }
            _ => one,
        }
    }

    /// The answer says which schema and level the request belonged to, and holds its seats until it is sent.
    pub(crate) fn seated(&self, exchange: &Exchange, mut response: Response<Body>) -> Response<Body> {
        if let Some(seat) = exchange.seat() {
            seat.tell(response.headers_mut());
            response.body_mut().sit(seat.clone(), exchange.info.verb() == "watch");
        }
        response
    }

    /// The tables below `/debug/api_priority_and_fairness/`; None for other paths.
    pub(crate) fn dumped(&self, exchange: &Exchange) -> Option<Response<Body>> {
        let name = exchange.info.path().strip_prefix("/debug/api_priority_and_fairness/")?;
        if !self.flow.is_on() || exchange.method != Method::GET {
            return None;
        }
        let text = match name {
            "dump_priority_levels" => self.flow.dump_levels(),
            "dump_queues" => self.flow.dump_queues(),
            "dump_requests" => {
                let details = Query::new(&exchange.query).first("includeRequestDetails");
                let (unix, now) = (self.clock.unix(), self.clock.monotonic());
                let when = |at: Duration| date_and_time(unix.saturating_sub(now.saturating_sub(at)), 9) + "Z";
                self.flow.dump_requests(details.is_some_and(|value| !value.is_empty()), when)
            }
            _ => return None,
        };
        let mut response = Response::new(Body::full(text));
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        Some(response)
    }
}

fn longest_wait(query: &str) -> Duration {
    let said = Query::new(query).first("timeout").and_then(|text| parse_duration(&text).ok());
    let said = said.and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0);
    let whole = said.map_or(REQUEST_TIMEOUT, Duration::from_nanos).min(REQUEST_TIMEOUT);
    whole / 4
}

/// A watch that tells of what is there first costs what a list costs.
fn begins_with_a_list(query: Query<'_>) -> bool {
    let version = query.first("resourceVersion").unwrap_or_default();
    matches!(&*version, "" | "0") || query.first("sendInitialEvents").is_some_and(|value| is_true(&value))
}

fn listing(info: &RequestInfo, query: Query<'_>) -> Listing {
    let given = |name| query.first(name).unwrap_or_default();
    let limit = given("limit").parse().unwrap_or(0);
    let version = given("resourceVersion");
    // As upstream's delegator: what a cache without history cannot tell.
    let is_past = match &*given("resourceVersionMatch") {
        "Exact" => true,
        "NotOlderThan" => false,
        _ => !given("continue").is_empty() || (limit > 0 && !matches!(&*version, "" | "0")),
    };
    Listing {
        limit,
        is_single: !info.named().is_empty(),
        from_cache: info.verb() == "watch" || !is_past,
        has_selectors: !given("labelSelector").is_empty() || !given("fieldSelector").is_empty(),
    }
}

fn stored(cache: &ResourceCache) -> Stored {
    let snapshot = cache.snapshot();
    let runs = snapshot.runs();
    let every = runs.len().div_ceil(SAMPLES).max(1);
    let sizes = runs.iter().step_by(every).filter_map(|run| run.objects().first());
    let (count, bytes) =
        sizes.fold((0, 0), |(count, bytes), object| (count + 1, bytes + object.json().len() as u64));
    Stored { objects: snapshot.len() as u64, bytes_each: bytes / u64::max(count, 1) }
}

#[cfg(test)]
mod tests {
    use kubecore_flow::work::Estimate;

    use super::*;

    #[test]
    fn headers_that_were_put_together_once_are_those_that_are_told_one_by_one() {
        let objects = r#"{"seats":10,"levels":[{"name":"l","uid":"of-level","spec":{"limited":{}}}],
            "schemas":[{"name":"s","uid":"of-schema","spec":{"priorityLevelConfiguration":{"name":"l"}}}]}"#;
        let flow = Flow::default();
        flow.configure(Duration::ZERO, serde_json::from_str(objects).unwrap());
        let info = Arc::new(RequestInfo::parse(&Method::GET, "/api/v1/pods", "").unwrap());
        let user = Arc::new(UserInfo::new("jane", &[]));
        let class = flow.classify(&user, &attributes_of(&info)).unwrap();
        let one = |_: &Asker, _| Cost { estimate: Estimate::ONE, watchers: None };
        let schema = flow.admit(Duration::ZERO, Asker { user, info }, &class, one).schema;
        let mut told = HeaderMap::new();
        tell(&schema, &mut told);
        let values = |headers: &HeaderMap| {
            [FLOW_SCHEMA, PRIORITY_LEVEL, CONTENT_TYPE]
                .map(|name| headers.get_all(name).iter().cloned().collect::<Vec<_>>())
        };
        assert_eq!(values(&told)[..2], [vec!["of-schema"], vec!["of-level"]]);
        for _ in 0..2 {
            let mut headers = headers_of(&schema);
            tell(&schema, &mut headers);
            assert_eq!(values(&headers), [vec!["of-schema"], vec!["of-level"], vec!["application/json"]]);
        }
        let foreign = |level| {
            let [first, second] = ["of-another", level].map(HeaderValue::from_static);
            HeaderMap::from_iter([(FLOW_SCHEMA, first), (PRIORITY_LEVEL, second), (CONTENT_TYPE, TEXT)])
        };
        for mut others in
            [HeaderMap::from_iter([(CONTENT_TYPE, TEXT)]), foreign("of-another"), foreign("of-level")]
        {
            tell(&schema, &mut others);
            assert_eq!(values(&others), [vec!["of-schema"], vec!["of-level"], vec![TEXT.to_str().unwrap()]]);
        }
    }
}
