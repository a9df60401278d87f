//! What is wrong with an expression, shown at its place in the source as cel-go does.

use super::ast::Id;

/// More faults than this are only counted.
const MOST_FAULTS: usize = 100;
const MOST_SHOWN: usize = 16_384;

/// A fault and where it is: an offset in characters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub offset: Option<u32>,
    pub message: String,
}

/// The faults of one expression.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    count: usize,
}

impl Faults {
    pub fn add(&mut self, offset: Option<u32>, message: String) {
        self.count += 1;
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault { offset, message });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, with the lines they are in.
    pub fn show(&self, source: &str) -> String {
        if source.is_empty() {
            // There is no line to show.
            let told = self.faults.iter().map(|fault| format!("ERROR: <input>:1:0: {}", fault.message));
            return told.collect::<Vec<_>>().join("\n");
        }
        let lines: Vec<&str> = source.split('\n').collect();
        let mut placed: Vec<(usize, usize, &Fault)> = self
            .faults
            .iter()
            .map(|fault| {
                let (line, column) = fault.offset.map_or((0, 0), |offset| place(&lines, offset as usize));
                (line, column, fault)
            })
            .collect();
        placed.sort_by_key(|(line, column, _)| (*line, *column));
        let mut shown: Vec<String> = placed
            .into_iter()
            .map(|(line, column, fault)| show(&lines, line, column, &fault.message, fault.offset.is_some()))
            .collect();
        if self.count > self.faults.len() {
            shown.push(format!("{} more errors were truncated", self.count - self.faults.len()));
        }
        shown.join("\n")
    }
}

/// Line and column, from 0, of a character.
fn place(lines: &[&str], offset: usize) -> (usize, usize) {
    let mut left = offset;
    for (number, line) in lines.iter().enumerate() {
        let length = line.chars().count();
        if left <= length {
            return (number, left);
        }
        left -= length + 1;
    }
    (lines.len().saturating_sub(1), 0)
}

fn show(lines: &[&str], line: usize, column: usize, message: &str, placed: bool) -> String {
    if !placed {
        return format!("ERROR: <input>:-1:0: {message}");
    }
    let mut text = format!("ERROR: <input>:{}:{}: {message}", line + 1, column + 1);
    let snippet = lines.get(line).copied().unwrap_or_default().replace('\t', " ");
    if snippet.len() > MOST_SHOWN {
        return text;
    }
    text.push_str("\n | ");
    text.push_str(&snippet);
    text.push_str("\n | ");
    let mut characters = snippet.chars();
    for c in characters.by_ref().take(column) {
        text.push(if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' });
    }
    text.push(if characters.next().is_some_and(|c| c.len_utf8() > 1) { '\u{ff3e}' } else { '^' });
    text
}

/// Where each node begins.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    offsets: Vec<u32>,
}

impl Positions {
    pub fn new_id(&mut self, offset: u32) -> Id {
        self.offsets.push(offset);
        self.offsets.len() as Id - 1
    }

    pub fn offset(&self, id: Id) -> u32 {
        self.offsets.get(id as usize).copied().unwrap_or_default()
    }

    pub fn count(&self) -> usize {
        self.offsets.len()
    }
}
