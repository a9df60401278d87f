"""postStart and preStop."""

from __future__ import annotations

from typing import Any

from kubecore.clock import Clock
from kubecore.kubelet.pods.probes import Result, Target, Verdict, probe_once

Object = dict[str, Any]


async def run_hook(handler: Object, target: Target, clock: Clock, timeout_seconds: float) -> Verdict:
    """Carry a lifecycle handler out. TimeoutError when it takes longer than `timeout_seconds` (0: no limit)."""
    if "sleep" in handler:
        await clock.sleep(min(float(handler["sleep"].get("seconds", 0)), timeout_seconds or float("inf")))
        return Verdict(Result.SUCCESS)
    if "exec" in handler:
        result = await target.execute(list(handler["exec"].get("command") or []), timeout_seconds)
        output = (result.stdout + result.stderr).decode("utf-8", "replace")
        if result.exit_code:
            return Verdict(Result.FAILURE, f"command exited with {result.exit_code}: {output}")
        return Verdict(Result.SUCCESS, output)
    return await probe_once({**handler, "timeoutSeconds": timeout_seconds or 3600}, target, clock)
