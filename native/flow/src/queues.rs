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
use crate::dealing::deal;
use crate::demand::Integrator;
use crate::level::{Limits, Queuing, Start};
use crate::retry::RetryAfter;
use crate::work::{Estimate, SeatSeconds};

/// How long a request is thought to take, until it is known.
const USUAL: Duration = Duration::from_millis(3);

/// A request, from its arrival until its seats are free again.
pub(crate) struct Entry<A> {
    pub asked: A,
    pub slot: usize,
    pub queue: Option<usize>,
    pub estimate: Estimate,
    pub total: SeatSeconds,
    pub arrived: Duration,
    pub arrived_r: SeatSeconds,
    /// None while it waits.
    pub started: Option<Duration>,
    /// Served, but its last seats are still taken.
    pub lingers: bool,
    pub signal: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
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

pub(crate) struct State<A> {
    pub queuing: Queuing,
    pub limits: Limits,
    pub queues: Vec<Queue>,
    pub entries: Slab<Entry<A>>,
    robin: usize,
    arrivals: usize,
    pub r: SeatSeconds,
    last: Duration,
    active: usize,
    pub waiting: usize,
    pub executing: usize,
    /// Taken, and of these those that belong to a queue; wanted by who waits.
    pub seats: usize,
    queued_seats: usize,
    waiting_seats: usize,
    pub demand: Integrator,
    pub counts: LevelCounts,
    retry: RetryAfter,
}

impl<A: Asked> State<A> {
    pub fn new(queuing: Queuing, now: Duration) -> Self {
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
            waiting: 0,
            executing: 0,
            seats: 0,
            queued_seats: 0,
            waiting_seats: 0,
            demand: Integrator::new(now),
            counts: LevelCounts::new(now),
            retry: RetryAfter::default(),
        }
    }

    pub fn entry(&self, now: Duration, asked: A, slot: usize, estimate: Estimate) -> Entry<A> {
        let total = SeatSeconds::of(f64::from(estimate.initial), USUAL)
            + SeatSeconds::of(f64::from(estimate.last), estimate.lingers);
        Entry {
            asked,
            slot,
            queue: None,
            estimate,
            total,
            arrived: now,
            arrived_r: self.r,
            started: None,
            lingers: false,
            signal: None,
        }
    }

    /// The progress meter goes on: by what each busy queue could have of the seats.
    pub fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        if self.active > 0 {
            let wanted = (self.queued_seats + self.waiting_seats).min(self.limits.current as usize);
            self.r += SeatSeconds::of(wanted as f64 / self.active as f64, passed);
        }
    }

    pub fn limit(&mut self, now: Duration, limits: Limits) {
        self.limits = limits;
        // A level that may have nothing is measured against something.
        let seats = f64::from(limits.current.max(1));
        self.counts.executing_ratio.set_denominator(now, seats);
        self.counts.seat_ratio.set_denominator(now, seats);
        self.counts.demand_ratio.set_denominator(now, f64::from(limits.nominal.max(1)));
        let places = match self.queuing {
            Queuing::Queue { queues, length, .. } => queues * length,
            Queuing::Exempt | Queuing::Reject => 1,
        };
        self.counts.waiting_ratio.set_denominator(now, places as f64);
        self.dispatch(now, None);
        self.note(now);
    }

    pub fn has_room(&self, seats: u32) -> bool {
        let limit = self.limits.current as usize;
        match self.queuing {
            Queuing::Exempt => true,
            // Who wants more than there is must be alone.
            _ if seats as usize > limit => self.executing == 0,
            _ => self.seats + seats as usize <= limit,
        }
    }

    pub fn reject(&mut self, now: Duration, slot: usize, why: Rejection) -> Start {
        self.counts.rejected += 1;
        self.counts.schemas[slot].rejected[why as usize] += 1;
        if why != Rejection::TimeOut {
            self.counts.schemas[slot].waited_in_vain.observe(0.0);
        }
        Start::Rejected(self.retry.dropped(now.as_secs()))
    }

    /// Of the flow's hand, the queue with the least work waiting; among equals another one each time.
    pub fn pick(&mut self, hash: u64, queues: usize, hand: usize) -> usize {
        let (cards, size) = deal(hash, queues, hand);
        let first = self.arrivals % size.max(1);
        self.arrivals = self.arrivals.wrapping_add(1);
        let in_turn = (0..size).map(|number| cards[(first + number) % size] as usize);
        in_turn.min_by_key(|number| self.queues[*number].waiting_work).unwrap_or(0)
    }

    pub fn enqueue(&mut self, key: usize, number: usize) {
        let (entry, queue) = (&self.entries[key], &mut self.queues[number]);
        if queue.is_idle() {
            queue.next_r = self.r;
            self.active += 1;
        }
        let (initial, seats) = (entry.estimate.initial as usize, entry.estimate.seats() as usize);
        queue.waiting.push_back(key);
        queue.waiting_initial += initial;
        queue.waiting_seats += seats;
        queue.waiting_work += entry.total;
        self.waiting += 1;
        self.waiting_seats += seats;
        let counts = &mut self.counts.schemas[entry.slot];
        counts.queue_length.observe(queue.waiting.len() as f64);
        counts.waiting += 1;
        counts.waiting_seats += seats;
        self.bound(number);
    }

    pub fn dequeue(&mut self, now: Duration, key: usize, number: usize) {
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
        self.waiting -= 1;
        self.waiting_seats -= seats;
        let counts = &mut self.counts.schemas[entry.slot];
        counts.waiting -= 1;
        counts.waiting_seats -= seats;
        let waited = now.saturating_sub(entry.arrived).as_secs_f64();
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
    pub fn dispatch(&mut self, now: Duration, only: Option<usize>) {
        while self.waiting > 0 && self.seats < self.limits.current as usize {
            let alone = only.filter(|number| self.queues[*number].waiting.len() == self.waiting);
            let Some((number, last)) = alone.map_or_else(|| self.next(), |number| Some(self.sole(number)))
            else {
                return;
            };
            let key = self.queues[number].waiting[0];
            let (seats, slot) = (self.entries[key].estimate.seats(), self.entries[key].slot);
            if !self.has_room(seats) {
                self.counts.schemas[slot].without_room += 1;
                return;
            }
            self.robin = number;
            self.counts.last = last;
            self.narrow(key);
            self.entries[key].started = Some(now);
            // It counts as executing first, so that the queue is not idle in between.
            self.queues[number].executing += 1;
            self.queues[number].next_r += self.entries[key].total;
            self.dequeue(now, key, number);
            self.seat(now, key);
            if let Some(signal) = self.entries[key].signal.take() {
                // Who does not listen any more leaves by itself.
                let _ = signal.send(());
            }
        }
    }

    fn sole(&self, number: usize) -> (usize, LastDispatch) {
        let queue = &self.queues[number];
        let (s, discounted) = (queue.next_r.seconds(), self.discounted(queue).seconds());
        (
            number,
            LastDispatch { r: self.r.seconds(), s, bounds: (s, s), discounted: (discounted, discounted) },
        )
    }

    fn discounted(&self, queue: &Queue) -> SeatSeconds {
        queue.next_r - SeatSeconds::of(queue.seats as f64, USUAL)
    }

    /// The queue whose oldest request would be done first; among equals the next one in turn.
    fn next(&self) -> Option<(usize, LastDispatch)> {
        let all = self.queues.len();
        let mut best: Option<(SeatSeconds, usize)> = None;
        let mut bounds = (SeatSeconds::MAX, SeatSeconds::ZERO);
        let mut discounted = (SeatSeconds::MAX, SeatSeconds::ZERO);
        for number in (1..=all).map(|step| (self.robin + step) % all) {
            let queue = &self.queues[number];
            let Some(oldest) = queue.waiting.front() else { continue };
            let less = self.discounted(queue);
            bounds = (bounds.0.min(queue.next_r), bounds.1.max(queue.next_r));
            discounted = (discounted.0.min(less), discounted.1.max(less));
            let done = queue.next_r + self.entries[*oldest].total;
            if best.is_none_or(|(earliest, _)| done < earliest) {
                best = Some((done, number));
            }
        }
        let (_, number) = best?;
        let last = LastDispatch {
            r: self.r.seconds(),
            s: self.queues[number].next_r.seconds(),
            bounds: (bounds.0.seconds(), bounds.1.seconds()),
            discounted: (discounted.0.seconds(), discounted.1.seconds()),
        };
        Some((number, last))
    }

    /// What lingers on more seats than there are lingers on fewer for longer.
    fn narrow(&mut self, key: usize) {
        let limit = self.limits.current.max(1);
        let entry = &mut self.entries[key];
        if entry.estimate.last <= limit {
            return;
        }
        let (wide, work) = (
            entry.estimate.seats() as usize,
            SeatSeconds::of(f64::from(entry.estimate.last), entry.estimate.lingers),
        );
        entry.estimate.last = limit;
        entry.estimate.lingers = work.spread_over(limit);
        let freed = wide - entry.estimate.seats() as usize;
        if let Some(number) = entry.queue {
            self.queues[number].waiting_seats -= freed;
            self.waiting_seats -= freed;
            self.counts.schemas[entry.slot].waiting_seats -= freed;
        }
    }

    pub fn seat(&mut self, now: Duration, key: usize) {
        let entry = &mut self.entries[key];
        let seats = entry.estimate.seats() as usize;
        entry.started = Some(now);
        self.executing += 1;
        self.seats += seats;
        if let Some(number) = entry.queue {
            self.queues[number].seats += seats;
            self.queued_seats += seats;
        }
        self.counts.dispatched += 1;
        let counts = &mut self.counts.schemas[entry.slot];
        counts.dispatched += 1;
        counts.executing += 1;
        counts.executing_seats += seats;
    }

    pub fn finish(&mut self, now: Duration, key: usize) -> Option<Duration> {
        let entry = &mut self.entries[key];
        let took = now.saturating_sub(entry.started.unwrap_or(now));
        self.executing -= 1;
        let counts = &mut self.counts.schemas[entry.slot];
        counts.executing -= 1;
        if entry.asked.is_watch() { &mut counts.initialized } else { &mut counts.executed }
            .observe(took.as_secs_f64());
        entry.lingers = true;
        let (initial, lingers) = (f64::from(entry.estimate.initial), entry.estimate.lingers);
        if let Some(number) = entry.queue {
            let queue = &mut self.queues[number];
            queue.executing -= 1;
            // What it took is known now.
            queue.next_r += SeatSeconds::of(initial, took) - SeatSeconds::of(initial, USUAL);
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
        self.seats -= seats;
        self.counts.schemas[entry.slot].executing_seats -= seats;
        if let Some(number) = entry.queue {
            self.queues[number].seats -= seats;
            self.queued_seats -= seats;
            self.drop_spare_queues();
        }
    }

    /// What is measured over time has changed; told once, at the end of whatever happens at a moment.
    pub fn note(&mut self, now: Duration) {
        let wanted = (self.seats + self.waiting_seats) as f64;
        self.demand.set(now, wanted);
        self.counts.demand_ratio.set(now, wanted);
        self.counts.waiting_ratio.set(now, self.waiting as f64);
        self.counts.executing_ratio.set(now, self.executing as f64);
        self.counts.seat_ratio.set(now, self.seats as f64);
    }
}
