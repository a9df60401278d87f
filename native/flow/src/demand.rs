//! How many seats a level could have used: average, spread and peak over a period, smoothed over periods.
//!
//! Source: apiserver `pkg/util/flowcontrol/fairqueuing/integrator.go` and `seatDemandStats` of `apf_controller.go`.

use std::time::Duration;

/// Of what was needed in earlier periods, a half counts after five minutes.
const DECAY: f64 = 0.977;

/// A number over time.
#[derive(Debug, Default)]
pub struct Integrator {
    value: f64,
    peak: f64,
    last: Duration,
    seconds: f64,
    sum: f64,
    squares: f64,
}

impl Integrator {
    pub fn new(now: Duration) -> Self {
        Self { last: now, ..Self::default() }
    }

    pub fn set(&mut self, now: Duration, value: f64) {
        self.pass(now);
        self.value = value;
        self.peak = self.peak.max(value);
    }

    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.seconds += passed;
        self.sum += self.value * passed;
        self.squares += self.value * self.value * passed;
    }

    /// (seconds, average, standard deviation, peak) since the last time; the next period begins.
    fn take(&mut self, now: Duration) -> (f64, f64, f64, f64) {
        self.pass(now);
        let (seconds, peak) = (self.seconds, self.peak);
        let average = if seconds > 0.0 { self.sum / seconds } else { 0.0 };
        let variance = if seconds > 0.0 { self.squares / seconds - average * average } else { 0.0 };
        *self = Self { value: self.value, peak: self.value, last: now, ..Self::default() };
        (seconds, average, variance.max(0.0).sqrt(), peak)
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
    pub fn update(&mut self, integrator: &mut Integrator, now: Duration, period: Duration) {
        let (seconds, average, deviation, mut peak) = integrator.take(now);
        let periods = (seconds / period.as_secs_f64()).floor().max(1.0);
        if periods > 1.0 {
            // Of several periods only the last one's peak would count; it is not known, but what is needed now is.
            peak = integrator.peak;
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

    #[test]
    fn a_demand_is_weighted_by_the_time_it_lasts() {
        let mut integrator = Integrator::new(Duration::ZERO);
        integrator.set(Duration::ZERO, 4.0);
        integrator.set(Duration::from_secs(5), 0.0);
        let (seconds, average, deviation, peak) = integrator.take(Duration::from_secs(10));
        assert_eq!((seconds, average, deviation, peak), (10.0, 2.0, 2.0, 4.0));
        assert_eq!(integrator.take(Duration::from_secs(11)), (1.0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn what_is_remembered_rises_at_once_and_is_half_gone_after_five_minutes() {
        let (mut integrator, mut demand) = (Integrator::new(Duration::ZERO), Demand::default());
        integrator.set(Duration::ZERO, 8.0);
        let period = Duration::from_secs(10);
        demand.update(&mut integrator, Duration::from_secs(10), period);
        assert_eq!((demand.smoothed, demand.peak), (8.0, 8.0));
        integrator.set(Duration::from_secs(10), 0.0);
        for number in 2..=21 {
            demand.update(&mut integrator, Duration::from_secs(10 * number), period);
        }
        // Ten periods that nobody looked at count as ten.
        demand.update(&mut integrator, Duration::from_secs(310), period);
        assert!((demand.smoothed - 4.0).abs() < 0.1, "{}", demand.smoothed);
    }
}
