//! What the writer is asked for, and what it answers.

use std::sync::Arc;

use bytes::Bytes;

use crate::encryption::Encryption;

/// What an answer is told by. That of a write holds its value: the stored bytes are head + revision in decimal + tail.
pub trait Ticket: Send + 'static {
    /// Head and tail; empty for what is no write. Asked once, in the writer's thread, where it may be worked out first;
    /// None when it turns out that there is no such value.
    fn value(&self) -> Option<(&[u8], &[u8])>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    Update,
    Delete,
}

/// One write; `expected` is the revision that an update or delete needs. A delete's value is the last one there was.
#[derive(Clone, Debug)]
pub struct Write {
    pub kind: Kind,
    pub key: String,
    pub expected: u64,
}

#[derive(Clone, Debug)]
pub enum Read {
    Get {
        key: String,
    },
    /// Keys under `prefix` from `start` on, at most `limit` (0: all), as of `revision` (0: now).
    List {
        prefix: String,
        start: String,
        limit: usize,
        revision: u64,
    },
    /// Writes above the revision `since`, at most `limit` (0: all).
    Events {
        since: u64,
        limit: usize,
    },
}

#[derive(Clone, Debug)]
pub enum Work {
    Write(Write),
    Read(Read),
    Compact(u64),
    /// Values are sealed so from now on, also those that are there.
    Encrypt(Arc<Encryption>),
    /// The last there is: the thread ends when it is answered.
    Stop,
}

/// A committed write, as it is published and as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub deleted: bool,
    pub key: String,
    pub revision: u64,
    pub value: Bytes,
    /// The revision this one replaced, 0 when there was none.
    pub previous: u64,
}

/// A key's value at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub revision: u64,
    pub value: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub revision: u64,
    pub entries: Vec<Entry>,
    /// The key to go on from.
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Also the answer to `Get`.
    Stored {
        revision: u64,
        value: Bytes,
    },
    /// There is no such key, or there is nothing to tell.
    Nothing,
    Page(Page),
    Events(Vec<Event>),
    Refused(Refusal),
}

/// Nothing was done, except where it says `Failed`: there nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    KeyExists {
        key: String,
    },
    KeyMissing {
        key: String,
    },
    Conflict {
        key: String,
        expected: u64,
        actual: u64,
    },
    Compacted {
        revision: u64,
        compacted: u64,
    },
    /// The write's value could not be worked out.
    Unmade {
        key: String,
    },
    Closed,
    Failed(String),
}

impl Refusal {
    pub(crate) fn yet_to_come(revision: u64, last: u64) -> Self {
        Self::Failed(format!("revision {revision} is yet to come, last is {last}"))
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
