"""Where a Service's port leads: pure functions of the Service and its EndpointSlices."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kubecore import _native
from kubecore.api import meta
from kubecore.api.endpoint_choice import Place, choose
from kubecore.ingress.external_names import Found
from kubecore.ingress.rules import BackendRef, Problem

Object = Mapping[str, Any]

SCHEDULER_ANNOTATION = "kubecore.dev/scheduler"
DEFAULT_SCHEDULER = "rr"
_DEFAULT_AFFINITY_SECONDS = 10800
SECURE = ("https", "h2")
_TLS_KEYS = ("ca.crt", "tls.crt", "tls.key")
_SPOKEN = {
    "": "http",
    "http": "http",
    "kubernetes.io/ws": "http",
    "https": "https",
    "kubernetes.io/wss": "https",
    "kubernetes.io/h2c": "h2c",
    "h2c": "h2c",
    "grpc": "h2c",
}
"""What is spoken, by a port's appProtocol."""


@dataclass(frozen=True, slots=True)
class Backend:
    """As `_native.IngressProxy.set_backend` takes it."""

    destinations: tuple[tuple[str, int, int], ...] = ()
    protocol: str = "http"
    scheduler: str = DEFAULT_SCHEDULER
    affinity_seconds: float | None = None
    tls_name: str = ""
    tls_roots: bytes | None = None
    tls_identity: tuple[bytes, bytes] | None = None
    connect_timeout: float | None = None
    read_timeout: float | None = None


def external_name(service: Object | None) -> str:
    """What the Service stands for, "" unless it is of type ExternalName."""
    spec = (service or {}).get("spec") or {}
    return str(spec.get("externalName") or "").rstrip(".") if spec.get("type") == "ExternalName" else ""


def resolve(
    ref: BackendRef,
    service: Object | None,
    slices: Iterable[Object],
    secret: Object | None = None,
    external: Found | None = None,
) -> tuple[Backend, list[Problem]]:
    """What a backend is to be, and what is wrong with it; without destinations when it cannot be had. `secret`: the one
    that its terms name, once it is there. `external`: where its external name leads, once that is known."""
    if service is None:
        return Backend(), [Problem("MissingService", f"Service {ref.service} does not exist")]
    spec, name = service.get("spec") or {}, external_name(service)
    port = next((one for one in spec.get("ports") or () if ref.port in (one.get("port"), one.get("name"))), None)
    if port is None and name and isinstance(ref.port, int):
        port = {"port": ref.port}  # of an external name no port need be declared
    if port is None:
        return Backend(), [Problem("MissingService", f"Service {ref.service} has no port {ref.port!r}")]
    problems: list[Problem] = []
    if name:
        destinations = _outside(ref, port, external, problems)
    else:
        destinations = _destinations(slices, port, spec.get("ipFamilies") or ())
    made = Backend(
        destinations=destinations,
        protocol=ref.terms.protocol or _protocol(ref, port, problems),
        scheduler=_scheduler(service, problems),
        affinity_seconds=_affinity(spec),
        connect_timeout=ref.terms.connect_seconds,
        read_timeout=ref.terms.read_seconds,
    )
    if made.protocol in SECURE:
        space, own = meta.split_key(ref.service)
        made = replace(made, tls_name=ref.terms.tls_name or name or f"{own}.{space}.svc")
        made = _secured(made, ref, secret, problems)
    return made, problems


def _outside(
    ref: BackendRef, port: Object, found: Found | None, problems: list[Problem]
) -> tuple[tuple[str, int, int], ...]:
    if found is None:
        return ()
    if found.problem:
        problems.append(Problem("UnusableName", f"external name of Service {ref.service}: {found.problem}"))
    target = port.get("targetPort")
    number = target if isinstance(target, int) else port["port"]
    return tuple((address, number, 1) for address in found.addresses)


def _secured(made: Backend, ref: BackendRef, secret: Object | None, problems: list[Problem]) -> Backend:
    """What cannot be checked though it should be is not sent anywhere."""
    data = (secret or {}).get("data") or {}
    try:
        roots, chain, key = (base64.b64decode(data.get(one) or "", validate=True) for one in _TLS_KEYS)
    except (ValueError, binascii.Error) as error:
        problems.append(Problem("BadCertificate", f"Secret {ref.terms.tls_secret} cannot be used: {error}"))
        return replace(made, destinations=())
    if chain and key:
        made = replace(made, tls_identity=(chain, key))
    if not ref.terms.tls_verify:
        return made
    if not roots:
        where = (
            f"Secret {ref.terms.tls_secret} has none" if ref.terms.tls_secret else "proxy-ssl-secret names no Secret"
        )
        text = f"certificates of {ref.service} are to be verified, but there is no ca.crt to do it with: {where}"
        problems.append(Problem("MissingTrust", text))
        return replace(made, destinations=())
    return replace(made, tls_roots=roots)


def _protocol(ref: BackendRef, port: Object, problems: list[Problem]) -> str:
    wanted = port.get("appProtocol") or ""
    if wanted not in _SPOKEN:
        known = ", ".join(name for name in _SPOKEN if name)
        text = f"appProtocol {wanted!r} of {ref.name} is not supported (there is: {known}); HTTP/1.1 is spoken"
        problems.append(Problem("UnsupportedProtocol", text))
    return _SPOKEN.get(wanted, "http")


def _scheduler(service: Object, problems: list[Problem]) -> str:
    name = meta.annotations(service).get(SCHEDULER_ANNOTATION) or DEFAULT_SCHEDULER
    if name in _native.schedulers():
        return name
    text = f"annotation {SCHEDULER_ANNOTATION} of Service {meta.key(service)} names unknown scheduler {name!r}; "
    problems.append(Problem("UnknownScheduler", text + f"{DEFAULT_SCHEDULER} is used"))
    return DEFAULT_SCHEDULER


def _affinity(spec: Object) -> float | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return float(config.get("timeoutSeconds") or _DEFAULT_AFFINITY_SECONDS)


def _destinations(slices: Iterable[Object], port: Object, families: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """Of the Service's first address family that has any, so that no pod counts twice; which node an endpoint is on
    makes no difference."""
    held = list(slices)
    chosen = (choose(held, port, family, Place()).cluster for family in dict.fromkeys((*families, "IPv4", "IPv6")))
    return tuple((address, number, 1) for address, number in next(filter(None, chosen), ()))
