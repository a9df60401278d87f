"""Keeps the default objects as they should be: what is missing is made, what has drifted is brought back, unless an
administrator has made it his own, and what earlier versions had made is taken away.

After upstream kubernetes `pkg/registry/flowcontrol/ensurer`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.apiserver.flow_control.defaults import AUTO_UPDATE, LEVELS, SCHEMAS, Wanted, wanted
from kubecore.apiserver.registry import deletion
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.options import DeleteOptions
from kubecore.apiserver.registry.own_requests import own_request
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.writes import Change

if TYPE_CHECKING:
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store

JSON = dict[str, Any]

_MANAGER = "api-priority-and-fairness-config-producer-v1"
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def context(registry: Registry, key: str, name: str, verb: str, manager: str = _MANAGER) -> RequestContext:
    return own_request(registry, key, verb, name, manager=manager)


async def ensure(registry: Registry) -> None:
    """Raises StatusError for what could not be written; the rest is then as it should be all the same."""
    everything = wanted()
    results = await asyncio.gather(*(_ensured(registry, one) for one in everything), return_exceptions=True)
    for failed in [result for result in results if result is not None]:
        raise failed
    names = {(one.resource_key, meta.name(one.obj)) for one in everything}
    for key in (SCHEMAS, LEVELS):
        for obj in registry.list(key):
            if (key, meta.name(obj)) not in names and _said(obj) is True:
                await _removed(registry, key, meta.name(obj))


async def _ensured(registry: Registry, one: Wanted) -> None:
    store, name = _store(registry, one.resource_key), meta.name(one.obj)
    found = store.current("", name)
    try:
        if found is None:
            await store.create(context(registry, one.resource_key, name, "create"), meta.deepcopy(one.obj))
            return
        obj = loads(found.value)
        expected = meta.deepcopy(one.obj)
        store.strategy.default(expected)
        changed = revised(obj, expected["spec"], mandatory=one.mandatory)
        if changed is not None:
            await store.update(context(registry, one.resource_key, name, "update"), Change(lambda *_: changed))
    except errors.StatusError as error:
        # Somebody was faster; what he has made of it is looked at next time.
        if not errors.is_already_exists(error) and not errors.is_conflict(error):
            raise


def revised(obj: JSON, spec: JSON, *, mandatory: bool) -> JSON | None:
    """The object with what it must have; None where it has it. Its resourceVersion stays, so that a change made
    meanwhile is not lost."""
    automatic = mandatory or _updates_itself(obj)
    same_spec = not automatic or _plain(obj.get("spec")) == _plain(spec)
    if same_spec and _said(obj) is automatic:
        return None
    changed: JSON = meta.deepcopy(obj)
    if not same_spec:
        changed["spec"] = meta.deepcopy(spec)
    changed["metadata"].setdefault("annotations", {})[AUTO_UPDATE] = "true" if automatic else "false"
    return changed


def _updates_itself(obj: JSON) -> bool:
    """Whether nobody has made it his own: by the annotation, or, without one, by having changed it."""
    said = _said(obj)
    return bool(obj["metadata"].get("generation") == 1) if said is None else said


def _said(obj: JSON) -> bool | None:
    """What the annotation says, if it is there and a boolean."""
    value = meta.annotations(obj).get(AUTO_UPDATE)
    return True if value in _TRUE else False if value in _FALSE else None


def _plain(value: Any) -> Any:
    """Without what means the same as nothing."""
    if isinstance(value, dict):
        plain = {name: _plain(one) for name, one in value.items()}
        return {name: one for name, one in plain.items() if one is not False and one not in (None, "", [], {})}
    return [_plain(one) for one in value] if isinstance(value, list) else value


async def _removed(registry: Registry, key: str, name: str) -> None:
    try:
        await deletion.delete(_store(registry, key), context(registry, key, name, "delete"), DeleteOptions())
    except errors.StatusError as error:
        if not errors.is_not_found(error):
            raise


def _store(registry: Registry, key: str) -> Store:
    store = registry.store(key)
    assert store is not None, f"{key} is not stored"
    return store
