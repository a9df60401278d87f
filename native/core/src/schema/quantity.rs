//! Kubernetes quantities: fixed-point numbers with nano resolution and a canonical form.
//!
//! Semantics of k8s.io/apimachinery `pkg/api/resource/quantity.go`: what is finer than a nano is rounded away from
//! zero, what has a binary suffix and is beyond an int64 is capped to it. Amounts are exact up to 10^29.

pub(crate) const QUANTITY_FORM: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const BAD_SUFFIX: &str = "unable to parse quantity's suffix";

const NANO: u128 = 1_000_000_000;
const MAX_NANOS: u128 = i128::MAX as u128;
const MAX_BINARY_NANOS: u128 = i64::MAX as u128 * NANO;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    DecimalSi,
    DecimalExponent,
    BinarySi,
}

struct Parsed {
    negative: bool,
    nanos: u128,
    format: Format,
}

/// `Ok(None)` when the text is in canonical form already.
pub fn canonical(text: &str) -> Result<Option<String>, String> {
    if is_plainly_canonical(text.as_bytes()) {
        return Ok(None);
    }
    let written = write(&parse(text.trim())?);
    Ok((written != text).then_some(written))
}

/// The amount in nanos; the error is Go's.
pub(crate) fn nanos(text: &str) -> Result<i128, String> {
    let parsed = parse(text)?;
    let amount = parsed.nanos as i128;
    Ok(if parsed.negative { -amount } else { amount })
}

/// The common cases: "1", "100m", "64Mi". A thousand or 1,024 of a unit may be one of the next.
fn is_plainly_canonical(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 15 || text[0] == b'0' {
        return text == b"0";
    }
    let number = text[..digits].iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match &text[digits..] {
        b"" | b"m" | b"k" | b"M" | b"G" => number % 1000 != 0,
        b"Ki" | b"Mi" | b"Gi" => number % 1024 != 0 && digits <= 6,
        _ => false,
    }
}

fn parse(text: &str) -> Result<Parsed, String> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
        None => return Err(QUANTITY_FORM.into()),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(QUANTITY_FORM.into());
    }
    let (format, base, exponent) = parse_suffix(suffix)?;
    let nanos = scaled(whole.trim_start_matches('0'), fraction.trim_end_matches('0'), base, exponent);
    let nanos = if format == Format::BinarySi { nanos.min(MAX_BINARY_NANOS) } else { nanos };
    Ok(Parsed { negative: negative && nanos != 0, nanos, format })
}

/// The format of a suffix and its factor as base and exponent.
fn parse_suffix(suffix: &str) -> Result<(Format, u32, i32), String> {
    let decimal = |exponent| Ok((Format::DecimalSi, 10, exponent));
    let binary = |exponent| Ok((Format::BinarySi, 2, exponent));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => parse_exponent(suffix),
    }
}

fn parse_exponent(suffix: &str) -> Result<(Format, u32, i32), String> {
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = letters.strip_prefix(['+', '-']).unwrap_or(letters);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(QUANTITY_FORM.into());
    }
    let exponent = suffix.strip_prefix(['e', 'E']).and_then(|text| text.parse::<i64>().ok());
    match exponent {
        // Beyond these every number is zero or capped.
        Some(exponent) => Ok((Format::DecimalExponent, 10, exponent.clamp(-1000, 1000) as i32)),
        None => Err(BAD_SUFFIX.into()),
    }
}

/// `whole.fraction * base^exponent` in nanos, rounded up and capped. `whole` has no leading, `fraction` no trailing zeros.
fn scaled(whole: &str, fraction: &str, base: u32, exponent: i32) -> u128 {
    // 30 digits are more than any value in range can show.
    const DIGITS: usize = 30;
    if whole.len() > DIGITS && exponent >= -9 {
        return MAX_NANOS;
    }
    let kept = fraction.len().min(DIGITS.saturating_sub(whole.len()));
    let cut = kept < fraction.len();
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes().take(kept)).collect();
    if digits.len() > 38 {
        return MAX_NANOS;
    }
    let mut value = digits.iter().fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    if value == 0 {
        return u128::from(cut);
    }
    let mut tens = 9 - kept as i32;
    if base == 2 {
        match value.checked_mul(1 << exponent) {
            Some(product) => value = product,
            None => return MAX_NANOS,
        }
    } else {
        tens += exponent;
    }
    let power = 10u128.checked_pow(tens.unsigned_abs());
    let result = match (tens >= 0, power) {
        (true, Some(power)) => value.checked_mul(power).unwrap_or(MAX_NANOS),
        (true, None) => MAX_NANOS,
        (false, Some(power)) => value.div_ceil(power),
        (false, None) => 1,
    };
    result.min(MAX_NANOS)
}

fn write(quantity: &Parsed) -> String {
    if quantity.nanos == 0 {
        return "0".into();
    }
    let sign = if quantity.negative { "-" } else { "" };
    let is_binary = quantity.format == Format::BinarySi
        && quantity.nanos >= 1024 * NANO
        && quantity.nanos.is_multiple_of(NANO);
    if is_binary {
        let mut mantissa = quantity.nanos / NANO;
        let mut unit = 0;
        while mantissa.is_multiple_of(1024) && unit < 6 {
            mantissa /= 1024;
            unit += 1;
        }
        return format!("{sign}{mantissa}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][unit]);
    }
    let mut mantissa = quantity.nanos;
    const UNITS: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    while mantissa.is_multiple_of(1000) && unit + 1 < UNITS.len() {
        mantissa /= 1000;
        unit += 1;
    }
    match (quantity.format, unit as i32 * 3 - 9) {
        (_, 0) => format!("{sign}{mantissa}"),
        (Format::DecimalExponent, exponent) => format!("{sign}{mantissa}e{exponent}"),
        _ => format!("{sign}{mantissa}{}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(text: &str) -> String {
        canonical(text).unwrap().unwrap_or_else(|| text.to_owned())
    }

    fn value(text: &str) -> (bool, u128) {
        let parsed = parse(text).unwrap();
        (parsed.negative, parsed.nanos)
    }

    #[test]
    fn quantities_take_their_canonical_form() {
        for (text, expected) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("01", "1"),
            ("+1", "1"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1.953125Ki", "2000"),
            ("1023Ki", "1023Ki"),
            ("100Mi", "100Mi"),
            ("1e3", "1e3"),
            ("100E1", "1e3"),
            ("1.1e2", "110"),
            ("1E", "1E"),
            ("1000E", "1000E"),
            ("1000Ei", "9223372036854775807"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("1.0000000001", "1000000001n"),
            ("1e-3", "1e-3"),
            ("999999999999999999999999", "999999999999999999999999"),
            (" 1 ", "1"),
            ("1536Ki", "1536Ki"),
            ("1048576Ki", "1Gi"),
        ] {
            assert_eq!(form(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "Mi", "a", "1x", "1..2", "1.2.3", "--1", "1 Mi", "1m1", "1MiB"] {
            assert!(canonical(text).is_err(), "{text}");
        }
        assert_eq!(canonical("1iM").unwrap_err(), BAD_SUFFIX);
        assert_eq!(canonical("x").unwrap_err(), QUANTITY_FORM);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_canonical_and_of_equal_value(
            whole in 0u64..100_000_000, fraction in 0u32..1000, negative: bool,
            suffix in prop::sample::select(vec!["", "m", "u", "n", "k", "M", "G", "Ki", "Mi", "Gi", "e2", "E-2"]),
        ) {
            let text = format!("{}{whole}.{fraction:03}{suffix}", if negative { "-" } else { "" });
            let once = form(&text);
            prop_assert_eq!(value(&once), value(&text));
            let twice = form(&once);
            prop_assert_eq!(value(&twice), value(&once));
            if !suffix.ends_with('i') || once.ends_with('i') {
                prop_assert_eq!(twice, once);
            } else {
                // What has lost its binary suffix is decimal to whoever reads it, as in Go: 1.953125Ki, 2000, 2k.
                prop_assert_eq!(&form(&twice), &twice);
            }
        }

        #[test]
        fn nothing_makes_the_parser_fail_badly(text in "\\PC{0,40}") {
            let _ = canonical(&text);
        }
    }
}
