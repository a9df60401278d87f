//! Kubernetes quantities as expressions compute with them.

use crate::schema::quantity_nanos;

const NANO: i128 = 1_000_000_000;

/// An amount. Upstream calls it an integer only when it was not written with a fraction, whatever its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantity {
    nanos: i128,
    /// The decimal scale it is held in; None when it is held in arbitrary precision.
    scale: Option<i32>,
}

impl Quantity {
    pub fn parse(text: &str) -> Result<Self, String> {
        let nanos = quantity_nanos(text)?;
        Ok(Self { nanos, scale: scale_of(text) })
    }

    pub fn of_integer(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, scale: Some(0) }
    }

    pub fn as_integer(self) -> Option<i64> {
        if self.nanos == 0 && self.scale.is_some() {
            return Some(0);
        }
        self.scale.filter(|scale| *scale >= 0)?;
        i64::try_from(self.nanos / NANO).ok()
    }

    pub fn as_float(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    pub fn sign(self) -> i64 {
        self.nanos.signum() as i64
    }

    pub fn compare(self, other: Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }

    pub fn plus(self, other: Self) -> Self {
        let scale = match (self.scale, other.scale) {
            (Some(_), Some(theirs)) if self.nanos == 0 => Some(theirs),
            (Some(ours), Some(_)) if other.nanos == 0 => Some(ours),
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            _ => None,
        };
        Self { nanos: self.nanos.saturating_add(other.nanos), scale }
    }

    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, scale: other.scale })
    }
}

/// How upstream's parser holds a valid quantity: quickly where its digits fit, else in arbitrary precision.
fn scale_of(text: &str) -> Option<i32> {
    const MOST_DIGITS: i32 = 18;
    if text == "0" {
        return Some(0);
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = (whole.trim_start_matches('0').len().max(1) + fraction.len()) as i32;
    let exponent = match suffix {
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => {
            let bits = 10 * (1 + "KMGTPE".find(&suffix[..1])? as i32);
            let precision = 15 - digits - (bits as f32 * 3.0 / 10.0) as i32 - 1;
            return (fraction.is_empty() && precision >= 0).then_some(0);
        }
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        other => other.get(1..)?.parse().ok()?,
    };
    let scale = exponent - fraction.len() as i32;
    (digits <= MOST_DIGITS && scale >= -9).then_some(scale)
}
