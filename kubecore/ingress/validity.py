"""Whether a certificate can be what clients expect of a host: its time and its names. Pure.

A certificate that fails here is shown all the same, as other Ingress controllers do: who checks is the client, and an
old certificate tells it more than a strange one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from kubecore.ingress.rules import Problem


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a chain's first certificate. `names`: its DNS names, in lower case, with wildcards."""

    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]


def read(chain: bytes) -> Facts:
    """Of a PEM chain. Raises ValueError."""
    # Lazily: the library is slow to load.
    from cryptography import x509

    first = x509.load_pem_x509_certificate(chain)
    try:
        found = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = ()
    return Facts(first.not_valid_before_utc, first.not_valid_after_utc, names)


def problems(facts: Facts, secret: str, hosts: Iterable[str], now: datetime) -> Iterator[Problem]:
    """What is wrong with the certificate of Secret `secret` at `now`, for the hosts it is to be shown for."""
    if now < facts.not_before:
        text = f"the certificate of Secret {secret} is not valid before {_told(facts.not_before)}"
        yield Problem("CertificateNotYetValid", text)
    elif now >= facts.not_after:
        yield Problem("CertificateExpired", f"the certificate of Secret {secret} expired at {_told(facts.not_after)}")
    strange = [host for host in hosts if host and not covers(facts.names, host)]
    if strange:
        names = ", ".join(facts.names) or "no DNS name"
        text = f"the certificate of Secret {secret} is for {names}, not for {', '.join(strange)}"
        yield Problem("CertificateHostMismatch", text)


def covers(names: Iterable[str], host: str) -> bool:
    """A wildcard stands for one label (RFC 6125, 6.4.3); a host that is one itself must be named so."""
    first, dot, rest = host.partition(".")
    wildcard = f"*.{rest}" if dot and first != "*" else host
    return any(name in (host, wildcard) for name in names)


def next_change(facts: Facts, now: datetime) -> datetime | None:
    """When `problems` begins to say something else."""
    return next((moment for moment in (facts.not_before, facts.not_after) if moment > now), None)


def _told(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
