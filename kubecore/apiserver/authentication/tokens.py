"""Service account tokens: JWTs bound to an account and, if asked for, to a pod, secret or node.

Claims follow upstream pkg/serviceaccount/claims.go. Verification on the request path is Rust's
(`_native.Authenticator`), which knows the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from kubecore.apiserver.authentication.json_web_tokens import ALGORITHMS, BadToken, check_algorithm, is_signed_by, parse
from kubecore.apiserver.authentication.options import ServiceAccountOptions
from kubecore.apiserver.authentication.pki import PKIError, private_pem, write_private
from kubecore.apiserver.authentication.signing_keys import (
    SigningKey,
    VerifyingKey,
    encoded,
    signing_key,
    verifying_keys,
)
from kubecore.apiserver.registry.lifecycle import new_uid

if TYPE_CHECKING:
    from kubecore.clock import Clock

JSON = dict[str, Any]

# A pod's own token: asked for with 3607 s, made to last a year so that clients that never re-read the file go on
# working; `warnafter` marks when they should have (upstream WarnOnlyBoundTokenExpiration).
_PROJECTED_SECONDS = 3607
_EXTENDED_SECONDS = 365 * 24 * 3600
LEGACY_ISSUER = "kubernetes/serviceaccount"
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


class Issued(NamedTuple):
    """A token, its expiry in unix seconds as the client is told it, and what the audit knows it by."""

    token: str
    expires: float
    credential_id: str


class TokenIssuer:
    """Signs tokens with the key that the options name, else with the cluster's own, `directory/file`, which is made on
    first start. `issuer` is who issues where the options name nobody, and then the audience, too."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        issuer: str,
        file: str = "sa.key",
        options: ServiceAccountOptions | None = None,
    ) -> None:
        """Raises PKIError, OSError for keys that do not do."""
        self.options = options = options or ServiceAccountOptions()
        self.issuers = options.issuers or (issuer,)
        self.audiences = options.audiences or self.issuers
        self._clock = clock
        self._key = _signing_key(options.signing_key_file or _own(directory, file))
        self.keys = tuple(key for one in options.key_files for key in _verifying_keys(one))
        if not (options.key_files and options.signing_key_file):
            # Who names the one and not the other means keys beside our own.
            self.keys = (self._key.verifying, *self.keys)
        self._key_id, self._algorithm = self._key.verifying.name, self._key.verifying.algorithm

    @property
    def issuer(self) -> str:
        """Whose tokens are issued; those of `issuers` are accepted."""
        return self.issuers[0]

    @property
    def public_keys(self) -> list[bytes]:
        """SubjectPublicKeyInfo PEM of all that tokens are checked with."""
        return [key.pem for key in self.keys]

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
    ) -> Issued:
        """`node` is the bound pod's (name, uid)."""
        now = int(self._clock.now().timestamp())
        private: JSON = {"namespace": namespace, "serviceaccount": {"name": account, "uid": account_uid}}
        if bound is not None:
            private[bound.kind] = {"name": bound.name, "uid": bound.uid}
        if node is not None:
            private["node"] = {"name": node[0], "uid": node[1]} if node[1] else {"name": node[0]}
        expires = now + seconds
        lasts = expires
        if self._extends(seconds, bound, audiences):
            lasts = now + _EXTENDED_SECONDS
            private["warnafter"] = expires
        uid = new_uid()
        claims = {
            "aud": list(audiences),
            "exp": lasts,
            "iat": now,
            "iss": self.issuer,
            "jti": uid,
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }
        return Issued(self._sign(claims), float(expires), f"JTI={uid}")

    def _extends(self, seconds: int, bound: BoundObject | None, audiences: Sequence[str]) -> bool:
        """Whether it is a token that a pod has for the API itself."""
        of_pod = bound is not None and bound.kind == "pod"
        asked = seconds == _PROJECTED_SECONDS and set(audiences) <= set(self.audiences)
        return self.options.extends and of_pod and asked

    def issue_legacy(self, *, namespace: str, account: str, account_uid: str, secret: str) -> str:
        """A token without expiry for a Secret of type kubernetes.io/service-account-token."""
        claims = {
            "iss": LEGACY_ISSUER,
            **dict(zip(_LEGACY_CLAIMS, (namespace, secret, account, account_uid), strict=True)),
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }
        return self._sign(claims)

    def stale(self, token: str) -> str:
        """What the audit says of a good token that its client should have replaced; empty for others."""
        try:
            claims = parse(token).claims
        except BadToken:
            return ""
        after = (claims.get("kubernetes.io") or {}).get("warnafter") if claims.get("iss") in self.issuers else None
        now = self._clock.now().timestamp()
        if not after or now <= after:
            return ""
        return f"subject: {claims['sub']}, seconds after warning threshold: {int(now) - int(after)}"

    def read_legacy(self, token: str) -> LegacyToken | None:
        """What `issue_legacy` put into a token; None for any other text."""
        try:
            read = parse(token)
            signed = is_signed_by(read, check_algorithm(read, ALGORITHMS), [key.for_tokens for key in self.keys])
            if not signed or read.claims["iss"] != LEGACY_ISSUER:
                return None
            namespace, secret, account, account_uid = (read.claims[name] for name in _LEGACY_CLAIMS)
        except (BadToken, KeyError):
            return None
        return LegacyToken(namespace, account, account_uid, secret)

    def jwks(self) -> JSON:
        """The public keys as a JSON Web Key Set (`/openid/v1/jwks`)."""
        return {"keys": [key.described() for key in self.keys]}

    def metadata(self, address: str) -> JSON | None:
        """What OpenID Connect Discovery tells; `address` is where others find the server, with or without a port. None
        for an issuer that cannot be one of OpenID."""
        url = urlsplit(self.issuer)
        if url.scheme != "https" or url.query or url.fragment:
            return None
        return {
            "issuer": self.issuer,
            "jwks_uri": self.options.jwks_uri or f"https://{address}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.algorithm for key in self.keys}),
        }

    def _sign(self, claims: JSON) -> str:
        header = {"alg": self._algorithm, "kid": self._key_id}
        signed = f"{encoded(orjson.dumps(header))}.{encoded(orjson.dumps(claims))}"
        return f"{signed}.{encoded(self._key.sign(signed.encode()))}"


def _own(directory: Path, file: str) -> Path:
    path = directory / file
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, private_pem(ec.generate_private_key(ec.SECP256R1())))
    return path


def _signing_key(path: Path) -> SigningKey:
    try:
        return signing_key(path.read_bytes())
    except ValueError as error:
        raise PKIError(f"failed to parse {path}: {error}") from error


def _verifying_keys(path: Path) -> list[VerifyingKey]:
    try:
        return verifying_keys(path.read_bytes())
    except ValueError as error:
        raise PKIError(f"failed to parse {path}: {error}") from error
