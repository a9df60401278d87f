//! Kubernetes' libraries of URLs, IP addresses and CIDRs.

use std::net::IpAddr;
use std::rc::Rc;

use super::super::value::{Key, Map, OwnedMap};
use super::{Evaluated, Failure, Function, Machine, Value, no_such_overload, text, texts};
use crate::go::{Url, parse_addr, quote};

pub(super) fn function(name: &str) -> Option<Function> {
    Some(match name {
        "url" => |_, _, args| {
            let text = text(args.first())?;
            Url::parse_request_uri(text)
                .and_then(|_| Url::parse(text))
                .map(|url| Value::Url(Rc::new(url)))
                .map_err(|problem| format!("URL parse error during conversion from string: {problem}").into())
        },
        "isURL" => |_, _, args| Ok(Value::Bool(Url::parse_request_uri(text(args.first())?).is_ok())),
        "getScheme" => |machine, _, args| machine.new_text(url(args)?.scheme.clone()),
        "getHost" => |machine, _, args| machine.new_text(url(args)?.host.clone()),
        "getHostname" => |machine, _, args| machine.new_text(url(args)?.hostname().to_owned()),
        "getPort" => |machine, _, args| machine.new_text(url(args)?.port().to_owned()),
        "getEscapedPath" => |machine, _, args| machine.new_text(url(args)?.escaped_path()),
        "getQuery" => query,
        "ip" => |_, _, args| match args {
            [Value::Cidr(address, _)] => Ok(Value::Ip(*address)),
            _ => Ok(Value::Ip(parse_ip(text(args.first())?)?)),
        },
        "isIP" => |_, _, args| Ok(Value::Bool(parse_ip(text(args.first())?).is_ok())),
        "ip.isCanonical" => |_, _, args| {
            let text = text(args.first())?;
            Ok(Value::Bool(parse_ip(text)?.to_string() == text))
        },
        "family" => |_, _, args| Ok(Value::Int(if ip(args)?.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |_, _, args| Ok(Value::Bool(ip(args)?.is_unspecified())),
        "isLoopback" => |_, _, args| Ok(Value::Bool(ip(args)?.is_loopback())),
        "isLinkLocalMulticast" => |_, _, args| Ok(Value::Bool(is_link_local_multicast(ip(args)?))),
        "isLinkLocalUnicast" => |_, _, args| Ok(Value::Bool(is_link_local_unicast(ip(args)?))),
        "isGlobalUnicast" => |_, _, args| Ok(Value::Bool(is_global_unicast(ip(args)?))),
        "cidr" => |_, _, args| {
            let (address, bits) = parse_cidr(text(args.first())?)?;
            Ok(Value::Cidr(address, bits))
        },
        "isCIDR" => |_, _, args| Ok(Value::Bool(parse_cidr(text(args.first())?).is_ok())),
        "containsIP" => |_, _, args| {
            let (network, bits) = cidr(args)?;
            let address = match args.get(1) {
                Some(Value::Ip(address)) => *address,
                // Upstream tells no more of a text that is no address.
                other => parse_ip(text(other)?).map_err(|_| super::NO_SUCH_OVERLOAD)?,
            };
            Ok(Value::Bool(contains(network, bits, address)))
        },
        "containsCIDR" => |_, _, args| {
            let (network, bits) = cidr(args)?;
            let (inner, inner_bits) = match args.get(1) {
                Some(Value::Cidr(address, bits)) => (*address, *bits),
                other => parse_cidr(text(other)?).map_err(|_| super::NO_SUCH_OVERLOAD)?,
            };
            Ok(Value::Bool(bits <= inner_bits && contains(network, bits, inner)))
        },
        "masked" => |_, _, args| {
            let (network, bits) = cidr(args)?;
            Ok(Value::Cidr(masked(network, bits), bits))
        },
        "prefixLength" => |_, _, args| Ok(Value::Int(i64::from(cidr(args)?.1))),
        _ => return None,
    })
}

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, Failure> {
    match args {
        [Value::Url(url)] => Ok(url),
        _ => Err(super::NO_SUCH_OVERLOAD.into()),
    }
}

fn ip(args: &[Value<'_>]) -> Result<IpAddr, Failure> {
    match args {
        [Value::Ip(address)] => Ok(*address),
        _ => Err(super::NO_SUCH_OVERLOAD.into()),
    }
}

fn cidr(args: &[Value<'_>]) -> Result<(IpAddr, u8), Failure> {
    match args.first() {
        Some(Value::Cidr(address, bits)) => Ok((*address, *bits)),
        _ => Err(super::NO_SUCH_OVERLOAD.into()),
    }
}

fn query<'a>(machine: &mut Machine<'a>, _: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let values = url(args)?.query_values();
    let mut map = OwnedMap::default();
    for (name, values) in values {
        let values = texts(machine, values)?;
        map.insert(Key::String(name.as_str().into()), machine.new_text(name)?, values);
    }
    match args {
        [_] => Ok(Value::Map(Map::Owned(Rc::new(map)))),
        _ => no_such_overload(),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let quoted = quote(text);
    let (address, zone) = parse_addr(text).map_err(|problem| {
        format!("IP Address {quoted} parse error during conversion from string: {problem}")
    })?;
    if zone {
        return Err(format!("IP address {quoted} with zone value is not allowed"));
    }
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {quoted} is not allowed"))
        }
        address => Ok(address),
    }
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), String> {
    const CONVERSION: &str = "network address parse error during conversion from string";
    let problem =
        |what: &str| format!("{CONVERSION}: {CONVERSION}: netip.ParsePrefix({}): {what}", quote(text));
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| problem("no '/'"))?;
    let (address, zone) = parse_addr(address).map_err(|wrong| problem(&wrong))?;
    if zone {
        return Err(problem("IPv6 zones cannot be present in a prefix"));
    }
    let plain = !bits.is_empty()
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && !(bits.len() > 1 && bits.starts_with('0'));
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits.parse::<u8>() {
        Ok(length) if plain && length <= most => match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                Err(format!("{CONVERSION}: IPv4-mapped IPv6 address {} is not allowed", quote(text)))
            }
            address => Ok((address, length)),
        },
        _ if plain => Err(problem("prefix length out of range")),
        _ => Err(problem(&format!("bad bits after slash: {}", quote(bits)))),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    network.is_ipv4() == address.is_ipv4() && (number(network) ^ number(address)) & mask(bits) == 0
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let kept = number(address) & mask(bits);
    match address {
        IpAddr::V4(_) => IpAddr::V4(((kept >> 96) as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(kept.into()),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !is_link_local_unicast(address)
}
