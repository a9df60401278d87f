//! Where events go: a file that is rotated, a thread before it, or a queue that Python empties.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use flate2::Compression;
use flate2::write::GzEncoder;
use kubecore_core::clock::Clock;
use parking_lot::Mutex;
use serde_json::Value;

use super::event::date_and_time;

/// Takes events, each a line of its own.
pub trait Sink: Send + Sync {
    /// Whether they are where they belong; who cannot say so says yes.
    fn take(&self, events: &[Bytes]) -> bool;
    /// Events that were lost.
    fn lost(&self) -> u64;
    /// The name that metrics know it by.
    fn name(&self) -> &'static str;
}

/// How a log file is kept, as `--audit-log-*` says; 0 means there is no bound.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    pub megabytes: u64,
    pub days: u64,
    pub backups: usize,
    pub compress: bool,
}

/// Bytes of a file where nobody says how many, as in upstream's library for that.
const DEFAULT_MEGABYTES: u64 = 100;

/// Events that a thread takes from its queue at once, and bytes that are written at once.
const MOST_TOGETHER: usize = 256;
const LARGEST_WRITE: usize = 1 << 20;

/// A file, or standard output for the path `-`. What is full is set aside under a name with the time.
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    /// A line of text for each event, and not JSON.
    legacy: bool,
    clock: Clock,
    open: Mutex<Option<(File, u64)>>,
    lost: AtomicU64,
}

impl LogFile {
    pub fn open(path: &Path, rotation: Rotation, legacy: bool, clock: Clock) -> io::Result<Self> {
        let (path, open, lost) = (path.to_owned(), Mutex::default(), AtomicU64::new(0));
        let made = Self { path, rotation, legacy, clock, open, lost };
        if !made.is_output() {
            if let Some(folder) = made.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder)?;
            }
            *made.open.lock() = Some(append(&made.path)?);
        }
        Ok(made)
    }

    fn is_output(&self) -> bool {
        self.path == Path::new("-")
    }

    /// Of the file, in bytes.
    fn limit(&self) -> usize {
        let megabytes =
            if self.rotation.megabytes == 0 { DEFAULT_MEGABYTES } else { self.rotation.megabytes };
        (megabytes << 20) as usize
    }

    fn write_or_lose(&self, lines: &[u8], events: u64) -> bool {
        let Err(error) = self.write(lines) else { return true };
        if self.lost.fetch_add(events, Ordering::Relaxed) == 0 {
            eprintln!("kubecore: cannot write to the audit log {}: {error}", self.path.display());
        }
        false
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        if self.is_output() {
            return io::stdout().write_all(line);
        }
        let mut open = self.open.lock();
        let limit = self.limit() as u64;
        if open.as_ref().is_some_and(|(_, size)| *size > 0 && size + line.len() as u64 > limit) {
            *open = None;
            self.set_aside()?;
        }
        if open.is_none() {
            *open = Some(append(&self.path)?);
        }
        let Some((file, size)) = open.as_mut() else { return Ok(()) };
        *size += line.len() as u64;
        file.write_all(line)
    }

    /// `audit.log` becomes `audit-2026-01-02T15-04-05.000.log`; what is too old or too much goes.
    fn set_aside(&self) -> io::Result<()> {
        let (stem, extension) = self.name_parts();
        let at = date_and_time(self.clock.unix(), 3).replace(':', "-");
        let backup = self.path.with_file_name(format!("{stem}-{at}{extension}"));
        fs::rename(&self.path, &backup)?;
        if self.rotation.compress {
            compress(&backup)?;
        }
        self.clear(&stem, &extension)
    }

    fn name_parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let extension = text(self.path.extension()).map_or_else(String::new, |end| format!(".{end}"));
        (text(self.path.file_stem()).unwrap_or_default(), extension)
    }

    fn clear(&self, stem: &str, extension: &str) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut backups: Vec<(String, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let rest = name.strip_prefix(&format!("{stem}-"));
            let plain = rest.map(|rest| rest.strip_suffix(".gz").unwrap_or(rest));
            if let Some(at) = plain.and_then(|rest| rest.strip_suffix(extension))
                && at.len() == "2026-01-02T15-04-05.000".len()
                && at.starts_with(|first: char| first.is_ascii_digit())
            {
                backups.push((at.to_owned(), entry.path()));
            }
        }
        backups.sort_by(|a, b| b.0.cmp(&a.0));
        let age = Duration::from_secs(self.rotation.days * 24 * 60 * 60);
        let oldest = date_and_time(self.clock.unix().saturating_sub(age), 3).replace(':', "-");
        for (number, (at, path)) in backups.iter().enumerate() {
            let too_many = self.rotation.backups > 0 && number >= self.rotation.backups;
            if too_many || (self.rotation.days > 0 && *at < oldest) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
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

fn compress(path: &Path) -> io::Result<()> {
    let target = PathBuf::from(format!("{}.gz", path.display()));
    let mut encoder = GzEncoder::new(
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&target)?,
        Compression::default(),
    );
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::remove_file(path)
}

impl Sink for LogFile {
    /// As many at once as the file has room for.
    fn take(&self, events: &[Bytes]) -> bool {
        if let ([event], false) = (events, self.legacy) {
            return self.write_or_lose(event, 1);
        }
        let (mut lines, mut together, room, mut written) = (Vec::new(), 0, self.limit(), true);
        for event in events {
            let text = if self.legacy { Bytes::from(as_text(event)) } else { event.clone() };
            if !lines.is_empty() && lines.len() + text.len() > room.min(LARGEST_WRITE) {
                written &= self.write_or_lose(&lines, together);
                (lines, together) = (Vec::new(), 0);
            }
            lines.extend_from_slice(&text);
            together += 1;
        }
        self.write_or_lose(&lines, together) && written
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        "log"
    }
}

/// A sink behind a queue and a thread: requests do not wait for it, and what the queue has no room for is lost.
pub struct Buffered {
    queue: Sender<Bytes>,
    name: &'static str,
    lost: AtomicU64,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Buffered {
    pub fn new(sink: impl Sink + 'static, room: usize) -> io::Result<Self> {
        let (queue, events): (Sender<Bytes>, Receiver<Bytes>) = crossbeam_channel::bounded(room.max(1));
        let name = sink.name();
        // What has come meanwhile goes on together.
        let work = move || {
            while let Ok(first) = events.recv() {
                let together: Vec<Bytes> =
                    std::iter::once(first).chain(events.try_iter().take(MOST_TOGETHER - 1)).collect();
                sink.take(&together);
            }
        };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(work)?;
        Ok(Self { queue, name, lost: AtomicU64::new(0), thread: Mutex::new(Some(thread)) })
    }
}

impl Drop for Buffered {
    /// What is in the queue is written.
    fn drop(&mut self) {
        let (gone, _) = crossbeam_channel::bounded(0);
        drop(std::mem::replace(&mut self.queue, gone));
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Sink for Buffered {
    fn take(&self, events: &[Bytes]) -> bool {
        for event in events {
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                self.queue.try_send(event.clone())
            {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

/// Events that somebody comes for; `wake` is called when the first of them is there.
pub struct Outbox {
    queue: (Sender<Bytes>, Receiver<Bytes>),
    asleep: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    lost: AtomicU64,
}

impl Outbox {
    pub fn new(room: usize, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let queue = crossbeam_channel::bounded(room.max(1));
        Self { queue, asleep: AtomicBool::new(true), wake, lost: AtomicU64::new(0) }
    }

    /// Up to `limit`, oldest first. Who got none is woken for the next one.
    pub fn collect(&self, limit: usize) -> Vec<Bytes> {
        let events: Vec<Bytes> = self.queue.1.try_iter().take(limit).collect();
        if events.is_empty() {
            self.asleep.store(true, Ordering::SeqCst);
            if !self.queue.1.is_empty() && self.asleep.swap(false, Ordering::SeqCst) {
                (self.wake)();
            }
        }
        events
    }
}

impl Sink for Outbox {
    fn take(&self, events: &[Bytes]) -> bool {
        for event in events {
            if self.queue.0.try_send(event.clone()).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else if self.asleep.swap(false, Ordering::SeqCst) {
                (self.wake)();
            }
        }
        true
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn name(&self) -> &'static str {
        "webhook"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kubecore-audit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_file_that_is_full_is_set_aside_and_old_ones_go() {
        let folder = scratch("rotation");
        let clock = Clock::starting_at(Duration::from_secs(1_767_366_245));
        let rotation = Rotation { megabytes: 1, backups: 1, ..Rotation::default() };
        let log = LogFile::open(&folder.join("audit.log"), rotation, false, clock.clone()).unwrap();
        let event = Bytes::from(vec![b'x'; 700 << 10]);
        for _ in 0..3 {
            log.take(std::slice::from_ref(&event));
            clock.advance(Duration::from_secs(1));
        }
        let mut names: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|one| one.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["audit-2026-01-02T15-04-07.000.log", "audit.log"]);
        assert_eq!(log.lost(), 0);
        fs::remove_dir_all(&folder).unwrap();
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
        let log = LogFile::open(&path, Rotation::default(), false, Clock::system()).unwrap();
        let buffered = Buffered::new(log, 10).unwrap();
        for number in 0..3 {
            buffered.take(&[Bytes::from(format!("{number}\n"))]);
        }
        drop(buffered);
        assert_eq!(lines(&path), ["0", "1", "2"]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn an_outbox_wakes_once_and_loses_what_it_has_no_room_for() {
        let woken = Arc::new(AtomicUsize::new(0));
        let counted = woken.clone();
        let wake = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let outbox = Outbox::new(2, Box::new(wake));
        for text in ["a", "b", "c"] {
            outbox.take(&[Bytes::from(text)]);
        }
        assert_eq!((woken.load(Ordering::SeqCst), outbox.lost()), (1, 1));
        assert_eq!(outbox.collect(10), ["a", "b"]);
        outbox.take(&[Bytes::from("d")]);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(outbox.collect(10), ["d"]);
        assert!(outbox.collect(10).is_empty());
        outbox.take(&[Bytes::from("e")]);
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }
}
