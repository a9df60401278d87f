//! `time.Duration`: nanoseconds in 64 bits.

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `time.ParseDuration`: nanoseconds; the error is Go's.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", super::quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    const MOST: u64 = 1 << 63;
    while !rest.is_empty() {
        let (whole, after) = leading_digits(rest);
        let whole_value = number(whole).ok_or_else(invalid)?;
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => leading_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", super::quote(text)));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                super::quote(unit),
                super::quote(text)
            ));
        };
        let part = whole_value.checked_mul(*nanos).filter(|part| *part <= MOST).ok_or_else(invalid)?;
        let part = part + part_of(fraction, *nanos);
        total = total.checked_add(part).filter(|total| *total <= MOST).ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (true, _) => Ok((total as i64).wrapping_neg()),
        (false, Ok(total)) => Ok(total),
        (false, Err(_)) => Err(invalid()),
    }
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    digits.parse().ok().filter(|value| *value <= 1 << 63)
}

/// As Go: what no longer fits 63 bits of the fraction is cut off, the product is a float.
fn part_of(fraction: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in fraction.bytes() {
        let Some(next) = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0')))
        else {
            break;
        };
        if next > 1 << 63 {
            break;
        }
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

/// `Duration.String`: `1h15m30.918s`.
pub fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let rest = nanos.unsigned_abs();
    if rest == 0 {
        return "0s".into();
    }
    let with_fraction = |whole: u64, fraction: u64, digits: usize| {
        if fraction == 0 {
            return whole.to_string();
        }
        format!("{whole}.{}", format!("{fraction:0digits$}").trim_end_matches('0'))
    };
    if rest < 1_000 {
        return format!("{sign}{rest}ns");
    }
    if rest < 1_000_000 {
        return format!("{sign}{}µs", with_fraction(rest / 1_000, rest % 1_000, 3));
    }
    if rest < 1_000_000_000 {
        return format!("{sign}{}ms", with_fraction(rest / 1_000_000, rest % 1_000_000, 6));
    }
    let seconds = rest / 1_000_000_000;
    let tail = with_fraction(seconds % 60, rest % 1_000_000_000, 9);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{sign}{tail}s"),
        (0, minutes) => format!("{sign}{minutes}m{tail}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{tail}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanos, written) in [
            ("0", 0, "0s"),
            ("1h15m30.918s", 4_530_918_000_000, "1h15m30.918s"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            ("2us", 2_000, "2µs"),
            ("1.5ms", 1_500_000, "1.5ms"),
            (".5s", 500_000_000, "500ms"),
            ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
            assert_eq!(duration_text(nanos), written);
        }
    }

    #[test]
    fn faults_of_durations_are_told_in_gos_words() {
        for (text, problem) in [
            ("", "time: invalid duration \"\""),
            ("3", "time: missing unit in duration \"3\""),
            ("3x", "time: unknown unit \"x\" in duration \"3x\""),
            (".s", "time: invalid duration \".s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
        ] {
            assert_eq!(parse_duration(text).unwrap_err(), problem);
        }
    }
}
