use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::request_info::RequestInfo;

#[derive(Default)]
struct Kept(Mutex<Vec<Value>>);

impl Sink for Kept {
    fn take(&self, events: &Events) -> bool {
        self.0.lock().extend(events.iter().map(|event| serde_json::from_slice::<Value>(event).unwrap()));
        true
    }
    fn lost(&self) -> u64 {
        0
    }
    fn name(&self) -> &'static str {
        "kept"
    }
}

fn trail(level: &str) -> (Arc<Kept>, Arc<Trail>) {
    let (kept, draft) = draft(level);
    let trail = draft.begin(Some(&Arc::new(UserInfo::new("jane", &["g"])))).unwrap().clone();
    (kept, trail)
}

fn draft(level: &str) -> (Arc<Kept>, Draft) {
    let audit = Audit::default();
    let kept = Arc::new(Kept::default());
    let policy = serde_json::from_str(&format!(r#"{{"rules":[{{"level":"{level}"}}]}}"#)).unwrap();
    audit.configure(policy, vec![kept.clone()], false, Clock::starting_at(Duration::from_secs(1)));
    let asked = Told {
        verb: "create".into(),
        version: "v1".into(),
        resource: "secrets".into(),
        namespace: "a".into(),
        is_resource: true,
        ..Told::default()
    };
    let draft = Draft::new(
        audit.current().unwrap(),
        Text::Own("id".into()),
        Text::Own("/x?y".into()),
        Sources::Direct(std::net::Ipv6Addr::LOCALHOST.into()),
        Text::Own("agent".into()),
        Asked::Told(Arc::new(asked)),
        audit.current().unwrap().now(),
    );
    (kept, draft)
}

#[test]
fn of_a_request_that_is_nobodys_only_the_refusal_is_told() {
    let (kept, draft) = draft("Metadata");
    let trail = draft.begin(None).unwrap();
    trail.release();
    trail.coded(401);
    trail.tell(Stage::ResponseStarted);
    let stages: Vec<Value> = kept.0.lock().iter().map(|event| event["stage"].clone()).collect();
    assert_eq!(stages, ["ResponseStarted"]);
}

#[test]
fn below_request_no_object_is_told_but_what_it_is_called() {
    let (kept, trail) = trail("Metadata");
    trail.named("b", "s", "u", "");
    trail.requested(br#"{"kind":"Secret","metadata":{"name":"s","uid":"u"},"data":{"k":"c2VjcmV0"}}"#);
    trail.responded(br#"{"kind":"Secret","metadata":{"name":"s"},"data":{"k":"c2VjcmV0"}}"#);
    trail.coded(201);
    trail.decided("allow", "");
    trail.tell(Stage::ResponseComplete);
    let events = kept.0.lock();
    assert_eq!(events.len(), 2);
    assert!(!events[1].to_string().contains("c2VjcmV0"));
    assert_eq!(
        events[1].to_string(),
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"id","stage":"ResponseComplete","requestURI":"/x?y","verb":"create","user":{"username":"jane","groups":["g"]},"sourceIPs":["::1"],"userAgent":"agent","objectRef":{"resource":"secrets","namespace":"a","name":"s","uid":"u","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},"requestReceivedTimestamp":"1970-01-01T00:00:01.000000Z","stageTimestamp":"1970-01-01T00:00:01.000000Z","annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":""}}"#
    );
}

#[test]
fn objects_are_told_as_far_as_the_level_says() {
    for (level, request, response) in [("Request", true, false), ("RequestResponse", true, true)] {
        let (kept, trail) = trail(level);
        trail.requested(br#"{"a":1}"#);
        trail.responded(b"{\n \"b\": 2\n}\n");
        drop(Ending(trail));
        let event = kept.0.lock()[1].clone();
        assert_eq!(event.get("requestObject").is_some(), request);
        assert_eq!(
            event.get("responseObject").map(Value::to_string),
            response.then(|| r#"{"b":2}"#.to_owned())
        );
    }
}

#[test]
fn that_a_request_came_is_told_before_it_waits_and_with_its_answer_at_the_latest() {
    let (kept, waiting) = trail("Metadata");
    assert!(kept.0.lock().is_empty());
    waiting.release();
    assert_eq!(kept.0.lock()[0]["stage"], "RequestReceived");
    waiting.tell(Stage::ResponseComplete);
    assert_eq!(kept.0.lock().len(), 2);
    let (kept, lost) = trail("Metadata");
    drop(lost);
    assert_eq!(kept.0.lock()[0]["stage"], "RequestReceived");
}

#[test]
fn a_request_that_nobody_was_told_the_end_of_ends_all_the_same() {
    let (kept, unanswered) = trail("Metadata");
    unanswered.release();
    drop(unanswered);
    let told = kept.0.lock()[1].clone();
    assert_eq!(told["stage"], "ResponseComplete");
    assert_eq!(
        told["responseStatus"].to_string(),
        r#"{"metadata":{},"status":"Success","message":"Connection closed early","code":200}"#
    );
    let (kept, unread) = trail("Metadata");
    unread.coded(201);
    drop(unread);
    assert_eq!(kept.0.lock()[1]["responseStatus"].to_string(), r#"{"metadata":{},"code":201}"#);
    let (kept, answered) = trail("Metadata");
    answered.tell(Stage::ResponseComplete);
    drop(answered);
    assert_eq!(kept.0.lock().len(), 2);
}

#[test]
fn who_goes_on_as_somebody_else_is_told_twice() {
    let (kept, trail) = trail("Metadata");
    trail.goes_on_as(&Arc::new(UserInfo::new("jane", &["g"])));
    assert!(trail.findings.lock().impersonated.is_none());
    trail.goes_on_as(&Arc::new(UserInfo::new("bob", &[])));
    trail.tell(Stage::ResponseComplete);
    assert_eq!(kept.0.lock()[1]["impersonatedUser"]["username"], "bob");
}

/// What is told in the end.
fn last(kept: &Kept) -> Value {
    kept.0.lock().last().cloned().unwrap_or_default()
}

#[test]
fn a_failure_of_our_own_is_told_in_place_of_the_end_and_of_what_is_answered() {
    let (kept, trail) = trail("RequestResponse");
    trail.panicked("index out of bounds");
    trail.responded(br#"{"kind":"Status","apiVersion":"v1","message":"m","code":500}"#);
    trail.coded(500);
    trail.tell(Stage::ResponseStarted);
    trail.tell(Stage::ResponseComplete);
    trail.tell(Stage::ResponseComplete);
    let stages: Vec<Value> = kept.0.lock().iter().map(|event| event["stage"].clone()).collect();
    assert_eq!(stages, ["RequestReceived", "Panic"]);
    assert_eq!(
        last(&kept)["responseStatus"].to_string(),
        r#"{"metadata":{},"status":"Failure","message":"APIServer panic'd: index out of bounds","reason":"InternalError","code":500}"#
    );
    assert!(last(&kept).get("responseObject").is_none());
}

#[test]
fn whoever_catches_a_panic_tells_it_of_the_request_that_was_dropped_by_it() {
    let (kept, draft) = draft("Metadata");
    draft.begin(Some(&Arc::new(UserInfo::new("jane", &[]))));
    let payload = catch_unwind(AssertUnwindSafe(move || {
        let _mine = draft;
        panic!("number {}", 7);
    }))
    .unwrap_err();
    tell_panic(&*payload);
    assert_eq!(last(&kept)["stage"], "Panic");
    assert_eq!(last(&kept)["responseStatus"]["message"], "APIServer panic'd: number 7");
    let told = kept.0.lock().len();
    tell_panic(&*payload);
    assert_eq!(kept.0.lock().len(), told, "it is told of one request");
}

#[test]
fn an_answer_that_breaks_off_by_a_panic_has_not_been_completed() {
    let (kept, trail) = trail("Metadata");
    let ending = Ending(trail);
    let _ = catch_unwind(AssertUnwindSafe(move || {
        let _mine = ending;
        panic!("in the middle");
    }));
    assert_eq!(last(&kept)["stage"], "Panic");
}

#[test]
fn of_a_request_that_took_long_it_is_told_where_the_time_went() {
    for (wait, is_long) in [(500, false), (501, true)] {
        let (kept, trail) = trail("Metadata");
        trail.took(Layer::MutatingWebhook, Duration::from_millis(200));
        trail.took(Layer::MutatingWebhook, Duration::from_micros(1_500));
        trail.took(Layer::ValidatingWebhook, Duration::from_millis(30));
        trail.took(Layer::ValidatingWebhook, Duration::from_millis(20));
        trail.auditing.clock.advance(Duration::from_millis(wait));
        trail.tell(Stage::ResponseComplete);
        let told = last(&kept)["annotations"].to_string();
        let expected = r#"{"apiserver.latency.k8s.io/mutating-webhook":"201.5ms","apiserver.latency.k8s.io/total":"501ms","apiserver.latency.k8s.io/validating-webhook":"30ms"}"#;
        assert_eq!(told, if is_long { expected } else { "null" });
    }
}

/// One user asks for one thing again and again while policies come and go.
#[test]
fn what_a_policy_says_counts_for_as_long_as_it_is_in_force() {
    let info = Arc::new(RequestInfo::parse(&http::Method::GET, "/api/v1/pods", "").unwrap());
    let users = ["jane", "joe"].map(|name| Arc::new(UserInfo::new(name, &[])));
    let (audit, asked) = (Audit::default(), Asked::Read(info));
    for (ones, others) in [("Metadata", "None"), ("None", "Request"), ("Metadata", "None")] {
        let policy = format!(r#"{{"rules":[{{"level":"{ones}","users":["jane"]}},{{"level":"{others}"}}]}}"#);
        audit.configure(serde_json::from_str(&policy).unwrap(), vec![], false, Clock::system());
        let auditing = audit.current().unwrap();
        for _ in 0..3 {
            let told = [Some(&users[0]), Some(&users[1]), None]
                .map(|user| auditing.judge(user, &asked).level.name());
            assert_eq!(told, [ones, others, others]);
        }
    }
}
