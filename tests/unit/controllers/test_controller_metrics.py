"""What controllers tell of their work beside their queues', under upstream's names."""

from __future__ import annotations

from kubecore.api import errors
from kubecore.clock import VirtualClock
from kubecore.controllers.base import Controller
from kubecore.controllers.jobs.cronjob import CronJobController
from kubecore.controllers.jobs.job import JobController
from kubecore.controllers.nodes.node_lifecycle import NodeLifecycleController
from kubecore.controllers.nodes.taint_eviction import TaintEvictionController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running
from tests.unit.controllers.jobs.test_cronjob import CRON_JOBS, HOUR, cron_job
from tests.unit.controllers.jobs.test_job import JOBS, active, finish, indexed, job
from tests.unit.controllers.nodes.test_nodes import add_node, add_pod, heartbeats

SYNCS = "job_controller_job_syncs_total"
FINISHED = "job_controller_jobs_finished_total"
PODS = "job_controller_job_pods_finished_total"


def told(controller: Controller) -> list[str]:
    return [line for metric in controller.metrics for line in metric.lines()]


def counts(controller: Controller, name: str) -> dict[str, int]:
    """Of each set of labels."""
    found = [line.removeprefix(name).rpartition(" ") for line in told(controller) if line.startswith(f"{name}{{")]
    return {labels.strip("{}"): int(value) for labels, _, value in found}


async def test_a_job_that_ends_is_told_with_its_pods_and_why(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    api.add(JOBS, indexed(2))
    await running.start(controller)
    assert counts(controller, FINISHED) == {}
    for name in active(api):
        finish(api, name)
    await clock.advance(1)
    assert counts(controller, PODS) == {'completion_mode="Indexed",result="succeeded"': 2}
    reached = 'completion_mode="Indexed",reason="CompletionsReached",result="succeeded"'
    assert counts(controller, FINISHED) == {reached: 1}


async def test_a_job_that_fails_is_told_with_the_limit_it_has_reached(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    api.add(JOBS, job(backoffLimit=0))
    await running.start(controller)
    finish(api, active(api)[0], "Failed", code=1)
    await clock.advance(1)
    exceeded = 'completion_mode="NonIndexed",reason="BackoffLimitExceeded",result="failed"'
    assert counts(controller, FINISHED) == {exceeded: 1}
    assert counts(controller, PODS) == {'completion_mode="NonIndexed",result="failed"': 1}


async def test_syncs_of_jobs_are_told_by_what_they_did_and_whether_they_failed(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = JobController(running.context)
    api.add(JOBS, job(parallelism=2, completions=2))
    api.react("create pods", errors.internal_error("no"))
    await running.start(controller)
    await clock.advance(1)
    found = counts(controller, SYNCS)
    assert found['action="pods_created",completion_mode="NonIndexed",result="error"'] == 1
    api.change(JOBS, "work", spec={"parallelism": 1})
    await clock.advance(1)
    found = counts(controller, SYNCS)
    assert found['action="pods_deleted",completion_mode="NonIndexed",result="success"'] == 1
    assert sum(found.values()) == sum(counts(controller, "job_controller_job_sync_duration_seconds_count").values())


async def test_how_late_jobs_of_a_schedule_are_made_is_told(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    controller = CronJobController(running.context)
    api.add(CRON_JOBS, cron_job("0 3 * * *"))
    await running.start(controller)
    assert told(controller) == []
    await clock.advance(3 * HOUR + 1)
    name = "cronjob_controller_job_creation_skew_duration_seconds"
    assert f"{name}_count 1" in told(controller)
    assert f'{name}_bucket{{le="1"}} 1' in told(controller)


async def test_a_node_that_pods_must_leave_is_an_eviction_of_its_zone(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    lifecycle, eviction = (
        NodeLifecycleController(running.context, grace_seconds=50),
        TaintEvictionController(running.context),
    )
    add_node(api)
    api.change("nodes", "n1", metadata={"labels": {"topology.kubernetes.io/zone": "a"}})
    add_node(api, "other")
    add_pod(api, "a")
    await running.start(lifecycle, eviction)
    assert counts(lifecycle, "node_collector_evictions_total") == {}
    await heartbeats(api, clock, 60, of=["other"])
    assert counts(lifecycle, "node_collector_evictions_total") == {'zone=":\0:a"': 1}
    assert "taint_eviction_controller_pod_deletions_total 1" in told(eviction)


async def test_how_many_nodes_of_a_zone_are_well_is_told(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    controller = NodeLifecycleController(running.context, grace_seconds=50)
    for name in ("n1", "n2", "n3", "n4"):
        add_node(api, name)
        api.change("nodes", name, metadata={"labels": {"topology.kubernetes.io/zone": "a"}})
    await running.start(controller)
    await heartbeats(api, clock, 60, of=["n1", "n2", "n3"])
    zone = 'zone=":\0:a"'
    for name, value in (("zone_size", 4), ("zone_health", 75), ("unhealthy_nodes_in_zone", 1)):
        assert counts(controller, f"node_collector_{name}") == {zone: value}
