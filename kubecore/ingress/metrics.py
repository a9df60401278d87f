"""The proxy's counts in the text form of Prometheus."""

from __future__ import annotations

from typing import Any

_PREFIX = "kubecore_ingress"
_COUNTERS = (
    ("retries", "retries_total", "Requests sent once more, to another destination or on another connection."),
    ("bytes", "sent_bytes_total", "Bytes of answers' bodies."),
    ("accepted", "connections_total", "Connections accepted from clients."),
    ("upgraded", "upgrades_total", "Connections switched to another protocol."),
    ("log_lines_dropped", "access_log_dropped_total", "Lines of the access log that were lost."),
)
_GAUGES = (
    ("open", "open_connections", "Connections of clients that are open."),
    ("idle_connections", "idle_connections", "Connections to destinations that wait for their next request."),
    ("hosts", "hosts", "Hosts that are routed."),
)


def render(statistics: dict[str, Any]) -> bytes:
    """Of `_native.IngressProxy.statistics`."""
    lines: list[str] = []
    _family(lines, "requests_total", "counter", "Answers by status.")
    lines += [f'{_PREFIX}_requests_total{{code="{code}"}} {count}' for code, count in statistics["statuses"]]
    for kind, table in (("counter", _COUNTERS), ("gauge", _GAUGES)):
        for key, name, text in table:
            _family(lines, name, kind, text)
            lines.append(f"{_PREFIX}_{name} {statistics[key]}")
    _family(lines, "backend_requests_total", "counter", "Answers by backend and the hundreds of their status.")
    for name, answers, _ in statistics["backends"]:
        for hundreds, count in enumerate(answers):
            if count:
                lines.append(f'{_PREFIX}_backend_requests_total{{backend="{name}",code="{hundreds}xx"}} {count}')
    _family(lines, "backend_seconds_total", "counter", "How long all answers of a backend took together.")
    for name, _, milliseconds in statistics["backends"]:
        lines.append(f'{_PREFIX}_backend_seconds_total{{backend="{name}"}} {milliseconds / 1000}')
    return "\n".join(lines).encode() + b"\n"


def _family(lines: list[str], name: str, kind: str, text: str) -> None:
    lines += [f"# HELP {_PREFIX}_{name} {text}", f"# TYPE {_PREFIX}_{name} {kind}"]
