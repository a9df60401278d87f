"""What is told of a pod that cannot have what its containers need, or may not, or whose containers cannot be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from kubecore.api import meta
from kubecore.client.events import EventRecorder
from kubecore.clock import Timer
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.pods.environment import Lookup
from kubecore.kubelet.pods.records import ContainerRecord
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.kubelet.volumes.images import MissingImage
from kubecore.kubelet.volumes.manager import SetUpError

Object = dict[str, Any]

# That a pod is given at least before it is told to end late.
_LEAST_SECONDS = 10.0
_NOT_ENDED = ("KillContainerError", "KillPodSandboxError")


def tell(
    error: SetUpError | RuntimeFailure, pod: Object, records: Mapping[str, ContainerRecord], recorder: EventRecorder
) -> None:
    """What is missing for a container alone is that container's trouble, as upstream tells it."""
    event = partial(recorder.event, pod, "Warning")
    if isinstance(error, RuntimeFailure) and error.reason in _NOT_ENDED:  # it runs as before
        event("FailedKillPod", f"error killing pod: {error}")
        return
    if isinstance(error, SetUpError):
        for message in error.messages:
            event("FailedMount", message)
    elif not isinstance(error, MissingImage):
        event("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
    if not isinstance(error, RuntimeFailure) or error.reason == "FailedCreatePodSandBox":
        return
    for record in records.values():
        if not isinstance(error, MissingImage):
            record.wait(error.reason, error.message)
        elif error.concerns(record.spec):
            record.wait(error.reason, error.message)
            event("Failed", f"Error: {error.reason}", field_path=record.field_path)


def tell_missing_pull_secrets(pod: Object, lookup: Lookup, recorder: EventRecorder) -> None:
    """An image may be had without them."""
    asked = [name for one in pod["spec"].get("imagePullSecrets") or [] if (name := one.get("name"))]
    missing = [name for name in asked if lookup("secrets", meta.namespace(pod), name) is None]
    if missing:
        told = f"Unable to retrieve some image pull secrets ({', '.join(missing)})"
        message = f"{told}; attempting to pull the image may not succeed."
        recorder.event(pod, "Warning", "FailedToRetrieveImagePullSecret", message)


def tell_if_late(pod: Object, grace_seconds: float, over: asyncio.Event, services: NodeServices) -> Timer:
    """Where a pod takes much longer to end than it was given (upstream `pkg/kubelet/pod_workers.go`, killPodNow)."""

    def late() -> None:
        if not over.is_set():
            text = "Container runtime did not kill the pod within specified grace period."
            services.recorder.event(pod, "Warning", "ExceededGracePeriod", text)

    return services.clock.call_later(max(_LEAST_SECONDS, 1.5 * grace_seconds), late)
