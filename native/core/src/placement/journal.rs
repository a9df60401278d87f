//! Which nodes have changed, for whoever remembers what was so of each.

use super::nodes::Slot;

/// Whoever is further behind does better to look at all nodes anew.
const MOST: usize = 4096;

/// Slots in the order of the changes; one may be there several times.
#[derive(Default)]
pub struct Journal {
    /// How many changes came before the first one that is still told.
    forgotten: u64,
    slots: Vec<Slot>,
}

impl Journal {
    pub fn note(&mut self, slot: Slot) {
        if self.slots.len() >= MOST {
            self.slots.drain(..MOST / 2);
            self.forgotten += (MOST / 2) as u64;
        }
        self.slots.push(slot);
    }

    /// How many changes there were.
    pub fn now(&self) -> u64 {
        self.forgotten + self.slots.len() as u64
    }

    /// The changes after the first `known`; None if they are not all told any more.
    pub fn since(&self, known: u64) -> Option<&[Slot]> {
        let place = known.checked_sub(self.forgotten)?;
        self.slots.get(place as usize..)
    }
}

#[cfg(test)]
mod tests {
    use super::{Journal, MOST};

    #[test]
    fn changes_are_told_in_their_order_until_they_are_too_many() {
        let mut journal = Journal::default();
        let start = journal.now();
        assert_eq!(journal.since(start), Some(&[][..]));
        journal.note(3);
        journal.note(1);
        assert_eq!(journal.since(start), Some(&[3, 1][..]));
        let later = journal.now();
        (0..MOST - 2).for_each(|slot| journal.note(slot));
        assert_eq!(journal.since(later).map(<[usize]>::len), Some(MOST - 2));
        journal.note(7);
        assert_eq!(journal.since(start), None);
        assert_eq!(journal.since(journal.now() - 1), Some(&[7][..]));
        assert_eq!(journal.since(journal.now()), Some(&[][..]));
    }
}
