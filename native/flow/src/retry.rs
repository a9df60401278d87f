//! When clients that are sent away should come again: later, the more of them are sent away.
//!
//! Source: apiserver `pkg/util/flowcontrol/dropped_requests_tracker.go`.

use std::collections::VecDeque;

/// Seconds.
const LONGEST: u64 = 32;

#[derive(Debug)]
pub struct RetryAfter {
    seconds: u64,
    raised_at: Option<u64>,
    /// (second, how many were sent away in it), the present one last.
    history: VecDeque<(u64, u64)>,
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self { seconds: 1, raised_at: None, history: VecDeque::new() }
    }
}

impl RetryAfter {
    /// One more is sent away in the second `now`; when it should come again.
    pub fn dropped(&mut self, now: u64) -> u64 {
        match self.history.back_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => {
                self.history.push_back((now, 1));
                self.adjust(now);
            }
        }
        self.seconds
    }

    /// Doubled where three a second were sent away in the time that clients were told to wait, then lowered step by
    /// step once they are few.
    fn adjust(&mut self, now: u64) {
        let kept = (2 * self.seconds).min(LONGEST);
        while self.history.front().is_some_and(|(second, _)| now.saturating_sub(*second) > kept) {
            self.history.pop_front();
        }
        let recent = self.history.iter().filter(|(second, _)| *second < now && now - second <= self.seconds);
        let dropped: u64 = recent.map(|(_, count)| count).sum();
        let settled = self.raised_at.is_none_or(|at| now.saturating_sub(at) >= self.seconds);
        if settled && dropped >= 3 * self.seconds {
            self.seconds = (2 * self.seconds).min(LONGEST);
            self.raised_at = Some(now);
        } else if dropped < self.seconds && self.seconds > 1 {
            self.seconds -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_many_are_sent_away_they_are_told_to_wait_longer_up_to_a_bound() {
        let mut retry = RetryAfter::default();
        assert_eq!(retry.dropped(100), 1);
        let told: Vec<u64> =
            (100..300).map(|second| (0..50).map(|_| retry.dropped(second)).last().unwrap()).collect();
        assert!(told.is_sorted());
        assert_eq!(told.last(), Some(&LONGEST));
    }

    #[test]
    fn when_few_are_sent_away_they_may_come_again_sooner() {
        let mut retry = RetryAfter::default();
        for second in 0..100 {
            (0..50).for_each(|_| _ = retry.dropped(second));
        }
        let told: Vec<u64> = (0..40).map(|number| retry.dropped(1_000 + 50 * number)).collect();
        assert_eq!((told[0], told.last()), (31, Some(&1)));
    }
}
