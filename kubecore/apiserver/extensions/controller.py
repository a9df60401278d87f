"""The lifecycle of definitions, level-triggered: names, serving, conditions, and the end.

It lives in the API server's process and on its loop, follows the definitions through the watch cache, and takes them
one after another: naming is a matter between definitions. A definition is served before its condition says so, so that
who has waited for Established finds it. After upstream k8s.io/apiextensions-apiserver pkg/controller/{status,
establish,apiapproval,finalizer}, which are one controller here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.apiserver.extensions import naming
from kubecore.apiserver.extensions.cleanup import Cleanup
from kubecore.apiserver.registry.codec import dumps, loads
from kubecore.apiserver.registry.custom import definition as definitions
from kubecore.apiserver.registry.custom.definition import DEFINITIONS
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.resources.customresourcedefinitions import CLEANUP, is_established
from kubecore.apiserver.registry.validation.definitions.conversion import is_ca_bundle
from kubecore.apiserver.registry.validation.definitions.naming import approval, is_protected
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore.apiserver.extensions.serving import CustomResources
    from kubecore.apiserver.handlers.watching import WatchHub
    from kubecore.apiserver.registry.registry import Registry

log = logging.getLogger("kubecore.apiserver.extensions")

JSON = dict[str, Any]

_RETRY_SECONDS = 1.0


class DefinitionController:
    """Runs until cancelled. Keys are names of definitions."""

    def __init__(self, registry: Registry, serving: CustomResources, hub: WatchHub) -> None:
        self._registry = registry
        self._serving = serving
        self._hub = hub
        self._clock = registry.clock
        self._queue: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._cleanup = Cleanup(registry, serving, hub, self.enqueue)
        # Definitions by group, as they were last seen: what names are taken is asked again and again.
        self._seen: dict[str, JSON] = {}

    def enqueue(self, name: str) -> None:
        self._queue[name] = None
        self._wake.set()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(), name="definitions watch")
                group.create_task(self._work(), name="definitions work")
        finally:
            await self._cleanup.close()

    async def _follow(self) -> None:
        while True:
            watch = self._hub.query(DEFINITIONS, "")
            async for batch in watch.batches():
                for event in batch:
                    if event.type not in ("BOOKMARK", "ERROR"):
                        self.enqueue(loads(event.object)["metadata"]["name"])
            # It fell behind: what it missed may be gone by now.
            for name in self._seen:
                self.enqueue(name)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            names = list(self._queue)
            self._queue.clear()
            await self._take(names)

    async def _take(self, names: list[str]) -> None:
        """Serves what is to be served, has discovery tell of it, and only then writes conditions: each once for all."""
        changed, due = False, []
        for name in names:
            try:
                served, step = await self._judge(name)
                changed |= served
                due.append((name, step))
            except Exception:
                self._retry(name)
        if changed:
            self._serving.tell()
        results = await asyncio.gather(*(step for _, step in due if step is not None), return_exceptions=True)
        for (name, _), result in zip([one for one in due if one[1] is not None], results, strict=True):
            if isinstance(result, Exception):
                self._retry(name, result)

    def _retry(self, name: str, error: Exception | None = None) -> None:
        log.error("definition %s", name, exc_info=error or True)
        self._clock.call_later(_RETRY_SECONDS, partial(self.enqueue, name))

    async def _judge(self, name: str) -> tuple[bool, Coroutine[Any, Any, None] | None]:
        """Whether what is served has changed, and what remains to be done."""
        stored = self._registry.cacher.get(DEFINITIONS, "", name)
        if stored is None:
            self._cleanup.forget(name)
            gone = self._seen.pop(name, None)
            if gone is not None:
                self._reconsider(gone)
            return self._serving.remove(name), None
        definition: JSON = loads(stored.value)
        self._seen[name] = _names_only(definition)
        wanted = {**definition, "status": meta.deepcopy(definition.get("status") or {})}
        now = meta.format_time(self._clock.now())
        self._give_names(wanted, now)
        _judge_approval(wanted, now)
        changed = False
        if naming.names_accepted(wanted) or is_established(wanted):
            changed = await self._serving.put(definitions.parse(dumps(wanted)))
            _establish(wanted, now)
        before, after = definition.get("status") or {}, wanted["status"]
        if after != before:
            self._seen[name] = _names_only(wanted)
            if after.get("acceptedNames") != before.get("acceptedNames"):
                self._reconsider(wanted)
            return changed, self._write_status(name, wanted)
        if meta.is_deleting(definition) and CLEANUP in meta.finalizers(definition):
            return changed, self._cleanup.proceed(definition)
        return changed, None

    # --- names

    def _give_names(self, definition: JSON, now: str) -> None:
        """Sets acceptedNames, NamesAccepted, and Established as far as names decide it."""
        status = definition.setdefault("status", {})
        if status.get("acceptedNames") == definition["spec"]["names"]:
            return
        group = definition["spec"]["group"]
        others = [seen for seen in self._seen.values() if seen["spec"]["group"] == group]
        verdict = naming.judge(definition, naming.taken_names(others))
        status["acceptedNames"] = verdict.names
        accepted = "True" if verdict.accepted else "False"
        meta.set_condition(definition, "NamesAccepted", accepted, verdict.reason, verdict.message, now=now)
        if is_established(definition):
            return
        if verdict.accepted:
            message = "the initial names have been accepted"
            meta.set_condition(definition, "Established", "False", "Installing", message, now=now)
        elif meta.condition(definition, "Established") is None:
            meta.set_condition(definition, "Established", "False", "NotAccepted", "not all names are accepted", now=now)

    def _reconsider(self, definition: JSON) -> None:
        """Names may have become free: others of the group that wait for some have another chance."""
        group = definition["spec"]["group"]
        for name, seen in self._seen.items():
            if name == definition["metadata"]["name"] or seen["spec"]["group"] != group:
                continue
            if seen["spec"]["names"] != seen["status"]["acceptedNames"]:
                self.enqueue(name)

    # --- writing

    async def _write_status(self, name: str, wanted: JSON) -> None:
        store = self._registry.store(DEFINITIONS)
        assert store is not None
        context = own_request(self._registry, DEFINITIONS, "update", name, subresource="status", exempt=False)
        try:
            # Of the rest the store keeps what is there.
            told = {"metadata": wanted["metadata"], "status": wanted["status"]}
            await store.update(context, Change(lambda old, stored: meta.deepcopy(told)))
        except StatusError as error:
            # Changed or gone meanwhile: the watch says so, too.
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                raise


def _names_only(definition: JSON) -> JSON:
    """What of a definition is needed to judge the names of others."""
    return {
        "metadata": {"name": definition["metadata"]["name"]},
        "spec": {"group": definition["spec"]["group"], "names": definition["spec"]["names"]},
        "status": {"acceptedNames": (definition.get("status") or {}).get("acceptedNames")},
    }


def _establish(definition: JSON, now: str) -> None:
    """The definition's names are accepted and its resource is served."""
    if is_established(definition):
        return
    config = ((definition["spec"].get("conversion") or {}).get("webhook") or {}).get("clientConfig") or {}
    if not is_ca_bundle(config.get("caBundle") or ""):
        message = "The conversion webhook CABundle is invalid"
        meta.set_condition(definition, "Established", "False", "InvalidCABundle", message, now=now)
        return
    message = "the initial names have been accepted"
    meta.set_condition(definition, "Established", "True", "InitialNamesAccepted", message, now=now)


_APPROVALS = {
    "invalid": ("False", "InvalidAnnotation"),
    "missing": ("False", "MissingAnnotation"),
    "approved": ("True", "ApprovedAnnotation"),
    "bypassed": ("False", "UnapprovedAnnotation"),
}


def _judge_approval(definition: JSON, now: str) -> None:
    if is_protected(definition["spec"]["group"]):
        state, message = approval(meta.annotations(definition))
        kind = "KubernetesAPIApprovalPolicyConformant"
        meta.set_condition(definition, kind, *_APPROVALS[state], message, now=now)
