//! Collects what is wrong with a definition.

use serde_json::Value;

use crate::schema::custom::fault::Fault;
use crate::schema::custom::path::Path;

/// Of a definition that is all faults no more is told: the names in it may be as long as it is itself.
const MOST_BYTES: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Collected {
    faults: Vec<Fault>,
    bytes: usize,
}

impl Collected {
    pub fn add(&mut self, fault: Fault) {
        self.bytes += fault.field.len() + fault.message.len();
        if self.faults.is_empty() || self.bytes <= MOST_BYTES {
            self.faults.push(fault);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Grows with every fault.
    pub fn mark(&self) -> usize {
        self.bytes
    }

    fn is_full(&self) -> bool {
        self.bytes > MOST_BYTES
    }

    pub fn required(&mut self, at: &Path<'_>, detail: &str) {
        if !self.is_full() {
            self.add(Fault::required(&at.bracketed(), detail));
        }
    }

    pub fn forbidden(&mut self, at: &Path<'_>, detail: &str) {
        if !self.is_full() {
            self.add(Fault::forbidden(&at.bracketed(), detail));
        }
    }

    pub fn invalid(&mut self, at: &Path<'_>, value: &Value, detail: &str) {
        if !self.is_full() {
            self.add(Fault::invalid(&at.bracketed(), value, detail));
        }
    }

    /// `shown` is a value as it is to be told.
    pub fn invalid_shown(&mut self, at: &Path<'_>, shown: &str, detail: &str) {
        if !self.is_full() {
            self.add(Fault::invalid_unshown(&at.bracketed(), &format!("{shown}: {detail}")));
        }
    }

    pub fn not_supported(&mut self, at: &Path<'_>, value: &str, supported: &[&str]) {
        if !self.is_full() {
            let supported: Vec<String> = supported.iter().map(|text| (*text).to_owned()).collect();
            self.add(Fault::not_supported(&at.bracketed(), &value.into(), &supported));
        }
    }

    pub fn internal(&mut self, at: &Path<'_>, detail: &str) {
        if !self.is_full() {
            self.add(Fault::internal(&at.bracketed(), detail));
        }
    }

    pub fn append(&mut self, other: Collected) {
        for fault in other.faults {
            self.add(fault);
        }
    }

    pub fn extend(&mut self, faults: Vec<Fault>) {
        for fault in faults {
            self.add(fault);
        }
    }

    /// In the order of their text.
    pub fn sorted(mut self) -> Self {
        self.faults.sort_by_cached_key(|fault| format!("{}: {}", fault.field, fault.message));
        self
    }

    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }
}
