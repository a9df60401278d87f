//! How many seats a level could have used: average, spread and peak over a period, smoothed over periods.
//!
//! Source: apiserver `pkg/util/flowcontrol/fairqueuing/integrator.go` and `seatDemandStats` of `apf_controller.go`.

use std::time::Duration;

use crate::work::seconds;

/// Of what was needed in earlier periods, a half counts after five minutes.
const DECAY: f64 = 0.977;

/// A number over time, and how large it was.
#[derive(Debug, Default)]
pub(crate) struct Integrator {
    peak: usize,
    seconds: f64,
    sum: f64,
    squares: f64,
}

/// What a number was from one time to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Period {
    pub seconds: f64,
    pub average: f64,
    pub deviation: f64,
    pub peak: f64,
}

impl Integrator {
    pub fn reaches(&mut self, value: usize) {
        self.peak = self.peak.max(value);
    }

    /// That was the number for so long.
    pub fn hold(&mut self, value: usize, nanos: u64) {
        let (value, passed) = (value as f64, seconds(nanos));
        self.seconds += passed;
        self.sum += value * passed;
        self.squares += value * value * passed;
    }

    /// What there was since the last time; the next period begins with what there is.
    pub fn take(&mut self, present: usize) -> Period {
        let Self { peak, seconds, sum, squares } =
            std::mem::replace(self, Self { peak: present, ..Self::default() });
        let average = if seconds > 0.0 { sum / seconds } else { 0.0 };
        let variance = if seconds > 0.0 { squares / seconds - average * average } else { 0.0 };
        Period { seconds, average, deviation: variance.max(0.0).sqrt(), peak: peak as f64 }
    }
}

/// What the periods so far say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    pub average: f64,
    pub deviation: f64,
    pub peak: f64,
    pub smoothed: f64,
}

impl Demand {
    /// Rises at once and falls slowly: by so many periods of `period` as there have been since the last time.
    pub(crate) fn update(&mut self, integrator: &mut Integrator, present: usize, period: Duration) {
        let Period { seconds, average, deviation, mut peak } = integrator.take(present);
        let periods = (seconds / period.as_secs_f64()).floor().max(1.0);
        if periods > 1.0 {
            // Of several periods only the last one's peak would count; it is not known, but what is needed now is.
            peak = present as f64;
        }
        self.peak = peak.round();
        if seconds <= 0.0 {
            return;
        }
        let envelope = average + deviation;
        self.average = average;
        self.deviation = deviation;
        let kept = DECAY.powf(periods);
        self.smoothed = envelope.max(kept * self.smoothed + (1.0 - kept) * envelope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_demand_is_weighted_by_the_time_it_lasts() {
        let mut integrator = Integrator::default();
        integrator.reaches(4);
        integrator.hold(4, 5 * SECOND);
        integrator.hold(0, 5 * SECOND);
        let period = Period { seconds: 10.0, average: 2.0, deviation: 2.0, peak: 4.0 };
        assert_eq!(integrator.take(0), period);
        integrator.hold(0, SECOND);
        assert_eq!(integrator.take(0), Period { seconds: 1.0, average: 0.0, deviation: 0.0, peak: 0.0 });
    }

    #[test]
    fn what_is_remembered_rises_at_once_and_is_half_gone_after_five_minutes() {
        let (mut integrator, mut demand) = (Integrator::default(), Demand::default());
        let period = Duration::from_secs(10);
        integrator.reaches(8);
        integrator.hold(8, 10 * SECOND);
        demand.update(&mut integrator, 8, period);
        assert_eq!((demand.smoothed, demand.peak), (8.0, 8.0));
        for _ in 2..=21 {
            integrator.hold(0, 10 * SECOND);
            demand.update(&mut integrator, 0, period);
        }
        // Ten periods that nobody looked at count as ten.
        integrator.hold(0, 100 * SECOND);
        demand.update(&mut integrator, 0, period);
        assert!((demand.smoothed - 4.0).abs() < 0.1, "{}", demand.smoothed);
    }
}
