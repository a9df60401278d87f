//! `pattern`: compiled when it is first used, because compiled patterns are dear and most are never used.

use crate::re2;

#[derive(Debug)]
pub(crate) struct Pattern {
    pub source: Box<str>,
}

impl Pattern {
    pub fn new(source: &str) -> Self {
        Self { source: source.into() }
    }

    /// The error is Go's.
    pub fn matches(&self, text: &str) -> Result<bool, String> {
        re2::compile(&self.source).map(|regex| regex.is_match(text))
    }
}
