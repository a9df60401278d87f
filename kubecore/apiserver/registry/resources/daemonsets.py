"""DaemonSets."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import pod_advice
from kubecore.apiserver.registry.validation.podspec import validate_running_template
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import (
    is_nothing,
    validate_collisions,
    validate_counts,
    validate_int_or_percent,
    validate_selected_template,
    validate_selector,
    validate_selector_unchanged,
)

JSON = dict[str, Any]

_REVISIONS = 10
_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_STATUS_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)


class DaemonSetStrategy(Strategy):
    resource_key = "daemonsets.apps"
    defaults_status = False

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        strategy = spec.get("updateStrategy")
        if strategy is None:
            strategy = spec["updateStrategy"] = {}
        kind = strategy["type"] = strategy.get("type") or "RollingUpdate"
        if kind == "RollingUpdate":
            rolling = strategy.get("rollingUpdate")
            if rolling is None:
                rolling = strategy["rollingUpdate"] = {}
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", _REVISIONS)
        default_pod_template(spec.get("template"))
        _note_generation(obj, _template_generation(obj))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        names = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        obj["status"] = dict.fromkeys(names, 0)
        _note_generation(obj, max(1, _template_generation(obj)))

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        changed = not same(obj["spec"].get("template"), old["spec"].get("template"))
        _note_generation(obj, _template_generation(old) + changed)

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        _note_generation(obj, _template_generation(old))

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        selector, template = spec.get("selector"), spec.get("template")
        if validate_selector(problems, selector, kind="daemonset", required=False):
            validate_selected_template(problems, selector, template, kind="DaemonSet")
        else:
            validate_running_template(problems, template, "spec.template", kind="DaemonSet")
        validate_counts(problems, spec, "spec", ("minReadySeconds", "revisionHistoryLimit"))
        _update_strategy(problems, spec.get("updateStrategy") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_selector_unchanged(problems, obj["spec"], old["spec"])
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource == "status" or (old is not None and _template_generation(obj) == _template_generation(old)):
            return []
        return pod_advice.of_template(obj["spec"].get("template"), "spec.template")

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        validate_counts(problems, status, "status", _STATUS_COUNTS)
        validate_collisions(problems, status, old.get("status") or {})
        return problems


def _template_generation(obj: JSON) -> int:
    noted = ((obj.get("metadata") or {}).get("annotations") or {}).get(_TEMPLATE_GENERATION, "")
    return int(noted) if noted.isascii() and noted.isdigit() else 0


def _note_generation(obj: JSON, generation: int) -> None:
    """The generation of the template alone, which once was a field and is an annotation of every DaemonSet since."""
    metadata = obj.setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), _TEMPLATE_GENERATION: str(generation)}


def _update_strategy(problems: Problems, strategy: JSON) -> None:
    path, kind, rolling = "spec.updateStrategy", strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return
    if kind != "RollingUpdate":
        problems.unsupported(path, strategy, ("RollingUpdate", "OnDelete"))
        return
    if rolling is None:
        problems.required(f"{path}.rollingUpdate")
        return
    where, unavailable, surge = f"{path}.rollingUpdate", rolling.get("maxUnavailable"), rolling.get("maxSurge")
    validate_int_or_percent(problems, unavailable, f"{where}.maxUnavailable", at_most_all=True)
    validate_int_or_percent(problems, surge, f"{where}.maxSurge", at_most_all=True)
    if not is_nothing(unavailable) and not is_nothing(surge):
        problems.invalid(f"{where}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
    elif is_nothing(unavailable) and is_nothing(surge):
        problems.required(f"{where}.maxUnavailable", "cannot be 0 when maxSurge is 0")
