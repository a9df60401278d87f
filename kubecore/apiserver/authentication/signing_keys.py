"""Keys that service accounts' tokens are signed with and checked by: RSA, or EC on P-256 or P-384, as PEM.

After upstream pkg/serviceaccount/{jwt,openidmetadata}.go and k8s.io/client-go util/keyutil.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kubecore.apiserver.authentication.json_web_tokens import Key, PublicKey

JSON = dict[str, Any]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# By the curve's name: the algorithm, the name in a JSON Web Key, the hash and the bytes of a number.
_CURVES: dict[str, tuple[str, str, hashes.HashAlgorithm, int]] = {
    "secp256r1": ("ES256", "P-256", hashes.SHA256(), 32),
    "secp384r1": ("ES384", "P-384", hashes.SHA384(), 48),
}
# The front's `ring` checks signatures of no others.
_RSA_BITS = (2048, 8192)
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def encoded(raw: bytes) -> str:
    """As JSON Web Tokens encode bytes."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    public: PublicKey

    @property
    def pem(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return self.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def name(self) -> str:
        """The `kid`, from which nobody learns the key."""
        info = self.public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return encoded(hashlib.sha256(info).digest())

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.public, rsa.RSAPublicKey) else _CURVES[self.public.curve.name][0]

    @property
    def for_tokens(self) -> Key:
        return Key(self.name, self.public)

    def described(self) -> JSON:
        """As a JSON Web Key (RFC 7517)."""
        head = {"use": "sig", "kid": self.name, "alg": self.algorithm}
        if isinstance(self.public, rsa.RSAPublicKey):
            numbers = self.public.public_numbers()
            return {**head, "kty": "RSA", "n": encoded(_bytes(numbers.n)), "e": encoded(_bytes(numbers.e))}
        _, curve, _, length = _CURVES[self.public.curve.name]
        point = self.public.public_numbers()
        x, y = (encoded(number.to_bytes(length, "big")) for number in (point.x, point.y))
        return {**head, "kty": "EC", "crv": curve, "x": x, "y": y}


@dataclass(frozen=True, slots=True)
class SigningKey:
    private: PrivateKey

    @property
    def verifying(self) -> VerifyingKey:
        return VerifyingKey(self.private.public_key())

    def sign(self, message: bytes) -> bytes:
        """The signature in the form of RFC 7518."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        _, _, digest, length = _CURVES[self.private.curve.name]
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(digest)))
        return r.to_bytes(length, "big") + s.to_bytes(length, "big")


def signing_key(pem: bytes) -> SigningKey:
    """The first private key of a file. Raises ValueError."""
    for block in _blocks(pem):
        key = _tried(lambda raw: serialization.load_pem_private_key(raw, None), block)
        if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            return SigningKey(_known(key))
    raise ValueError("data does not contain a valid RSA or ECDSA private key")


def verifying_keys(pem: bytes) -> list[VerifyingKey]:
    """The public keys of a file, those of private ones and of certificates among them. Raises ValueError."""
    found: list[VerifyingKey] = []
    for block in _blocks(pem):
        key = _tried(lambda raw: serialization.load_pem_private_key(raw, None), block)
        if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            found.append(SigningKey(_known(key)).verifying)
            continue
        public = _tried(serialization.load_pem_public_key, block) or _tried(_of_certificate, block)
        if isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            found.append(VerifyingKey(_known(public)))
    if not found:
        raise ValueError("data does not contain any valid RSA or ECDSA public keys")
    return found


def _blocks(pem: bytes) -> Iterator[bytes]:
    return (found.group() for found in _BLOCK.finditer(pem))


def _tried(load: Callable[[bytes], Any], block: bytes) -> Any:
    """None for what is no such key: other things may be beside keys."""
    try:
        return load(block)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _of_certificate(block: bytes) -> Any:
    return x509.load_pem_x509_certificate(block).public_key()


def _known(key: Any) -> Any:
    """Raises ValueError for a curve or a size that the front does not check tokens with."""
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise ValueError(f"unknown key curve {key.curve.name}, must be 256 or 384")
    elif not _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]:
        raise ValueError(f"unsupported RSA key of {key.key_size} bits, must be of {_RSA_BITS[0]} to {_RSA_BITS[1]}")
    return key


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
