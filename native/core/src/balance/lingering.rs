//! Connections that are closed and still count as inactive, for as long as IPVS remembers such ones.
//!
//! Of a single one nothing is kept: a destination knows how many are over in which second.

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// (second, how many are over by its end), in the order of the seconds.
    seconds: Mutex<Vec<(u32, u32)>>,
}

fn milliseconds(second: u32) -> u64 {
    u64::from(second) * 1000
}

impl Lingering {
    /// One that counts until `over`; returns when it counts no more, since that is told by the second.
    pub(super) fn add(&self, over: u64) -> u64 {
        let second = u32::try_from(over.div_ceil(1000)).unwrap_or(u32::MAX);
        let mut seconds = self.seconds.lock();
        match seconds.binary_search_by_key(&second, |found| found.0) {
            Ok(at) => seconds[at].1 += 1,
            Err(at) => seconds.insert(at, (second, 1)),
        }
        milliseconds(second)
    }

    /// Forget those that are over at `now`: how many they were, and when the next ones will be (never: `u64::MAX`).
    pub(super) fn take(&self, now: u64) -> (u32, u64) {
        let mut seconds = self.seconds.lock();
        let past = seconds.partition_point(|found| milliseconds(found.0) <= now);
        let over = seconds.drain(..past).map(|found| found.1).sum();
        (over, seconds.first().map_or(u64::MAX, |found| milliseconds(found.0)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seconds.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_until_the_second_that_it_is_over_in_has_passed() {
        let lingering = Lingering::default();
        assert_eq!(
            [130_000, 11_500, 130_000, 129_001].map(|over| lingering.add(over)),
            [130_000, 12_000, 130_000, 130_000]
        );
        assert_eq!(lingering.take(11_999), (0, 12_000));
        assert_eq!(lingering.take(12_000), (1, 130_000));
        assert_eq!(lingering.take(500_000), (3, u64::MAX));
        assert!(lingering.is_empty());
    }

    #[test]
    fn a_second_takes_as_much_memory_as_one_connection() {
        let lingering = Lingering::default();
        for over in 0..600_000 {
            lingering.add(over / 5);
        }
        assert_eq!(lingering.seconds.lock().len(), 121);
    }
}
