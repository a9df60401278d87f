"""Where a Service's port leads: pure functions of the Service and its EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubecore import _native
from kubecore.api import meta
from kubecore.api.endpoint_choice import Place, choose
from kubecore.ingress.rules import BackendRef, Problem

Object = Mapping[str, Any]

SCHEDULER_ANNOTATION = "kubecore.dev/scheduler"
DEFAULT_SCHEDULER = "rr"
_DEFAULT_AFFINITY_SECONDS = 10800
_HTTP1 = ("", "http", "kubernetes.io/ws")
_HTTP2 = ("kubernetes.io/h2c", "h2c", "grpc")


@dataclass(frozen=True, slots=True)
class Backend:
    """As `_native.IngressProxy.set_backend` takes it."""

    destinations: tuple[tuple[str, int, int], ...] = ()
    protocol: str = "http"
    scheduler: str = DEFAULT_SCHEDULER
    affinity_seconds: float | None = None


def resolve(ref: BackendRef, service: Object | None, slices: Iterable[Object]) -> tuple[Backend, list[Problem]]:
    """What a backend is to be, and what is wrong with it; without destinations when it cannot be had."""
    if service is None:
        return Backend(), [Problem("MissingService", f"Service {ref.service} does not exist")]
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        text = f"Service {ref.service} is of type ExternalName, which is not supported as a backend"
        return Backend(), [Problem("UnsupportedBackend", text)]
    port = next((one for one in spec.get("ports") or () if ref.port in (one.get("port"), one.get("name"))), None)
    if port is None:
        return Backend(), [Problem("MissingService", f"Service {ref.service} has no port {ref.port!r}")]
    problems: list[Problem] = []
    made = Backend(
        destinations=_destinations(slices, port, spec.get("ipFamilies") or ()),
        protocol=_protocol(ref, port, problems),
        scheduler=_scheduler(service, problems),
        affinity_seconds=_affinity(spec),
    )
    return made, problems


def _protocol(ref: BackendRef, port: Object, problems: list[Problem]) -> str:
    wanted = port.get("appProtocol") or ""
    if wanted in _HTTP2:
        return "h2c"
    if wanted not in _HTTP1:
        known = ", ".join(_HTTP1[1:] + _HTTP2[:1])
        text = f"appProtocol {wanted!r} of {ref.name} is not supported (there is: {known}); HTTP/1.1 is spoken"
        problems.append(Problem("UnsupportedProtocol", text))
    return "http"


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
