//! A queue in which everybody has a line of his own, and those whose lines are not empty take turns: who asks for a
//! thousand things keeps another, who asks for one, waiting for one of them.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

pub(crate) struct Turns<K, T> {
    lines: HashMap<K, VecDeque<T>>,
    /// Whose turn it is, then who comes next: those with lines, each once.
    order: VecDeque<K>,
    waiting: usize,
}

impl<K: Hash + Eq + Clone, T> Turns<K, T> {
    pub fn new() -> Self {
        Self { lines: HashMap::new(), order: VecDeque::new(), waiting: 0 }
    }

    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether somebody has a line.
    pub fn has<Q>(&self, whose: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lines.contains_key(whose)
    }

    /// To the end of this line; a new line's turn comes after those that are there.
    pub fn push(&mut self, whose: K, what: T) {
        self.waiting += 1;
        if let Some(line) = self.lines.get_mut(&whose) {
            return line.push_back(what);
        }
        self.order.push_back(whose.clone());
        self.lines.insert(whose, VecDeque::from([what]));
    }

    /// The oldest of the line whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let whose = self.order.pop_front()?;
        let line = self.lines.get_mut(&whose)?;
        let what = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&whose);
        } else {
            self.order.push_back(whose);
        }
        self.waiting -= 1;
        what
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drained<K: Hash + Eq + Clone, T>(turns: &mut Turns<K, T>) -> Vec<T> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn one_of_a_crowd_does_not_wait_for_the_crowd() {
        let mut turns = Turns::new();
        for number in 0..1000 {
            turns.push("crowd", number);
        }
        assert_eq!(turns.pop(), Some(0));
        turns.push("other", -1);
        assert_eq!([turns.pop(), turns.pop(), turns.pop()], [Some(1), Some(-1), Some(2)]);
        assert_eq!(turns.len(), 997);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_line_keeps_its_order(pushed in prop::collection::vec(0..4_u8, 0..64)) {
            let mut turns = Turns::new();
            for (number, whose) in pushed.iter().enumerate() {
                turns.push(*whose, (*whose, number));
            }
            prop_assert_eq!(turns.len(), pushed.len());
            let popped = drained(&mut turns);
            for line in 0..4 {
                let of = |all: &[(u8, usize)]| -> Vec<usize> {
                    all.iter().filter(|(whose, _)| *whose == line).map(|(_, number)| *number).collect()
                };
                let sent: Vec<(u8, usize)> = pushed.iter().copied().zip(0..).collect();
                prop_assert_eq!(of(&popped), of(&sent));
            }
            prop_assert!(turns.lines.is_empty() && turns.order.is_empty() && turns.len() == 0);
        }

        #[test]
        fn among_those_who_wait_nobody_is_served_twice_before_another_once(lengths in prop::collection::vec(1..9_usize, 1..5)) {
            let mut turns = Turns::new();
            for (whose, length) in lengths.iter().enumerate() {
                (0..*length).for_each(|_| turns.push(whose, whose));
            }
            let popped = drained(&mut turns);
            let first_round: std::collections::HashSet<usize> = popped[..lengths.len()].iter().copied().collect();
            prop_assert_eq!(first_round.len(), lengths.len());
        }
    }
}
