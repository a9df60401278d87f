"""ComponentStatuses: the health of the parts, asked for when somebody looks.

Each part registers a probe; parts run elsewhere (`kubecore scheduler` as a process of its own) are told by their
leader-election or heartbeat Lease instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors, meta
from kubecore.apiserver.handlers import negotiation
from kubecore.apiserver.handlers.reading import include_object
from kubecore.apiserver.handlers.request import JSON_TYPE, Request, Response, warning_headers
from kubecore.apiserver.registry.options import parse_query

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.registry import Registry

JSON = dict[str, Any]

# (healthy, what it says); None: nothing known in this process.
Objects = list[JSON]
Probe = Callable[[], tuple[bool, str] | None]

_LEASES = {"scheduler": "kube-scheduler", "controller-manager": "kube-controller-manager"}
_DEPRECATED = "v1 ComponentStatus is deprecated in v1.19+"


class ComponentStatuses:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._probes: dict[str, Probe] = {
            "scheduler": lambda: None,
            "controller-manager": lambda: None,
            "etcd-0": self._storage,
        }

    def register(self, name: str, probe: Probe) -> None:
        self._probes[name] = probe

    def _storage(self) -> tuple[bool, str] | None:
        failure = getattr(self._registry.storage, "failure", None)
        return (True, "ok") if failure is None else (False, str(failure))

    def _state(self, name: str) -> tuple[bool, str]:
        found = self._probes[name]()
        if found is not None:
            return found
        lease = self._registry.get("leases.coordination.k8s.io", "kube-system", _LEASES.get(name, name))
        spec = (lease or {}).get("spec") or {}
        if not spec.get("holderIdentity") or not spec.get("renewTime"):
            return False, f"{name} is not running"
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
            raise errors.not_found("", "componentstatuses", request.name)
        obj = self._object(request.name)
        form = negotiation.form_for(request.accept)
        if form.transform:
            return self._answer(form, self._table(form, [obj], request))
        return self._answer(form, obj)

    async def list(self, request: Request, user: UserInfo, served: Served) -> Response:
        objects = [self._object(name) for name in self._probes]
        form = negotiation.form_for(request.accept)
        if form.transform:
            return self._answer(form, self._table(form, objects, request))
        listed = {"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": objects}
        return self._answer(form, listed)

    def _table(self, form: negotiation.Form, objects: Objects, request: Request) -> JSON:
        if form.transform != "Table":
            partial = [
                {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": one["metadata"]}
                for one in objects
            ]
            if form.transform == "PartialObjectMetadata":
                return partial[0]
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {},
                "items": partial,
            }
        from kubecore.apiserver.tables import table_for

        include = include_object(parse_query(request.query).get("includeObject", ""))
        return table_for(
            "componentstatuses",
            objects,
            include_object=include,
            now=self._registry.clock.now(),
            headers=True,
            metadata={},
            version=form.version,
        )

    def _answer(self, form: negotiation.Form, obj: JSON) -> Response:
        body, media = negotiation.encode(form, orjson.dumps(obj))
        return Response(200, body, media or JSON_TYPE, warning_headers([_DEPRECATED]))
