//! Seals anew, in the file, what is not stored as it would be now: after keys were changed, or given at all.

use std::ops::Bound;
use std::sync::Arc;

use crate::encryption::Encryption;
use crate::file::{Db, Failure, LogFile, Outcome};
use crate::layout::{Current, Logged};

/// Records that are written in one transaction.
const SLICE: usize = 500;

/// A record with its value sealed anew; None where nothing is to be done.
type Reseal = fn(&Encryption, &[u8], &[u8]) -> Outcome<Option<Vec<u8>>>;

impl LogFile {
    /// From now on values are sealed so, also those that are there. Where one of them cannot be opened, nothing changes;
    /// where the disk fails some are sealed anew and some are not, and all keys are needed still.
    pub fn encrypt(&mut self, encryption: Arc<Encryption>) -> Outcome<()> {
        self.rehearse(self.current, &encryption, of_current)?;
        self.rehearse(self.log, &encryption, of_log)?;
        self.encryption = encryption;
        self.reseal(self.current, of_current)?;
        self.reseal(self.log, of_log)
    }

    fn rehearse(&self, db: Db, encryption: &Encryption, resealed: Reseal) -> Outcome<()> {
        let txn = self.env.read_txn()?;
        for item in db.iter(&txn)? {
            let (key, raw) = item?;
            resealed(encryption, key, raw)?;
        }
        Ok(())
    }

    fn reseal(&self, db: Db, resealed: Reseal) -> Outcome<()> {
        let mut after = Vec::new();
        loop {
            match self.slice(db, &after, resealed) {
                Ok(Some(last)) => after = last,
                Ok(None) => return Ok(()),
                Err(Failure::MapFull) => drop(self.grow()?),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The last key that was dealt with; None when nothing is left.
    fn slice(&self, db: Db, after: &[u8], resealed: Reseal) -> Outcome<Option<Vec<u8>>> {
        let (mut stale, mut last) = (Vec::new(), None);
        let txn = self.env.read_txn()?;
        // LMDB takes no empty key.
        let begin = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        for item in db.range(&txn, &(begin, Bound::Unbounded))? {
            let (key, raw) = item?;
            if let Some(record) = resealed(&self.encryption, key, raw)? {
                stale.push((key.to_vec(), record));
                if stale.len() == SLICE {
                    last = Some(key.to_vec());
                    break;
                }
            }
        }
        drop(txn);
        if stale.is_empty() {
            return Ok(None);
        }
        let mut txn = self.env.write_txn()?;
        for (key, record) in &stale {
            db.put(&mut txn, key, record)?;
        }
        txn.commit()?;
        Ok(last)
    }
}

fn of_current(encryption: &Encryption, key: &[u8], raw: &[u8]) -> Outcome<Option<Vec<u8>>> {
    let found = Current::decode(raw).ok_or_else(|| Failure::damaged("current"))?;
    if found.value.is_empty() {
        // It is in the log.
        return Ok(None);
    }
    let Some(value) = anew(encryption, key, found.value)? else { return Ok(None) };
    let mut record = Vec::with_capacity(raw.len());
    Current { value: &value, ..found }
        .write(&mut record)
        .map_err(|error| Failure::Other(error.to_string()))?;
    Ok(Some(record))
}

fn of_log(encryption: &Encryption, _: &[u8], raw: &[u8]) -> Outcome<Option<Vec<u8>>> {
    let found = Logged::decode(raw).ok_or_else(|| Failure::damaged("log"))?;
    let Some(value) = anew(encryption, found.key, found.value)? else { return Ok(None) };
    let mut record = Vec::new();
    Logged { value: &value, ..found }.encode(&mut record);
    Ok(Some(record))
}

fn anew(encryption: &Encryption, key: &[u8], stored: &[u8]) -> Outcome<Option<Vec<u8>>> {
    if encryption.is_current(key, stored) {
        return Ok(None);
    }
    let value = encryption.open(key, stored).map_err(|why| sealed(key, &why))?;
    encryption.seal(key, &value).map(|made| Some(made.into_owned())).map_err(|why| sealed(key, &why))
}

/// What cannot be opened, or sealed.
pub(crate) fn sealed(key: &[u8], why: &str) -> Failure {
    Failure::Other(format!("{}: {why}", String::from_utf8_lossy(key)))
}
