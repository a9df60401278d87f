"""What a container has of its own in its pod's folders: logs, their links, and the file of its last message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.kubelet.logs import writing as logs
from kubecore.kubelet.node.services import NodeServices
from kubecore.kubelet.pods.containers import ContainerPlace
from kubecore.kubelet.pods.records import ContainerRecord

Object = dict[str, Any]


def make(services: NodeServices, pod: Object, record: ContainerRecord, attempt: int) -> ContainerPlace:
    """For an attempt that is to start."""
    names = (meta.namespace(pod), meta.name(pod), meta.uid(pod))
    log_path = logs.pod_log_directory(services.root, *names) / record.name / f"{attempt}.log"
    while log_path.exists():  # of an earlier kubelet that did not get to report the attempt
        attempt += 1
        log_path = log_path.with_name(f"{attempt}.log")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    message = message_file(services, pod, record)
    message.parent.mkdir(parents=True, exist_ok=True)
    message.write_bytes(b"")
    message.chmod(0o666)
    return ContainerPlace(
        log_path,
        message,
        attempt,
        services.root / "seccomp",
        seccomp_default=services.seccomp_default,
        killed_together=not services.single_process_oom_kill,
    )


def message_file(services: NodeServices, pod: Object, record: ContainerRecord) -> Path:
    """What `terminationMessagePath` shows in the container."""
    return services.pod_directory(meta.uid(pod)) / "containers" / record.name / "termination-log"


def link_log(services: NodeServices, pod: Object, record: ContainerRecord, container_id: str, log_path: Path) -> None:
    """The log is found by the container's id. Logs of attempts before the last one go."""
    names = (meta.name(pod), meta.namespace(pod), record.name)
    if record.id:
        logs.container_link(services.root, *names, record.id).unlink(missing_ok=True)
    # The log before is kept for `logs --previous`, older ones go.
    for old in log_path.parent.iterdir():
        if record.log_path is not None and not old.name.startswith((log_path.name, record.log_path.name)):
            old.unlink(missing_ok=True)
    record.previous_log_path, record.log_path = record.log_path, log_path
    logs.make_link(logs.container_link(services.root, *names, container_id), log_path)
