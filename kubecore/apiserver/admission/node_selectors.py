"""PodNodeSelector: the pods of a namespace go where its annotation, or the configuration, says.

After upstream plugin/pkg/admission/podnodeselector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.api.configuration_file import InvalidConfiguration, parsed
from kubecore.apiserver.admission.chain import CREATE, Plugin
from kubecore.apiserver.admission.held_namespaces import HeldNamespaces
from kubecore.apiserver.registry.validation import names

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
_CONFIGURED, _DEFAULT = "podNodeSelectorPluginConfig", "clusterDefaultNodeSelector"
_CONFLICT = "pod node label selector conflicts with its namespace node label selector"
_BEYOND = "pod node label selector labels conflict with its namespace whitelist"


def load(text: str) -> dict[str, str]:
    """Selectors by namespace, and the default one, of `podNodeSelectorPluginConfig`. Raises InvalidConfiguration."""
    try:
        given = parsed(text) or {}
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"podNodeSelectorPluginConfig: {error}") from None
    found = (given.get(_CONFIGURED) if isinstance(given, dict) else given) or {}
    if not isinstance(found, dict) or not all(isinstance(one, str | None) for one in found.values()):
        raise InvalidConfiguration(f"{_CONFIGURED}: selectors by namespace are expected, as texts")
    return {str(key): value or "" for key, value in found.items()}


class PodNodeSelector(Plugin):
    name = "PodNodeSelector"

    def __init__(self, cacher: Cacher, configured: Mapping[str, str]) -> None:
        self._configured = configured
        self._annotations: HeldNamespaces[str | None] = HeldNamespaces(
            cacher, lambda namespace: meta.annotations(namespace).get(_ANNOTATION)
        )

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if isinstance(spec, dict):
            together = {**self._checked(ctx, spec), **(spec.get("nodeSelector") or {})}
            if together:
                spec["nodeSelector"] = together
            self.validate(ctx, obj, old)
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        spec = (obj or {}).get("spec") or {}
        self._checked(ctx, spec)
        allowed = _labels(self._configured.get(ctx.namespace, ""))
        given = spec.get("nodeSelector") or {}
        if allowed and any(allowed.get(key) != value for key, value in given.items()):
            raise errors.forbidden("", "pods", "" if ctx.name_prefix else ctx.name, _BEYOND)

    def _checked(self, ctx: RequestContext, spec: JSON) -> dict[str, str]:
        """The namespace's selector, which the pod's does not contradict."""
        annotation = self._annotations.get(ctx.namespace)
        wanted = _labels(self._configured.get(_DEFAULT, "") if annotation is None else annotation)
        given = spec.get("nodeSelector") or {}
        if any(given.get(key, value) != value for key, value in wanted.items()):
            raise errors.forbidden("", "pods", "" if ctx.name_prefix else ctx.name, _CONFLICT)
        return wanted


def _labels(selector: str) -> dict[str, str]:
    """Of `a=b,c=d`. Raises 500, as upstream does, for anything else."""
    found = {}
    for one in selector.split(",") if selector else ():
        parts = one.split("=")
        if len(parts) != 2:
            raise errors.StatusError(500, "", f"invalid selector: [{' '.join(parts)}]")
        key, value = (part.strip() for part in parts)
        if wrong := names.qualified_name(key) or names.label_value(value):
            raise errors.StatusError(500, "", f'invalid selector: "{one}": {"; ".join(wrong)}')
        found[key] = value
    return found
