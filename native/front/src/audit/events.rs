//! Events on their way to where they belong: lines of text in one piece of memory.

use std::time::Duration;

/// Lines, each with its end.
#[derive(Debug, Default)]
pub struct Events {
    pub(super) text: Vec<u8>,
    ends: Vec<usize>,
    /// When the last one came to be told, by the clock. Of events that somebody else brings nobody knows.
    pub(super) at: Option<Duration>,
}

impl Events {
    /// What was written to `text` since the last one is an event.
    pub(super) fn end(&mut self) {
        self.end_at(self.text.len());
    }

    /// So is what was written up to there.
    pub(super) fn end_at(&mut self, end: usize) {
        self.ends.push(end);
    }

    pub fn push(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.end();
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// For others, in the same memory unless that has become large.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(LARGEST_KEPT);
        self.ends.clear();
    }
}

const LARGEST_KEPT: usize = 64 << 10;

impl<L: AsRef<[u8]>> FromIterator<L> for Events {
    fn from_iter<I: IntoIterator<Item = L>>(lines: I) -> Self {
        let mut made = Self::default();
        lines.into_iter().for_each(|line| made.push(line.as_ref()));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_and_together() {
        let mut events: Events = ["a\n", "", "bc\n"].into_iter().collect();
        assert_eq!(events.iter().collect::<Vec<_>>(), [&b"a\n"[..], b"", b"bc\n"]);
        assert_eq!((events.len(), events.text()), (3, &b"a\nbc\n"[..]));
        events.clear();
        assert!(events.is_empty() && events.text().is_empty());
    }
}
