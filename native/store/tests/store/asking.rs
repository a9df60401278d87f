//! A host that keeps what it is told, and a store asked one thing at a time.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use kubecore_store::{Answer, Event, Host, Kind, Level, Limits, Read, Store, Template, Work, Write};
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

type Ticket = Sender<Answer>;

impl Host for TestHost {
    type Ticket = Ticket;

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

    fn answer(&mut self, answers: Vec<(Ticket, Answer)>) {
        self.0.lock().answered.push(answers.len());
        for (ticket, answer) in answers {
            ticket.send(answer).unwrap();
        }
    }

    fn log(&mut self, level: Level, message: String) {
        self.0.lock().logged.push((level, message));
    }
}

pub const LIMITS: Limits = Limits { max_events: 100_000, min_events: 10_000, max_age: 600.0, sync: false };

pub struct Asked {
    pub store: Store<Ticket>,
    pub host: TestHost,
}

impl Asked {
    pub fn open(directory: &Path, limits: Limits) -> Self {
        let host = TestHost::default();
        let store = Store::open(directory, limits, host.clone()).unwrap();
        Self { store, host }
    }

    pub fn hand_over(&self, work: Work) -> Receiver<Answer> {
        let (ticket, answer) = channel();
        if let Err((ticket, refusal)) = self.store.submit(ticket, work) {
            ticket.send(Answer::Refused(refusal)).unwrap();
        }
        answer
    }

    pub fn ask(&self, work: Work) -> Answer {
        self.hand_over(work).recv().unwrap()
    }

    pub fn list(&self, prefix: &str, revision: u64) -> Answer {
        let (prefix, start) = (prefix.to_owned(), String::new());
        self.ask(Work::Read(Read::List { prefix, start, limit: 0, revision }))
    }

    pub fn close(self) {
        assert_eq!(self.ask(Work::Stop), Answer::Nothing);
        self.store.join();
    }
}

pub fn write(kind: Kind, key: &str, value: &str, expected: u64) -> Work {
    let value = Template::new(b"<", format!(">{value}").as_bytes());
    Work::Write(Write { kind, key: key.to_owned(), value, expected })
}

pub fn create(key: &str) -> Work {
    write(Kind::Create, key, "x", 0)
}
