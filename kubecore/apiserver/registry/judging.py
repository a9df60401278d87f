"""What is wrong with an object that is to be stored: what its kind's strategy says, told with the object's name."""

from __future__ import annotations

from kubecore.api import errors
from kubecore.api.errors import Cause
from kubecore.api.scheme import Resource
from kubecore.apiserver.registry.strategy import JSON, RequestContext, Strategy
from kubecore.apiserver.registry.validation.metadata import validate_metadata, validate_metadata_update
from kubecore.apiserver.registry.validation.problems import Enough


def judge_new(ctx: RequestContext, resource: Resource, strategy: Strategy, obj: JSON) -> None:
    """Raises 422 for a new object that is not right."""
    try:
        causes = _of_metadata(strategy, resource, obj)
        causes += strategy.validate(ctx, obj)
    except Enough as enough:
        causes = enough.found
    if causes:
        raise errors.invalid(resource.kind, ctx.name, causes, group=resource.group)


def judge_update(ctx: RequestContext, resource: Resource, strategy: Strategy, obj: JSON, old: JSON) -> None:
    """Raises 422 for an update, of the object or its status, that is not right."""
    try:
        causes = _of_metadata(strategy, resource, obj)
        causes += validate_metadata_update(obj, old)
        if ctx.subresource == "status":
            causes += strategy.validate_status_update(ctx, obj, old)
        else:
            causes += strategy.validate(ctx, obj)
            causes += strategy.validate_update(ctx, obj, old)
    except Enough as enough:
        causes = enough.found
    if causes:
        raise errors.invalid(resource.kind, ctx.name, causes, group=resource.group)


def _of_metadata(strategy: Strategy, resource: Resource, obj: JSON) -> list[Cause]:
    return validate_metadata(
        obj,
        namespaced=resource.namespaced,
        name_errors=strategy.name_errors,
        any_finalizer=strategy.any_finalizer,
        checks_generate_name=strategy.checks_generate_name,
    )
