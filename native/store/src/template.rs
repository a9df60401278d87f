//! A value whose revision is not known yet.

use bytes::Bytes;

/// Decimal digits of the largest revision.
const DIGITS: usize = 20;

/// head + revision in decimal + tail, in one buffer: room for the revision is left between them, and the head, by far
/// the shorter of the two, moves to where the digits begin.
#[derive(Clone, Debug)]
pub struct Template {
    buffer: Vec<u8>,
    /// Where the head is now, how long it is, and where the tail begins.
    start: usize,
    head: usize,
    tail: usize,
}

impl Template {
    pub fn new(head: &[u8], tail: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(head.len() + DIGITS + tail.len());
        buffer.extend_from_slice(head);
        buffer.extend_from_slice(&[0; DIGITS]);
        buffer.extend_from_slice(tail);
        Self { buffer, start: 0, head: head.len(), tail: head.len() + DIGITS }
    }

    /// The value at `revision`; it may be rendered again, at another.
    pub fn render(&mut self, revision: u64) -> &[u8] {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(revision).as_bytes();
        let place = self.tail - digits.len();
        let start = place - self.head;
        self.buffer.copy_within(self.start..self.start + self.head, start);
        self.buffer[place..self.tail].copy_from_slice(digits);
        self.start = start;
        &self.buffer[start..]
    }

    /// The value as it was rendered last.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.buffer).slice(self.start..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_is_its_head_the_revision_and_its_tail_however_often_it_is_rendered(
            head: Vec<u8>, tail: Vec<u8>, revisions in prop::collection::vec(any::<u64>(), 1..5)
        ) {
            let mut template = Template::new(&head, &tail);
            let mut expected = Vec::new();
            for revision in revisions {
                expected = [&head, revision.to_string().as_bytes(), &tail].concat();
                prop_assert_eq!(template.render(revision), &expected);
            }
            prop_assert_eq!(template.into_bytes(), expected);
        }
    }
}
