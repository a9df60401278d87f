"""postStart and preStop. After upstream `pkg/kubelet/lifecycle/handlers.go`."""

from __future__ import annotations

from typing import Any

from kubecore.clock import Clock
from kubecore.kubelet.pods import http_get
from kubecore.kubelet.pods.http_get import BadRequest, BrokenBody, NoAnswer, NotTls
from kubecore.kubelet.pods.probes import Result, Target, Verdict

Object = dict[str, Any]

USER_AGENT = "kube-lifecycle/1.35"


async def run_hook(handler: Object, target: Target, clock: Clock, timeout_seconds: float) -> Verdict:
    """Carry a lifecycle handler out. TimeoutError when a command takes longer than `timeout_seconds` (0: no limit), and
    RuntimeFailure when it cannot be run. A verdict that is a warning says what has been done instead."""
    if "sleep" in handler:
        await clock.sleep(min(float(handler["sleep"].get("seconds", 0)), timeout_seconds or float("inf")))
        return Verdict(Result.SUCCESS)
    if "exec" in handler:
        result = await target.execute(list(handler["exec"].get("command") or []), timeout_seconds)
        output = (result.stdout + result.stderr).decode("utf-8", "replace")
        if result.exit_code:
            return Verdict(Result.FAILURE, f"command exited with {result.exit_code}: {output}")
        return Verdict(Result.SUCCESS, output)
    if "httpGet" in handler:
        return await _http(handler["httpGet"], target)
    return Verdict(Result.FAILURE, "invalid handler")  # tcpSocket, which the API has for compatibility only


async def _http(action: Object, target: Target) -> Verdict:
    """Whatever the answer is, it is one."""
    try:
        url = http_get.url_of(action, target.pod_ip, target.ports)
        headers = action.get("httpHeaders") or []
        try:
            await http_get.get(url, headers, USER_AGENT)
        except NotTls:
            plain = [one for one in headers if one["name"].lower() != "authorization"]
            await http_get.get(f"http{url.removeprefix('https')}", plain, USER_AGENT)
            host = url.partition("://")[2].partition("/")[0]
            told = f"request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
            return Verdict(Result.WARNING, told)
    except (BadRequest, NoAnswer) as error:
        return Verdict(Result.FAILURE, str(error))
    except BrokenBody:
        pass
    return Verdict(Result.SUCCESS)
