//! What is asked again and again: the same objects by the same clients, as when leases are renewed and things are polled.
//! What was found out about such requests is kept, for as long as what it was found in stays.
//!
//! Each thread has tables of its own. Of what is asked once a number is kept and nothing else.

use std::sync::Arc;

/// A power of two.
const PLACES: usize = 256;

enum Place<V> {
    Seen(u64),
    Held(u64, V),
}

/// Values by numbers that are as good as random: one for each place, the newest.
pub(crate) struct Recent<V>(Vec<Place<V>>);

impl<V> Recent<V> {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// What was kept for the number. Another thing may have had the same one: whoever asks looks what it is.
    pub fn get(&self, number: u64) -> Option<&V> {
        match self.0.get(place(number))? {
            Place::Held(of, value) if *of == number => Some(value),
            _ => None,
        }
    }

    /// To be kept from the second time on.
    pub fn put(&mut self, number: u64, value: impl FnOnce() -> V) {
        if self.0.is_empty() {
            self.0.resize_with(PLACES, || Place::Seen(0));
        }
        let place = &mut self.0[place(number)];
        let (Place::Seen(of) | Place::Held(of, _)) = place;
        *place = if *of == number { Place::Held(number, value()) } else { Place::Seen(number) };
    }
}

fn place(number: u64) -> usize {
    (number >> (u64::BITS - PLACES.ilog2())) as usize
}

/// Of two things by where they are, which is theirs for as long as they are kept.
pub(crate) fn number_of<A, B>(one: &Arc<A>, other: &Arc<B>) -> u64 {
    let address = |at: *const ()| at as u64;
    let both = address(Arc::as_ptr(one).cast()) ^ address(Arc::as_ptr(other).cast()).rotate_left(32);
    spread(both)
}

/// So that the highest bits depend on all.
pub(crate) fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_kept_until_another_has_its_place() {
        let mut recent = Recent::new();
        assert_eq!(recent.get(7), None);
        recent.put(7, || "once");
        assert_eq!(recent.get(7), None);
        recent.put(7, || "twice");
        assert_eq!(recent.get(7), Some(&"twice"));
        recent.put(7, || "anew");
        assert_eq!((recent.get(7), recent.get(8)), (Some(&"anew"), None));
        recent.put(8, || "another");
        assert_eq!((recent.get(7), recent.get(8)), (None, None));
    }

    #[test]
    fn things_are_told_apart_and_spread_over_all_places() {
        let (users, infos): (Vec<_>, Vec<_>) =
            (0..16).map(|number| (Arc::new(number), Arc::new(number))).unzip();
        let numbers: std::collections::HashSet<u64> =
            users.iter().flat_map(|user| infos.iter().map(move |info| number_of(user, info))).collect();
        assert_eq!(numbers.len(), 256);
        let places: std::collections::HashSet<usize> = numbers.into_iter().map(place).collect();
        assert!(places.len() > 100, "{}", places.len());
    }
}
