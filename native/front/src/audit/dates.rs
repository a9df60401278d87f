//! Times as dates, in UTC.

use std::cell::Cell;
use std::time::Duration;

/// `2026-01-02T15:04:05`.
const SECONDS_LONG: usize = 19;

thread_local! {
    /// The second that was written last: so many times are of the same.
    static LAST: Cell<(u64, [u8; SECONDS_LONG])> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

/// `2026-01-02T15:04:05.000000`, with so many digits of a second.
pub fn date_and_time(unix: Duration, digits: usize) -> String {
    let mut out = Vec::with_capacity(32);
    write_time(&mut out, unix, digits);
    String::from_utf8(out).unwrap_or_default()
}

fn write_time(out: &mut Vec<u8>, unix: Duration, digits: usize) {
    let mut whole = *b"0000-00-00T00:00:00.000000000";
    whole[..SECONDS_LONG].copy_from_slice(&second(unix.as_secs()));
    let mut part = unix.subsec_nanos();
    for place in whole[SECONDS_LONG + 1..].iter_mut().rev() {
        *place = b'0' + (part % 10) as u8;
        part /= 10;
    }
    out.extend_from_slice(&whole[..SECONDS_LONG + 1 + digits.min(9)]);
}

/// Bytes of a time to the microsecond: `2026-01-02T15:04:05.000000`.
pub(super) const MICROSECONDS_LONG: usize = SECONDS_LONG + 7;

pub(super) fn to_microseconds(unix: Duration) -> [u8; MICROSECONDS_LONG] {
    let mut out = [b'.'; MICROSECONDS_LONG];
    out[..SECONDS_LONG].copy_from_slice(&second(unix.as_secs()));
    let mut left = unix.subsec_micros();
    for pair in out[SECONDS_LONG + 1..].rchunks_exact_mut(2) {
        let two = (left % 100) as u8;
        pair.copy_from_slice(&[b'0' + two / 10, b'0' + two % 10]);
        left /= 100;
    }
    out
}

fn second(unix: u64) -> [u8; SECONDS_LONG] {
    let (last, text) = LAST.get();
    if last == unix {
        return text;
    }
    let text = date(unix);
    LAST.set((unix, text));
    text
}

fn date(seconds: u64) -> [u8; SECONDS_LONG] {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    let mut out = *b"0000-00-00T00:00:00";
    for (value, start, end) in
        [(year, 0, 4), (month, 5, 7), (day, 8, 10), (hour, 11, 13), (minute, 14, 16), (second, 17, 19)]
    {
        let mut left = value;
        for place in out[start..end].iter_mut().rev() {
            *place = b'0' + (left % 10) as u8;
            left /= 10;
        }
    }
    out
}

/// The date of a day since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(date_and_time(Duration::ZERO, 6), "1970-01-01T00:00:00.000000");
        assert_eq!(date_and_time(Duration::new(951_782_400, 1_500), 6), "2000-02-29T00:00:00.000001");
        assert_eq!(date_and_time(Duration::from_millis(1_767_366_245_012), 3), "2026-01-02T15:04:05.012");
        assert_eq!(date_and_time(Duration::from_millis(1_767_366_245_999), 3), "2026-01-02T15:04:05.999");
        assert_eq!(date_and_time(Duration::ZERO, 0), "1970-01-01T00:00:00.");
    }

    #[test]
    fn times_to_the_microsecond_are_the_same_ones() {
        for unix in
            [Duration::ZERO, Duration::new(951_782_400, 1_999), Duration::new(1_767_366_245, 987_654_321)]
        {
            assert_eq!(to_microseconds(unix), date_and_time(unix, 6).as_bytes());
        }
    }
}
