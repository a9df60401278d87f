//! A priority level: requests come to it, get seats at once or after a while, and give them back.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::classify::Asked;
use crate::counts::Rejection;
use crate::dealing::Hand;
use crate::demand::Demand;
use crate::queues::{Entry, Queue, State};
use crate::work::{Estimate, nanoseconds};

/// How requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queuing {
    /// Nobody ever waits, there is no limit.
    Exempt,
    /// Nobody waits: who finds no seat is sent away.
    Reject,
    Queue {
        queues: usize,
        hand: usize,
        length: usize,
    },
}

/// Seats of a level, as configured and as they are for now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub nominal: u32,
    pub lower: u32,
    pub upper: u32,
    pub current: u32,
    pub demand: Demand,
    pub target: f64,
}

/// What comes with a request to its level.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Where its schema is counted.
    pub slot: usize,
    /// Of its flow.
    pub hand: &'a Hand,
    pub estimate: Estimate,
    /// Of a write: how many will hear of it.
    pub watchers: Option<u32>,
}

pub struct Level<A> {
    pub name: Arc<str>,
    pub(crate) state: Mutex<State<A>>,
}

/// What becomes of a request that has come.
pub enum Start {
    /// It has its seats; `Level::finish` gives them back.
    Seated(usize),
    /// It has them once the receiver says so; `Level::leave` ends the wait, `Level::finish` what follows.
    Waiting(usize, oneshot::Receiver<()>),
    /// After so many seconds it may come again.
    Rejected(u64),
}

impl<A: Asked> Level<A> {
    pub fn new(name: &str, queuing: Queuing, now: Duration) -> Self {
        Self { name: name.into(), state: Mutex::new(State::new(queuing, nanoseconds(now))) }
    }

    pub fn start(&self, now: Duration, asked: A, arrival: Arrival<'_>) -> Start {
        let now = nanoseconds(now);
        let Arrival { slot, hand, estimate, watchers } = arrival;
        let mut state = self.state.lock();
        state.pass(now);
        state.counts.schemas[slot].comes(&estimate, watchers);
        let Queuing::Queue { queues, hand: size, length } = state.queuing else {
            return start_or_reject(&mut state, now, asked, &arrival);
        };
        let number = if hand.is_of(queues, size) {
            state.pick(hand)
        } else {
            // It was dealt for what was in force before.
            state.pick(&hand.dealt_anew(queues, size))
        };
        let entry = state.entry(now, asked, slot, Some(number), estimate);
        if state.is_free_for(estimate.seats()) {
            let key = state.seat_at_once(now, number, entry);
            state.note(now);
            return Start::Seated(key);
        }
        line_up(&mut state, now, number, entry, length)
    }

    /// The request has been served. Some: its last seats are to be freed (`vacate`) after that time.
    pub fn finish(&self, now: Duration, key: usize) -> Option<Duration> {
        let now = nanoseconds(now);
        let mut state = self.state.lock();
        state.pass(now);
        let lingers = state.finish(now, key);
        state.dispatch(now, None);
        state.note(now);
        lingers
    }

    /// What was told of a write has been: its last seats are free.
    pub fn vacate(&self, now: Duration, key: usize) {
        let now = nanoseconds(now);
        let mut state = self.state.lock();
        state.pass(now);
        state.vacate(key);
        state.dispatch(now, None);
        state.note(now);
    }

    /// Nobody waits for the seats any more. None: it has them meanwhile. Else when it may come again.
    pub fn leave(&self, now: Duration, key: usize, timed_out: bool) -> Option<u64> {
        let now = nanoseconds(now);
        let mut state = self.state.lock();
        state.pass(now);
        let entry = &state.entries[key];
        if entry.started.is_some() {
            return None;
        }
        let (slot, number) = (entry.slot, entry.queue?);
        state.dequeue(now, key, number);
        state.entries.remove(key);
        state.counts.cancelled += 1;
        state.counts.timed_out += u64::from(timed_out);
        let Start::Rejected(seconds) = state.reject(now, slot, Rejection::TimeOut) else { return None };
        // Who is behind it may need less.
        state.dispatch(now, None);
        state.note(now);
        Some(seconds)
    }

    /// Where the requests of a schema are counted.
    pub(crate) fn slot(&self, schema: &str) -> usize {
        self.state.lock().counts.slot(schema)
    }

    pub fn is_idle(&self) -> bool {
        self.state.lock().entries.is_empty()
    }

    /// Seats taken now, and the limit.
    pub fn seats(&self) -> (usize, u32) {
        let state = self.state.lock();
        (state.present.seats, state.limits.current)
    }

    pub fn limits(&self) -> Limits {
        self.state.lock().limits
    }

    /// Another form of queuing, other seats; who waits stays where he is.
    pub fn configure(&self, now: Duration, queuing: Queuing, limits: Limits) {
        let now = nanoseconds(now);
        let mut state = self.state.lock();
        state.pass(now);
        state.queuing = queuing;
        if let Queuing::Queue { queues, .. } = queuing
            && state.queues.len() < queues
        {
            state.queues.resize_with(queues, Queue::default);
        }
        state.drop_spare_queues();
        state.limit(now, limits);
    }

    /// What was needed in the period that ends now.
    pub fn measure(&self, now: Duration, period: Duration) -> Limits {
        let mut state = self.state.lock();
        let State { limits, over_time, present, .. } = &mut *state;
        over_time.settle(nanoseconds(now));
        limits.demand.update(&mut over_time.demand, present.wanted(), period);
        state.limits
    }

    pub fn limit(&self, now: Duration, current: u32, target: f64) {
        let now = nanoseconds(now);
        let mut state = self.state.lock();
        state.pass(now);
        let limits = Limits { current, target, ..state.limits };
        state.limit(now, limits);
    }
}

/// Where nobody waits.
fn start_or_reject<A: Asked>(state: &mut State<A>, now: u64, asked: A, arrival: &Arrival<'_>) -> Start {
    let Arrival { slot, estimate, .. } = *arrival;
    if !state.has_room(estimate.seats()) {
        return state.reject(now, slot, Rejection::NoSeat);
    }
    let entry = state.entry(now, asked, slot, None, estimate);
    let key = state.entries.insert(entry);
    state.seat(now, key);
    state.note(now);
    if state.queuing == Queuing::Reject {
        state.counts.schemas[slot].waited.observe(0.0);
    }
    Start::Seated(key)
}

/// A request waits in the queue, unless it is full, until it is its turn.
fn line_up<A: Asked>(state: &mut State<A>, now: u64, number: usize, entry: Entry<A>, length: usize) -> Start {
    let is_full = state.queues[number].waiting.len() >= length;
    if is_full && state.present.seats >= state.limits.current as usize {
        return state.reject(now, entry.slot, Rejection::QueueFull);
    }
    let key = state.entries.insert(entry);
    state.enqueue(key, number);
    state.dispatch(now, Some(number));
    state.note(now);
    let entry = &mut state.entries[key];
    if entry.started.is_some() {
        return Start::Seated(key);
    }
    let (signal, seated) = oneshot::channel();
    entry.signal = Some(signal);
    Start::Waiting(key, seated)
}

#[cfg(test)]
mod tests;
