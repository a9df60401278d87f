"""Tables of what runs pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, autoscalers, budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecore.apiserver.tables.ages import human_duration, parse_time, since
from kubecore.apiserver.tables.column import (
    AGE,
    NAME,
    Cell,
    Column,
    KindTable,
    Object,
    at,
    condition_is_true,
    count,
    labels_at,
    part,
    selector_at,
    template_columns,
)

_TEMPLATE = ("spec", "template")


def _ready_of_desired(obj: Object, _now: datetime) -> Cell:
    ready = part(obj, "status", "readyReplicas") or 0
    return f"{ready}/{part(obj, 'spec', 'replicas') or 0}"


def _integer(name: str, *path: str, description: str) -> Column:
    return Column(name, at(*path, default=0), description, type="integer")


DEPLOYMENTS = KindTable(
    (
        NAME,
        Column("Ready", _ready_of_desired, "Ready pods of those wanted."),
        Column("Up-to-date", at("status", "updatedReplicas", default=0), "Pods made from the present template."),
        Column("Available", at("status", "availableReplicas", default=0), "Pods ready for at least minReadySeconds."),
        AGE,
        *template_columns(*_TEMPLATE, selector=selector_at("spec", "selector", default="")),
    )
)


def _replicated(selector: Any) -> KindTable:
    return KindTable(
        (
            NAME,
            _integer("Desired", "spec", "replicas", description="Pods wanted."),
            _integer("Current", "status", "replicas", description="Pods there are."),
            _integer("Ready", "status", "readyReplicas", description="Pods that are ready."),
            AGE,
            *template_columns(*_TEMPLATE, selector=selector),
        )
    )


REPLICA_SETS = _replicated(selector_at("spec", "selector"))
REPLICATION_CONTROLLERS = _replicated(labels_at("spec", "selector"))

STATEFUL_SETS = KindTable(
    (NAME, Column("Ready", _ready_of_desired, "Ready pods of those wanted."), AGE, *template_columns(*_TEMPLATE))
)

DAEMON_SETS = KindTable(
    (
        NAME,
        _integer("Desired", "status", "desiredNumberScheduled", description="Nodes that should run the pod."),
        _integer("Current", "status", "currentNumberScheduled", description="Nodes that should run it and do."),
        _integer("Ready", "status", "numberReady", description="Nodes whose pod is ready."),
        _integer("Up-to-date", "status", "updatedNumberScheduled", description="Nodes with the present template."),
        _integer("Available", "status", "numberAvailable", description="Nodes whose pod is available."),
        Column(
            "Node Selector",
            labels_at("spec", "template", "spec", "nodeSelector"),
            "Labels a node must have for the pod to run there.",
        ),
        AGE,
        *template_columns(*_TEMPLATE, selector=selector_at("spec", "selector")),
    )
)


def _job_status(job: Object, _now: datetime) -> Cell:
    if condition_is_true(job, "Complete"):
        return "Complete"
    if condition_is_true(job, "Failed"):
        return "Failed"
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for type in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if condition_is_true(job, type):
            return type
    return "Running"


def _job_completions(job: Object, _now: datetime) -> Cell:
    succeeded = part(job, "status", "succeeded") or 0
    completions, parallelism = part(job, "spec", "completions"), part(job, "spec", "parallelism") or 0
    if completions is not None:
        return f"{succeeded}/{completions}"
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job_duration(job: Object, now: datetime) -> Cell:
    started = parse_time(part(job, "status", "startTime"))
    if started is None:
        return ""
    ended = parse_time(part(job, "status", "completionTime"))
    return human_duration((ended or now) - started)


JOBS = KindTable(
    (
        NAME,
        Column("Status", _job_status, "What has become of the job."),
        Column("Completions", _job_completions, "Pods that succeeded, of those wanted."),
        Column("Duration", _job_duration, "How long the job took, or has taken so far."),
        AGE,
        *template_columns(*_TEMPLATE, selector=selector_at("spec", "selector")),
    )
)


def _suspend(obj: Object, _now: datetime) -> Cell:
    value = part(obj, "spec", "suspend")
    return "<unset>" if value is None else str(bool(value))


def _last_schedule(obj: Object, now: datetime) -> Cell:
    last = part(obj, "status", "lastScheduleTime")
    return since(last, now) if last else "<none>"


CRON_JOBS = KindTable(
    (
        NAME,
        Column("Schedule", at("spec", "schedule"), "When it runs, in cron's notation."),
        Column("Timezone", at("spec", "timeZone", default="<none>"), "The time zone of the schedule."),
        Column("Suspend", _suspend, "Whether no new runs are started.", type="boolean"),
        Column("Active", count("status", "active"), "Jobs running now.", type="integer"),
        Column("Last Schedule", _last_schedule, "How long ago a job was last started."),
        AGE,
        *template_columns(
            "spec", "jobTemplate", "spec", "template", selector=selector_at("spec", "jobTemplate", "spec", "selector")
        ),
    )
)


_METRICS = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
_NO_QUANTITY = "<nil>"
_UNKNOWN = "<unknown>"


def _metric_text(spec: Object, status: Object) -> str:
    """`name: current/target` of one autoscaling metric; `status` is empty while nothing is known."""
    field = _METRICS.get(spec.get("type", ""))
    if field is None:
        return "<unknown type>"
    target = part(spec, field, "target") or {}
    # None: nothing is known; empty: known to have no such value
    current = None if status.get(field) is None else part(status, field, "current") or {}
    if field in ("resource", "containerResource"):
        return f"{part(spec, field, 'name') or ''}: {_of_resource(target, current)}"
    if field == "pods":
        return f"{_shown(current, 'averageValue')}/{target.get('averageValue', _NO_QUANTITY)}"
    if target.get("averageValue") is not None:
        average = (current or {}).get("averageValue", _UNKNOWN)
        return f"{average}/{target['averageValue']} (avg)"
    return f"{_shown(current, 'value')}/{target.get('value', _NO_QUANTITY)}"


def _shown(current: Object | None, value: str) -> str:
    return _UNKNOWN if current is None else str(current.get(value, _NO_QUANTITY))


def _of_resource(target: Object, current: Object | None) -> str:
    if target.get("averageValue") is not None:
        return f"{_shown(current, 'averageValue')}/{target['averageValue']}"
    used, wanted = (current or {}).get("averageUtilization"), target.get("averageUtilization")
    return f"{_UNKNOWN if used is None else f'{used}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"


_SHOWN_METRICS = 2


def _metrics(obj: Object, _now: datetime) -> Cell:
    specs = part(obj, "spec", "metrics") or []
    if not specs:
        return "<none>"
    statuses = part(obj, "status", "currentMetrics") or []
    texts = [_metric_text(spec, statuses[i] if i < len(statuses) else {}) for i, spec in enumerate(specs)]
    shown = ", ".join(texts[:_SHOWN_METRICS])
    return f"{shown} + {len(texts) - _SHOWN_METRICS} more..." if len(texts) > _SHOWN_METRICS else shown


def _scale_target(obj: Object, _now: datetime) -> Cell:
    target = part(obj, "spec", "scaleTargetRef") or {}
    return f"{target.get('kind', '')}/{target.get('name', '')}"


def _fewest(obj: Object, _now: datetime) -> Cell:
    return str(at("spec", "minReplicas", default="<unset>")(obj, _now))


HORIZONTAL_POD_AUTOSCALERS = KindTable(
    (
        NAME,
        Column("Reference", _scale_target, "What is scaled."),
        Column("Targets", _metrics, "Each metric's present value and target."),
        Column("MinPods", _fewest, "The fewest pods."),
        Column("MaxPods", at("spec", "maxReplicas", default=0), "The most pods."),
        Column("Replicas", at("status", "currentReplicas", default=0), "Pods there are."),
        AGE,
    )
)


def _int_or_string(*path: str) -> Any:
    def cell(obj: Object, _now: datetime) -> Cell:
        value = part(obj, *path)
        return "N/A" if value is None else str(value)

    return cell


POD_DISRUPTION_BUDGETS = KindTable(
    (
        NAME,
        Column("Min Available", _int_or_string("spec", "minAvailable"), "Pods that must stay available."),
        Column("Max Unavailable", _int_or_string("spec", "maxUnavailable"), "Pods that may be unavailable."),
        _integer("Allowed Disruptions", "status", "disruptionsAllowed", description="Pods that may be evicted now."),
        AGE,
    )
)


def _controller(obj: Object, _now: datetime) -> Cell:
    for owner in obj["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            kind, group = owner.get("kind", "").lower(), owner.get("apiVersion", "").rpartition("/")[0]
            name = owner.get("name", "")
            return f"{kind}.{group.lower()}/{name}" if group else f"{kind}/{name}"
    return "<none>"


CONTROLLER_REVISIONS = KindTable(
    (
        NAME,
        Column("Controller", _controller, "What the revision belongs to."),
        Column("Revision", at("revision", default=0), "The revision's number."),
        AGE,
    )
)

SCALES = KindTable(
    (
        Column("Name", at("metadata", "name"), "The scaled object's name."),
        _integer("Desired", "spec", "replicas", description="Pods wanted."),
        _integer("Available", "status", "replicas", description="Pods there are."),
        AGE,
    )
)
