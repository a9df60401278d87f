"""Jobs and what CronJobs make them of (kubernetes `pkg/apis/batch/validation/validation.go`)."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.indexes import BadIndexes, count_indexes
from kubecore.apiserver.registry.validation.podspec import validate_template
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import validate_counts

JSON = dict[str, Any]

_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_MODES = ("NonIndexed", "Indexed")
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_STATUSES = ("False", "True", "Unknown")
_MOST_INDEXES = 100_000
_MOST_OF_MANY = 10_000
_MOST_RULES, _MOST_CODES, _MOST_PATTERNS = 20, 255, 20
_LONGEST_MANAGER, _LONGEST_INDEXES = 63, 64 * 1024


def _listed(values: tuple[str, ...]) -> str:
    """A list as Go's %q shows it."""
    return "valid values: [" + " ".join(f'"{value}"' for value in values) + "]"


def validate_job_spec(problems: Problems, spec: JSON, path: str) -> None:
    """A Job's, or a CronJob's template of one, without the selector."""
    validate_counts(problems, spec, path, _COUNTS)
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        problems.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    if spec.get("managedBy") is not None:
        _managed_by(problems, spec["managedBy"], f"{path}.managedBy")
    mode = spec.get("completionMode")
    if mode is not None and mode not in _MODES:
        problems.unsupported(f"{path}.completionMode", mode, _MODES)
    if mode == "Indexed":
        _indexed(problems, spec, path)
    elif mode in (None, "NonIndexed"):
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                problems.invalid(f"{path}.{field}", spec[field], "requires indexed completion mode")
    if spec.get("podFailurePolicy") is not None:
        _failure_policy(problems, spec, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        _success_policy(problems, spec, f"{path}.successPolicy")
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if spec.get("podFailurePolicy") is not None else ("Failed", "TerminatingOrFailed")
    if replacement is not None and replacement not in allowed:
        problems.unsupported(f"{path}.podReplacementPolicy", replacement, allowed)
    _template(problems, spec, path)


def _managed_by(problems: Problems, manager: str, path: str) -> None:
    if not manager:
        problems.required(path)
    else:
        for value, error in names.domain_prefixed_path(manager):
            problems.invalid(path, value, error)
    if len(manager) > _LONGEST_MANAGER:
        problems.too_long(path, _LONGEST_MANAGER)


def _indexed(problems: Problems, spec: JSON, path: str) -> None:
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    most_failed = spec.get("maxFailedIndexes")
    if completions is None:
        problems.required(f"{path}.completions", "when completion mode is Indexed")
    if parallelism > _MOST_INDEXES:
        detail = f"must be less than or equal to {_MOST_INDEXES} when completion mode is Indexed"
        problems.invalid(f"{path}.parallelism", parallelism, detail)
    where = f"{path}.maxFailedIndexes"
    if most_failed is not None:
        if completions is not None and most_failed > completions:
            problems.invalid(where, most_failed, "must be less than or equal to completions")
        if most_failed > _MOST_INDEXES:
            problems.invalid(where, most_failed, f"must be less than or equal to {_MOST_INDEXES}")
    if (completions or 0) > _MOST_INDEXES and spec.get("backoffLimitPerIndex") is not None:
        many = f"when completions are above {_MOST_INDEXES} and used with backoff limit per index"
        detail = f"must be less than or equal to {_MOST_OF_MANY} {many}"
        if most_failed is None:
            problems.required(where, f"must be specified when completions is above {_MOST_INDEXES}")
        if parallelism > _MOST_OF_MANY:
            problems.invalid(f"{path}.parallelism", parallelism, detail)
        if (most_failed or 0) > _MOST_OF_MANY:
            problems.invalid(where, most_failed, detail)


def _template(problems: Problems, spec: JSON, path: str) -> None:
    template, where = spec.get("template") or {}, f"{path}.template"
    validate_template(problems, template, where)
    restart, where = (template.get("spec") or {}).get("restartPolicy"), f"{where}.spec.restartPolicy"
    if restart in (None, "", "Always"):
        problems.required(where, 'valid values: "OnFailure", "Never"')
    elif restart not in ("OnFailure", "Never"):
        problems.unsupported(where, restart, ("OnFailure", "Never"))
    elif spec.get("podFailurePolicy") is not None and restart != "Never":
        problems.invalid(where, restart, 'only "Never" is supported when podFailurePolicy is specified')


def _failure_policy(problems: Problems, spec: JSON, path: str) -> None:
    rules = spec["podFailurePolicy"].get("rules") or []
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {one.get("name") for kind in ("containers", "initContainers") for one in pod.get(kind) or []}
    if len(rules) > _MOST_RULES:
        problems.too_many(f"{path}.rules", len(rules), _MOST_RULES)
    for index, rule in enumerate(rules):
        where, action = f"{path}.rules[{index}]", rule.get("action")
        if not action:
            problems.required(f"{where}.action", _listed(_ACTIONS))
        elif action == "FailIndex":
            if spec.get("backoffLimitPerIndex") is None:
                problems.invalid(f"{where}.action", action, "requires the backoffLimitPerIndex to be set")
        elif action not in _ACTIONS:
            problems.unsupported(f"{where}.action", action, _ACTIONS)
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if codes is not None:
            _exit_codes(problems, codes, containers, f"{where}.onExitCodes")
        _conditions(problems, conditions, f"{where}.onPodConditions")
        if codes is not None and conditions:
            problems.wrong(where, "specifying both OnExitCodes and OnPodConditions is not supported")
        if codes is None and not conditions:
            problems.wrong(where, "specifying one of OnExitCodes and OnPodConditions is required")


def _conditions(problems: Problems, patterns: list[JSON], path: str) -> None:
    if len(patterns) > _MOST_PATTERNS:
        problems.too_many(path, len(patterns), _MOST_PATTERNS)
    for index, pattern in enumerate(patterns):
        where, status = f"{path}[{index}]", pattern.get("status")
        problems.check(f"{where}.type", pattern.get("type") or "", names.qualified_name)
        if not status:
            problems.required(f"{where}.status", _listed(_STATUSES))
        elif status not in _STATUSES:
            problems.unsupported(f"{where}.status", status, _STATUSES)


def _exit_codes(problems: Problems, codes: JSON, containers: set[Any], path: str) -> None:
    operator, values = codes.get("operator"), codes.get("values") or []
    if not operator:
        problems.required(f"{path}.operator", _listed(("In", "NotIn")))
    elif operator not in ("In", "NotIn"):
        problems.unsupported(f"{path}.operator", operator, ("In", "NotIn"))
    name = codes.get("containerName")
    if name is not None and name not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        problems.invalid(f"{path}.containerName", name, detail)
    if not values:
        problems.invalid(f"{path}.values", codes.get("values"), "at least one value is required")
    elif len(values) > _MOST_CODES:
        problems.too_many(f"{path}.values", len(values), _MOST_CODES)
    seen: set[int] = set()
    for index, value in enumerate(values):
        if operator == "In" and value == 0:
            problems.invalid(f"{path}.values[{index}]", value, "must not be 0 for the In operator")
        if value in seen:
            problems.duplicate(f"{path}.values[{index}]", value)
        seen.add(value)
    if values != sorted(values):
        problems.invalid(f"{path}.values", values, "must be ordered")


def _success_policy(problems: Problems, spec: JSON, path: str) -> None:
    if spec.get("completionMode") != "Indexed":
        problems.invalid(path, spec["successPolicy"], "requires indexed completion mode")
        return
    rules = spec["successPolicy"].get("rules") or []
    if not rules:
        problems.required(f"{path}.rules", "at least one rules must be specified when the successPolicy is specified")
    if len(rules) > _MOST_RULES:
        problems.too_many(f"{path}.rules", len(rules), _MOST_RULES)
    for index, rule in enumerate(rules):
        _success_rule(problems, rule, spec.get("completions") or 0, f"{path}.rules[{index}]")


def _success_rule(problems: Problems, rule: JSON, completions: int, path: str) -> None:
    count, indexes, total = rule.get("succeededCount"), rule.get("succeededIndexes"), 0
    if count is None and indexes is None:
        problems.required(path, "at least one of succeededCount or succeededIndexes must be specified")
    if indexes is not None:
        if len(indexes) > _LONGEST_INDEXES:
            problems.too_long(f"{path}.succeededIndexes", _LONGEST_INDEXES)
        try:
            total = count_indexes(indexes, completions)
        except BadIndexes as error:
            problems.invalid(f"{path}.succeededIndexes", indexes, f"error parsing succeededIndexes: {error}")
    if count is not None:
        where = f"{path}.succeededCount"
        problems.not_negative(where, count)
        for most, of in (
            (completions, "specified completions"),
            (total if indexes is not None else count, "indexes in the specified succeededIndexes field"),
        ):
            if count > most:
                problems.invalid(where, count, f"must be less than or equal to {most} (the number of {of})")


_FIXED = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
# What may change of the template while the Job is suspended and has never started.
_DIRECTIVES = ("nodeSelector", "tolerations", "schedulingGates")


def validate_job_update(problems: Problems, job: JSON, old: JSON) -> None:
    spec, before = job["spec"], old["spec"]
    new_count, old_count = spec.get("completions"), before.get("completions")
    if new_count != old_count:
        if spec.get("completionMode") != "Indexed":
            problems.invalid("spec.completions", new_count, names.IMMUTABLE)
        elif new_count is not None and new_count != spec.get("parallelism"):
            problems.invalid("spec.completions", new_count, "can only be modified in tandem with spec.parallelism")
    problems.unchanged("spec.selector", spec.get("selector"), before.get("selector"))
    template, template_before = spec.get("template") or {}, before.get("template") or {}
    if before.get("suspend") and not (old.get("status") or {}).get("startTime"):
        template_before = _with_new_directives(template_before, template)
    problems.unchanged("spec.template", template, template_before)
    for field in _FIXED:
        problems.unchanged(f"spec.{field}", spec.get(field), before.get(field))


def _with_new_directives(old: JSON, new: JSON) -> JSON:
    """The old template with what a queueing controller may choose for a suspended Job."""
    metadata, new_metadata = dict(old.get("metadata") or {}), new.get("metadata") or {}
    pod, new_pod = dict(old.get("spec") or {}), new.get("spec") or {}
    for field in ("labels", "annotations"):
        metadata[field] = new_metadata.get(field)
    for field in _DIRECTIVES:
        pod[field] = new_pod.get(field)
    affinity, new_affinity = pod.get("affinity"), new_pod.get("affinity")
    kept = {**(affinity or {}), "nodeAffinity": (new_affinity or {}).get("nodeAffinity")}
    pod["affinity"] = None if new_affinity is None and same(kept, {}) else kept
    return {**old, "metadata": metadata, "spec": pod}
