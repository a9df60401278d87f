//! Who is seated at once is served as if he had stood in a queue for no time.

use kubecore_core::authn::UserInfo;
use kubecore_core::rbac::Attributes;
use proptest::prelude::*;
use tokio::sync::oneshot::Receiver;

use super::*;

#[derive(Debug)]
struct Somebody {
    user: UserInfo,
    watches: bool,
}

impl Asked for Somebody {
    fn user(&self) -> &UserInfo {
        &self.user
    }
    fn attributes(&self) -> Attributes<'_> {
        Attributes { verb: if self.watches { "watch" } else { "get" }, ..Attributes::default() }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Come { flow: u64, estimate: Estimate, watchers: Option<u32>, watches: bool },
    Finish(usize),
    Vacate(usize),
    Leave(usize, bool),
    Limit(u32),
    Configure(usize, usize),
    Measure,
}

fn steps() -> impl Strategy<Value = Step> {
    let estimate = (1_u32..4, 0_u32..9, 0_u64..30).prop_map(|(initial, last, millis)| match last {
        0..4 => Estimate::seats_of(initial),
        _ => Estimate { initial, last, lingers: Duration::from_millis(millis) },
    });
    let come = (0_u64..6, estimate, prop::option::of(0_u32..50), any::<bool>())
        .prop_map(|(flow, estimate, watchers, watches)| Step::Come { flow, estimate, watchers, watches });
    prop_oneof![
        8 => come,
        8 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Vacate),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, late)| Step::Leave(which, late)),
        1 => (0_u32..12).prop_map(Step::Limit),
        1 => (1_usize..9, 1_usize..4).prop_map(|(queues, hand)| Step::Configure(queues, hand)),
        1 => Just(Step::Measure),
    ]
}

/// A level, and who is where.
struct Side {
    level: Level<Somebody>,
    at_once: bool,
    waiting: Vec<(usize, Receiver<()>)>,
    served: Vec<usize>,
    lingering: Vec<usize>,
}

impl Side {
    fn new(at_once: bool) -> Self {
        let level = Level::new("l", queuing(8, 3), Duration::ZERO);
        level.slot("s");
        level.configure(
            Duration::ZERO,
            queuing(8, 3),
            Limits { nominal: 5, current: 4, ..Limits::default() },
        );
        Self { level, at_once, waiting: Vec::new(), served: Vec::new(), lingering: Vec::new() }
    }

    /// Through the queue in any case.
    fn start_slowly(&self, now: Duration, asked: Somebody, arrival: Arrival<'_>) -> Start {
        let (now, Arrival { slot, hand, estimate, watchers }) = (nanoseconds(now), arrival);
        let mut state = self.level.state.lock();
        state.pass(now);
        state.counts.schemas[slot].comes(&estimate, watchers);
        let Queuing::Queue { queues, hand: size, length } = state.queuing else { unreachable!() };
        let hand = hand.dealt_anew(queues, size);
        let first = state.first_of(&hand);
        let number = state.least_work(&hand, first);
        let entry = state.entry(now, asked, slot, Some(number), estimate);
        line_up(&mut state, now, number, entry, length)
    }

    fn come(&mut self, now: Duration, asked: Somebody, arrival: Arrival<'_>) -> Option<u64> {
        let start = if self.at_once {
            self.level.start(now, asked, arrival)
        } else {
            self.start_slowly(now, asked, arrival)
        };
        match start {
            Start::Seated(key) => self.served.push(key),
            Start::Waiting(key, seated) => self.waiting.push((key, seated)),
            Start::Rejected(seconds) => return Some(seconds),
        }
        None
    }

    /// What comes out of it is to be the same on both sides.
    fn take(&mut self, now: Duration, step: &Step) -> Option<u64> {
        let level = &self.level;
        match *step {
            Step::Come { flow, estimate, watchers, watches } => {
                let asked = Somebody { user: UserInfo::new(flow.to_string(), &[]), watches };
                // Dealt for the first configuration, as by who asked before there was another.
                let hand = &Hand::deal(flow.wrapping_mul(0x9e37_79b9_7f4a_7c15), 8, 3);
                return self.come(now, asked, Arrival { slot: 0, hand, estimate, watchers });
            }
            Step::Finish(which) if !self.served.is_empty() => {
                let key = self.served.swap_remove(which % self.served.len());
                let lingers = level.finish(now, key)?;
                self.lingering.push(key);
                return Some(nanoseconds(lingers));
            }
            Step::Vacate(which) if !self.lingering.is_empty() => {
                level.vacate(now, self.lingering.swap_remove(which % self.lingering.len()));
            }
            Step::Leave(which, late) if !self.waiting.is_empty() => {
                let (key, _) = self.waiting.swap_remove(which % self.waiting.len());
                return level.leave(now, key, late);
            }
            Step::Limit(current) => level.limit(now, current, f64::from(current)),
            Step::Configure(queues, hand) => level.configure(now, queuing(queues, hand), level.limits()),
            Step::Measure => drop(level.measure(now, Duration::from_secs(10))),
            Step::Finish(_) | Step::Vacate(_) | Step::Leave(..) => {}
        }
        None
    }

    fn seat_who_may(&mut self) {
        let (seated, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, seated)| !seated.is_empty());
        self.waiting = waiting;
        self.served.extend(seated.into_iter().map(|(key, _)| key));
    }
}

fn queuing(queues: usize, hand: usize) -> Queuing {
    Queuing::Queue { queues, hand, length: 3 }
}

proptest! {
    #[test]
    fn nothing_tells_who_was_seated_at_once_from_who_was_first_in_a_queue(
        steps in prop::collection::vec((prop_oneof![Just(0), 0_u64..20_000_000], steps()), 1..150)
    ) {
        let (mut one, mut other) = (Side::new(true), Side::new(false));
        let mut now = Duration::from_millis(5);
        for (passed, step) in steps {
            now += Duration::from_nanos(passed);
            prop_assert_eq!(one.take(now, &step), other.take(now, &step));
            one.seat_who_may();
            other.seat_who_may();
            prop_assert_eq!(&one.served, &other.served);
            // Queues, entries, counts, distributions and whose turn it is.
            let states = [&one, &other].map(|side| format!("{:?}", side.level.state.lock()));
            prop_assert_eq!(&states[0], &states[1]);
        }
    }
}
