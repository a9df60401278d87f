"""Tells nodes, by an annotation, for how long their kubelets may remember Secrets and ConfigMaps: the longer, the more
nodes there are. (kubernetes `pkg/controller/ttl`.)
"""

from __future__ import annotations

from dataclasses import dataclass

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.controllers.base import Controller, ControllerContext

ANNOTATION = "node.alpha.kubernetes.io/ttl"


@dataclass(frozen=True, slots=True)
class _Step:
    """It lasts while there are so many nodes; the next begins before it ends, so that a few nodes more or less change
    nothing.
    """

    fewest: int
    most: int
    seconds: int


_STEPS = (
    _Step(0, 100, 0),
    _Step(90, 500, 15),
    _Step(450, 1000, 30),
    _Step(900, 2000, 60),
    _Step(1800, 2**31 - 1, 300),
)


class NodeTTLController(Controller):
    """Keys are nodes. After another step has begun, a node is told with its next change."""

    name = "ttl-controller"
    queue_name = "ttlcontroller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._nodes = self.informer("nodes")
        self._count = 0
        self._step = 0
        self._nodes.add_handler(self._node_added, lambda _, new: self._node_seen(new), self._node_gone)

    def _node_added(self, node: Object) -> None:
        self._count += 1
        while self._count > _STEPS[self._step].most:
            self._step += 1
        self._node_seen(node)

    def _node_gone(self, node: Object) -> None:
        self._count -= 1
        while self._count < _STEPS[self._step].fewest:
            self._step -= 1

    def _node_seen(self, node: Object) -> None:
        if meta.annotations(node).get(ANNOTATION) != self._wanted():
            self.enqueue(node)

    def _wanted(self) -> str:
        return str(_STEPS[self._step].seconds)

    async def sync(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is None or meta.annotations(node).get(ANNOTATION) == self._wanted():
            return None
        try:
            await self.client.patch_raw("nodes", key, {"metadata": {"annotations": {ANNOTATION: self._wanted()}}})
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        return None
