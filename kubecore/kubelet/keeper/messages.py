"""What a kubelet and its keeper tell each other, and how it is written (MessagePack)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from kubecore.kubelet.cgroups.interface import Limits, Places
from kubecore.kubelet.logs.writing import LogRotation
from kubecore.kubelet.networks.network import Half
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerStatus,
    ExecResult,
    SandboxConfig,
    SandboxStatus,
)
from kubecore.kubelet.runtime.streams import StreamsWanted

VERSION = 5
"""Of all that follows, and of what the runtimes' configurations mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """What a keeper is made with. `mark`: of the node's processes (`runtime/leftovers.py`). The rest of the first block
    as in KubeletConfig."""

    root: Path
    mark: str
    image_store: Path
    network_mode: str
    pod_cidrs: tuple[str, ...]
    cluster_cidrs: tuple[str, ...]
    bridge: str
    pods_through_node: bool
    half: Half = ""
    """Of the pods' addresses: the kubelet has the others, for a runtime that it does not reach through a keeper."""
    programs: dict[str, str] = field(default_factory=dict)
    """OCI runtimes by their handlers (`oci_programs.handlers`)."""
    version: int = VERSION
    places: Places | None = None
    """Where the node's cgroups are."""
    watches_memory: bool = False
    """Limits on memory are enforced by looking, since there are no cgroups that do."""
    node_network: tuple[int, int] | None = None
    """Descriptors of the node's network, in rootless mode: they are handed on to a keeper that is started."""
    lonely_seconds: float | None = None
    """For how long it waits for another kubelet once its own is gone; None: for ever."""
    log_rotation: LogRotation = field(default_factory=LogRotation)
    """Of the containers that it starts, whoever its kubelet is later."""


class Call(msgspec.Struct, array_like=True):
    """From the kubelet. `runtime`: by name, "" for the keeper itself. Answered under the same number."""

    number: int
    runtime: str
    method: str
    arguments: msgspec.Raw


class Said(msgspec.Struct, array_like=True):
    """From the keeper. `kind`: "answer" or "failure" (a Failure) to the call of that number; without a call: a
    container's "status", or its last one ("ended"), the Ended of the stream of that number ("stream ended"), the path
    of a log that has grown ("wrote")."""

    number: int
    kind: str
    runtime: str
    value: msgspec.Raw


class Failure(msgspec.Struct, array_like=True):
    """`reason` as in RuntimeFailure; "" for a TimeoutError."""

    reason: str
    message: str


class Held(msgspec.Struct, array_like=True):
    """What one runtime has."""

    sandboxes: list[SandboxStatus]
    containers: list[ContainerStatus]


class Holdings(msgspec.Struct, array_like=True):
    """The answer to a kubelet that comes to a keeper: how that was made, and what it has, by the runtimes' names."""

    settings: KeeperSettings
    held: dict[str, Held]


class Streams(msgspec.Struct, array_like=True):
    """Of a process, numbered. The descriptors come along: of stdin, stdout, stderr and the terminal those `there`."""

    number: int
    there: tuple[bool, bool, bool, bool]


@dataclass(frozen=True, slots=True)
class Method:
    """`arguments`: a tuple type. `descriptors`: some come with the result."""

    arguments: Any
    result: Any = None
    descriptors: bool = False


RUNTIME_METHODS: dict[str, Method] = {
    "run_pod_sandbox": Method(tuple[SandboxConfig], SandboxStatus),
    "stop_pod_sandbox": Method(tuple[str]),
    "remove_pod_sandbox": Method(tuple[str]),
    "create_container": Method(tuple[str, ContainerConfig], ContainerStatus),
    "start_container": Method(tuple[str], ContainerStatus),
    "stop_container": Method(tuple[str, float]),
    "update_container_limits": Method(tuple[str, Limits]),
    "update_pod_sandbox_limits": Method(tuple[str, Limits]),
    "remove_container": Method(tuple[str]),
    "exec_sync": Method(tuple[str, list[str], float], ExecResult),
    "exec": Method(tuple[str, list[str], StreamsWanted], Streams, descriptors=True),
    "attach": Method(tuple[str, StreamsWanted], Streams, descriptors=True),
    "pod_network": Method(tuple[str], tuple[str, ...], descriptors=True),
}
KEEPER_METHODS: dict[str, Method] = {
    "take over": Method(tuple[float | None], Holdings),
    "follow": Method(tuple[Path]),
    "unfollow": Method(tuple[Path]),
    "detach": Method(tuple[int]),
    "cancel": Method(tuple[int]),
    "end": Method(tuple[()]),
}


def method(runtime: str, name: str) -> Method:
    """KeyError for one there is not."""
    return (RUNTIME_METHODS if runtime else KEEPER_METHODS)[name]


def _write_other(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value)} cannot be sent")


def _read_other(kind: type, value: Any) -> Any:
    if kind is Path or issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(f"{kind} cannot be received")


_encoder = msgspec.msgpack.Encoder(enc_hook=_write_other)


def encode(value: Any) -> bytes:
    return _encoder.encode(value)


def raw(value: Any) -> msgspec.Raw:
    """To be put into a message."""
    return msgspec.Raw(_encoder.encode(value))


def decode(data: bytes | msgspec.Raw, kind: Any) -> Any:
    """msgspec.ValidationError for what is none."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_read_other)
