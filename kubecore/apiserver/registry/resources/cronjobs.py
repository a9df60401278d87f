"""CronJobs."""

from __future__ import annotations

from typing import Any

from kubecore.api.cron import BadSchedule
from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.resources.jobs import default_failure_policy
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import pod_advice
from kubecore.apiserver.registry.validation.jobs import validate_job_spec
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.schedules import check_schedule, zone_errors
from kubecore.apiserver.registry.validation.workloads import validate_counts

JSON = dict[str, Any]

_SUCCESSFUL, _FAILED = 3, 1
# 63 less the dash and the ten digits a Job's name adds.
_LONGEST_NAME = 52
_ZONE_IN_SCHEDULE = (
    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see "
    "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
)


class CronJobStrategy(Strategy):
    resource_key = "cronjobs.batch"
    defaults_status = False

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", _SUCCESSFUL)
        spec.setdefault("failedJobsHistoryLimit", _FAILED)
        template = spec.get("jobTemplate")
        if template is not None:
            job = template.get("spec") or {}
            default_failure_policy(job.get("podFailurePolicy"))
            default_pod_template(job.get("template"))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        if ctx.operation == "CREATE":
            _schedule(problems, spec, "")
            _time_zone(problems, spec.get("timeZone"))
        problems.not_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
        policies = ("Allow", "Forbid", "Replace")
        problems.one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies, required=True)
        job, path = (spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec"
        validate_job_spec(problems, job, path)
        if job.get("selector") is not None:
            problems.invalid(f"{path}.selector", job["selector"], "`selector` will be auto-generated")
        if job.get("manualSelector"):
            problems.unsupported(f"{path}.manualSelector", True, ("nil", "false"))
        validate_counts(problems, spec, "spec", ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"))
        name = obj["metadata"].get("name") or ""
        if ctx.operation == "CREATE" and len(name) > _LONGEST_NAME:
            problems.invalid("metadata.name", name, f"must be no more than {_LONGEST_NAME} characters")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, spec, before = Problems(), obj.get("spec") or {}, old.get("spec") or {}
        _schedule(problems, spec, before.get("schedule") or "")
        if spec.get("timeZone") != before.get("timeZone"):
            _time_zone(problems, spec.get("timeZone"))
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if ctx.subresource == "status":
            return []
        told = pod_advice.of_name(obj["metadata"]) if old is None else []
        if old is None or pod_advice.is_new_generation(obj, old):
            job = (obj["spec"].get("jobTemplate") or {}).get("spec") or {}
            told += pod_advice.of_job_spec(job, "spec.jobTemplate.spec")
        if old is not None and "TZ" in obj["spec"].get("schedule", ""):
            told.append(_ZONE_IN_SCHEDULE)
        return told


def _schedule(problems: Problems, spec: JSON, old: str) -> None:
    """A schedule that once was let name its zone may go on doing so."""
    schedule, path = spec.get("schedule") or "", "spec.schedule"
    if not schedule:
        problems.required(path)
        return
    try:
        check_schedule(schedule)
    except BadSchedule as error:
        problems.invalid(path, schedule, str(error))
    if "TZ" not in schedule:
        return
    if "TZ" not in old:
        problems.invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
    elif spec.get("timeZone") is not None:
        problems.invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")


def _time_zone(problems: Problems, zone: str | None) -> None:
    if zone is None:
        return
    if not zone:
        problems.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
        return
    for error in zone_errors(zone):
        problems.invalid("spec.timeZone", zone, error)
