//! Floats as Go's `strconv.ParseFloat` reads them: also hexadecimal ones, and digits with underscores between them.

/// None for what is no float, and for what is too great for one.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let signed = |value: f64| if negative { -value } else { value };
    if ["inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name)) {
        return Some(signed(f64::INFINITY));
    }
    // Only an infinity has a sign.
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    if unsigned.contains('_') && !underscores_are_between_digits(unsigned) {
        return None;
    }
    let plain = unsigned.replace('_', "");
    let value = match plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        Some(digits) => hexadecimal(digits)?,
        None if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => plain.parse().ok()?,
        None => return None,
    };
    value.is_finite().then(|| signed(value))
}

/// A prefix like `0x` counts as a digit.
fn underscores_are_between_digits(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let hexadecimal = lower.starts_with("0x");
    let (mut before, rest) = match lower.as_bytes() {
        [b'0', b'x' | b'o' | b'b', rest @ ..] => (b'0', rest),
        rest => (b'^', rest),
    };
    for byte in rest {
        before = match byte {
            b'0'..=b'9' => b'0',
            b'a'..=b'f' if hexadecimal => b'0',
            b'_' if before == b'0' => b'_',
            b'_' => return false,
            _ if before == b'_' => return false,
            _ => b'!',
        };
    }
    before != b'_'
}

/// `mantissa p exponent`, rounded to even.
fn hexadecimal(digits: &str) -> Option<f64> {
    let (mantissa, exponent) = digits.split_once(['p', 'P'])?;
    let exponent: i64 = match exponent.parse::<i64>() {
        Ok(exponent) => exponent.clamp(-100_000, 100_000),
        Err(_) => return None,
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: u128 = 0;
    let mut shift = exponent - 4 * fraction.len() as i64;
    for digit in whole.chars().chain(fraction.chars()) {
        let digit = u128::from(digit.to_digit(16)?);
        if value >> 120 == 0 {
            value = value << 4 | digit;
        } else {
            // What does not fit any more counts for rounding only.
            value |= u128::from(digit != 0);
            shift += 4;
        }
    }
    Some(scaled(value, shift))
}

fn scaled(value: u128, shift: i64) -> f64 {
    if value == 0 {
        return 0.0;
    }
    let bits = i64::from(128 - value.leading_zeros());
    // The place of the last bit that the float keeps, seen from that of the value.
    let last = (bits - 53).max(-1074 - shift);
    let (kept, shift) = if last <= 0 {
        (value, shift)
    } else if last > 127 {
        (0, shift)
    } else {
        let (kept, rest, half) = (value >> last, value & ((1 << last) - 1), 1u128 << (last - 1));
        let up = rest > half || (rest == half && kept & 1 == 1);
        (kept + u128::from(up), shift + last)
    };
    let mut float = kept as f64;
    let mut left = shift;
    while left != 0 && float != 0.0 && float.is_finite() {
        let step = left.clamp(-1000, 1000);
        float *= 2f64.powi(step as i32);
        left -= step;
    }
    float
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_go_reads_them() {
        for (text, value) in [
            ("1.5", Some(1.5)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1e3", Some(1000.0)),
            ("+Inf", Some(f64::INFINITY)),
            ("-infinity", Some(f64::NEG_INFINITY)),
            ("0x1p4", Some(16.0)),
            ("0x1.8p1", Some(3.0)),
            ("0X.8p0", Some(0.5)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1p-1075", Some(0.0)),
            ("0x1.8p-1074", Some(1e-323)),
            ("1_000", Some(1000.0)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("0x_1p0", Some(1.0)),
            ("0x1", None),
            ("0xp1", None),
            ("1e400", None),
            ("0x1p5000", None),
            ("", None),
            ("-nan", None),
            ("e1", None),
            ("1 ", None),
        ] {
            assert_eq!(parse_float(text), value, "{text}");
        }
        assert!(parse_float("NaN").unwrap().is_nan());
    }
}
