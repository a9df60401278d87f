//! What Python has in hand: how many requests it works at, and not those that wait for somebody else.
//!
//! A request that has been taken stands behind all that were taken before it, whoever asked for them: in the event
//! loop, in the store's writer, and on the way back. So only as many are taken as keep all of these busy, and the rest
//! waits where users take turns. One that is not answered soon waits for a webhook, or another server, and is no longer
//! counted: nobody waits because others wait.
//!
//! Who asks once at a time beside a crowd waits for what the crowd has in hand, whenever he comes: as long as such a one
//! is about, fewer are taken, for commits that are smaller and sooner over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Names a request that was taken; 0 is none.
pub(crate) type Place = u64;

/// How many are taken at once, each until it is given back or has taken longer than `patience`.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub usual: usize,
    /// While somebody asks once at a time beside others who ask for much.
    pub in_company: usize,
    /// How long one takes that waits for nobody, generously.
    pub patience: Duration,
}

#[cfg(test)]
impl Measure {
    pub fn same(at_once: usize, patience: Duration) -> Self {
        Self { usual: at_once, in_company: at_once, patience }
    }
}

/// How long somebody who asks once at a time is thought to be about.
const COMPANY: Duration = Duration::from_millis(100);

pub struct Hands {
    pub(crate) measure: Measure,
    company_ends: Option<Instant>,
    /// In the order in which they were taken.
    taken: VecDeque<Taken>,
    /// Those that were taken before the first of `taken`.
    before: u64,
    busy: usize,
}

struct Taken {
    at: Instant,
    whose: Whose,
    is_back: bool,
}

/// A hash of who asks.
pub(crate) type Whose = u64;

impl Hands {
    pub fn new(measure: Measure) -> Self {
        Self { measure, company_ends: None, taken: VecDeque::new(), before: 0, busy: 0 }
    }

    /// Somebody asks of whom nothing is waiting, while so many requests of others are.
    pub fn asked(&mut self, whose: Whose, waiting: usize, now: Instant) {
        let has_others = self.busy + waiting >= self.measure.in_company;
        if has_others && !self.taken.iter().any(|taken| !taken.is_back && taken.whose == whose) {
            self.company_ends = Some(now + COMPANY);
        }
    }

    fn has_company(&self, now: Instant) -> bool {
        self.company_ends.is_some_and(|ends| now < ends)
    }

    /// How many may be taken.
    pub fn room(&self, now: Instant) -> usize {
        let limit = if self.has_company(now) { self.measure.in_company } else { self.measure.usual };
        limit.saturating_sub(self.busy)
    }

    pub fn take(&mut self, whose: Whose, now: Instant) -> Place {
        self.taken.push_back(Taken { at: now, whose, is_back: false });
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
            && (taken.is_back || now.saturating_duration_since(taken.at) >= self.measure.patience)
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
    const CROWD: Whose = 1;
    const PATIENCE: Duration = Duration::from_millis(20);
    const MEASURE: Measure = Measure { usual: AT_ONCE, in_company: 2, patience: PATIENCE };

    fn full(now: Instant) -> (Hands, Vec<Place>) {
        let mut hands = Hands::new(MEASURE);
        let places = (0..AT_ONCE).map(|_| hands.take(CROWD, now)).collect();
        assert_eq!(hands.room(now), 0);
        (hands, places)
    }

    #[test]
    fn in_company_fewer_are_taken_for_a_while() {
        let now = Instant::now();
        let (mut hands, places) = full(now);
        hands.asked(CROWD, 0, now);
        assert!(!hands.has_company(now));
        hands.asked(2, 0, now);
        for place in &places[..AT_ONCE - 2] {
            hands.give_back(*place);
            assert_eq!(hands.room(now), 0);
        }
        hands.give_back(places[AT_ONCE - 2]);
        assert_eq!((hands.room(now), hands.room(now + COMPANY)), (1, AT_ONCE - 1));
    }

    #[test]
    fn who_has_something_in_hand_or_comes_to_few_is_no_company() {
        let now = Instant::now();
        let mut hands = Hands::new(MEASURE);
        hands.take(CROWD, now);
        hands.asked(2, 0, now);
        assert!(!hands.has_company(now));
        let own = hands.take(2, now);
        hands.take(CROWD, now);
        hands.asked(2, 5, now);
        assert!(!hands.has_company(now));
        hands.give_back(own);
        hands.asked(2, 0, now);
        assert!(hands.has_company(now));
    }

    #[test]
    fn there_is_room_for_as_many_as_are_given_back() {
        let now = Instant::now();
        let (mut hands, places) = full(now);
        for (given, place) in places.iter().rev().enumerate() {
            hands.give_back(*place);
            hands.give_back(*place);
            assert_eq!(hands.room(now), given + 1);
        }
        assert!(hands.taken.is_empty());
    }

    #[test]
    fn what_takes_long_makes_room_once() {
        let now = Instant::now();
        let (mut hands, places) = full(now);
        hands.let_go(now + PATIENCE - Duration::from_nanos(1));
        assert_eq!(hands.room(now), 0);
        hands.let_go(now + PATIENCE);
        assert_eq!(hands.room(now), AT_ONCE);
        let next = hands.take(CROWD, now + PATIENCE);
        places.into_iter().for_each(|place| hands.give_back(place));
        assert_eq!(hands.room(now), AT_ONCE - 1);
        hands.give_back(next);
        assert_eq!(hands.room(now), AT_ONCE);
    }

    #[test]
    fn who_has_no_place_gives_nothing_back() {
        let now = Instant::now();
        let (mut hands, places) = full(now);
        hands.give_back(0);
        hands.give_back(places.len() as Place + 1);
        assert_eq!(hands.room(now), 0);
    }

    proptest! {
        #[test]
        fn room_is_what_is_neither_back_nor_let_go(steps in prop::collection::vec((0..3_u8, 0..40_u64), 0..200)) {
            let (mut hands, mut now) = (Hands::new(MEASURE), Instant::now());
            // Those that are out: place and when it was taken.
            let (mut out, mut all): (Vec<(Place, Instant)>, Vec<Place>) = (Vec::new(), Vec::new());
            for (step, number) in steps {
                match step {
                    0 if hands.room(now) > 0 => {
                        let place = hands.take(CROWD, now);
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
                prop_assert_eq!(hands.room(now), AT_ONCE - out.len());
            }
        }
    }
}
