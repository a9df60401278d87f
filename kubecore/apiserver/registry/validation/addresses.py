"""Addresses and ranges of addresses, in the words of k8s.io/apimachinery `pkg/util/validation/ip.go`.

Fields that are older than the strict rules take numbers with leading zeros (`010.1.2.3` is 10.1.2.3) and ranges with
bits beyond their prefix; younger ones take the canonical form only.
"""

from __future__ import annotations

import ipaddress
import re

from kubecore.api.remembering import remembered

IP_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"

PLAIN_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
"""The one canonical form of an IPv4 address, which nearly all addresses have: matched sooner than parsed."""
_LEADING_ZEROS_RE = re.compile(r"(?<![0-9])0+(?=[0-9])")


@remembered(1024)
def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or None. Leading zeros are refused, since not everybody reads them alike."""
    try:
        return ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        return None


@remembered(1024)
def parse_old_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """As `parse_ip`, for fields that always took numbers with leading zeros: 010.1.2.3 is 10.1.2.3."""
    found = parse_ip(text)
    if found is None and "." in text:
        head, colon, tail = text.rpartition(":")
        found = parse_ip(head + colon + _LEADING_ZEROS_RE.sub("", tail))
    return found


def ip(text: str) -> list[str]:
    return [] if PLAIN_IPV4.fullmatch(text) or parse_old_ip(text) is not None else [IP_ADDRESS]


def canonical_ip(text: str) -> list[str]:
    """An address of a field that takes one form only."""
    found = parse_old_ip(text)
    if found is None:
        return [IP_ADDRESS]
    errors = []
    if parse_ip(text) is None:
        errors.append("must not have leading 0s")
    if found.version == 6 and found.ipv4_mapped is not None:
        errors.append("must not be an IPv4-mapped IPv6 address")
    if not errors and str(found) != text:
        errors.append(f'must be in canonical form ("{found}")')
    return errors


@remembered(1024)
def parse_old_cidr(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """An address and the length of its prefix, with leading zeros and bits beyond the prefix."""
    address, slash, length = text.partition("/")
    found = parse_old_ip(address)
    if found is None or not slash or not length.isascii() or not length.isdigit():
        return None
    if int(length) > found.max_prefixlen:
        return None
    return ipaddress.ip_network((found, int(length)), strict=False)


def cidr(text: str) -> list[str]:
    return [] if parse_old_cidr(text) is not None else [CIDR]


def canonical_cidr(text: str) -> list[str]:
    """A range of a field that takes one form only."""
    found = parse_old_cidr(text)
    if found is None:
        return [CIDR]
    address, _, length = text.partition("/")
    parsed = parse_ip(address)
    if parsed is None or (length != "0" and length.startswith("0")):
        return ["must not have leading 0s in IP or prefix length"]
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        return ["must not have an IPv4-mapped IPv6 address"]
    if parsed != found.network_address:
        return ["must not have bits set beyond the prefix length"]
    return [] if str(found) == text else [f'must be in canonical form ("{found}")']
