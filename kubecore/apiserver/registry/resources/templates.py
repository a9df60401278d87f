"""PodTemplates and ControllerRevisions: what other kinds are made from."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.resources.generation import ContentGeneration
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import pod_advice
from kubecore.apiserver.registry.validation.podspec import validate_template
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]


class PodTemplateStrategy(ContentGeneration):
    resource_key = "podtemplates"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        default_pod_template(obj.get("template"))

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_template(problems, obj.get("template"), "template")
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if old is not None and not pod_advice.is_new_generation(obj, old):
            return []
        return pod_advice.of_template(obj.get("template"), "template")


class ControllerRevisionStrategy(Strategy):
    resource_key = "controllerrevisions.apps"
    tracks_generation = False

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        problems.not_negative("revision", obj.get("revision"))
        data = obj.get("data")
        if ctx.operation == "CREATE" and not isinstance(data, dict):
            problems.required("data", "data is mandatory" if data is None else "data must be a valid JSON object")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        # An empty object is data, and none is not.
        if obj.get("data") != old.get("data"):
            problems.invalid("data", obj.get("data"), "field is immutable")
        return problems
