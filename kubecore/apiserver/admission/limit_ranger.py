"""LimitRanger: what a namespace's LimitRanges say containers get by default, and what pods and claims may ask for.

After upstream plugin/pkg/admission/limitranger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kubecore.api import amounts, errors, meta, pod_resources, quantity
from kubecore.api.errors import aggregated
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.admission.held_objects import HeldObjects

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]
Resources = Mapping[str, str]
"""Quantities by resource name."""
Rule = Callable[[str, str, str, Resources, Resources], str]
"""(type of the limit, resource, its bound, requests, limits): what is wrong, or nothing."""

_ANNOTATION = "kubernetes.io/limit-ranger"
_KEY = "limitranges"
_KINDS = (("containers", "container"), ("initContainers", "init container"))


class LimitRanger(Plugin):
    name = "LimitRanger"

    def __init__(self, cacher: Cacher) -> None:
        self._ranges = HeldObjects(cacher, _KEY)

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        if resource_key == "pods":
            # What containers ask for changes by a resize only.
            return (operation, subresource) in ((CREATE, ""), (UPDATE, "resize"))
        return resource_key == "persistentvolumeclaims" and not subresource and operation in (CREATE, UPDATE)

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        if ctx.resource_key != "pods" or meta.is_deleting(old or {}):
            return False
        changed = False
        for items in self._ranges_of(ctx):
            for item in _of(items, "Container"):
                changed = _give_defaults(obj, item) or changed
        return changed

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """What is on its way out is left alone, whatever was limited meanwhile: it could not end otherwise."""
        if obj is None or meta.is_deleting(old or {}):
            return
        judge = _wrong_of_pods if ctx.resource_key == "pods" else _wrong_of_claim
        for items in self._ranges_of(ctx):
            if wrong := [*judge(items, obj["spec"])]:
                raise errors.forbidden("", ctx.resource_key, ctx.name, aggregated(wrong))

    def _ranges_of(self, ctx: RequestContext) -> Iterator[list[JSON]]:
        """The items of each of the namespace's LimitRanges."""
        return (one["spec"].get("limits") or [] for one in self._ranges.list(ctx.namespace))


def _of(items: list[JSON], kind: str) -> list[JSON]:
    return [item for item in items if item.get("type") == kind]


# ---------------------------------------------------------------------- defaults
def _give_defaults(pod: JSON, item: JSON) -> bool:
    said: list[str] = []
    for kind, word in _KINDS:
        for container in pod["spec"].get(kind) or ():
            resources = container.get("resources") or {}
            added = {}
            # Limits first, as they would be a request's default.
            for name, given in (("limits", "default"), ("requests", "defaultRequest")):
                had = resources.get(name) or {}
                more = {key: value for key, value in (item.get(given) or {}).items() if key not in had}
                if more:
                    resources[name] = {**had, **more}
                    added[name] = ", ".join(sorted(more))
            if added:
                container["resources"] = resources
            for name, text in (("requests", "request"), ("limits", "limit")):
                if name in added:
                    said.append(f"{added[name]} {text} for {word} {container['name']}")
    if not said:
        return False
    annotations = pod["metadata"].get("annotations") or {}
    pod["metadata"]["annotations"] = {**annotations, _ANNOTATION: f"LimitRanger plugin set: {'; '.join(said)}"}
    return True


# ---------------------------------------------------------------------- bounds
def _least(kind: str, resource: str, bound: str, requests: Resources, limits: Resources) -> str:
    start = f"minimum {resource} usage per {kind} is {bound}"
    request, limit = requests.get(resource), limits.get(resource)
    if request is None:
        return f"{start}.  No request is specified"
    if _value(request) < _value(bound):
        return f"{start}, but request is {request}"
    if limit is not None and _value(limit) < _value(bound):
        return f"{start}, but limit is {limit}"
    return ""


def _most(kind: str, resource: str, bound: str, requests: Resources, limits: Resources) -> str:
    start = f"maximum {resource} usage per {kind} is {bound}"
    request, limit = requests.get(resource), limits.get(resource)
    if limit is None:
        return f"{start}.  No limit is specified"
    if _value(limit) > _value(bound):
        return f"{start}, but limit is {limit}"
    if request is not None and _value(request) > _value(bound):
        return f"{start}, but request is {request}"
    return ""


def _most_requested(kind: str, resource: str, bound: str, requests: Resources, limits: Resources) -> str:
    start = f"maximum {resource} usage per {kind} is {bound}"
    request = requests.get(resource)
    if request is None:
        return f"{start}.  No request is specified"
    return f"{start}, but request is {request}" if _value(request) > _value(bound) else ""


def _ratio(kind: str, resource: str, bound: str, requests: Resources, limits: Resources) -> str:
    start = f"{resource} max limit to request ratio per {kind} is {bound}"
    request, limit = _value(requests.get(resource)), _value(limits.get(resource))
    if not request:
        return f"{start}, but no request is specified or request is 0"
    if not limit:
        return f"{start}, but no limit is specified or limit is 0"
    ratio = limit / request
    return f"{start}, but provided ratio is {ratio:f}" if ratio * 1000 > quantity.milli(bound) else ""


def _value(given: str | None) -> int:
    return quantity.milli(given) if given is not None else 0


_OF_PODS: tuple[tuple[str, Rule], ...] = (("min", _least), ("max", _most), ("maxLimitRequestRatio", _ratio))
_OF_CLAIMS: tuple[tuple[str, Rule], ...] = (("min", _least), ("max", _most_requested))


def _wrong(
    item: JSON, rules: Iterable[tuple[str, Rule]], requests: Resources | None, limits: Resources | None
) -> Iterator[str]:
    for name, rule in rules:
        for resource, bound in sorted((item.get(name) or {}).items()):
            if told := rule(item["type"], resource, bound, requests or {}, limits or {}):
                yield told


def _wrong_of_claim(items: list[JSON], spec: JSON) -> Iterator[str]:
    for item in _of(items, "PersistentVolumeClaim"):
        yield from _wrong(item, _OF_CLAIMS, (spec.get("resources") or {}).get("requests"), None)


def _wrong_of_pods(items: list[JSON], spec: JSON) -> Iterator[str]:
    for item in items:
        if item.get("type") == "Container":
            yield from _wrong_of_containers(item, spec)
        elif item.get("type") == "Pod":
            yield from _wrong(item, _OF_PODS, _whole_pod(spec, "requests"), _whole_pod(spec, "limits"))


def _wrong_of_containers(item: JSON, spec: JSON) -> Iterator[str]:
    for kind, _ in _KINDS:
        for container in spec.get(kind) or ():
            resources = container.get("resources") or {}
            yield from _wrong(item, _OF_PODS, resources.get("requests"), resources.get("limits"))


# ---------------------------------------------------------------------- a pod as a whole
def _whole_pod(spec: JSON, kind: str) -> Resources:
    """What its containers need together; what the pod says of itself counts before that."""
    total = pod_resources.of_containers(spec, pod_resources.of_container(kind))
    return amounts.render({**total, **pod_resources.of_the_pod_itself(spec, kind)})
