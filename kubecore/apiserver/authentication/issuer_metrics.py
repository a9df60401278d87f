"""How tokens of OpenID issuers are judged, and their keys fetched, under Kubernetes' names.

After upstream k8s.io/apiserver `plugin/pkg/authenticator/token/oidc/metrics.go`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from kubecore.apiserver.reload_metrics import hashed, server_hash
from kubecore.metrics import Gauge, Histogram, Metric, Named, Reading

if TYPE_CHECKING:
    from kubecore.clock import Clock

_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _named(name: str, told: str, *labels: str) -> Named:
    return Named(f"apiserver_authentication_jwt_authenticator_{name}", f"[ALPHA] {told}", labels)


class IssuerMetrics:
    """Issuers and sets of keys are told by their hashes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._server = server_hash()
        self._keys: dict[str, str] = {}
        self._seconds = Histogram(
            _named(
                "latency_seconds",
                "Latency of jwt authentication operations in seconds. This is the time spent authenticating a token "
                "for cache miss only (i.e. when the token is not found in the cache).",
                "result",
                "jwt_issuer_hash",
            ),
            _BOUNDS,
        )
        self._fetches = Gauge(
            _named(
                "jwks_fetch_last_timestamp_seconds",
                "Timestamp of the last successful or failed JWKS fetch split by result, api server identity and jwt "
                "issuer for the JWT authenticator.",
                "result",
                "jwt_issuer_hash",
                "apiserver_id_hash",
            )
        )
        self._info = Reading(
            _named(
                "jwks_fetch_last_key_set_info",
                "Information about the last JWKS fetched by the JWT authenticator with hash as label, split by api "
                "server identity and jwt issuer.",
                "jwt_issuer_hash",
                "apiserver_id_hash",
                "hash",
            ),
            self._key_sets,
        )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return self._seconds, self._fetches, self._info

    def _key_sets(self) -> Iterable[tuple[tuple[str, ...], float]]:
        return [((issuer, self._server, keys), 1.0) for issuer, keys in self._keys.copy().items()]

    def judged(self, issuer: str, seconds: float, *, good: bool) -> None:
        self._seconds.observe(seconds, "success" if good else "failure", hashed(issuer))

    def fetched(self, issuer: str, keys: bytes | None) -> None:
        """What the issuer gave; None where nothing could be had of it."""
        whose = hashed(issuer)
        if keys is not None:
            self._keys[whose] = hashed(keys)
        result = "failure" if keys is None else "success"
        self._fetches.set(self._clock.now().timestamp(), result, whose, self._server)

    def keep(self, issuers: Collection[str]) -> None:
        """Keys of others are told no more."""
        kept = {hashed(one) for one in issuers}
        self._keys = {issuer: keys for issuer, keys in self._keys.items() if issuer in kept}
        self._fetches.forget(lambda values: values[1] not in kept)
