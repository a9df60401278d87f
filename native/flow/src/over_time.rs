//! What is measured of a level over time: who waits, who is served, and the seats that they have and want.

use crate::counts::{DEMAND_RATIOS, REQUEST_RATIOS, SEAT_RATIOS};
use crate::demand::Integrator;
use crate::histogram::RatioOverTime;

/// So many requests at a time are the usual number, and fewer.
const CALM: usize = 64;

/// How a level is taken at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub waiting: usize,
    pub executing: usize,
    /// Taken, and wanted by who waits.
    pub seats: usize,
    pub waiting_seats: usize,
}

impl Occupancy {
    /// What the level could use.
    pub fn wanted(&self) -> usize {
        self.seats + self.waiting_seats
    }

    /// Nobody waits and everybody has one seat: one number tells it all.
    fn is_calm(&self) -> bool {
        self.waiting == 0 && self.executing == self.seats
    }
}

/// Every request changes all of this, when it comes and when it goes. So the time that a level is taken in the way that
/// is usual is only added up, and put in the place where it belongs when somebody asks.
#[derive(Debug)]
pub(crate) struct OverTime {
    /// As it is since `last`, in nanoseconds.
    present: Occupancy,
    last: u64,
    /// Nanoseconds with that many requests, calm, that are not yet told.
    calm: [u64; CALM],
    pub demand: Integrator,
    pub waiting: RatioOverTime,
    pub executing: RatioOverTime,
    pub seats: RatioOverTime,
    pub demanded: RatioOverTime,
}

impl OverTime {
    pub fn new(now: u64) -> Self {
        Self {
            present: Occupancy::default(),
            last: now,
            calm: [0; CALM],
            demand: Integrator::default(),
            waiting: RatioOverTime::new(REQUEST_RATIOS),
            executing: RatioOverTime::new(REQUEST_RATIOS),
            seats: RatioOverTime::new(SEAT_RATIOS),
            demanded: RatioOverTime::new(DEMAND_RATIOS),
        }
    }

    /// From `now` on it is so.
    pub fn note(&mut self, now: u64, present: Occupancy) {
        self.pass(now);
        self.present = present;
        self.demand.reaches(present.wanted());
    }

    fn pass(&mut self, now: u64) {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        match self.calm.get_mut(self.present.seats) {
            Some(nanos) if self.present.is_calm() => *nanos += passed,
            _ => self.hold(self.present, passed),
        }
    }

    fn hold(&mut self, occupancy: Occupancy, nanos: u64) {
        self.demand.hold(occupancy.wanted(), nanos);
        self.demanded.hold(occupancy.wanted(), nanos);
        self.waiting.hold(occupancy.waiting, nanos);
        self.executing.hold(occupancy.executing, nanos);
        self.seats.hold(occupancy.seats, nanos);
    }

    /// All that was until now is told.
    pub fn settle(&mut self, now: u64) {
        self.pass(now);
        for (number, nanos) in std::mem::replace(&mut self.calm, [0; CALM]).into_iter().enumerate() {
            self.hold(Occupancy { executing: number, seats: number, ..Occupancy::default() }, nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn occupancies() -> impl Strategy<Value = Occupancy> {
        let calm = (0_usize..CALM + 4).prop_map(|seats| Occupancy {
            executing: seats,
            seats,
            ..Occupancy::default()
        });
        let any = (0_usize..9, 0_usize..90, 0_usize..90, 0_usize..9);
        prop_oneof![
            calm,
            any.prop_map(|(waiting, executing, seats, more)| {
                let waiting_seats = if waiting == 0 { 0 } else { waiting + more };
                Occupancy { waiting, executing, seats, waiting_seats }
            })
        ]
    }

    fn rendered(ratio: &RatioOverTime) -> (Vec<String>, f64) {
        let mut out = String::new();
        ratio.render(&mut out, "r", "");
        let (sums, counts): (Vec<&str>, Vec<&str>) = out.lines().partition(|line| line.starts_with("r_sum"));
        let sum = sums.first().map_or(0.0, |line| line.split_once(' ').unwrap().1.parse().unwrap());
        (counts.into_iter().map(str::to_owned).collect(), sum)
    }

    proptest! {
        /// However the time is added up, each measure hears how long it was what.
        #[test]
        fn each_measure_is_told_of_all_the_time(
            steps in prop::collection::vec((0_u64..5_000_000, occupancies(), any::<bool>()), 1..60),
            limits in (1_u32..70, 1_u32..70)
        ) {
            let (mut over_time, mut now, mut present) = (OverTime::new(0), 0, Occupancy::default());
            let mut at_once = OverTime::new(0);
            for over_time in [&mut over_time, &mut at_once] {
                over_time.seats.set_denominator(f64::from(limits.0));
                over_time.demanded.set_denominator(f64::from(limits.1));
            }
            for (passed, next, asks) in steps {
                now += passed;
                at_once.hold(present, passed);
                present = next;
                over_time.note(now, present);
                if asks {
                    over_time.settle(now);
                }
            }
            over_time.settle(now);
            let measures = |of: &OverTime| [&of.waiting, &of.executing, &of.seats, &of.demanded].map(rendered);
            for ((counts, sum), (expected, total)) in measures(&over_time).into_iter().zip(measures(&at_once)) {
                prop_assert_eq!(counts, expected);
                prop_assert!((sum - total).abs() <= 1e-9 * total, "{sum} {total}");
            }
            let (one, other) = (over_time.demand.take(0), at_once.demand.take(0));
            prop_assert!((one.average - other.average).abs() <= 1e-9 * other.average);
            prop_assert!((one.deviation - other.deviation).abs() <= 1e-5 * (1.0 + other.deviation));
        }
    }

    #[test]
    fn a_peak_counts_even_if_it_takes_no_time() {
        let mut over_time = OverTime::new(5);
        let calm = |seats| Occupancy { executing: seats, seats, ..Occupancy::default() };
        over_time.note(5, calm(3));
        over_time.note(5, calm(1));
        over_time.settle(15);
        let period = over_time.demand.take(1);
        assert_eq!((period.peak, period.average, period.seconds), (3.0, 1.0, 1e-8));
        assert_eq!(over_time.demand.take(1).peak, 1.0);
    }
}
