"""Leases."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class LeaseStrategy(Unversioned):
    resource_key = "leases.coordination.k8s.io"
    allow_create_on_update = True
    # Who does not say what they saw cannot take somebody's lease.
    allow_unconditional_update = False
    any_finalizer = True

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        _drop_coordinated(obj)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        _drop_coordinated(obj)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        problems.positive("spec.leaseDurationSeconds", seconds)
        problems.not_negative("spec.leaseTransitions", transitions)
        return problems


def _drop_coordinated(obj: JSON) -> None:
    """Only with the gate CoordinatedLeaderElection."""
    for field in ("strategy", "preferredHolder"):
        (obj.get("spec") or {}).pop(field, None)
