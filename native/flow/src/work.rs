//! How much a request asks of the server: seats, and for how long.
//!
//! Source: apiserver `pkg/util/flowcontrol/request`.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

/// Work in seats times seconds, as a fixed-point number. What a server does at 600 seats fits in for years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeatSeconds(i64);

const SCALE: i64 = 100_000_000;
const NANOS_PER_UNIT: u64 = 1_000_000_000 / SCALE as u64;

/// What times are reckoned with in here: whole nanoseconds, which are cheaper than `Duration`'s two numbers.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl SeatSeconds {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);

    pub fn of(seats: u32, time: Duration) -> Self {
        Self::of_whole(u64::from(seats), nanoseconds(time))
    }

    /// Of whole seats, in whole nanoseconds.
    pub(crate) fn of_whole(seats: u64, nanos: u64) -> Self {
        let units = seats.saturating_mul(nanos).saturating_add(NANOS_PER_UNIT / 2) / NANOS_PER_UNIT;
        Self(units.min(i64::MAX as u64) as i64)
    }

    /// Of a part of the seats.
    pub(crate) fn of_share(seats: f64, nanos: u64) -> Self {
        Self(rounded(seats * nanos as f64 / NANOS_PER_UNIT as f64))
    }

    pub fn seconds(self) -> f64 {
        self.0 as f64 / SCALE as f64
    }

    /// How long so much work takes so many seats.
    pub fn spread_over(self, seats: u32) -> Duration {
        Duration::from_secs_f64((self.seconds() / f64::from(seats.max(1))).max(0.0))
    }
}

/// Half away from zero, as `f64::round`, which is a call into a library where the processor may be any: several for each
/// request.
fn rounded(value: f64) -> i64 {
    let whole = value as i64;
    let rest = value - whole as f64;
    whole.saturating_add(i64::from(rest >= 0.5)).saturating_sub(i64::from(rest <= -0.5))
}

impl Add for SeatSeconds {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for SeatSeconds {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for SeatSeconds {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for SeatSeconds {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl fmt::Display for SeatSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08}ss", self.0 / SCALE, (self.0 % SCALE).abs())
    }
}

/// What a request is thought to need: seats while it is served, then seats while its watchers are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    pub initial: u32,
    pub last: u32,
    /// How long the last seats are kept after the request has been served.
    pub lingers: Duration,
}

impl Estimate {
    pub const ONE: Self = Self::seats_of(1);

    pub const fn seats_of(initial: u32) -> Self {
        Self { initial, last: 0, lingers: Duration::ZERO }
    }

    /// What is taken throughout.
    pub fn seats(&self) -> u32 {
        self.initial.max(self.last)
    }

    /// What lingers on more seats than there are lingers on fewer for longer.
    pub(crate) fn within(self, limit: u32) -> Self {
        if self.last <= limit {
            return self;
        }
        let work = SeatSeconds::of(self.last, self.lingers);
        Self { last: limit, lingers: work.spread_over(limit), ..self }
    }
}

/// No list takes more seats, no write does, whatever a level would let them have.
const MOST_OF_A_LIST: u32 = 100;
const MOST_OF_A_WRITE: u32 = 10;
const BYTES_PER_SEAT: u64 = 100_000;
/// What is read from the cache is sent piece by piece, so that no more than this is held at once.
const MOST_HELD_FROM_CACHE: u64 = 1_000_000;
const WATCHERS_PER_SEAT: u32 = 10;
/// How long a seat is busy with telling its share of watchers.
const TELLING: Duration = Duration::from_millis(5);

/// How a collection is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listing {
    /// 0: all of it.
    pub limit: u64,
    /// One object is asked for by its name.
    pub is_single: bool,
    /// The newest state, or one not older than a given one; a page that goes on and an exact revision are not.
    pub from_cache: bool,
    pub has_selectors: bool,
}

/// What is stored of a resource; bytes are an average.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    pub objects: u64,
    pub bytes_each: u64,
}

/// `most`: what the level allows (0: nothing said).
pub fn list(listing: &Listing, stored: Stored, most: u32) -> Estimate {
    let limited = if listing.limit > 0 { listing.limit.min(stored.objects) } else { stored.objects };
    let objects = match () {
        () if listing.is_single => 1,
        () if !listing.from_cache && listing.has_selectors => limited.max(stored.objects / 2),
        () => limited,
    };
    let mut held = objects.saturating_mul(stored.bytes_each);
    if listing.from_cache {
        held = held.min(MOST_HELD_FROM_CACHE);
    }
    let seats = u32::try_from(held.div_ceil(BYTES_PER_SEAT)).unwrap_or(u32::MAX);
    Estimate::seats_of(seats.min(at_most(most, MOST_OF_A_LIST)).max(1))
}

/// Of a write that so many watchers will be told of.
pub fn write(watchers: u32, most: u32) -> Estimate {
    if watchers < WATCHERS_PER_SEAT {
        return Estimate::ONE;
    }
    let wanted = watchers.div_ceil(WATCHERS_PER_SEAT);
    let last = wanted.min(at_most(most, MOST_OF_A_WRITE));
    // Fewer seats than wanted are kept for longer.
    Estimate { initial: 1, last, lingers: SeatSeconds::of(wanted, TELLING).spread_over(last) }
}

fn at_most(level: u32, own: u32) -> u32 {
    if level == 0 { own } else { level.min(own) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_takes_a_seat_for_every_hundred_kilobytes_that_it_holds() {
        let all = Listing { from_cache: true, ..Listing::default() };
        let stored = |objects, bytes_each| Stored { objects, bytes_each };
        assert_eq!(list(&all, stored(0, 0), 0).seats(), 1);
        assert_eq!(list(&all, stored(99, 1_000), 0).seats(), 1);
        assert_eq!(list(&all, stored(500, 1_000), 0).seats(), 5);
        assert_eq!(list(&all, stored(1_000, 10_000), 0).seats(), 10, "no more is held at once");
        assert_eq!(list(&all, stored(1_000, 10_000), 3).seats(), 3, "no more than its level lets it have");
        assert_eq!(list(&Listing { limit: 100, ..all }, stored(1_000, 1_000), 0).seats(), 1);
        assert_eq!(list(&Listing { is_single: true, ..all }, stored(1_000, 10_000), 0).seats(), 1);
    }

    #[test]
    fn a_list_of_the_past_may_take_all_seats() {
        let stored = Stored { objects: 1_000, bytes_each: 10_000 };
        let past = Listing::default();
        assert_eq!(list(&past, stored, 0).seats(), 100);
        let page = Listing { limit: 100, has_selectors: true, ..past };
        assert_eq!(list(&page, stored, 0).seats(), 50, "half of all is looked at for what is selected");
    }

    #[test]
    fn a_write_keeps_seats_while_its_watchers_are_told() {
        assert_eq!(write(9, 10), Estimate::ONE);
        assert_eq!(write(25, 10), Estimate { initial: 1, last: 3, lingers: TELLING });
        let narrow = write(200, 2);
        assert_eq!((narrow.last, narrow.lingers), (2, TELLING * 10));
        assert_eq!(write(1_000, 0).last, 10);
    }

    /// Numbers of any size, small ones, and those that are half of a whole one.
    fn numbers() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), -4.0..4.0, (-9_i32..9).prop_map(|halves| f64::from(halves) / 2.0)]
    }

    proptest! {
        #[test]
        fn work_is_rounded_as_numbers_are(value in numbers()) {
            prop_assert_eq!(rounded(value), value.round() as i64);
        }

        #[test]
        fn work_of_whole_seats_is_what_it_is_of_a_share(seats in 0_u32..700, nanos in 0_u64..10_000_000_000_000) {
            let share = SeatSeconds::of_share(f64::from(seats), nanos);
            prop_assert_eq!(SeatSeconds::of_whole(u64::from(seats), nanos), share);
        }
    }

    #[test]
    fn work_is_written_as_upstream_writes_it() {
        assert_eq!(SeatSeconds::of(2, Duration::from_millis(1_500)).to_string(), "3.00000000ss");
        assert_eq!(SeatSeconds::of(1, Duration::from_micros(10)).to_string(), "0.00001000ss");
    }
}
