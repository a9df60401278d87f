//! Who gets how many of the server's seats: in proportion to what levels are thought to need, within their bounds.
//!
//! Source: apiserver `pkg/util/flowcontrol/conc_alloc.go`, which states the problem: find the proportion `p` for which
//! `max(lower, min(upper, p * target))` adds up to the seats that there are.

/// A level's share: `lower <= target`, `lower <= upper`.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub lower: f64,
    pub upper: f64,
    pub target: f64,
}

/// A level that needs nothing still takes part.
const LEAST_TARGET: f64 = 0.001;
const TOLERANCE: f64 = 1e-7;

impl Share {
    fn target(&self) -> f64 {
        self.target.max(LEAST_TARGET)
    }

    fn at(&self, proportion: f64) -> f64 {
        (proportion * self.target()).clamp(self.lower, self.upper)
    }
}

/// Seats for each share, and the proportion; None where the bounds cannot add up to `seats`.
pub fn allot(seats: f64, shares: &[Share]) -> Option<(Vec<f64>, f64)> {
    let (lowest, highest) = (sum(shares, |share| share.lower), sum(shares, |share| share.upper));
    if lowest - seats > TOLERANCE || seats - highest > TOLERANCE {
        return None;
    }
    let proportion = proportion(seats, shares);
    Some((shares.iter().map(|share| share.at(proportion)).collect(), proportion))
}

/// The sum grows with the proportion, in straight pieces between the proportions at which a bound begins or ends to
/// hold: find the piece, then the place within.
fn proportion(seats: f64, shares: &[Share]) -> f64 {
    let mut bends: Vec<f64> = shares
        .iter()
        .flat_map(|share| [share.lower, share.upper].map(|bound| bound / share.target()))
        .collect();
    bends.sort_by(f64::total_cmp);
    let total = |proportion: f64| sum(shares, |share| share.at(proportion));
    let Some(end) = bends.iter().position(|bend| total(*bend) >= seats - TOLERANCE) else {
        return bends.last().copied().unwrap_or(0.0);
    };
    let to = bends[end];
    let Some(from) = end.checked_sub(1).map(|before| bends[before]) else { return to };
    let (low, high) = (total(from), total(to));
    if high - low <= TOLERANCE {
        to
    } else {
        from + (to - from) * ((seats - low) / (high - low)).clamp(0.0, 1.0)
    }
}

fn sum(shares: &[Share], of: impl Fn(&Share) -> f64) -> f64 {
    shares.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(all: &[(f64, f64, f64)]) -> Vec<Share> {
        all.iter()
            .map(|(lower, target, upper)| Share { lower: *lower, target: *target, upper: *upper })
            .collect()
    }

    #[test]
    fn without_bounds_all_get_the_same_proportion() {
        let (seats, proportion) = allot(30.0, &shares(&[(0.0, 5.0, 99.0), (0.0, 10.0, 99.0)])).unwrap();
        assert!((proportion - 2.0).abs() < 1e-6);
        assert!((seats[0] - 10.0).abs() < 1e-6 && (seats[1] - 20.0).abs() < 1e-6);
    }

    #[test]
    fn who_is_at_a_bound_leaves_the_rest_to_the_others() {
        let (seats, _) =
            allot(30.0, &shares(&[(0.0, 10.0, 4.0), (6.0, 6.0, 99.0), (0.0, 1.0, 99.0)])).unwrap();
        assert!((seats[0] - 4.0).abs() < 1e-6, "{seats:?}");
        assert!((seats.iter().sum::<f64>() - 30.0).abs() < 1e-6);
    }

    #[test]
    fn bounds_that_cannot_add_up_have_no_answer() {
        assert!(allot(10.0, &shares(&[(11.0, 11.0, 12.0)])).is_none());
        assert!(allot(10.0, &shares(&[(1.0, 1.0, 9.0)])).is_none());
    }

    proptest! {
        #[test]
        fn the_seats_are_given_out_within_bounds_and_in_proportion(
            raw in prop::collection::vec((0.0..50.0, 0.0..50.0, 0.0..50.0), 1..8), place in 0.0..1.0
        ) {
            let shares: Vec<Share> = raw.iter()
                .map(|(lower, more, room)| Share { lower: *lower, target: lower + more, upper: lower + room })
                .collect();
            let (lowest, highest) = (sum(&shares, |share| share.lower), sum(&shares, |share| share.upper));
            let seats = lowest + (highest - lowest) * place;
            let (given, proportion) = allot(seats, &shares).unwrap();
            prop_assert!((given.iter().sum::<f64>() - seats).abs() < 1e-3, "{given:?} for {seats}");
            for (share, given) in shares.iter().zip(&given) {
                prop_assert!(*given >= share.lower - 1e-9 && *given <= share.upper + 1e-9);
                let free = *given > share.lower + 1e-6 && *given < share.upper - 1e-6;
                prop_assert!(!free || (given - proportion * share.target()).abs() < 1e-3);
            }
        }
    }
}
