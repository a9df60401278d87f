"""The options of the operation that a request comes to, whatever it asked with: of a patch those of an update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.apiserver.admission.chain import CONNECT
from kubecore.apiserver.registry.options import DeleteOptions, WriteOptions

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_KINDS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


def operation_options(ctx: RequestContext, operation: str) -> JSON | None:
    """None of a request to connect, which is about options."""
    if operation == CONNECT:
        return None
    made: JSON = {"kind": _KINDS.get(operation, "CreateOptions"), "apiVersion": "meta.k8s.io/v1"}
    given = ctx.options
    if isinstance(given, DeleteOptions):
        _deletion(made, given)
    if ctx.dry_run:
        made["dryRun"] = ["All"]
    if isinstance(given, WriteOptions):
        for name in ("fieldManager", "fieldValidation"):
            if given.params.get(name):
                made[name] = given.params[name]
    elif operation != "DELETE" and ctx.field_manager:
        made["fieldManager"] = ctx.field_manager
    return made


def _deletion(made: JSON, given: DeleteOptions) -> None:
    if given.grace is not None:
        made["gracePeriodSeconds"] = given.grace
    preconditions = {"uid": given.uid, "resourceVersion": given.resource_version}
    if any(preconditions.values()):
        made["preconditions"] = {name: value for name, value in preconditions.items() if value}
    if given.orphan is not None:
        made["orphanDependents"] = given.orphan
    if given.propagation:
        made["propagationPolicy"] = given.propagation
