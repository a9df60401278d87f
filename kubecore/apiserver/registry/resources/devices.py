"""Dynamic resource allocation: DeviceClasses, ResourceClaims and their templates, ResourceSlices, DeviceTaintRules."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.resources.generation import ContentGeneration, Unversioned
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import device_claims, devices, names, resource_slices
from kubecore.apiserver.registry.validation.conditions import validate_conditions
from kubecore.apiserver.registry.validation.metadata import validate_template_metadata
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_MOST_CONFIGS, _MOST_CONDITIONS = 32, 8


def _spec(obj: JSON) -> JSON:
    """The object's own spec; an empty one is put there if it has none."""
    spec: JSON | None = obj.get("spec")
    if spec is None:
        spec = obj["spec"] = {}
    return spec


class DeviceClassStrategy(Strategy):
    resource_key = "deviceclasses.resource.k8s.io"
    returns_deleted = True
    name_errors = staticmethod(names.long_name)
    checks_generate_name = False

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        # Of a feature that v1.35 does not switch on.
        _spec(obj).pop("extendedResourceName", None)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        self.prepare_for_create(ctx, obj)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj["spec"]
        devices.validate_selectors(problems, spec.get("selectors") or [], "spec.selectors")
        if ctx.operation == "CREATE":
            self._configs(problems, spec, stored=False)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, spec, before = Problems(), obj["spec"], old.get("spec") or {}
        self._configs(problems, spec, stored=same(spec.get("config"), before.get("config")))
        return problems

    @staticmethod
    def _configs(problems: Problems, spec: JSON, *, stored: bool) -> None:
        def check(config: JSON, path: str) -> None:
            devices.validate_configuration(problems, config, path, stored=stored)

        devices.validate_each(problems, spec.get("config") or [], "spec.config", check, most=_MOST_CONFIGS)


def _admin_access(ctx: RequestContext, problems: Problems, indexes: list[int], path: str) -> None:
    if indexes:
        namespace = ctx.get("namespaces", "", ctx.namespace)
        devices.validate_admin_access(problems, namespace, f"{path}[{indexes[0]}].adminAccess")


class ResourceClaimStrategy(Unversioned):
    resource_key = "resourceclaims.resource.k8s.io"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        device_claims.default_claim(_spec(obj))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        device_claims.drop_unsupported(obj["spec"])

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        device_claims.drop_unsupported(obj["spec"])

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        if obj.get("status") is not None:
            device_claims.prepare_claim_status(obj["status"], old.get("status") or {})

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        if ctx.operation == "CREATE":
            _admin_access(ctx, problems, device_claims.admin_requests(obj["spec"]), "spec.devices.requests")
            device_claims.validate_claim(problems, obj["spec"], "spec")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.unchanged("spec", obj.get("spec"), old.get("spec"))
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status, before = Problems(), obj.get("status") or {}, old.get("status") or {}
        if not device_claims.admin_results(before):
            results = device_claims.admin_results(status)
            _admin_access(ctx, problems, results, "status.allocation.devices.results")
        known = device_claims.request_names(obj["spec"])
        deleted = bool(obj["metadata"].get("deletionTimestamp"))
        device_claims.validate_claim_status(problems, status, before, known, deleted=deleted)
        return problems


class ResourceClaimTemplateStrategy(Unversioned):
    resource_key = "resourceclaimtemplates.resource.k8s.io"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        device_claims.default_claim(_spec(_spec(obj)))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        device_claims.drop_unsupported(obj["spec"]["spec"])

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        self.prepare_for_create(ctx, obj)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj["spec"]
        if ctx.operation == "CREATE":
            _admin_access(ctx, problems, device_claims.admin_requests(spec["spec"]), "spec.devices.requests")
        validate_template_metadata(problems, spec.get("metadata") or {}, "spec.metadata")
        device_claims.validate_claim(problems, spec["spec"], "spec.spec")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.unchanged("spec", obj.get("spec"), old.get("spec"))
        return problems


class ResourceSliceStrategy(ContentGeneration):
    """A change counts even if it is one of what is dropped."""

    resource_key = "resourceslices.resource.k8s.io"
    returns_deleted = True

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        super().prepare_for_create(ctx, obj)
        resource_slices.drop_unsupported(_spec(obj))

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        if not same(_spec(obj), old.get("spec")):
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1
        resource_slices.drop_unsupported(obj["spec"])

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        resource_slices.validate_slice(problems, obj["spec"])
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        resource_slices.validate_slice_update(problems, obj["spec"], old.get("spec") or {})
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        driver = obj["spec"].get("driver") or ""
        if driver == driver.lower():
            return []
        return [f'spec.driver: driver names should be lowercase; "{driver}" contains uppercase characters']


class DeviceTaintRuleStrategy(Strategy):
    resource_key = "devicetaintrules.resource.k8s.io"
    returns_deleted = True

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        self._stamp(ctx, obj)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        self._stamp(ctx, obj)

    @staticmethod
    def _stamp(ctx: RequestContext, obj: JSON) -> None:
        spec = _spec(obj)
        taint = spec.get("taint")
        if taint is None:
            taint = spec["taint"] = {}
        taint["timeAdded"] = taint.get("timeAdded") or ctx.now

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj["spec"]
        devices.validate_taint_selector(problems, spec.get("deviceSelector") or {}, "spec.deviceSelector")
        if ctx.operation == "CREATE":
            devices.validate_taint(problems, spec["taint"], None, "spec.taint")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        devices.validate_taint(problems, obj["spec"]["taint"], old["spec"].get("taint"), "spec.taint")
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, conditions = Problems(), (obj.get("status") or {}).get("conditions") or []
        validate_conditions(problems, conditions, "status.conditions")
        if len(conditions) > _MOST_CONDITIONS:
            problems.too_many("status.conditions", len(conditions), _MOST_CONDITIONS)
        return problems
