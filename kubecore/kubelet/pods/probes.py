"""One probe of a container: exec, http, tcp or grpc, and its verdict.

After upstream `pkg/probe` and `pkg/kubelet/prober/prober.go`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kubecore import node_network
from kubecore.api import durations
from kubecore.api.quoting import quoted
from kubecore.clock import Clock
from kubecore.kubelet.pods import http_get
from kubecore.kubelet.pods.expansion import expand
from kubecore.kubelet.pods.grpc_target import grpc_target
from kubecore.kubelet.pods.http_get import BadRequest, BrokenBody, NoAnswer, Progress, joined, reason, resolve_port
from kubecore.kubelet.runtime.interface import ExecResult, RuntimeFailure

Object = dict[str, Any]

_OUTPUT_BYTES = 10 * 1024
_LATE_BODY = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
USER_AGENT = "kube-probe/1.35"


class Result(enum.Enum):
    SUCCESS = "success"
    FAILURE = "failure"
    WARNING = "warning"
    """As good as success, but told of."""
    UNKNOWN = "unknown"
    """The probe itself could not be carried out; counts as nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state`: what one that is UNKNOWN is told to have resulted in."""

    result: Result
    output: str = ""
    state: str = "unknown"


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed. `ports`: the container's named ports. `execute`: runs a command inside, with a time limit.
    `variables`: those that it says itself, which commands may refer to."""

    pod_ip: str
    ports: Mapping[str, int]
    execute: Callable[[list[str], float], Awaitable[ExecResult]]
    variables: Mapping[str, str] = field(default_factory=dict)


async def probe_once(probe: Object, target: Target, clock: Clock) -> Verdict:
    """Carry out one probe; a timeout is a failure."""
    seconds = float(probe.get("timeoutSeconds") or 1)
    try:
        if "exec" in probe:
            return await _exec(probe["exec"], target, seconds)
        if "grpc" in probe:
            return await _grpc(probe["grpc"], target, seconds, clock)
        if "httpGet" in probe:
            return await _http(probe["httpGet"], target, seconds, clock)
        async with clock.timeout(seconds):
            if "tcpSocket" in probe:
                return await _tcp(probe["tcpSocket"], target)
    except BadRequest as error:
        return Verdict(Result.UNKNOWN, str(error))
    except TimeoutError:
        return Verdict(Result.FAILURE, _timeout_text(probe, target))
    return Verdict(Result.UNKNOWN, "missing probe handler")


def _timeout_text(probe: Object, target: Target) -> str:
    with suppress(BadRequest):
        if "httpGet" in probe:
            url = http_get.url_of(probe["httpGet"], target.pod_ip, target.ports)
            return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        action = probe["tcpSocket"]
        return f"dial tcp {joined(*_address(action, target))}: i/o timeout"
    return "context deadline exceeded"


async def _exec(action: Object, target: Target, seconds: float) -> Verdict:
    command = [expand(word, target.variables) for word in action.get("command") or []]
    try:
        result = await target.execute(command, seconds)
    except TimeoutError:
        told = f"{quoted(' '.join(command))} timed out after {durations.text(seconds)}"
        return Verdict(Result.FAILURE, f"command timed out: {told}")
    except RuntimeFailure as error:
        return Verdict(Result.UNKNOWN, error.message)
    output = (result.stdout + result.stderr)[:_OUTPUT_BYTES].decode("utf-8", "replace")
    return Verdict(Result.SUCCESS if result.exit_code == 0 else Result.FAILURE, output)


def _address(action: Object, target: Target) -> tuple[str, int]:
    """Raises BadRequest."""
    return action.get("host") or target.pod_ip, resolve_port(action["port"], target.ports)


async def _tcp(action: Object, target: Target) -> Verdict:
    host, port = _address(action, target)
    try:
        _, writer = await node_network.open_connection(host, port)
    except OSError as error:
        return Verdict(Result.FAILURE, f"dial tcp {joined(host, port)}: connect: {reason(error)}")
    writer.close()
    return Verdict(Result.SUCCESS)


async def _http(action: Object, target: Target, seconds: float, clock: Clock) -> Verdict:
    """What has begun to answer and does not come to its end is no verdict, whatever its status. Raises TimeoutError."""
    url = http_get.url_of(action, target.pod_ip, target.ports)
    progress = Progress()
    try:
        async with clock.timeout(seconds):
            answer = await http_get.get(url, action.get("httpHeaders") or [], USER_AGENT, progress)
    except NoAnswer as error:
        return Verdict(Result.FAILURE, str(error))
    except BrokenBody as error:
        return Verdict(Result.UNKNOWN, str(error), "failure")
    except TimeoutError:
        if not progress.in_body:
            raise
        return Verdict(Result.UNKNOWN, _LATE_BODY, "failure")
    if 200 <= answer.status < 300:
        return Verdict(Result.SUCCESS, answer.body)
    if 300 <= answer.status < 400:
        return Verdict(Result.WARNING, f"Probe terminated redirects, Response body: {answer.body}")
    # Not the body: it may be secret.
    return Verdict(Result.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")


async def _grpc(action: Object, target: Target, seconds: float, clock: Clock) -> Verdict:
    """grpc.health.v1 Check of the service (empty: the server). Raises BadRequest."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    port, within = resolve_port(action["port"], {}), durations.text(seconds)
    address = joined(target.pod_ip, port)
    late = f"timeout: failed to connect service {quoted(address)} within {within}: context deadline exceeded"
    options = (("grpc.primary_user_agent", USER_AGENT), ("grpc.default_authority", address))
    async with (
        grpc_target(target.pod_ip, port, address) as wanted,
        grpc.aio.insecure_channel(wanted, options=options) as channel,
    ):
        try:
            async with clock.timeout(seconds):
                await channel.channel_ready()  # one that is refused is tried again, as upstream does
                late = f"timeout: health rpc did not complete within {within}"
                request = health_pb2.HealthCheckRequest(service=action.get("service") or "")
                answer = await health_pb2_grpc.HealthStub(channel).Check(request)
        except TimeoutError:
            return Verdict(Result.FAILURE, late)
        except grpc.aio.AioRpcError as error:
            return Verdict(Result.FAILURE, _grpc_failure(error.code(), error.details() or ""))
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return Verdict(Result.SUCCESS, "service healthy")
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return Verdict(Result.FAILURE, f'service unhealthy (responded with "{name}")')


def _grpc_failure(code: Any, details: str) -> str:
    if code.name == "UNIMPLEMENTED":
        service = "grpc.health.v1.Health"
        return f"error: this server does not implement the grpc health protocol ({service}): {details}"
    name = "".join(word.capitalize() for word in code.name.split("_"))
    return f"error: health rpc probe failed: rpc error: code = {name} desc = {details}"
