"""Tables of what runs pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, autoscalers, budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubecore.apiserver.tables.ages import human_duration, parse_time, since
from kubecore.apiserver.tables.column import (
    AGE,
    NAME,
    Cell,
    CellFunction,
    Column,
    Field,
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
_MORE_ON_SELECTORS = (
    "More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors"
)


def _ready_of_desired(obj: Object, _now: datetime) -> Cell:
    ready = part(obj, "status", "readyReplicas") or 0
    return f"{ready}/{part(obj, 'spec', 'replicas') or 0}"


def _integer(name: str, *path: str, description: str | Field) -> Column:
    return Column(name, at(*path, default=0), description, type="integer")


DEPLOYMENTS = KindTable(
    (
        NAME,
        Column("Ready", _ready_of_desired, "Number of the pod with ready state"),
        Column(
            "Up-to-date",
            at("status", "updatedReplicas", default=0),
            Field("apps.v1.DeploymentStatus", "updatedReplicas"),
        ),
        Column(
            "Available",
            at("status", "availableReplicas", default=0),
            Field("apps.v1.DeploymentStatus", "availableReplicas"),
        ),
        AGE,
        *template_columns(
            *_TEMPLATE,
            selector=selector_at("spec", "selector", default=""),
            selects="Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones"
            " affected by this deployment.",
        ),
    )
)


def _replicated(kind: str, selector: CellFunction, selects: str | Field) -> KindTable:
    return KindTable(
        (
            NAME,
            _integer("Desired", "spec", "replicas", description=Field(f"{kind}Spec", "replicas")),
            _integer("Current", "status", "replicas", description=Field(f"{kind}Status", "replicas")),
            _integer("Ready", "status", "readyReplicas", description=Field(f"{kind}Status", "readyReplicas")),
            AGE,
            *template_columns(*_TEMPLATE, selector=selector, selects=selects),
        )
    )


REPLICA_SETS = _replicated(
    "apps.v1.ReplicaSet",
    selector_at("spec", "selector"),
    "Selector is a label query over pods that should match the replica count. If the selector is empty, it is defaulted"
    " to the labels present on the pod template. Label keys and values that must match in order to be controlled"
    f" by this replica set. {_MORE_ON_SELECTORS}",
)
REPLICATION_CONTROLLERS = _replicated(
    "core.v1.ReplicationController",
    labels_at("spec", "selector"),
    Field("core.v1.ReplicationControllerSpec", "selector"),
)

STATEFUL_SETS = KindTable(
    (NAME, Column("Ready", _ready_of_desired, "Number of the pod with ready state"), AGE, *template_columns(*_TEMPLATE))
)

DAEMON_SETS = KindTable(
    (
        NAME,
        _integer(
            "Desired",
            "status",
            "desiredNumberScheduled",
            description=Field("apps.v1.DaemonSetStatus", "desiredNumberScheduled"),
        ),
        _integer(
            "Current",
            "status",
            "currentNumberScheduled",
            description=Field("apps.v1.DaemonSetStatus", "currentNumberScheduled"),
        ),
        _integer(
            "Ready",
            "status",
            "numberReady",
            description=(
                "The number of nodes that should be running the daemon pod and have one or more of the daemon "
                "pod running and ready."
            ),
        ),
        _integer(
            "Up-to-date",
            "status",
            "updatedNumberScheduled",
            description=Field("apps.v1.DaemonSetStatus", "updatedNumberScheduled"),
        ),
        _integer(
            "Available", "status", "numberAvailable", description=Field("apps.v1.DaemonSetStatus", "numberAvailable")
        ),
        Column(
            "Node Selector",
            labels_at("spec", "template", "spec", "nodeSelector"),
            Field("core.v1.PodSpec", "nodeSelector"),
        ),
        AGE,
        *template_columns(
            *_TEMPLATE,
            selector=selector_at("spec", "selector"),
            selects="A label query over pods that are managed by the daemon set. Must match in order to be controlled."
            f" If empty, defaulted to labels on Pod template. {_MORE_ON_SELECTORS}",
        ),
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
        Column("Status", _job_status, "Status of the job."),
        Column("Completions", _job_completions, Field("batch.v1.JobStatus", "succeeded")),
        Column("Duration", _job_duration, "Time required to complete the job."),
        AGE,
        *template_columns(
            *_TEMPLATE, selector=selector_at("spec", "selector"), selects=Field("batch.v1.JobSpec", "selector")
        ),
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
        Column("Schedule", at("spec", "schedule"), Field("batch.v1.CronJobSpec", "schedule")),
        Column("Timezone", at("spec", "timeZone", default="<none>"), Field("batch.v1.CronJobSpec", "timeZone")),
        Column("Suspend", _suspend, Field("batch.v1.CronJobSpec", "suspend"), type="boolean"),
        Column("Active", count("status", "active"), Field("batch.v1.CronJobStatus", "active"), type="integer"),
        Column("Last Schedule", _last_schedule, Field("batch.v1.CronJobStatus", "lastScheduleTime")),
        AGE,
        *template_columns(
            "spec",
            "jobTemplate",
            "spec",
            "template",
            selector=selector_at("spec", "jobTemplate", "spec", "selector"),
            selects=Field("batch.v1.JobSpec", "selector"),
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
        Column("Reference", _scale_target, Field("autoscaling.v2.HorizontalPodAutoscalerSpec", "scaleTargetRef")),
        Column(
            "Targets",
            _metrics,
            (
                "metrics contains the specifications for which to use to calculate the desired replica count "
                "(the maximum replica count across all metrics will be used).  The desired replica count is "
                "calculated multiplying the ratio between the target value and the current value by the current "
                "number of pods.  Ergo, metrics used must decrease as the pod count is increased, and "
                "vice-versa.  See the individual metric source types for more information about how each type of"
                " metric must respond."
            ),
        ),
        Column("MinPods", _fewest, Field("autoscaling.v1.HorizontalPodAutoscalerSpec", "minReplicas")),
        Column(
            "MaxPods",
            at("spec", "maxReplicas", default=0),
            Field("autoscaling.v2.HorizontalPodAutoscalerSpec", "maxReplicas"),
        ),
        Column(
            "Replicas",
            at("status", "currentReplicas", default=0),
            Field("autoscaling.v2.HorizontalPodAutoscalerStatus", "currentReplicas"),
        ),
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
        Column(
            "Min Available",
            _int_or_string("spec", "minAvailable"),
            "The minimum number of pods that must be available.",
        ),
        Column(
            "Max Unavailable",
            _int_or_string("spec", "maxUnavailable"),
            "The maximum number of pods that may be unavailable.",
        ),
        _integer(
            "Allowed Disruptions",
            "status",
            "disruptionsAllowed",
            description="Calculated number of pods that may be disrupted at this time.",
        ),
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
        Column("Controller", _controller, "Controller of the object"),
        Column(
            "Revision", at("revision", default=0), "revision indicates the revision of the state represented by Data."
        ),
        AGE,
    )
)

SCALES = KindTable(
    (
        Column("Name", at("metadata", "name"), NAME.description),
        _integer("Desired", "spec", "replicas", description=Field("autoscaling.v1.ScaleSpec", "replicas")),
        _integer("Available", "status", "replicas", description=Field("autoscaling.v1.ScaleStatus", "replicas")),
        AGE,
    )
)
