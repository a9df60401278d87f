"""CronJobs."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.resources.jobs import default_failure_policy
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.jobs import validate_job_spec
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.schedules import BadSchedule, check_schedule, is_time_zone
from kubecore.apiserver.registry.validation.workloads import validate_counts

JSON = dict[str, Any]

_SUCCESSFUL, _FAILED = 3, 1
# 63 less the dash and the ten digits a Job's name adds.
_LONGEST_NAME = 52


class CronJobStrategy(Strategy):
    resource_key = "cronjobs.batch"

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
            template.setdefault("metadata", {})
            job = template.get("spec") or {}
            default_failure_policy(job.get("podFailurePolicy"))
            default_pod_template(job.get("template"))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        name = obj["metadata"].get("name") or ""
        if ctx.operation == "CREATE" and len(name) > _LONGEST_NAME:
            problems.invalid("metadata.name", name, f"must be no more than {_LONGEST_NAME} characters")
        _schedule(problems, spec)
        policies = ("Allow", "Forbid", "Replace")
        problems.one_of("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies, required=True)
        counts = ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
        validate_counts(problems, spec, "spec", counts)
        job = (spec.get("jobTemplate") or {}).get("spec") or {}
        if job.get("selector") is not None:
            detail = "`selector` will be auto-generated"
            problems.invalid("spec.jobTemplate.spec.selector", job["selector"], detail)
        if job.get("manualSelector"):
            problems.unsupported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))
        validate_job_spec(problems, job, "spec.jobTemplate.spec")
        return problems


def _schedule(problems: Problems, spec: JSON) -> None:
    schedule, zone = spec.get("schedule") or "", spec.get("timeZone")
    if not schedule:
        problems.required("spec.schedule")
    elif "TZ" in schedule:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        problems.invalid("spec.schedule", schedule, detail)
    else:
        try:
            check_schedule(schedule)
        except BadSchedule as error:
            problems.invalid("spec.schedule", schedule, str(error))
    if zone is not None:
        if not zone:
            problems.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
        elif not is_time_zone(zone):
            problems.invalid("spec.timeZone", zone, f"unknown time zone {zone}")
