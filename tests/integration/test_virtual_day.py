"""A whole cluster in virtual time: a day passes in seconds, and what is due in it happens in order.

The real API server and store, all controllers, the scheduler and simulated nodes; only the clock is another.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kubecore.api import meta
from kubecore.apiserver.local import LocalTransport
from kubecore.client.client import Client
from kubecore.clock import VirtualClock
from kubecore.cluster import Cluster, ClusterConfig

Object = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MINUTE, HOUR = 60.0, 3600.0
START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Day:
    clock: VirtualClock
    client: Client

    async def minutes_until(self, resource: str, name: str, condition: Any, *, at_most: int) -> int:
        """How many minutes pass until `condition` holds of the object (None: it is gone)."""
        for minute in range(at_most + 1):
            listing = await self.client.list(resource, "default")
            found = [one for one in listing.items if meta.name(one) == name]
            if condition(found[0] if found else None):
                return minute
            await self.clock.advance(MINUTE)
        raise AssertionError(f"{resource} {name} is not so after {at_most} minutes: {found}")

    async def pods(self, app: str) -> list[Object]:
        return (await self.client.list("pods", "default", label_selector=f"app={app}")).items


@asynccontextmanager
async def day_of(folder: Path, **settings: Any) -> AsyncIterator[Day]:
    """In a cluster with such settings."""
    clock = VirtualClock(START)
    cluster = Cluster(ClusterConfig.throwaway(folder, nodes=0, simulated_nodes=2, **settings), clock)
    await clock.drive(cluster.start())
    await clock.advance(10)
    client = Client(cluster.server.transport(username="admin", groups=["system:masters"]), field_manager="test")
    yield Day(clock, client)
    await clock.drive(cluster.stop())


@pytest.fixture
async def day(tmp_path: Path) -> AsyncIterator[Day]:
    async with day_of(tmp_path) as one:
        yield one


def template(app: str, **rules: str) -> Object:
    annotations = {f"simulation.kubecore.dev/{key.replace('_', '-')}": value for key, value in rules.items()}
    spec = {"containers": [{"name": "main", "image": "none"}]}
    return {"metadata": {"labels": {"app": app}, "annotations": annotations}, "spec": spec}


def deployment(name: str, pod: Object, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": pod, **spec},
    }


def one_shot(app: str, **rules: str) -> Object:
    pod = template(app, **rules)
    pod["spec"]["restartPolicy"] = "Never"
    return pod


async def test_every_run_of_a_cron_job_happens_at_its_time_over_a_day(day: Day) -> None:
    made: list[datetime] = []
    spec = {"schedule": "30 */2 * * *", "jobTemplate": {"spec": {"template": one_shot("tick", run_for="5m")}}}
    await day.client.create("cronjobs.batch", {"metadata": {"name": "tick", "namespace": "default"}, "spec": spec})
    for _ in range(24):
        await day.clock.advance(HOUR)
        for job in (await day.client.list("jobs.batch", "default")).items:
            created = meta.creation_timestamp(job)
            assert created is not None
            if created not in made:
                made.append(created)
    due = [START + timedelta(hours=hour, minutes=30) for hour in range(0, 24, 2)]
    assert [when.replace(second=0) for when in made] == due
    kept = (await day.client.list("jobs.batch", "default")).items
    assert [job["status"]["succeeded"] for job in kept] == [1, 1, 1]


async def test_a_finished_job_goes_when_its_time_is_over(day: Day) -> None:
    spec = {"ttlSecondsAfterFinished": 600, "template": one_shot("once", run_for="10m")}
    await day.client.create("jobs.batch", {"metadata": {"name": "once", "namespace": "default"}, "spec": spec})
    finished = await day.minutes_until(
        "jobs.batch", "once", lambda job: bool(job["status"].get("succeeded")), at_most=15
    )
    gone = await day.minutes_until("jobs.batch", "once", lambda job: job is None, at_most=15)
    # Times in statuses are whole seconds: minutes may end a little before or after.
    assert finished in (10, 11)
    assert finished + gone in (20, 21)


async def test_a_crashing_container_is_restarted_as_often_as_its_back_off_allows(day: Day) -> None:
    pod = {"metadata": {"name": "crash", "namespace": "default"}, "spec": template("x")["spec"]}
    rules = {"simulation.kubecore.dev/run-for": "1s", "simulation.kubecore.dev/exit-code": "1"}
    pod["metadata"]["annotations"] = rules
    await day.client.create("pods", pod)
    await day.clock.advance(HOUR)
    # It ends after a second; the first restart comes at once, the next ones after 10, 20, 40, 80, 160, 300, 300, ... s.
    restarts, passed, delay = 0, 1.0, 0.0
    while passed <= HOUR:
        restarts += 1
        delay = min(max(delay * 2, 10.0), 300.0) if restarts > 1 else 0.0
        passed += delay + 1.0
    found = await day.client.get("pods", "crash", "default")
    [status] = found["status"]["containerStatuses"]
    assert abs(status["restartCount"] - restarts) <= 1


async def test_a_rollout_that_does_not_get_on_is_told_after_its_deadline(day: Day) -> None:
    stuck = deployment("stuck", template("stuck", waiting="ImagePullBackOff"), progressDeadlineSeconds=900)
    await day.client.create("deployments.apps", stuck)

    def told(found: Object | None) -> bool:
        assert found is not None
        return (meta.condition(found, "Progressing") or {}).get("reason") == "ProgressDeadlineExceeded"

    assert await day.minutes_until("deployments.apps", "stuck", told, at_most=30) in (15, 16)


async def test_pods_of_a_node_that_falls_silent_are_replaced_after_their_toleration(day: Day) -> None:
    await day.client.create("deployments.apps", deployment("web", template("web"), replicas=4))
    await day.clock.advance(10)
    assert {pod["spec"]["nodeName"] for pod in await day.pods("web")} == {"simulated-0", "simulated-1"}
    silent = {"metadata": {"annotations": {"simulation.kubecore.dev/silent": "true"}}}
    await day.client.patch("nodes", "simulated-0", silent, patch_type="merge")
    await day.clock.advance(MINUTE)
    node = await day.client.get("nodes", "simulated-0")
    assert (meta.condition(node, "Ready") or {})["status"] == "Unknown"
    # Their toleration lasts 300 s from the taint.
    await day.clock.advance(4 * MINUTE)
    assert not any(meta.is_deleting(pod) for pod in await day.pods("web"))
    await day.clock.advance(2 * MINUTE)
    living = [pod for pod in await day.pods("web") if not meta.is_deleting(pod)]
    assert {pod["spec"]["nodeName"] for pod in living} == {"simulated-1"}
    assert [pod["status"]["phase"] for pod in living] == ["Running"] * 4


async def test_an_idle_cluster_renews_its_leases_without_a_request_for_each(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answer = LocalTransport.answer

    async def noted(transport: LocalTransport, method: str, path: str, **more: Any) -> Any:
        asked.append(f"{method} {path}")
        return await answer(transport, method, path, **more)

    await day.clock.advance(HOUR)
    monkeypatch.setattr(LocalTransport, "answer", noted)
    before = await day.client.list("leases.coordination.k8s.io")
    await day.clock.advance(HOUR)
    after = await day.client.list("leases.coordination.k8s.io")
    # Two nodes every ten seconds, two leaders every forty.
    assert int(after.resource_version) - int(before.resource_version) == 2 * 360 + 2 * 90
    assert {request for request in asked if "leases/" in request} == set()
    times = [lease["spec"]["renewTime"] for lease in after.items]
    assert all(meta.parse_time(time) > day.clock.now() - timedelta(seconds=41) for time in times)


async def test_nodes_that_renew_seldom_where_nobody_is_elected_are_lost_after_the_silence_that_was_asked_for(
    tmp_path: Path,
) -> None:
    settings = {"leader_elect": False, "kubelet": {"lease_seconds": 400}, "node_monitor_grace_seconds": 250}
    async with day_of(tmp_path, **settings) as day:
        leases, begun = await day.client.list("leases.coordination.k8s.io"), day.clock.now()
        assert {meta.namespace(lease) for lease in leases.items} == {"kube-node-lease"}
        parts = (await day.client.list("componentstatuses")).items
        assert {condition["status"] for part in parts for condition in part["conditions"]} == {"True"}
        await day.clock.advance(HOUR)
        after = await day.client.list("leases.coordination.k8s.io")
        assert int(after.resource_version) - int(leases.resource_version) == 2 * HOUR / 100
        for node in (await day.client.list("nodes")).items:
            assert meta.parse_time((meta.condition(node, "Ready") or {})["lastTransitionTime"]) <= begun
        silent = {"metadata": {"annotations": {"simulation.kubecore.dev/silent": "true"}}}
        await day.client.patch("nodes", "simulated-0", silent, patch_type="merge")

        def lost(node: Object | None) -> bool:
            return (meta.condition(node or {}, "Ready") or {})["status"] == "Unknown"

        # Its last renewal was up to a hundred seconds before.
        assert await day.minutes_until("nodes", "simulated-0", lost, at_most=6) in (3, 4, 5)


def test_the_example_of_a_day_tells_of_it() -> None:
    program = Path(__file__).parents[2] / "examples" / "virtual_day.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr
    *runs, restarts = done.stdout.splitlines()
    assert [line.partition("T")[2] for line in runs] == ["00:30:00Z", "06:30:00Z", "12:30:00Z", "18:30:00Z"]
    # Half a minute of work and up to five of back-off each.
    assert 240 <= int(restarts.removeprefix("restarts: ")) <= 280
