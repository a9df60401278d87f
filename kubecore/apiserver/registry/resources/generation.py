"""Kinds whose content is not under `spec`, but whose generation counts its changes all the same."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.strategy import RequestContext, Strategy

JSON = dict[str, Any]

_NOT_CONTENT = frozenset({"metadata", "status", "apiVersion", "kind"})


class ContentGeneration(Strategy):
    """Generation 1 on create, one more with every change outside metadata and status."""

    tracks_generation = False

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        fields = (obj.keys() | old.keys()) - _NOT_CONTENT
        if any(obj.get(field) != old.get(field) for field in fields):
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1


class Unversioned(Strategy):
    """Kinds with a spec that keep no generation."""

    tracks_generation = False
