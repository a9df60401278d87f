"""The census says of any history of pods what counting them one by one says."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.client.client import Object
from kubecore.client.informer import SharedInformer
from kubecore.clock import VirtualClock
from kubecore.controllers.workloads.pod_census import Census, State
from tests.support.fake_api import FakeAPI


def pod(uid: str, *, owner: str = "web", kind: str = "ReplicaSet", app: str = "web", **status: Any) -> Object:
    reference = {"kind": kind, "name": owner, "uid": owner, "controller": True}
    metadata: Object = {"name": uid, "namespace": "default", "uid": uid, "labels": {"app": app}}
    metadata |= {"ownerReferences": [reference] if owner else [], "resourceVersion": "1"}
    if status.pop("leaving", False):
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if status.pop("ready", False):
        status["conditions"] = [{"type": "Ready", "status": "True"}]
    return {"metadata": metadata, "spec": {}, "status": status}


@pytest.fixture
def informer(clock: VirtualClock) -> SharedInformer:
    return FakeAPI(clock).informers().informer("pods")


def counted(census: Census, owner: str = "web") -> dict[tuple[str, State], int]:
    return {(labels["app"], state): count for labels, state, count in census.of(owner)}


def test_pods_count_by_their_labels_and_what_has_become_of_them(informer: SharedInformer) -> None:
    census = Census(informer, "ReplicaSet")
    informer.apply("ADDED", pod("a"))
    informer.apply("ADDED", pod("b", phase="Running", ready=True))
    informer.apply("ADDED", pod("c", phase="Running", ready=True, app="db"))
    informer.apply("ADDED", pod("d", ready=True, leaving=True))
    informer.apply("ADDED", pod("e", phase="Failed", leaving=True))
    assert counted(census) == {
        ("web", State.UNREADY): 1,
        ("web", State.READY): 1,
        ("db", State.READY): 1,
        ("web", State.LEAVING): 1,
        ("web", State.OVER): 1,
    }


def test_pods_of_others_do_not_count(informer: SharedInformer) -> None:
    census = Census(informer, "ReplicaSet")
    informer.apply("ADDED", pod("job", kind="Job"))
    informer.apply("ADDED", pod("orphan", owner=""))
    informer.apply("ADDED", pod("other", owner="db"))
    assert counted(census) == {}
    assert counted(census, "db") == {("web", State.UNREADY): 1}


def test_a_pod_that_goes_is_taken_off_as_it_was_counted(informer: SharedInformer) -> None:
    census = Census(informer, "ReplicaSet")
    informer.apply("ADDED", pod("a", ready=True))
    informer.apply("DELETED", pod("a", leaving=True, owner=""))
    assert counted(census) == {}


def test_pods_that_were_there_before_count(informer: SharedInformer) -> None:
    informer.apply("ADDED", pod("a"))
    assert counted(Census(informer, "ReplicaSet")) == {("web", State.UNREADY): 1}


_PODS = st.builds(
    pod,
    st.sampled_from("abcd"),
    owner=st.sampled_from(["", "web", "db"]),
    kind=st.sampled_from(["ReplicaSet", "ReplicaSet", "Job"]),
    app=st.sampled_from(["web", "db"]),
    phase=st.sampled_from(["Pending", "Running", "Succeeded"]),
    ready=st.booleans(),
    leaving=st.booleans(),
)


@given(st.lists(st.tuples(st.sampled_from(["MODIFIED", "MODIFIED", "DELETED"]), _PODS), max_size=30))
def test_whatever_happens_it_is_what_counting_all_pods_gives(history: list[tuple[str, Object]]) -> None:
    informer = FakeAPI(VirtualClock()).informers().informer("pods")
    census = Census(informer, "ReplicaSet")
    for kind, item in history:
        informer.apply(kind, item)
    fresh = Census(informer, "ReplicaSet")
    for owner in ("web", "db"):
        assert Counter(counted(census, owner)) == Counter(counted(fresh, owner))
