"""Network namespaces of the pods that this process runs: who makes them tells, and who acts in pods' names is told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from kubecore import _native

log = logging.getLogger(__name__)


class PodNamespaces:
    """By the pods' addresses, which are all in `pod_ranges` and reach each other by themselves."""

    def __init__(self, pod_ranges: Sequence[str]) -> None:
        self.native = _native.Namespaces(pod_ranges)
        self._told = False

    def add(self, addresses: Iterable[str], namespace: int) -> None:
        """`namespace` is a descriptor; the namespace is held by another one until `remove`. Where nobody may act in it,
        it is left out, and the log says so once."""
        for address in addresses:
            try:
                self.native.put(address, namespace)
            except OSError as error:
                if not self._told:
                    log.info("endpoints of Services see pods with the node's address: %s", error.strerror)
                self._told = True

    def remove(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            self.native.remove(address)
