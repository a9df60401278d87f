from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.nodes.node_lifecycle import NodeLifecycleController
from kubecore.controllers.nodes.node_ttl import ANNOTATION as TTL
from kubecore.controllers.nodes.node_ttl import NodeTTLController
from kubecore.controllers.nodes.pod_gc import PodGCController
from kubecore.controllers.nodes.taint_eviction import TaintEvictionController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, names, template

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def add_node(api: FakeAPI, name: str = "n1", *, ready: str = "True", **spec: Any) -> None:
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]
    api.add("nodes", {"metadata": {"name": name}, "spec": spec, "status": {"conditions": conditions}})
    lease = {"metadata": {"name": name}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    api.add("leases.coordination.k8s.io", lease, "kube-node-lease")


def add_pod(api: FakeAPI, name: str, node: str = "n1", *, phase: str = "Running", **spec: Any) -> None:
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]}
    api.add(
        "pods", {"metadata": {"name": name}, "spec": {**template()["spec"], "nodeName": node, **spec}, "status": status}
    )


def taints(api: FakeAPI, name: str = "n1") -> set[tuple[str, str]]:
    node = api.get("nodes", name)
    assert node is not None
    return {(taint["key"], taint["effect"]) for taint in node["spec"].get("taints") or ()}


def ready_of(obj: Object | None) -> str:
    assert obj is not None
    status: str = next(c["status"] for c in obj["status"]["conditions"] if c["type"] == "Ready")
    return status


async def start(running: Running, *, threshold: int = 100) -> None:
    context = running.context
    await running.start(
        NodeLifecycleController(context, grace_seconds=50),
        TaintEvictionController(context),
        PodGCController(context, threshold=threshold),
    )


async def heartbeats(api: FakeAPI, clock: VirtualClock, seconds: int, *, of: Sequence[str] = ("n1",)) -> None:
    for _ in range(seconds // 10):
        await clock.advance(10)
        renewed = (clock.now() + timedelta()).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for name in of:
            api.change("leases.coordination.k8s.io", name, "kube-node-lease", spec={"renewTime": renewed})


def add_other(api: FakeAPI) -> None:
    """A node that is well, without which pods would be taken from none."""
    add_node(api, "other")


async def test_a_node_that_renews_its_lease_stays_ready(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_node(api)
    await start(running)
    await heartbeats(api, clock, 300)
    assert ready_of(api.get("nodes", "n1")) == "True" and taints(api) == set()


async def test_a_silent_node_becomes_unknown_tainted_and_its_pods_not_ready(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api)
    add_other(api)
    tolerations = [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]
    add_pod(api, "a", tolerations=tolerations)
    await start(running)
    await heartbeats(api, clock, 60, of=["other"])
    node = api.get("nodes", "n1")
    assert node is not None and ready_of(node) == "Unknown"
    ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["reason"], ready["message"]) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert taints(api) == {(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")}
    assert ready_of(api.get("pods", "a")) == "False"
    assert events(api, "NodeNotReady") != []


async def test_its_pods_are_evicted_when_their_toleration_runs_out(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api)
    add_other(api)
    tolerations = [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]
    add_pod(api, "a", tolerations=tolerations)
    add_pod(api, "for-ever", tolerations=[{"operator": "Exists"}])
    await start(running)
    await heartbeats(api, clock, 340, of=["other"])
    assert not api.get("pods", "a")["metadata"].get("deletionTimestamp")  # type: ignore[index]
    await heartbeats(api, clock, 20, of=["other"])
    gone = api.get("pods", "a")
    assert gone is not None and gone["metadata"].get("deletionTimestamp")
    target = next(c for c in gone["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert target["reason"] == "DeletionByTaintManager"
    assert events(api, "TaintManagerEviction") == ["Marking for deletion Pod default/a"]
    assert not api.get("pods", "for-ever")["metadata"].get("deletionTimestamp")  # type: ignore[index]


async def test_a_taint_that_says_not_since_when_counts_from_when_it_was_seen(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api)
    add_pod(
        api, "a", tolerations=[{"key": "mine", "effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 30}]
    )
    await start(running)
    await heartbeats(api, clock, 60)
    api.change("nodes", "n1", spec={"taints": [{"key": "mine", "effect": "NoExecute"}]})
    await heartbeats(api, clock, 20)
    assert not api.get("pods", "a")["metadata"].get("deletionTimestamp")  # type: ignore[index]
    await heartbeats(api, clock, 20)
    assert api.get("pods", "a")["metadata"].get("deletionTimestamp")  # type: ignore[index]
    assert events(api, "TaintManagerEviction") == ["Marking for deletion Pod default/a"]


async def test_the_first_toleration_of_a_taint_says_for_how_long_a_pod_may_stay(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api, taints=[{"key": "mine", "effect": "NoExecute"}])
    for_ever, shortly = {"key": "mine", "operator": "Exists"}, {"operator": "Exists", "tolerationSeconds": 20}
    add_pod(api, "stays", tolerations=[for_ever, shortly])
    add_pod(api, "goes", tolerations=[shortly, for_ever])
    await start(running)
    await heartbeats(api, clock, 30)
    assert api.get("pods", "goes")["metadata"].get("deletionTimestamp")  # type: ignore[index]
    assert not api.get("pods", "stays")["metadata"].get("deletionTimestamp")  # type: ignore[index]


async def test_a_node_that_speaks_again_loses_its_taints_and_keeps_its_pods(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api)
    add_other(api)
    tolerations = [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]
    add_pod(api, "a", tolerations=tolerations)
    await start(running)
    await heartbeats(api, clock, 60, of=["other"])
    conditions = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:01:00Z"}]
    api.change("nodes", "n1", status={"conditions": conditions})
    await running.settle()
    assert taints(api) == set()
    assert events(api, "TaintManagerEviction") == ["Cancelling deletion of Pod default/a"]
    await heartbeats(api, clock, 400)
    assert not api.get("pods", "a")["metadata"].get("deletionTimestamp")  # type: ignore[index]


async def test_what_was_to_be_done_later_is_cancelled_where_it_is_done_now(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api, taints=[{"key": "mine", "effect": "NoExecute"}])
    for name in ("taken", "tainted"):
        add_pod(api, name, tolerations=[{"key": "mine", "operator": "Exists", "tolerationSeconds": 300}])
    await start(running)
    await running.context.client.delete("pods", "taken", "default", grace_period_seconds=0)
    await running.settle()
    assert events(api, "TaintManagerEviction") == ["Cancelling deletion of Pod default/taken"]
    api.change("nodes", "n1", spec={"taints": [{"key": "other", "effect": "NoExecute"}]})
    await running.settle()
    assert events(api, "TaintManagerEviction")[1:] == [
        "Cancelling deletion of Pod default/tainted",
        "Marking for deletion Pod default/tainted",
    ]


async def test_conditions_and_cordon_become_taints_and_foreign_taints_stay(api: FakeAPI, running: Running) -> None:
    add_node(api, ready="False", unschedulable=True, taints=[{"key": "mine", "effect": "NoSchedule"}])
    add_other(api)
    await start(running)
    assert taints(api) == {
        ("mine", "NoSchedule"),
        (NOT_READY, "NoSchedule"),
        (NOT_READY, "NoExecute"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    }


async def test_labels_that_were_renamed_follow_their_new_names(api: FakeAPI, running: Running) -> None:
    add_node(api)
    api.change("nodes", "n1", metadata={"labels": {"kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64"}})
    await start(running)
    wanted = {"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64"}
    assert api.get("nodes", "n1")["metadata"]["labels"] == wanted  # type: ignore[index]
    api.change("nodes", "n1", metadata={"labels": {"kubernetes.io/arch": "arm64"}})
    await running.settle()
    assert api.get("nodes", "n1")["metadata"]["labels"]["beta.kubernetes.io/arch"] == "arm64"  # type: ignore[index]


async def test_pods_of_a_node_that_is_gone_are_removed_after_a_while(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api)
    add_pod(api, "a")
    await start(running)
    api.remove("nodes", "n1")
    await clock.advance(39)
    assert names(api.all("pods")) == ["a"]
    await clock.advance(2)
    assert api.all("pods") == []


async def test_pods_that_an_out_of_service_node_cannot_end_are_removed(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api, ready="Unknown")
    add_other(api)
    forever = [{"operator": "Exists"}]
    add_pod(api, "leaves")
    add_pod(api, "deleted-later", tolerations=forever)
    add_pod(api, "stays", tolerations=forever)
    await start(running)
    api.change("nodes", "n1", spec={"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]})
    await running.settle()
    assert names(api.all("pods")) == ["deleted-later", "stays"]
    await running.context.client.delete("pods", "deleted-later", "default")
    await running.settle()
    assert names(api.all("pods")) == ["stays"]


async def test_a_ready_node_ends_its_pods_itself_whatever_its_taints_say(api: FakeAPI, running: Running) -> None:
    add_node(api, taints=[{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}])
    add_pod(api, "a")
    await start(running)
    api.change("nodes", "n1", metadata={"labels": {"any": "change"}})
    await running.settle()
    pod = api.get("pods", "a")
    assert pod is not None and pod["metadata"]["deletionTimestamp"] and pod["status"]["phase"] == "Running"


async def test_finished_pods_beyond_the_threshold_go_oldest_first(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_node(api)
    await start(running, threshold=2)
    for index in range(4):
        add_pod(api, f"p{index}", phase="Succeeded")
        await clock.advance(1)
    assert names(api.all("pods")) == ["p2", "p3"]


async def test_a_pod_that_is_collected_has_failed_first_and_says_why(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    add_pod(api, "orphan", "gone")
    held = {"name": "held", "finalizers": ["example.com/hold"], "generation": 2}
    api.add("pods", {"metadata": held, "spec": {**template()["spec"], "nodeName": "gone"}, "status": {}})
    await start(running)
    await clock.advance(60)
    pod = api.get("pods", "held")
    assert pod is not None and pod["metadata"]["deletionTimestamp"]
    assert (pod["status"]["phase"], pod["status"]["observedGeneration"]) == ("Failed", 2)
    (condition,) = pod["status"]["conditions"]
    assert condition == {
        "type": "DisruptionTarget",
        "status": "True",
        "observedGeneration": 2,
        "lastTransitionTime": condition["lastTransitionTime"],
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
    }
    # its account has no right to update it
    assert api.writes("patch pods/status") and not api.writes("update pods/status")


async def test_a_pod_that_goes_before_it_had_a_node_has_failed(api: FakeAPI, running: Running) -> None:
    api.add("pods", {"metadata": {"name": "p", "finalizers": ["example.com/hold"]}, "spec": template()["spec"]})
    await running.context.client.delete("pods", "p", "default")
    await start(running)
    pod = api.get("pods", "p")
    assert pod is not None and pod["status"]["phase"] == "Failed"


async def test_evicted_pods_go_before_older_ones(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    add_node(api)
    for name, reason in (("old", ""), ("evicted", "Evicted")):
        add_pod(api, name, phase="Failed")
        api.change("pods", name, status={"phase": "Failed", "reason": reason})
        await clock.advance(5)
    await start(running, threshold=1)
    assert names(api.all("pods")) == ["old"]


async def test_a_kubelet_that_says_its_node_is_not_ready_speaks_for_its_pods_itself(
    api: FakeAPI, running: Running
) -> None:
    add_node(api, ready="False")
    add_other(api)
    add_pod(api, "p", tolerations=[{"operator": "Exists"}])
    await start(running)
    assert taints(api) == {(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")}
    assert ready_of(api.get("pods", "p")) == "True" and not events(api, "NodeNotReady")


async def test_what_keeps_pods_off_a_node_comes_before_what_takes_them_away(api: FakeAPI, running: Running) -> None:
    add_node(api, ready="False", unschedulable=True)
    add_other(api)
    await start(running)
    node = api.get("nodes", "n1")
    assert node is not None
    assert [one["effect"] for one in node["spec"]["taints"]] == ["NoSchedule", "NoSchedule", "NoExecute"]


# --- How long kubelets may remember


async def times_to_live(api: FakeAPI, running: Running, nodes: int) -> list[str | None]:
    """Of one node each of those that were added first and last."""
    for index in range(len(api.all("nodes")), nodes):
        api.add("nodes", {"metadata": {"name": f"n{index:05}"}, "spec": {}})
    await running.settle()
    found = sorted(api.all("nodes"), key=lambda one: str(one["metadata"]["name"]))
    return [one["metadata"].get("annotations", {}).get(TTL) for one in (found[0], found[-1])]


async def test_the_more_nodes_the_longer_they_may_remember(api: FakeAPI, running: Running) -> None:
    await running.start(NodeTTLController(running.context))
    assert await times_to_live(api, running, 100) == ["0", "0"]
    assert await times_to_live(api, running, 101) == ["0", "15"]
    # those that were there before are told when they change
    api.change("nodes", "n00000", spec={"unschedulable": True})
    assert await times_to_live(api, running, 101) == ["15", "15"]


async def test_a_few_nodes_less_change_nothing(api: FakeAPI, running: Running) -> None:
    await running.start(NodeTTLController(running.context))
    assert await times_to_live(api, running, 101) == ["15", "15"]
    for left, told in ((90, "15"), (89, "0")):
        for one in api.all("nodes")[left:]:
            api.remove("nodes", one["metadata"]["name"])
        api.change("nodes", "n00000", spec={"podCIDR": f"10.0.{left}.0/24"})
        assert (await times_to_live(api, running, left))[0] == told
