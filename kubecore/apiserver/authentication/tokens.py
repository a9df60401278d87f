"""Service account tokens: JWTs bound to an account and, if asked for, to a pod, secret or node.

Claims follow upstream pkg/serviceaccount/claims.go. Verification on the request path is Rust's
(`_native.Authenticator`), which knows the same keys.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from kubecore.apiserver.authentication.pki import PKIError, private_pem, write_private
from kubecore.apiserver.registry.lifecycle import new_uid

if TYPE_CHECKING:
    from kubecore.clock import Clock

JSON = dict[str, Any]

# A pod's own token: asked for with 3607 s, made to last a year so that clients that never re-read the file go on
# working; `warnafter` marks when they should have (upstream WarnOnlyBoundTokenExpiration).
_PROJECTED_SECONDS = 3607
_EXTENDED_SECONDS = 365 * 24 * 3600
_LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY_CLAIMS = tuple(
    f"kubernetes.io/serviceaccount/{name}"
    for name in ("namespace", "secret.name", "service-account.name", "service-account.uid")
)


@dataclass(frozen=True, slots=True)
class BoundObject:
    """What a token lives and dies with: `kind` is pod, secret or node."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class LegacyToken:
    """What a token that is kept in a Secret says."""

    namespace: str
    account: str
    account_uid: str
    secret: str


class TokenIssuer:
    """Signs tokens with the cluster's service account key, `directory/file`, which is made on first start."""

    def __init__(
        self, directory: Path, clock: Clock, *, issuer: str, audiences: Sequence[str], file: str = "sa.key"
    ) -> None:
        self.issuer = issuer
        self.audiences = tuple(audiences)
        self._clock = clock
        path = directory / file
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, private_pem(ec.generate_private_key(ec.SECP256R1())))
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except ValueError as error:
            raise PKIError(f"{path} is no private key: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise PKIError(f"{path} is no EC key")
        self._key = key
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = _base64(hashlib.sha256(spki).digest())

    @property
    def public_key(self) -> bytes:
        """SubjectPublicKeyInfo PEM."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def issue(
        self,
        *,
        namespace: str,
        account: str,
        account_uid: str,
        audiences: Sequence[str],
        seconds: int,
        bound: BoundObject | None = None,
        node: tuple[str, str] | None = None,
    ) -> tuple[str, float]:
        """A token and its expiry in unix seconds as the client is told it; `node` is the bound pod's (name, uid)."""
        now = int(self._clock.now().timestamp())
        private: JSON = {"namespace": namespace, "serviceaccount": {"name": account, "uid": account_uid}}
        if bound is not None:
            private[bound.kind] = {"name": bound.name, "uid": bound.uid}
        if node is not None:
            private["node"] = {"name": node[0], "uid": node[1]} if node[1] else {"name": node[0]}
        expires = now + seconds
        lasts = expires
        if seconds == _PROJECTED_SECONDS and bound is not None and set(audiences) <= set(self.audiences):
            lasts = now + _EXTENDED_SECONDS
            private["warnafter"] = expires
        claims = {
            "aud": list(audiences),
            "exp": lasts,
            "iat": now,
            "iss": self.issuer,
            "jti": new_uid(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }
        return self._sign(claims), float(expires)

    def issue_legacy(self, *, namespace: str, account: str, account_uid: str, secret: str) -> str:
        """A token without expiry for a Secret of type kubernetes.io/service-account-token."""
        claims = {
            "iss": _LEGACY_ISSUER,
            **dict(zip(_LEGACY_CLAIMS, (namespace, secret, account, account_uid), strict=True)),
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }
        return self._sign(claims)

    def read_legacy(self, token: str) -> LegacyToken | None:
        """What `issue_legacy` put into a token; None for any other text."""
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        try:
            raw = _from_base64(signature)
            if len(raw) != 64 or orjson.loads(_from_base64(header)).get("alg") != "ES256":
                return None
            numbers = (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._key.public_key().verify(encode_dss_signature(*numbers), signed.encode(), ec.ECDSA(hashes.SHA256()))
            claims = orjson.loads(_from_base64(payload))
            if claims["iss"] != _LEGACY_ISSUER:
                return None
            namespace, secret, account, account_uid = (claims[name] for name in _LEGACY_CLAIMS)
        except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature):
            return None
        return LegacyToken(namespace, account, account_uid, secret)

    def jwks(self) -> JSON:
        """The public key as a JSON Web Key Set (`/openid/v1/jwks`)."""
        numbers = self._key.public_key().public_numbers()
        return {
            "keys": [
                {
                    "use": "sig",
                    "kty": "EC",
                    "kid": self._key_id,
                    "crv": "P-256",
                    "alg": "ES256",
                    "x": _base64(numbers.x.to_bytes(32, "big")),
                    "y": _base64(numbers.y.to_bytes(32, "big")),
                }
            ]
        }

    def _sign(self, claims: JSON) -> str:
        header = {"alg": "ES256", "kid": self._key_id}
        signed = f"{_base64(orjson.dumps(header))}.{_base64(orjson.dumps(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
