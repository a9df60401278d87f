"""Jobs: the selector and the labels of a Job's pods are made of its uid."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names, pod_advice
from kubecore.apiserver.registry.validation.job_status import validate_job_status
from kubecore.apiserver.registry.validation.jobs import validate_job_spec, validate_job_update
from kubecore.apiserver.registry.validation.labels import selector_matches, validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_BACKOFF, _UNLIMITED = 6, 2**31 - 1
_UID_LABEL, _NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
_PREFIXED = {_UID_LABEL, _NAME_LABEL}
# What the labels were called before they got a prefix; both are kept.
_OLD_UID_LABEL, _OLD_NAME_LABEL = "controller-uid", "job-name"


class JobStrategy(Strategy):
    resource_key = "jobs.batch"
    defaults_status = False

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is not None:
            default_job_spec(spec)
            _default_labels(obj, spec)

    deletion_warning = (
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
        "set propagationPolicy=Orphan to suppress this warning"
    )

    def default_propagation(self, ctx: RequestContext, obj: JSON) -> str:
        # Its pods have always outlived it unless a client says otherwise; `kubectl delete` does.
        return "Orphan"

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}
        spec = obj.get("spec") or {}
        if not spec.get("manualSelector"):
            shared = _shares_labels(obj, spec)
            _generate_selector(obj, spec)
            if shared:
                obj["metadata"]["labels"] = spec["template"]["metadata"]["labels"]

    def canonicalize(self, obj: JSON) -> None:
        # As if read back: the labels that were made for the pods are the Job's, too.
        _default_labels(obj, obj.get("spec") or {})

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        return _problems(obj, prefixed=True) if ctx.operation == "CREATE" else []

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        # A Job from before there were prefixes has pods without them.
        problems = _problems(obj, prefixed=_template_labels(old).keys() >= _PREFIXED)
        validate_job_update(problems, obj, old)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource == "status" or (old is not None and not pod_advice.is_new_generation(obj, old)):
            return []
        named = pod_advice.of_name(obj["metadata"]) if old is None else []
        return named + pod_advice.of_job_spec(obj["spec"], "spec")

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_job_status(problems, obj, old)
        return problems


def _template_labels(obj: JSON) -> JSON:
    template = (obj.get("spec") or {}).get("template") or {}
    return (template.get("metadata") or {}).get("labels") or {}


def _problems(obj: JSON, *, prefixed: bool) -> Problems:
    """`prefixed`: the labels of its pods must have Kubernetes' prefix, too."""
    problems, spec = Problems(), obj.get("spec") or {}
    selector = spec.get("selector")
    validate_job_spec(problems, spec, "spec")
    labels = _template_labels(obj)
    usable = _selector(problems, selector, labels or None)
    if not spec.get("manualSelector") and selector is not None:
        generated = Problems()
        _generated_selector(generated, obj, labels, usable=usable, prefixed=prefixed)
        problems[:0] = generated
    _host_names(problems, obj, spec)
    return problems


def _default_labels(obj: JSON, spec: JSON) -> None:
    """A Job without labels has those of its pods: the very same, so that it gets what is made for these, too."""
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = labels


def _shares_labels(obj: JSON, spec: JSON) -> bool:
    """Whether its labels were defaulted, which a client's own never are, were they equal."""
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    return labels is not None and obj["metadata"].get("labels") is labels


def _selector(problems: Problems, selector: JSON | None, labels: JSON | None) -> bool:
    """Says whether the selector can be used to select."""
    before = len(problems)
    if selector is None:
        problems.required("spec.selector")
    else:
        validate_label_selector(problems, selector, "spec.selector")
    usable = selector is None or len(problems) == before
    if usable and (selector is None or not selector_matches(selector, labels)):
        problems.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    return usable


def _generated_selector(problems: Problems, obj: JSON, labels: JSON, *, usable: bool, prefixed: bool) -> None:
    """A selector that is not the client's business is as the server makes it, and so are the labels."""
    uid, name = obj["metadata"].get("uid") or "", obj["metadata"].get("name") or ""
    expected = {_OLD_UID_LABEL: uid, _OLD_NAME_LABEL: name}
    if prefixed:
        expected |= {_UID_LABEL: uid, _NAME_LABEL: name}
    for key, value in expected.items():
        where, detail = f"spec.template.metadata.labels[{key}]", f"must be '{value}'"
        if key not in labels:
            problems.required(where, detail)
        elif labels[key] != value:
            problems.invalid(where, labels, detail)
    selector = obj["spec"]["selector"]
    if usable and not selector_matches(selector, expected):
        problems.invalid("spec.selector", selector, "`selector` not auto-generated")


def _host_names(problems: Problems, obj: JSON, spec: JSON) -> None:
    """Pods of an indexed Job are called by its name and their index."""
    if spec.get("completionMode") == "Indexed" and (spec.get("completions") or 0) > 0:
        name = obj["metadata"].get("name") or ""
        longest = f"{name}-{spec['completions'] - 1}"
        if names.dns_label(longest):
            detail = f"will not able to create pod with invalid DNS label: {longest}"
            problems.invalid("metadata.name", name, detail)


def default_job_spec(spec: JSON) -> None:
    """A Job's spec; a CronJob's template gets only its pods' defaults until a Job is made of it."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = _BACKOFF if spec.get("backoffLimitPerIndex") is None else _UNLIMITED
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    policy = spec.get("podFailurePolicy")
    spec.setdefault("podReplacementPolicy", "TerminatingOrFailed" if policy is None else "Failed")
    default_failure_policy(policy)
    default_pod_template(spec.get("template"))


def default_failure_policy(policy: JSON | None) -> None:
    for rule in (policy or {}).get("rules") or []:
        for pattern in rule.get("onPodConditions") or []:
            pattern["status"] = pattern.get("status") or "True"


def _generate_selector(obj: JSON, spec: JSON) -> None:
    uid, name = obj["metadata"]["uid"], obj["metadata"].get("name") or ""
    template = spec.get("template")
    if template is None:
        template = spec["template"] = {}
    metadata = template["metadata"] = template.get("metadata") or {}
    generated = {_OLD_NAME_LABEL: name, _NAME_LABEL: name, _OLD_UID_LABEL: uid, _UID_LABEL: uid}
    # What a client has set of them by itself is found by validation.
    metadata["labels"] = {**generated, **(metadata.get("labels") or {})}
    selector = spec["selector"] = spec.get("selector") or {}
    selector["matchLabels"] = {_UID_LABEL: uid, **(selector.get("matchLabels") or {})}
