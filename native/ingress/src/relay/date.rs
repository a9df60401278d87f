//! The Date header of answers that come without one (RFC 9110, 6.6.1).

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use kubecore_core::clock::Clock;

/// Put into words once a second.
#[derive(Default)]
pub struct Date {
    second: u64,
    line: Vec<u8>,
}

impl Date {
    pub fn write(&mut self, clock: &Clock, out: &mut Vec<u8>) {
        let second = clock.unix_seconds();
        if self.line.is_empty() || self.second != second {
            let time = UNIX_EPOCH + Duration::from_secs(second);
            self.second = second;
            self.line.clear();
            // Into memory: cannot fail.
            let _ = write!(self.line, "date: {}\r\n", httpdate::HttpDate::from(time));
        }
        out.extend_from_slice(&self.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_follows_the_clock() {
        let clock = Clock::starting_at(Duration::from_secs(784_111_777));
        let mut date = Date::default();
        let mut line = || {
            let mut out = Vec::new();
            date.write(&clock, &mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(line(), "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        clock.advance(Duration::from_secs(1));
        assert_eq!(line(), "date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
    }
}
