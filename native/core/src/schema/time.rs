//! RFC 3339 times as Go parses them and Kubernetes writes them: UTC, whole seconds, or microseconds for MicroTime.

/// `Ok(None)` when the text is canonical already.
pub(crate) fn canonical(text: &str, micro: bool) -> Result<Option<String>, String> {
    let written = write(&parse(text, micro)?, micro);
    Ok((written != text).then_some(written))
}

/// Seconds and nanoseconds since 1970 of an RFC 3339 time, and how many seconds east of Greenwich it was told; the
/// error is Go's.
pub(crate) fn parse_rfc3339(text: &str) -> Result<(i64, u32, i64), String> {
    let instant = parse(text, false)?;
    Ok((instant.days * 86_400 + instant.second_of_day, instant.nanos, instant.offset))
}

/// As `parse_rfc3339`, of a time that does not say where.
pub(crate) fn parse_local(text: &str) -> Result<(i64, u32), String> {
    let mut rest = Reader::new(text, LOCAL);
    let (year, month, day) = rest.date()?;
    let (hour, minute, second) = rest.time()?;
    let nanos = rest.fraction();
    rest.end()?;
    rest.check_date(year, month, day)?;
    rest.check_time(hour, minute, second)?;
    Ok((days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second, nanos))
}

/// Days since 1970 of Go's `2006-01-02`; the error is Go's.
pub(crate) fn parse_date(text: &str) -> Result<i64, String> {
    let mut rest = Reader::new(text, DATE);
    let (year, month, day) = rest.date()?;
    rest.end()?;
    rest.check_date(year, month, day)?;
    Ok(days_from_civil(year, month, day))
}

pub(crate) fn is_date(text: &str) -> bool {
    parse_date(text).is_ok()
}

/// Seconds since 1970 and microseconds of the second.
pub(crate) fn to_unix(text: &str) -> Result<(i64, u32), String> {
    let Instant { days, second_of_day, nanos, .. } = parse(text, false)?;
    Ok((days * 86400 + second_of_day, nanos / 1000))
}

/// None outside of the years 0 to 9999, which is all that RFC 3339 can say.
pub(crate) fn from_unix(seconds: i64, micros: u32, micro: bool) -> Option<String> {
    const YEAR_0: i64 = -62_167_219_200;
    const YEAR_9999_END: i64 = 253_402_300_799;
    if !(YEAR_0..=YEAR_9999_END).contains(&seconds) || micros >= 1_000_000 {
        return None;
    }
    let (days, second_of_day) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let instant = Instant { days, second_of_day, nanos: micros * 1000, offset: 0 };
    Some(write(&instant, micro))
}

struct Instant {
    days: i64,
    second_of_day: i64,
    nanos: u32,
    /// How many seconds east of Greenwich it was told.
    offset: i64,
}

const DATE: &str = "2006-01-02";
const LOCAL: &str = "2006-01-02T15:04:05";
/// Go's layouts of Time and MicroTime.
const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// `micro`: exactly six digits of a second are a must.
fn parse(text: &str, micro: bool) -> Result<Instant, String> {
    let mut rest = Reader::new(text, if micro { MICROS } else { SECONDS });
    let (year, month, day) = rest.date()?;
    let (hour, minute, second) = rest.time()?;
    let nanos = if micro { rest.six_digits()? * 1000 } else { rest.fraction() };
    let offset = rest.offset()?;
    rest.end()?;
    rest.check_date(year, month, day)?;
    rest.check_time(hour, minute, second)?;
    let seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    Ok(Instant { days: seconds.div_euclid(86400), second_of_day: seconds.rem_euclid(86400), nanos, offset })
}

fn write(instant: &Instant, micro: bool) -> String {
    let (year, month, day) = civil_from_days(instant.days);
    let second = instant.second_of_day;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = if micro { format!(".{:06}", instant.nanos / 1000) } else { String::new() };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

struct Reader<'a> {
    whole: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, layout: &'static str) -> Self {
        Self { whole: text, rest: text, layout }
    }

    fn fail<T>(&self, part: &str) -> Result<T, String> {
        Err(format!(
            "parsing time {:?} as {:?}: cannot parse {:?} as {part:?}",
            self.whole, self.layout, self.rest
        ))
    }

    fn date(&mut self) -> Result<(i64, i64, i64), String> {
        let year = self.number(4, "2006")?;
        self.exactly("-", "-")?;
        let month = self.number(2, "01")?;
        self.exactly("-", "-")?;
        Ok((year, month, self.number(2, "02")?))
    }

    fn time(&mut self) -> Result<(i64, i64, i64), String> {
        self.exactly("T", "T")?;
        let hour = self.number(2, "15")?;
        self.exactly(":", ":")?;
        let minute = self.number(2, "04")?;
        self.exactly(":", ":")?;
        Ok((hour, minute, self.number(2, "05")?))
    }

    fn out_of_range(&self, wrong: &[(bool, &str)]) -> Result<(), String> {
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, what)) => Err(format!("parsing time {:?}: {what} out of range", self.whole)),
            None => Ok(()),
        }
    }

    fn check_date(&self, year: i64, month: i64, day: i64) -> Result<(), String> {
        let wrong_day = day < 1 || day > days_in(year, month);
        self.out_of_range(&[(!(1..=12).contains(&month), "month"), (wrong_day, "day")])
    }

    fn check_time(&self, hour: i64, minute: i64, second: i64) -> Result<(), String> {
        self.out_of_range(&[(hour > 23, "hour"), (minute > 59, "minute"), (second > 59, "second")])
    }

    fn number(&mut self, digits: usize, layout: &str) -> Result<i64, String> {
        let Some(head) =
            self.rest.get(..digits).filter(|head| head.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            return self.fail(layout);
        };
        let value = head.bytes().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        self.rest = &self.rest[digits..];
        Ok(value)
    }

    fn exactly(&mut self, text: &str, layout: &str) -> Result<(), String> {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => self.fail(layout),
        }
    }

    /// Go takes a fraction of any length after a point or comma, though its layout has none. Truncated to nanos.
    fn fraction(&mut self) -> u32 {
        let Some(digits) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return 0;
        }
        self.rest = &digits[length..];
        let padded = digits[..length].bytes().chain(std::iter::repeat(b'0'));
        padded.take(9).fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    }

    fn six_digits(&mut self) -> Result<u32, String> {
        let digits = self.rest.strip_prefix(['.', ',']).and_then(|digits| digits.get(..6));
        match digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(digits) => {
                self.rest = &self.rest[7..];
                Ok(digits.bytes().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
            }
            None => self.fail(".000000"),
        }
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return self.fail("Z07:00"),
        };
        let digits = self.rest.get(1..6).map(str::as_bytes);
        let Some([h1, h2, b':', m1, m2]) = digits else { return self.fail("Z07:00") };
        if ![h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) {
            return self.fail("Z07:00");
        }
        let two = |high: &u8, low: &u8| i64::from(high - b'0') * 10 + i64::from(low - b'0');
        let (hours, minutes) = (two(h1, h2), two(m1, m2));
        if hours > 24 || minutes > 59 {
            return Err(format!("parsing time {:?}: time zone offset hour out of range", self.whole));
        }
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }

    fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(format!("parsing time {:?}: extra text: {:?}", self.whole, self.rest))
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, by eras of 400 years that begin in March.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str, micro: bool) -> String {
        canonical(text, micro).unwrap().unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(form("2026-11-24T00:10:20Z", false), "2026-11-24T00:10:20Z");
        assert_eq!(form("2026-11-24T00:10:20.987654321+02:00", false), "2026-11-23T22:10:20Z");
        assert_eq!(form("2026-11-24T00:10:20.987654+02:00", true), "2026-11-23T22:10:20.987654Z");
        assert_eq!(form("2024-02-29T23:59:59-00:30", false), "2024-03-01T00:29:59Z");
        assert_eq!(form("1969-12-31T23:59:59Z", false), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn faults_are_told_in_gos_words() {
        let layout = "as \"2006-01-02T15:04:05Z07:00\": cannot parse";
        assert_eq!(
            canonical("soon", false).unwrap_err(),
            format!("parsing time \"soon\" {layout} \"soon\" as \"2006\"")
        );
        let short = "2026-11-24";
        assert_eq!(
            canonical(short, false).unwrap_err(),
            format!("parsing time {short:?} {layout} \"\" as \"T\"")
        );
        let layout = "as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse";
        for (text, rest, part) in [
            ("2026-11-24T00:10:20Z", "Z", ".000000"),
            ("2026-11-24T00:10:20.123Z", ".123Z", ".000000"),
            ("2026-11-24T00:10:20.1234567Z", "7Z", "Z07:00"),
        ] {
            let told = canonical(text, true).unwrap_err();
            assert_eq!(told, format!("parsing time {text:?} {layout} {rest:?} as {part:?}"));
        }
        assert!(canonical("2026-02-30T00:00:00Z", false).unwrap_err().ends_with("day out of range"));
        assert!(canonical("2026-02-20T00:00:00Zz", false).unwrap_err().ends_with("extra text: \"z\""));
        assert!(canonical("2026-02-20T00:00:00é", false).is_err());
    }
}
