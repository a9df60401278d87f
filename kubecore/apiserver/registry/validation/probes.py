"""Probes, lifecycle hooks and the handlers both are made of."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def validate_probes(problems: Problems, container: JSON, path: str, grace_seconds: int | None) -> None:
    """The three probes of a container that may have them."""
    for name in ("livenessProbe", "startupProbe", "readinessProbe"):
        probe = container.get(name)
        if probe is None:
            continue
        where = f"{path}.{name}"
        _handlers(problems, probe, where, _PROBE_HANDLERS, grace_seconds)
        for field in _COUNTS:
            problems.not_negative(f"{where}.{field}", probe.get(field))
        own_grace = probe.get("terminationGracePeriodSeconds")
        if own_grace is not None and own_grace <= 0:
            problems.invalid(f"{where}.terminationGracePeriodSeconds", own_grace, "must be greater than 0")
        if name == "readinessProbe":
            if own_grace is not None:
                problems.invalid(
                    f"{where}.terminationGracePeriodSeconds", own_grace, "must not be set for readinessProbes"
                )
        elif probe.get("successThreshold", 1) != 1:
            problems.invalid(f"{where}.successThreshold", probe["successThreshold"], "must be 1")


def validate_lifecycle(problems: Problems, lifecycle: JSON | None, path: str, grace_seconds: int | None) -> None:
    """Hooks. A stop signal is of a feature that is off, and has been dropped."""
    for name in ("postStart", "preStop"):
        handler = (lifecycle or {}).get(name)
        if handler is not None:
            _handlers(problems, handler, f"{path}.{name}", _HOOK_HANDLERS, grace_seconds)


def _handlers(problems: Problems, holder: JSON, path: str, kinds: tuple[str, ...], grace_seconds: int | None) -> None:
    given = [kind for kind in kinds if holder.get(kind) is not None]
    if not given:
        problems.required(path, "must specify a handler type")
        return
    _action(problems, given[0], holder[given[0]], f"{path}.{given[0]}", grace_seconds)
    for extra in given[1:]:
        problems.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")


def _action(problems: Problems, kind: str, action: JSON, where: str, grace_seconds: int | None) -> None:
    match kind:
        case "exec":
            problems.need(where, action, "command")
        case "httpGet":
            _http_get(problems, action, where)
        case "tcpSocket":
            port_number_or_name(problems, action.get("port"), f"{where}.port")
        case "grpc":
            problems.port(f"{where}.port", action.get("port", 0))
        case "sleep":
            seconds = action.get("seconds", 0)
            if grace_seconds is not None and not 0 <= seconds <= grace_seconds:
                detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"
                problems.invalid(where, seconds, detail)


def _http_get(problems: Problems, action: JSON, path: str) -> None:
    problems.need(path, action, "path")
    port_number_or_name(problems, action.get("port"), f"{path}.port")
    problems.one_of(f"{path}.scheme", action.get("scheme"), ("HTTP", "HTTPS"))
    for header in action.get("httpHeaders") or []:
        problems.check(f"{path}.httpHeaders", header.get("name") or "", names.header_name)


def port_number_or_name(problems: Problems, port: object, path: str) -> None:
    """An IntOrString that names or numbers a port."""
    if isinstance(port, str):
        problems.check(path, port, names.port_name)
    else:
        number = port if isinstance(port, int) else 0
        problems.port(path, number)
