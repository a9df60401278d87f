"""JSON Web Tokens of other issuers: their keys (RFC 7517) and signatures (RFC 7515, 7518), asymmetric ones only."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

JSON = dict[str, Any]
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, tuple[ec.EllipticCurve, str]] = {
    "P-256": (ec.SECP256R1(), "ES256"),
    "P-384": (ec.SECP384R1(), "ES384"),
    "P-521": (ec.SECP521R1(), "ES512"),
}
ALGORITHMS = tuple(f"{kind}{size}" for kind in ("ES", "PS", "RS") for size in ("256", "384", "512"))
_LEAST_RSA_BITS = 1024


class BadToken(ValueError):
    """It is no token, or not signed as it should be; the text says why."""


class Key(NamedTuple):
    """A public key of a set; `name` is its `kid`, maybe empty."""

    name: str
    public: PublicKey

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """The key decides which algorithms are possible, never the token alone."""
        try:
            if isinstance(self.public, rsa.RSAPublicKey):
                return _verifies_rsa(self.public, algorithm, signed, signature)
            return _verifies_ec(self.public, algorithm, signed, signature)
        except InvalidSignature:
            return False


def _verifies_rsa(key: rsa.RSAPublicKey, algorithm: str, signed: bytes, signature: bytes) -> bool:
    digest = _HASHES[algorithm[2:]]
    if algorithm.startswith("RS"):
        key.verify(signature, signed, padding.PKCS1v15(), digest)
    elif algorithm.startswith("PS"):
        key.verify(signature, signed, padding.PSS(padding.MGF1(digest), padding.PSS.AUTO), digest)
    else:
        return False
    return True


def _verifies_ec(key: ec.EllipticCurvePublicKey, algorithm: str, signed: bytes, signature: bytes) -> bool:
    length = (key.curve.key_size + 7) // 8
    fitting = any(key.curve.name == curve.name and algorithm == name for curve, name in _CURVES.values())
    if not fitting or len(signature) != 2 * length:
        return False
    numbers = (int.from_bytes(signature[:length], "big"), int.from_bytes(signature[length:], "big"))
    key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(_HASHES[algorithm[2:]]))
    return True


def keys_of(document: Any) -> list[Key]:
    """The keys of a JSON Web Key Set that can be used here. Raises ValueError for what is no set."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no JSON Web Key Set")
    return [key for one in listed if isinstance(one, dict) and (key := _key(one)) is not None]


def _key(described: JSON) -> Key | None:
    try:
        if described["kty"] == "RSA":
            numbers = rsa.RSAPublicNumbers(_number(described["e"]), _number(described["n"]))
            public: PublicKey = numbers.public_key()
            if public.key_size < _LEAST_RSA_BITS:
                return None
        elif described["kty"] == "EC":
            curve = _CURVES[described["crv"]][0]
            point = (_number(described["x"]), _number(described["y"]))
            public = ec.EllipticCurvePublicNumbers(*point, curve).public_key()
        else:
            return None
    except (KeyError, TypeError, ValueError):
        return None
    return Key(str(described.get("kid") or ""), public)


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text), "big")


def _decoded(text: str) -> bytes:
    if "=" in text:
        raise ValueError("padded base64")
    return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Token(NamedTuple):
    """Taken apart, and not verified."""

    header: JSON
    claims: JSON
    signed: bytes
    signature: bytes


def parse(text: str) -> Token:
    """Raises BadToken."""
    parts = text.split(".")
    if len(parts) != 3:
        raise BadToken("malformed token")
    try:
        header, claims = (orjson.loads(_decoded(part)) for part in parts[:2])
        signature = _decoded(parts[2])
    except (ValueError, binascii.Error) as error:
        raise BadToken(f"error decoding token: {error}") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise BadToken("malformed token")
    return Token(header, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def check_algorithm(token: Token, allowed: Sequence[str]) -> str:
    """The token's algorithm. Raises BadToken for one that is not allowed, `none` and all symmetric ones among them."""
    algorithm = token.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or algorithm not in allowed:
        raise BadToken(f"id token signed with unsupported algorithm, expected {list(allowed)} got {algorithm!r}")
    if "crit" in token.header:
        raise BadToken("id token has critical headers, which are not known here")
    return algorithm


def is_signed_by(token: Token, algorithm: str, keys: Sequence[Key]) -> bool:
    name = token.header.get("kid") or ""
    return any(key.verifies(algorithm, token.signed, token.signature) for key in keys if not name or key.name == name)
