"""Jobs' status: what its controllers may say of a Job, and take back.

After kubernetes `pkg/apis/batch/validation/validation.go` (ValidateJobStatusUpdate) and
`pkg/registry/batch/job/strategy.go`: most is asked only where something it is about has changed.
"""

from __future__ import annotations

from typing import Any

from kubecore.api import meta
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.indexes import BadIndexes, count_indexes, first_common
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import validate_counts

JSON = dict[str, Any]


def _true(status: JSON) -> set[str]:
    return {one.get("type") or "" for one in status.get("conditions") or [] if one.get("status") == "True"}


class _Change:
    """The spec, both statuses and what of them differs."""

    def __init__(self, spec: JSON, status: JSON, old: JSON) -> None:
        self.spec, self.status, self.old = spec, status, old
        self.true, self.was = _true(status), _true(old)
        self.finished = bool(self.true & {"Complete", "Failed"})
        self.finish_changed = self.finished != bool(self.was & {"Complete", "Failed"})

    def turned(self, *conditions: str) -> bool:
        """One of these conditions came or went."""
        return any((one in self.true) != (one in self.was) for one in conditions)

    def differs(self, *fields: str) -> bool:
        return any(not same(self.status.get(field), self.old.get(field)) for field in fields)


def validate_job_status(problems: Problems, job: JSON, old: JSON) -> None:
    """A change through jobs/status."""
    status = job.get("status") or {}
    change = _Change(old.get("spec") or {}, status, old.get("status") or {})
    validate_counts(problems, status, "status", ("active", "succeeded", "failed", "ready", "terminating"))
    _uncounted(problems, status)
    _conditions(problems, change)
    _times(problems, change)
    _finished(problems, change)
    _indexes(problems, change)
    ready, active = status.get("ready"), status.get("active") or 0
    if change.differs("ready", "active") and ready is not None and ready > active:
        problems.invalid("status.ready", ready, "cannot set more ready pods than active")
    _kept(problems, change)


def _uncounted(problems: Problems, status: JSON) -> None:
    seen: set[str] = set()
    for field in ("succeeded", "failed"):
        for index, uid in enumerate((status.get("uncountedTerminatedPods") or {}).get(field) or []):
            where = f"status.uncountedTerminatedPods.{field}[{index}]"
            if not uid:
                problems.invalid(where, uid, "must not be empty")
            elif uid in seen:
                problems.duplicate(where, uid)
            seen.add(uid)


# Conditions that are never true together, and which of them must have changed for that to be looked at.
_EXCLUSIVE = (
    ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions", True),
    ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions", True),
    ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions", False),
    (
        "SuccessCriteriaMet",
        "FailureTarget",
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        False,
    ),
)


def _conditions(problems: Problems, change: _Change) -> None:
    path, true = "status.conditions", change.true
    for one, other, detail, when_changed in _EXCLUSIVE:
        if {one, other} <= true and (not when_changed or change.turned(one, other)):
            problems.wrong(path, detail)
    failing = change.turned("Failed") or change.differs("failedIndexes")
    if failing and "Failed" in true and "FailureTarget" not in true:
        problems.wrong(path, "cannot set Failed=True condition without the FailureTarget=true condition")
    if "Complete" in true and "SuccessCriteriaMet" not in true:
        if change.turned("Complete", "SuccessCriteriaMet"):
            problems.wrong(path, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
        if change.spec.get("successPolicy") is not None:
            detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
            problems.wrong(path, detail)


def _times(problems: Problems, change: _Change) -> None:
    started, completed = change.status.get("startTime"), change.status.get("completionTime")
    if change.turned("Complete") or change.differs("completionTime"):
        if completed and "Complete" not in change.true:
            detail = "cannot set completionTime when there is no Complete=True condition"
            problems.invalid("status.completionTime", completed, detail)
        if not completed and "Complete" in change.true:
            problems.required("status.completionTime", "completionTime is required for Complete jobs")
    if not started or not completed or not change.differs("startTime", "completionTime"):
        return
    if meta.parse_time(completed) < meta.parse_time(started):
        problems.invalid("status.completionTime", completed, "must be equal to or after `startTime`")


def _finished(problems: Problems, change: _Change) -> None:
    """A Job that has ended has no pods left."""
    if not change.finished:
        return
    status, spec = change.status, change.spec
    for field in ("active", "terminating"):
        if (status.get(field) or 0) > 0 and (change.finish_changed or change.differs(field)):
            problems.invalid(f"status.{field}", status[field], f"{field}>0 is invalid for finished job")
    never_ran = spec.get("suspend") and spec.get("completions") == 0
    if not status.get("startTime") and (change.finish_changed or change.differs("startTime")) and not never_ran:
        problems.required("status.startTime", "startTime is required for finished job")
    field = "uncountedTerminatedPods"
    uncounted = status.get(field) or {}
    if (uncounted.get("failed") or uncounted.get("succeeded")) and (change.finish_changed or change.differs(field)):
        problems.invalid(f"status.{field}", uncounted, "must be empty for finished job")


def _indexes(problems: Problems, change: _Change) -> None:
    completions, done = change.spec.get("completions"), change.status.get("completedIndexes") or ""
    failed = change.status.get("failedIndexes")
    per_index = change.spec.get("backoffLimitPerIndex") is not None
    if change.differs("completedIndexes"):
        if completions is not None:
            _parsed(problems, done, completions, "completedIndexes")
        if done and change.spec.get("completionMode") != "Indexed":
            detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
            problems.invalid("status.completedIndexes", done, detail)
    if failed is not None and change.differs("failedIndexes"):
        if completions is not None and per_index:
            _parsed(problems, failed, completions, "failedIndexes")
        if not per_index:
            detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
            problems.invalid("status.failedIndexes", failed, detail)
    if completions is not None and failed and done and change.differs("failedIndexes", "completedIndexes"):
        common = first_common(done, failed, completions)
        if common is not None:
            detail = f"failedIndexes and completedIndexes overlap at index: {common}"
            problems.invalid("status.failedIndexes", failed, detail)


def _parsed(problems: Problems, text: str, completions: int, field: str) -> None:
    try:
        count_indexes(text, completions)
    except BadIndexes as error:
        problems.invalid(f"status.{field}", text, f"error parsing {field}: {error}")


def _kept(problems: Problems, change: _Change) -> None:
    """What has been said and cannot be taken back."""
    status, old, spec = change.status, change.old, change.spec
    for condition in ("Failed", "Complete", "FailureTarget"):
        if condition in change.was - change.true:
            problems.wrong("status.conditions", f"cannot disable the terminal {condition}=True condition")
    counters = ["failed"]
    if spec.get("completionMode") != "Indexed" or spec.get("completions") != spec.get("parallelism"):
        counters.append("succeeded")
    for field in counters:
        if (status.get(field) or 0) < (old.get(field) or 0):
            problems.invalid(f"status.{field}", status.get(field) or 0, f"cannot decrease the {field} counter")
    completed, completed_before = status.get("completionTime"), old.get("completionTime")
    if completed and completed_before and completed != completed_before:
        problems.invalid("status.completionTime", completed, names.IMMUTABLE)
    resuming = "Suspended" in change.was and any(
        one.get("type") == "Suspended" and one.get("status") == "False" for one in status.get("conditions") or []
    )
    if old.get("startTime") and change.differs("startTime") and not spec.get("suspend") and not resuming:
        problems.required("status.startTime", "startTime cannot be removed for unsuspended job")
    if "SuccessCriteriaMet" in change.was - change.true:
        problems.wrong("status.conditions", "cannot disable the SuccessCriteriaMet=True condition")
    if "Complete" in change.was and "SuccessCriteriaMet" in change.true - change.was:
        detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        problems.wrong("status.conditions", detail)
