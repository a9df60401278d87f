"""Events, in the core form they are stored in."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.events import (
    any_name,
    validate_event,
    validate_new_event,
    validate_strict_update,
)
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

CORE = "v1"


class EventStrategy(Strategy):
    resource_key = "events"
    tracks_generation = False
    allow_create_on_update = True
    # Rules of names and finalizers came with events.k8s.io only; its strict checks bring them back.
    name_errors = staticmethod(any_name)
    any_finalizer = True
    checks_generate_name = False
    has_dependents = False

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, strict = Problems(), ctx.api_version not in ("", CORE)
        validate_event(problems, obj, strict=strict)
        if strict and ctx.operation != "UPDATE":
            validate_new_event(problems, obj)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.api_version not in ("", CORE):
            validate_strict_update(problems, obj, old)
        return problems
