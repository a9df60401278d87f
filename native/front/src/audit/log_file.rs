//! The audit's log: a file that is rotated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use serde_json::Value;

use super::backups::{Backups, Rotation};
use super::events::Events;
use super::parking::{Held, write_before_parking};
use super::sink::Sink;
use crate::complaint::complain;

/// Bytes of a file where nobody says how many, as in upstream's library for that.
const DEFAULT_MEGABYTES: u64 = 100;

/// Bytes that are written at once.
const LARGEST_WRITE: usize = 1 << 20;

/// Lines that wait for their thread to have served whom it can are written when they are so many bytes, or when
/// another comes so much later.
const ENOUGH: usize = 64 << 10;
const LONG_ENOUGH: Duration = Duration::from_millis(1);

/// A file, or standard output for the path `-`. What is full is set aside under a name with the time.
///
/// Lines are written when they are taken, or (`grouped`) those that a worker of the runtime takes together, before it
/// waits for more requests. They keep their order in either case.
pub struct LogFile {
    log: Arc<Log>,
    /// A line of text for each event, and not JSON.
    legacy: bool,
    grouped: bool,
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
    /// With its size.
    open: Option<(File, u64)>,
    /// Lines to be written, of so many events, the first of which came then.
    lines: Vec<u8>,
    events: u64,
    since: Option<Instant>,
    /// It could not be set aside, and that was told.
    stuck: bool,
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
            backups: Backups::new(path.to_owned(), rotation, clock),
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
        Ok(Self { log, legacy, grouped })
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Held for Log {
    fn write_now(&self) {
        self.write_or_lose(&mut self.state.lock());
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
        if let Err(error) = &written
            && self.lost.fetch_add(state.events, Ordering::Relaxed) == 0
        {
            complain(format_args!("cannot write to the audit log {}: {error}", self.path.display()));
        }
        state.lines.clear();
        state.lines.shrink_to(ENOUGH);
        (state.events, state.since) = (0, None);
        written.is_ok()
    }

    fn write(&self, state: &mut State) -> io::Result<()> {
        let State { open, lines, stuck, .. } = state;
        if self.is_output() {
            return io::stdout().write_all(lines);
        }
        let limit = self.limit as u64;
        if open.as_ref().is_some_and(|(_, size)| *size > 0 && size + lines.len() as u64 > limit) {
            match self.turn_over() {
                Ok(empty) => (*open, *stuck) = (Some(empty), false),
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
        let Some((file, size)) = open.as_mut() else { return Ok(()) };
        *size += lines.len() as u64;
        file.write_all(lines)
    }

    /// The file that takes the place of a full one.
    fn turn_over(&self) -> io::Result<(File, u64)> {
        self.backups.set_aside()?;
        let empty = append(&self.path)?;
        self.backups.tend_aside();
        Ok(empty)
    }
}

/// As upstream's EventString (`pkg/audit/format.go`).
fn as_text(event: &[u8]) -> Vec<u8> {
    let Ok(event) = serde_json::from_slice::<Value>(event) else { return Vec::new() };
    let text = |pointer: &str, missing: &str| match event.pointer(pointer).and_then(Value::as_str) {
        None | Some("") => missing.to_owned(),
        Some(found) => found.to_owned(),
    };
    let groups = |pointer: &str, missing: &str| match event.pointer(pointer).and_then(Value::as_array) {
        Some(found) if !found.is_empty() => found.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
        _ => missing.to_owned(),
    };
    let quoted = |text: String| Value::from(text).to_string();
    let received = text("/requestReceivedTimestamp", "");
    let received = received.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.').to_owned();
    let known = event.pointer("/user/username").is_some();
    let code =
        event.pointer("/responseStatus/code").map_or_else(|| "<deferred>".to_owned(), Value::to_string);
    let parts = [
        ("id", text("/auditID", "")),
        ("stage", text("/stage", "")),
        ("ip", text("/sourceIPs/0", "<unknown>")),
        ("method", text("/verb", "")),
        ("user", text("/user/username", "<none>")),
        ("groups", if known { groups("/user/groups", "<none>") } else { "<none>".to_owned() }),
        ("as", text("/impersonatedUser/username", "<self>")),
        ("asgroups", groups("/impersonatedUser/groups", "<lookup>")),
        ("user-agent", text("/userAgent", "")),
        ("namespace", text("/objectRef/namespace", "<none>")),
        ("uri", text("/requestURI", "")),
        ("response", code),
    ];
    let told = parts.map(|(name, value)| format!("{name}={}", quoted(value))).join(" ");
    format!("{received}Z AUDIT: {told}\n").into_bytes()
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Sink for LogFile {
    fn take(&self, events: &Events) -> bool {
        let texts = self.legacy.then(|| events.iter().map(as_text).collect::<Events>());
        let mut state = self.log.state.lock();
        let mut written = self.log.add(&mut state, texts.as_ref().unwrap_or(events));
        let is_soon_enough = state.lines.len() < ENOUGH
            && state.since.get_or_insert_with(Instant::now).elapsed() < LONG_ENOUGH;
        if !(self.grouped && is_soon_enough && write_before_parking(&self.log)) {
            written &= self.log.write_or_lose(&mut state);
        }
        written
    }

    fn settle(&self) {
        self.log.write_now();
    }

    fn lost(&self) -> u64 {
        self.log.lost.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        "log"
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Buffered, before_parking};
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kubecore-audit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    /// A log that is full after one event of these.
    fn full_after(events: &Events, name: &str) -> (LogFile, PathBuf) {
        let folder = scratch(name);
        let clock = Clock::starting_at(Duration::from_secs(1_767_366_245));
        let rotation = Rotation { megabytes: 1, ..Rotation::default() };
        let log = LogFile::open(&folder.join("audit.log"), rotation, false, false, clock).unwrap();
        assert!(log.take(events));
        (log, folder)
    }

    #[test]
    fn a_file_that_is_full_is_set_aside() {
        let event = Events::from_iter([vec![b'x'; 700 << 10]]);
        let (log, folder) = full_after(&event, "rotation");
        assert!(log.take(&event));
        let backup = folder.join("audit-2026-01-02T15-04-05.000.log");
        for file in [backup, folder.join("audit.log")] {
            assert_eq!(fs::metadata(file).unwrap().len(), 700 << 10);
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_set_aside_takes_more() {
        let event = Events::from_iter([vec![b'x'; 700 << 10]]);
        // Its backup's name is longer than a name may be.
        let folder = scratch("stuck");
        let long = folder.join("x".repeat(250));
        let rotation = Rotation { megabytes: 1, ..Rotation::default() };
        let log = LogFile::open(&long, rotation, false, false, Clock::system()).unwrap();
        assert!(log.take(&event) && log.take(&event) && log.take(&event));
        assert_eq!((log.lost(), fs::metadata(&long).unwrap().len()), (0, 3 * (700 << 10)));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_somebody_moved_away_is_made_anew() {
        let event = Events::from_iter([vec![b'x'; 700 << 10]]);
        let (log, folder) = full_after(&event, "moved");
        fs::rename(folder.join("audit.log"), folder.join("elsewhere")).unwrap();
        assert!(log.take(&event));
        assert_eq!(fs::metadata(folder.join("audit.log")).unwrap().len(), 700 << 10);
        fs::remove_dir_all(&folder).unwrap();
    }

    /// A log whose lines wait for their thread to park, and where it is.
    fn grouped(name: &str) -> (LogFile, PathBuf) {
        let path = scratch(name).join("audit.log");
        (LogFile::open(&path, Rotation::default(), false, true, Clock::system()).unwrap(), path)
    }

    fn on_a_worker<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let worker = std::thread::spawn(|| {
            before_parking();
            work()
        });
        worker.join().unwrap()
    }

    #[test]
    fn what_a_worker_takes_is_written_before_it_waits_in_order() {
        let (log, path) = grouped("parked");
        let log = Arc::new(log);
        let (of_worker, file) = (log.clone(), path.clone());
        on_a_worker(move || {
            of_worker.take(&Events::from_iter(["0\n"]));
            assert!(lines(&file).is_empty());
            of_worker.take(&Events::from_iter(["1\n", "2\n"]));
            before_parking();
        });
        assert_eq!(lines(&path), ["0", "1", "2"]);
        log.take(&Events::from_iter(["3\n"]));
        assert_eq!(lines(&path), ["0", "1", "2", "3"], "of a thread that is no worker");
    }

    #[test]
    fn what_waits_is_written_when_a_request_goes_on_and_at_the_end() {
        let (log, path) = grouped("settled");
        let file = path.clone();
        on_a_worker(move || {
            log.take(&Events::from_iter(["0\n"]));
            log.settle();
            assert_eq!(lines(&file), ["0"]);
            log.take(&Events::from_iter(["1\n"]));
            drop(log);
        });
        assert_eq!(lines(&path), ["0", "1"]);
    }

    #[test]
    fn a_worker_that_takes_much_does_not_keep_it() {
        let (log, path) = grouped("much");
        on_a_worker(move || {
            log.take(&Events::from_iter([vec![b'x'; ENOUGH]]));
            assert_eq!(fs::metadata(path).unwrap().len(), ENOUGH as u64);
        });
    }

    #[test]
    fn the_legacy_format_is_a_line_of_text() {
        let event = br#"{"auditID":"i","stage":"S","requestURI":"/x","verb":"get","user":{"username":"u","groups":["a","b"]},"sourceIPs":["::1"],"userAgent":"g","responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T15:04:05.120000Z"}"#;
        assert_eq!(
            String::from_utf8(as_text(event)).unwrap(),
            concat!(
                r#"2026-01-02T15:04:05.12Z AUDIT: id="i" stage="S" ip="::1" method="get" user="u" groups="\"a\",\"b\"" "#,
                r#"as="<self>" asgroups="<lookup>" user-agent="g" namespace="<none>" uri="/x" response="200""#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_buffered_is_written_before_the_end() {
        let folder = scratch("buffered");
        let path = folder.join("audit.log");
        let log = LogFile::open(&path, Rotation::default(), false, false, Clock::system()).unwrap();
        let buffered = Buffered::new(log, 10).unwrap();
        for number in 0..3 {
            buffered.take(&Events::from_iter([format!("{number}\n")]));
        }
        drop(buffered);
        assert_eq!(lines(&path), ["0", "1", "2"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
