//! Shuffle sharding: a flow gets a hand of queues, so that few flows share all of theirs with a busy one.
//!
//! Source: apiserver `pkg/util/shufflesharding`.

/// The queues of a hand; no hand is larger (validation bounds it by the bits of a hash).
pub const LARGEST_HAND: usize = 15;

/// `hand` different numbers below `deck`, all hands equally likely. `hand <= deck` and `hand <= LARGEST_HAND`.
pub fn deal(mut hash: u64, deck: usize, hand: usize) -> ([u32; LARGEST_HAND], usize) {
    let (mut cards, mut sorted) = ([0; LARGEST_HAND], [0; LARGEST_HAND]);
    let size = hand.min(deck).min(LARGEST_HAND);
    for (dealt, place) in cards.iter_mut().enumerate().take(size) {
        let left = (deck - dealt) as u64;
        let mut card = (hash % left) as u32;
        hash /= left;
        // The card is one of those left: count past those that are gone.
        let mut below = 0;
        while below < dealt && card >= sorted[below] {
            card += 1;
            below += 1;
        }
        sorted.copy_within(below..dealt, below + 1);
        sorted[below] = card;
        *place = card;
    }
    (cards, size)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_hand_has_different_queues_of_the_deck() {
        for hash in (0..2_000).map(|seed: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let (cards, size) = deal(hash, 16, 4);
            let mut hand = cards[..size].to_vec();
            hand.sort_unstable();
            hand.dedup();
            assert_eq!(hand.len(), 4, "{cards:?}");
            assert!(hand.iter().all(|card| *card < 16));
        }
        assert_eq!(deal(7, 3, 8).1, 3);
    }

    #[test]
    fn every_hand_is_dealt_as_often_as_any_other() {
        let mut hands = BTreeMap::new();
        for hash in 0..(5 * 4 * 3) {
            *hands.entry(deal(hash, 5, 3).0[..3].to_vec()).or_insert(0) += 1;
        }
        assert_eq!(hands.len(), 60);
        assert!(hands.values().all(|times| *times == 1));
    }
}
