//! What is counted of a level and of the flow schemas that lead to it. Sources of names: `flowcontrol/metrics`.

use std::sync::Arc;

use crate::histogram::Histogram;
use crate::work::{Estimate, SeatSeconds};

const QUEUE_LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const WATCHERS: &[f64] = &[0.0, 1.0, 10.0, 100.0, 1000.0, 10000.0];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];
pub(crate) const SEAT_RATIOS: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
pub(crate) const REQUEST_RATIOS: &[f64] = &[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0];
pub(crate) const DEMAND_RATIOS: &[f64] = &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0];

/// Why a request is sent away, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    QueueFull,
    NoSeat,
    TimeOut,
}

impl Rejection {
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::QueueFull, "queue-full"), (Self::NoSeat, "concurrency-limit"), (Self::TimeOut, "time-out")];
}

/// Of the requests that one flow schema led here.
#[derive(Debug)]
pub struct SchemaCounts {
    pub schema: Arc<str>,
    pub rejected: [u64; 3],
    pub dispatched: u64,
    pub waiting: usize,
    pub waiting_seats: usize,
    pub executing: usize,
    pub executing_seats: usize,
    pub without_room: u64,
    pub queue_length: Histogram,
    pub waited: Histogram,
    pub waited_in_vain: Histogram,
    pub executed: Histogram,
    pub initialized: Histogram,
    pub watchers: Histogram,
    pub seats: Histogram,
}

impl SchemaCounts {
    pub fn new(schema: Arc<str>) -> Self {
        let seconds = || Histogram::new(SECONDS);
        Self {
            schema,
            rejected: [0; 3],
            dispatched: 0,
            waiting: 0,
            waiting_seats: 0,
            executing: 0,
            executing_seats: 0,
            without_room: 0,
            queue_length: Histogram::new(QUEUE_LENGTHS),
            waited: seconds(),
            waited_in_vain: seconds(),
            executed: seconds(),
            initialized: seconds(),
            watchers: Histogram::new(WATCHERS),
            seats: Histogram::new(SEATS),
        }
    }

    /// A request has come.
    pub fn comes(&mut self, estimate: &Estimate, watchers: Option<u32>) {
        self.seats.observe(f64::from(estimate.seats()));
        if let Some(watchers) = watchers {
            self.watchers.observe(f64::from(watchers));
        }
    }
}

/// Where the last dispatch stood among the queues, for those who look into fairness.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastDispatch {
    pub r: SeatSeconds,
    pub s: SeatSeconds,
    pub bounds: (SeatSeconds, SeatSeconds),
    pub discounted: (SeatSeconds, SeatSeconds),
}

/// Of a level as a whole.
#[derive(Debug, Default)]
pub struct LevelCounts {
    pub rejected: u64,
    pub dispatched: u64,
    pub cancelled: u64,
    pub timed_out: u64,
    pub last: LastDispatch,
    pub schemas: Vec<SchemaCounts>,
}

impl LevelCounts {
    /// Where the requests of a schema are counted; a schema keeps its place.
    pub fn slot(&mut self, schema: &str) -> usize {
        if let Some(slot) = self.schemas.iter().position(|counts| &*counts.schema == schema) {
            return slot;
        }
        self.schemas.push(SchemaCounts::new(schema.into()));
        self.schemas.len() - 1
    }
}
