//! The full files of an audit log that is rotated: set aside under a name with the time, compressed, and removed in the
//! end.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use kubecore_core::clock::Clock;
use parking_lot::Mutex;

use super::dates::date_and_time;
use crate::complaint::complain;

/// How a log file is kept, as `--audit-log-*` says; 0 means there is no bound.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    pub megabytes: u64,
    pub days: u64,
    pub backups: usize,
    pub compress: bool,
}

/// The form of the times in names of files.
const A_TIME: &str = "2026-01-02T15-04-05.000";

pub(super) struct Backups {
    of: PathBuf,
    rotation: Rotation,
    clock: Clock,
    /// One thread looks after them at a time: who compresses is not overtaken by who removes.
    tending: Mutex<()>,
}

impl Backups {
    pub(super) fn new(of: PathBuf, rotation: Rotation, clock: Clock) -> Arc<Self> {
        Arc::new(Self { of, rotation, clock, tending: Mutex::default() })
    }

    /// `audit.log` becomes `audit-2026-01-02T15-04-05.000.log`, if somebody else has not moved it away. A file of that
    /// time is never replaced.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        if !self.of.try_exists()? {
            return Ok(());
        }
        let (stem, extension) = self.name_parts();
        let mut at = self.clock.unix();
        loop {
            let backup = self.of.with_file_name(format!("{stem}-{}{extension}", in_name(at)));
            if !backup.try_exists()? && !compressed(&backup).try_exists()? {
                return fs::rename(&self.of, backup);
            }
            at += Duration::from_millis(1);
        }
    }

    /// Compresses what was set aside and removes what is too old or too much, in a thread of its own: requests wait
    /// for a log that is being written to.
    pub(super) fn tend_aside(self: &Arc<Self>) {
        if !self.rotation.compress && self.rotation.backups == 0 && self.rotation.days == 0 {
            return;
        }
        let these = self.clone();
        let tend = move || {
            if let Err(error) = these.tend() {
                complain(format_args!("cannot look after the backups of {}: {error}", these.of.display()));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("audit-backups".to_owned()).spawn(tend) {
            complain(format_args!("no thread for the backups of {}: {error}", self.of.display()));
        }
    }

    /// Removes first, which makes room for what is compressed. One that cannot be looked after does not keep the others
    /// from it; the first error is returned.
    fn tend(&self) -> io::Result<()> {
        let _alone = self.tending.lock();
        let age = Duration::from_secs(self.rotation.days * 24 * 60 * 60);
        let oldest = in_name(self.clock.unix().saturating_sub(age));
        let (mut kept, mut outcome) = (Vec::new(), Ok(()));
        for (number, (at, files)) in self.found()?.into_iter().rev().enumerate() {
            let too_many = self.rotation.backups > 0 && number >= self.rotation.backups;
            if !too_many && (self.rotation.days == 0 || at >= oldest) {
                kept.push(files);
                continue;
            }
            for file in files {
                outcome = outcome.and(fs::remove_file(file));
            }
        }
        for files in kept.into_iter().filter(|_| self.rotation.compress) {
            let plain = files.into_iter().find(|file| file.extension() != Some(OsStr::new("gz")));
            outcome = outcome.and(plain.map_or(Ok(()), |plain| compress(&plain)));
        }
        outcome
    }

    /// By their times, the oldest first: a file, or its compressed one, or both where a process ended between.
    fn found(&self) -> io::Result<BTreeMap<String, Vec<PathBuf>>> {
        let (stem, extension) = self.name_parts();
        let folder = self.of.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let rest = name.strip_prefix(&format!("{stem}-"));
            let plain = rest.map(|rest| rest.strip_suffix(".gz").unwrap_or(rest));
            if let Some(at) = plain.and_then(|rest| rest.strip_suffix(&extension))
                && at.len() == A_TIME.len()
                && at.starts_with(|first: char| first.is_ascii_digit())
            {
                found.entry(at.to_owned()).or_default().push(entry.path());
            }
        }
        Ok(found)
    }

    fn name_parts(&self) -> (String, String) {
        let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let extension = text(self.of.extension()).map_or_else(String::new, |end| format!(".{end}"));
        (text(self.of.file_stem()).unwrap_or_default(), extension)
    }
}

/// After 1970.
fn in_name(time: Duration) -> String {
    date_and_time(time, 3).replace(':', "-")
}

fn compressed(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.gz", path.display()))
}

/// What was compressed in part when its process ended is begun anew.
fn compress(path: &Path) -> io::Result<()> {
    let part = PathBuf::from(format!("{}.gz.part", path.display()));
    let written = write_compressed(path, &part).and_then(|()| fs::rename(&part, compressed(path)));
    if written.is_err() {
        let _ = fs::remove_file(&part); // it takes room that there may be none of
    }
    written?;
    fs::remove_file(path)
}

fn write_compressed(path: &Path, part: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(part)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    /// The log of a folder of its own, at 15:04:05.
    fn backups(name: &str, rotation: Rotation) -> (PathBuf, Clock, Arc<Backups>) {
        let folder = std::env::temp_dir().join(format!("kubecore-backups-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let clock = Clock::starting_at(Duration::from_secs(1_767_366_245));
        let log = folder.join("audit.log");
        (folder, clock.clone(), Backups::new(log, rotation, clock))
    }

    fn set_aside(backups: &Backups, text: &str) {
        fs::write(&backups.of, text).unwrap();
        backups.set_aside().unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|one| one.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_set_aside_at_the_same_time_has_a_name_of_its_own() {
        let (folder, _, backups) = backups("same-time", Rotation::default());
        set_aside(&backups, "first");
        set_aside(&backups, "second");
        let expected = ["audit-2026-01-02T15-04-05.000.log", "audit-2026-01-02T15-04-05.001.log"];
        assert_eq!(names(&folder), expected);
        assert_eq!(fs::read_to_string(folder.join(expected[0])).unwrap(), "first");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_latest_stay_and_are_compressed() {
        let rotation = Rotation { backups: 2, compress: true, ..Rotation::default() };
        let (folder, clock, backups) = backups("compressed", rotation);
        for text in ["first", "second", "third"] {
            set_aside(&backups, text);
            clock.advance(Duration::from_secs(1));
        }
        // Of a process that ended meanwhile.
        fs::write(folder.join("audit-2026-01-02T15-04-07.000.log.gz.part"), "half a file").unwrap();
        backups.tend().unwrap();
        let kept = ["audit-2026-01-02T15-04-06.000.log.gz", "audit-2026-01-02T15-04-07.000.log.gz"];
        assert_eq!(names(&folder), kept);
        let mut text = String::new();
        GzDecoder::new(File::open(folder.join(kept[1])).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "third");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn one_that_cannot_be_compressed_keeps_no_others() {
        let rotation = Rotation { backups: 2, compress: true, ..Rotation::default() };
        let (folder, clock, backups) = backups("obstinate", rotation);
        for text in ["first", "second"] {
            set_aside(&backups, text);
            clock.advance(Duration::from_secs(1));
        }
        fs::create_dir(folder.join("audit-2026-01-02T15-04-07.000.log")).unwrap();
        assert!(backups.tend().is_err());
        let kept = ["audit-2026-01-02T15-04-06.000.log.gz", "audit-2026-01-02T15-04-07.000.log"];
        assert_eq!(names(&folder), kept);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_and_its_compressed_one_are_one_backup() {
        let rotation = Rotation { backups: 1, compress: true, ..Rotation::default() };
        let (folder, _, backups) = backups("both", rotation);
        set_aside(&backups, "text");
        fs::write(folder.join("audit-2026-01-02T15-04-05.000.log.gz"), "of a process that ended").unwrap();
        backups.tend().unwrap();
        assert_eq!(names(&folder), ["audit-2026-01-02T15-04-05.000.log.gz"]);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_older_than_so_many_days_goes_and_files_of_other_names_stay() {
        let (folder, clock, backups) = backups("days", Rotation { days: 2, ..Rotation::default() });
        fs::write(folder.join("audit-of-another.log"), "").unwrap();
        set_aside(&backups, "first");
        clock.advance(Duration::from_secs(24 * 60 * 60));
        set_aside(&backups, "second");
        clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
        backups.tend().unwrap();
        assert_eq!(names(&folder), ["audit-2026-01-03T15-04-05.000.log", "audit-of-another.log"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
