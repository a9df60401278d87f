"""Which pod goes first."""

from __future__ import annotations

from typing import Any

from kubecore.kubelet.eviction.ranking import Candidate, is_critical, message, ranked

MEBI = 1024 * 1024


def pod(name: str, *, memory: str = "", priority: int = 0) -> dict[str, Any]:
    requests = {"memory": memory} if memory else {}
    container = {"name": "main", "resources": {"requests": requests}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], "priority": priority}}


def order(*candidates: Candidate, resource: str = "memory") -> list[str]:
    return [one.pod["metadata"]["name"] for one in ranked(candidates, resource)]


def test_who_uses_more_than_it_asked_for_goes_first_then_who_matters_less_then_who_uses_most() -> None:
    assert order(
        Candidate(pod("modest", memory="50Mi"), {"memory": 40 * MEBI}),
        Candidate(pod("important", memory="1Mi", priority=10), {"memory": 500 * MEBI}),
        Candidate(pod("small", memory="10Mi"), {"memory": 30 * MEBI}),
        Candidate(pod("large", memory="100Mi"), {"memory": 130 * MEBI}),
    ) == ["large", "small", "important", "modest"]


def test_of_processes_nobody_asks_for_any() -> None:
    few, many = Candidate(pod("few"), {"pids": 2}), Candidate(pod("many"), {"pids": 90})
    important = Candidate(pod("important", priority=1), {"pids": 900})
    assert order(important, few, many, resource="pids") == ["many", "few", "important"]


def test_static_and_critical_pods_never_go() -> None:
    static = pod("static")
    static["metadata"]["annotations"] = {"kubernetes.io/config.hash": "x"}
    assert is_critical(static)
    assert is_critical(pod("system", priority=2_000_000_000))
    assert not is_critical(pod("other", priority=1_000_000_000))


def test_the_message_is_kubernetes_own() -> None:
    candidate = Candidate(pod("p", memory="1Mi"), {"memory": 3 * MEBI}, {"main": {"memory": 3 * MEBI}})
    assert message(candidate, "memory", threshold=100 * MEBI, available=50 * MEBI) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 3Mi, request is 1Mi, has larger consumption of memory. "
    )


def test_nobody_asks_for_processes_so_that_the_message_tells_of_no_container() -> None:
    candidate = Candidate(pod("many"), {"pids": 90}, {"main": {"pids": 90}})
    told = "The node was low on resource: pids. Threshold quantity: 100, available: 50. "
    assert message(candidate, "pids", threshold=100, available=50) == told


def test_what_a_pod_asks_for_as_a_whole_is_in_the_message() -> None:
    whole = pod("p")
    whole["spec"]["resources"] = {"requests": {"memory": "2Mi"}}
    candidate = Candidate(whole, {"memory": 3 * MEBI}, {"main": {"memory": 3 * MEBI}})
    assert message(candidate, "memory", threshold=100 * MEBI, available=50 * MEBI) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Pod p was using 3Mi, request is 2Mi, has larger consumption of memory. "
        "Container main was using 3Mi, request is 0, has larger consumption of memory. "
    )
