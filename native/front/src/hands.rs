//! What Python has in hand: how many requests it works at, and not those that wait for somebody else.
//!
//! A request that has been taken stands behind all that were taken before it, whoever asked for them: in the event
//! loop, in the store's writer, and on the way back. So only as many are taken as keep all of these busy, and the rest
//! waits where users take turns. One that is not answered soon waits for a webhook, or another server, and is no longer
//! counted: nobody waits because others wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Names a request that was taken; 0 is none.
pub(crate) type Place = u64;

pub struct Hands {
    limit: usize,
    pub(crate) patience: Duration,
    /// In the order in which they were taken.
    taken: VecDeque<Taken>,
    /// Those that were taken before the first of `taken`.
    before: u64,
    busy: usize,
}

struct Taken {
    at: Instant,
    is_back: bool,
}

impl Hands {
    /// For so many requests, each until it is given back or has taken so long.
    pub fn new(limit: usize, patience: Duration) -> Self {
        Self { limit, patience, taken: VecDeque::new(), before: 0, busy: 0 }
    }

    /// How many may be taken.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.busy)
    }

    pub fn take(&mut self, now: Instant) -> Place {
        self.taken.push_back(Taken { at: now, is_back: false });
        self.busy += 1;
        self.before + self.taken.len() as u64
    }

    /// Of one that was given back, or let go, already nothing is left to give.
    pub fn give_back(&mut self, place: Place) {
        let Some(index) = place.checked_sub(self.before + 1) else { return };
        if let Some(taken) = self.taken.get_mut(index as usize)
            && !std::mem::replace(&mut taken.is_back, true)
        {
            self.busy -= 1;
        }
        while self.taken.front().is_some_and(|taken| taken.is_back) {
            self.taken.pop_front();
            self.before += 1;
        }
    }

    /// Those that have been taken for so long that they wait for somebody else are no longer counted.
    pub fn let_go(&mut self, now: Instant) {
        while let Some(taken) = self.taken.front()
            && (taken.is_back || now.saturating_duration_since(taken.at) >= self.patience)
        {
            self.busy -= usize::from(!taken.is_back);
            self.taken.pop_front();
            self.before += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT_ONCE: usize = 8;
    const PATIENCE: Duration = Duration::from_millis(20);

    fn full(now: Instant) -> (Hands, Vec<Place>) {
        let mut hands = Hands::new(AT_ONCE, PATIENCE);
        let places = (0..AT_ONCE).map(|_| hands.take(now)).collect();
        assert_eq!(hands.room(), 0);
        (hands, places)
    }

    #[test]
    fn there_is_room_for_as_many_as_are_given_back() {
        let now = Instant::now();
        let (mut hands, places) = full(now);
        for (given, place) in places.iter().rev().enumerate() {
            hands.give_back(*place);
            hands.give_back(*place);
            assert_eq!(hands.room(), given + 1);
        }
        assert!(hands.taken.is_empty());
    }

    #[test]
    fn what_takes_long_makes_room_once() {
        let now = Instant::now();
        let (mut hands, places) = full(now);
        hands.let_go(now + PATIENCE - Duration::from_nanos(1));
        assert_eq!(hands.room(), 0);
        hands.let_go(now + PATIENCE);
        assert_eq!(hands.room(), AT_ONCE);
        let next = hands.take(now + PATIENCE);
        places.into_iter().for_each(|place| hands.give_back(place));
        assert_eq!(hands.room(), AT_ONCE - 1);
        hands.give_back(next);
        assert_eq!(hands.room(), AT_ONCE);
    }

    #[test]
    fn who_has_no_place_gives_nothing_back() {
        let (mut hands, places) = full(Instant::now());
        hands.give_back(0);
        hands.give_back(places.len() as Place + 1);
        assert_eq!(hands.room(), 0);
    }

    proptest! {
        #[test]
        fn room_is_what_is_neither_back_nor_let_go(steps in prop::collection::vec((0..3_u8, 0..40_u64), 0..200)) {
            let (mut hands, mut now) = (Hands::new(AT_ONCE, PATIENCE), Instant::now());
            // Those that are out: place and when it was taken.
            let (mut out, mut all): (Vec<(Place, Instant)>, Vec<Place>) = (Vec::new(), Vec::new());
            for (step, number) in steps {
                match step {
                    0 if hands.room() > 0 => {
                        let place = hands.take(now);
                        out.push((place, now));
                        all.push(place);
                    }
                    1 if !all.is_empty() => {
                        let place = all[number as usize % all.len()];
                        hands.give_back(place);
                        out.retain(|(one, _)| *one != place);
                    }
                    _ => {
                        now += Duration::from_millis(number);
                        hands.let_go(now);
                        out.retain(|(_, at)| now - *at < PATIENCE);
                    }
                }
                prop_assert_eq!(hands.room(), AT_ONCE - out.len());
            }
        }
    }
}
