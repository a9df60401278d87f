//! `format()`: cel-go's string formatting, version 2 of the extension, in the locale en-US.

use super::super::value::{Map, Text, Value};
use super::super::{json, show};
use super::{Evaluated, Failure, Machine, list, text};
use crate::go;

const DEFAULT_PRECISION: usize = 6;
const MOST_PRECISION: usize = 1_000_000;
/// No double has more digits behind the point that are not zero.
const MOST_DIGITS: usize = 1_074;

/// A piece of a format string.
pub(crate) enum Piece<'p> {
    Text(&'p str),
    /// A place for the argument of that number; faults count only after those of the argument.
    Argument(usize, Result<Clause, String>),
}

impl Piece<'_> {
    pub fn clause(self) -> Option<(usize, Result<Clause, String>)> {
        match self {
            Self::Text(_) => None,
            Self::Argument(at, clause) => Some((at, clause)),
        }
    }
}

/// Shows all pieces of a format string.
pub(crate) fn interpolate<E>(
    pattern: &str,
    show: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = 0;
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        show(Piece::Text(&rest[..at]))?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            show(Piece::Text("%"))?;
            rest = after;
            continue;
        }
        let clause = Clause::read(&mut rest);
        show(Piece::Argument(next, clause))?;
        next += 1;
    }
    show(Piece::Text(rest))
}

pub(super) fn format<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let (pattern, values) = (text(args.first())?, list(args.get(1))?);
    let mut out = String::new();
    interpolate(pattern, &mut |piece| {
        let (at, clause) = match piece {
            Piece::Text(text) => {
                machine.allocate(text.len())?;
                out.push_str(text);
                return Ok(());
            }
            Piece::Argument(at, clause) => (at, clause),
        };
        if at >= values.len() {
            return Err(Failure::from(format!("index {at} out of range")));
        }
        let value = machine.at(values, at)?;
        let written = clause?.write(machine, &value).map_err(|failure| match failure {
            Failure::Error(message) => Failure::Error(format!("error during formatting: {message}")),
            Failure::Cancelled => Failure::Cancelled,
        })?;
        machine.allocate(written.len())?;
        out.push_str(&written);
        Ok(())
    })?;
    machine.new_text(out)
}

/// What follows a percent sign.
pub(crate) struct Clause {
    pub verb: char,
    precision: Option<usize>,
}

impl Clause {
    fn read(rest: &mut &str) -> Result<Self, String> {
        let failed = |problem: &str| Err(format!("could not parse formatting clause: {problem}"));
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned());
        }
        let mut precision = None;
        if let Some(after) = rest.strip_prefix('.') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            if digits == after.len() {
                return failed("error while parsing precision: could not find end of precision specifier");
            }
            let digits = &after[..digits];
            match digits.parse::<usize>() {
                Ok(wanted) if wanted <= MOST_PRECISION => precision = Some(wanted),
                parsed => {
                    let problem = match parsed {
                        Err(_) if digits.is_empty() => "invalid syntax",
                        _ => "value out of range",
                    };
                    return failed(&format!(
                        "error while parsing precision: error while converting precision to integer: strconv.Atoi: \
                         parsing {}: {problem}",
                        go::quote(digits)
                    ));
                }
            }
            *rest = &after[digits.len()..];
        }
        let Some(first) = rest.chars().next() else { return failed("unexpected end of string") };
        // Upstream reads bytes here, and takes each for a character.
        let verb = char::from(rest.as_bytes()[0]);
        *rest = &rest[first.len_utf8()..];
        if !"sdfebxXo".contains(verb) {
            return failed(&format!("unrecognized formatting clause \"{verb}\""));
        }
        Ok(Self { verb, precision })
    }

    /// What the clause is not for.
    pub fn misused(&self, given: &str) -> String {
        let rule = match self.verb {
            's' => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                    durations, and timestamps"
            }
            'd' => "decimal clause can only be used on integers",
            'f' => "fixed-point clause can only be used on doubles",
            'e' => "scientific clause can only be used on doubles",
            'b' => "only integers and bools can be formatted as binary",
            'o' => "octal clause can only be used on integers",
            _ => "only integers, byte buffers, and strings can be formatted as hex",
        };
        format!("{rule}, was given {given}")
    }

    fn write<'a>(&self, machine: &mut Machine<'a>, value: &Value<'a>) -> Result<String, Failure> {
        if matches!(self.verb, 'f' | 'e')
            && let Some(value) = special_or_double(value)
        {
            return match self.verb {
                'f' => {
                    let precision = self.precision.unwrap_or(DEFAULT_PRECISION);
                    machine.allocate(precision)?;
                    Ok(fixed(value, precision))
                }
                // Upstream takes the precision for the least width.
                _ => {
                    let width = self.precision.unwrap_or(DEFAULT_PRECISION);
                    machine.allocate(width)?;
                    let written = scientific(value);
                    let padding = width.saturating_sub(written.chars().count());
                    Ok(" ".repeat(padding) + &written)
                }
            };
        }
        Ok(match (self.verb, value) {
            ('s', value) => return text_of(machine, value),
            ('d', Value::Int(value)) => value.to_string(),
            ('d', Value::Uint(value)) => value.to_string(),
            ('b', Value::Bool(value)) => if *value { "1" } else { "0" }.to_owned(),
            ('b', Value::Int(value)) => signed(*value, |value| format!("{value:b}")),
            ('b', Value::Uint(value)) => format!("{value:b}"),
            ('o', Value::Int(value)) => signed(*value, |value| format!("{value:o}")),
            ('o', Value::Uint(value)) => format!("{value:o}"),
            ('x', Value::Int(value)) => signed(*value, |value| format!("{value:x}")),
            ('X', Value::Int(value)) => signed(*value, |value| format!("{value:X}")),
            ('x', Value::Uint(value)) => format!("{value:x}"),
            ('X', Value::Uint(value)) => format!("{value:X}"),
            ('x' | 'X', Value::String(text)) => hexadecimal(text.as_str().as_bytes(), self.verb),
            ('x' | 'X', Value::Bytes(bytes)) => hexadecimal(bytes, self.verb),
            _ => return Err(self.misused(value.type_name()).into()),
        })
    }
}

fn signed(value: i64, write: fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", write(value.unsigned_abs()))
}

fn hexadecimal(bytes: &[u8], verb: char) -> String {
    bytes.iter().map(|byte| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") }).collect()
}

fn special_or_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn not_finite(value: f64) -> Option<String> {
    if value.is_nan() {
        return Some("NaN".into());
    }
    value.is_infinite().then(|| if value > 0.0 { "∞".into() } else { "-∞".into() })
}

/// With commas between thousands, as the locale has it.
fn fixed(value: f64, precision: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text;
    }
    let digits = precision.min(MOST_DIGITS);
    let plain = format!("{value:.digits$}") + &"0".repeat(precision - digits);
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(a, b)| (a, Some(b)));
    let mut out = sign.to_owned();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// `1.052033×10⁰³`
fn scientific(value: f64) -> String {
    if let Some(text) = not_finite(value) {
        return text;
    }
    let plain = format!("{value:.DEFAULT_PRECISION$e}");
    let (digits, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("", exponent), |rest| ("⁻", rest));
    let raised: String = format!("{exponent:0>2}")
        .chars()
        .filter_map(|digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit.to_digit(10)? as usize))
        .collect();
    format!("{digits}×10{sign}{raised}")
}

/// As `%s` writes a value.
fn text_of<'a>(machine: &mut Machine<'a>, value: &Value<'a>) -> Result<String, Failure> {
    machine.work(1)?;
    Ok(match value {
        Value::List(list) => {
            let mut parts = Vec::with_capacity(list.len());
            for element in machine.elements(list)? {
                parts.push(nested(machine, &element)?);
            }
            format!("[{}]", parts.join(", "))
        }
        Value::Map(map) => {
            let mut pairs = Vec::new();
            for (key, value) in entries(machine, map)? {
                let name = match &key {
                    Value::String(text) => go::quote(text.as_str()),
                    Value::Bool(_) | Value::Int(_) | Value::Uint(_) => show::plain(&key),
                    other => {
                        let ty = other.type_name();
                        return Err(format!("no formatting function for map key of type {ty}").into());
                    }
                };
                pairs.push((name, nested(machine, &value)?));
            }
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Double(value) => go::float(*value),
        Value::Duration(nanos) => show::duration(*nanos),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::Type(_) => show::plain(value),
        other => return Err(Clause { verb: 's', precision: None }.misused(other.type_name()).into()),
    })
}

/// As literals of the language within lists and maps.
fn nested<'a>(machine: &mut Machine<'a>, value: &Value<'a>) -> Result<String, Failure> {
    let text = match value {
        Value::Double(value) if value.is_finite() => format!("{value:.DEFAULT_PRECISION$}"),
        Value::Double(value) => go::quote(&go_infinity(*value)),
        Value::String(text) => go::quote(text.as_str()),
        Value::Bytes(_) => format!("b{}", go::quote(&text_of(machine, value)?)),
        Value::Timestamp(_) => format!("timestamp({})", go::quote(&text_of(machine, value)?)),
        Value::Duration(_) => format!("duration({})", go::quote(&text_of(machine, value)?)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Type(_) => show::plain(value),
        Value::List(_) | Value::Map(_) => text_of(machine, value)?,
        other => return Err(format!("no formatting function for {}", other.type_name()).into()),
    };
    machine.allocate(text.len())?;
    Ok(text)
}

fn go_infinity(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    }
    .to_owned()
}

fn entries<'a>(machine: &mut Machine<'a>, map: &Map<'a>) -> Result<Vec<(Value<'a>, Value<'a>)>, Failure> {
    match map {
        Map::Owned(owned) => Ok(owned.entries.clone()),
        Map::Plain(members) => {
            let name = |name: &'a String| Value::String(Text::Borrowed(name));
            Ok(members.iter().map(|(key, value)| (name(key), json::plain(value))).collect())
        }
        Map::Json { members, node, resource } => {
            let mut entries = Vec::new();
            for key in json::keys(members, node, *resource) {
                if let Some(value) = machine.element(&Value::Map(map.clone()), &key)? {
                    entries.push((key, value));
                }
            }
            Ok(entries)
        }
    }
}
