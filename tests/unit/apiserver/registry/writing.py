"""Runs a strategy's hooks in the store's order, without a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from kubecore.api import errors
from kubecore.apiserver.registry.resources import Strategies
from kubecore.apiserver.registry.strategy import Finish, RequestContext, Strategy
from kubecore.apiserver.registry.validation.metadata import validate_metadata, validate_metadata_update
from kubecore.clock import VirtualClock

JSON = dict[str, Any]


class NoUser:
    username, uid = "tester", "u1"
    groups: tuple[str, ...] = ("testers",)
    extra: dict[str, tuple[str, ...]] = {}


class NothingElse:
    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None:
        return None

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]:
        return []


class Writer:
    """Creates and updates objects of one resource through its strategy, as the store would."""

    def __init__(
        self, key: str, *, namespaced: bool = True, strategies: Strategies | None = None, api_version: str = ""
    ) -> None:
        """`api_version` is the version a client speaks, where that matters."""
        self.key, self.namespaced, self.api_version = key, namespaced, api_version
        self.strategy = (strategies or Strategies(service_cidr="10.0.0.0/24")).strategy_for(key)

    def context(self, verb: str, name: str, subresource: str = "") -> RequestContext:
        ctx = RequestContext(
            user=NoUser(),
            verb=verb,
            resource_key=self.key,
            namespace="default" if self.namespaced else "",
            name=name,
            clock=VirtualClock(),
            now="2026-01-01T00:00:00Z",
            lookup=NothingElse(),
            subresource=subresource,
            api_version=self.api_version,
        )
        ctx.operation = verb.upper()
        return ctx

    def create(self, obj: JSON) -> JSON:
        """The stored object. Raises StatusError (422) for an invalid one."""
        obj = deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        metadata.setdefault("uid", "0000-1")
        if self.namespaced:
            metadata.setdefault("namespace", "default")
        ctx = self.context("create", metadata.get("name", ""))
        self.strategy.default(obj)
        if self.strategy.tracks_generation and "spec" in obj:
            metadata["generation"] = 1
        if not getattr(self.strategy, "status_on_create", False):
            obj.pop("status", None)
        with _finishing(self.strategy.begin_create(ctx, obj)):
            self.strategy.prepare_for_create(ctx, obj)
            causes = validate_metadata(obj, namespaced=self.namespaced, name_errors=self.strategy.name_errors)
            causes += self.strategy.validate(ctx, obj)
            if causes:
                raise errors.invalid("Kind", metadata.get("name", ""), causes)
        self.strategy.after_create(ctx, obj)
        return obj

    def update(self, old: JSON, new: JSON, *, subresource: str = "") -> JSON:
        """The stored object after an update, through a subresource if one is named."""
        obj, metadata = deepcopy(new), new["metadata"]
        ctx = self.context("update", metadata["name"], subresource)
        strategy = self.strategy
        if subresource == "status":
            obj = {**deepcopy(old), "status": obj.get("status", {}), "metadata": obj["metadata"]}
            strategy.default(obj)
            strategy.prepare_for_status_update(ctx, obj, old)
            causes = strategy.validate_status_update(ctx, obj, old)
        else:
            if subresource:
                found = strategy.subresource_strategy(subresource)
                assert found is not None
                strategy = found
            elif "status" in old:
                obj["status"] = deepcopy(old["status"])
            strategy.default(obj)
            with _finishing(strategy.begin_update(ctx, obj, old)):
                self._check_update(ctx, strategy, obj, old)
            return obj
        if causes:
            raise errors.invalid("Kind", metadata["name"], causes)
        return obj

    def _check_update(self, ctx: RequestContext, strategy: Strategy, obj: JSON, old: JSON) -> None:
        strategy.prepare_for_update(ctx, obj, old)
        causes = validate_metadata(obj, namespaced=self.namespaced, name_errors=strategy.name_errors)
        causes += validate_metadata_update(obj, old)
        causes += [*strategy.validate(ctx, obj), *strategy.validate_update(ctx, obj, old)]
        if causes:
            raise errors.invalid("Kind", obj["metadata"]["name"], causes)

    def problems(self, obj: JSON) -> list[str]:
        """What creating it would find wrong, as `field: message`."""
        return _problems(lambda: self.create(obj))

    def update_problems(self, old: JSON, new: JSON, *, subresource: str = "") -> list[str]:
        return _problems(lambda: self.update(old, new, subresource=subresource))


@contextmanager
def _finishing(finish: Finish | None) -> Iterator[None]:
    """Tells whether what was begun has succeeded."""
    done = False
    try:
        yield
        done = True
    finally:
        if finish is not None:
            finish(done)


def _problems(write: Any) -> list[str]:
    try:
        write()
    except errors.StatusError as error:
        return [f"{cause.get('field', '')}: {cause['message']}" for cause in error.causes]
    return []


def changed(obj: JSON, path: str, value: Any) -> JSON:
    """A copy with the value at a dotted path replaced, numbers being list indexes; None removes it."""
    copy = deepcopy(obj)
    *parents, last = path.split(".")
    holder: Any = copy
    for step in parents:
        holder = holder[int(step)] if step.isdigit() else holder.setdefault(step, {})
    key: Any = int(last) if last.isdigit() else last
    if value is None:
        holder.pop(key, None)
    else:
        holder[key] = value
    return copy
