//! The audit: who asked for what, whether he might, and how it was answered, as far as a policy wants to know.
//!
//! Without a policy a request pays for one look. A request that a policy wants to hear of has a `Trail`, which collects
//! what is found out and tells it stage by stage. Source: apiserver `pkg/endpoints/filters/audit.go`, `pkg/audit`.

mod backups;
mod dates;
mod event;
mod events;
mod fitting;
mod head;
mod ids;
mod latency;
mod legacy;
mod log_file;
mod panics;
mod parking;
mod policy;
mod recalled;
mod rendering;
mod requests;
mod sink;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use kubecore_core::authn::UserInfo;
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;

pub use backups::Rotation;
pub(crate) use dates::date_and_time;
pub use event::ResponseStatus;
use event::{Findings, Note, Reached, without_managed_fields};
pub use events::Events;
pub use fitting::Fitting;
pub use head::{Asked, Head, Sources, Text, Told};
pub use ids::new_id;
use latency::Latencies;
pub use latency::Layer;
pub use log_file::LogFile;
pub(crate) use panics::{Struck, tell_panic};
pub(crate) use parking::before_parking;
pub use policy::{Level, Policy, Stage, Verdict};
use recalled::write_lines;
use rendering::Telling;
pub(crate) use requests::{LONG_RUNNING, lasts};
pub use sink::{Buffered, Outbox, Sink};

use crate::recent::RecentlyAsked;

const LONGEST_AGENT: usize = 1024;
const CUT: &str = "...TRUNCATED";

/// What is in force; nothing at first.
#[derive(Default)]
pub struct Audit {
    current: ArcSwapOption<Auditing>,
    pub counts: Arc<Counts>,
}

#[derive(Default)]
pub struct Counts {
    events: AtomicU64,
    levels: [AtomicU64; 4],
    rejected: AtomicU64,
}

/// A policy and where events go.
pub struct Auditing {
    policy: Policy,
    sinks: Vec<Arc<dyn Sink>>,
    /// A request that cannot be told of is none.
    strict: bool,
    clock: Clock,
    counts: Arc<Counts>,
}

thread_local! {
    /// What a policy says of what is asked again and again, for as long as it is in force.
    static VERDICTS: RefCell<RecentlyAsked<(Weak<Auditing>, Verdict)>> = const { RefCell::new(RecentlyAsked::new()) };
}

impl Auditing {
    /// By the clock of events.
    pub fn now(&self) -> Duration {
        self.clock.unix()
    }

    fn judge(self: &Arc<Self>, user: Option<&Arc<UserInfo>>, asked: &Asked) -> Verdict {
        let anew = || self.policy.judge(user.map(AsRef::as_ref), &asked.attributes());
        let (Some(user), Asked::Read(info)) = (user, asked) else { return anew() };
        VERDICTS.with_borrow_mut(|recent| {
            if let Some((of, verdict)) = recent.get(user, info)
                && Weak::as_ptr(of) == Arc::as_ptr(self)
            {
                return *verdict;
            }
            let verdict = anew();
            recent.put(user, info, || (Arc::downgrade(self), verdict));
            verdict
        })
    }
}

impl Audit {
    pub fn configure(&self, policy: Policy, sinks: Vec<Arc<dyn Sink>>, strict: bool, clock: Clock) {
        let auditing = Auditing { policy, sinks, strict, clock, counts: self.counts.clone() };
        self.current.store(Some(Arc::new(auditing)));
    }

    /// Nothing is audited any more. What was taken is where it belongs when this returns, though requests may still know of it.
    pub fn stop(&self) {
        if let Some(auditing) = self.current.swap(None) {
            auditing.sinks.iter().for_each(|sink| sink.settle());
        }
    }

    pub fn current(&self) -> Option<Arc<Auditing>> {
        self.current.load_full()
    }

    pub fn is_on(&self) -> bool {
        self.current.load().is_some()
    }

    /// What has been told so far is where it belongs when this returns: that requests came, for all that go on together
    /// at once.
    pub fn settle(&self) {
        for sink in self.current.load().iter().flat_map(|auditing| &auditing.sinks) {
            sink.settle();
        }
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let mut out = String::from(
            "# HELP apiserver_audit_event_total [ALPHA] Counter of audit events generated and sent to the audit backend.\n\
             # TYPE apiserver_audit_event_total counter\n",
        );
        out += &format!("apiserver_audit_event_total {}\n", count(&self.counts.events));
        out += "# HELP apiserver_audit_requests_rejected_total [ALPHA] Counter of apiserver requests rejected due to an \
                error in audit logging backend.\n# TYPE apiserver_audit_requests_rejected_total counter\n";
        out += &format!("apiserver_audit_requests_rejected_total {}\n", count(&self.counts.rejected));
        out += "# HELP apiserver_audit_level_total [ALPHA] Counter of policy levels for audit events (1 per request).\n\
                # TYPE apiserver_audit_level_total counter\n";
        for level in Level::ALL {
            let told = count(&self.counts.levels[level as usize]);
            out += &format!("apiserver_audit_level_total{{level=\"{}\"}} {told}\n", level.name());
        }
        if let Some(auditing) = self.current() {
            out += "# HELP apiserver_audit_error_total [ALPHA] Counter of audit events that failed to be audited properly. \
                    Plugin identifies the plugin affected by the error.\n# TYPE apiserver_audit_error_total counter\n";
            for sink in &auditing.sinks {
                out +=
                    &format!("apiserver_audit_error_total{{plugin=\"{}\"}} {}\n", sink.name(), sink.lost());
            }
        }
        out
    }
}

/// A request that an audit may want to hear of: its trail, once it is known that it does.
pub struct Draft(Arc<Trail>);

impl Draft {
    pub fn new(
        auditing: Arc<Auditing>,
        audit_id: Text,
        uri: Text,
        sources: Sources,
        agent: Text,
        asked: Asked,
        received: Duration,
    ) -> Self {
        let is_long = agent.as_bytes().len() > LONGEST_AGENT;
        let user_agent = match is_long.then(|| agent.as_str().char_indices().nth(LONGEST_AGENT)).flatten() {
            Some((end, _)) => Text::Own(format!("{}{CUT}", &agent.as_str()[..end]).into()),
            None => agent,
        };
        Self(Arc::new(Trail {
            auditing,
            head: Head { audit_id, uri, sources, user_agent, asked, received },
            known: OnceLock::new(),
            findings: Mutex::default(),
            latencies: Latencies::default(),
        }))
    }

    /// Who asks is known, or that nobody knows (None): tells that the request came. Only the first call counts.
    pub fn begin(&self, user: Option<&Arc<UserInfo>>) -> Option<&Arc<Trail>> {
        if self.is_unbegun() {
            self.0.begin(user);
        }
        self.trail()
    }

    /// None until `begin`, or where the policy does not want to know.
    pub fn trail(&self) -> Option<&Arc<Trail>> {
        (self.0.level() > Level::None).then_some(&self.0)
    }

    /// Nobody has been told of the request yet.
    pub fn is_unbegun(&self) -> bool {
        self.0.known.get().is_none()
    }
}

/// What is known of a request from its beginning on.
struct Known {
    verdict: Verdict,
    user: Option<Arc<UserInfo>>,
}

/// A request that the audit hears of.
pub struct Trail {
    auditing: Arc<Auditing>,
    head: Head,
    known: OnceLock<Known>,
    findings: Mutex<Findings>,
    latencies: Latencies,
}

impl Trail {
    fn begin(&self, user: Option<&Arc<UserInfo>>) {
        let verdict = self.auditing.judge(user, &self.head.asked);
        if self.known.set(Known { verdict, user: user.cloned() }).is_err() {
            return;
        }
        self.auditing.counts.levels[verdict.level as usize].fetch_add(1, Ordering::Relaxed);
        if verdict.level == Level::None {
            return;
        }
        // Nobody is told before `release` or the next stage that the request came: an answer that is there at once costs
        // one write, not two. Of one that nobody can be found for only the refusal is told.
        self.findings.lock().is_held = user.is_some() && verdict.tells(Stage::RequestReceived);
        if self.auditing.strict {
            self.insist();
        }
    }

    fn verdict(&self) -> Verdict {
        self.known.get().map(|known| known.verdict).unwrap_or_default()
    }

    fn user(&self) -> Option<&Arc<UserInfo>> {
        self.known.get()?.user.as_ref()
    }

    /// Nobody could be authenticated.
    pub fn is_nobodys(&self) -> bool {
        self.user().is_none()
    }

    pub fn level(&self) -> Level {
        self.verdict().level
    }

    pub fn wants_request(&self) -> bool {
        self.verdict().level >= Level::Request
    }

    pub fn wants_response(&self) -> bool {
        self.verdict().level == Level::RequestResponse
    }

    /// Of several values for one key the first one stays.
    pub fn annotate(&self, key: impl Into<Cow<'static, str>>, value: impl Into<Note>) {
        self.findings.lock().annotate(key.into(), value.into());
    }

    pub fn decided(&self, decision: impl Into<Note>, reason: impl Into<Note>) {
        let mut findings = self.findings.lock();
        findings.annotate("authorization.k8s.io/decision".into(), decision.into());
        findings.annotate("authorization.k8s.io/reason".into(), reason.into());
    }

    /// The request goes on as somebody else.
    pub fn goes_on_as(&self, user: &Arc<UserInfo>) {
        if self.user().is_none_or(|own| **own != **user) {
            self.findings.lock().impersonated = Some(user.clone());
        }
    }

    /// What the object of the request says of itself, where the request does not, and nothing has before.
    pub fn named(&self, namespace: &str, name: &str, uid: &str, resource_version: &str) {
        let mut findings = self.findings.lock();
        let names = findings.names.get_or_insert_default();
        for (field, given) in [
            (&mut names.namespace, namespace),
            (&mut names.name, name),
            (&mut names.uid, uid),
            (&mut names.resource_version, resource_version),
        ] {
            if field.is_empty() {
                given.clone_into(field);
            }
        }
    }

    /// The object of the request, or its patch, as JSON.
    pub fn requested(&self, object: &[u8]) {
        let wanted = self.wants_request().then(|| raw(object)).flatten();
        let mut findings = self.findings.lock();
        if findings.request_object.is_none() {
            findings.request_object = wanted.map(|object| self.without_what_is_omitted(object));
        }
    }

    /// What is answered, as JSON; of several answers the first one stays, which is what was before it was rendered.
    pub fn responded(&self, body: &[u8]) {
        let status = ResponseStatus::read(body);
        let wanted = self.wants_response().then(|| raw(body)).flatten();
        let mut findings = self.findings.lock();
        if findings.has_panicked {
            return;
        }
        if findings.status.is_none() && findings.code.is_none() {
            findings.status = status.map(Box::new);
        }
        if findings.response_object.is_none() {
            findings.response_object = wanted.map(|object| self.without_what_is_omitted(object));
        }
    }

    /// Whether an answer has been heard of already.
    pub fn is_answered(&self) -> bool {
        self.findings.lock().is_answered()
    }

    fn without_what_is_omitted(&self, object: Box<RawValue>) -> Box<RawValue> {
        let omitted = self.verdict().omit_managed_fields.then(|| without_managed_fields(&object)).flatten();
        omitted.unwrap_or(object)
    }

    pub fn coded(&self, code: u16) {
        let mut findings = self.findings.lock();
        findings.code = Some(code);
        if let Some(status) = &mut findings.status {
            status.code = code;
        }
    }

    /// Whoever comes is told of now, or sent away.
    fn insist(&self) {
        let mut findings = self.findings.lock();
        if std::mem::take(&mut findings.is_held) {
            findings.is_rejected = !self.send(&[self.arrival()], &findings);
        }
        if findings.is_rejected {
            self.auditing.counts.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It could not be told, and must not go on.
    pub fn is_rejected(&self) -> bool {
        self.auditing.strict && self.findings.lock().is_rejected
    }

    /// The request is about to wait: what is held is told. It is where it belongs before this thread waits, and before
    /// Python has the request (`Audit::settle`).
    pub fn release(&self) {
        let mut findings = self.findings.lock();
        if std::mem::take(&mut findings.is_held) {
            self.send(&[self.arrival()], &findings);
        }
    }

    /// So long a part of the request took.
    pub fn took(&self, layer: Layer, time: Duration) {
        self.latencies.took(layer, time);
    }

    /// The stage has been reached now; or the end, by a failure of our own.
    pub fn tell(&self, stage: Stage) {
        self.tell_of(stage, || self.auditing.now());
    }

    /// It was reached `then`, just now.
    pub(crate) fn tell_at(&self, stage: Stage, then: Instant) {
        self.tell_of(stage, || self.auditing.clock.unix_at(then));
    }

    fn tell_of(&self, stage: Stage, at: impl FnOnce() -> Duration) {
        let mut findings = self.findings.lock();
        let Some(stage) = findings.reached(stage).filter(|stage| self.verdict().tells(*stage)) else {
            return;
        };
        let at = at();
        if stage == Stage::ResponseComplete {
            self.latencies.annotate(&mut findings, at.saturating_sub(self.head.received));
        }
        let reached = [self.arrival(), Reached { stage, at }];
        let from = if std::mem::take(&mut findings.is_held) { 0 } else { 1 };
        self.send(&reached[from..], &findings);
    }

    fn arrival(&self) -> Reached {
        Reached { stage: Stage::RequestReceived, at: self.head.received }
    }

    /// Whether everybody has taken it.
    fn send(&self, reached: &[Reached], findings: &Findings) -> bool {
        self.auditing.counts.events.fetch_add(reached.len() as u64, Ordering::Relaxed);
        let mut events = WRITTEN.take();
        events.clear();
        let (level, user) = (self.level(), self.user());
        let told = Telling { level, reached, head: &self.head, user, found: findings };
        write_lines(&mut events, &told);
        events.at = reached.last().map(|last| last.at);
        let mut taken = true;
        for sink in &self.auditing.sinks {
            taken &= sink.take(&events);
        }
        WRITTEN.set(events);
        taken
    }
}

thread_local! {
    /// Memory for the next events.
    static WRITTEN: Cell<Events> = Cell::default();
}

impl Trail {
    /// The request has ended and nobody was told how: its client did not wait for the answer.
    fn ended_unseen(&self) {
        if self.level() == Level::None || self.is_nobodys() || thread::panicking() {
            return;
        }
        let is_answered = {
            let mut findings = self.findings.lock();
            if findings.is_over() {
                return;
            }
            let is_answered = findings.is_answered();
            if !is_answered {
                findings.status = Some(Box::new(ResponseStatus::closed_early()));
            }
            is_answered
        };
        if !is_answered && matches!(&self.head.asked, Asked::Read(info) if lasts(info)) {
            self.tell(Stage::ResponseStarted);
        }
        self.tell(Stage::ResponseComplete);
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let findings = self.findings.get_mut();
        if findings.is_over() && !findings.is_held {
            return;
        }
        self.ended_unseen();
        self.release();
    }
}

/// On one line.
fn raw(object: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(object).ok()?.trim();
    if text.contains('\n') {
        return serde_json::value::to_raw_value(&serde_json::from_str::<Value>(text).ok()?).ok();
    }
    serde_json::from_str::<&RawValue>(text).ok().map(ToOwned::to_owned)
}

/// Tells that a request is complete once it is dropped: with the body of its answer, or what serves a switched protocol.
pub struct Ending(pub Arc<Trail>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked("the answer broke off");
        }
        self.0.tell(Stage::ResponseComplete);
    }
}

#[cfg(test)]
mod tests;
