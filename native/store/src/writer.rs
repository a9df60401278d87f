//! Who does all the work: a thread of its own, or, where whoever asks has nothing else to do, the asking one.
//!
//! The thread takes whatever queued up during its previous commit, applies it in one transaction, syncs, publishes, and
//! answers all of it at once. There is no timer: under load the batches grow by themselves, and a lone write goes at
//! once.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use crate::compaction::Compaction;
use crate::encryption::Encryption;
use crate::file::{Failure, LogFile, OpenError, Outcome};
use crate::operation::{Answer, Event, Kind, Refusal, Ticket, Work};
use crate::writing::{Standing, Valued, Written};

/// So many or a little more, since what was handed over together stays together.
const MAX_BATCH: usize = 1024;
/// After so many writes the writer looks whether a compaction is due.
const CHECK_EVERY: u64 = 1000;
/// Keys that go into `current` with a commit, for each of its writes and at least.
const FOLDED_EACH: usize = 4;
const FOLDED_LEAST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Error,
}

/// Whom the writer works for; it calls from the thread it works on and must not be kept waiting.
pub trait Host: Send + 'static {
    type Ticket: Ticket;

    /// Unix seconds.
    fn now(&self) -> f64;

    /// Committed writes in revision order, the last of `revision`; answered after this.
    fn publish(&mut self, revision: u64, events: &[Event]) -> Result<(), String>;

    /// History up to and including `revision` is gone.
    fn compacted(&mut self, revision: u64);

    fn answer(&mut self, answers: Answers<Self::Ticket>);

    fn log(&mut self, level: Level, message: String);
}

/// How much history is kept: at most `max_events` writes, and of those older than `max_age` seconds none beyond the
/// newest `min_events`. Without `sync` nothing is sure to survive a crash of the machine. `unindexed` keys may be known
/// in memory and by the log alone, which who opens the file reads.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_events: u64,
    pub min_events: u64,
    pub max_age: f64,
    pub sync: bool,
    pub unindexed: usize,
}

/// What others may look at while the thread works.
#[derive(Default)]
pub(crate) struct Shared {
    pub revision: AtomicU64,
    pub compacted: AtomicU64,
    /// Set once: no more work is taken.
    pub failure: Mutex<Option<String>>,
}

pub(crate) type Batch<T> = Vec<(T, Work)>;
pub(crate) type Answers<T> = Vec<(T, Answer)>;

/// Does a batch; false when it was the last.
pub(crate) type Works<T> = Box<dyn FnMut(Batch<T>) -> bool + Send>;

pub(crate) struct Writer<H: Host> {
    file: LogFile,
    limits: Limits,
    host: H,
    directory: PathBuf,
    shared: Arc<Shared>,
    compaction: Option<Compaction>,
    /// The revision at which was looked last whether a compaction is due.
    checked: u64,
}

impl<H: Host> Writer<H> {
    /// The directory must be there, and nobody else use it.
    pub fn open(
        directory: &Path,
        limits: Limits,
        encryption: Encryption,
        host: H,
    ) -> Result<(Self, Arc<Shared>), OpenError> {
        let mut file = LogFile::open(directory, limits.sync, limits.unindexed)?;
        let told = |failure: Failure| OpenError::Unreadable(failure.told(directory));
        if !encryption.is_empty() {
            file.encrypt(Arc::new(encryption))
                .map_err(|failure| OpenError::Sealed(failure.told(directory)))?;
        }
        let (revision, compacted) = file.revisions().map_err(told)?;
        let shared = Arc::new(Shared::default());
        shared.revision.store(revision, Ordering::Release);
        shared.compacted.store(compacted, Ordering::Release);
        let writer = Self {
            file,
            limits,
            host,
            directory: directory.to_owned(),
            shared: Arc::clone(&shared),
            compaction: None,
            checked: revision,
        };
        Ok((writer, shared))
    }

    pub fn run(mut self, queue: &Receiver<Batch<H::Ticket>>) {
        while let Some(batch) = self.next_batch(queue) {
            if let Some(last) = self.turn(batch) {
                return self.end(last);
            }
        }
    }

    /// For whoever hands work over to do it.
    pub fn on_demand(self) -> Works<H::Ticket> {
        let mut writer = Some(self);
        Box::new(move |batch| {
            let Some(mut working) = writer.take() else { return false };
            match working.turn(batch) {
                Some(last) => working.end(last),
                None => {
                    // Nobody else does it when nothing is asked for.
                    while working.compaction.is_some() {
                        working.tend_history();
                    }
                    writer = Some(working);
                }
            }
            writer.is_some()
        })
    }

    /// Does the work and answers it; of a batch that ends with a `Stop`, the answers are left to `end`.
    fn turn(&mut self, batch: Batch<H::Ticket>) -> Option<Answers<H::Ticket>> {
        let (mut tickets, mut work): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let stops = matches!(work.last(), Some(Work::Stop));
        if !work.is_empty() {
            let last = if stops { work.pop().and(tickets.pop()) } else { None };
            let answers = self.guarded(&tickets, work);
            let mut answers: Vec<_> = tickets.into_iter().zip(answers).collect();
            answers.extend(last.map(|ticket| (ticket, Answer::Nothing)));
            if stops {
                return Some(answers);
            }
            self.host.answer(answers);
        }
        self.tend_history();
        None
    }

    /// Brings the index up to date, and closes the file first: who was told that the store is closed may open it again.
    fn end(self, answers: Answers<H::Ticket>) {
        let Self { mut file, mut host, shared, directory, .. } = self;
        let newest = shared.revision.load(Ordering::Acquire);
        while !file.recent.is_empty() {
            let folded = file.fold_slice(newest);
            let grown = if folded == Err(Failure::MapFull) { file.grow().map(drop) } else { folded };
            if let Err(failure) = grown {
                // What is missing is in the log.
                host.log(
                    Level::Info,
                    format!("storage: the index is not whole: {}", failure.told(&directory)),
                );
                break;
            }
        }
        drop(file);
        host.answer(answers);
    }

    /// What is queued, up to a `Stop`; waits for something unless a compaction has slices left to do. None when nobody
    /// is left to ask for anything.
    fn next_batch(&mut self, queue: &Receiver<Batch<H::Ticket>>) -> Option<Batch<H::Ticket>> {
        let mut batch = Vec::new();
        if self.compaction.is_none() {
            batch = queue.recv().ok()?;
        }
        while batch.len() < MAX_BATCH && !matches!(batch.last(), Some((_, Work::Stop))) {
            match queue.try_recv() {
                Ok(more) => batch.extend(more),
                Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Every work's answer, also after a panic.
    fn guarded(&mut self, tickets: &[H::Ticket], work: Vec<Work>) -> Vec<Answer> {
        let count = work.len();
        catch_unwind(AssertUnwindSafe(|| self.process(tickets, work))).unwrap_or_else(|panic| {
            let failure = format!("internal error of the store: {}", panic_text(&*panic));
            self.host.log(Level::Error, format!("{failure}: it takes no more work"));
            *self.shared.failure.lock() = Some(failure.clone());
            vec![Refusal::Failed(failure).into(); count]
        })
    }

    /// Everything in queue order: runs of writes share a transaction, a read sees the writes before it.
    fn process(&mut self, tickets: &[H::Ticket], work: Vec<Work>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(work.len());
        let mut writes = Vec::new();
        for (ticket, one) in tickets.iter().zip(work) {
            match one {
                Work::Write(write) => {
                    writes.push((write, ticket.value()));
                    continue;
                }
                _ => self.write_all(&mut writes, &mut answers),
            }
            answers.push(match one {
                Work::Read(read) => {
                    let read = self.file.read(&read, self.standing());
                    read.unwrap_or_else(|failure| self.failed(&failure))
                }
                Work::Compact(revision) => self.compact(revision),
                Work::Encrypt(encryption) => {
                    let done = self.file.encrypt(encryption);
                    done.map_or_else(|failure| self.failed(&failure), |()| Answer::Nothing)
                }
                Work::Write(_) | Work::Stop => Answer::Nothing,
            });
        }
        self.write_all(&mut writes, &mut answers);
        answers
    }

    fn standing(&self) -> Standing {
        Standing {
            revision: self.shared.revision.load(Ordering::Acquire),
            compacted: self.shared.compacted.load(Ordering::Acquire),
        }
    }

    fn failed(&self, failure: &Failure) -> Answer {
        Refusal::Failed(format!("storage failed: {}", failure.told(&self.directory))).into()
    }

    /// One durable transaction for all of them; a failed precondition fails its own write only.
    fn write_all(&mut self, writes: &mut Vec<Valued<'_>>, answers: &mut Vec<Answer>) {
        let writes = std::mem::take(writes);
        if writes.is_empty() {
            return;
        }
        let failure = self.shared.failure.lock().clone();
        if let Some(failure) = failure {
            answers.extend(writes.iter().map(|_| Answer::from(Refusal::Failed(failure.clone()))));
            return;
        }
        match self.commit(&writes) {
            Ok(outcomes) => self.publish(writes, outcomes, answers),
            Err(failure) => {
                let told = failure.told(&self.directory);
                self.host
                    .log(Level::Error, format!("{} writes failed: storage failed: {told}", writes.len()));
                if writes.len() == 1 {
                    answers.push(self.failed(&failure));
                } else {
                    // One of them may be the culprit: the others deserve a transaction of their own.
                    writes.into_iter().for_each(|one| self.write_all(&mut vec![one], answers));
                }
            }
        }
    }

    fn commit(&mut self, writes: &[Valued<'_>]) -> Outcome<Vec<Result<Written, Refusal>>> {
        let (standing, now) = (self.standing(), self.host.now() as u64);
        let mut fold = FOLDED_LEAST.max(FOLDED_EACH * writes.len());
        loop {
            let needed = self.compaction.as_mut().map(|compaction| &mut compaction.needed);
            match self.file.write(writes, (standing, now), needed, fold) {
                Err(Failure::MapFull) => self.grow()?,
                // A disk that is nearly full may have room for the writes.
                Err(_) if fold > 0 => fold = 0,
                done => return done,
            }
        }
    }

    fn grow(&mut self) -> Outcome<()> {
        let size = self.file.grow()?;
        self.host.log(Level::Info, format!("storage: the map has grown to {} MiB", size >> 20));
        Ok(())
    }

    /// Publishes what was committed, then answers it.
    fn publish(
        &mut self,
        writes: Vec<Valued<'_>>,
        outcomes: Vec<Result<Written, Refusal>>,
        answers: &mut Vec<Answer>,
    ) {
        let mut events = Vec::with_capacity(writes.len());
        for ((write, _), outcome) in writes.into_iter().zip(outcomes) {
            match outcome {
                Ok(Written { revision, previous, value }) => {
                    let deleted = write.kind == Kind::Delete;
                    answers.push(Answer::Stored { revision, value: value.clone() });
                    events.push(Event { deleted, key: write.key, revision, value, previous });
                }
                Err(refusal) => answers.push(refusal.into()),
            }
        }
        let Some(last) = events.last() else { return };
        let revision = last.revision;
        self.shared.revision.store(revision, Ordering::Release);
        let published = catch_unwind(AssertUnwindSafe(|| self.host.publish(revision, &events)));
        if let Err(error) = published.unwrap_or_else(|panic| Err(panic_text(&*panic))) {
            // Durable but unseen: readers would miss it for ever, so the store takes no more work.
            self.host.log(Level::Error, format!("publishing revision {revision} failed: {error}"));
            *self.shared.failure.lock() = Some(format!("the watch cache failed: {error}"));
        }
    }

    // --- history

    fn compact(&mut self, revision: u64) -> Answer {
        let standing = self.standing();
        if revision > standing.revision {
            return Refusal::yet_to_come(revision, standing.revision).into();
        }
        if revision <= standing.compacted {
            return Refusal::Compacted { revision, compacted: standing.compacted }.into();
        }
        self.finish_compaction();
        self.compaction = Some(Compaction::new(revision));
        self.finish_compaction();
        Answer::Nothing
    }

    fn finish_compaction(&mut self) {
        while self.compaction.is_some() {
            self.compaction_slice();
        }
    }

    /// After each batch: one slice of a compaction under way, or now and then a look whether one is due.
    fn tend_history(&mut self) {
        let tended = catch_unwind(AssertUnwindSafe(|| {
            if self.compaction.is_some() {
                self.compaction_slice();
            } else {
                self.look_for_compaction();
            }
        }));
        if let Err(panic) = tended {
            self.compaction = None;
            self.host.log(Level::Error, format!("storage: compaction failed: {}", panic_text(&*panic)));
        }
    }

    fn look_for_compaction(&mut self) {
        let standing = self.standing();
        if standing.revision - self.checked < CHECK_EVERY {
            return;
        }
        self.checked = standing.revision;
        match self.compaction_target(standing) {
            Ok(target) if target > standing.compacted => self.compaction = Some(Compaction::new(target)),
            Ok(_) => (),
            Err(failure) => self.compaction_stopped(&failure),
        }
    }

    /// Up to which revision history may go now; what is compacted already when nothing is due.
    ///
    /// A quarter of slack keeps compactions rare and worth their scan.
    fn compaction_target(&self, standing: Standing) -> Outcome<u64> {
        let Standing { revision, compacted, .. } = standing;
        let worth = |events: u64| revision - compacted > events.saturating_add(events / 4);
        let Limits { max_events, min_events, max_age, .. } = self.limits;
        let by_count = if worth(max_events) { revision - max_events } else { compacted };
        if !worth(min_events) {
            return Ok(by_count);
        }
        let before = self.host.now() - max_age;
        Ok(self.file.newest_before(before, compacted, revision - min_events)?.max(by_count))
    }

    fn compaction_slice(&mut self) {
        let standing = self.standing();
        let Some(compaction) = &mut self.compaction else { return };
        let finished = compaction.slice(&mut self.file, standing.revision);
        if compaction.marked && standing.compacted < compaction.revision {
            self.shared.compacted.store(compaction.revision, Ordering::Release);
            self.host.compacted(compaction.revision);
        }
        match finished {
            Ok(false) => (),
            Ok(true) => self.compaction = None,
            // It moves values: their slice is tried again.
            Err(Failure::MapFull) => {
                if let Err(failure) = self.grow() {
                    self.compaction_stopped(&failure);
                }
            }
            Err(failure) => self.compaction_stopped(&failure),
        }
    }

    fn compaction_stopped(&mut self, failure: &Failure) {
        self.compaction = None;
        let told = failure.told(&self.directory);
        self.host.log(Level::Error, format!("storage: compaction stopped: {told}"));
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
