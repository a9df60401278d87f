//! A host that keeps what it is told, and a store asked one thing at a time.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use kubecore_store::encryption::Encryption;
use kubecore_store::{Answer, Event, Host, Kind, Level, Limits, Read, Store, Ticket, Work, Write};
use parking_lot::Mutex;

#[derive(Default)]
pub struct Told {
    pub published: Vec<(u64, Vec<Event>)>,
    pub compacted: Vec<u64>,
    /// The sizes of the batches that were answered.
    pub answered: Vec<usize>,
    pub logged: Vec<(Level, String)>,
    /// What publishing does first; its work only where that succeeds.
    pub publishing: Option<Arc<dyn Fn() -> Result<(), String> + Send + Sync>>,
    pub now: f64,
    /// Reading the clock fails.
    pub stopped: bool,
}

#[derive(Clone, Default)]
pub struct TestHost(pub Arc<Mutex<Told>>);

/// Stands for a value that cannot be worked out.
pub const UNMADE: &str = "unmade";

/// Whom to answer, and a write's value.
pub struct Asker(Sender<Answer>, Vec<u8>);

impl Ticket for Asker {
    fn value(&self) -> Option<(&[u8], &[u8])> {
        (self.1 != UNMADE.as_bytes()).then_some((b"<", &self.1))
    }
}

/// Work, and the value of a write.
pub type Question = (Work, String);

impl Host for TestHost {
    type Ticket = Asker;

    fn now(&self) -> f64 {
        let told = self.0.lock();
        assert!(!told.stopped, "the clock has stopped");
        told.now
    }

    fn publish(&mut self, revision: u64, events: &[Event]) -> Result<(), String> {
        let publishing = self.0.lock().publishing.clone();
        publishing.map_or(Ok(()), |publishing| publishing())?;
        self.0.lock().published.push((revision, events.to_vec()));
        Ok(())
    }

    fn compacted(&mut self, revision: u64) {
        self.0.lock().compacted.push(revision);
    }

    fn answer(&mut self, answers: Vec<(Asker, Answer)>) {
        self.0.lock().answered.push(answers.len());
        for (ticket, answer) in answers {
            ticket.0.send(answer).unwrap();
        }
    }

    fn log(&mut self, level: Level, message: String) {
        self.0.lock().logged.push((level, message));
    }
}

pub const LIMITS: Limits =
    Limits { max_events: 100_000, min_events: 10_000, max_age: 600.0, sync: false, unindexed: 5 };

pub struct Asked {
    pub store: Store<Asker>,
    pub host: TestHost,
}

impl Asked {
    pub fn open(directory: &Path, limits: Limits) -> Self {
        Self::open_sealed(directory, limits, Encryption::default())
    }

    pub fn open_sealed(directory: &Path, limits: Limits, encryption: Encryption) -> Self {
        let host = TestHost::default();
        let store = Store::open(directory, limits, encryption, host.clone(), true).unwrap();
        Self { store, host }
    }

    /// Whose work is done by who hands it over.
    pub fn open_threadless(directory: &Path, limits: Limits) -> Self {
        let host = TestHost::default();
        let store = Store::open(directory, limits, Encryption::default(), host.clone(), false).unwrap();
        Self { store, host }
    }

    pub fn hand_over(&self, question: Question) -> Receiver<Answer> {
        self.hand_over_all([question]).remove(0)
    }

    pub fn hand_over_all(&self, questions: impl IntoIterator<Item = Question>) -> Vec<Receiver<Answer>> {
        let (mut answers, mut batch) = (Vec::new(), Vec::new());
        for (work, value) in questions {
            let (ticket, answer) = channel();
            batch.push((Asker(ticket, value.into_bytes()), work));
            answers.push(answer);
        }
        if let Err((batch, refusal)) = self.store.submit(batch) {
            for (asker, _) in batch {
                asker.0.send(Answer::Refused(refusal.clone())).unwrap();
            }
        }
        answers
    }

    pub fn ask(&self, question: Question) -> Answer {
        self.hand_over(question).recv().unwrap()
    }

    pub fn list(&self, prefix: &str, revision: u64) -> Answer {
        let (prefix, start) = (prefix.to_owned(), String::new());
        self.ask(other(Work::Read(Read::List { prefix, start, limit: 0, revision })))
    }

    pub fn close(self) {
        assert_eq!(self.ask(other(Work::Stop)), Answer::Nothing);
        self.store.join();
    }
}

pub fn write(kind: Kind, key: &str, value: &str, expected: u64) -> Question {
    (Work::Write(Write { kind, key: key.to_owned(), expected }), format!(">{value}"))
}

pub fn create(key: &str) -> Question {
    write(Kind::Create, key, "x", 0)
}

/// What is no write.
pub fn other(work: Work) -> Question {
    (work, String::new())
}
