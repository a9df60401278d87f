//! The audit's log: a file that is rotated.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::backups::{Backups, Rotation};
use super::events::Events;
use super::legacy::as_text;
use super::parking::{Held, write_before_parking};
use super::sink::Sink;
use crate::complaint::complain;

/// Bytes of a file where nobody says how many, as in upstream's library for that.
const DEFAULT_MEGABYTES: u64 = 100;
/// Bytes that are written at once.
const LARGEST_WRITE: usize = 1 << 20;

/// Lines that wait for their thread to have served whom it can are written when they are so many bytes, or when
/// another comes so much later. When the thread waits they are written, unless others were so little ago.
const ENOUGH: usize = 64 << 10;
const LONG_ENOUGH: Duration = Duration::from_millis(1);

/// A file, or standard output for the path `-`. What is full is set aside under a name with the time.
///
/// Lines are written when they are taken, or (`grouped`) those that a worker of the runtime takes together, before it
/// waits for more requests, but once a millisecond at most while there are many. They keep their order in either case.
pub struct LogFile {
    log: Arc<Log>,
    /// A line of text for each event, and not JSON.
    legacy: bool,
    grouped: bool,
    clock: Clock,
}

struct Log {
    path: PathBuf,
    /// Of a file, in bytes.
    limit: usize,
    backups: Arc<Backups>,
    state: Mutex<State>,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    /// Lines to be written, of so many events, the first of which came then.
    lines: Vec<u8>,
    events: u64,
    since: Option<Duration>,
    /// When lines were written last.
    written: Option<Instant>,
    /// Somebody writes them once it is long enough ago.
    is_timed: bool,
    /// It could not be set aside, and that was told.
    stuck: bool,
    /// A write ended within a line, which the next one must not be glued to.
    torn: bool,
}

struct Open {
    file: File,
    size: u64,
    /// It is a file of this log's own, to be set aside once it is full: no device, no pipe, and not where this process
    /// says what it has to say.
    is_rotated: bool,
}

impl LogFile {
    pub fn open(
        path: &Path,
        rotation: Rotation,
        legacy: bool,
        grouped: bool,
        clock: Clock,
    ) -> io::Result<Self> {
        let megabytes = if rotation.megabytes == 0 { DEFAULT_MEGABYTES } else { rotation.megabytes };
        let log = Arc::new(Log {
            path: path.to_owned(),
            limit: (megabytes << 20) as usize,
            backups: Backups::new(path.to_owned(), rotation, clock.clone()),
            state: Mutex::default(),
            lost: AtomicU64::new(0),
        });
        if !log.is_output() {
            if let Some(folder) = log.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder)?;
            }
            log.state.lock().open = Some(append(&log.path)?);
            log.backups.tend_aside();
        }
        Ok(Self { log, legacy, grouped, clock })
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Held for Log {
    fn write_soon(self: Arc<Self>) {
        let mut state = self.state.lock();
        if state.lines.is_empty() {
            return;
        }
        let is_due = state.written.is_none_or(|last| last.elapsed() >= LONG_ENOUGH);
        match Handle::try_current() {
            Ok(runtime) if !is_due => {
                if std::mem::replace(&mut state.is_timed, true) {
                    return;
                }
                drop(state);
                runtime.spawn(async move {
                    sleep(LONG_ENOUGH).await;
                    let mut state = self.state.lock();
                    state.is_timed = false;
                    self.write_or_lose(&mut state);
                });
            }
            _ => drop(self.write_or_lose(&mut state)),
        }
    }
}

impl Log {
    fn is_output(&self) -> bool {
        self.path == Path::new("-")
    }

    /// Puts lines behind those that are to be written, as many as the file has room for at once.
    fn add(&self, state: &mut State, events: &Events) -> bool {
        let (room, mut written) = (self.limit.min(LARGEST_WRITE), true);
        if state.lines.len() + events.text().len() <= room {
            state.lines.extend_from_slice(events.text());
            state.events += events.len() as u64;
            return written;
        }
        for event in events.iter() {
            if state.lines.len() + event.len() > room {
                written &= self.write_or_lose(state);
            }
            state.lines.extend_from_slice(event);
            state.events += 1;
        }
        written
    }

    /// Whether what was to be written is.
    fn write_or_lose(&self, state: &mut State) -> bool {
        if state.lines.is_empty() {
            return true;
        }
        let written = self.write(state);
        if let Err((error, lost)) = &written
            && self.lost.fetch_add(*lost, Ordering::Relaxed) == 0
        {
            complain(format_args!("cannot write to the audit log {}: {error}", self.path.display()));
        }
        state.lines.clear();
        state.lines.shrink_to(ENOUGH);
        (state.events, state.since, state.written) = (0, None, Some(Instant::now()));
        written.is_ok()
    }

    /// Why it could not, and how many events are lost.
    fn write(&self, state: &mut State) -> Result<(), (io::Error, u64)> {
        if self.is_output() {
            return io::stdout().write_all(&state.lines).map_err(|error| (error, state.events));
        }
        self.make_room(state).map_err(|error| (error, state.events))?;
        let State { open, lines, torn, .. } = state;
        let Some(Open { file, size, .. }) = open.as_mut() else { return Ok(()) };
        if *torn {
            let (_, ended) = write_what_can_be(file, b"\n");
            ended.map_err(|error| (error, state.events))?;
            (*torn, *size) = (false, *size + 1);
        }
        let (there, ended) = write_what_can_be(file, lines);
        *size += there as u64;
        let (before, missing) = lines.split_at(there);
        *torn = ended.is_err() && before.last().is_some_and(|last| *last != b'\n');
        ended.map_err(|error| (error, missing.iter().filter(|byte| **byte == b'\n').count() as u64))
    }

    /// Opens a file where none is, or where the one that is has no room for the lines.
    fn make_room(&self, state: &mut State) -> io::Result<()> {
        let State { open, lines, stuck, torn, .. } = state;
        let (limit, more) = (self.limit as u64, lines.len() as u64);
        if open.as_ref().is_some_and(|open| open.is_rotated && open.size > 0 && open.size + more > limit) {
            match self.turn_over() {
                Ok(empty) => (*open, *stuck, *torn) = (Some(empty), false, false),
                // Rather a file that is too long than a line less.
                Err(error) if !*stuck => {
                    *stuck = true;
                    complain(format_args!("cannot rotate the audit log {}: {error}", self.path.display()));
                }
                Err(_) => {}
            }
        }
        if open.is_none() {
            *open = Some(append(&self.path)?);
        }
        Ok(())
    }

    /// The file that takes the place of a full one.
    fn turn_over(&self) -> io::Result<Open> {
        self.backups.set_aside()?;
        let empty = append(&self.path)?;
        self.backups.tend_aside();
        Ok(empty)
    }
}

/// How many bytes were written, and why no more.
fn write_what_can_be(file: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut there = 0;
    while there < bytes.len() {
        match file.write(&bytes[there..]) {
            Ok(0) => return (there, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => there += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (there, Err(error)),
        }
    }
    (there, Ok(()))
}

fn append(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let found = file.metadata()?;
    Ok(Open { file, size: found.len(), is_rotated: is_own(&found, &outputs()) })
}

/// Where this process says what it has to say.
fn outputs() -> Vec<Metadata> {
    let told = |stream: &dyn AsFd| File::from(stream.as_fd().try_clone_to_owned().ok()?).metadata().ok();
    [told(&io::stdout()), told(&io::stderr())].into_iter().flatten().collect()
}

fn is_own(found: &Metadata, outputs: &[Metadata]) -> bool {
    let is_same = |output: &Metadata| (output.dev(), output.ino()) == (found.dev(), found.ino());
    found.is_file() && !outputs.iter().any(is_same)
}

impl Sink for LogFile {
    fn take(&self, events: &Events) -> bool {
        let texts = self.legacy.then(|| events.iter().map(as_text).collect::<Events>());
        let mut state = self.log.state.lock();
        let mut written = self.log.add(&mut state, texts.as_ref().unwrap_or(events));
        let now = events.at.unwrap_or_else(|| self.clock.unix());
        let waited = now.saturating_sub(*state.since.get_or_insert(now));
        let is_soon_enough = state.lines.len() < ENOUGH && waited < LONG_ENOUGH;
        if !(self.grouped && is_soon_enough && write_before_parking(&self.log)) {
            written &= self.log.write_or_lose(&mut state);
        }
        written
    }

    fn settle(&self) {
        self.log.write_or_lose(&mut self.log.state.lock());
    }

    fn lost(&self) -> u64 {
        self.log.lost.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        "log"
    }
}

#[cfg(test)]
mod tests;
