//! Points in time and the calendar, for expressions.

use std::cmp::Ordering;

use crate::schema::{civil_from_days, days_from_civil, parse_date, parse_local, parse_rfc3339};

/// Seconds and nanoseconds since 1970, between the years 1 and 9999.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp {
    pub seconds: i64,
    pub nanos: u32,
    /// How many seconds east of Greenwich it was told, and is told again.
    offset: i64,
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanos).cmp(&(other.seconds, other.nanos))
    }
}

pub(crate) const OVERFLOW: &str = "timestamp overflow";
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

impl Timestamp {
    pub fn new(seconds: i64, nanos: u32) -> Result<Self, String> {
        if (FIRST..=LAST).contains(&seconds) {
            return Ok(Self { seconds, nanos, offset: 0 });
        }
        Err(OVERFLOW.to_owned())
    }

    /// RFC 3339, as Go reads it; None for anything else.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (seconds, nanos, offset) = parse_rfc3339(text).ok()?;
        Some(Self::new(seconds, nanos).map(|time| Self { offset, ..time }))
    }

    /// `2006-01-02`, or what Go says of it.
    pub fn parse_date(text: &str) -> Result<Self, String> {
        Ok(Self { seconds: parse_date(text)? * 86_400, nanos: 0, offset: 0 })
    }

    /// A `date-time` of OpenAPI, which need not say where; nothing is the beginning of 1970.
    pub fn parse_date_time(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { seconds: 0, nanos: 0, offset: 0 });
        }
        if let Ok((seconds, nanos, offset)) = parse_rfc3339(text) {
            return Ok(Self { seconds, nanos, offset });
        }
        parse_local(text).map(|(seconds, nanos)| Self { seconds, nanos, offset: 0 })
    }

    pub fn is_zero(self) -> bool {
        self.seconds == FIRST && self.nanos == 0
    }

    /// With the nanoseconds of a duration added.
    pub fn plus(self, nanos: i128) -> Result<Self, String> {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos) + nanos;
        let seconds = i64::try_from(total.div_euclid(1_000_000_000)).map_err(|_| OVERFLOW.to_owned())?;
        let time = Self::new(seconds, total.rem_euclid(1_000_000_000) as u32)?;
        Ok(Self { offset: self.offset, ..time })
    }

    /// The nanoseconds since `other`.
    pub fn since(self, other: Self) -> Result<i64, String> {
        let of = |time: Self| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        i64::try_from(of(self) - of(other)).map_err(|_| "integer overflow".to_owned())
    }

    /// RFC 3339 with as many digits of the second as needed.
    pub fn shown(self) -> String {
        let calendar = self.calendar(self.offset);
        let fraction = match self.nanos {
            0 => String::new(),
            nanos => format!(".{}", format!("{nanos:09}").trim_end_matches('0')),
        };
        let minutes = self.offset.abs() / 60;
        let zone = match self.offset {
            0 => "Z".to_owned(),
            east => format!("{}{:02}:{:02}", if east < 0 { '-' } else { '+' }, minutes / 60, minutes % 60),
        };
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{fraction}{zone}",
            calendar.year,
            calendar.month,
            calendar.day,
            calendar.second_of_day / 3600,
            calendar.second_of_day / 60 % 60,
            calendar.second_of_day % 60
        )
    }

    /// In a zone so many seconds east of Greenwich.
    pub fn calendar(self, offset: i64) -> Calendar {
        let local = self.seconds + offset;
        let days = local.div_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        let day_of_year = days - days_from_civil(year, 1, 1);
        Calendar {
            year,
            month,
            day,
            day_of_year,
            day_of_week: (days + 4).rem_euclid(7),
            second_of_day: local.rem_euclid(86_400),
        }
    }
}

/// A point in time as people tell it.
pub(crate) struct Calendar {
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// From 1.
    pub day: i64,
    /// From 0.
    pub day_of_year: i64,
    /// Sunday is 0.
    pub day_of_week: i64,
    pub second_of_day: i64,
}

/// The seconds east of Greenwich, at a time, of `Europe/Berlin`, `+02:00` or `-3:30`. The error is Go's.
pub(crate) fn offset(zone: &str, time: Timestamp) -> Result<i64, String> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        if matches!(zone, "" | "UTC" | "Local") {
            return Ok(0);
        }
        if zone.contains("..") || zone.starts_with(['/', '\\']) {
            return Err("time: invalid location name".to_owned());
        }
        return named_offset(zone, time).ok_or_else(|| format!("unknown time zone {zone}"));
    };
    let number = |text: &str| {
        text.parse::<i64>()
            .ok()
            .filter(|value| value.abs() < 1_000_000)
            .ok_or_else(|| format!("strconv.Atoi: parsing {}: invalid syntax", crate::go::quote(text)))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minutes = if zone.starts_with('-') { hours * 60 - minutes } else { hours * 60 + minutes };
    Ok(minutes * 60)
}

fn named_offset(zone: &str, time: Timestamp) -> Option<i64> {
    let known = jiff::tz::TimeZone::get(zone).ok()?;
    // Upstream reads files by that name, and heeds case.
    if known.iana_name() != Some(zone) {
        return None;
    }
    let instant = jiff::Timestamp::from_second(time.seconds).ok()?;
    Some(i64::from(known.to_offset(instant).seconds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_right_at_its_edges() {
        let time = |text: &str| Timestamp::parse(text).unwrap().unwrap();
        let leap = time("2024-02-29T23:59:59.5Z");
        assert_eq!(leap.shown(), "2024-02-29T23:59:59.5Z");
        let calendar = leap.calendar(3600);
        assert_eq!((calendar.month, calendar.day, calendar.day_of_year), (3, 1, 60));
        assert_eq!(calendar.day_of_week, 5);
        assert_eq!(time("0001-01-01T00:00:00Z").plus(-1), Err(OVERFLOW.to_owned()));
        assert!(time("9999-12-31T23:59:59Z").plus(1_000_000_000).is_err());
        assert_eq!(time("2020-01-01T00:00:00+02:00").shown(), "2020-01-01T00:00:00+02:00");
        assert_eq!(time("2020-01-01T00:00:00+02:00"), time("2019-12-31T22:00:00Z"));
        assert_eq!(offset("-03:30", leap), Ok(-12_600));
        assert_eq!(offset("Europe/Berlin", leap), Ok(3_600));
        assert_eq!(offset("Europe/Berlin", time("2024-07-01T00:00:00Z")), Ok(7_200));
        assert_eq!(offset("europe/berlin", leap), Err("unknown time zone europe/berlin".to_owned()));
        assert_eq!(offset("Nowhere/At All", leap), Err("unknown time zone Nowhere/At All".to_owned()));
    }
}
