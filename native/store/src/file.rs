//! The file itself: opened, marked, grown; and what it says when it cannot.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};

use crate::encryption::Encryption;
use crate::layout;
use crate::recent::Recent;

pub(crate) type Db = Database<Bytes, Bytes>;

const DATABASES: u32 = 3;
const FIRST_MAP_BYTES: usize = 64 << 20;
/// The end of a record is no such run of zeros.
const ZEROS: [u8; 16] = [0; 16];
/// With less left on the file system, a write that failed has failed for want of room.
const NO_ROOM_BYTES: u64 = 1 << 20;

/// What the file, or the disk it is on, cannot do.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The map is full: `grow` and try again.
    MapFull,
    /// An error of the operating system, by its number.
    System(i32),
    Other(String),
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Self::MapFull,
            heed::Error::Io(error) => {
                error.raw_os_error().map_or_else(|| Self::Other(error.to_string()), Self::System)
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl Failure {
    pub(crate) fn damaged(what: &str) -> Self {
        Self::Other(format!("damaged record in {what}"))
    }

    /// Whether the disk is full. LMDB tells of one where it has written a part of what it wanted to as of an error of
    /// the device: then what is `left` there, in bytes, decides.
    fn is_full(&self, left: impl FnOnce() -> Option<u64>) -> bool {
        match self {
            Self::System(libc::ENOSPC | libc::EDQUOT) => true,
            Self::System(libc::EIO) => left().is_some_and(|left| left < NO_ROOM_BYTES),
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::MapFull => "the map is full".to_owned(),
            Self::System(number) => io::Error::from_raw_os_error(*number).to_string(),
            Self::Other(text) => text.clone(),
        }
    }

    /// In words, for who waits for a write to the file in `directory`.
    pub fn told(&self, directory: &Path) -> String {
        self.told_with(directory, || bytes_left(directory))
    }

    fn told_with(&self, directory: &Path, left: impl FnOnce() -> Option<u64>) -> String {
        if self.is_full(left) {
            return format!("no space left on the file system of {}", directory.display());
        }
        self.text()
    }
}

fn bytes_left(directory: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros is a value of this plain structure.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a string that ends in zero, and a structure to fill, both alive.
    let failed = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    (failed == 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

pub type Outcome<T> = Result<T, Failure>;

/// An open file. Used by one thread at a time.
pub struct LogFile {
    pub(crate) env: Env<WithoutTls>,
    pub(crate) current: Db,
    pub(crate) log: Db,
    pub(crate) meta: Db,
    pub(crate) encryption: Arc<Encryption>,
    pub(crate) recent: Recent,
}

/// Why a directory's file cannot be used.
#[derive(Debug)]
pub enum OpenError {
    NoRoom,
    /// Damaged, or no database at all.
    Unreadable(String),
    /// A value that no key opens, or that cannot be sealed.
    Sealed(String),
    /// A database, but not ours.
    Unmarked,
    Format {
        found: String,
        known: &'static str,
    },
}

impl LogFile {
    /// Opens or makes the file in `directory`. Without `sync` nothing is sure to survive a crash of the machine.
    /// `unindexed`: how many keys may be written before `current` is brought up to date.
    pub fn open(directory: &Path, sync: bool, unindexed: usize) -> Result<Self, OpenError> {
        let mut file = Self::open_known(directory, sync)?;
        let recalled = file.recall(unindexed);
        recalled.map_err(|failure| OpenError::Unreadable(failure.text()))?;
        Ok(file)
    }

    /// A file of a format that is known, or a new one.
    fn open_known(directory: &Path, sync: bool) -> Result<Self, OpenError> {
        let opened = Self::open_file(directory, sync).and_then(|file| Ok((file.format()?, file)));
        let (format, file) = opened.map_err(|failure| {
            if failure.is_full(|| bytes_left(directory)) {
                OpenError::NoRoom
            } else {
                OpenError::Unreadable(failure.text())
            }
        })?;
        match format {
            None => file.mark(directory),
            Some(format) if layout::FORMER.iter().any(|former| format == former.as_bytes()) => {
                // What is in it stays as it is.
                file.marked(directory, Ok(true))
            }
            Some(format) if format != layout::FORMAT.as_bytes() => {
                let found = String::from_utf8_lossy(&format).into_owned();
                Err(OpenError::Format { found, known: layout::FORMAT })
            }
            Some(_) => Ok(file),
        }
    }

    fn open_file(directory: &Path, sync: bool) -> Outcome<Self> {
        let bytes = std::fs::metadata(directory.join("data.mdb")).map_or(0, |found| found.len());
        let size = usize::try_from(bytes).unwrap_or(usize::MAX / 4) * 2;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(size.max(FIRST_MAP_BYTES).next_multiple_of(1 << 20)).max_dbs(DATABASES);
        if !sync {
            // SAFETY: durability is all that these flags take away, and it was not asked for.
            unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC) };
        }
        // SAFETY: this process holds the directory and opens it once; nobody else changes the file under the map.
        let env = unsafe { options.open(directory) }?;
        let cut = missing_bytes(&env, bytes);
        if cut > 0 {
            // What the map shows behind the end of the file is the end of the process that looks there.
            let file = OpenOptions::new().write(true).open(directory.join("data.mdb"));
            file.and_then(|file| file.set_len(bytes + cut)).map_err(heed::Error::Io)?;
        }
        Self::of(env, cut > 0).map_err(|failure| {
            if cut == 0 {
                return failure;
            }
            let why = failure.text();
            Failure::Other(format!("it has been cut short, to {bytes} of {} bytes: {why}", bytes + cut))
        })
    }

    /// `doubtful`: pages at the end are missing.
    fn of(env: Env<WithoutTls>, doubtful: bool) -> Outcome<Self> {
        let mut txn = env.write_txn()?;
        let current = env.create_database(&mut txn, Some(layout::CURRENT))?;
        let log = env.create_database(&mut txn, Some(layout::LOG))?;
        let meta = env.create_database(&mut txn, Some(layout::META))?;
        if doubtful {
            check_whole(&txn, &[current, log])?;
        }
        txn.commit()?;
        Ok(Self { env, current, log, meta, encryption: Arc::default(), recent: Recent::default() })
    }

    /// The format mark, None where there is none.
    fn format(&self) -> Outcome<Option<Vec<u8>>> {
        let txn = self.env.read_txn()?;
        Ok(self.meta.get(&txn, layout::META_FORMAT)?.map(<[u8]>::to_vec))
    }

    /// Marks the file as of the present format, unless something is in it.
    fn mark(self, directory: &Path) -> Result<Self, OpenError> {
        let empty = self.is_empty();
        self.marked(directory, empty)
    }

    fn is_empty(&self) -> Outcome<bool> {
        let txn = self.env.read_txn()?;
        Ok(self.current.is_empty(&txn)? && self.log.is_empty(&txn)?)
    }

    /// `ours` says whether the file may be marked.
    fn marked(self, directory: &Path, ours: Outcome<bool>) -> Result<Self, OpenError> {
        let mark = || -> Outcome<()> {
            let mut txn = self.env.write_txn()?;
            let revision = layout::number(self.meta_number(&txn, layout::META_REVISION)?);
            self.meta.put(&mut txn, layout::META_INDEXED, &revision)?;
            self.meta.put(&mut txn, layout::META_FORMAT, layout::FORMAT.as_bytes())?;
            Ok(txn.commit()?)
        };
        match ours.and_then(|ours| if ours { mark().map(|()| true) } else { Ok(false) }) {
            Ok(true) => Ok(self),
            Ok(false) => Err(OpenError::Unmarked),
            Err(failure) if failure.is_full(|| bytes_left(directory)) => Err(OpenError::NoRoom),
            Err(failure) => Err(OpenError::Unreadable(failure.text())),
        }
    }

    /// The last revision, and the last whose history is gone.
    pub fn revisions(&self) -> Outcome<(u64, u64)> {
        let txn = self.env.read_txn()?;
        Ok((self.meta_number(&txn, layout::META_REVISION)?, self.meta_number(&txn, layout::META_COMPACTED)?))
    }

    fn meta_number(&self, txn: &RoTxn<'_, WithoutTls>, name: &[u8]) -> Outcome<u64> {
        Ok(self.meta.get(txn, name)?.map_or(0, layout::decode_number))
    }

    /// A larger map; its size in bytes.
    pub fn grow(&self) -> Outcome<usize> {
        let size = self.env.info().map_size;
        let larger = if size < 1 << 30 { size * 2 } else { size + (1 << 30) };
        // SAFETY: every method ends its transaction, and one thread calls them.
        unsafe { self.env.resize(larger) }?;
        Ok(larger)
    }
}

/// How much shorter the file is than its pages are.
fn missing_bytes(env: &Env<WithoutTls>, bytes: u64) -> u64 {
    if bytes == 0 {
        return 0; // it has just been made
    }
    let pages = env.info().last_page_number as u64 + 1;
    (pages * u64::from(env.stat().page_size)).saturating_sub(bytes)
}

/// A file may lack pages at its end that nothing is in: LMDB does not write those that one transaction has taken and
/// given back. It is damaged where others are missing, too, which are zeros now.
fn check_whole(txn: &RwTxn<'_>, databases: &[Db]) -> Outcome<()> {
    for database in databases {
        for record in database.iter(txn)? {
            let (_, value) = record?;
            if value.ends_with(&ZEROS) {
                return Err(Failure::Other("a value is missing".to_owned()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With so many values of 10,000 bytes in its log; how long the file is.
    fn filled(directory: &Path, values: u64) -> u64 {
        let file = LogFile::open(directory, false, 100).unwrap();
        let mut txn = file.env.write_txn().unwrap();
        let (mut record, value) = (Vec::new(), [b'x'; 10_000]);
        layout::Logged { deleted: false, time: 0, previous: 0, key: b"/registry/a", value: &value }
            .encode(&mut record);
        for number in 1..=values {
            file.log.put(&mut txn, &layout::number(number), &record).unwrap();
        }
        txn.commit().unwrap();
        drop(file);
        std::fs::metadata(directory.join("data.mdb")).unwrap().len()
    }

    fn cut(directory: &Path, bytes: u64) {
        OpenOptions::new().write(true).open(directory.join("data.mdb")).unwrap().set_len(bytes).unwrap();
    }

    #[test]
    fn a_file_that_was_cut_short_is_told_of_wherever_it_was_cut() {
        for part in [1, 2, 3, 5, 8, 13, 15] {
            let place = tempfile::tempdir().unwrap();
            let whole = filled(place.path(), 200);
            cut(place.path(), whole * part / 16);
            let refused = LogFile::open(place.path(), false, 100).err();
            let Some(OpenError::Unreadable(why)) = refused else { panic!("{part}/16 of it: {refused:?}") };
            assert!(why.contains("cut short"), "{why}");
        }
    }

    #[test]
    fn a_file_of_which_all_that_is_in_use_is_there_is_whole() {
        let place = tempfile::tempdir().unwrap();
        filled(place.path(), 20);
        let file = LogFile::open(place.path(), false, 100).unwrap();
        let txn = file.env.write_txn().unwrap();
        assert_eq!(check_whole(&txn, &[file.current, file.log]), Ok(()));
    }

    #[test]
    fn a_full_disk_is_called_so_however_lmdb_calls_it() {
        let place = Path::new("/data");
        let full = "no space left on the file system of /data";
        assert_eq!(Failure::System(libc::ENOSPC).told_with(place, || Some(1 << 30)), full);
        assert_eq!(Failure::System(libc::EIO).told_with(place, || Some(0)), full);
        let device = Failure::System(libc::EIO).told_with(place, || Some(1 << 30));
        assert!(device.starts_with("Input/output error"), "{device}");
    }
}
