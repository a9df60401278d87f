"""Volumes that cannot be shared, that are bound to zones, and of which a node takes only so many."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.clock import VirtualClock
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.events import EventKind, StorageEvent, pod_removed
from kubecore.scheduler.framework import CycleState, Filter, PreFilter
from kubecore.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from kubecore.scheduler.plugins.volume_restrictions import VolumeRestrictions
from kubecore.scheduler.plugins.volume_zone import VolumeZone
from kubecore.scheduler.pods import PodInfo
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import cache_of, info, node

ZONE, OLD_ZONE = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"


class Stored:
    """What the plugins' informers know."""

    def __init__(self) -> None:
        self.informers: InformerFactory = FakeAPI(VirtualClock()).informers()

    def add(self, resource: str, name: str, *, namespace: str = "", **fields: Any) -> Object:
        metadata = {"name": name, "uid": name, **({"namespace": namespace} if namespace else {})}
        made = {"metadata": metadata | fields.pop("metadata", {}), **fields}
        self.informers.informer(resource).apply("ADDED", made)
        return made

    def claim(self, name: str, volume: str = "", *, modes: tuple[str, ...] = (), storage_class: str = "") -> Object:
        spec = {"volumeName": volume, "accessModes": list(modes), "storageClassName": storage_class}
        return self.add("persistentvolumeclaims", name, namespace="default", spec=spec)

    def volume(self, name: str, labels: dict[str, str] | None = None, **spec: Any) -> Object:
        return self.add("persistentvolumes", name, metadata={"labels": labels or {}}, spec=spec)

    def storage_class(self, name: str, mode: str | None, provisioner: str = "disk.example.com") -> Object:
        return self.add("storageclasses.storage.k8s.io", name, provisioner=provisioner, volumeBindingMode=mode)


@pytest.fixture
def stored() -> Stored:
    return Stored()


def using(*claims: str, name: str = "p", node: str = "") -> PodInfo:
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    return info(name, volumes=volumes, node=node)


def holding(kind: str, name: str = "p", node: str = "", **source: Any) -> PodInfo:
    return info(name, volumes=[{"name": "v", kind: source}], node=node)


def verdict(plugin: PreFilter, pod: PodInfo, cache: Cache) -> dict[str, str] | str:
    """Why each node is refused, or all of them together."""
    assert isinstance(plugin, Filter)
    state = CycleState()
    result = plugin.pre_filter(state, pod, cache)
    if result is not None:
        return result.refusal
    if plugin.name in state.skipped:
        return {}
    found = {one.name: ", ".join(plugin.filter(state, pod, one)) for one in cache.nodes()}
    return {name: reason for name, reason in found.items() if reason}


def with_pods(*pods: PodInfo, nodes: tuple[Object, ...] = ()) -> Cache:
    cache = cache_of(*(nodes or (node("a"), node("b"))))
    for one in pods:
        cache.add_pod(one)
    return cache


class TestDisks:
    REASON = "node(s) had no available disk"

    @pytest.mark.parametrize(
        ("kind", "mine", "theirs", "conflict"),
        [
            ("gcePersistentDisk", {"pdName": "d"}, {"pdName": "d", "readOnly": True}, True),
            ("gcePersistentDisk", {"pdName": "d", "readOnly": True}, {"pdName": "d", "readOnly": True}, False),
            ("gcePersistentDisk", {"pdName": "d"}, {"pdName": "e"}, False),
            ("awsElasticBlockStore", {"volumeID": "d"}, {"volumeID": "d", "readOnly": True}, True),
            ("awsElasticBlockStore", {"volumeID": "d"}, {"volumeID": "e"}, False),
            ("iscsi", {"iqn": "d"}, {"iqn": "d"}, True),
            ("iscsi", {"iqn": "d", "readOnly": True}, {"iqn": "d", "readOnly": True}, False),
            ("rbd", {"monitors": ["a", "b"], "image": "i"}, {"monitors": ["b"], "image": "i", "pool": "rbd"}, True),
            ("rbd", {"monitors": ["a"], "image": "i"}, {"monitors": ["b"], "image": "i"}, False),
            ("rbd", {"monitors": ["a"], "image": "i", "pool": "x"}, {"monitors": ["a"], "image": "i"}, False),
        ],
    )
    def test_what_one_node_writes_no_other_pod_of_it_may_use(
        self, stored: Stored, kind: str, mine: Object, theirs: Object, conflict: bool
    ) -> None:
        cache = with_pods(holding(kind, "other", "a", **theirs))
        found = verdict(VolumeRestrictions(stored.informers), holding(kind, **mine), cache)
        assert found == ({"a": self.REASON} if conflict else {})

    def test_the_pod_that_goes_helps(self, stored: Stored) -> None:
        plugin = VolumeRestrictions(stored.informers)
        wanted = holding("iscsi", iqn="d")
        assert plugin.helps(pod_removed(holding("iscsi", "other", "a", iqn="d")), wanted)
        assert not plugin.helps(pod_removed(holding("iscsi", "other", "a", iqn="e")), wanted)


class TestClaimsOfOnePod:
    REASON = (
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use "
        "by another pod"
    )

    def test_no_node_will_do_while_another_pod_has_it(self, stored: Stored) -> None:
        stored.claim("data", modes=("ReadWriteOncePod",))
        plugin = VolumeRestrictions(stored.informers)
        cache = with_pods(using("data", name="other", node="a"))
        assert verdict(plugin, using("data"), cache) == {"a": self.REASON, "b": self.REASON}
        assert verdict(plugin, using("data"), with_pods()) == {}

    def test_claims_of_other_modes_are_shared(self, stored: Stored) -> None:
        stored.claim("data", modes=("ReadWriteOnce",))
        cache = with_pods(using("data", name="other", node="a"))
        assert verdict(VolumeRestrictions(stored.informers), using("data"), cache) == {}

    def test_it_would_be_free_without_that_pod(self, stored: Stored) -> None:
        stored.claim("data", modes=("ReadWriteOncePod",))
        plugin, state, wanted = VolumeRestrictions(stored.informers), CycleState(), using("data")
        cache = with_pods(using("data", name="other", node="a"))
        plugin.pre_filter(state, wanted, cache)
        on_a = cache.node("a")
        assert on_a is not None
        trial = state.clone()
        plugin.remove_pod(trial, wanted, on_a.pods["default/other"], on_a)
        assert not plugin.filter(trial, wanted, on_a)
        assert plugin.filter(state, wanted, on_a)

    def test_a_missing_claim_is_told_and_its_coming_helps(self, stored: Stored) -> None:
        plugin, wanted = VolumeRestrictions(stored.informers), using("data")
        assert verdict(plugin, wanted, with_pods()) == 'persistentvolumeclaim "data" not found'
        assert plugin.helps(StorageEvent(EventKind.CLAIM, stored.claim("data")), wanted)
        assert not plugin.helps(StorageEvent(EventKind.CLAIM, stored.claim("other")), wanted)

    def test_the_pod_with_the_same_claim_that_goes_helps(self, stored: Stored) -> None:
        plugin = VolumeRestrictions(stored.informers)
        assert plugin.helps(pod_removed(using("data", name="x", node="a")), using("data"))
        assert not plugin.helps(pod_removed(using("other", name="x", node="a")), using("data"))


class TestZones:
    nodes = (node("a", labels={ZONE: "a"}), node("b", labels={ZONE: "b"}), node("none"))

    def refused(self, stored: Stored, labels: dict[str, str], nodes: tuple[Object, ...] = nodes) -> object:
        stored.volume("v", labels)
        stored.claim("data", "v")
        return verdict(VolumeZone(stored.informers), using("data"), cache_of(*nodes))

    def test_a_volume_keeps_its_pod_to_nodes_of_its_zone_and_to_those_without_zones(self, stored: Stored) -> None:
        assert self.refused(stored, {ZONE: "a"}) == {"b": "node(s) had no available volume zone"}

    def test_it_may_be_in_several(self, stored: Stored) -> None:
        assert self.refused(stored, {ZONE: "a__b"}) == {}

    def test_a_label_of_the_old_kind_is_met_by_one_of_the_new(self, stored: Stored) -> None:
        assert self.refused(stored, {OLD_ZONE: "a"}) == {"b": "node(s) had no available volume zone"}

    def test_a_volume_without_zone_goes_anywhere(self, stored: Stored) -> None:
        assert self.refused(stored, {}) == {}

    def test_claims_without_volume_are_told(self, stored: Stored) -> None:
        plugin, cache = VolumeZone(stored.informers), cache_of(*self.nodes)
        for name, storage_class in (("none", ""), ("gone", "gone"), ("now", "now"), ("late", "late"), ("odd", "odd")):
            stored.claim(name, storage_class=storage_class)
        stored.claim("lost", "lost")
        stored.storage_class("now", "Immediate")
        stored.storage_class("late", "WaitForFirstConsumer")
        stored.storage_class("odd", None)
        names = ("none", "gone", "now", "late", "odd", "lost")
        assert [verdict(plugin, using(name), cache) for name in names] == [
            "PersistentVolumeClaim had no pv name and storageClass name",
            'storageclass.storage.k8s.io "gone" not found',
            "PersistentVolume had no name",
            {},
            'VolumeBindingMode not set for StorageClass "odd"',
            'persistentvolume "lost" not found',
        ]

    def test_waking(self, stored: Stored) -> None:
        plugin, wanted = VolumeZone(stored.informers), using("data")
        claim, other = stored.claim("data"), stored.claim("other")
        assert plugin.helps(StorageEvent(EventKind.CLAIM, claim, claim), wanted)
        assert not plugin.helps(StorageEvent(EventKind.CLAIM, other), wanted)
        late, now = stored.storage_class("late", "WaitForFirstConsumer"), stored.storage_class("now", "Immediate")
        assert plugin.helps(StorageEvent(EventKind.STORAGE_CLASS, late), wanted)
        assert not plugin.helps(StorageEvent(EventKind.STORAGE_CLASS, now), wanted)
        before, after = stored.volume("v", {ZONE: "a"}), stored.volume("v", {ZONE: "b"})
        assert plugin.helps(StorageEvent(EventKind.VOLUME, after, before), wanted)
        assert not plugin.helps(StorageEvent(EventKind.VOLUME, after, after), wanted)


class TestLimits:
    REASON = "node(s) exceed max volume count"

    def limit(self, stored: Stored, count: int | None, *, on: str = "a") -> Object:
        allocatable = {} if count is None else {"allocatable": {"count": count}}
        return stored.add(
            "csinodes.storage.k8s.io", on, spec={"drivers": [{"name": "disk.example.com", **allocatable}]}
        )

    def bound(self, stored: Stored, *names: str, driver: str = "disk.example.com") -> None:
        for name in names:
            stored.volume(f"v-{name}", csi={"driver": driver, "volumeHandle": name})
            stored.claim(name, f"v-{name}")

    def test_a_node_takes_so_many_volumes_of_a_driver(self, stored: Stored) -> None:
        self.limit(stored, 2)
        self.bound(stored, "one", "two", "three")
        plugin, cache = NodeVolumeLimits(stored.informers), with_pods(using("one", name="x", node="a"))
        assert verdict(plugin, using("two"), cache) == {}
        assert verdict(plugin, using("two", "three"), cache) == {"a": self.REASON}

    def test_a_volume_that_is_there_already_counts_once(self, stored: Stored) -> None:
        self.limit(stored, 1)
        self.bound(stored, "one")
        cache = with_pods(using("one", name="x", node="a"))
        assert verdict(NodeVolumeLimits(stored.informers), using("one"), cache) == {}

    def test_volumes_of_other_drivers_do_not_count(self, stored: Stored) -> None:
        self.limit(stored, 1)
        self.bound(stored, "one")
        self.bound(stored, "other", driver="other.example.com")
        cache = with_pods(using("one", name="x", node="a"))
        assert verdict(NodeVolumeLimits(stored.informers), using("other"), cache) == {}

    def test_one_that_is_attached_with_no_pod_any_more_counts(self, stored: Stored) -> None:
        self.limit(stored, 1)
        self.bound(stored, "one", "two")
        spec = {"attacher": "disk.example.com", "nodeName": "a", "source": {"persistentVolumeName": "v-one"}}
        stored.add("volumeattachments.storage.k8s.io", "va", spec=spec)
        plugin = NodeVolumeLimits(stored.informers)
        assert verdict(plugin, using("two"), with_pods()) == {"a": self.REASON}
        assert verdict(plugin, using("two"), with_pods(using("one", name="x", node="a"))) == {"a": self.REASON}

    def test_a_volume_yet_to_be_made_counts_for_the_driver_of_its_class(self, stored: Stored) -> None:
        self.limit(stored, 0)
        stored.storage_class("late", "WaitForFirstConsumer")
        stored.claim("new", storage_class="late")
        assert verdict(NodeVolumeLimits(stored.informers), using("new"), with_pods()) == {"a": self.REASON}

    def test_without_a_limit_there_is_none(self, stored: Stored) -> None:
        self.limit(stored, None)
        self.bound(stored, "one")
        assert verdict(NodeVolumeLimits(stored.informers), using("one"), with_pods()) == {}

    def test_a_missing_claim_is_told(self, stored: Stored) -> None:
        told = 'looking up PVC default/gone: persistentvolumeclaim "gone" not found'
        assert verdict(NodeVolumeLimits(stored.informers), using("gone"), with_pods()) == {"a": told, "b": told}

    def test_waking(self, stored: Stored) -> None:
        plugin, wanted = NodeVolumeLimits(stored.informers), using("data")
        few, many = self.limit(stored, 1), self.limit(stored, 2)
        assert plugin.helps(StorageEvent(EventKind.CSI_NODE, few), wanted)
        assert plugin.helps(StorageEvent(EventKind.CSI_NODE, many, few), wanted)
        assert not plugin.helps(StorageEvent(EventKind.CSI_NODE, few, many), wanted)
        assert plugin.helps(pod_removed(using("x", name="other", node="a")), wanted)
        assert not plugin.helps(pod_removed(info("other", node="a")), wanted)
        assert plugin.helps(StorageEvent(EventKind.ATTACHMENT_REMOVED, {}), wanted)
