"""How requests reach other servers, as kube-apiserver's flags say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationOptions:
    """`--proxy-client-*`, `--enable-aggregator-routing` and `--aggregator-reject-forwarding-redirect`."""

    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    to_endpoints: bool = True
    """Requests go to an endpoint of the Service, not to its own address."""
    rejects_redirects: bool = True
