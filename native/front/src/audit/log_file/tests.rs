//! The log on a real disk, with a clock that stands.

use super::super::{Audit, Buffered, Policy, before_parking};
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
fn what_is_no_file_is_never_set_aside() {
    let event = Events::from_iter([vec![b'x'; 700 << 10]]);
    let folder = scratch("device");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("audit.log");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let rotation = Rotation { megabytes: 1, ..Rotation::default() };
    let log = LogFile::open(&path, rotation, false, false, Clock::system()).unwrap();
    assert!(log.take(&event) && log.take(&event) && log.take(&event));
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("/dev/null"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn where_a_process_says_what_it_has_to_say_is_no_file_of_the_logs() {
    let folder = scratch("outputs");
    fs::create_dir_all(&folder).unwrap();
    let [one, other] = ["one", "other"].map(|name| append(&folder.join(name)).unwrap().file);
    let [one, other] = [one, other].map(|file| file.metadata().unwrap());
    assert!(is_own(&one, &[]) && is_own(&one, std::slice::from_ref(&other)));
    assert!(!is_own(&one, &[other, one.clone()]));
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_line_that_was_written_in_part_is_ended_before_the_next() {
    let (log, folder) = full_after(&Events::from_iter(["first\n"]), "torn");
    // Has room for a part of the next line, and then for nothing until somebody reads.
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    log.log.state.lock().open = Some(Open { file, size: 0, is_rotated: false });
    let long = [vec![b'x'; 8 << 20], vec![b'\n']].concat();
    assert!(!log.take(&Events::from_iter([&b"whole\n"[..], &long, b"lost\n"])));
    assert_eq!(log.lost(), 2);
    reader.set_nonblocking(true).unwrap();
    let mut found = Vec::new();
    let _ = std::io::Read::read_to_end(&mut reader, &mut found);
    assert!(found.starts_with(b"whole\nx") && found.ends_with(b"x"));
    assert!(log.take(&Events::from_iter(["next\n"])));
    found.clear();
    let _ = std::io::Read::read_to_end(&mut reader, &mut found);
    assert_eq!(found, b"\nnext\n");
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

#[tokio::test]
async fn of_many_lines_that_are_taken_by_and_by_some_are_written_together_not_long_after() {
    before_parking();
    let (log, path) = grouped("together");
    log.take(&Events::from_iter(["0\n"]));
    before_parking();
    assert_eq!(lines(&path), ["0"]);
    // As if it had been just now, however long this thread is kept from going on.
    let later = Duration::from_secs(60);
    {
        let mut state = log.log.state.lock();
        (state.since, state.written) = (Some(log.clock.unix() + later), Some(Instant::now() + later));
    }
    for line in ["1\n", "2\n"] {
        log.take(&Events::from_iter([line]));
        before_parking();
    }
    assert_eq!(lines(&path), ["0"]);
    let written = async {
        while lines(&path).len() == 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.expect("nobody writes them");
    assert_eq!(lines(&path), ["0", "1", "2"]);
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
fn what_waits_is_written_when_the_audit_stops_though_a_request_still_knows_of_it() {
    let (log, path) = grouped("stopped");
    on_a_worker(move || {
        let audit = Audit::default();
        audit.configure(Policy::default(), vec![Arc::new(log)], false, Clock::system());
        let known = audit.current().unwrap();
        known.sinks[0].take(&Events::from_iter(["0\n"]));
        audit.stop();
        assert_eq!(lines(&path), ["0"]);
    });
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
