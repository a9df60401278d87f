//! One line of JSON for each request, written by a thread of its own so that no request waits for a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde_json::{Map, Value};

/// Lines that wait for the disk may fill this; more are dropped and counted.
const MOST_BYTES: usize = 8 << 20;

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    closed: bool,
}

struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    dropped: AtomicU64,
}

/// Appends to a file; one that has been moved away (by logrotate) is opened anew.
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl AccessLog {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let (own, path) = (shared.clone(), path.to_owned());
        let writer = std::thread::Builder::new()
            .name("kubecore-access-log".into())
            .spawn(move || own.run(file, &path))?;
        Ok(Self { shared, writer: Some(writer) })
    }

    pub fn write(&self, fields: &Map<String, Value>) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.bytes.len() > MOST_BYTES {
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        // Into memory: cannot fail.
        let _ = serde_json::to_writer(&mut waiting.bytes, fields);
        waiting.bytes.push(b'\n');
        self.shared.arrived.notify_one();
    }

    /// Lines that were lost because the disk was too slow or full.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.waiting.lock().closed = true;
        self.shared.arrived.notify_one();
        if let Some(writer) = self.writer.take() {
            // Nothing to be told to anybody if it panicked.
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn run(&self, mut file: File, path: &Path) {
        loop {
            let mut waiting = self.waiting.lock();
            while waiting.bytes.is_empty() && !waiting.closed {
                self.arrived.wait(&mut waiting);
            }
            let bytes = std::mem::take(&mut waiting.bytes);
            let closed = waiting.closed;
            drop(waiting);
            if moved(&file, path)
                && let Ok(fresh) = append(path)
            {
                file = fresh;
            }
            if file.write_all(&bytes).is_err() {
                let lines = memchr::memchr_iter(b'\n', &bytes).count();
                self.dropped.fetch_add(lines as u64, Relaxed);
            }
            if closed {
                return;
            }
            // What comes meanwhile is written together.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn moved(file: &File, path: &Path) -> bool {
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => identity(open) != identity(named),
        _ => true,
    }
}

/// RFC 3339 with milliseconds, UTC; `unix` since the epoch.
pub fn time(unix: Duration) -> String {
    let stamp =
        i64::try_from(unix.as_millis()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map(|stamp| format!("{stamp:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_with_milliseconds() {
        assert_eq!(time(Duration::from_millis(1_700_000_000_042)), "2023-11-14T22:13:20.042Z");
    }

    #[test]
    fn lines_are_appended_and_a_file_that_was_moved_away_is_made_anew() {
        let folder = std::env::temp_dir().join(format!("kubecore-access-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let path = folder.join("access.log");
        let line = |number: u64| Map::from_iter([("n".to_owned(), Value::from(number))]);
        for number in 1..=2 {
            // Closing waits until all is written.
            let log = AccessLog::open(&path).expect("log");
            log.write(&line(number));
        }
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{\"n\":1}\n{\"n\":2}\n");
        let log = AccessLog::open(&path).expect("log");
        std::fs::rename(&path, folder.join("access.log.1")).expect("moved");
        log.write(&line(3));
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{\"n\":3}\n");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
