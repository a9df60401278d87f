//! Addresses as Go's `net/netip` reads them, with its errors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::quote;

/// An address, and whether it had a zone.
pub(crate) fn parse_addr(text: &str) -> Result<(IpAddr, bool), String> {
    let parsed = match text.bytes().find(|byte| matches!(byte, b'.' | b':' | b'%')) {
        Some(b'.') => ipv4(text).map(|octets| (Ipv4Addr::from(octets).into(), false)),
        Some(b':') => ipv6(text),
        Some(_) => Err("missing IPv6 address".to_owned()),
        None => Err("unable to parse IP".to_owned()),
    };
    parsed.map_err(|problem| format!("ParseAddr({}): {problem}", quote(text)))
}

fn at<T>(problem: &str, place: &str) -> Result<T, String> {
    Err(format!("{problem} (at {})", quote(place)))
}

fn ipv4(text: &str) -> Result<[u8; 4], String> {
    let mut octets = [0; 4];
    let (mut value, mut place, mut digits) = (0u32, 0, 0);
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return Err("IPv4 field has octet with leading zero".to_owned());
                }
                value = value * 10 + u32::from(byte - b'0');
                digits += 1;
                if value > 255 {
                    return Err("IPv4 field has value >255".to_owned());
                }
            }
            b'.' => {
                if index == 0 || index == bytes.len() - 1 || bytes[index - 1] == b'.' {
                    return at("IPv4 field must have at least one digit", &text[index..]);
                }
                if place == 3 {
                    return Err("IPv4 address too long".to_owned());
                }
                octets[place] = value as u8;
                place += 1;
                (value, digits) = (0, 0);
            }
            _ => return at("unexpected character", &text[index..]),
        }
    }
    if place < 3 {
        return Err("IPv4 address too short".to_owned());
    }
    octets[3] = value as u8;
    Ok(octets)
}

fn ipv6(whole: &str) -> Result<(IpAddr, bool), String> {
    let (address, zone) = match whole.split_once('%') {
        Some((_, "")) => return Err("zone must be a non-empty string".to_owned()),
        Some((address, _)) => (address, true),
        None => (whole, false),
    };
    let mut fields = Fields::default();
    let mut rest = address;
    if let Some(after) = rest.strip_prefix("::") {
        fields.ellipsis = Some(0);
        rest = after;
        if rest.is_empty() {
            return Ok((Ipv6Addr::UNSPECIFIED.into(), zone));
        }
    }
    while fields.filled < 16 {
        rest = fields.read(rest)?;
        if rest.is_empty() {
            break;
        }
    }
    if !rest.is_empty() {
        return at("trailing garbage after address", rest);
    }
    Ok((fields.address()?.into(), zone))
}

/// The bytes of an address, as they are read.
#[derive(Default)]
struct Fields {
    bytes: [u8; 16],
    filled: usize,
    /// Where `::` stands.
    ellipsis: Option<usize>,
}

impl Fields {
    /// Reads a field and what separates it from the next; what is left.
    fn read<'a>(&mut self, text: &'a str) -> Result<&'a str, String> {
        let filled = self.filled;
        let digits = text.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits > 4 {
            return at("each group must have 4 or fewer digits", text);
        }
        if digits == 0 {
            return at("each colon-separated field must have at least one digit", text);
        }
        if text[digits..].starts_with('.') {
            if self.ellipsis.is_none() && filled != 12 {
                return at("embedded IPv4 address must replace the final 2 fields of the address", text);
            }
            if filled + 4 > 16 {
                return at("too many hex fields to fit an embedded IPv4 at the end of the address", text);
            }
            self.bytes[filled..filled + 4].copy_from_slice(&ipv4(text)?);
            self.filled += 4;
            return Ok("");
        }
        let group = u16::from_str_radix(&text[..digits], 16).unwrap_or_default();
        self.bytes[filled..filled + 2].copy_from_slice(&group.to_be_bytes());
        self.filled += 2;
        let rest = &text[digits..];
        if rest.is_empty() {
            return Ok(rest);
        }
        let Some(after) = rest.strip_prefix(':') else {
            return at("unexpected character, want colon", rest);
        };
        if after.is_empty() {
            return at("colon must be followed by more characters", rest);
        }
        let Some(beyond) = after.strip_prefix(':') else { return Ok(after) };
        if self.ellipsis.is_some() {
            return at("multiple :: in address", after);
        }
        self.ellipsis = Some(self.filled);
        Ok(beyond)
    }

    fn address(mut self) -> Result<Ipv6Addr, String> {
        let filled = self.filled;
        match self.ellipsis {
            Some(_) if filled == 16 => {
                return Err("the :: must expand to at least one field of zeros".to_owned());
            }
            Some(start) => {
                let end = 16 - (filled - start);
                self.bytes.copy_within(start..filled, end);
                self.bytes[start..end].fill(0);
            }
            None if filled < 16 => return Err("address string too short".to_owned()),
            None => {}
        }
        Ok(Ipv6Addr::from(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_tell_what_is_wrong_and_where() {
        for (text, problem) in [
            ("x", "unable to parse IP"),
            ("%a", "missing IPv6 address"),
            ("1.2.3", "IPv4 address too short"),
            ("01.2.3.4", "IPv4 field has octet with leading zero"),
            ("1.2.3.256", "IPv4 field has value >255"),
            ("1..2.3", "IPv4 field must have at least one digit (at \".2.3\")"),
            ("::1%", "zone must be a non-empty string"),
            ("1:2", "address string too short"),
            ("1::2::3", "multiple :: in address (at \":3\")"),
            ("12345::", "each group must have 4 or fewer digits (at \"12345::\")"),
        ] {
            let wanted = format!("ParseAddr({}): {problem}", quote(text));
            assert_eq!(parse_addr(text).map(|_| ()), Err(wanted), "{text}");
        }
        assert_eq!(parse_addr("fe80::1%eth0"), Ok(("fe80::1".parse().unwrap(), true)));
    }

    proptest! {
        #[test]
        fn what_is_an_address_is_read_as_the_standard_library_reads_it(text in "[0-9a-f:.]{0,24}|[0-9.]{7,15}") {
            let standard: Option<IpAddr> = text.parse().ok();
            prop_assert_eq!(parse_addr(&text).ok().map(|(address, _)| address), standard);
        }

        #[test]
        fn every_address_is_read(bits: u128) {
            let address = Ipv6Addr::from(bits);
            prop_assert_eq!(parse_addr(&address.to_string()), Ok((address.into(), false)));
        }
    }
}
