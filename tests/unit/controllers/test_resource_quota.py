"""The quota controller counts what namespaces use."""

from __future__ import annotations

from typing import Any

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.resource_quota import ResourceQuotaController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running

QUOTAS = "resourcequotas"
RESOURCES = (QUOTAS, "pods", "services", "persistentvolumeclaims", "deployments.apps", "configmaps")


def quota(hard: dict[str, str], name: str = "q", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"hard": hard, **spec}}


def pod(name: str, cpu: str = "100m", *, phase: str = "Running", **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}, "status": {"phase": phase}}


def status(api: FakeAPI, name: str = "q") -> dict[str, dict[str, str]]:
    found = api.get(QUOTAS, name, "default")
    assert found is not None
    return found.get("status") or {}


def watched(running: Running) -> list[str]:
    return [resource for resource in RESOURCES if running.api.is_watched(resource)]


async def test_a_new_quota_is_told_its_limits_and_what_is_used(api: FakeAPI, running: Running) -> None:
    api.add("pods", pod("a"), "default")
    api.add("pods", pod("b", "1"), "default")
    api.add("pods", pod("elsewhere"), "other")
    api.add("configmaps", {"metadata": {"name": "c"}}, "default")
    hard = {"pods": "10", "requests.cpu": "4", "count/configmaps": "5", "services": "1"}
    api.add(QUOTAS, quota(hard), "default")
    await running.start(ResourceQuotaController(running.context))
    used = {"pods": "2", "requests.cpu": "1100m", "count/configmaps": "1", "services": "0"}
    assert status(api) == {"hard": hard, "used": used}


async def test_what_goes_or_ends_is_given_back(api: FakeAPI, running: Running) -> None:
    for name in ("a", "b", "c"):
        api.add("pods", pod(name), "default")
    api.add("secrets", {"metadata": {"name": "s"}}, "default")
    api.add(QUOTAS, quota({"pods": "10", "count/pods": "10", "secrets": "2"}), "default")
    await running.start(ResourceQuotaController(running.context))
    assert status(api)["used"] == {"pods": "3", "count/pods": "3", "secrets": "1"}
    api.remove("pods", "a", "default")
    api.change("pods", "b", status={"phase": "Succeeded"})
    api.remove("secrets", "s", "default")
    await running.settle()
    assert status(api)["used"] == {"pods": "1", "count/pods": "2", "secrets": "0"}


async def test_what_goes_one_after_the_other_is_counted_together(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    for number in range(30):
        api.add("pods", pod(f"p{number}"), "default")
    api.add(QUOTAS, quota({"pods": "50"}), "default")
    await running.start(ResourceQuotaController(running.context))
    before = len(api.writes(f"update {QUOTAS}/status"))
    for number in range(30):
        api.remove("pods", f"p{number}", "default")
        await clock.advance(0.01)
    await running.settle()
    assert status(api)["used"] == {"pods": "0"}
    assert len(api.writes(f"update {QUOTAS}/status")) - before <= 4


async def test_new_limits_are_counted_at_once_and_old_ones_forgotten(api: FakeAPI, running: Running) -> None:
    api.add("services", {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 1}]}}, "default")
    api.add(QUOTAS, quota({"pods": "1"}), "default")
    await running.start(ResourceQuotaController(running.context))
    api.change(QUOTAS, "q", spec={"hard": {"pods": None, "services.nodeports": "3"}})
    await running.settle()
    assert status(api) == {"hard": {"services.nodeports": "3"}, "used": {"services.nodeports": "1"}}


async def test_only_what_is_in_scope_counts(api: FakeAPI, running: Running) -> None:
    api.add("pods", pod("job", activeDeadlineSeconds=9), "default")
    api.add("pods", pod("server"), "default")
    api.add(QUOTAS, quota({"pods": "5", "count/configmaps": "5"}, scopes=["Terminating"]), "default")
    api.add("configmaps", {"metadata": {"name": "c"}}, "default")
    await running.start(ResourceQuotaController(running.context))
    assert status(api)["used"] == {"pods": "1", "count/configmaps": "0"}


async def test_a_count_that_went_wrong_is_put_right_by_the_next_one(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(QUOTAS, quota({"pods": "5"}), "default")
    await running.start(ResourceQuotaController(running.context, sync_seconds=300))
    await clock.advance(10)
    api.change(QUOTAS, "q", status={"hard": {"pods": "5"}, "used": {"pods": "4"}})
    await clock.advance(10)
    assert status(api)["used"] == {"pods": "4"}
    await clock.advance(300)
    assert status(api)["used"] == {"pods": "0"}


async def test_counting_anew_can_be_left_to_events(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add(QUOTAS, quota({"pods": "5"}), "default")
    await running.start(ResourceQuotaController(running.context, sync_seconds=0))
    await clock.advance(10)
    api.change(QUOTAS, "q", status={"hard": {"pods": "5"}, "used": {"pods": "4"}})
    await clock.advance(100_000)
    assert status(api)["used"] == {"pods": "4"}


async def test_a_pod_that_is_never_ended_counts_until_its_time_is_over(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add("pods", pod("lost"), "default")
    api.add(QUOTAS, quota({"pods": "5", "count/pods": "5"}), "default")
    await running.start(ResourceQuotaController(running.context, sync_seconds=10_000))
    api.change("pods", "lost", spec={"nodeName": "n"})
    await api.client().delete("pods", "lost", "default", grace_period_seconds=30)
    # As upstream: its grace period after its deletionTimestamp, which lies a grace period ahead itself.
    await clock.advance(55)
    assert status(api)["used"]["pods"] == "1"
    await clock.advance(10)
    assert status(api)["used"] == {"pods": "0", "count/pods": "1"}


async def test_what_nobody_serves_has_no_count(api: FakeAPI, running: Running) -> None:
    api.add(QUOTAS, quota({"pods": "5", "count/widgets.example.com": "5", "gold/stars": "1"}), "default")
    await running.start(ResourceQuotaController(running.context))
    assert status(api)["used"] == {"pods": "0"}


async def test_without_quotas_nothing_but_quotas_is_watched(api: FakeAPI, running: Running) -> None:
    controller = ResourceQuotaController(running.context)
    await running.start(controller)
    assert set(watched(running)) == {QUOTAS}
    api.add(QUOTAS, quota({"pods": "5", "count/deployments.apps": "5"}), "default")
    await running.settle()
    assert set(watched(running)) == {QUOTAS, "pods", "deployments.apps"}
