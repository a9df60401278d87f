//! Ranges of addresses.

use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    address: IpAddr,
    prefix: u8,
}

impl Range {
    pub fn of(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other)).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }

    /// (value, mask) of each word of an address that counts.
    pub fn words(&self) -> Vec<(u32, u32)> {
        let octets = match self.address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let word = |(index, four): (usize, &[u8])| {
            let value = four.iter().fold(0, |value, octet| value << 8 | u32::from(*octet));
            let bits = usize::from(self.prefix).saturating_sub(index * 32).min(32) as u32;
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (value & mask, mask)
        };
        octets.chunks(4).enumerate().map(word).filter(|(_, mask)| *mask != 0).collect()
    }
}

impl FromStr for Range {
    type Err = String;

    /// "10.0.0.0/8", "fd00::/64"; an address alone is one of its own.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a range of addresses");
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = if prefix.is_empty() { longest } else { prefix.parse().map_err(|_| bad())? };
        if prefix > longest { Err(bad()) } else { Ok(Self { address, prefix }) }
    }
}
