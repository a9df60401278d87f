"""Reads a TracingConfiguration, as `--tracing-config-file` takes it.

After upstream k8s.io/component-base tracing/api/v1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubecore.api import configuration_file
from kubecore.api.configuration_file import InvalidConfiguration

_KIND = "TracingConfiguration"
_FIELDS: dict[str, Any] = {"endpoint": str, "samplingRatePerMillion": int}
_VERSIONS = {f"apiserver.config.k8s.io/{version}": _FIELDS for version in ("v1", "v1beta1", "v1alpha1")}
_SCHEMES = ("dns", "unix", "unix-abstract")
MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingOptions:
    endpoint: str = "localhost:4317"
    """Of a collector of OpenTelemetry, by gRPC."""
    per_million: int = 0
    """Of requests whose trace has not begun elsewhere."""


def load(text: str) -> TracingOptions:
    """From YAML or JSON. Raises InvalidConfiguration."""
    given = configuration_file.read(text, _KIND, _VERSIONS)
    rate, endpoint = given.get("samplingRatePerMillion") or 0, given.get("endpoint") or TracingOptions().endpoint
    if rate < 0:
        raise InvalidConfiguration(f"samplingRatePerMillion: Invalid value: {rate}: sampling rate must be positive")
    if rate > MILLION:
        why = "sampling rate per million must be less than or equal to one million"
        raise InvalidConfiguration(f"samplingRatePerMillion: Invalid value: {rate}: {why}")
    scheme = urlsplit(endpoint if "//" in endpoint else f"dns://{endpoint}").scheme
    if scheme not in _SCHEMES:
        why = f"unsupported scheme: {scheme}.  Options are none, dns, unix, or unix-abstract."
        see = "See https://github.com/grpc/grpc/blob/master/doc/naming.md"
        raise InvalidConfiguration(f'endpoint: Invalid value: "{endpoint}": {why}  {see}')
    return TracingOptions(endpoint=endpoint, per_million=rate)
