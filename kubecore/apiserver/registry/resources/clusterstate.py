"""LeaseCandidates, StorageVersions, StorageVersionMigrations and Workloads."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import cluster_state, names
from kubecore.apiserver.registry.validation.metadata import validate_finalizers
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class LeaseCandidateStrategy(Unversioned):
    resource_key = "leasecandidates.coordination.k8s.io"
    allow_create_on_update = True
    allow_unconditional_update = False
    any_finalizer = True
    name_errors = staticmethod(names.config_key)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        cluster_state.validate_lease_candidate(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        lease, before = ((one.get("spec") or {}).get("leaseName") or "" for one in (obj, old))
        problems.unchanged("spec.leaseName", lease, before)
        return problems


class StorageVersionStrategy(Unversioned):
    resource_key = "storageversions.internal.apiserver.k8s.io"
    allow_unconditional_update = False
    # An update may bring any, a create may not.
    any_finalizer = True
    name_errors = staticmethod(cluster_state.storage_version_name)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation == "CREATE":
            validate_finalizers(problems, obj["metadata"].get("finalizers") or [], any_finalizer=False)
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        cluster_state.validate_storage_version_status(problems, obj.get("status") or {})
        return problems


class StorageVersionMigrationStrategy(Unversioned):
    resource_key = "storageversionmigrations.storagemigration.k8s.io"
    allow_unconditional_update = False

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        cluster_state.validate_migration(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.unchanged("spec", obj.get("spec"), old.get("spec"))
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        cluster_state.validate_migration_status(problems, obj.get("status") or {}, old.get("status") or {})
        return problems


class WorkloadStrategy(Unversioned):
    resource_key = "workloads.scheduling.k8s.io"

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        cluster_state.validate_workload(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        cluster_state.validate_workload_update(problems, obj.get("spec") or {}, old.get("spec") or {})
        return problems
