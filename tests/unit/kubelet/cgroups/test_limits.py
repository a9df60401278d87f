"""What a pod asks for, as the numbers of control groups."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.pods.qos import qos_class

Object = dict[str, Any]
MEBI = 1024 * 1024


def container(requests: Object | None = None, limited: Object | None = None, **fields: Any) -> Object:
    return {"name": "main", "resources": {"requests": requests or {}, "limits": limited or {}}, **fields}


@pytest.mark.parametrize(
    ("milli", "shares", "quota"), [(0, 2, None), (1, 2, 1000), (250, 256, 25_000), (1500, 1536, 150_000)]
)
def test_a_cpu_is_1024_shares_and_a_whole_period(milli: int, shares: int, quota: int | None) -> None:
    assert (limits.shares(milli), limits.quota(milli)) == (shares, quota)


def test_a_container_weighs_what_it_requests_and_is_held_to_its_limits() -> None:
    found = limits.of_container(container({"cpu": "500m", "memory": "1Mi"}, {"cpu": "2", "memory": "64Mi"}), {})
    assert found == Limits(512, 200_000, 64 * MEBI)


def test_a_limit_alone_is_a_request_too_and_nothing_at_all_weighs_least() -> None:
    assert limits.of_container(container(None, {"cpu": "1"}), {}).cpu_shares == 1024
    assert limits.of_container(container(), {}) == Limits(2)


def test_a_container_without_a_limit_is_held_to_that_of_its_pod() -> None:
    spec = {"resources": {"limits": {"cpu": "2", "memory": "64Mi"}}}
    assert limits.of_container(container({"cpu": "500m"}), spec) == Limits(512, 200_000, 64 * MEBI)
    assert limits.of_container(container({}, {"cpu": "1"}), spec) == Limits(1024, 100_000, 64 * MEBI)


def test_a_pod_is_limited_where_all_its_containers_are() -> None:
    both = [container({"cpu": "100m"}, {"cpu": "1", "memory": "10Mi"}), container({}, {"cpu": "500m"})]
    assert limits.of_pod({"spec": {"containers": both}}) == Limits(102, 150_000, None)


def test_a_pod_may_set_a_limit_for_all_its_containers() -> None:
    spec = {"containers": [container({"cpu": "1"})], "resources": {"limits": {"memory": "32Mi"}}}
    assert limits.of_pod({"spec": spec}).memory == 32 * MEBI


@pytest.mark.parametrize(
    ("own", "quality"),
    [({"memory": "32Mi"}, "Burstable"), ({"memory": "32Mi", "cpu": "1"}, "Guaranteed"), ({}, "BestEffort")],
)
def test_a_limit_of_the_pod_alone_holds_though_its_containers_ask_for_nothing(own: Object, quality: str) -> None:
    spec = {"containers": [{"name": "main"}], "resources": {"requests": own, "limits": own}}
    assert qos_class({"spec": spec}) == quality
    assert limits.of_pod({"spec": spec}).memory == (32 * MEBI if own else None)


def test_the_overhead_counts_where_there_is_a_limit() -> None:
    spec = {
        "containers": [container({"cpu": "1"}, {"cpu": "1", "memory": "10Mi"})],
        "overhead": {"cpu": "500m", "memory": "1Mi"},
    }
    assert limits.of_pod({"spec": spec}) == Limits(1536, 150_000, 11 * MEBI)


def test_a_pod_that_asks_for_nothing_weighs_least_and_has_as_many_processes_as_the_node_lets_it() -> None:
    assert limits.of_pod({"spec": {"containers": [{"name": "main"}]}}, most_pids=77) == Limits(2, pids=77)


def test_burstable_pods_weigh_together_what_they_request_together() -> None:
    pods = [{"spec": {"containers": [container({"cpu": "250m"})]}} for _ in range(3)]
    assert limits.of_class(pods, "Burstable") == Limits(768)
