"""PodTolerationRestriction: pods get their namespace's default tolerations, and have none beyond those it allows.

After upstream plugin/pkg/admission/podtolerationrestriction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from kubecore.api import configuration_file, errors, meta
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.quality import quality_of_service
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.admission.held_namespaces import HeldNamespaces
from kubecore.apiserver.admission.merged_tolerations import all_within, merged
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.scheduling import validate_tolerations

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_DEFAULTS = "scheduler.alpha.kubernetes.io/defaultTolerations"
_ALLOWED = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
_MEMORY_PRESSURE = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}
_TOLERATION = {"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}
_VERSIONS = {
    "podtolerationrestriction.admission.k8s.io/v1alpha1": {"default": [_TOLERATION], "whitelist": [_TOLERATION]}
}


@dataclass(frozen=True, slots=True)
class Restriction:
    """Of the whole cluster, for namespaces without annotations."""

    default: tuple[JSON, ...] = ()
    allowed: tuple[JSON, ...] = ()


def load(text: str) -> Restriction:
    """From YAML or JSON. Raises InvalidConfiguration."""
    if not text.strip():
        return Restriction()
    given = configuration_file.read(text, "Configuration", _VERSIONS)
    problems = Problems()
    for name in ("default", "whitelist"):
        validate_tolerations(problems, given.get(name) or [], f"podtolerationrestriction.{name}")
    if problems:
        raise InvalidConfiguration(f"invalid config: [{' '.join(map(str, problems))}]")
    return Restriction(tuple(given.get("default") or ()), tuple(given.get("whitelist") or ()))


class _Annotated(NamedTuple):
    default: str | None
    allowed: str | None


class PodTolerationRestriction(Plugin):
    name = "PodTolerationRestriction"

    def __init__(self, cacher: Cacher, configured: Restriction) -> None:
        self._configured = configured
        self._annotations: HeldNamespaces[_Annotated] = HeldNamespaces(cacher, _annotated)

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation in (CREATE, UPDATE) and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return False
        more: list[JSON] = []
        if ctx.operation == CREATE:
            annotation = self._annotations.get(ctx.namespace).default
            more += self._configured.default if annotation is None else _read(annotation)
        if quality_of_service(spec) != "BestEffort":
            more.append(_MEMORY_PRESSURE)
        if more:
            spec["tolerations"] = merged(spec.get("tolerations") or (), more)
        self.validate(ctx, obj, old)
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        tolerations = ((obj or {}).get("spec") or {}).get("tolerations") or ()
        if not tolerations:
            return
        annotation = self._annotations.get(ctx.namespace).allowed
        allowed, scope = (
            (self._configured.allowed, "cluster") if annotation is None else (_read(annotation), "namespace")
        )
        if not all_within(tolerations, allowed):
            told = "pod tolerations (possibly merged with namespace default tolerations) conflict with its"
            raise errors.StatusError(500, "", f"{told} {scope} whitelist")


def _annotated(namespace: JSON) -> _Annotated:
    annotations = meta.annotations(namespace)
    return _Annotated(annotations.get(_DEFAULTS), annotations.get(_ALLOWED))


def _read(annotation: str) -> list[JSON]:
    """Tolerations in JSON; an empty text is none. Raises 500."""
    if not annotation:
        return []
    try:
        found = orjson.loads(annotation) or []
    except orjson.JSONDecodeError as error:
        raise errors.StatusError(500, "", str(error)) from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise errors.StatusError(500, "", "json: cannot unmarshal into a list of tolerations")
    return [_typed(one) for one in found]


def _typed(toleration: JSON) -> JSON:
    """What Go would read of it. Raises 500."""
    typed = {name: toleration[name] for name in _TOLERATION if toleration.get(name) is not None}
    for name, value in typed.items():
        if type(value) is not _TOLERATION[name]:
            raise errors.StatusError(500, "", f"json: cannot unmarshal into Go struct field Toleration.{name}")
    return typed
