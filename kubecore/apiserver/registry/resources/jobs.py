"""Jobs: the selector and the labels of a Job's pods are made of its uid."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.resources import zero_times
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.jobs import validate_job_spec, validate_job_update
from kubecore.apiserver.registry.validation.labels import selector_matches, validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_BACKOFF, _UNLIMITED = 6, 2**31 - 1
_UID_LABEL, _NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
# What the labels were called before they got a prefix; both are kept.
_OLD_UID_LABEL, _OLD_NAME_LABEL = "controller-uid", "job-name"


class JobStrategy(Strategy):
    resource_key = "jobs.batch"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is not None:
            default_job_spec(spec)
            _default_labels(obj, spec)

    def default_propagation(self, ctx: RequestContext, obj: JSON) -> str:
        # Its pods have always outlived it unless a client says otherwise; `kubectl delete` does.
        return "Orphan"

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        spec = obj.get("spec") or {}
        if not spec.get("manualSelector"):
            _generate_selector(obj, spec)
        _default_labels(obj, spec)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        validate_job_spec(problems, spec, "spec")
        selector = spec.get("selector")
        if selector is None:
            problems.required("spec.selector")
        else:
            validate_label_selector(problems, selector, "spec.selector")
            labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
            if not selector_matches(selector, labels):
                detail = "`selector` does not match template `labels`"
                problems.invalid("spec.template.metadata.labels", labels, detail)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_job_update(obj["spec"], old["spec"])

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status, before = Problems(), obj.get("status") or {}, old.get("status") or {}
        for field in ("active", "succeeded", "failed", "terminating", "ready"):
            problems.not_negative(f"status.{field}", status.get(field))
        finished = {one.get("type") for one in status.get("conditions") or [] if one.get("status") == "True"}
        if {"Complete", "Failed"} <= finished:
            problems.invalid("status.conditions", True, "cannot set Complete=True and Failed=true conditions")
        if before.get("completionTime"):
            problems.immutable("status.completionTime", status.get("completionTime"), before["completionTime"])
        if before.get("startTime") and status.get("startTime") and not (old["spec"] or {}).get("suspend"):
            problems.immutable("status.startTime", status["startTime"], before["startTime"])
        return problems

    def canonicalize(self, obj: JSON) -> None:
        zero_times.fill_conditions(obj, zero_times.PROBED)


def _default_labels(obj: JSON, spec: JSON) -> None:
    """A Job without labels has those of its pods."""
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def default_job_spec(spec: JSON) -> None:
    """A Job's spec; a CronJob's template gets only its pods' defaults until a Job is made of it."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = _BACKOFF if spec.get("backoffLimitPerIndex") is None else _UNLIMITED
    spec["completionMode"] = spec.get("completionMode") or "NonIndexed"
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    policy = spec.get("podFailurePolicy")
    if not spec.get("podReplacementPolicy"):
        spec["podReplacementPolicy"] = "Failed" if policy else "TerminatingOrFailed"
    default_failure_policy(policy)
    default_pod_template(spec.get("template"))


def default_failure_policy(policy: JSON | None) -> None:
    for rule in (policy or {}).get("rules") or []:
        for pattern in rule.get("onPodConditions") or []:
            pattern["status"] = pattern.get("status") or "True"


def _generate_selector(obj: JSON, spec: JSON) -> None:
    template = spec.get("template")
    if template is None or spec.get("selector"):
        return
    uid, name = obj["metadata"]["uid"], obj["metadata"].get("name", "")
    labels = template.setdefault("metadata", {}).get("labels")
    if labels is None:
        labels = template["metadata"]["labels"] = {}
    for key, value in ((_UID_LABEL, uid), (_OLD_UID_LABEL, uid), (_NAME_LABEL, name), (_OLD_NAME_LABEL, name)):
        labels[key] = value
    spec["selector"] = {"matchLabels": {_UID_LABEL: uid}}
