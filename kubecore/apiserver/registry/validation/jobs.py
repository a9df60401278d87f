"""Jobs and what CronJobs make them of (kubernetes `pkg/apis/batch/validation/validation.go`)."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.podspec import validate_template
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import validate_counts

JSON = dict[str, Any]

_COUNTS = ("parallelism", "completions", "backoffLimit", "backoffLimitPerIndex", "ttlSecondsAfterFinished")
_MODES = ("Indexed", "NonIndexed")
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_MOST_PARALLEL_INDEXES = 100_000
_MOST_RULES = 20


def validate_job_spec(problems: Problems, spec: JSON, path: str) -> None:
    validate_counts(problems, spec, path, _COUNTS)
    problems.not_negative(f"{path}.activeDeadlineSeconds", spec.get("activeDeadlineSeconds"))
    problems.not_negative(f"{path}.maxFailedIndexes", spec.get("maxFailedIndexes"))
    mode, completions = spec.get("completionMode"), spec.get("completions")
    problems.one_of(f"{path}.completionMode", mode, _MODES)
    if mode == "Indexed":
        if completions is None:
            problems.required(f"{path}.completions", "when completion mode is Indexed")
        if (spec.get("parallelism") or 0) > _MOST_PARALLEL_INDEXES:
            detail = f"must be less than or equal to {_MOST_PARALLEL_INDEXES} when completion mode is Indexed"
            problems.invalid(f"{path}.parallelism", spec["parallelism"], detail)
    elif spec.get("backoffLimitPerIndex") is not None:
        detail = "requires indexed completion mode"
        problems.invalid(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], detail)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        problems.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    policies = ("Failed", "TerminatingOrFailed")
    problems.one_of(f"{path}.podReplacementPolicy", spec.get("podReplacementPolicy"), policies)
    _template(problems, spec, path)
    if spec.get("podFailurePolicy") is not None:
        _failure_policy(problems, spec, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        _success_policy(problems, spec, f"{path}.successPolicy")


def _template(problems: Problems, spec: JSON, path: str) -> None:
    where, template = f"{path}.template", spec.get("template")
    validate_template(problems, template, where)
    restart = ((template or {}).get("spec") or {}).get("restartPolicy")
    if template is None:
        return
    if restart not in ("Never", "OnFailure"):
        problems.unsupported(f"{where}.spec.restartPolicy", restart or "", ("Never", "OnFailure"))
    elif spec.get("podFailurePolicy") is not None and restart != "Never":
        problems.invalid(
            f"{where}.spec.restartPolicy", restart, 'only "Never" is supported when podFailurePolicy is specified'
        )


def _failure_policy(problems: Problems, spec: JSON, path: str) -> None:
    rules = spec["podFailurePolicy"].get("rules") or []
    containers = {
        one.get("name")
        for kind in ("containers", "initContainers")
        for one in ((spec.get("template") or {}).get("spec") or {}).get(kind) or []
    }
    if len(rules) > _MOST_RULES:
        problems.too_many(f"{path}.rules", len(rules), _MOST_RULES)
    for index, rule in enumerate(rules):
        where, action = f"{path}.rules[{index}]", rule.get("action")
        problems.one_of(f"{where}.action", action, _ACTIONS, required=True)
        if action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
            problems.invalid(f"{where}.action", action, "requires the backoffLimitPerIndex to be set")
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None:
            _exit_codes(problems, codes, containers, f"{where}.onExitCodes")
        if codes is not None and conditions:
            detail = "specifying both OnExitCodes and OnPodConditions is not supported"
            problems.invalid(where, rule, detail)
        if codes is None and not conditions:
            problems.invalid(where, rule, "specifying one of OnExitCodes and OnPodConditions is required")
        for number, pattern in enumerate(conditions or []):
            at = f"{where}.onPodConditions[{number}]"
            problems.check(f"{at}.type", pattern.get("type", ""), names.qualified_name)
            problems.one_of(f"{at}.status", pattern.get("status"), ("False", "True", "Unknown"), required=True)


def _exit_codes(problems: Problems, codes: JSON, containers: set[Any], path: str) -> None:
    operator, values = codes.get("operator"), codes.get("values") or []
    problems.one_of(f"{path}.operator", operator, ("In", "NotIn"), required=True)
    name = codes.get("containerName")
    if name and name not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        problems.invalid(f"{path}.containerName", name, detail)
    if not values:
        problems.invalid(f"{path}.values", values, "at least one value is required")
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            problems.invalid(f"{path}.values[{index}]", value, "must not be 0 for the In operator")
        if index and values[index - 1] >= value:
            detail = "must be ordered" if values[index - 1] > value else ""
            if detail:
                problems.invalid(f"{path}.values", values, detail)
            else:
                problems.duplicate(f"{path}.values[{index}]", value)


def _success_policy(problems: Problems, spec: JSON, path: str) -> None:
    if spec.get("completionMode") != "Indexed":
        problems.invalid(path, spec["successPolicy"], "requires indexed completion mode")
        return
    rules = spec["successPolicy"].get("rules") or []
    if not rules:
        problems.required(f"{path}.rules", "at least one rules must be specified")
    for index, rule in enumerate(rules):
        if rule.get("succeededCount") is None and rule.get("succeededIndexes") is None:
            detail = "at least one of succeededCount or succeededIndexes must be specified"
            problems.required(f"{path}.rules[{index}]", detail)
        count = rule.get("succeededCount")
        if isinstance(count, int) and count <= 0:
            problems.invalid(f"{path}.rules[{index}].succeededCount", count, names.POSITIVE)


_FIXED = ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
# What may change of the template while the Job is suspended and has never started.
_DIRECTIVES = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


def validate_job_update(spec: JSON, old: JSON) -> list[Cause]:
    problems = Problems()
    for field in _FIXED:
        problems.immutable(f"spec.{field}", spec.get(field), old.get(field))
    new_count, old_count = spec.get("completions"), old.get("completions")
    if new_count != old_count and not (
        spec.get("completionMode") == "Indexed" and new_count is not None and new_count == spec.get("parallelism")
    ):
        problems.invalid("spec.completions", new_count, names.IMMUTABLE)
    template, before = spec.get("template") or {}, old.get("template") or {}
    if old.get("suspend"):
        template = _with_old_directives(template, before)
    if template != before:
        problems.invalid("spec.template", spec.get("template"), names.IMMUTABLE)
    return problems


def _with_old_directives(template: JSON, old: JSON) -> JSON:
    """The template as it was where a queueing controller may choose the nodes of a suspended Job."""
    pod, before = dict(template.get("spec") or {}), old.get("spec") or {}
    for field in _DIRECTIVES:
        if field in before:
            pod[field] = before[field]
        else:
            pod.pop(field, None)
    return {**template, "metadata": old.get("metadata") or {}, "spec": pod}
