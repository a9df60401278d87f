//! The `format`s of strings that custom schemas are held to.
//!
//! Semantics of kube-openapi `validation/strfmt`; other formats are ignored, as upstream does.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::schema::time;
use crate::{go, re2};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    BsonObjectId,
    Uri,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Cidr,
    Mac,
    Uuid,
    Uuid3,
    Uuid4,
    Uuid5,
    Isbn,
    Isbn10,
    Isbn13,
    CreditCard,
    Ssn,
    HexColor,
    RgbColor,
    Byte,
    Password,
    Date,
    Duration,
    DateTime,
    ShortName,
    LongName,
}

/// How definitions write them; dashes do not count.
const NAMES: [(&str, Format); 26] = [
    ("bsonobjectid", Format::BsonObjectId),
    ("uri", Format::Uri),
    ("email", Format::Email),
    ("hostname", Format::Hostname),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("cidr", Format::Cidr),
    ("mac", Format::Mac),
    ("uuid", Format::Uuid),
    ("uuid3", Format::Uuid3),
    ("uuid4", Format::Uuid4),
    ("uuid5", Format::Uuid5),
    ("isbn", Format::Isbn),
    ("isbn10", Format::Isbn10),
    ("isbn13", Format::Isbn13),
    ("creditcard", Format::CreditCard),
    ("ssn", Format::Ssn),
    ("hexcolor", Format::HexColor),
    ("rgbcolor", Format::RgbColor),
    ("byte", Format::Byte),
    ("password", Format::Password),
    ("date", Format::Date),
    ("duration", Format::Duration),
    ("datetime", Format::DateTime),
    ("k8sshortname", Format::ShortName),
    ("k8slongname", Format::LongName),
];

impl Format {
    /// None for a format that is not enforced.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.replace('-', "");
        NAMES.iter().find(|(name, _)| *name == plain).map(|(_, format)| *format)
    }

    pub fn admits(self, text: &str) -> bool {
        match self {
            Self::BsonObjectId => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
            Self::Uri => go::Url::parse_request_uri(text).is_ok(),
            Self::Email => is_email(text),
            Self::Hostname => is_hostname(text),
            Self::Ipv4 => text.contains('.') && sloppy_ip(text).is_some(),
            Self::Ipv6 => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
            Self::Cidr => is_cidr(text),
            Self::Mac => is_mac(text),
            Self::Uuid => is_uuid(text, None),
            Self::Uuid3 => is_uuid(text, Some('3')),
            Self::Uuid4 => is_uuid(text, Some('4')),
            Self::Uuid5 => is_uuid(text, Some('5')),
            Self::Isbn => is_isbn10(text) || is_isbn13(text),
            Self::Isbn10 => is_isbn10(text),
            Self::Isbn13 => is_isbn13(text),
            Self::CreditCard => is_credit_card(text),
            Self::Ssn => text.len() == 11 && matches(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", text),
            Self::HexColor => matches("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$", text),
            Self::RgbColor => is_rgb(text),
            Self::Byte => matches(
                "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
                text,
            ),
            Self::Password => true,
            Self::Date => time::is_date(text),
            Self::Duration => Self::duration(text).is_some(),
            Self::DateTime => is_date_time(text),
            Self::ShortName => text.len() <= 63 && is_short_name(text),
            Self::LongName => text.len() <= 253 && text.split('.').all(is_short_name),
        }
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    re2::compile(pattern).is_ok_and(|regex| regex.is_match(text))
}

fn is_short_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edge = |byte: Option<u8>| byte.is_some_and(inner);
    edge(text.bytes().next())
        && edge(text.bytes().next_back())
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
}

/// strfmt's pattern for names of hosts, taken apart: as one pattern it takes megabytes and some ten milliseconds to compile.
fn is_hostname(text: &str) -> bool {
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    if matches(r"^[a-zA-Z0-9\p{S}\p{L}](-?[a-zA-Z0-9\p{S}\p{L}]*)?$", text) {
        return true;
    }
    let Some((labels, last)) = text.rsplit_once('.') else { return false };
    matches(r"^[a-zA-Z\p{L}][a-zA-Z\p{L}]+$", last)
        && labels.split('.').all(|label| {
            matches(r"^[a-zA-Z0-9\p{S}\p{L}]([a-zA-Z0-9\-\p{S}\p{L}]*[a-zA-Z0-9\p{S}\p{L}])?$", label)
        })
}

/// An address of either family; IPv4 parts may have leading zeros.
fn sloppy_ip(text: &str) -> Option<std::net::IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(Into::into);
    }
    sloppy_ipv4(text).map(Into::into)
}

fn sloppy_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part
            .trim_start_matches('0')
            .parse::<u16>()
            .or_else(|_| if part.bytes().all(|byte| byte == b'0') { Ok(0) } else { Err(()) })
            .ok()
            .and_then(|value| u8::try_from(value).ok())?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Some(address) = sloppy_ip(address) else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.len() <= 3
        && length.bytes().all(|byte| byte.is_ascii_digit())
        && length.parse::<u32>().is_ok_and(|length| length <= most)
}

/// EUI-48, EUI-64 or the 20 bytes of InfiniBand, in pairs by `:` or `-` or in fours by `.`.
fn is_mac(text: &str) -> bool {
    let hexadecimal =
        |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.as_bytes().get(2) {
        Some(&separator @ (b':' | b'-')) => {
            let parts: Vec<&str> = text.split(char::from(separator)).collect();
            matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|part| hexadecimal(part, 2))
        }
        _ => {
            let parts: Vec<&str> = text.split('.').collect();
            matches!(parts.len(), 3 | 4 | 10) && parts.iter().all(|part| hexadecimal(part, 4))
        }
    }
}

/// Dashes are optional, each by itself.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let third = match version {
        None => "[0-9a-f]{4}".to_owned(),
        Some(version) => format!("{version}[0-9a-f]{{3}}"),
    };
    let fourth = if matches!(version, Some('4' | '5')) { "[89ab][0-9a-f]{3}" } else { "[0-9a-f]{4}" };
    matches(&format!("(?i)^[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{fourth}-?[0-9a-f]{{12}}$"), text)
}

fn without_space_and_minus(text: &str) -> Vec<u8> {
    text.bytes().filter(|byte| !matches!(byte, b'-' | b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let plain = without_space_and_minus(text);
    if plain.len() != 10 || !plain[..9].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let last = match plain[9] {
        b'X' => 10,
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        _ => return false,
    };
    let weighted = plain[..9].iter().zip(1..).map(|(digit, weight)| weight * u32::from(digit - b'0'));
    (weighted.sum::<u32>() + 10 * last) % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let plain = without_space_and_minus(text);
    if plain.len() != 13 || !plain.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let weighted = plain[..12]
        .iter()
        .enumerate()
        .map(|(at, digit)| u32::from(digit - b'0') * if at % 2 == 0 { 1 } else { 3 });
    u32::from(plain[12] - b'0') == (10 - weighted.sum::<u32>() % 10) % 10
}

fn is_credit_card(text: &str) -> bool {
    const PATTERN: &str = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$";
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !matches(PATTERN, &digits) {
        return false;
    }
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, digit)| match u32::from(digit - b'0') << (at % 2) {
            doubled @ 10.. => doubled - 9,
            plain => plain,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_rgb(text: &str) -> bool {
    const PART: &str = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*";
    matches(&format!(r"^rgb\({PART},{PART},{PART}\)$"), text)
}

/// What Go's `mail.ParseAddress` takes, but for comments, groups and encoded words.
fn is_email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    let spec = match text.rfind('<') {
        Some(at) if text.ends_with('>') => {
            let name = text[..at].trim_matches([' ', '\t']);
            if !is_display_name(name) {
                return false;
            }
            &text[at + 1..text.len() - 1]
        }
        _ => text,
    };
    let Some(at) = spec.rfind('@') else { return false };
    let (local, domain) = (&spec[..at], &spec[at + 1..]);
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let domain_literal = domain.starts_with('[') && domain.ends_with(']') && domain.len() > 2;
    (quoted || is_dot_atom(local)) && (domain_literal || is_dot_atom(domain))
}

fn is_atom_text(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.chars().all(is_atom_text))
}

fn is_display_name(name: &str) -> bool {
    let quoted = name.len() >= 2 && name.starts_with('"') && name.ends_with('"');
    quoted || name.chars().all(|c| is_atom_text(c) || matches!(c, ' ' | '\t' | '.'))
}

/// Units in words, with their nanoseconds; the last of each may go on (`3 hours`).
const UNITS: [(&[&str], i64); 8] = [
    (&["ns", "nano"], 1),
    (&["us", "µs", "micro"], 1_000),
    (&["ms", "milli"], 1_000_000),
    (&["s", "sec"], 1_000_000_000),
    (&["m", "min"], 60_000_000_000),
    (&["h", "hr", "hour"], 3_600_000_000_000),
    (&["d", "day"], 86_400_000_000_000),
    (&["w", "wk", "week"], 604_800_000_000_000),
];

impl Format {
    /// Nanoseconds of Go's durations, or of all numbers with units in words that there are (`3 days`).
    pub fn duration(text: &str) -> Option<i64> {
        if let Ok(nanos) = go::parse_duration(text) {
            return Some(nanos);
        }
        let pattern = re2::compile(r"(\d+)\s*([A-Za-zµ]+)").ok()?;
        let mut sum: Option<i64> = None;
        for groups in pattern.captures_iter(text) {
            let factor: i64 = groups[1].parse().ok()?;
            let unit = groups[2].to_lowercase();
            for (variants, nanos) in UNITS {
                let goes_on = variants.last().is_some_and(|last| unit.starts_with(last));
                if goes_on || variants.contains(&unit.as_str()) {
                    sum = Some(sum.unwrap_or(0).wrapping_add(factor.wrapping_mul(nanos)));
                }
            }
        }
        sum
    }
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(clock)) = (parts.next(), parts.next()) else { return false };
    if text.len() < 4 || !time::is_date(date) {
        return false;
    }
    let Ok(pattern) =
        re2::compile(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$")
    else {
        return false;
    };
    pattern
        .captures(clock)
        .is_some_and(|groups| &groups[1] <= "23" && &groups[2] <= "59" && &groups[3] <= "59")
}
