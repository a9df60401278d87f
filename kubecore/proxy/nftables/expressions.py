"""Expressions of rules that `nft` has words for, but not ones it can read back from the kernel (1.0.6).

A rule is a sequence of them; they hand data on in sixteen registers of four bytes. (Linux `nf_tables.h`, NFTA_*.)
"""

from __future__ import annotations

import struct

from kubecore.netlink import Network, attribute
from kubecore.proxy.nftables.messages import ACCEPT, DROP, nested, number, text, value, verdict

_VERDICT, _REGISTER_0 = 0, 8  # NFT_REG_VERDICT, NFT_REG32_00
_NETWORK, _TRANSPORT = 1, 2
_META_MARK, _META_NFPROTO, _META_L4PROTO = 3, 15, 16
_EQUAL, _UNEQUAL = 0, 1
_RANDOM, _JENKINS, _DNAT = 1, 0, 1
_UPDATE, _DELETE = 1, 2
_ICMP, _NET_UNREACHABLE = 0, 0  # NFT_REJECT_ICMP_UNREACH, ICMP_NET_UNREACH
_NFPROTO = {4: 2, 6: 10}
_ICMP_PROTOCOL, _ECHO_REQUEST = 1, 8


def _expression(name: str, *fields: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *fields))


def _register(kind: int, register: int) -> bytes:
    return number(kind, _REGISTER_0 + register)


def only_family(version: int) -> bytes:
    """The rule is for IPv4 or IPv6. Without it `nft` would show addresses as so many bytes."""
    loaded = _expression("meta", _register(1, 0), number(2, _META_NFPROTO))
    return loaded + _compare(0, _EQUAL, bytes([_NFPROTO[version]]))


def protocol(*, to: int) -> bytes:
    """The transport protocol's number."""
    return _expression("meta", _register(1, to), number(2, _META_L4PROTO))


def source(version: int, *, to: int) -> bytes:
    """The packet's source address: one register, or four."""
    offset, length = (12, 4) if version == 4 else (8, 16)
    return _payload(_NETWORK, offset, length, to)


def destination(version: int, *, to: int) -> bytes:
    offset, length = (16, 4) if version == 4 else (24, 16)
    return _payload(_NETWORK, offset, length, to)


def destination_port(*, to: int) -> bytes:
    return _payload(_TRANSPORT, 2, 2, to)


def _payload(base: int, offset: int, length: int, to: int) -> bytes:
    return _expression("payload", _register(1, to), number(2, base), number(3, offset), number(4, length))


def only_protocol(protocol_number: int) -> bytes:
    return protocol(to=0) + _compare(0, _EQUAL, bytes([protocol_number]))


def only_echo_requests() -> bytes:
    """The rule is for those of ICMP."""
    return only_protocol(_ICMP_PROTOCOL) + _payload(_TRANSPORT, 0, 1, 0) + _compare(0, _EQUAL, bytes([_ECHO_REQUEST]))


def only_to(network: Network) -> bytes:
    """The rule is for packets to these addresses."""
    mask, none = network.netmask.packed, bytes(len(network.netmask.packed))
    masks = [number(3, len(mask)), nested(4, value(mask)), nested(5, value(none))]
    masked = _expression("bitwise", _register(1, 0), _register(2, 0), *masks)
    return destination(network.version, to=0) + masked + _compare(0, _EQUAL, network.network_address.packed)


def put(data: bytes, *, to: int) -> bytes:
    """A constant, into as many registers as it takes."""
    return _expression("immediate", _register(1, to), nested(2, value(data)))


def leave_alone() -> bytes:
    """The verdict: none of the chain's further rules is for this packet."""
    return _expression("immediate", number(1, _VERDICT), nested(2, verdict(ACCEPT)))


def drop() -> bytes:
    """The verdict: nobody is told."""
    return _expression("immediate", number(1, _VERDICT), nested(2, verdict(DROP)))


def refuse_unreachable() -> bytes:
    """The verdict: whoever sent it over IPv4 is told that no route leads there."""
    return _expression("reject", number(1, _ICMP), attribute(2, bytes([_NET_UNREACHABLE])))


def lead_to_socket(version: int, *, address: int, port: int) -> bytes:
    """To the transparent socket at what the registers hold, or to one that is connected. The rule ends here where there
    is none."""
    return _expression("tproxy", number(1, _NFPROTO[version]), _register(2, address), _register(3, port))


def random_number(below: int, offset: int, *, to: int) -> bytes:
    """A number from `offset` on, in the byte order of the host."""
    return _expression("numgen", _register(1, to), number(2, below), number(3, _RANDOM), number(4, offset))


def hash_of(register: int, length: int, below: int, offset: int, *, to: int) -> bytes:
    """The same, always the same one for the same `length` bytes in `register` and what follows."""
    hashed = [_register(1, register), _register(2, to), number(3, length), number(4, below)]
    return _expression("hash", *hashed, number(5, 0), number(6, offset), number(7, _JENKINS))


def mark(*, to: int) -> bytes:
    return _expression("meta", _register(1, to), number(2, _META_MARK))


def set_mark(register: int) -> bytes:
    return _expression("meta", number(2, _META_MARK), _register(3, register))


def mark_bit(bit: int) -> bytes:
    """Set a bit of the packet's mark."""
    return mark(to=0) + _bitwise(0, mask=~bit & 0xFFFFFFFF, flip=bit) + set_mark(0)


def mark_is_not(form: int, mask: int) -> bytes:
    """Whether the mark, masked, is something else."""
    return mark(to=0) + _bitwise(0, mask=mask, flip=0) + _compare(0, _UNEQUAL, struct.pack("=I", form))


def look_up(name: str, *, key: int, to: int) -> bytes:
    """What a map has for a key. The rule ends here for a key it has not."""
    return _expression("lookup", text(1, name), _register(2, key), _register(3, to))


def remember(name: str, *, key: int, data: int, seconds: int) -> bytes:
    """Put an element into a dynamic map, unless the key is there: then only its time begins anew."""
    milliseconds = attribute(6, struct.pack("!Q", seconds * 1000))
    return _expression("dynset", text(1, name), number(3, _UPDATE), _register(4, key), _register(5, data), milliseconds)


def forget(name: str, *, key: int, data: int) -> bytes:
    return _expression("dynset", text(1, name), number(3, _DELETE), _register(4, key), _register(5, data))


def rewrite_destination(version: int, *, address: int, port: int) -> bytes:
    """The verdict: DNAT to what the registers hold."""
    return _expression("nat", number(1, _DNAT), number(2, _NFPROTO[version]), _register(3, address), _register(5, port))


def _bitwise(register: int, *, mask: int, flip: int) -> bytes:
    masks = [nested(4, value(struct.pack("=I", mask))), nested(5, value(struct.pack("=I", flip)))]
    return _expression("bitwise", _register(1, register), _register(2, register), number(3, 4), *masks)


def _compare(register: int, operator: int, data: bytes) -> bytes:
    return _expression("cmp", _register(1, register), number(2, operator), nested(3, value(data)))
