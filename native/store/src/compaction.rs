//! Compaction of the log in slices that fit between commits.
//!
//! A worked example, compacting to revision 5 (`a@3←1` reads: revision 3 wrote key a, which had been at revision 1):
//!
//! ```text
//! log      a@1   b@2   a@3←1   c@4   b@5←2   c@6←4   d@7
//! needed   {4}: the window (6, 7) replaces c@4, so a read at revision 5 must still find it
//! deleted  a@1, b@2, a@3, b@5; the values of a@3 and b@5 move into `current`, whose keys still are at 3 and 5
//! kept     c@4 as the value that c@6 replaced, until a later compaction passes 6
//! ```

use std::collections::HashSet;
use std::ops::Bound;

use heed::RwTxn;

use crate::file::{Failure, LogFile, Outcome};
use crate::layout::{self, Current, Logged};

const SCAN_SLICE: usize = 4000;
const DELETE_SLICE: usize = 500;
/// Bytes of values that one slice moves, or a little more: writes wait meanwhile.
const MOVED_SLICE: usize = 256 << 10;

/// One compaction to `revision`, resumable: scan the window for replaced values, mark, delete.
pub struct Compaction {
    pub revision: u64,
    /// Revisions at or below `revision` that the window replaces; the writer adds those it replaces meanwhile.
    pub needed: HashSet<u64>,
    /// The mark is durable: reads below `revision` are refused from now on.
    pub marked: bool,
    scanned: u64,
    /// The first record that was not looked at yet.
    undeleted: u64,
}

impl Compaction {
    pub fn new(revision: u64) -> Self {
        Self { revision, needed: HashSet::new(), marked: false, scanned: revision, undeleted: 0 }
    }

    /// Does a little; true when nothing is left to do. `newest` is the store's revision.
    pub fn slice(&mut self, file: &mut LogFile, newest: u64) -> Outcome<bool> {
        if file.recent.indexed() < self.revision {
            // Whose value is to be moved must be in `current`.
            file.fold_slice(newest)?;
            return Ok(false);
        }
        if self.scanned < newest && !self.marked {
            self.scan(file)?;
            return Ok(false);
        }
        self.delete(file)
    }

    fn scan(&mut self, file: &LogFile) -> Outcome<()> {
        let txn = file.env.read_txn()?;
        let after = layout::number(self.scanned + 1);
        let range = (Bound::Included(&after[..]), Bound::Unbounded);
        for item in file.log.range(&txn, &range)?.take(SCAN_SLICE) {
            let (number, raw) = item?;
            let found = Logged::decode(raw).ok_or_else(|| Failure::damaged("log"))?;
            if found.previous != 0 && found.previous <= self.revision {
                self.needed.insert(found.previous);
            }
            self.scanned = layout::decode_number(number);
        }
        Ok(())
    }

    fn delete(&mut self, file: &LogFile) -> Outcome<bool> {
        let mut txn = file.env.write_txn()?;
        if !self.marked {
            file.meta.put(&mut txn, layout::META_COMPACTED, &layout::number(self.revision))?;
        }
        let (first, last) = (layout::number(self.undeleted), layout::number(self.revision));
        let range = (Bound::Included(&first[..]), Bound::Included(&last[..]));
        let records = file.log.range(&txn, &range)?.take(DELETE_SLICE);
        let numbers = records
            .map(|record| record.map(|(number, _)| layout::decode_number(number)))
            .collect::<Result<Vec<u64>, _>>()?;
        let (mut looked_at, mut moved) = (0, 0);
        for number in &numbers {
            if moved >= MOVED_SLICE {
                break;
            }
            looked_at += 1;
            if !self.needed.contains(number) {
                moved += file.settle(&mut txn, *number)?;
                file.log.delete(&mut txn, &layout::number(*number))?;
            }
        }
        txn.commit()?;
        self.marked = true;
        self.undeleted = numbers[..looked_at].last().map_or(self.undeleted, |last| last + 1);
        Ok(looked_at == numbers.len() && numbers.len() < DELETE_SLICE)
    }
}

impl LogFile {
    /// Moves the value of the log's record to its key's record in `current`, if that has none of its own and is of
    /// this revision. How many bytes that were.
    fn settle(&self, txn: &mut RwTxn<'_>, number: u64) -> Outcome<usize> {
        let Some(raw) = self.log.get(txn, &layout::number(number))? else { return Ok(0) };
        let logged = Logged::decode(raw).ok_or_else(|| Failure::damaged("log"))?;
        let Some(raw) = self.current.get(txn, logged.key)? else { return Ok(0) };
        let current = Current::decode(raw).ok_or_else(|| Failure::damaged("current"))?;
        if current.revision != number || !current.value.is_empty() {
            return Ok(0);
        }
        // Writing invalidates what was read.
        let (key, value) = (logged.key.to_vec(), logged.value.to_vec());
        let settled = Current { value: &value, ..current };
        self.current.put_reserved(txn, &key, settled.length(), |space| settled.write(space))?;
        Ok(value.len())
    }
}
