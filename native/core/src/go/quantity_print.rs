//! How Go prints a resource.Quantity with its unexported fields. (apimachinery `pkg/api/resource`, ParseQuantity.)

/// Digits up to which amounts are kept as int64.
const MOST_DIGITS: i32 = 18;
const NANO: i32 = -9;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    DecimalSI,
    BinarySI,
    DecimalExponent,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::DecimalSI => "DecimalSI",
            Self::BinarySI => "BinarySI",
            Self::DecimalExponent => "DecimalExponent",
        }
    }
}

/// As spew shows what ParseQuantity makes of the text; "" is the zero value.
pub fn quantity(text: &str) -> String {
    if text.is_empty() {
        return shown(0, 0, "<nil>", "", "");
    }
    if text == "0" {
        return shown(0, 0, "<nil>", text, Format::DecimalSI.name());
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (num, denom) = number.split_once('.').unwrap_or((number, ""));
    let num = match num.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let Some((exponent, format)) = interpreted(suffix) else { return shown(0, 0, "<nil>", "", "") };
    fast(text, negative, num, denom, exponent, format)
        .unwrap_or_else(|| slow(negative, num, denom, exponent, format))
}

fn interpreted(suffix: &str) -> Option<(i32, Format)> {
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(place) = decimal.iter().position(|one| *one == suffix) {
        return Some((3 * (place as i32 - 3), Format::DecimalSI));
    }
    if let Some(place) = binary.iter().position(|one| *one == suffix) {
        return Some((10 * (place as i32 + 1), Format::BinarySI));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((exponent.parse().ok()?, Format::DecimalExponent))
}

/// An int64 and its scale, which nearly every amount is.
fn fast(text: &str, negative: bool, num: &str, denom: &str, exponent: i32, format: Format) -> Option<String> {
    let (mut scale, precision, mantissa) = match format {
        Format::BinarySI if !denom.is_empty() => return None,
        Format::BinarySI => {
            let precision = 15 - num.len() as i32 - (exponent as f32 * 3.0 / 10.0) as i32 - 1;
            (0, precision, 1i64.checked_shl(exponent as u32)?)
        }
        _ => (exponent, MOST_DIGITS - (num.len() + denom.len()) as i32, 1),
    };
    scale -= denom.len() as i32;
    if precision < 0 || scale < NANO {
        return None;
    }
    let shifted = format!("{num}{denom}");
    let value: i64 = shifted.parse().ok()?;
    let result = value.checked_mul(mantissa)?;
    let is_canonical = match format {
        Format::BinarySI => exponent % 10 == 0 && value & 7 != 0,
        _ => scale % 3 == 0 && !shifted.ends_with("000") && !shifted.starts_with('0'),
    };
    let kept = if is_canonical { text } else { "" };
    Some(shown(if negative { -result } else { result }, scale, "<nil>", kept, format.name()))
}

/// A decimal of any size, rounded up to billionths.
fn slow(negative: bool, num: &str, denom: &str, exponent: i32, format: Format) -> String {
    let Ok(mut unscaled) = format!("{num}{denom}").parse::<u128>() else {
        return shown(0, 0, "<nil>", "", "");
    };
    let mut scale = denom.len() as i32;
    let mut format = format;
    if format == Format::BinarySI {
        unscaled = unscaled.saturating_mul(1 << exponent);
    } else {
        scale -= exponent;
    }
    if unscaled != 0 {
        while scale < -NANO {
            (unscaled, scale) = (unscaled.saturating_mul(10), scale + 1);
        }
        while scale > -NANO {
            (unscaled, scale) = (unscaled.div_ceil(10), scale - 1);
        }
    }
    let most = i64::MAX as u128;
    if format == Format::BinarySI && unscaled > most * 1_000_000_000 {
        (unscaled, scale) = (most, 0);
    }
    if format == Format::BinarySI && unscaled > 0 && unscaled < 1_000_000_000 && scale == -NANO {
        format = Format::DecimalSI;
    }
    let words = match (unscaled as u64, (unscaled >> 64) as u64) {
        (0, 0) => "<nil>".to_owned(),
        (low, 0) => format!("[{low}]"),
        (low, high) => format!("[{low} {high}]"),
    };
    let number = format!("{{neg:(bool){negative} abs:(big.nat){words}}}");
    let amount = format!("{{unscaled:(big.Int){number} scale:(inf.Scale){scale}}}");
    shown(0, 0, &amount, "", format.name())
}

fn shown(value: i64, scale: i32, amount: &str, kept: &str, format: &str) -> String {
    format!(
        "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} \
         d:(resource.infDecAmount){{Dec:(*inf.Dec){amount}}} s:(string){kept} Format:(resource.Format){format}}}"
    )
}
