//! Numbers of what is replaced as a whole: what was found out by it is good for as long as its number stays.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that nothing else has, or will have; never 0.
pub fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The number of what is in force. It becomes another after that has, so whoever asks for it before he looks at what is in
/// force may keep what he finds under it.
#[derive(Debug)]
pub struct Edition(AtomicU64);

impl Default for Edition {
    fn default() -> Self {
        Self(AtomicU64::new(next()))
    }
}

impl Edition {
    pub fn number(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Something else is in force.
    pub fn renew(&self) {
        self.0.store(next(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_the_same_number_at_any_time() {
        let (one, other) = (Edition::default(), Edition::default());
        let before = [one.number(), other.number()];
        one.renew();
        let numbers = [before[0], before[1], one.number(), next()];
        for (place, number) in numbers.iter().enumerate() {
            assert!(*number != 0 && !numbers[..place].contains(number), "{numbers:?}");
        }
        assert_eq!(other.number(), before[1]);
    }
}
