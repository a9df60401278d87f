"""What a node has granted the containers of a pod that was resized, for the next kubelet: the API is told of requests
alone. (Upstream keeps it in `allocated_pods_state`.)"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

Object = dict[str, Any]

_FILE = "allocated.json"


def keep(directory: Path, granted: Mapping[str, Object]) -> None:
    """Their resources by the container's name. `directory`: the pod's own."""
    new = directory / f"{_FILE}.new"
    try:
        new.write_bytes(orjson.dumps(granted))
        new.replace(directory / _FILE)
    except OSError as error:  # the disk is full, say
        log.warning("%s: what containers were granted is not kept: %s", directory, error.strerror)


def read(directory: Path) -> Mapping[str, Object]:
    """Nothing of a pod that has not been resized."""
    with suppress(OSError, orjson.JSONDecodeError):
        granted = orjson.loads((directory / _FILE).read_bytes())
        if isinstance(granted, dict) and all(isinstance(one, dict) for one in granted.values()):
            return granted
    return {}
