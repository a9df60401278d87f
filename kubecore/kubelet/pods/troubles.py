"""What is told of a pod that cannot have what its containers need, or whose containers cannot be ended."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kubecore.client.events import EventRecorder
from kubecore.kubelet.pods.records import ContainerRecord
from kubecore.kubelet.runtime.interface import RuntimeFailure
from kubecore.kubelet.volumes.images import MissingImage
from kubecore.kubelet.volumes.manager import SetUpError

Object = dict[str, Any]

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
