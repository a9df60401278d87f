"""An OpenID Connect issuer on loopback: discovery, keys, and tokens of any kind, well signed or not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trustme
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

JSON = dict[str, Any]
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _number(number: int) -> str:
    return encoded(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def described(name: str, key: Key) -> JSON:
    """The public half as a JSON Web Key."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "use": "sig", "kid": name, "n": _number(numbers.n), "e": _number(numbers.e)}
    point, length = public.public_numbers(), (public.key_size + 7) // 8
    x, y = (encoded(part.to_bytes(length, "big")) for part in (point.x, point.y))
    return {"kty": "EC", "use": "sig", "kid": name, "crv": f"P-{public.key_size}", "x": x, "y": y}


def signature(key: Key, algorithm: str, signed: bytes) -> bytes:
    digest = _HASHES.get(algorithm[2:], hashes.SHA256())
    if algorithm == "none":
        return b""
    if algorithm == "HS256":
        # As the attack goes: the public key, which everybody knows, taken for a secret.
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hmac.new(pem, signed, hashlib.sha256).digest()
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        return key.sign(signed, pss if algorithm.startswith("PS") else padding.PKCS1v15(), digest)
    length = (key.key_size + 7) // 8
    return b"".join(part.to_bytes(length, "big") for part in decode_dss_signature(key.sign(signed, ec.ECDSA(digest))))


@dataclass
class OpenIDIssuer:
    """`keys` are what it publishes; how often they were fetched is counted."""

    keys: dict[str, Key] = field(default_factory=dict)
    fetched: int = 0
    port: int = 0
    ca: str = ""
    says: str = ""
    """What it says that it is, if not what it is."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def token(
        self, claims: JSON, *, kid: str = "one", key: Key | None = None, algorithm: str = "ES256", **header: Any
    ) -> str:
        head = {"alg": algorithm, "kid": kid, **header}
        whole = {"iss": self.url, "aud": "kubecore", "exp": 4_102_444_800, **claims}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (head, whole))
        return f"{signed}.{encoded(signature(key or self.keys[kid], algorithm, signed.encode()))}"

    async def discovery(self, request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.says or self.url, "jwks_uri": f"{self.url}/keys"})

    async def jwks(self, request: web.Request) -> web.Response:
        self.fetched += 1
        return web.json_response({"keys": [described(name, key) for name, key in self.keys.items()]})


@asynccontextmanager
async def issuing() -> AsyncIterator[OpenIDIssuer]:
    authority = trustme.CA()
    issuer = OpenIDIssuer({"one": ec.generate_private_key(ec.SECP256R1())}, ca=authority.cert_pem.bytes().decode())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", issuer.discovery)
    application.router.add_get("/keys", issuer.jwks)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    issuer.port = listener.getsockname()[1]
    try:
        await web.SockSite(runner, listener, ssl_context=context).start()
        yield issuer
    finally:
        await runner.cleanup()
