"""Namespaces: they stay until the namespace controller has emptied them and takes its finalizer away."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"


class NamespaceStrategy(Strategy):
    resource_key = "namespaces"
    tracks_generation = False
    name_errors = staticmethod(names.dns_label)
    deletes_in_own_way = True

    def default(self, obj: JSON) -> None:
        # A generated name gets its label when it is final, after validation.
        if not obj["metadata"].get("generateName"):
            self.canonicalize(obj)
        status = obj.setdefault("status", {})
        status["phase"] = status.get("phase") or "Active"

    def canonicalize(self, obj: JSON) -> None:
        """The label that names the namespace, which nobody can change."""
        metadata = obj["metadata"]
        if metadata.get("name"):
            labels = metadata.get("labels")
            if labels is None:
                labels = metadata["labels"] = {}
            labels[NAME_LABEL] = metadata["name"]

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            spec = obj["spec"] = {}
        finalizers = spec.get("finalizers") or []
        if FINALIZER not in finalizers:
            spec["finalizers"] = [*finalizers, FINALIZER]
        obj["status"] = {"phase": "Active"}

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        # Only the finalize subresource changes these.
        if ctx.subresource != "finalize":
            obj["spec"] = {**(obj.get("spec") or {}), "finalizers": (old.get("spec") or {}).get("finalizers") or []}
            if not obj["spec"]["finalizers"]:
                del obj["spec"]["finalizers"]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        for index, finalizer in enumerate((obj.get("spec") or {}).get("finalizers") or []):
            # Upstream says which only where it is about nothing else.
            path = f"spec.finalizers[{index}]" if ctx.subresource == "finalize" else "spec.finalizers"
            problems.check(path, finalizer, names.qualified_name)
            if "/" not in finalizer and finalizer != FINALIZER:
                detail = "name is neither a standard finalizer name nor is it fully qualified"
                problems.invalid(path, finalizer, detail)
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        phase, path = (obj.get("status") or {}).get("phase"), "status.Phase"
        if obj["metadata"].get("deletionTimestamp"):
            if phase != "Terminating":
                detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
                problems.invalid(path, phase or "", detail)
        elif phase != "Active":
            problems.invalid(path, phase or "", "may only be 'Active' if `deletionTimestamp` is empty")
        return problems

    # --- deletion, after kubernetes pkg/registry/core/namespace/storage (REST.Delete)

    def holds_deletion(self, obj: JSON) -> bool:
        """The first request only marks it, whatever its finalizers are."""
        metadata = obj["metadata"]
        held = metadata.get("finalizers") or (obj.get("spec") or {}).get("finalizers")
        return bool(held) or not metadata.get("deletionTimestamp")

    def keeps_deletion(self, obj: JSON) -> bool:
        return bool((obj.get("spec") or {}).get("finalizers"))

    def mark_deleting(self, ctx: RequestContext, obj: JSON) -> None:
        obj.setdefault("status", {})["phase"] = "Terminating"
        # Upstream marks it with a deletion of its own, which knows no grace.
        obj["metadata"].pop("deletionGracePeriodSeconds", None)
