//! What holds whatever is asked: seats are never given twice, nobody is forgotten, and a busy flow holds up no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Attributes;
use kubecore_flow::work::Estimate;
use kubecore_flow::{Admitted, Asked, Class, Cost, Flow, Level, Objects, Start};
use proptest::prelude::*;
use tokio::sync::oneshot::Receiver;

struct Get(UserInfo);

impl Asked for Get {
    fn user(&self) -> &UserInfo {
        &self.0
    }
    fn attributes(&self) -> Attributes<'_> {
        let resource = Attributes { verb: "get", version: "v1", resource: "pods", ..Attributes::default() };
        Attributes { namespace: "a", name: "p", is_resource: true, ..resource }
    }
}

fn classified(flow: &Flow<Get>, asked: &Get) -> Class<Get> {
    let class = flow.classify(asked.user(), &asked.attributes()).unwrap();
    assert!(flow.schema_of(&class).is_some());
    class
}

fn admitted(
    flow: &Flow<Get>,
    now: Duration,
    asked: Get,
    cost: impl FnOnce(&Get, u32) -> Cost,
) -> Admitted<Get> {
    let class = classified(flow, &asked);
    flow.admit(now, asked, &class, cost)
}

/// One level that everybody's requests come to, each user's being a flow.
fn one_level(seats: u32, response: &str) -> Flow<Get> {
    let level = |name: &str, response: &str| {
        format!(
            r#"{{"name":"{name}","uid":"l-{name}","spec":{{"type":"Limited",
                "limited":{{"nominalConcurrencyShares":1,"limitResponse":{response}}}}}}}"#
        )
    };
    let rule = r#"{"subjects":[{"kind":"User","user":{"name":"*"}}],
        "resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"namespaces":["*"]}]}"#;
    let text = format!(
        r#"{{"seats":{seats},"levels":[{}],"schemas":[{{"name":"s","uid":"s","spec":{{
            "priorityLevelConfiguration":{{"name":"l"}},"distinguisherMethod":{{"type":"ByUser"}},"rules":[{rule}]}}}}]}}"#,
        level("l", response)
    );
    let objects: Objects = serde_json::from_str(&text).unwrap();
    let flow = Flow::default();
    flow.configure(Duration::ZERO, objects);
    flow
}

fn queues(queues: usize, hand: usize, length: usize) -> String {
    format!(
        r#"{{"type":"Queue","queuing":{{"queues":{queues},"handSize":{hand},"queueLengthLimit":{length}}}}}"#
    )
}

struct Wait {
    user: usize,
    key: usize,
    came: u64,
    service: u64,
    seated: Receiver<()>,
}

/// A server in virtual time, in microseconds, whose requests take as long as is said.
struct Simulation {
    flow: Flow<Get>,
    now: u64,
    waiting: Vec<Wait>,
    /// (when it is done, its number) → (user, key)
    executing: BTreeMap<(u64, usize), (usize, usize)>,
    number: usize,
    waits: BTreeMap<usize, Vec<u64>>,
    done: Vec<usize>,
    rejected: usize,
}

impl Simulation {
    fn new(flow: Flow<Get>) -> Self {
        Self {
            flow,
            now: 0,
            waiting: Vec::new(),
            executing: BTreeMap::new(),
            number: 0,
            waits: BTreeMap::new(),
            done: Vec::new(),
            rejected: 0,
        }
    }

    fn at(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn level(&self) -> Arc<Level<Get>> {
        let class = classified(&self.flow, &Get(UserInfo::new("x", &[])));
        self.flow.schema_of(&class).unwrap().level.clone()
    }

    fn ask(&mut self, user: usize, service: u64, seats: u32) {
        let asked = Get(UserInfo::new(format!("user-{user}"), &[]));
        let estimate = Estimate::seats_of(seats);
        let cost = |_: &Get, _| Cost { estimate, watchers: None };
        let Admitted { start, .. } = admitted(&self.flow, self.at(), asked, cost);
        match start {
            Start::Seated(key) => self.begin(user, key, self.now, service),
            Start::Waiting(key, seated) => {
                self.waiting.push(Wait { user, key, came: self.now, service, seated });
            }
            Start::Rejected(seconds) => {
                assert!(seconds >= 1);
                self.rejected += 1;
            }
        }
    }

    fn begin(&mut self, user: usize, key: usize, came: u64, service: u64) {
        self.number += 1;
        self.executing.insert((self.now + service, self.number), (user, key));
        self.waits.entry(user).or_default().push(self.now - came);
    }

    fn seat_who_may(&mut self) {
        let (mut seated, mut waiting) = (Vec::new(), Vec::new());
        for mut wait in std::mem::take(&mut self.waiting) {
            if wait.seated.try_recv().is_ok() { seated.push(wait) } else { waiting.push(wait) }
        }
        self.waiting = waiting;
        for wait in seated {
            self.begin(wait.user, wait.key, wait.came, wait.service);
        }
    }

    /// Until `until`, or until nothing is under way.
    fn run(&mut self, until: u64) {
        loop {
            self.seat_who_may();
            let next = self.executing.first_key_value().map(|(at, _)| *at).filter(|(at, _)| *at <= until);
            let Some(at) = next else { break };
            self.now = at.0;
            let (user, key) = self.executing.remove(&at).unwrap();
            self.level().finish(self.at(), key);
            self.done.push(user);
        }
        self.now = until;
    }
}

proptest! {
    #[test]
    fn no_more_seats_are_taken_than_there_are_and_everybody_is_served_or_sent_away(
        seats in 1u32..8,
        requests in prop::collection::vec((0usize..4, 0u64..3_000, 1u64..5_000, 1u32..4), 1..120),
        leaves in prop::collection::vec(any::<bool>(), 120),
    ) {
        let mut simulation = Simulation::new(one_level(seats, &queues(8, 2, 6)));
        let (mut asked, mut left) = (0, 0);
        for ((user, pause, service, width), leaves) in requests.into_iter().zip(leaves) {
            simulation.run(simulation.now + pause);
            simulation.ask(user, service, width.min(seats));
            asked += 1;
            if leaves && let Some(wait) = simulation.waiting.pop() {
                match simulation.level().leave(simulation.at(), wait.key, true) {
                    Some(_) => left += 1,
                    None => simulation.begin(wait.user, wait.key, wait.came, wait.service),
                }
            }
            let (taken, limit) = simulation.level().seats();
            prop_assert!(taken <= limit as usize, "{taken} of {limit} seats are taken");
        }
        simulation.run(u64::MAX / 2_000);
        prop_assert_eq!(simulation.done.len() + simulation.rejected + left, asked);
        prop_assert!(simulation.waiting.is_empty());
        prop_assert_eq!(simulation.level().seats().0, 0);
        prop_assert!(simulation.level().is_idle());
    }

    #[test]
    fn a_level_that_queues_nobody_sends_away_who_finds_no_seat(
        requests in prop::collection::vec((0u64..2_000, 1u64..5_000), 1..60)
    ) {
        let mut simulation = Simulation::new(one_level(2, r#"{"type":"Reject"}"#));
        for (pause, service) in requests {
            simulation.run(simulation.now + pause);
            let (taken, before) = (simulation.level().seats().0, simulation.rejected);
            simulation.ask(0, service, 1);
            prop_assert_eq!(simulation.rejected > before, taken == 2);
            prop_assert!(simulation.waiting.is_empty());
        }
    }
}

/// Ten seats, ten times as many requests under way of one user, and another who asks one after the other.
#[test]
fn under_tenfold_overload_by_one_flow_another_flow_waits_less_than_two_requests() {
    let (service, pause) = (10_000, 7_000);
    let mut simulation = Simulation::new(one_level(10, &queues(64, 6, 50)));
    for number in 0..100 {
        simulation.ask(0, service - 50 * (number % 20), 1);
    }
    let mut asked = 0;
    for step in 1..6_000 {
        let before = simulation.done.len();
        simulation.run(step * 500);
        let served: Vec<usize> = simulation.done[before..].to_vec();
        for user in served {
            if user == 0 {
                simulation.ask(0, service, 1);
            }
        }
        if simulation.now.is_multiple_of(pause) {
            simulation.ask(1, service, 1);
            asked += 1;
        }
    }
    let mut waits = simulation.waits[&1].clone();
    waits.sort_unstable();
    assert!(waits.len() + 2 >= asked, "{} of {asked}", waits.len());
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 <= 2 * service, "the other flow waited {p99} µs");
    let busy = &simulation.waits[&0];
    assert!(busy.iter().sum::<u64>() / busy.len() as u64 > 5 * service, "the busy flow is what waits");
}

#[test]
fn flows_that_ask_for_all_they_can_get_share_alike() {
    let mut simulation = Simulation::new(one_level(4, &queues(64, 4, 100)));
    for user in 0..3 {
        (0..40 * (user + 1)).for_each(|_| simulation.ask(user, 5_000, 1));
    }
    for step in 1..=400 {
        let before = simulation.done.len();
        simulation.run(step * 1_000);
        let served: Vec<usize> = simulation.done[before..].to_vec();
        for user in served {
            simulation.ask(user, 5_000, 1);
        }
    }
    let served = |user| simulation.done.iter().filter(|done| **done == user).count() as f64;
    for user in 1..3 {
        let ratio = served(user) / served(0);
        assert!((0.5..=2.0).contains(&ratio), "user {user} got {ratio} times what user 0 got");
    }
}

#[test]
fn seats_that_a_level_does_not_need_are_lent_to_one_that_does_and_come_back() {
    let level = |name: &str| {
        let limited = r#"{"nominalConcurrencyShares":1,"lendablePercent":50,
            "limitResponse":{"type":"Queue","queuing":{"queues":4,"handSize":1,"queueLengthLimit":100}}}"#;
        format!(r#"{{"name":"{name}","spec":{{"limited":{limited}}}}}"#)
    };
    let schema = |user: &str, level: &str| {
        let rule =
            r#""resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"namespaces":["*"]}]"#;
        format!(
            r#"{{"name":"{level}","spec":{{"priorityLevelConfiguration":{{"name":"{level}"}},
                "rules":[{{"subjects":[{{"kind":"User","user":{{"name":"{user}"}}}}],{rule}}}]}}}}"#
        )
    };
    let text = format!(
        r#"{{"seats":20,"levels":[{},{}],"schemas":[{},{}]}}"#,
        level("a"),
        level("b"),
        schema("user-0", "a"),
        schema("user-1", "b")
    );
    let flow = Flow::default();
    flow.configure(Duration::ZERO, serde_json::from_str(&text).unwrap());
    let ask = |user: usize, second: u64| {
        let asked = Get(UserInfo::new(format!("user-{user}"), &[]));
        let cost = |_: &Get, _| Cost { estimate: Estimate::ONE, watchers: None };
        admitted(&flow, Duration::from_secs(second), asked, cost)
    };
    let limits = |of: &Admitted<Get>| of.schema.level.limits();
    let first: Vec<_> = (0..40).map(|_| ask(0, 1)).collect();
    assert_eq!((limits(&first[0]).nominal, limits(&first[0]).lower), (10, 5));
    let later = ask(1, 25);
    assert_eq!((limits(&first[0]).current, limits(&later).current), (15, 5), "b keeps what it does not lend");
    let second: Vec<_> = (0..40).map(|_| ask(1, 26)).collect();
    ask(0, 36);
    assert_eq!((limits(&first[0]).current, limits(&second[0]).current), (10, 10));
}

#[test]
fn what_a_request_was_classified_as_is_void_when_something_else_is_in_force() {
    let flow = one_level(10, r#"{"type":"Reject"}"#);
    let asked = Get(UserInfo::new("jane", &[]));
    let class = flow.classify(asked.user(), &asked.attributes()).unwrap();
    assert_eq!(&*flow.schema_of(&class).unwrap().name, "s");
    let other = r#"{"seats":10,"levels":[{"name":"l","spec":{"limited":{"nominalConcurrencyShares":1}}}],
        "schemas":[{"name":"t","spec":{"priorityLevelConfiguration":{"name":"l"}}}]}"#;
    flow.configure(Duration::from_secs(1), serde_json::from_str(other).unwrap());
    assert!(flow.schema_of(&class).is_none());
    assert_eq!(&*flow.schema_of(&classified(&flow, &asked)).unwrap().name, "t");
    assert!(one_level(10, r#"{"type":"Reject"}"#).schema_of(&class).is_none(), "another server's");
}
