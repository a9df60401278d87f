"""Brings the bootstrap objects into being at start: what is missing is made, what has drifted is repaired.

All writes of a stage are handed over together, so that the store commits them as one. After upstream
pkg/registry/rbac/rest/storage_rbac.go: rules and subjects are only ever added, and objects whose autoupdate
annotation is "false" are left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.apiserver.bootstrap import objects
from kubecore.apiserver.bootstrap.objects import Advertised
from kubecore.apiserver.registry.allocation.ip_addresses import MANAGED_BY_LABEL, MANAGER, RESOURCE
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.companions import take_away
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.strategy import Companion, RequestContext
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store

log = logging.getLogger(__name__)

JSON = dict[str, Any]

_CIDRS = "servicecidrs.networking.k8s.io"
_AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"


class Bootstrap:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ensure_base(self) -> None:
        """Namespaces first, since the others are admitted into them; then policy and classes."""
        await self._all([("namespaces", obj) for obj in objects.namespaces()])
        await self._all(
            [
                *objects.policy(),
                *(("priorityclasses.scheduling.k8s.io", obj) for obj in objects.priority_classes()),
                *(("runtimeclasses.node.k8s.io", obj) for obj in objects.runtime_classes()),
            ]
        )

    async def ensure_kubernetes(self, advertised: Advertised) -> None:
        """Service default/kubernetes and where it leads, which may differ from start to start, and the ranges of
        addresses, which stay as they were made first but for a second one."""
        await self._drop_leaked_addresses()
        await self._ensure_ranges(advertised)
        await self._all([("services", objects.kubernetes_service(advertised)), *_leads_to(advertised)])
        await self.ensure_trust(advertised.trust)

    async def keep_kubernetes(self, advertised: Advertised) -> bool:
        """While we run, the Service is its owner's to change, but there it is, and it leads here. False while it cannot
        be, since the addresses of the one before are not free yet: they are given back after it has gone."""
        service = objects.kubernetes_service(advertised)
        missing = self._registry.get("services", "default", meta.name(service)) is None
        await self._ensure_ranges(advertised)
        await self._all(_leads_to(advertised))
        if missing:
            try:
                await self._ensure("services", service)
            except errors.StatusError as error:
                if not _is_about_addresses(error) or self._is_anothers(service):
                    raise
                return False
        return True

    def _is_anothers(self, service: JSON) -> bool:
        """Whether an address that the Service is to have belongs to something else."""
        wanted, name = set(service["spec"]["clusterIPs"]), (meta.namespace(service), meta.name(service))
        for address in wanted:
            found = self._registry.get(RESOURCE, "", address)
            parent = ((found or {}).get("spec") or {}).get("parentRef") or {}
            if found is not None and (parent.get("namespace"), parent.get("name")) != name:
                return True
        others = (one for one in self._registry.list("services") if (meta.namespace(one), meta.name(one)) != name)
        return any(wanted.intersection(one["spec"].get("clusterIPs") or ()) for one in others)

    async def keep_namespaces(self) -> None:
        """Those that may be deleted, as kube-node-lease, come again once they are gone."""
        wanted = [("namespaces", obj) for obj in objects.namespaces()]
        await self._all([(key, obj) for key, obj in wanted if self._registry.get(key, "", meta.name(obj)) is None])

    async def ensure_trust(self, trust: Mapping[str, str]) -> None:
        """What extension API servers trust us by, which may change while we run."""
        await self._all([("configmaps", objects.authentication_config(trust))])

    async def _ensure_ranges(self, advertised: Advertised) -> None:
        """A cluster of one family may be started with a second range later, and then has both."""
        now = meta.format_time(self._registry.clock.now())
        wanted, found = objects.kubernetes_cidr(advertised, now), self._registry.get(_CIDRS, "", "kubernetes")
        if found is None:
            await self._all([(_CIDRS, wanted)])
            return
        held, given = list(found["spec"].get("cidrs") or []), wanted["spec"]["cidrs"]
        if held == given or found["metadata"].get("deletionTimestamp"):
            return
        if held != given[:1]:
            log.warning("the default ServiceCIDR %s does not match the ranges of the command line %s", held, given)
            return
        store = self._registry.store(_CIDRS)
        assert store is not None
        change = Change(lambda old, _: {**old, "spec": {**old["spec"], "cidrs": given}})
        await store.update(self._context(store, found, "update"), change)

    async def _drop_leaked_addresses(self) -> None:
        """IPAddresses of Services that a server which was killed had not stored yet: nobody is about to store them."""
        leaked = []
        for obj in self._registry.list(RESOURCE, label_selector=f"{MANAGED_BY_LABEL}={MANAGER}"):
            parent = (obj.get("spec") or {}).get("parentRef") or {}
            service = self._registry.get("services", parent.get("namespace") or "", parent.get("name") or "")
            if service is None:
                leaked.append(Companion(RESOURCE, obj))
        if leaked:
            store = self._registry.store(RESOURCE)
            assert store is not None
            await take_away(self._registry, self._context(store, leaked[0].obj, "delete"), leaked)

    async def _all(self, wanted: Sequence[tuple[str, JSON]]) -> None:
        results = await asyncio.gather(*(self._ensure(key, obj) for key, obj in wanted), return_exceptions=True)
        for (key, obj), result in zip(wanted, results, strict=True):
            if isinstance(result, BaseException):
                log.error("bootstrap of %s %s failed: %s", key, meta.key(obj), result)
        failed = next((result for result in results if isinstance(result, BaseException)), None)
        if failed is not None:
            raise failed

    async def _ensure(self, key: str, wanted: JSON) -> None:
        store = self._registry.store(key)
        assert store is not None, f"{key} is not stored"
        found = store.current(meta.namespace(wanted), meta.name(wanted))
        if found is None:
            try:
                await store.create(self._context(store, wanted, "create"), meta.deepcopy(wanted))
            except errors.StatusError as error:
                if not errors.is_already_exists(error):
                    raise
        elif needs_change(wanted, loads(found.value)):
            change = Change(lambda old, _: merged(wanted, meta.deepcopy(old)))
            await store.update(self._context(store, wanted, "update"), change)

    def _context(self, store: Store, obj: JSON, verb: str) -> RequestContext:
        key, namespace = store.resource.key, meta.namespace(obj)
        return own_request(self._registry, key, verb, meta.name(obj), namespace=namespace)


def _is_about_addresses(error: errors.StatusError) -> bool:
    return any(str(cause.get("field")).startswith("spec.clusterIP") for cause in error.causes)


def _leads_to(advertised: Advertised) -> list[tuple[str, JSON]]:
    return [
        ("endpoints", objects.kubernetes_endpoints(advertised)),
        ("endpointslices.discovery.k8s.io", objects.kubernetes_slice(advertised)),
    ]


def needs_change(wanted: JSON, found: JSON) -> bool:
    return bool(merged(wanted, meta.deepcopy(found)) != found)


def merged(wanted: JSON, found: JSON) -> JSON:
    """`found`, changed to hold what the bootstrap wants."""
    if meta.annotations(found).get(_AUTOUPDATE) == "false":
        return found
    for part in ("labels", "annotations"):
        given = wanted["metadata"].get(part)
        if given:
            found["metadata"][part] = {**given, **(found["metadata"].get(part) or {})}
    for part in ("rules", "subjects"):
        if part in wanted:
            held = found.get(part) or []
            missing = [one for one in wanted[part] if not _held(one, held)]
            if missing:
                found[part] = [*held, *missing]
    for part in ("subsets", "endpoints", "ports", "addressType", "data"):
        if part in wanted and not _covers(found.get(part), wanted[part]):
            found[part] = meta.deepcopy(wanted[part])
    if wanted["kind"] == "Service":
        ports = found["spec"].get("ports") or []
        if not ports or ports[0].get("targetPort") != wanted["spec"]["ports"][0]["targetPort"]:
            found["spec"]["ports"] = meta.deepcopy(wanted["spec"]["ports"])
    return found


def _held(wanted: JSON, held: Sequence[JSON]) -> bool:
    return any(_covers(one, wanted) for one in held)


def _covers(found: Any, wanted: Any) -> bool:
    """Everything wanted is there; defaults may have been added."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_covers(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_covers(one, other) for one, other in zip(found, wanted, strict=True))
        )
    return bool(found == wanted)
