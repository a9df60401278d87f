"""ComponentStatuses: the health of the parts, asked for when somebody looks.

Each part registers a probe; parts run elsewhere (`kubecore scheduler` as a process of its own) are told by their
leader-election or heartbeat Lease instead. Upstream tells of each etcd, too; there is none here, and the store's health
is part of /readyz.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors, meta
from kubecore.api.queries import parse_query
from kubecore.api.quoting import quoted
from kubecore.api.selectors import FieldSelector, Selector
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.handlers.transforming import Shape, shape_of

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.registry import Registry

JSON = dict[str, Any]

# (healthy, what it says); None: nothing known in this process.
Probe = Callable[[], tuple[bool, str] | None]

_LEASES = {"scheduler": "kube-scheduler", "controller-manager": "kube-controller-manager"}


class ComponentStatuses:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._probes: dict[str, Probe] = {
            "scheduler": lambda: None,
            "controller-manager": lambda: None,
        }

    def register(self, name: str, probe: Probe) -> None:
        self._probes[name] = probe

    def _state(self, name: str) -> tuple[bool, str]:
        found = self._probes[name]()
        if found is not None:
            return found
        lease = self._registry.get("leases.coordination.k8s.io", "kube-system", _LEASES.get(name, name))
        spec = (lease or {}).get("spec") or {}
        if not spec.get("holderIdentity") or not spec.get("renewTime"):
            return False, f"{name} is not part of this process, and no lease tells of it"
        age = (self._registry.clock.now() - meta.parse_time(spec["renewTime"])).total_seconds()
        if age > (spec.get("leaseDurationSeconds") or 15):
            return False, f"{name} has not renewed its lease for {int(age)}s"
        return True, "ok"

    def _object(self, name: str) -> JSON:
        healthy, message = self._state(name)
        condition = {"type": "Healthy", "status": "True" if healthy else "False"}
        condition["message" if healthy else "error"] = message
        if not healthy:
            condition["message"] = ""
        return {
            "apiVersion": "v1",
            "kind": "ComponentStatus",
            "metadata": {"name": name},
            "conditions": [condition],
        }

    async def get(self, request: Request, user: UserInfo, served: Served) -> Response:
        if request.name not in self._probes:
            raise errors.not_found("", "componentstatus", request.name)
        shape = shape_of(request.accept, request.query, served, self._registry.clock)
        return _answer(shape, shape.one(orjson.dumps(self._object(request.name))), served)

    async def list(self, request: Request, user: UserInfo, served: Served) -> Response:
        objects = [orjson.dumps(self._object(name)) for name in _selected(self._probes, request.query)]
        shape = shape_of(request.accept, request.query, served, self._registry.clock)
        return _answer(shape, shape.many(objects, None), served)


def _answer(shape: Shape, body: bytes, served: Served) -> Response:
    body, media = negotiation.encode(shape.form, body)
    return Response(200, body, media, served.headers)


def _selected(names: Iterable[str], query: str) -> list[str]:
    """Components have names and no labels. Raises 400 for a bad selector."""
    asked = parse_query(query)
    try:
        labels = Selector.parse(asked.get("labelSelector", ""))
        fields = FieldSelector.parse(asked.get("fieldSelector", ""))
    except ValueError as error:
        raise errors.bad_request(str(error)) from None
    for label, _, _ in fields.requirements():
        if label not in ("metadata.name", "metadata.namespace"):
            known = 'only "metadata.name", "metadata.namespace"'
            raise errors.bad_request(f"{quoted(label)} is not a known field selector: {known}")
    return [name for name in names if labels.matches({}) and fields.matches({"metadata.name": name})]
