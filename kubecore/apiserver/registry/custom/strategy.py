"""What custom resources add to the generic registry, for one version of a definition.

After upstream k8s.io/apiextensions-apiserver pkg/registry/customresource/{strategy,status_strategy,validator}.go.
"""

from __future__ import annotations

from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import Cause
from kubecore.api.schemas import CustomSchema
from kubecore.apiserver.registry.codec import dumps, loads, ordered
from kubecore.apiserver.registry.custom import paths
from kubecore.apiserver.registry.custom.conversion import completed
from kubecore.apiserver.registry.custom.definition import Definition, Version
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.metadata import STANDARD_FINALIZERS, validate_metadata
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_INT32_MAX = 2**31 - 1
# What keeps rules from being asked, which could not bear it (hasBlockingErr).
_BLOCKING = frozenset({"FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"})


class CustomResourceStrategy(Strategy):
    allow_unconditional_update = False
    # Kept here: everything but metadata counts, even without a spec.
    tracks_generation = False
    any_finalizer = True

    def __init__(self, definition: Definition, version: Version, schema: CustomSchema) -> None:
        self.resource_key = definition.name
        self._definition = definition
        self._version = version
        self._schema = schema

    def default(self, obj: JSON) -> None:
        body = dumps(obj)
        made = completed(self._schema, body)
        if made is not body:
            filled = loads(made)
            obj.clear()
            obj.update(filled)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        if self._definition.terminating:
            detail = "create not allowed while custom resource definition is terminating"
            raise errors.forbidden(self._definition.group, self._definition.plural, ctx.name, detail)
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        now, before = _content(obj), _content(old)
        # `1.0` is another value than 1 to upstream, which has read a float, though it is stored as 1; and true is none.
        if now != before or ordered(now) != ordered(before):
            obj["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        """Status, and nothing else: not even labels."""
        metadata = meta.deepcopy(old["metadata"])
        for name in ("managedFields", "resourceVersion"):
            metadata.pop(name, None)
            if name in obj["metadata"]:
                metadata[name] = obj["metadata"][name]
        obj["metadata"] = metadata

    # --- validation

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        # An update is judged as a whole, by what it changes.
        return [] if ctx.operation == "UPDATE" else self._judge(ctx, obj, None)

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return self._judge(ctx, obj, old)

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return self._judge(ctx, obj, old, subresource="status")

    def _judge(self, ctx: RequestContext, obj: JSON, old: JSON | None, *, subresource: str = "") -> list[Cause]:
        before = None if old is None else dumps(old)
        unruled = self._is_own(obj) and any(cause.reason in _BLOCKING for cause in self._of_metadata(obj))
        schema, further, forgiven = self._schema.validate(dumps(obj), before, subresource=subresource, unruled=unruled)
        for _, field, message in forgiven:
            ctx.warn(f"{field}: {message}")
        return [*_causes(schema), *self._scale_causes(obj, subresource), *_causes(further)]

    def _is_own(self, obj: JSON) -> bool:
        """Whether it says that it is of this kind and version; of others the metadata is not looked at."""
        version = self._definition.api_version(self._version.name)
        return (obj.get("kind"), obj.get("apiVersion")) == (self._definition.kind, version)

    def _of_metadata(self, obj: JSON) -> list[Cause]:
        return validate_metadata(obj, namespaced=self._definition.namespaced, any_finalizer=self.any_finalizer)

    def _scale_causes(self, obj: JSON, subresource: str) -> list[Cause]:
        scale = self._version.scale
        problems = Problems()
        if scale is not None:
            if not subresource:
                _replicas(problems, obj, scale.specReplicasPath)
            _replicas(problems, obj, scale.statusReplicasPath)
            if scale.labelSelectorPath:
                _of_type(problems, obj, scale.labelSelectorPath, str, "string", "")
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource:
            return []
        before = set(meta.finalizers(old)) if old is not None else set()
        return [text for one in sorted(set(meta.finalizers(obj)) - before) for text in _finalizer_warnings(one)]


def _causes(faults: list[tuple[str, str, str]]) -> list[Cause]:
    return [Cause(reason, message, field) for reason, field, message in faults]


def _content(obj: JSON) -> JSON:
    return {name: value for name, value in obj.items() if name != "metadata"}


def _replicas(problems: Problems, obj: JSON, path: str) -> None:
    replicas = _of_type(problems, obj, path, int, "int64", 0)
    if replicas is None:
        return
    if replicas < 0:
        problems.invalid(path, replicas, "should be a non-negative integer")
    elif replicas > _INT32_MAX:
        problems.invalid(path, replicas, f"should be less than or equal to {_INT32_MAX}")


def _of_type(problems: Problems, obj: JSON, path: str, wanted: type, name: str, zero: object) -> Any:
    """The value at the path, None where there is none or it is not of the type, which is told.

    As unstructured.NestedInt64 and its likes have it.
    """
    found: Any = obj
    steps = paths.steps(path)
    for number, step in enumerate(steps, 1):
        if found is None:
            return None
        if not isinstance(found, dict):
            below = "".join(f".{one}" for one in steps[:number])
            problems.invalid(path, zero, _wrong_type(below, found, "map[string]interface{}"))
            return None
        if step not in found:
            return None
        found = found[step]
    if type(found) is wanted:
        return found
    problems.invalid(path, zero, _wrong_type("".join(f".{one}" for one in steps), found, name))
    return None


GO_TYPES = {
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    list: "[]interface {}",
    dict: "map[string]interface {}",
    type(None): "<nil>",
}


def _wrong_type(path: str, value: object, wanted: str) -> str:
    return f"{path} accessor error: {_printed(value)} is of the type {GO_TYPES[type(value)]}, expected {wanted}"


def _printed(value: object) -> str:
    """As Go's %v prints it."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case list():
            return f"[{' '.join(_printed(one) for one in value)}]"
        case dict():
            return f"map[{' '.join(f'{name}:{_printed(value[name])}' for name in sorted(value))}]"
    return str(value)


def _finalizer_warnings(finalizer: str) -> list[str]:
    told = f'metadata.finalizers: "{finalizer}"'
    found = [f"{told}: {error}" for error in names.qualified_name(finalizer)]
    if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
        path = " including a path (/)" if "." in finalizer else ""
        advice = (
            f"prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        )
        found.append(f"{told}: {advice}")
    return found
