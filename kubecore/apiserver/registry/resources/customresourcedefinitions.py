"""CustomResourceDefinitions: what is filled in, what is refused, and how one goes.

After upstream k8s.io/apiextensions-apiserver pkg/registry/customresourcedefinition/{strategy,etcd}.go and
pkg/apis/apiextensions/v1/defaults.go. Serving what they define is kubecore.apiserver.extensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.api import meta
from kubecore.api.errors import Cause
from kubecore.api.schemas import CustomSchema
from kubecore.apiserver.registry.codec import dumps
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.resources.generation import ContentGeneration
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.definitions import conversion, naming, versions
from kubecore.apiserver.registry.validation.definitions.formats import unrecognized_formats
from kubecore.apiserver.registry.validation.definitions.internal import Part
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_HTTPS = 443


class CustomResourceDefinitionStrategy(ContentGeneration):
    resource_key = "customresourcedefinitions.apiextensions.k8s.io"
    allow_unconditional_update = False
    any_finalizer = True
    deletion_counts = False

    def default(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        names = spec.setdefault("names", {})
        kind = names.get("kind") or ""
        if not names.get("singular") and kind:
            names["singular"] = kind.lower()
        if not names.get("listKind") and kind:
            names["listKind"] = f"{kind}List"
        if spec.get("conversion") is None:
            spec["conversion"] = {"strategy": "None"}
        if spec.get("preserveUnknownFields") is False:
            del spec["preserveUnknownFields"]
        webhook = spec["conversion"].get("webhook")
        if webhook is not None and webhook.get("clientConfig") is None and not webhook.get("conversionReviewVersions"):
            # Nothing is left of it in the version that upstream judges.
            del spec["conversion"]["webhook"]
        service = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
        if service is not None and service.get("port") is None:
            service["port"] = _HTTPS

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        super().prepare_for_create(ctx, obj)
        obj["status"] = {"acceptedNames": {"kind": "", "plural": ""}, "conditions": None}
        _note_storage_version(obj)

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        super().prepare_for_update(ctx, obj, old)
        _note_storage_version(obj)

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        super().prepare_for_status_update(ctx, obj, old)
        if not (obj.get("status") or {}).get("storedVersions"):
            # By default those that are stored now.
            obj.get("status", {}).pop("storedVersions", None)
            _note_storage_version(obj)

    # --- validation

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        return [] if ctx.operation == "UPDATE" else self._judge(obj, None)

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return self._judge(obj, old)

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        naming.validate_names(problems, (obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")
        return problems

    def _judge(self, obj: JSON, old: JSON | None) -> list[Cause]:
        problems = Problems()
        spec, before = obj["spec"], None if old is None else old["spec"]
        names = spec.get("names") or {}
        if old is None:
            _validate_own_name(problems, obj["metadata"], f"{names.get('plural') or ''}.{spec.get('group') or ''}")
        naming.validate_group(problems, spec.get("group") or "")
        problems.one_of("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"), required=True)
        check = _SchemaCheck(spec, before)
        versions.validate_versions(problems, spec, before, check)
        naming.validate_spec_names(problems, names)
        versions.validate_whole(problems, spec, before, check)
        strategy = (spec.get("conversion") or {}).get("strategy") or ""
        if spec.get("preserveUnknownFields") and strategy != "None":
            detail = "must be None if spec.preserveUnknownFields is true"
            problems.invalid("spec.conversion.strategy", strategy, detail)
        old_conversion = (before or {}).get("conversion") or {}
        conversion.validate_conversion(
            problems,
            spec.get("conversion"),
            any_ca=old is None or not is_established(old) or not _has_good_ca(old_conversion),
            any_review=old is not None and _has_strange_reviews(old_conversion),
        )
        if old is not None and before is not None:
            _validate_immutable(problems, spec, before, established=is_established(old))
        status = obj.get("status") or {}
        naming.validate_names(problems, status.get("acceptedNames") or {}, "status.acceptedNames")
        _validate_stored_versions(problems, status.get("storedVersions") or [], spec.get("versions") or [])
        naming.validate_approval(problems, obj, old)
        if spec.get("preserveUnknownFields") and not (before or {}).get("preserveUnknownFields"):
            instead = "set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
            problems.invalid("spec.preserveUnknownFields", True, f"cannot set to true, {instead}")
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource:
            return []
        before = unrecognized_formats(old["spec"]) if old is not None else []
        found = unrecognized_formats(obj["spec"])
        return [f'unrecognized format "{form}"' for form in found if form not in before]

    # --- deletion

    def holds_deletion(self, obj: JSON) -> bool:
        """The first request only marks it: instances go before their definition."""
        metadata = obj["metadata"]
        return bool(metadata.get("finalizers")) or not metadata.get("deletionTimestamp")

    def mark_deleting(self, ctx: RequestContext, obj: JSON) -> None:
        metadata = obj["metadata"]
        metadata.pop("deletionGracePeriodSeconds", None)
        finalizers = metadata.setdefault("finalizers", [])
        if CLEANUP not in finalizers:
            finalizers.append(CLEANUP)
        message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        meta.set_condition(obj, "Terminating", "True", "InstanceDeletionPending", message, now=ctx.now)


def is_established(obj: JSON) -> bool:
    return (meta.condition(obj, "Established") or {}).get("status") == "True"


def _note_storage_version(obj: JSON) -> None:
    stored = obj.setdefault("status", {}).setdefault("storedVersions", [])
    for version in obj["spec"].get("versions") or []:
        if version.get("storage"):
            if version.get("name") not in stored:
                stored.append(version.get("name"))
            return


class _SchemaCheck:
    """What is wrong with schemas of a spec; what the stored spec `old` has already is let be."""

    def __init__(self, spec: JSON, old: JSON | None) -> None:
        self._given, self._old = _schemas(spec), _schemas(old or {})
        self._stored = [dumps(schema) for schema in self._old.values() if schema is not None]

    def __call__(self, part: Part, status: bool) -> Sequence[tuple[str, str, str]]:
        schema, path = (part.validation or {})["openAPIV3Schema"], f"{part.validation_path}.openAPIV3Schema"
        unchanged = part.version in self._old and same(self._given[part.version], self._old[part.version])
        try:
            return CustomSchema.check(dumps(schema), path=path, status=status, stored=self._stored, unchanged=unchanged)
        except ValueError as error:
            return [("FieldValueInvalid", path, f'Invalid value: "": {error}')]


def _schemas(spec: JSON) -> dict[str, JSON | None]:
    """Those of all versions, by their names."""
    return {
        version.get("name") or "": (version.get("schema") or {}).get("openAPIV3Schema")
        for version in spec.get("versions") or []
    }


def _has_good_ca(old: JSON) -> bool:
    bundle = ((old.get("webhook") or {}).get("clientConfig") or {}).get("caBundle") or ""
    return conversion.is_ca_bundle(bundle)


def _has_strange_reviews(old: JSON) -> bool:
    reviews = (old.get("webhook") or {}).get("conversionReviewVersions") or []
    return bool(reviews) and not conversion.is_recognized(reviews)


def _validate_own_name(problems: Problems, metadata: JSON, wanted: str) -> None:
    """What makes a name is judged as one."""
    for field in ("generateName", "name"):
        given = metadata.get(field)
        if given and given != wanted:
            problems.invalid(f"metadata.{field}", given, 'must be spec.names.plural+"."+spec.group')


def _validate_immutable(problems: Problems, spec: JSON, old: JSON, *, established: bool) -> None:
    names, old_names = spec.get("names") or {}, old.get("names") or {}
    if established:
        problems.immutable("spec.scope", spec.get("scope"), old.get("scope"))
        problems.immutable("spec.names.kind", names.get("kind"), old_names.get("kind"))
    problems.immutable("spec.group", spec.get("group"), old.get("group"))
    problems.immutable("spec.names.plural", names.get("plural"), old_names.get("plural"))


def _validate_stored_versions(problems: Problems, stored: list[str], given: list[JSON]) -> None:
    path = "status.storedVersions"
    if not stored:
        problems.invalid(path, None, "must have at least one stored version")
        return
    left = {name: index for index, name in enumerate(stored)}
    for version in given:
        # One version of each name: of two, the second is not there.
        if left.pop(version.get("name") or "", None) is None and version.get("storage"):
            problems.invalid(path, stored, f"must have the storage version {version.get('name')}")
    for name, index in left.items():
        detail = (
            f"missing from spec.versions; {name} was previously a storage version, and must remain in "
            f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
            f"{name} from status.storedVersions"
        )
        problems.invalid(f"{path}[{index}]", name, detail)
