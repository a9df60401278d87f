"""Defaults of probes and of what handlers do."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def default_probes(container: JSON) -> None:
    """Probes and lifecycle handlers of a container, in place."""
    for name in _PROBES:
        probe = container.get(name)
        if probe is not None:
            _probe(probe)
    lifecycle = container.get("lifecycle")
    if lifecycle:
        for handler in (lifecycle.get("postStart"), lifecycle.get("preStop")):
            if handler:
                _http_get(handler.get("httpGet"))


def _probe(probe: JSON) -> None:
    # Zero means unset for these, as in upstream's structs.
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(field):
            probe[field] = value
    _http_get(probe.get("httpGet"))
    grpc = probe.get("grpc")
    if grpc is not None:
        grpc["service"] = grpc.get("service") or ""


def _http_get(action: JSON | None) -> None:
    if action is not None:
        action["path"] = action.get("path") or "/"
        action["scheme"] = action.get("scheme") or "HTTP"
