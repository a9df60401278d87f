//! Shuffle sharding: a flow gets a hand of queues, so that few flows share all of theirs with a busy one.
//!
//! Source: apiserver `pkg/util/shufflesharding`.

/// The queues of a hand; no hand is larger (validation bounds it by the bits of a hash).
pub const LARGEST_HAND: usize = 15;

/// The queues that a flow's requests may wait in.
#[derive(Clone, Copy, Debug)]
pub struct Hand {
    /// Of the flow.
    hash: u64,
    deck: usize,
    wanted: usize,
    cards: [u32; LARGEST_HAND],
    size: usize,
}

impl Hand {
    /// `wanted` different numbers below `deck`, all hands equally likely; fewer where there are none.
    pub fn deal(hash: u64, deck: usize, wanted: usize) -> Self {
        let (cards, size) = deal(hash, deck, wanted);
        Self { hash, deck, wanted, cards, size }
    }

    /// Dealt of that deck, so many.
    pub fn is_of(&self, deck: usize, wanted: usize) -> bool {
        (self.deck, self.wanted) == (deck, wanted)
    }

    /// The same flow's, of another deck.
    pub fn dealt_anew(&self, deck: usize, wanted: usize) -> Self {
        Self::deal(self.hash, deck, wanted)
    }

    pub fn cards(&self) -> &[u32] {
        &self.cards[..self.size]
    }
}

fn deal(mut hash: u64, deck: usize, wanted: usize) -> ([u32; LARGEST_HAND], usize) {
    let (mut cards, mut sorted) = ([0; LARGEST_HAND], [0; LARGEST_HAND]);
    let size = wanted.min(deck).min(LARGEST_HAND);
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
            let dealt = Hand::deal(hash, 16, 4);
            let mut hand = dealt.cards().to_vec();
            hand.sort_unstable();
            hand.dedup();
            assert_eq!(hand.len(), 4, "{dealt:?}");
            assert!(hand.iter().all(|card| *card < 16));
        }
        assert_eq!(Hand::deal(7, 3, 8).cards().len(), 3);
    }

    #[test]
    fn every_hand_is_dealt_as_often_as_any_other() {
        let mut hands = BTreeMap::new();
        for hash in 0..(5 * 4 * 3) {
            *hands.entry(Hand::deal(hash, 5, 3).cards().to_vec()).or_insert(0) += 1;
        }
        assert_eq!(hands.len(), 60);
        assert!(hands.values().all(|times| *times == 1));
    }
}
