//! What has passed, and how fast: IPVS's counters and its rate estimator.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// The estimator's period in milliseconds, and the share of it that a new period is given (`ip_vs_est.c`).
pub const ESTIMATION_PERIOD: u64 = 2000;
const NEW_SHARE: f64 = 0.25;

/// Totals since the beginning; "in" is from clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub connections: u64,
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Totals {
    fn each(self) -> [u64; 5] {
        [self.connections, self.packets_in, self.packets_out, self.bytes_in, self.bytes_out]
    }
}

/// The same per second, smoothed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub connections: f64,
    pub packets_in: f64,
    pub packets_out: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
}

#[derive(Debug, Default)]
struct Estimate {
    at: u64,
    seen: Totals,
    rates: [f64; 5],
}

/// Counts of a service or of a destination.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    connections: AtomicU64,
    packets_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    estimate: Mutex<Estimate>,
}

impl Statistics {
    pub(super) fn count_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// Packets may be 0: a stream's are not known to who forwards it.
    pub(super) fn count_in(&self, packets: u64, bytes: u64) {
        add(&self.packets_in, packets);
        add(&self.bytes_in, bytes);
    }

    pub(super) fn count_out(&self, packets: u64, bytes: u64) {
        add(&self.packets_out, packets);
        add(&self.bytes_out, bytes);
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            connections: self.connections.load(Relaxed),
            packets_in: self.packets_in.load(Relaxed),
            packets_out: self.packets_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }

    /// To be called about every [`ESTIMATION_PERIOD`]; a call before that is over changes nothing.
    pub(super) fn estimate(&self, now: u64) {
        let mut estimate = self.estimate.lock();
        let elapsed = now.saturating_sub(estimate.at);
        if elapsed < ESTIMATION_PERIOD {
            return;
        }
        let totals = self.totals();
        let before = std::mem::replace(&mut estimate.seen, totals).each();
        for (rate, (new, old)) in estimate.rates.iter_mut().zip(totals.each().into_iter().zip(before)) {
            let current = (new - old) as f64 * 1000.0 / elapsed as f64;
            *rate += (current - *rate) * NEW_SHARE;
        }
        estimate.at = now;
    }

    pub(super) fn rates(&self) -> Rates {
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = self.estimate.lock().rates;
        Rates { connections, packets_in, packets_out, bytes_in, bytes_out }
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        counter.fetch_add(amount, Relaxed);
    }
}
