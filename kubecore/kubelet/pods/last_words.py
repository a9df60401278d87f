"""How containers ended that a kubelet has stopped since it was to end itself, for the next one.

The API is not told: it may have gone first, and a container that is to run again has not completed, whatever its exit
code says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from kubecore.kubelet.pods.records import ContainerRecord, Termination

log = logging.getLogger(__name__)

_FILE = "ended.json"


def keep(directory: Path, records: Iterable[ContainerRecord], interrupted: Set[str]) -> None:
    """Of those containers, by id. `directory`: the pod's own, if it is still there. A file that is there in part is as
    good as none."""
    ended = [one.termination for one in records if one.termination is not None and one.id in interrupted]
    told = [replace(one, interrupted=True) for one in ended]
    if told and directory.is_dir():
        try:
            (directory / _FILE).write_bytes(msgspec.json.encode(told))
        except OSError as error:  # the disk is full, say
            log.warning("%s: how containers ended is not kept: %s", directory, error.strerror)


def read(directory: Path) -> Mapping[str, Termination]:
    """By the container's id."""
    with suppress(OSError, msgspec.DecodeError):
        told = msgspec.json.decode((directory / _FILE).read_bytes(), type=list[Termination])
        return {one.container_id: one for one in told}
    return {}
