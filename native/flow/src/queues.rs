//! The state of a priority level: who has seats, who waits in which queue, and whose turn it is.
//!
//! Source: apiserver `pkg/util/flowcontrol/fairqueuing/queueset`, whose `doc.go` explains the fair queuing: `R` is the
//! progress meter, which advances with the seats that each busy queue can have; a queue's next request is dispatched
//! in the order of the virtual time at which it would be done. Upstream goes through all queues at every step; here
//! sums are kept, and only a choice among waiting requests looks at queues.

use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;
use tokio::sync::oneshot;

use crate::classify::Asked;
use crate::counts::{LastDispatch, LevelCounts, Rejection};
use crate::dealing::Hand;
use crate::level::{Limits, Queuing, Start};
use crate::over_time::{Occupancy, OverTime};
use crate::retry::RetryAfter;
use crate::work::{Estimate, SeatSeconds, seconds};

/// How long a request is thought to take, until it is known: nanoseconds, as all times here.
const USUAL: u64 = 3_000_000;

fn usual(seats: usize) -> SeatSeconds {
    SeatSeconds::of_whole(seats as u64, USUAL)
}

/// A request, from its arrival until its seats are free again.
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Entry<A> {
    pub asked: A,
    pub slot: usize,
    pub queue: Option<usize>,
    pub estimate: Estimate,
    pub total: SeatSeconds,
    pub arrived: u64,
    pub arrived_r: SeatSeconds,
    /// None while it waits.
    pub started: Option<u64>,
    /// Served, but its last seats are still taken.
    pub lingers: bool,
    pub signal: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Keys of `entries`, oldest first.
    pub waiting: VecDeque<usize>,
    pub executing: usize,
    pub seats: usize,
    pub next_r: SeatSeconds,
    pub waiting_initial: usize,
    pub waiting_seats: usize,
    pub waiting_work: SeatSeconds,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.executing == 0
    }
}

#[cfg_attr(test, derive(Debug))]
pub(crate) struct State<A> {
    pub queuing: Queuing,
    pub limits: Limits,
    pub queues: Vec<Queue>,
    pub entries: Slab<Entry<A>>,
    robin: usize,
    arrivals: usize,
    pub r: SeatSeconds,
    last: u64,
    active: usize,
    pub present: Occupancy,
    /// Of the seats taken, those that belong to a queue.
    queued_seats: usize,
    pub over_time: OverTime,
    pub counts: LevelCounts,
    retry: RetryAfter,
}

impl<A: Asked> State<A> {
    pub fn new(queuing: Queuing, now: u64) -> Self {
        Self {
            queuing,
            limits: Limits::default(),
            queues: Vec::new(),
            entries: Slab::new(),
            robin: 0,
            arrivals: 0,
            r: SeatSeconds::ZERO,
            last: now,
            active: 0,
            present: Occupancy::default(),
            queued_seats: 0,
            over_time: OverTime::new(now),
            counts: LevelCounts::default(),
            retry: RetryAfter::default(),
        }
    }

    /// `queue`: where it is to wait.
    pub fn entry(
        &self,
        now: u64,
        asked: A,
        slot: usize,
        queue: Option<usize>,
        estimate: Estimate,
    ) -> Entry<A> {
        Entry {
            asked,
            slot,
            queue,
            estimate,
            total: usual(estimate.initial as usize) + SeatSeconds::of(estimate.last, estimate.lingers),
            arrived: now,
            arrived_r: self.r,
            started: None,
            lingers: false,
            signal: None,
        }
    }

    /// The progress meter goes on: by what each busy queue could have of the seats.
    pub fn pass(&mut self, now: u64) {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        if self.active > 0 {
            let wanted = (self.queued_seats + self.present.waiting_seats).min(self.limits.current as usize);
            self.r += SeatSeconds::of_share(wanted as f64 / self.active as f64, passed);
        }
    }

    pub fn limit(&mut self, now: u64, limits: Limits) {
        self.limits = limits;
        // A level that may have nothing is measured against something.
        let seats = f64::from(limits.current.max(1));
        let measures = &mut self.over_time;
        measures.settle(now);
        measures.executing.set_denominator(seats);
        measures.seats.set_denominator(seats);
        measures.demanded.set_denominator(f64::from(limits.nominal.max(1)));
        let places = match self.queuing {
            Queuing::Queue { queues, length, .. } => queues * length,
            Queuing::Exempt | Queuing::Reject => 1,
        };
        self.over_time.waiting.set_denominator(places as f64);
        self.dispatch(now, None);
        self.note(now);
    }

    pub fn has_room(&self, seats: u32) -> bool {
        let limit = self.limits.current as usize;
        match self.queuing {
            Queuing::Exempt => true,
            // Who wants more than there is must be alone.
            _ if seats as usize > limit => self.present.executing == 0,
            _ => self.present.seats + seats as usize <= limit,
        }
    }

    pub fn reject(&mut self, now: u64, slot: usize, why: Rejection) -> Start {
        self.counts.rejected += 1;
        self.counts.schemas[slot].rejected[why as usize] += 1;
        if why != Rejection::TimeOut {
            self.counts.schemas[slot].waited_in_vain.observe(0.0);
        }
        Start::Rejected(self.retry.dropped(now / 1_000_000_000))
    }

    /// Of the flow's hand, the queue with the least work waiting; among equals another one each time.
    pub fn pick(&mut self, hand: &Hand) -> usize {
        let first = self.first_of(hand);
        if self.present.waiting == 0 {
            // All are equal.
            return hand.cards().get(first).map_or(0, |card| *card as usize);
        }
        self.least_work(hand, first)
    }

    /// Which of the hand's queues is looked at first.
    pub fn first_of(&mut self, hand: &Hand) -> usize {
        let first = self.arrivals % hand.cards().len().max(1);
        self.arrivals = self.arrivals.wrapping_add(1);
        first
    }

    pub fn least_work(&self, hand: &Hand, first: usize) -> usize {
        let (before, turn) = hand.cards().split_at(first);
        let in_turn = turn.iter().chain(before).map(|card| *card as usize);
        in_turn.min_by_key(|number| self.queues[*number].waiting_work).unwrap_or(0)
    }

    /// Nobody waits, and there is room for so many seats more.
    pub fn is_free_for(&self, seats: u32) -> bool {
        let Occupancy { waiting, seats: taken, .. } = self.present;
        waiting == 0 && taken < self.limits.current as usize && self.has_room(seats)
    }

    /// What `enqueue` and `dispatch` come to where it is free for the request (`is_free_for`), in one step.
    pub fn seat_at_once(&mut self, now: u64, number: usize, mut entry: Entry<A>) -> usize {
        let counts = &mut self.counts.schemas[entry.slot];
        counts.queue_length.observe(1.0);
        counts.waited.observe(0.0);
        self.join(number);
        let queue = &mut self.queues[number];
        queue.next_r = queue.next_r.max(entry.arrived_r);
        self.turn(number, entry.total, self.sole(number));
        entry.estimate = entry.estimate.within(self.limits.current.max(1));
        self.take_seats(entry.slot, Some(number), entry.estimate.seats() as usize);
        entry.started = Some(now);
        self.entries.insert(entry)
    }

    /// A queue that was idle begins where the others are.
    fn join(&mut self, number: usize) {
        let queue = &mut self.queues[number];
        if queue.is_idle() {
            queue.next_r = self.r;
            self.active += 1;
        }
    }

    /// It is the queue's turn, and its next request's, which is worth `work`.
    fn turn(&mut self, number: usize, work: SeatSeconds, last: LastDispatch) {
        self.robin = number;
        self.counts.last = last;
        let queue = &mut self.queues[number];
        queue.executing += 1;
        queue.next_r += work;
    }

    pub fn enqueue(&mut self, key: usize, number: usize) {
        self.join(number);
        let (entry, queue) = (&self.entries[key], &mut self.queues[number]);
        let (initial, seats) = (entry.estimate.initial as usize, entry.estimate.seats() as usize);
        queue.waiting.push_back(key);
        queue.waiting_initial += initial;
        queue.waiting_seats += seats;
        queue.waiting_work += entry.total;
        self.present.waiting += 1;
        self.present.waiting_seats += seats;
        let counts = &mut self.counts.schemas[entry.slot];
        counts.queue_length.observe(queue.waiting.len() as f64);
        counts.waiting += 1;
        counts.waiting_seats += seats;
        self.bound(number);
    }

    pub fn dequeue(&mut self, now: u64, key: usize, number: usize) {
        let (entry, queue) = (&self.entries[key], &mut self.queues[number]);
        let seats = entry.estimate.seats() as usize;
        if queue.waiting.front() == Some(&key) {
            queue.waiting.pop_front();
        } else {
            queue.waiting.retain(|other| *other != key);
        }
        queue.waiting_initial -= entry.estimate.initial as usize;
        queue.waiting_seats -= seats;
        queue.waiting_work -= entry.total;
        self.present.waiting -= 1;
        self.present.waiting_seats -= seats;
        let counts = &mut self.counts.schemas[entry.slot];
        counts.waiting -= 1;
        counts.waiting_seats -= seats;
        let waited = seconds(now.saturating_sub(entry.arrived));
        if entry.started.is_some() { &mut counts.waited } else { &mut counts.waited_in_vain }.observe(waited);
        self.settle_queue(number);
    }

    /// It may have become idle; its next request does not run ahead of its arrival.
    fn settle_queue(&mut self, number: usize) {
        if self.queues[number].is_idle() {
            self.active -= 1;
        }
        self.bound(number);
        self.drop_spare_queues();
    }

    /// What is not used in an hour gives no advance over others.
    fn bound(&mut self, number: usize) {
        let Some(queue) = self.queues.get_mut(number) else { return };
        if let Some(oldest) = queue.waiting.front() {
            queue.next_r = queue.next_r.max(self.entries[*oldest].arrived_r);
        }
    }

    /// Queues that a smaller configuration has no use for go when they are empty, from the end.
    pub fn drop_spare_queues(&mut self) {
        let wanted = match self.queuing {
            Queuing::Queue { queues, .. } => queues,
            Queuing::Exempt | Queuing::Reject => 0,
        };
        while self.queues.len() > wanted
            && self.queues.last().is_some_and(|queue| queue.is_idle() && queue.seats == 0)
        {
            self.queues.pop();
        }
    }

    /// Gives seats to who waits, as long as there are some. `only`: the queue that was just joined, which needs no
    /// search where nobody else waits.
    pub fn dispatch(&mut self, now: u64, only: Option<usize>) {
        while self.present.waiting > 0 && self.present.seats < self.limits.current as usize {
            let alone = only.filter(|number| self.queues[*number].waiting.len() == self.present.waiting);
            let Some((number, last)) =
                alone.map_or_else(|| self.next(), |number| Some((number, self.sole(number))))
            else {
                return;
            };
            let key = self.queues[number].waiting[0];
            let (seats, slot) = (self.entries[key].estimate.seats(), self.entries[key].slot);
            if !self.has_room(seats) {
                self.counts.schemas[slot].without_room += 1;
                return;
            }
            self.narrow(key);
            self.entries[key].started = Some(now);
            // It counts as executing first, so that the queue is not idle in between.
            self.turn(number, self.entries[key].total, last);
            self.dequeue(now, key, number);
            self.seat(now, key);
            if let Some(signal) = self.entries[key].signal.take() {
                // Who does not listen any more leaves by itself.
                let _ = signal.send(());
            }
        }
    }

    fn sole(&self, number: usize) -> LastDispatch {
        let queue = &self.queues[number];
        let (s, discounted) = (queue.next_r, discounted(queue));
        LastDispatch { r: self.r, s, bounds: (s, s), discounted: (discounted, discounted) }
    }

    /// The queue whose oldest request would be done first; among equals the next one in turn.
    fn next(&self) -> Option<(usize, LastDispatch)> {
        let all = self.queues.len();
        let mut best: Option<(SeatSeconds, usize)> = None;
        let mut bounds = (SeatSeconds::MAX, SeatSeconds::ZERO);
        let mut less = bounds;
        for number in (1..=all).map(|step| (self.robin + step) % all) {
            let queue = &self.queues[number];
            let Some(oldest) = queue.waiting.front() else { continue };
            let discounted = discounted(queue);
            bounds = (bounds.0.min(queue.next_r), bounds.1.max(queue.next_r));
            less = (less.0.min(discounted), less.1.max(discounted));
            let done = queue.next_r + self.entries[*oldest].total;
            if best.is_none_or(|(earliest, _)| done < earliest) {
                best = Some((done, number));
            }
        }
        let (_, number) = best?;
        let s = self.queues[number].next_r;
        Some((number, LastDispatch { r: self.r, s, bounds, discounted: less }))
    }

    /// Of who waits; see `Estimate::within`.
    fn narrow(&mut self, key: usize) {
        let entry = &mut self.entries[key];
        let wide = entry.estimate.seats();
        entry.estimate = entry.estimate.within(self.limits.current.max(1));
        let freed = (wide - entry.estimate.seats()) as usize;
        if let Some(number) = entry.queue {
            self.queues[number].waiting_seats -= freed;
            self.present.waiting_seats -= freed;
            self.counts.schemas[entry.slot].waiting_seats -= freed;
        }
    }

    pub fn seat(&mut self, now: u64, key: usize) {
        let entry = &mut self.entries[key];
        entry.started = Some(now);
        let (slot, queue, seats) = (entry.slot, entry.queue, entry.estimate.seats() as usize);
        self.take_seats(slot, queue, seats);
    }

    fn take_seats(&mut self, slot: usize, queue: Option<usize>, seats: usize) {
        self.present.executing += 1;
        self.present.seats += seats;
        if let Some(number) = queue {
            self.queues[number].seats += seats;
            self.queued_seats += seats;
        }
        self.counts.dispatched += 1;
        let counts = &mut self.counts.schemas[slot];
        counts.dispatched += 1;
        counts.executing += 1;
        counts.executing_seats += seats;
    }

    pub fn finish(&mut self, now: u64, key: usize) -> Option<Duration> {
        let entry = &mut self.entries[key];
        let took = now.saturating_sub(entry.started.unwrap_or(now));
        self.present.executing -= 1;
        let counts = &mut self.counts.schemas[entry.slot];
        counts.executing -= 1;
        if entry.asked.is_watch() { &mut counts.initialized } else { &mut counts.executed }
            .observe(seconds(took));
        entry.lingers = true;
        let (initial, lingers) = (entry.estimate.initial as usize, entry.estimate.lingers);
        if let Some(number) = entry.queue {
            let queue = &mut self.queues[number];
            queue.executing -= 1;
            // What it took is known now.
            queue.next_r += SeatSeconds::of_whole(initial as u64, took) - usual(initial);
            self.settle_queue(number);
        }
        if lingers.is_zero() {
            self.vacate(key);
            return None;
        }
        Some(lingers)
    }

    pub fn vacate(&mut self, key: usize) {
        let entry = self.entries.remove(key);
        let seats = entry.estimate.seats() as usize;
        self.present.seats -= seats;
        self.counts.schemas[entry.slot].executing_seats -= seats;
        if let Some(number) = entry.queue {
            self.queues[number].seats -= seats;
            self.queued_seats -= seats;
            self.drop_spare_queues();
        }
    }

    /// What is measured over time has changed; told once, at the end of whatever happens at a moment.
    pub fn note(&mut self, now: u64) {
        self.over_time.note(now, self.present);
    }
}

fn discounted(queue: &Queue) -> SeatSeconds {
    queue.next_r - usual(queue.seats)
}
